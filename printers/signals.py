"""The two upward words of this room, and its one question. ``jobs`` (which printers may not import) listens in
jobs/apps.py and answers there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

from django.dispatch import Signal

#: printer_id: UUID, state: PrinterState. Sent when a machine's state changed in a way that matters, in no transaction.
printer_state_changed = Signal()
#: command: Command. A start command has reached its end, whatever that is.
start_ended = Signal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupant:
    """The farm's own live print on a printer."""

    print_id: UUID
    job_id: UUID
    owner_id: UUID
    file: str  # as its owner calls it
    person: str
    status: str  # jobs.states.PrintStatus
    remote_path: str  # as the printer calls it; "" before the upload
    progress: float


Answer = Callable[[Collection[UUID]], dict[UUID, Occupant]]


def _nobody(_: Collection[UUID]) -> dict[UUID, Occupant]:
    return {}


class Occupants:
    """Who is on which printer: asked here, answered by jobs."""

    def __init__(self) -> None:
        self.answer: Answer = _nobody

    def __call__(self, printer_ids: Collection[UUID]) -> dict[UUID, Occupant]:
        return self.answer(printer_ids)


occupants = Occupants()
