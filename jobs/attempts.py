"""One attempt on one printer: slice if needed, upload, commit `starting`, follow, reconcile, tidy up.

A start is sent at most once (by the bridge, from the one Command made here) and an attempt counts as "did not start"
only after its uniquely named file is deleted on the printer and that is confirmed: the deleted file is the one fence
that reaches the machine.
"""

from __future__ import annotations

import re
import secrets
import time
import unicodedata
from collections.abc import Collection, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from farm.errors import FarmError
from farm.queue import enqueue
from jobs import services, tracking
from jobs.models import Job, Print
from jobs.states import PRINT_STARTED, PRINT_TERMINAL, PrintStatus
from printers.commands import queue_start
from printers.drivers.base import Busy, DriverError, Ended, PrinterDriver, PrinterState, PrinterStatus
from printers.models import Command, CommandKind, CommandStatus, Printer
from printers.services import open_driver, use_bed
from slicing.models import Gcode
from slicing.services import cached_gcode

log = structlog.get_logger(__name__)

#: s; a worker that said nothing for so long is taken to be dead
WORKER_TTL = timedelta(seconds=60)
#: ``Print.worker`` of what waits for G-code of its printer's profile, or is being sliced
SLICER = "slicer"
#: workers that took one print in hand (slicing it for its printer is one, too) until it is given up
MOST_WORKERS = 8
_SAY_EVERY = 1.0

#: nobody works on it, or whoever did is dead
FREE = Q(worker_until=None) | Q(worker_until__lt=Now())
#: ended, and what was sent for it may still be on its printer
LEFT_ON_PRINTER = Q(status__in=PRINT_TERMINAL, file_deleted=False) & ~Q(remote_name="")
#: what an owner can do about a machine
ASK_FIRST = "Ask the people who run the lab to look at it, then submit it again."


class Stopped(Exception):
    """The attempt was cancelled, or another worker has it now."""


# -- uploading
def send(print_id: UUID) -> None:
    """Bring one claimed print to its start. Doing it twice, or by two workers at once, starts it once."""
    worker = secrets.token_hex(8)
    mine = Print.objects.filter(FREE, pk=print_id, status=PrintStatus.UPLOADING)
    if not mine.update(worker=worker, worker_until=Now() + WORKER_TTL, workers=F("workers") + 1):
        return
    attempt = Print.objects.select_related("job__model", "printer__profile", "gcode", "bed_clear").get(pk=print_id)
    try:
        _send(attempt, worker)
    except Stopped:
        log.info("upload_stopped", print=str(print_id))
    except FarmError as error:
        _give_up(attempt, worker, error.message)
    except Exception:
        log.exception("sending_bug", print=str(print_id))
        _give_up(
            attempt, worker, "The farm stumbled over it. Ask the people who run the lab: their log has the details."
        )


def _send(attempt: Print, worker: str) -> None:
    if attempt.job.cancel_requested:
        _give_up(attempt, worker, "Cancelled.")
    elif attempt.printer is None:
        _give_up(attempt, worker, "The printer was removed.")
    elif attempt.workers > MOST_WORKERS:
        _give_up(attempt, worker, f"Bringing it to the printer stopped every time in the middle. {ASK_FIRST}")
    elif _has_gcode(attempt):
        _upload_and_start(attempt, attempt.printer, worker)
    elif attempt.job.model is None:
        _give_up(attempt, worker, f"The profile of {attempt.printer.name} is no longer what its G-code was made for.")
    else:
        ours = Print.objects.filter(pk=attempt.pk, status=PrintStatus.UPLOADING, worker=worker)
        ours.update(worker=SLICER, worker_until=None, message=f"Being sliced for {attempt.printer.name}.")
        enqueue("jobs.slice", attempt.job_id, attempt.pk)


def _has_gcode(attempt: Print) -> bool:
    """G-code belongs to one profile revision: take what fits this printer, if there is some."""
    assert attempt.printer is not None  # noqa: S101 - the caller looked
    profile, job = attempt.printer.profile, attempt.job
    fitting = _of_profile(attempt.gcode, profile) or _of_profile(job.gcode, profile)
    if fitting is None and job.model is not None:
        fitting = cached_gcode(job.model, profile, job.settings, job.material, job.quality, job.placement)
    if fitting is not None and attempt.gcode_id != fitting.pk:
        Print.objects.filter(pk=attempt.pk).update(gcode=fitting)
        attempt.gcode = fitting
    return fitting is not None


def _of_profile(gcode: Gcode | None, profile: Any) -> Gcode | None:
    made_for = (gcode.profile_id, gcode.profile_revision) if gcode else None
    return gcode if made_for == (profile.pk, profile.revision) else None


def remote_name(attempt: Print) -> str:
    """Unique for every attempt and claim; begins readably, for whoever stands at the machine."""
    plain = unicodedata.normalize("NFKD", Path(attempt.job.name).stem).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:40] or "print"
    return f"{slug}-{attempt.pk.hex[:8]}-{secrets.token_hex(4)}.gcode"


def _upload_and_start(attempt: Print, printer: Printer, worker: str) -> None:
    with closing(open_driver(printer)) as driver:
        if attempt.file_on_printer:  # a worker before us died while uploading: what it left is never started
            _try_delete(driver, attempt.file_on_printer)
        try:
            path = _upload(driver, attempt, worker)
        except DriverError as error:
            _give_up(attempt, worker, f"{printer.name} did not take the file: {error.message}")
            return
    _commit_start(attempt, printer, worker, path)


def _upload(driver: PrinterDriver, attempt: Print, worker: str) -> str:
    """The path of the verified file on the printer. Raises DriverError, Stopped; what arrived is deleted then."""
    assert attempt.gcode is not None  # noqa: S101 - the caller looked
    name = left = remote_name(attempt)
    _keep(attempt, worker, remote_name=name, remote_path="", message=f"Sending to {attempt.printer_name}.")
    try:
        left = driver.upload(Path(attempt.gcode.file.path), name, _Reporter(attempt, worker).sent).path
        _keep(attempt, worker, remote_path=left, progress=0.0)
    except (DriverError, Stopped):
        _try_delete(driver, left)  # if the attempt is no longer ours, nobody else knows of it
        raise
    return left


def _keep(attempt: Print, worker: str, **fields: Any) -> None:
    """Save while the attempt is still ours. Raises Stopped."""
    still = Print.objects.filter(pk=attempt.pk, status=PrintStatus.UPLOADING, worker=worker)
    if not still.update(worker_until=Now() + WORKER_TTL, **fields):
        raise Stopped
    for name, value in fields.items():
        setattr(attempt, name, value)


class _Reporter:
    """Tells how far the upload is, now and then, and stops it when it is no longer wanted."""

    def __init__(self, attempt: Print, worker: str) -> None:
        self.attempt, self.worker, self.last = attempt, worker, time.monotonic()
        self.total = max(1, attempt.gcode.bytes if attempt.gcode else 1)

    def sent(self, count: int) -> None:
        if time.monotonic() - self.last < _SAY_EVERY:
            return
        self.last = time.monotonic()
        _keep(self.attempt, self.worker, progress=min(1.0, count / self.total))
        services.announce(self.attempt.job)


def _commit_start(attempt: Print, printer: Printer, worker: str, remote_path: str) -> None:
    """`starting`, the used bed and the one start command, in one transaction, before anything is sent."""
    assert attempt.bed_clear is not None  # noqa: S101 - every claim has one
    if reason := _must_not_start(attempt.job, printer):
        _give_up(attempt, worker, reason)
        return
    with transaction.atomic():
        if not services.advance(
            attempt, PrintStatus.STARTING, only={"worker": worker}, start_at=Now(), worker_until=None
        ):
            return  # cancelled, or another worker has it
        if use_bed(printer.pk, attempt.bed_clear.n):
            queue_start(printer, attempt.pk, remote_path)
            return
        transaction.set_rollback(True)
    _give_up(attempt, worker, f"The bed of {printer.name} is no longer clear.")


def _must_not_start(job: Job, printer: Printer) -> str:
    """What people decided while the file was on its way."""
    job.refresh_from_db(fields=["cancel_requested"])
    now = Printer.objects.filter(pk=printer.pk).first()
    if job.cancel_requested:
        return "Cancelled."
    if now is None:
        return "The printer was removed."
    if not now.enabled:
        return f"{now.name} was switched off."
    return f"{now.name} is in maintenance ({now.maintenance})." if now.maintenance else ""


def _give_up(attempt: Print, worker: str, message: str) -> None:
    """Nothing was started: unless another worker has it by now, the attempt ends here."""
    attempt.refresh_from_db()
    if attempt.status == PrintStatus.UPLOADING:
        to = PrintStatus.CANCELLED if attempt.job.cancel_requested else PrintStatus.FAILED
        services.not_started(attempt, to, message, only={"worker": worker})


def _try_delete(driver: PrinterDriver, path: str) -> None:
    try:
        driver.delete_file(path)
    except DriverError as error:
        log.info("file_left", file=path, error=error.message)


# -- following
def follow(states: Mapping[UUID, PrinterState], occupied: Collection[UUID]) -> None:
    """Printers spoke: bring our prints on them (there may be some on the ``occupied``) up to date, and let waiting jobs
    have the others."""
    idle = {printer_id for printer_id, state in states.items() if state.status == PrinterStatus.IDLE}
    started = Print.objects.filter(printer__in=occupied, status__in=PRINT_STARTED).select_related("job")
    for attempt in started if occupied else ():
        assert attempt.printer_id is not None  # noqa: S101 - it was asked for by that
        _follow(attempt, states[attempt.printer_id])
        idle.discard(attempt.printer_id)
    if idle:
        enqueue("jobs.dispatch")


def _follow(attempt: Print, state: PrinterState) -> None:
    status = PrintStatus(attempt.status)
    step = tracking.next_step(status, attempt.remote_path, state)
    if step is not None:
        _take(attempt, step, state.ended)
    elif tracking.lost(status, attempt.remote_path, state):
        enqueue("jobs.reconcile", attempt.pk)


def _take(attempt: Print, step: tracking.Step, ended: Ended | None) -> bool:
    fields: dict[str, Any] = {}
    if attempt.started_at is None and step.status != PrintStatus.UNKNOWN:
        fields["started_at"] = Now()
    if step.status in PRINT_TERMINAL and ended is not None:
        fields |= {"filament_mm": ended.filament_mm, "duration_s": ended.duration_s}
        fields["progress"] = 1.0 if step.status == PrintStatus.COMPLETED else attempt.progress
    return services.advance(attempt, step.status, message=_for_its_owner(attempt, step), **fields)


def _for_its_owner(attempt: Print, step: tracking.Step) -> str:
    """What happened and what to do, in the printer's words as far as it has some."""
    said = tracking.as_sentence(step.message)
    if step.status == PrintStatus.FAILED:
        return f"Failed on {attempt.printer_name}: {said or 'it does not say why.'} {ASK_FIRST}"
    if step.status == PrintStatus.CANCELLED and not attempt.job.cancel_requested:
        return f"Cancelled at {attempt.printer_name}. {said}".rstrip()
    return said


def start_ended(command: Command) -> None:
    """The start was sent, or provably was not: what follows from that."""
    attempt = Print.objects.filter(pk=command.print_id).first() if command.print_id else None
    if attempt is None or attempt.status != PrintStatus.STARTING or command.status == CommandStatus.DONE:
        return
    if command.status == CommandStatus.UNCLEAR:
        services.advance(
            attempt,
            PrintStatus.UNKNOWN,
            message=f"It is not clear whether {attempt.printer_name} started: it is being found out.",
        )
    else:
        Print.objects.filter(pk=attempt.pk).update(message=f"Not started: {command.message}"[:500])
    enqueue("jobs.reconcile", attempt.pk)


# -- reconciling
def reconcile(print_id: UUID) -> None:
    """Ask the printer's own records what became of a print. Safe to repeat; a printer that is away is asked later."""
    started = Print.objects.filter(pk=print_id, status__in=PRINT_STARTED)
    attempt = started.select_related("printer", "bed_clear", "job").first()
    if attempt is None or attempt.printer is None or services.start_is_open(attempt):
        return
    try:
        with closing(open_driver(attempt.printer)) as driver:
            _reconcile(attempt, driver)
    except (DriverError, FarmError) as error:
        log.info("not_reconciled_yet", print=str(print_id), error=error.message)


def _reconcile(attempt: Print, driver: PrinterDriver) -> None:
    status, state = PrintStatus(attempt.status), driver.read_state()
    ended = driver.find_ended(attempt.remote_path)
    evidence = PrinterState(status=state.status, job=state.job, ended=ended)
    step = tracking.next_step(status, attempt.remote_path, evidence)
    if step is not None:
        _take(attempt, step, ended)
    elif _works_on(state, attempt.remote_path):
        return  # in the very status that we know
    elif not _was_seen_printing(attempt):
        _take_back(attempt, driver)
    elif tracking.lost(PrintStatus.PRINTING, attempt.remote_path, evidence):
        message = f"{attempt.printer_name} lost the print: it stopped or restarted in its middle. {ASK_FIRST}"
        services.advance(attempt, PrintStatus.FAILED, message=message)


def _was_seen_printing(attempt: Print) -> bool:
    """Its printer showed it once: whatever its records say, it did start."""
    if attempt.status in (PrintStatus.PRINTING, PrintStatus.PAUSED):
        return True
    return Command.objects.filter(print_id=attempt.pk, kind=CommandKind.START, status=CommandStatus.DONE).exists()


def _take_back(attempt: Print, driver: PrinterDriver) -> None:
    """No trace of a start: make it impossible, by deleting the file, and only then say that it did not start."""
    try:
        driver.delete_file(attempt.remote_path)
    except Busy:
        return  # it is being printed after all: the next state says so
    if driver.find_file(attempt.remote_path) is not None:
        return
    if driver.find_ended(attempt.remote_path) is not None or _works_on(driver.read_state(), attempt.remote_path):
        return
    message = attempt.message if attempt.message.startswith("Not started") else "It was not started."
    services.not_started(attempt, PrintStatus.FAILED, message, file_deleted=True)


def _works_on(state: PrinterState, path: str) -> bool:
    return state.working and state.job is not None and state.job.file == path


def clean_up(print_id: UUID) -> None:
    """Take the file of an ended print from the printer again: its storage is small, and others read names there."""
    attempt = Print.objects.filter(LEFT_ON_PRINTER, pk=print_id).select_related("printer").first()
    if attempt is None or attempt.printer is None:
        return
    try:
        with closing(open_driver(attempt.printer)) as driver:
            driver.delete_file(attempt.file_on_printer)
    except (DriverError, FarmError) as error:
        log.info("file_left", print=str(print_id), error=error.message)  # housekeeping tries again
    else:
        Print.objects.filter(pk=print_id).update(file_deleted=True)


def unattended() -> list[tuple[Any, ...]]:
    """The task and its ids for every claimed print that nobody works on."""
    free = Print.objects.filter(FREE, status=PrintStatus.UPLOADING)
    return [
        ("jobs.slice", attempt.job_id, attempt.pk) if attempt.worker == SLICER else ("jobs.send", attempt.pk)
        for attempt in free
    ]
