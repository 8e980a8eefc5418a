"""The many simulated printers of the bench, as the farm's own driver meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event, Timer

import pytest

from printers.drivers.base import PrinterState, PrinterStatus
from printers.drivers.octoprint import OctoPrintDriver
from printers.simulators.fleet import TARGETS
from tests.peers import FleetPeer, wait_for

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[FleetPeer]:
    with FleetPeer(3) as peer:
        yield peer


def driver_of(fleet: FleetPeer, n: int) -> OctoPrintDriver:
    return OctoPrintDriver(fleet.printers[n]["url"], fleet.printers[n]["api_key"])


def states_until(driver: OctoPrintDriver, fits: Callable[[list[PrinterState]], bool]) -> list[PrinterState]:
    """What the driver's live connection says, until ``fits`` or the deadline."""
    stop, heard = Event(), list[PrinterState]()
    timer = Timer(DEADLINE_S, stop.set)
    timer.start()
    try:
        with closing(driver.stream(stop)) as states:  # type: ignore[type-var] # a generator, so it has close()
            for state in states:
                heard.append(state)
                if fits(heard):
                    return heard
    finally:
        timer.cancel()
    raise AssertionError(f"not heard; the last were {heard[-3:]}")


def test_the_driver_sees_a_print_with_moving_temperatures_and_progress(fleet: FleetPeer) -> None:
    def both_moved(heard: list[PrinterState]) -> bool:
        first, last = heard[0], heard[-1]
        moved = first.job is not None and last.job is not None and last.job.progress > first.job.progress
        return moved and len({state.temperatures["tool0"].actual for state in heard if state.temperatures}) > 2

    last = states_until(driver_of(fleet, 0), both_moved)[-1]
    assert last.status is PrinterStatus.PRINTING
    assert last.job is not None
    assert last.job.left_s is not None
    assert {name: heater.target for name, heater in last.temperatures.items()} == TARGETS


def test_a_printer_is_who_it_says(fleet: FleetPeer) -> None:
    assert driver_of(fleet, 1).identify().name == fleet.printers[1]["name"] == "Fleet 0002"
    assert len({printer["url"] for printer in fleet.printers}) == 3


def test_messages_are_as_big_as_real_ones(fleet: FleetPeer) -> None:
    fleet.report()
    states_until(driver_of(fleet, 2), lambda heard: len(heard) > 4)
    report = fleet.report()
    assert report["messages"] >= 3
    assert 1000 < report["bytes"] / report["messages"] < 1500


def test_every_change_of_state_is_reported_with_its_moment_and_seen_by_the_driver(fleet: FleetPeer) -> None:
    paused: list[int] = []

    def one_is_paused() -> bool:
        paused.extend(n for n, status, _ in fleet.report()["changes"] if status == "paused")
        return bool(paused)

    fleet.change_state(100.0)
    wait_for("a pause", one_is_paused, DEADLINE_S)
    fleet.change_state(0.0)
    paused_n = paused[0]
    with_pauses = states_until(driver_of(fleet, paused_n), lambda heard: heard[-1].status is PrinterStatus.PAUSED)
    assert with_pauses[-1].job is not None
    assert fleet.report()["statuses"][paused_n] == "paused"


def test_it_tells_when_its_live_connection_was_logged_in() -> None:
    with FleetPeer(2) as fleet:
        assert fleet.report()["connected"] == [None, None]
        states_until(driver_of(fleet, 1), lambda heard: True)
        first, second = fleet.report()["connected"]
    assert first is None
    assert second is not None
