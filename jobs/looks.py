"""How jobs and prints are called and coloured for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.models import Job
from jobs.states import JobStatus, PrintStatus


@dataclass(frozen=True, slots=True)
class Look:
    word: str
    tone: str


_ENDS = {
    "completed": Look("Completed", "green"),
    "failed": Look("Failed", "red"),
    "cancelled": Look("Cancelled", "grey"),
}
_PRINTS: dict[str, Look] = {
    PrintStatus.UPLOADING: Look("Sending to the printer", "blue"),
    PrintStatus.STARTING: Look("Starting", "blue"),
    PrintStatus.PRINTING: Look("Printing", "blue"),
    PrintStatus.PAUSED: Look("Paused", "amber"),
    PrintStatus.UNKNOWN: Look("Unclear", "amber"),
    **_ENDS,
}
_JOBS: dict[str, Look] = {
    JobStatus.PREPARING: Look("Slicing", "blue"),
    JobStatus.AWAITING_APPROVAL: Look("Awaits approval", "amber"),
    JobStatus.READY: Look("Waiting", "violet"),
    JobStatus.ACTIVE: Look("Printing", "blue"),
    **_ENDS,
}


def print_look(status: str) -> Look:
    return _PRINTS[status]


def job_look(job: Job | None, status: str) -> Look:
    """``status`` as services.shown_status: with one copy it may be a print's."""
    if job is not None and job.hold and status == JobStatus.READY:
        return Look("On hold", "grey")
    return _JOBS.get(status) or _PRINTS[status]
