"""What a printer's state means for our print on it. Pure: (status, state) in, the next status out."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.states import PrintStatus
from printers.drivers.base import Outcome, PrinterState, PrinterStatus

_BY_OUTCOME = {
    Outcome.COMPLETED: PrintStatus.COMPLETED,
    Outcome.CANCELLED: PrintStatus.CANCELLED,
    Outcome.FAILED: PrintStatus.FAILED,
}
_FOLLOWED = (PrintStatus.STARTING, PrintStatus.PRINTING, PrintStatus.PAUSED, PrintStatus.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next status and what to tell the owner."""

    status: PrintStatus
    message: str = ""


def next_step(status: PrintStatus, remote_path: str, state: PrinterState) -> Step | None:
    """Where a print in ``status`` goes when its printer is in ``state``; None: it stays.

    Only evidence that names our file counts: a record that it ended, or the machine working on it. That the machine
    shows nothing is no evidence (see :func:`lost`).
    """
    if status not in _FOLLOWED or not remote_path:
        return None
    if state.ended is not None and state.ended.file == remote_path:
        return Step(status=_BY_OUTCOME[state.ended.outcome], message=state.ended.reason)
    if state.job is None or not state.working or state.job.file != remote_path:
        return None
    shown = PrintStatus.PAUSED if state.status == PrinterStatus.PAUSED else PrintStatus.PRINTING
    if state.status == PrinterStatus.BUSY and status == PrintStatus.PAUSED:
        shown = PrintStatus.PAUSED  # resuming or cancelling: the next state tells
    return Step(status=shown) if shown != status else None


def as_sentence(said: str) -> str:
    """What a machine says may end anywhere."""
    said = said.strip()
    return said if not said or said[-1] in ".!?" else f"{said}."


def lost(status: PrintStatus, remote_path: str, state: PrinterState) -> bool:
    """The printer answers, and neither works on our print nor says how it ended: its records must be asked."""
    if status not in (PrintStatus.PRINTING, PrintStatus.PAUSED, PrintStatus.UNKNOWN):
        return False
    if next_step(status, remote_path, state) is not None:
        return False
    if state.status in (PrinterStatus.IDLE, PrinterStatus.ERROR):
        return True
    return state.working and state.job is not None and state.job.file != remote_path
