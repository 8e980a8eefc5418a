"""Give waiting jobs to free printers: take a snapshot, let `matching` decide, claim by conditional updates.

Runs on events and on a tick; any number may run at once (see the constraints in jobs.models).
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from farm.errors import Invalid
from farm.queue import enqueue
from jobs import access, services
from jobs.matching import Assignment, Need, Offer, match
from jobs.models import Job, JobEvent, Print
from jobs.states import JOB_QUEUED, PRINT_LIVE, JobStatus, PrintStatus
from printers import telemetry
from printers.drivers.base import PrinterStatus
from printers.models import BedClear, Command, CommandStatus, Printer
from printers.services import clear_beds
from slicing.models import PrinterProfile
from slicing.services import make_settings

log = structlog.get_logger(__name__)

#: a printer that failed to take or start a file is not offered for that long
COOLDOWN = timedelta(seconds=30)

_UNREADY = {
    PrinterStatus.OFFLINE: "is offline",
    PrinterStatus.CONNECTING: "is connecting",
    PrinterStatus.PRINTING: "is printing something that was started at the machine",
    PrinterStatus.PAUSED: "is paused with something that was started at the machine",
    PrinterStatus.BUSY: "is busy",
    PrinterStatus.ERROR: "reports an error",
}


def dispatch() -> int:
    """One round. The number of prints that got a printer."""
    jobs = list(
        services.queued_jobs()
        .select_related("model", "owner", "gcode", "material", "quality")
        .prefetch_related("prints__gcode")
    )
    if not jobs:
        return 0
    offers = offers_now()
    needs = needs_of([job for job in jobs if not job.hold])
    plan = match(needs, offers)
    claimed = sum(claim(assignment, seen) for assignment, seen in _with_claims(plan.assignments, jobs))
    _store_reasons(jobs, plan.reasons)
    return claimed


def offers_now() -> list[Offer]:
    """Every printer as it is now, in a few queries."""
    printers = list(Printer.objects.select_related("profile"))
    ids = [printer.pk for printer in printers]
    snapshots, clears = telemetry.read(ids), clear_beds(ids)
    live = set(Print.objects.filter(status__in=PRINT_LIVE, printer__in=ids).values_list("printer_id", flat=True))
    failed = set(
        Print.objects.filter(
            printer__in=ids, status=PrintStatus.FAILED, spent=False, ended_at__gt=Now() - COOLDOWN
        ).values_list("printer_id", flat=True)
    )
    # a start would wait behind it, and come too late; what a bridge sent before it died holds nobody up
    open_now = Q(status=CommandStatus.QUEUED) | Q(status=CommandStatus.SENT, fence=F("printer__lease__fence"))
    commanded = set(Command.objects.filter(open_now, printer__in=ids).values_list("printer_id", flat=True))
    return [
        Offer(
            printer_id=printer.pk,
            name=printer.name,
            profile=(printer.profile_id, printer.profile.revision),
            size_mm=printer.profile.machine.size,
            out=not printer.enabled or bool(printer.maintenance),
            unready=_unready(printer, snapshots.get(printer.pk), printer.pk in live)
            or _unready_though_idle(printer.pk in commanded, printer.pk in clears, printer.pk in failed),
        )
        for printer in printers
    ]


def _unready(printer: Printer, snapshot: telemetry.Snapshot | None, live: bool) -> str:
    """Why it cannot take a print now, as the end of a sentence; "" if it can."""
    if not printer.enabled:
        return "is switched off"
    if printer.maintenance:
        return f"is in maintenance ({printer.maintenance})"
    if live:
        return "is printing another job"
    if snapshot is None or snapshot.stale:
        return "has not been heard from"
    if snapshot.state.status != PrinterStatus.IDLE:
        return _UNREADY[snapshot.state.status]
    return ""


def _unready_though_idle(commanded: bool, clear: bool, failed: bool) -> str:
    """The same, of a printer that is idle."""
    if commanded:
        return "is carrying out a command"
    if not clear:
        return "waits for somebody to clear its bed"
    return "just failed to take a print and is tried again in a moment" if failed else ""


def needs_of(jobs: list[Job]) -> list[Need]:
    """One need for each copy that waits, oldest job first."""
    allowed = _Allowed()
    accepting = _Accepting()
    needs = []
    for job in jobs:
        need = _need(job, allowed.printers(job), accepting)
        needs += [need] * missing_copies(job)
    return needs


def missing_copies(job: Job) -> int:
    """As services.tally, from prefetched prints."""
    return max(0, job.copies - sum(attempt.spent for attempt in job.prints.all()))


class _Allowed:
    """Where each owner may print models, and where G-code: asked once for each."""

    def __init__(self) -> None:
        self._known: dict[tuple[UUID, bool], frozenset[UUID]] = {}

    def printers(self, job: Job) -> frozenset[UUID]:
        key = (job.owner_id, job.model_id is None)
        if key not in self._known:
            self._known[key] = frozenset(access.printers_for(job).values_list("pk", flat=True))
        return self._known[key]


def _need(job: Job, allowed: frozenset[UUID], accepting: _Accepting) -> Need:
    if job.model is None:
        assert job.gcode is not None  # noqa: S101 - a constraint of the table, for the type checker
        made_for = (job.gcode.profile_id, job.gcode.profile_revision)
        return Need(job_id=job.pk, allowed=allowed, printer_id=job.printer_id, profile=made_for)
    sliced = [gcode for gcode in (job.gcode, *(attempt.gcode for attempt in job.prints.all())) if gcode]
    return Need(
        job_id=job.pk,
        allowed=allowed,
        printer_id=job.printer_id,
        size_mm=job.size_mm,
        profiles=accepting.profiles(job),
        sliced_for=frozenset((gcode.profile_id, gcode.profile_revision) for gcode in sliced),
    )


class _Accepting:
    """Which profiles of printers a job's settings are possible with. A long queue has few kinds of settings: each is
    looked at once."""

    def __init__(self) -> None:
        self._profiles = list(PrinterProfile.objects.filter(pk__in=Printer.objects.values("profile")))
        self._known: dict[tuple[int | None, int | None, str], frozenset[UUID]] = {}

    def profiles(self, job: Job) -> frozenset[UUID]:
        kind = (job.material_id, job.quality_id, json.dumps(job.settings, sort_keys=True))
        if kind not in self._known:
            self._known[kind] = frozenset(profile.pk for profile in self._profiles if _accepts(profile, job))
        return self._known[kind]


def _accepts(profile: PrinterProfile, job: Job) -> bool:
    try:
        make_settings(profile, job.settings, job.material, job.quality)
    except Invalid:
        return False
    return True


def _with_claims(assignments: tuple[Assignment, ...], jobs: list[Job]) -> list[tuple[Assignment, int]]:
    """Each assignment with the number of claims that its job must still have."""
    claims = {job.pk: job.claims for job in jobs}
    given: defaultdict[UUID, int] = defaultdict(int)
    result = []
    for assignment in assignments:
        result.append((assignment, claims[assignment.job_id] + given[assignment.job_id]))
        given[assignment.job_id] += 1
    return result


class _Lost(Exception):
    """Somebody else was faster; roll back."""


def claim(assignment: Assignment, claims: int) -> bool:
    """Reserve the printer, its cleared bed and one copy of the job, all or nothing."""
    try:
        with transaction.atomic():
            _claim(assignment, claims)
    except (_Lost, IntegrityError):
        return False
    return True


def _claim(assignment: Assignment, claims: int) -> None:
    mine = Job.objects.filter(
        pk=assignment.job_id, claims=claims, status__in=JOB_QUEUED, cancel_requested=False, hold=False
    ).update(claims=F("claims") + 1)
    clear = (
        BedClear.objects.filter(printer=assignment.printer_id, n=F("printer__bed"), print__isnull=True)
        .select_related("printer")
        .first()
    )
    if not mine or clear is None:
        raise _Lost
    job = Job.objects.get(pk=assignment.job_id)
    attempt = Print.objects.create(job=job, printer=clear.printer, printer_name=clear.printer.name, bed_clear=clear)
    JobEvent.objects.create(
        job=job, print=attempt, new=attempt.status, cause="dispatch gave it a printer", message=clear.printer.name
    )
    if job.status == JobStatus.READY and not services.advance(job, JobStatus.ACTIVE):
        raise _Lost
    enqueue("jobs.send", attempt.pk)


def _store_reasons(jobs: list[Job], reasons: dict[UUID, str]) -> None:
    """Everyone who waits knows why. Only changes are written."""
    for job in jobs:
        reason = "On hold: start it when you are ready." if job.hold else reasons.get(job.pk, "")
        if not reason or job.message == reason:
            continue
        if Job.objects.filter(pk=job.pk, status=JobStatus.READY).update(message=reason[:500]):
            job.message = reason
            services.announce(job)
