from __future__ import annotations

import pytest

from jobs.models import Job, JobEvent, Print
from jobs.stages import stages_of, tells, what_happened
from jobs.states import JobStatus
from slicing.models import Model3D


def job(status: str, model: bool = True) -> Job:
    return Job(status=status, model=Model3D() if model else None)


def way(row: Job, status: str = "", prints: list[Print] | None = None, seen: tuple[str, ...] = ()) -> str:
    """The words of what is done, then [what is now], then what is ahead."""
    stages = stages_of(row, prints or [], status or row.status, seen)
    return " ".join(stage.word if stage.state in ("done", "ahead") else f"[{stage.word}]" for stage in stages)


@pytest.mark.parametrize(
    ("status", "shown", "expected"),
    [
        ("preparing", "", "Uploaded [Slicing] Waiting Sending Printing Done"),
        ("ready", "", "Uploaded Sliced [Waiting] Sending Printing Done"),
        ("active", "uploading", "Uploaded Sliced Got a printer [Sending] Printing Done"),
        ("active", "starting", "Uploaded Sliced Got a printer Sent [Printing] Done"),
        ("active", "paused", "Uploaded Sliced Got a printer Sent [Printing] Done"),
        ("active", "active", "Uploaded Sliced Got a printer Sent [Printing] Done"),
        ("completed", "", "Uploaded Sliced Got a printer Sent Printed Done"),
    ],
)
def test_a_job_is_at_one_stage_of_its_way(status: str, shown: str, expected: str) -> None:
    assert way(job(status), shown) == expected


def test_approval_is_a_stage_where_somebody_approves() -> None:
    asked = JobStatus.AWAITING_APPROVAL
    assert way(job(asked)) == "Uploaded Sliced [Approval] Waiting Sending Printing Done"
    assert way(job("ready"), seen=(asked,)) == "Uploaded Sliced Approved [Waiting] Sending Printing Done"


def test_gcode_is_not_sliced() -> None:
    assert way(job("ready", model=False)) == "Uploaded [Waiting] Sending Printing Done"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_job_that_was_not_completed_shows_where_it_ended(end: str) -> None:
    last = f"[{end.capitalize()}]"
    assert way(job(end)) == f"Uploaded {last} Waiting Sending Printing Done"
    assert way(job(end, model=False)) == f"Uploaded {last} Sending Printing Done"
    assert way(job(end), seen=("awaiting_approval",)) == f"Uploaded Sliced {last} Waiting Sending Printing Done"
    assert way(job(end), seen=("ready",)) == f"Uploaded Sliced {last} Sending Printing Done"
    assert way(job(end), prints=[Print()]) == f"Uploaded Sliced Got a printer {last} Printing Done"


def event(old: str, new: str, cause: str = "", of_print: bool = False) -> JobEvent:
    return JobEvent(old=old, new=new, cause=cause, print=Print() if of_print else None)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (event("", "preparing", "submitted"), "Submitted"),
        (event("ready", "ready", "put on hold"), "Put on hold"),
        (event("ready", "ready", "hold ended"), "Hold ended"),
        (event("preparing", "ready"), "Sliced, and in the queue"),
        (event("starting", "printing", of_print=True), "Printing began"),
        (event("paused", "printing", of_print=True), "Resumed"),
        (event("printing", "completed", of_print=True), None),
    ],
)
def test_what_happened_is_said_in_plain_words(row: JobEvent, said: str | None) -> None:
    assert what_happened(row) == said


def test_what_a_print_says_is_not_said_twice() -> None:
    assert not tells(event("ready", "active"), 1)
    assert not tells(event("active", "completed"), 1)
    assert tells(event("active", "completed"), 3)
    assert tells(event("active", "ready"), 1)
    assert tells(event("printing", "completed", of_print=True), 1)
    assert tells(event("active", "active", "put on hold"), 3)
