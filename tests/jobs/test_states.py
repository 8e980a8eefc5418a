from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

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

Table = Mapping[Any, Mapping[Any, str]]
Statuses = type[JobStatus] | type[PrintStatus]
BOTH: list[tuple[Statuses, Table, str, tuple[str, ...]]] = [
    (JobStatus, JOB_TRANSITIONS, JobStatus.PREPARING, JOB_TERMINAL),
    (PrintStatus, PRINT_TRANSITIONS, PrintStatus.UPLOADING, PRINT_TERMINAL),
]
both = pytest.mark.parametrize(("statuses", "table", "first", "terminal"), BOTH, ids=["job", "print"])


def reached_from(status: str, table: Table) -> set[str]:
    found = {status}
    while more := {new for old in found for new in table[old]} - found:
        found |= more
    return found


@both
def test_every_status_has_a_row_and_every_way_has_a_cause(
    statuses: Statuses, table: Table, first: str, terminal: tuple[str, ...]
) -> None:
    assert set(table) == set(statuses)
    for ways in table.values():
        assert set(ways) <= set(statuses)
        assert all(ways.values())


@both
def test_every_status_can_be_reached_and_none_is_a_trap(
    statuses: Statuses, table: Table, first: str, terminal: tuple[str, ...]
) -> None:
    assert reached_from(first, table) == set(statuses)
    for status in statuses:
        assert reached_from(status, table) & set(terminal)


@both
def test_the_end_is_the_end(statuses: Statuses, table: Table, first: str, terminal: tuple[str, ...]) -> None:
    assert {status for status, ways in table.items() if not ways} == set(terminal)


@both
def test_every_open_status_can_fail_and_be_cancelled(
    statuses: Statuses, table: Table, first: str, terminal: tuple[str, ...]
) -> None:
    for status in set(statuses) - set(terminal):
        assert {"failed", "cancelled"} <= set(table[status])


def test_live_and_ended_prints_are_all_prints() -> None:
    assert {*PRINT_LIVE, *PRINT_TERMINAL} == set(PrintStatus)
    assert not set(PRINT_LIVE) & set(PRINT_TERMINAL)
    assert set(PRINT_LIVE) - set(PRINT_STARTED) == {PrintStatus.UPLOADING}
    assert not set(JOB_QUEUED) & set(JOB_TERMINAL)


def test_a_print_that_may_have_started_never_goes_back_to_before_its_start() -> None:
    for status in PRINT_STARTED:
        assert PrintStatus.UPLOADING not in reached_from(status, PRINT_TRANSITIONS) - {status}
        assert PrintStatus.STARTING not in reached_from(status, PRINT_TRANSITIONS) - {status}


def test_an_unclear_start_is_the_only_way_to_unknown() -> None:
    ways = {old for old, row in PRINT_TRANSITIONS.items() if PrintStatus.UNKNOWN in row}
    assert ways == {PrintStatus.STARTING}
