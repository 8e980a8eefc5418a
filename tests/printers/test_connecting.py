"""Places for those who connect."""

from __future__ import annotations

import threading

import pytest

from printers import connecting
from printers.connecting import Connecting

NEVER = threading.Event()


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(connecting, "time", clock)
    return clock


def waiting(places: Connecting, stop: threading.Event = NEVER) -> threading.Event:
    """Somebody else wants a place; set when they have it."""
    inside = threading.Event()

    def want() -> None:
        places.enter(stop)
        inside.set()

    threading.Thread(target=want, daemon=True).start()
    return inside


def test_so_many_connect_at_once_and_the_next_when_one_is_done(clock: Clock) -> None:
    places = Connecting(places=2)
    first = places.enter(NEVER)
    places.enter(NEVER)
    assert not places._free()
    next_one = waiting(places)
    places.leave(first)
    assert next_one.wait(30)
    assert not places._free()


def test_one_that_hangs_keeps_nobody_waiting_for_long(clock: Clock) -> None:
    places = Connecting(places=1, hold=1.0)
    hanging = places.enter(NEVER)
    assert not places._free()
    next_one = waiting(places)
    clock.now += 1.0
    assert next_one.wait(30)
    places.leave(hanging)
    assert not places._free(), "the place is the other's now"


def test_one_whose_server_has_answered_keeps_its_place_until_it_is_done(clock: Clock) -> None:
    """Else all would wait for the database at once."""
    places = Connecting(places=1, hold=1.0)
    place = places.enter(NEVER)
    places.keep(place)
    clock.now += 3600
    assert not places._free()
    places.leave(place)
    assert places._free()
    places.keep(place)
    assert places._free(), "it has none any more"


def test_a_place_is_left_once(clock: Clock) -> None:
    places = Connecting(places=1)
    place = places.enter(NEVER)
    places.leave(place)
    places.enter(NEVER)
    places.leave(place)
    assert not places._free()


def test_who_is_told_to_stop_waits_no_longer(clock: Clock) -> None:
    places, stop = Connecting(places=1, hold=0.1), threading.Event()
    places.enter(NEVER)
    one = waiting(places, stop)
    stop.set()
    assert one.wait(30)
