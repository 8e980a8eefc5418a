"""How jobs and prints are called, coloured and marked for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.models import Job
from jobs.states import JobStatus, PrintStatus


@dataclass(frozen=True, slots=True)
class Look:
    """A word, a colour and a shape (of static/icons.svg): nobody needs to tell colours apart."""

    word: str
    tone: str
    icon: str


_ENDS = {
    "completed": Look("Completed", "green", "check"),
    "failed": Look("Failed", "red", "cross"),
    "cancelled": Look("Cancelled", "grey", "stop"),
}
_PRINTS: dict[str, Look] = {
    PrintStatus.UPLOADING: Look("Sending to the printer", "blue", "submit"),
    PrintStatus.STARTING: Look("Starting", "blue", "play"),
    PrintStatus.PRINTING: Look("Printing", "blue", "play"),
    PrintStatus.PAUSED: Look("Paused", "amber", "pause"),
    PrintStatus.UNKNOWN: Look("Unclear", "amber", "warning"),
    **_ENDS,
}
_JOBS: dict[str, Look] = {
    JobStatus.PREPARING: Look("Slicing", "blue", "tool"),
    JobStatus.AWAITING_APPROVAL: Look("Awaits approval", "amber", "waiting"),
    JobStatus.READY: Look("Waiting", "violet", "waiting"),
    JobStatus.ACTIVE: Look("Printing", "blue", "play"),
    **_ENDS,
}


def print_look(status: str) -> Look:
    return _PRINTS[status]


def job_look(job: Job | None, status: str) -> Look:
    """``status`` as services.shown_status: with one copy it may be a print's."""
    if job is not None and job.hold and status == JobStatus.READY:
        return Look("On hold", "grey", "pause")
    return _JOBS.get(status) or _PRINTS[status]
