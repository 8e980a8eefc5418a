"""What printers say that the database must know, noted by the bridge that holds their leases.

Many at once: when a lab is switched on, a thousand printers have something to say in the same seconds. One commit and
one query for each question serve all of a batch, in which each printer has at most one note. A note from a bridge
without the lease is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from farm.events import PrinterTouched, publish
from printers.drivers.base import WORKING, PrinterState, PrinterStatus
from printers.models import BedClear, Command, CommandKind, CommandStatus, Lease, Printer
from printers.services import soil_bed
from printers.signals import occupants, printer_states_changed

#: a new printer's bed counts as clear, if whoever added it said so, when the printer is heard of within this time
FIRST_HEARD_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Note:
    """``fence``: of the lease under which it was heard."""

    printer_id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class StateNote(Note):
    """A change that matters. ``before`` is None unless the printer was observed from then to now."""

    state: PrinterState
    before: PrinterState | None


@dataclass(frozen=True, slots=True)
class MarkerNote(Note):
    """The printer's own record, read on connecting (``printed``: something was, since the last one) or while it was
    watched."""

    record: dict[str, Any] | None
    printed: bool


Some = TypeVar("Some", bound=Note)


def note_states(notes: Sequence[StateNote]) -> None:
    """Keep the beds honest, and tell those above."""
    with transaction.atomic():
        held, said, now = _held(notes)
        _note_since_when([note for note in held if said[note.printer_id] != note.state.status], now)
        live = occupants([note.printer_id for note in held])
        for note in held:
            occupant = live.get(note.printer_id)
            foreign = _foreign_print(note, {occupant.remote_path} if occupant else set())
            if foreign and occupant is None:  # or so it seems
                foreign = _foreign_print(note, _just_ended(note))
            if foreign:
                soil_bed(note.printer_id, foreign)
    if held:
        states = {note.printer_id: note.state for note in held}
        printer_states_changed.send(sender=Printer, states=states, occupied=live.keys())


def note_markers(notes: Sequence[MarkerNote]) -> None:
    with transaction.atomic():
        held, _, _ = _held(notes)
        doubtful = _cleared_long_before_they_were_heard([note.printer_id for note in held if not note.printed])
        for note in held:
            if note.printed:
                soil_bed(note.printer_id, "something may have been printed while nobody listened")
            elif note.printer_id in doubtful:
                soil_bed(note.printer_id, "its bed was said to be clear long before it was first heard")
        for note in held:
            Printer.objects.filter(pk=note.printer_id).update(marker={"record": note.record})


def _held(notes: Sequence[Some]) -> tuple[list[Some], dict[UUID, str], datetime | None]:
    """Those whose lease goes on, what their printers were last known to say, and the database's time."""
    leases = Lease.objects.filter(printer__in=[note.printer_id for note in notes], expires_at__gt=Now())
    rows = leases.annotate(now=Now()).values_list("printer_id", "fence", "printer__said", "now")
    found = {printer_id: (fence, said, now) for printer_id, fence, said, now in rows}
    held = [note for note in notes if found.get(note.printer_id, (None,))[0] == note.fence]
    said = {printer_id: said for printer_id, (_, said, _) in found.items()}
    return held, said, max((now for _, _, now in found.values()), default=None)


def _note_since_when(changed: Iterable[StateNote], now: datetime | None) -> None:
    """So that people can be told for how long a machine has been waiting for them. (Those who look at it have heard
    what it says, and count from then.)"""
    groups: dict[tuple[PrinterStatus, bool], list[UUID]] = {}
    for note in changed:
        done = note.before is not None and note.before.working and not note.state.working
        groups.setdefault((note.state.status, done), []).append(note.printer_id)
    for (status, done), printer_ids in groups.items():
        since = {"said_since": now, "bed_since": now} if done else {"said_since": now}
        Printer.objects.filter(pk__in=printer_ids).update(said=status, **since)
        for printer_id in printer_ids if done else ():  # whatever lies on its bed is done only now
            publish(PrinterTouched(printer_id=str(printer_id)))


def _just_ended(note: StateNote) -> set[str]:
    """Files of the farm's own prints whose end was written before this older news of them: who reads the newest state
    may be faster than what is written in order. A file that had ended before was started again at the machine."""
    before, state = note.before, note.state
    if before is None:
        return set()
    named = {part.file for part in (state.job, state.ended) if part} - {before.ended.file if before.ended else ""}
    sent = (CommandStatus.SENT, CommandStatus.DONE, CommandStatus.UNCLEAR)
    starts = Command.objects.filter(
        printer=note.printer_id, kind=CommandKind.START, status__in=sent, args__path__in=named
    )
    return {command.args["path"] for command in starts} if named else set()


def _foreign_print(note: StateNote, ours: set[str]) -> str | None:
    """Why this change means that somebody else's print is or was on the bed; ``ours``: the files the farm prints there.
    Pure. (What ended unobserved is found by comparing the printer's own record, see :class:`MarkerNote`.)"""
    before, state = note.before, note.state
    job, ended = state.job, state.ended
    if job is None and not ours and state.status in (PrinterStatus.PRINTING, PrinterStatus.PAUSED):
        return None if before is not None and before.status in WORKING else "it prints and does not say what"
    if state.working and job and job.file not in ours:
        seen = before is not None and before.working and before.job is not None and before.job.file == job.file
        return None if seen else "a print was started at the machine"
    if ended and before is not None and ended != before.ended and ended.file not in ours:
        known = before.working and before.job is not None and before.job.file == ended.file
        return None if known else "a print ended that the farm did not start"
    return None


def _cleared_long_before_they_were_heard(printer_ids: list[UUID]) -> set[UUID]:
    """New printers whose beds are clear by word alone: there is no earlier record to compare with."""
    clear = BedClear.objects.filter(printer__in=printer_ids, n=F("printer__bed"), at__lt=Now() - FIRST_HEARD_WITHIN)
    return set(clear.filter(printer__marker__isnull=True).values_list("printer_id", flat=True))
