"""Printers that come and go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printers import steady
from printers.drivers.base import Ended, LiveJob, Outcome, PrinterState, PrinterStatus, Temperature
from printers.steady import Steady, hold, of_prints

IDLE = PrinterState(status=PrinterStatus.IDLE)
OFFLINE = PrinterState(status=PrinterStatus.OFFLINE, message="Nothing answers.")
CONNECTING = PrinterState(status=PrinterStatus.CONNECTING)
ERROR = PrinterState(status=PrinterStatus.ERROR, message="Thermal runaway")
PRINTING = PrinterState(status=PrinterStatus.PRINTING, job=LiveJob(file="a.gcode", progress=0.5))
PAUSED = replace(PRINTING, status=PrinterStatus.PAUSED)
DONE = replace(IDLE, ended=Ended(file="a.gcode", outcome=Outcome.COMPLETED, mark="1"))


def told(*said: tuple[float, PrinterState]) -> list[PrinterState]:
    """What is told of what was said at those moments."""
    printer = Steady()
    return [state for at, state in said if printer.shows(state, at)]


def flapping(state: PrinterState, seconds: int, other: PrinterState = OFFLINE) -> list[tuple[float, PrinterState]]:
    return [(float(at), other if at % 2 else state) for at in range(seconds)]


def test_a_few_changes_are_told_at_once() -> None:
    said = [(0.0, IDLE), (1.0, OFFLINE), (2.0, IDLE), (3.0, OFFLINE)]
    assert told(*said) == [state for _, state in said]


def test_one_that_comes_and_goes_every_second_makes_no_storm() -> None:
    assert len(told(*flapping(IDLE, 3600))) <= 3600 / steady.LAST
    assert told(*flapping(IDLE, 3601))[-1] == OFFLINE, "nobody starts a print on it"


@pytest.mark.parametrize("last", [IDLE, OFFLINE, ERROR, CONNECTING])
def test_it_always_ends_in_the_truth(last: PrinterState) -> None:
    said = [*flapping(IDLE, 600), *((600.0 + n, last) for n in range(60))]
    assert told(*said)[-1] == last


def test_the_longer_it_flaps_the_longer_it_must_stay() -> None:
    waits = [hold(IDLE, OFFLINE, IDLE, flips) for flips in (1, 4, 5, 6, 7, 8, 9, 10, 11, 60)]
    assert waits == [0, 0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_it_is_believed_again_after_a_quiet_minute() -> None:
    said = [*flapping(IDLE, 600), (600.0, IDLE), (630.0, IDLE), (700.0, OFFLINE), (701.0, IDLE)]
    assert told(*said)[-3:] == [IDLE, OFFLINE, IDLE]


def test_that_an_idle_printer_went_away_is_told_at_once() -> None:
    assert hold(OFFLINE, IDLE, IDLE, flips=60) == 0


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (IDLE, PRINTING),
        (PRINTING, PAUSED),
        (PAUSED, PRINTING),
        (PRINTING, IDLE),
        (PRINTING, DONE),
        (IDLE, DONE),
        (PRINTING, ERROR),
        (PRINTING, replace(PRINTING, job=LiveJob(file="b.gcode", progress=0.0))),
        (PRINTING, replace(OFFLINE, ended=DONE.ended)),
    ],
)
def test_what_is_said_of_prints_is_never_held_back(known: PrinterState, state: PrinterState) -> None:
    assert of_prints(state, known)
    for shown in (known, OFFLINE, CONNECTING):
        assert hold(state, shown, known, flips=60) == 0


def test_a_printer_that_was_never_heard_may_flap_too() -> None:
    assert len(told(*flapping(OFFLINE, 600, CONNECTING))) <= 6 + 600 / steady.LAST


@pytest.mark.parametrize(("known", "state"), [(PRINTING, PRINTING), (IDLE, IDLE), (PRINTING, OFFLINE), (ERROR, IDLE)])
def test_that_a_connection_broke_or_came_back_says_nothing_of_a_print(known: PrinterState, state: PrinterState) -> None:
    assert not of_prints(state, known)


def test_a_flapping_connection_during_a_print_makes_no_storm_and_the_end_is_told_at_once() -> None:
    said = [*flapping(PRINTING, 601), (601.0, OFFLINE), (602.0, DONE)]
    news = told(*said)
    assert news[-1] == DONE
    assert len(news) <= 6 + 600 / steady.LAST


def test_numbers_are_not_held_back() -> None:
    warm = replace(IDLE, temperatures={"bed": Temperature(actual=60.0, target=60.0)})
    assert hold(warm, IDLE, IDLE, flips=60) == 0


STATES = st.sampled_from([IDLE, OFFLINE, CONNECTING, ERROR, PRINTING, PAUSED, DONE])


@given(st.lists(st.tuples(st.floats(0.01, 50), STATES), min_size=1, max_size=60))
def test_whatever_happens_the_truth_is_told_at_last_and_prints_at_once(said: list[tuple[float, PrinterState]]) -> None:
    printer, now = Steady(), 0.0
    known: PrinterState | None = None
    for pause, state in said:
        now += pause
        news = of_prints(state, known)
        shown = printer.shows(state, now)
        assert printer.shown == state or not news
        if shown and state.status not in (PrinterStatus.OFFLINE, PrinterStatus.CONNECTING):
            known = state
    for _ in range(7):
        now += 5
        printer.shows(said[-1][1], now)
    assert printer.shown == said[-1][1]
