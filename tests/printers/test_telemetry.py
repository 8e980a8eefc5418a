"""The newest state of every printer: what counts as newer, and how old it is."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from printers import telemetry
from printers.drivers.base import Ended, LiveJob, Outcome, PrinterState, PrinterStatus, Temperature
from printers.telemetry import Snapshot

IDLE = PrinterState(status=PrinterStatus.IDLE)
PRINTING = PrinterState(status=PrinterStatus.PRINTING, job=LiveJob(file="a.gcode", progress=0.25))


@pytest.fixture
def printer() -> UUID:
    """Nobody has heard of it yet."""
    return uuid4()


def shown(printer: UUID) -> PrinterState:
    return telemetry.read([printer])[printer].state


def aged(printer: UUID, seconds: float) -> Snapshot:
    """As it is read that much later."""
    key = f"farm:printer:{printer}"
    said = float(telemetry.client().hget(key, "at") or 0)
    telemetry.client().hset(key, "at", str(said - seconds))
    return telemetry.read([printer])[printer]


def test_a_state_comes_back_as_it_was_said(printer: UUID) -> None:
    state = PrinterState(
        status=PrinterStatus.PAUSED,
        message="Filament ran out – lösen",
        temperatures={"tool0": Temperature(actual=None, target=210.0), "bed": Temperature(actual=59.5, target=60.0)},
        job=LiveJob(file="jobs/été.gcode", progress=0.5, elapsed_s=60.0, left_s=None),
        ended=Ended(
            file="b.gcode", outcome=Outcome.FAILED, reason="too hot", mark="7", filament_mm=1.5, duration_s=9.0
        ),
    )
    assert telemetry.put(printer, 1, 1, state)
    assert shown(printer) == state


@pytest.mark.parametrize(
    ("fence", "version", "counts"),
    [
        (5, 101, True),  # the next word of the same bridge
        (5, 100, False),  # the same word again
        (5, 99, False),  # one that was overtaken
        (6, 1, True),  # the first word of the bridge that has the lease now
        (4, 500, False),  # a bridge that lost its lease, however much it has to say
    ],
)
def test_only_what_is_newer_counts(printer: UUID, fence: int, version: int, counts: bool) -> None:
    assert telemetry.put(printer, 5, 100, IDLE)
    assert telemetry.put(printer, fence, version, PRINTING) is counts
    assert shown(printer) == (PRINTING if counts else IDLE)


def test_big_fences_and_versions_are_numbers_and_not_words(printer: UUID) -> None:
    """ "9" sorts behind "10", and versions are milliseconds since 1970."""
    now = 1_790_000_000_000
    assert telemetry.put(printer, 9, now, IDLE)
    assert telemetry.put(printer, 10, now, PRINTING)
    assert not telemetry.put(printer, 9, now + 1, IDLE)
    assert telemetry.put(printer, 10, now + 1, IDLE)


def test_what_came_too_late_does_not_make_a_state_look_fresh(printer: UUID) -> None:
    telemetry.put(printer, 5, 100, IDLE)
    assert aged(printer, 20).stale
    assert not telemetry.put(printer, 4, 101, IDLE)
    assert telemetry.read([printer])[printer].stale


def test_a_state_is_stale_after_15_seconds_of_silence(printer: UUID) -> None:
    telemetry.put(printer, 1, 1, IDLE)
    assert telemetry.STALE_AFTER == 15
    assert Snapshot(state=IDLE, age=15.0).idle
    assert not Snapshot(state=IDLE, age=15.1).idle
    fresh, old = telemetry.read([printer])[printer], aged(printer, 3600)
    assert 0 <= fresh.age < old.age
    assert old.age == pytest.approx(3600 + fresh.age, abs=60)
    assert old.stale


def test_a_sign_of_life_makes_it_fresh_again(printer: UUID) -> None:
    telemetry.put(printer, 1, 1, IDLE)
    assert aged(printer, 3600).stale
    telemetry.put(printer, 1, 2, IDLE)
    assert telemetry.read([printer])[printer].age < 1800


@pytest.mark.parametrize("status", PrinterStatus)
def test_only_an_idle_printer_would_take_a_start(status: PrinterStatus) -> None:
    assert Snapshot(state=PrinterState(status=status), age=1.0).idle is (status is PrinterStatus.IDLE)


def test_many_are_read_at_once_and_unknown_ones_are_left_out(printer: UUID) -> None:
    other, unknown = uuid4(), uuid4()
    telemetry.put(printer, 1, 1, IDLE)
    telemetry.put(other, 1, 1, PRINTING)
    found = telemetry.read([printer, unknown, other])
    assert {key: snapshot.state for key, snapshot in found.items()} == {printer: IDLE, other: PRINTING}
    assert telemetry.read([]) == {}


def test_a_forgotten_printer_begins_anew(printer: UUID) -> None:
    telemetry.put(printer, 9, 9, PRINTING)
    telemetry.forget(printer)
    assert telemetry.read([printer]) == {}
    assert telemetry.put(printer, 1, 1, IDLE)
