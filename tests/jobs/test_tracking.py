from __future__ import annotations

import pytest

from jobs.states import PRINT_STARTED, PRINT_TERMINAL, PRINT_TRANSITIONS, PrintStatus
from jobs.tracking import Step, lost, next_step
from printers.drivers.base import Ended, LiveJob, Outcome, PrinterState, PrinterStatus

OURS, OTHER = "farm/bracket-1a2b.gcode", "gift.gcode"
P, S = PrintStatus, PrinterStatus


def state(
    status: PrinterStatus, job: str | None = None, ended: str | None = None, outcome: Outcome = Outcome.COMPLETED
) -> PrinterState:
    return PrinterState(
        status=status,
        job=LiveJob(file=job, progress=0.5) if job else None,
        ended=Ended(file=ended, outcome=outcome, reason="so it was") if ended else None,
    )


def step_to(status: PrintStatus, said: PrinterState, path: str = OURS) -> PrintStatus | None:
    step = next_step(status, path, said)
    return step.status if step else None


@pytest.mark.parametrize(
    ("status", "shown", "then"),
    [
        (P.STARTING, S.PRINTING, P.PRINTING),
        (P.STARTING, S.BUSY, P.PRINTING),  # heating, homing: it took the file
        (P.STARTING, S.PAUSED, P.PAUSED),
        (P.PRINTING, S.PRINTING, None),
        (P.PRINTING, S.BUSY, None),
        (P.PRINTING, S.PAUSED, P.PAUSED),
        (P.PAUSED, S.PAUSED, None),
        (P.PAUSED, S.BUSY, None),  # resuming or cancelling
        (P.PAUSED, S.PRINTING, P.PRINTING),
        (P.UNKNOWN, S.PRINTING, P.PRINTING),
        (P.UNKNOWN, S.BUSY, P.PRINTING),
        (P.UNKNOWN, S.PAUSED, P.PAUSED),
    ],
)
def test_it_follows_the_machine_that_works_on_our_file(
    status: PrintStatus, shown: PrinterStatus, then: PrintStatus | None
) -> None:
    assert step_to(status, state(shown, job=OURS)) == then


@pytest.mark.parametrize("status", PRINT_STARTED)
@pytest.mark.parametrize(
    ("outcome", "then"),
    [(Outcome.COMPLETED, P.COMPLETED), (Outcome.FAILED, P.FAILED), (Outcome.CANCELLED, P.CANCELLED)],
)
def test_the_printers_record_of_our_file_ends_the_print(
    status: PrintStatus, outcome: Outcome, then: PrintStatus
) -> None:
    said = state(S.IDLE, ended=OURS, outcome=outcome)
    assert next_step(status, OURS, said) == Step(status=then, message="so it was")


def test_the_record_counts_even_while_the_machine_prints_something_else_already() -> None:
    assert step_to(P.PRINTING, state(S.PRINTING, job=OTHER, ended=OURS)) == P.COMPLETED


@pytest.mark.parametrize("status", PRINT_STARTED)
@pytest.mark.parametrize("shown", PrinterStatus)
def test_a_machine_that_names_no_file_or_another_one_proves_nothing(status: PrintStatus, shown: PrinterStatus) -> None:
    assert step_to(status, state(shown)) is None
    assert step_to(status, state(shown, job=OTHER)) is None
    assert step_to(status, state(shown, ended=OTHER)) is None


@pytest.mark.parametrize("shown", [S.OFFLINE, S.CONNECTING, S.IDLE, S.ERROR])
def test_a_file_that_is_only_selected_is_not_being_printed(shown: PrinterStatus) -> None:
    assert step_to(P.STARTING, state(shown, job=OURS)) is None


@pytest.mark.parametrize("status", [P.UPLOADING, *PRINT_TERMINAL])
def test_nothing_moves_a_print_that_was_not_started_or_has_ended(status: PrintStatus) -> None:
    assert step_to(status, state(S.PRINTING, job=OURS)) is None
    assert step_to(status, state(S.IDLE, ended=OURS)) is None


def test_a_print_without_a_file_on_the_printer_matches_nothing() -> None:
    nameless = PrinterState(status=S.IDLE, ended=Ended(file="", outcome=Outcome.FAILED))
    assert step_to(P.STARTING, nameless, path="") is None


@pytest.mark.parametrize("status", PRINT_STARTED)
@pytest.mark.parametrize("shown", PrinterStatus)
@pytest.mark.parametrize("job", [None, OURS, OTHER])
@pytest.mark.parametrize("ended", [None, OURS, OTHER])
def test_every_step_is_in_the_table_and_a_print_is_never_both_moved_and_lost(
    status: PrintStatus, shown: PrinterStatus, job: str | None, ended: str | None
) -> None:
    said = state(shown, job, ended)
    step = next_step(status, OURS, said)
    assert step is None or step.status in PRINT_TRANSITIONS[status]
    assert not (step and lost(status, OURS, said))


@pytest.mark.parametrize(
    ("said", "is_lost"),
    [
        (state(S.IDLE), True),
        (state(S.ERROR), True),
        (state(S.IDLE, ended=OTHER), True),
        (state(S.PRINTING, job=OTHER), True),
        (state(S.PAUSED, job=OTHER), True),
        (state(S.PRINTING, job=OURS), False),
        (state(S.BUSY), False),
        (state(S.OFFLINE), False),
        (state(S.CONNECTING), False),
        (state(S.IDLE, ended=OURS), False),
    ],
)
def test_a_print_is_lost_when_its_printer_answers_and_knows_nothing_of_it(said: PrinterState, is_lost: bool) -> None:
    assert lost(P.PRINTING, OURS, said) is is_lost
    if said.job is None or said.job.file != OURS:
        assert lost(P.UNKNOWN, OURS, said) is is_lost


def test_a_start_under_way_is_not_lost() -> None:
    assert not lost(P.STARTING, OURS, state(S.IDLE))
