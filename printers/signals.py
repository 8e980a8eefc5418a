"""The two upward words of this room, and its two questions. ``jobs`` (which printers may not import) listens in
jobs/apps.py and answers there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from django.dispatch import Signal

#: states: {printer id: PrinterState}; occupied: ids of those among them that the farm's own print may be on. Sent when
#: states of machines changed in a way that matters, in no transaction.
printer_states_changed = Signal()
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
    material: str = ""  # what it is printed with; "" when the file does not say
    expected_s: float | None = None  # about, from its begin to its end; None: not sliced yet
    layer_begins: bytes = b""  # in the file that is printed, see slicing.layering; empty: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """The first of the jobs that wait for one printer by name, and how many there are."""

    count: int
    job_id: UUID
    owner_id: UUID
    file: str  # as its owner calls it
    person: str


About = TypeVar("About")


class Question(Generic[About]):
    """Asked here of some printers, answered by jobs; whoever is not in the answer has none."""

    def __init__(self) -> None:
        self.answer: Callable[[Collection[UUID]], dict[UUID, About]] = lambda _: {}

    def __call__(self, printer_ids: Collection[UUID]) -> dict[UUID, About]:
        return self.answer(printer_ids)


#: who is on which printer
occupants: Question[Occupant] = Question()
#: who waits for which printer
upcoming: Question[Upcoming] = Question()
