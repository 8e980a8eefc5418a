"""What people do with jobs, and the one function that writes a status."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Count, F, Max, Q
from django.db.models.functions import Now

from farm.errors import Conflict, Forbidden, Invalid
from farm.events import JobTouched, PrinterTouched, publish
from farm.models import User
from farm.queue import enqueue
from jobs import access, expected
from jobs.matching import fits
from jobs.models import Job, JobEvent, Print
from jobs.states import (
    JOB_QUEUED,
    JOB_TERMINAL,
    JOB_TRANSITIONS,
    PRINT_LIVE,
    PRINT_STARTED,
    PRINT_TERMINAL,
    PRINT_TRANSITIONS,
    JobStatus,
    PrintStatus,
)
from printers import access as printer_access
from printers import telemetry
from printers.commands import request_command
from printers.models import COMMAND_OPEN, Command, CommandKind, Printer, Role
from printers.services import give_bed_back, soil_bed
from printers.signals import Occupant, Upcoming
from slicing import profiles
from slicing.models import Gcode, Material, Model3D, ProfileRevision, Quality
from slicing.services import checked_placement, make_settings, placed_size

log = structlog.get_logger(__name__)

#: attempts that end before their start until the job gives up
MOST_ATTEMPTS = 5
_CAN_BE_CANCELLED = (PrintStatus.STARTING, PrintStatus.PRINTING, PrintStatus.PAUSED)
_FASTER = "Somebody was faster. Look again."


# -- status
@transaction.atomic
def advance(
    thing: Job | Print,
    to: JobStatus | PrintStatus,
    *,
    message: str = "",
    actor: User | None = None,
    only: dict[str, Any] | None = None,
    **fields: Any,
) -> bool:
    """The one place that writes a status: by conditional UPDATE on the old one, with an appended event.

    False when somebody was faster (or ``only``, more conditions, no longer holds): ``thing`` is then as it is now.
    Raises Conflict for a way that the table does not have.
    """
    old = thing.status
    cause = _cause(thing, old, to)
    now_terminal = to in JOB_TERMINAL if isinstance(thing, Job) else to in PRINT_TERMINAL
    values: dict[str, Any] = {"status": to, "message": message[:500], **fields}
    if now_terminal:
        values["ended_at"] = Now()
    if not type(thing)._default_manager.filter(pk=thing.pk, status=old, **(only or {})).update(**values):
        thing.refresh_from_db()
        return False
    thing.refresh_from_db()
    _append(thing, old, to, cause, message, actor)
    if isinstance(thing, Print) and now_terminal:
        _print_ended(thing)
    return True


def _cause(thing: Job | Print, old: str, to: str) -> str:
    ways: dict[Any, dict[Any, str]] = dict(JOB_TRANSITIONS if isinstance(thing, Job) else PRINT_TRANSITIONS)
    cause = ways[old].get(to)
    if cause is None:
        raise Conflict(f"It is {old}: it cannot become {to}.", code="not_possible", status=old)
    return cause


def _append(thing: Job | Print, old: str, to: str, cause: str, message: str, actor: User | None) -> None:
    job, attempt = (thing, None) if isinstance(thing, Job) else (thing.job, thing)
    JobEvent.objects.create(job=job, print=attempt, old=old, new=to, cause=cause, message=message[:500], actor=actor)
    log.info("status", job=str(job.pk), print=str(attempt.pk) if attempt else None, old=old, new=to, message=message)
    announce(job)
    if attempt is not None and attempt.printer_id:
        publish(PrinterTouched(printer_id=str(attempt.printer_id)))


def announce(job: Job) -> None:
    """Tell whoever looks at this job to look again."""
    event = JobTouched(job_id=str(job.pk), owner_id=str(job.owner_id), status=job.status)
    publish(event)
    if job.printer_id:  # who waits for it may have changed
        publish(PrinterTouched(printer_id=str(job.printer_id)))


def _print_ended(attempt: Print) -> None:
    _note_what_it_took(attempt)
    expected.learn(attempt)
    settle(Job.objects.get(pk=attempt.job_id))
    if attempt.start_at and attempt.spent and attempt.printer_id:
        # whoever looked at the bed before this end did not see what lies on it now: their word comes too late
        soil_bed(attempt.printer_id, "a print ended")
    if attempt.file_on_printer and not attempt.file_deleted:
        enqueue("jobs.clean_up", attempt.pk)
    enqueue("jobs.dispatch")


def _note_what_it_took(attempt: Print) -> None:
    """Fill in what the printer's record does not say, by the farm's own clock and the G-code."""
    began = attempt.started_at or attempt.start_at
    if began is None or not attempt.spent:
        return
    if attempt.duration_s is None and attempt.ended_at is not None:
        attempt.duration_s = (attempt.ended_at - began).total_seconds()
    if attempt.filament_mm is None and attempt.gcode is not None:
        attempt.filament_mm = filament_by_then(
            attempt.gcode.filament_mm,
            attempt.gcode.time_s,
            None if attempt.status == PrintStatus.COMPLETED else attempt.duration_s,
        )
        attempt.filament_estimated = True
    attempt.save(update_fields=["duration_s", "filament_mm", "filament_estimated"])


def filament_by_then(whole_mm: float, takes_s: float, printed_s: float | None) -> float:
    """mm of filament after ``printed_s`` of a print that takes ``takes_s``, as if it flowed evenly; None: it was
    printed to its end. Pure."""
    if printed_s is None:
        return whole_mm
    return whole_mm * min(1.0, max(0.0, printed_s) / takes_s) if takes_s > 0 else 0.0


def tally(job: Job) -> dict[str, int]:
    """How many prints of a job are live, completed, failed, cancelled (each having used up a copy), and unstarted
    (failed before their start, since the last that did start); ``missing`` copies still to be given a printer."""
    spent = Q(spent=True)
    counts: dict[str, Any] = job.prints.aggregate(
        live=Count("pk", filter=Q(status__in=PRINT_LIVE)),
        completed=Count("pk", filter=spent & Q(status=PrintStatus.COMPLETED)),
        failed=Count("pk", filter=spent & Q(status=PrintStatus.FAILED)),
        cancelled=Count("pk", filter=spent & Q(status=PrintStatus.CANCELLED)),
        last_started=Max("created_at", filter=spent),
    )
    unstarted = job.prints.filter(spent=False, status=PrintStatus.FAILED)
    if last_started := counts.pop("last_started"):
        unstarted = unstarted.filter(created_at__gt=last_started)
    used = counts["live"] + counts["completed"] + counts["failed"] + counts["cancelled"]
    return {**counts, "unstarted": unstarted.count(), "missing": max(0, job.copies - used)}


def settle(job: Job) -> None:
    """Give an active job without a live print its next status. Called when a print ends, and by the sweep."""
    counts = tally(job)
    if job.status != JobStatus.ACTIVE or counts["live"]:
        return
    last = job.prints.order_by("-ended_at").first()
    to, message = _after(job, counts, last.message if last else "")
    # who takes the job back at this moment sees it active, and trusts that whatever ends it reads their wish
    if not advance(job, to, message=message, only={"cancel_requested": job.cancel_requested}):
        settle(job)


def _after(job: Job, counts: dict[str, int], said: str) -> tuple[JobStatus, str]:
    """The status of a job without a live print, and what to tell its owner. ``said``: the last print's message."""
    counted = _count_message(job, counts)
    if counts["completed"] == job.copies:
        return JobStatus.COMPLETED, counted
    if job.cancel_requested:
        return JobStatus.CANCELLED, counted or said or "Cancelled."
    if counts["missing"] and counts["unstarted"] >= MOST_ATTEMPTS:
        return (
            JobStatus.FAILED,
            f"Given up after {counts['unstarted']} attempts. {said} Ask the people who run the lab.",
        )
    if counts["missing"]:
        return JobStatus.READY, said if counts["unstarted"] else ""
    return (JobStatus.FAILED if counts["failed"] else JobStatus.CANCELLED), counted or said


def _count_message(job: Job, counts: dict[str, int]) -> str:
    if job.copies == 1:
        return ""
    parts = [f"{counts['completed']} of {job.copies} printed"]
    parts += [f"{counts[key]} {key}" for key in ("failed", "cancelled") if counts[key]]
    return "; ".join(parts) + "."


def shown_status(job: Job, prints: list[Print]) -> str:
    """With one copy a job shows its print's status in place of ``active``."""
    if job.status == JobStatus.ACTIVE and job.copies == 1:
        live = [attempt for attempt in prints if attempt.status in PRINT_LIVE]
        return live[0].status if live else job.status
    return job.status


# -- submitting
def submit(owner: User, **wanted: Any) -> Job:
    """A job that :func:`draft` makes of it, stored: it is somebody's turn. Raises as that does; nothing is stored
    then."""
    job = draft(owner, **wanted)
    _store(job)
    return job


def draft(
    owner: User,
    *,
    model: Model3D | None = None,
    gcode: Gcode | None = None,
    printer: Printer | None = None,
    copies: int = 1,
    hold: bool = False,
    settings: dict[str, Any] | None = None,
    material: Any = None,
    quality: Any = None,
    placement: dict[str, Any] | None = None,
) -> Job:
    """A job for ``copies`` of a model or of uploaded G-code. ``material`` and ``quality`` are ids, or
    revisions to be used as they were; none: the defaults. ``placement`` says how the model stands (see slicing.stance).

    Raises Invalid, Forbidden, NotFound. Stored nowhere yet.
    """
    if (model is None) == (gcode is None):
        raise Invalid("Name a model or a G-code file to print, not both.", field="model")
    if gcode is not None and (settings or material or quality or placement):
        raise Invalid("G-code is printed as it is: settings are for models.", field="settings")
    if not 1 <= copies <= 100:
        raise Invalid("copies must be between 1 and 100.", field="copies")
    source = model or gcode
    assert source is not None  # noqa: S101 - for the type checker: checked above
    job = Job(
        owner=owner,
        name=source.name,
        model=model,
        gcode=gcode,
        printer=printer,
        copies=copies,
        hold=hold,
        settings=settings or {},
        material=_revision(owner, Material, material) if model else None,
        quality=_revision(owner, Quality, quality) if model else None,
    )
    if model is not None and placement:
        _place(job, model, placement)
    _require_a_printer(job)
    return job


@transaction.atomic
def _store(job: Job) -> None:
    """From here on it is somebody's turn: the slicer's, or whoever approves, or the queue's."""
    job.save(force_insert=True)
    _append(job, "", job.status, "submitted", "", job.owner)
    if job.model is not None:
        enqueue("jobs.slice", job.pk)
    else:
        make_ready(job)


def again(job: Job, by: User) -> Job:
    """The same once more: with material and quality as they were then, even if they have been changed since.

    Raises Invalid, Forbidden, NotFound when that is not possible any more.
    """
    return submit(
        by,
        model=job.model,
        gcode=None if job.model else job.gcode,
        printer=printer_access.get(by, job.printer_id, Role.SUBMIT) if job.printer_id else None,
        copies=job.copies,
        settings=job.settings,
        material=job.material,
        quality=job.quality,
        placement=job.placement,
    )


def _revision(owner: User, kind: type[Material | Quality], wanted: Any) -> ProfileRevision | None:
    return wanted if isinstance(wanted, ProfileRevision) else profiles.chosen(owner, kind, wanted)


def _place(job: Job, model: Model3D, placement: dict[str, Any]) -> None:
    """How large it is as it stands is only known when it has been turned. Raises Invalid."""
    job.placement = checked_placement(placement)
    job.placed_size = placed_size(model, job.placement) if job.placement else None


def _require_a_printer(job: Job) -> None:
    """There must be a printer that its owner may use and that this part fits on."""
    allowed = access.printers_for(job).select_related("profile")
    candidates = list(allowed.filter(pk=job.printer_id) if job.printer_id else allowed)
    if not candidates and job.gcode is not None and printer_access.visible(job.owner, Role.SUBMIT).exists():
        raise Forbidden(
            "G-code is printed only where you operate the printer. Submit the model, or ask somebody of the staff.",
            code="operate_needed",
        )
    if not candidates:
        raise Forbidden("There is no printer that you may print on. Ask the people who run the lab.", code="no_printer")
    first: Invalid | None = None
    for candidate in candidates:
        reason = _unsuitable(candidate, job)
        if reason is None:
            return  # one is enough, and a lab may have a thousand
        first = first or reason
    assert first is not None  # noqa: S101 - for the type checker: there are candidates
    raise first


def _unsuitable(printer: Printer, job: Job) -> Invalid | None:
    profile, gcode, model = printer.profile, job.gcode, job.model
    if gcode is not None:
        if (gcode.profile_id, gcode.profile_revision) == (profile.pk, profile.revision):
            return None
        return Invalid(f"This G-code was made for another profile than {printer.name}'s.", code="other_profile")
    assert model is not None  # noqa: S101 - for the type checker: one of both is given
    try:
        make_settings(profile, job.settings, job.material, job.quality)
    except Invalid as error:
        return error
    size = job.size_mm
    if size is not None and not fits(size, profile.machine.size):
        return Invalid(
            f"{model.name} is {_size(list(size))} mm; {printer.name} prints at most "
            f"{_size(list(profile.machine.size))} mm. Make it smaller or cut it into parts.",
            code="too_large_for_bed",
        )
    return None


def _size(values: list[float]) -> str:
    return " x ".join(f"{value:.1f}".rstrip("0").rstrip(".") for value in values)


def make_ready(job: Job, **fields: Any) -> None:
    """Sliced (or G-code already): into the queue, or first to somebody who approves."""
    from django.conf import settings as django_settings

    waits = django_settings.FARM_APPROVAL and not job.owner.is_staff
    status = JobStatus.AWAITING_APPROVAL if waits else JobStatus.READY
    message = "Waiting for somebody of the staff to approve it." if waits else ""
    advance(job, status, message=message, **fields)
    enqueue("jobs.dispatch")


def approve(job: Job, by: User) -> None:
    """Raises Forbidden, Conflict."""
    _judge(job, by, JobStatus.READY)
    enqueue("jobs.dispatch")


def reject(job: Job, by: User, why: str) -> None:
    """Raises Forbidden, Conflict."""
    _judge(job, by, JobStatus.FAILED, f"Not approved: {why or 'no reason given'}")


def _judge(job: Job, by: User, to: JobStatus, message: str = "") -> None:
    access.require_staff(by)
    if job.status != JobStatus.AWAITING_APPROVAL:
        raise Conflict("This job does not wait for approval.")
    if not advance(job, to, actor=by, message=message):
        raise Conflict(_FASTER)


@transaction.atomic
def release(job: Job, by: User) -> None:
    """Start a held job: it takes its place in the queue by when it was submitted. Raises Conflict."""
    if job.status in JOB_TERMINAL:
        raise Conflict(f"This job is {job.status} already.", code="not_possible", status=job.status)
    if not Job.objects.filter(pk=job.pk, hold=True).update(hold=False):
        raise Conflict("This job is not on hold.", code="not_held")
    job.refresh_from_db()
    _append(job, job.status, job.status, "hold ended", "", by)
    enqueue("jobs.dispatch")


@transaction.atomic
def hold(job: Job, by: User) -> None:
    """Let nothing more of a job begin until it is released; what is printed goes on. Raises Conflict."""
    if job.status in JOB_TERMINAL:
        raise Conflict(f"This job is {job.status} already.", code="not_possible", status=job.status)
    if not Job.objects.exclude(status__in=JOB_TERMINAL).filter(pk=job.pk, hold=False).update(hold=True):
        raise Conflict("This job is on hold already, or it has just ended.", code="held")
    job.refresh_from_db()
    _append(job, job.status, job.status, "put on hold", "", by)
    enqueue("jobs.dispatch")


# -- cancelling
def cancel(job: Job, by: User) -> Job:
    """Take a job back: at once while it waits, by a command to the printer while it prints. Twice is harmless;
    raises Conflict when it ended otherwise."""
    with transaction.atomic():
        wanted = Job.objects.filter(pk=job.pk).exclude(status__in=JOB_TERMINAL).update(cancel_requested=True)
        job.refresh_from_db()
        if job.status == JobStatus.CANCELLED:
            return job
        if not wanted:
            raise Conflict(f"This job is {job.status} already.", code="not_possible", status=job.status)
        if job.status != JobStatus.ACTIVE:
            advance(job, JobStatus.CANCELLED, actor=by, message=f"Cancelled by {by.shown_name}.")
    for attempt in job.prints.filter(status__in=PRINT_LIVE).select_related("printer", "bed_clear"):
        _cancel_print(attempt, by)
    job.refresh_from_db()
    announce(job)
    return job


def _cancel_print(attempt: Print, by: User) -> None:
    if attempt.status == PrintStatus.UPLOADING:
        if not_started(attempt, PrintStatus.CANCELLED, f"Cancelled by {by.shown_name}.", by):
            return
        attempt.refresh_from_db()
    ask_to_cancel(attempt, by)


def ask_to_cancel(attempt: Print, by: User | None = None) -> None:
    """Tell the printer, unless it is told already. What is unclear is cancelled when it turns out to be printed
    (by the sweep)."""
    told = Command.objects.filter(print_id=attempt.pk, kind=CommandKind.CANCEL, status__in=COMMAND_OPEN)
    if attempt.printer is None or attempt.status not in _CAN_BE_CANCELLED or told.exists():
        return
    with suppress(Conflict):  # it has just ended
        request_command(attempt.printer, CommandKind.CANCEL, {}, by=by, print_id=attempt.pk)


@transaction.atomic
def not_started(attempt: Print, to: PrintStatus, message: str, by: User | None = None, **fields: Any) -> bool:
    """End an attempt that provably printed nothing: its copy and its cleared bed are as if it had never been."""
    if not advance(attempt, to, message=message, actor=by, spent=False, **fields):
        return False
    if attempt.bed_clear and attempt.printer_id:
        why = f"nothing was printed: {message}"[:200]
        give_bed_back(attempt.printer_id, attempt.bed_clear.n, why, used=attempt.start_at is not None)
    return True


def decide(attempt: Print, outcome: str, by: User) -> None:
    """A person who looked at the machine says how a print ended that the farm cannot follow. Raises Conflict."""
    if outcome not in PRINT_TERMINAL:
        raise Invalid("Say completed, failed or cancelled.", field="outcome")
    if attempt.status not in PRINT_STARTED:
        raise Conflict("Only a print that was started can be decided by hand.")
    snapshot = telemetry.read([attempt.printer_id]).get(attempt.printer_id) if attempt.printer_id else None
    seen = snapshot is not None and not snapshot.stale and snapshot.state.working
    if attempt.status != PrintStatus.UNKNOWN and seen:
        raise Conflict("The printer is being followed: pause or cancel it instead.")
    if start_is_open(attempt):
        raise Conflict("Its start is on its way to the printer: look again in a minute.")
    if attempt.status == PrintStatus.STARTING and not advance(attempt, PrintStatus.UNKNOWN, actor=by):
        raise Conflict(_FASTER)
    if not advance(attempt, PrintStatus(outcome), actor=by, message=f"Decided by {by.shown_name}."):
        raise Conflict(_FASTER)


def start_is_open(attempt: Print) -> bool:
    """A bridge may still send its start, or has sent it and waits for the answer."""
    starts = Command.objects.filter(print_id=attempt.pk, kind=CommandKind.START, status__in=COMMAND_OPEN)
    return attempt.status == PrintStatus.STARTING and starts.exists()


# -- who is on which printer (asked by printers.signals.occupants)
def occupants(printer_ids: Any) -> dict[UUID, Occupant]:
    """The live print of each printer that has one."""
    rows = Print.objects.filter(printer__in=list(printer_ids), status__in=PRINT_LIVE)
    rows = rows.select_related("job__owner", "job__material").annotate(layer_begins=F("gcode__layer_begins"))
    live = list(rows)
    if not live:  # most often: this is asked with every change of a printer's state
        return {}
    takes = expected.of_live([attempt.printer_id for attempt in live if attempt.printer_id])
    return {
        attempt.printer_id: Occupant(
            print_id=attempt.pk,
            job_id=attempt.job_id,
            owner_id=attempt.job.owner_id,
            file=attempt.job.name,
            person=attempt.job.owner.shown_name,
            status=attempt.status,
            remote_path=attempt.remote_path,
            progress=attempt.progress,
            expected_s=takes.get(attempt.printer_id),
            material=attempt.job.material.name if attempt.job.material else "",
            layer_begins=bytes(attempt.layer_begins or b""),
        )
        for attempt in live
        if attempt.printer_id
    }


def upcoming(printer_ids: Any) -> dict[UUID, Upcoming]:
    """Of the jobs that ask for each of these printers and could start now, the first, and how many there are."""
    waiting = Job.objects.filter(
        printer__in=list(printer_ids), status=JobStatus.READY, hold=False, cancel_requested=False
    ).order_by("created_at", "pk")
    found: dict[UUID, list[Job]] = {}
    for job in waiting.select_related("owner"):
        if job.printer_id:
            found.setdefault(job.printer_id, []).append(job)
    return {
        pk: Upcoming(
            count=len(jobs),
            job_id=jobs[0].pk,
            owner_id=jobs[0].owner_id,
            file=jobs[0].name,
            person=jobs[0].owner.shown_name,
        )
        for pk, jobs in found.items()
    }


def queued_jobs() -> Any:
    """Jobs that wait for a printer, oldest first: the queue's order."""
    return Job.objects.filter(status__in=JOB_QUEUED, cancel_requested=False).order_by("created_at", "pk")
