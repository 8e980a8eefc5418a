"""How far a job is on its way from a file to a part, and what happened, in words. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jobs.models import Job, JobEvent, Print
from jobs.states import JOB_TERMINAL, PRINT_TERMINAL, JobStatus, PrintStatus

#: in the order of the way
NAMES = {
    "upload": "Uploaded",
    "slice": "Slicing",
    "approve": "Approval",
    "wait": "Waiting",
    "send": "Sending",
    "print": "Printing",
    "end": "Done",
}
_DONE = {"slice": "Sliced", "approve": "Approved", "wait": "Got a printer", "send": "Sent", "print": "Printed"}
_OF_STATUS: dict[str, str] = {
    JobStatus.PREPARING: "slice",
    JobStatus.AWAITING_APPROVAL: "approve",
    JobStatus.READY: "wait",
    JobStatus.ACTIVE: "print",
    JobStatus.COMPLETED: "end",
    PrintStatus.UPLOADING: "send",
    PrintStatus.STARTING: "print",
    PrintStatus.PRINTING: "print",
    PrintStatus.PAUSED: "print",
    PrintStatus.UNKNOWN: "print",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """``state``: done, now, ahead, or failed (or cancelled): there it ended."""

    name: str
    word: str
    state: str


def stages_of(job: Job, prints: Sequence[Print], status: str, seen: Collection[str]) -> list[Stage]:
    """``status`` as services.shown_status, ``seen``: every status that the job had."""
    names = [name for name in NAMES if name != "slice" or job.model_id]
    if JobStatus.AWAITING_APPROVAL not in (job.status, *seen):
        names.remove("approve")
    ended = job.status in (JobStatus.FAILED, JobStatus.CANCELLED)
    at = names.index(_last_stage(job, prints, seen) if ended else _OF_STATUS[status])
    return [Stage(name, *_shown(name, number, at, job)) for number, name in enumerate(names)]


def _shown(name: str, number: int, at: int, job: Job) -> tuple[str, str]:
    if number < at or name == "end" and job.status == JobStatus.COMPLETED:
        return _DONE.get(name, NAMES[name]), "done"
    if number > at:
        return NAMES[name], "ahead"
    if job.status in JOB_TERMINAL:
        return ("Failed", "failed") if job.status == JobStatus.FAILED else ("Cancelled", "cancelled")
    return NAMES[name], "now"


def _last_stage(job: Job, prints: Sequence[Print], seen: Collection[str]) -> str:
    """Where a job ended that was not completed."""
    if prints:
        return "print" if any(attempt.start_at or attempt.started_at for attempt in prints) else "send"
    if JobStatus.READY in seen:
        return "wait"
    return "approve" if JobStatus.AWAITING_APPROVAL in seen else "slice" if job.model_id else "wait"


# -- what happened
_JOB_WORDS: dict[tuple[str, str], str] = {
    (JobStatus.PREPARING, JobStatus.READY): "Sliced, and in the queue",
    (JobStatus.PREPARING, JobStatus.AWAITING_APPROVAL): "Sliced, waits for approval",
    (JobStatus.AWAITING_APPROVAL, JobStatus.READY): "Approved, and in the queue",
    (JobStatus.AWAITING_APPROVAL, JobStatus.FAILED): "Not approved",
    (JobStatus.ACTIVE, JobStatus.READY): "Back in the queue",
    (JobStatus.PREPARING, JobStatus.FAILED): "Could not be sliced",
}
_PRINT_WORDS: dict[tuple[str, str], str] = {
    ("", PrintStatus.UPLOADING): "Got a printer",
    (PrintStatus.UPLOADING, PrintStatus.STARTING): "Sent, and told to start",
    (PrintStatus.UPLOADING, PrintStatus.FAILED): "Could not be sent",
    (PrintStatus.STARTING, PrintStatus.PRINTING): "Printing began",
    (PrintStatus.STARTING, PrintStatus.FAILED): "Did not start",
    (PrintStatus.PAUSED, PrintStatus.PRINTING): "Resumed",
    (PrintStatus.UNKNOWN, PrintStatus.PRINTING): "Seen printing again",
    (PrintStatus.STARTING, PrintStatus.UNKNOWN): "Unclear whether it started",
}
_CAUSES = {"submitted": "Submitted", "put on hold": "Put on hold", "hold ended": "Hold ended"}


def tells(event: JobEvent, copies: int) -> bool:
    """Whether it says something new: a job becomes active because a print of it begins, and a job of one copy ends
    because its print does; those have events of their own."""
    if event.print_id is not None:
        return True
    if event.new == JobStatus.ACTIVE and event.old != JobStatus.ACTIVE:
        return False
    return not (event.old == JobStatus.ACTIVE and event.new in PRINT_TERMINAL and copies == 1)


def what_happened(event: JobEvent) -> str | None:
    """In plain words; None: the new status says it."""
    if event.cause in _CAUSES:
        return _CAUSES[event.cause]
    return (_PRINT_WORDS if event.print_id else _JOB_WORDS).get((event.old, event.new))
