"""Who may see and touch which job: its owner, staff, and those who operate the printer it is on."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from farm.errors import Forbidden, NotFound
from farm.models import User
from jobs.models import Job, Print
from printers import access
from printers.models import Printer, Role


def visible(user: User) -> QuerySet[Job]:
    """Own jobs; staff see all."""
    return Job.objects.all() if user.is_staff else Job.objects.filter(owner=user)


def visible_prints(user: User) -> QuerySet[Print]:
    return Print.objects.all() if user.is_staff else Print.objects.filter(job__owner=user)


def queue(user: User) -> QuerySet[Job]:
    """What waits or prints on printers this person operates, and the own jobs."""
    if user.is_staff:
        return Job.objects.all()
    operated = access.visible(user, Role.OPERATE)
    return Job.objects.filter(Q(owner=user) | Q(printer__in=operated) | Q(prints__printer__in=operated)).distinct()


def printers_for(job: Job) -> QuerySet[Printer]:
    """Where its owner may have it printed. Uploaded G-code can say anything to a machine: only who operates it may."""
    return access.visible(job.owner, Role.SUBMIT if job.model_id else Role.OPERATE)


def get(user: User, pk: Any) -> Job:
    """Raises NotFound."""
    return _get(visible(user), pk)


def get_queued(user: User, pk: Any) -> Job:
    """Of those that :func:`queue` shows. Raises NotFound."""
    return _get(queue(user), pk)


def get_print(user: User, pk: Any) -> Print:
    try:
        return visible_prints(user).get(pk=UUID(str(pk)))
    except (Print.DoesNotExist, ValueError):
        raise NotFound("There is no such print, or you may not see it.") from None


def _get(jobs: QuerySet[Job], pk: Any) -> Job:
    try:
        return jobs.get(pk=UUID(str(pk)))
    except (Job.DoesNotExist, ValueError):
        raise NotFound("There is no such job, or you may not see it.") from None


def require_staff(user: User) -> None:
    if not user.is_staff:
        raise Forbidden("Only staff may do this.")
