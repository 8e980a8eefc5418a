"""The queue as one person may see it: own jobs and those on printers they operate by name, others without."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.db.models.functions import Now

from farm.models import User
from jobs import access
from jobs.dispatch import missing_copies
from jobs.looks import job_look, print_look
from jobs.models import Job, Print
from jobs.states import JOB_TERMINAL, PRINT_LIVE, JobStatus
from printers import access as printer_access
from printers.views import state_views

_WAITING = (JobStatus.PREPARING, JobStatus.READY, JobStatus.ACTIVE)


def queue_of(user: User) -> dict[str, list[dict[str, Any]]]:
    """``approval``, ``printing`` and ``waiting``, each in order; a row's ``job`` is None when it must have no name.
    ``plain``: it waits, and that is all there is to say."""
    seen = set(printer_access.visible(user).values_list("pk", flat=True))
    named = set(access.queue(user).exclude(status__in=JOB_TERMINAL).values_list("pk", flat=True))
    open_jobs = Job.objects.exclude(status__in=JOB_TERMINAL).order_by("created_at", "pk")
    rows = list(open_jobs.select_related("owner", "printer", "gcode", "model").prefetch_related("prints"))
    waiting = [row for row in rows if row.status in _WAITING and not row.cancel_requested and missing_copies(row)]
    hidden = _hidden(waiting, named, seen)
    return {
        "approval": [
            _waiting(row, True, user) for row in rows if row.status == JobStatus.AWAITING_APPROVAL and row.pk in named
        ],
        "waiting": [_waiting(row, row.pk in named, user) for row in waiting if row.pk not in hidden],
        "printing": _printing(user, seen, named),
    }


def _hidden(waiting: Iterable[Job], named: set[UUID], seen: set[UUID]) -> set[UUID]:
    """Others' jobs that cannot come to a printer this person sees."""
    others = [row for row in waiting if row.pk not in named]
    anywhere = {(row.owner_id, row.model_id is None): row for row in others if row.printer_id is None}
    reach = {
        key: not seen.isdisjoint(access.printers_for(row).values_list("pk", flat=True)) for key, row in anywhere.items()
    }

    def comes_near(row: Job) -> bool:
        return row.printer_id in seen if row.printer_id else reach[row.owner_id, row.model_id is None]

    return {row.pk for row in others if not comes_near(row)}


def _waiting(row: Job, named: bool, user: User) -> dict[str, Any]:
    return {
        "job": row if named else None,
        "own": row.owner_id == user.pk,
        "look": job_look(row, JobStatus.READY if row.status == JobStatus.ACTIVE else row.status),
        "plain": row.status in (JobStatus.READY, JobStatus.ACTIVE) and not row.hold,
        "reason": row.message if named and row.status != JobStatus.ACTIVE else "",
        "copies": missing_copies(row),
        "printer_id": row.printer_id,
        "printer": row.printer,
        "time_s": row.gcode.time_s if row.gcode else None,
    }


def _printing(user: User, seen: set[UUID], named: set[UUID]) -> list[dict[str, Any]]:
    live = (
        Print.objects.filter(status__in=PRINT_LIVE)
        .select_related("job__owner", "job__gcode", "job__model", "printer")
        .order_by("created_at")
    )
    shown = [row for row in live if row.printer_id in seen or row.job_id in named]
    states = state_views(user, printer_access.visible(user).filter(pk__in=[row.printer_id for row in shown]))
    return [
        {
            "print": row,
            "job": row.job if row.job_id in named else None,
            "own": row.job.owner_id == user.pk,
            "look": print_look(row.status),
            "state": states.get(row.printer_id) if row.printer_id else None,
        }
        for row in shown
    ]


def ended_unprinted(user: User) -> QuerySet[Job]:
    """Own jobs of the last month that ended without a single attempt, so the history of prints cannot show them."""
    ended = Job.objects.filter(
        owner=user, status__in=JOB_TERMINAL, prints=None, ended_at__gt=Now() - timedelta(days=30)
    )
    return ended.select_related("gcode", "model").order_by("-ended_at")[:20]
