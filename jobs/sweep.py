"""What events should have started and did not: found again every few seconds. Event for speed, tick for truth."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from farm.models import IdempotencyKey
from farm.queue import enqueue
from jobs import attempts, services
from jobs.models import Job, Print
from jobs.states import PRINT_LIVE, PRINT_STARTED, PRINT_TERMINAL, JobStatus
from printers import telemetry
from printers.services import expire_commands


def sweep() -> None:
    """Idempotent, cheap when all is well."""
    expire_commands()
    _wake_slicing()
    for task, ids in attempts.unattended():
        enqueue(task, *ids)
    _follow_all()
    live = Print.objects.filter(status__in=PRINT_LIVE).values("job")
    for job in Job.objects.filter(status=JobStatus.ACTIVE).exclude(pk__in=live):
        services.settle(job)
    enqueue("jobs.dispatch")


def _wake_slicing() -> None:
    free = Q(worker_until=None) | Q(worker_until__lt=Now())
    waiting = Job.objects.filter(free, status=JobStatus.PREPARING, created_at__lt=Now() - timedelta(seconds=5))
    for pk in waiting.values_list("pk", flat=True):
        enqueue("jobs.slice", pk)


def _follow_all() -> None:
    """Every started print against its printer's newest state."""
    printer_ids = list(
        Print.objects.filter(status__in=PRINT_STARTED, printer__isnull=False).values_list("printer_id", flat=True)
    )
    for printer_id, snapshot in telemetry.read([pk for pk in printer_ids if pk]).items():
        if not snapshot.stale:
            attempts.follow(printer_id, snapshot.state)


def housekeeping() -> None:
    """Old answers and files left on printers."""
    IdempotencyKey.objects.filter(created_at__lt=Now() - timedelta(days=1)).delete()
    recent = Print.objects.filter(
        status__in=PRINT_TERMINAL, file_deleted=False, ended_at__gt=Now() - timedelta(days=2)
    ).exclude(remote_path="")
    for pk in recent.values_list("pk", flat=True):
        enqueue("jobs.clean_up", pk)
