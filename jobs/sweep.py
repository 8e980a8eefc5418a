"""What events should have started and did not: found again every few seconds. Event for speed, tick for truth."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db.models.functions import Now

from farm.models import IdempotencyKey
from farm.queue import enqueue
from jobs import attempts, estimates, services
from jobs.models import Job, Print
from jobs.states import PRINT_LIVE, PRINT_STARTED, JobStatus, PrintStatus
from printers import telemetry
from printers.commands import expire_commands

#: s between two wakes of the same task by the sweep
WAKE_EVERY = 30


def sweep() -> None:
    """Idempotent, cheap when all is well."""
    expire_commands()
    _wake_slicing()
    for task, *ids in attempts.unattended():
        _wake(task, *ids)
    for pk in Print.objects.filter(status__in=(PrintStatus.STARTING, PrintStatus.UNKNOWN)).values_list("pk", flat=True):
        enqueue("jobs.reconcile", pk)
    _follow_all()
    _cancel_again()
    live = Print.objects.filter(status__in=PRINT_LIVE).values("job")
    for job in Job.objects.filter(status=JobStatus.ACTIVE).exclude(pk__in=live):
        services.settle(job)
    enqueue("jobs.dispatch")


def _wake_slicing() -> None:
    waiting = Job.objects.filter(attempts.FREE, status=JobStatus.PREPARING, created_at__lt=Now() - timedelta(seconds=5))
    for pk in waiting.values_list("pk", flat=True):
        _wake("jobs.slice", pk)


def _wake(task: str, *ids: UUID) -> None:
    """What waits in a long queue was not forgotten: not once more with every tick."""
    key = ":".join(["farm:woken", task, *map(str, ids)])
    if telemetry.client().set(key, 1, nx=True, ex=WAKE_EVERY):
        enqueue(task, *ids)


def _cancel_again() -> None:
    """Their owner took the job back, and the printer was not told yet, or did not hear it."""
    wanted = Print.objects.filter(status__in=PRINT_STARTED, job__cancel_requested=True)
    for attempt in wanted.select_related("printer", "job"):
        services.ask_to_cancel(attempt)


def _follow_all() -> None:
    """Every started print against its printer's newest state."""
    printer_ids = list(
        Print.objects.filter(status__in=PRINT_STARTED, printer__isnull=False).values_list("printer_id", flat=True)
    )
    snapshots = telemetry.read([pk for pk in printer_ids if pk])
    states = {pk: snapshot.state for pk, snapshot in snapshots.items() if not snapshot.stale}
    attempts.follow(states, states.keys())


def housekeeping() -> None:
    """Old answers and files left on printers."""
    IdempotencyKey.objects.filter(created_at__lt=Now() - timedelta(days=1)).delete()
    estimates.forget_unused()
    recent = Print.objects.filter(attempts.LEFT_ON_PRINTER, ended_at__gt=Now() - timedelta(days=2))
    for pk in recent.values_list("pk", flat=True):
        enqueue("jobs.clean_up", pk)
