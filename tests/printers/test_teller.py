"""What a bridge tells Redis and those who show printers: what, in which order, how often, and after which faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from printers import history, telemetry, teller
from printers.drivers.base import Ended, LiveJob, Outcome, PrinterState, PrinterStatus, Temperature
from printers.teller import Teller
from printers.tenure import Tenure
from tests.work import endless

IDLE = PrinterState(status=PrinterStatus.IDLE)
PRINTING = PrinterState(status=PrinterStatus.PRINTING, job=LiveJob(file="a.gcode", progress=0.25))


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_790_000_000.0


class Listener:
    """Somebody who shows printers."""

    def __init__(self) -> None:
        self._channel = telemetry.client().pubsub(ignore_subscribe_messages=True)
        self._channel.subscribe(telemetry.LIVE)
        self._channel.get_message(timeout=30)  # the subscription

    def close(self) -> None:
        self._channel.close()

    def next(self) -> dict[str, Any]:
        """The next message; fails after half a minute without one."""
        for _ in range(30):
            message = self._channel.get_message(timeout=1.0)
            if message:
                told: dict[str, Any] = orjson.loads(message["data"])
                return told
        raise AssertionError("nothing was told")

    def all(self) -> list[dict[str, Any]]:
        """Everything up to now: Redis keeps the order, so what we say ourselves comes last."""
        telemetry.client().publish(telemetry.LIVE, b'{"end":true}')
        told = []
        while "end" not in (message := self.next()):
            told.append(message)
        return told


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(teller, "time", clock)
    return clock


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def bridge(clock: Clock) -> Teller:
    """Its thread is the test."""
    return Teller(endless())


@pytest.fixture
def printer() -> UUID:
    return uuid4()


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Takes Redis away, and brings it back."""
    really = {name: getattr(telemetry, name) for name in ("put_all", "refresh_all")}

    def broken(*_: object) -> list[Any]:
        raise RedisConnectionError("away")

    def switch(gone: bool) -> None:
        for name, works in really.items():
            monkeypatch.setattr(telemetry, name, broken if gone else works)

    return switch


def warm(degrees: float, state: PrinterState = IDLE) -> PrinterState:
    return replace(state, temperatures={"bed": Temperature(actual=degrees, target=60.0)})


def shown(printer: UUID) -> PrinterState | None:
    snapshot = telemetry.read([printer]).get(printer)
    return snapshot.state if snapshot else None


# -- what


def test_a_state_is_stored_and_told_with_its_version(bridge: Teller, listener: Listener, printer: UUID) -> None:
    voice = bridge.voice(printer, fence=7)
    ended = Ended(file="b.gcode", outcome=Outcome.COMPLETED)
    bridge.tell(voice, replace(PRINTING, ended=ended), urgent=True)
    bridge.flush()
    stored = telemetry.read([printer])[printer]
    assert stored.state == replace(PRINTING, ended=ended)
    assert (stored.fence, stored.n) == (7, voice.n)
    state = telemetry.to_json(PRINTING)
    assert listener.all() == [{"states": {str(printer): {"fence": 7, "n": voice.n, "state": state}}}]


def test_many_printers_are_told_in_one_message(bridge: Teller, listener: Listener) -> None:
    printers = [uuid4() for _ in range(telemetry.CHUNK + 1)]
    for each in printers:
        bridge.tell(bridge.voice(each, 1), IDLE, urgent=True)
    bridge.flush()
    first, rest = listener.all()
    assert (len(first["states"]), len(rest["states"])) == (telemetry.CHUNK, 1)
    assert first["states"].keys() | rest["states"].keys() == {str(each) for each in printers}
    assert len(telemetry.read(printers)) == len(printers)


def test_of_several_quick_changes_the_last_is_told(bridge: Teller, listener: Listener, printer: UUID) -> None:
    voice = bridge.voice(printer, 1)
    for state in (IDLE, PRINTING, replace(PRINTING, status=PrinterStatus.PAUSED)):
        bridge.tell(voice, state, urgent=True)
    bridge.flush()
    [told] = listener.all()
    assert told["states"][str(printer)]["state"]["status"] == "paused"
    assert told["states"][str(printer)]["n"] == voice.n


@pytest.mark.parametrize(
    ("after", "differs"),
    [
        (warm(60.04), False),
        (warm(60.06), True),
        (warm(60.0, replace(IDLE, job=LiveJob(file="a", progress=0.5, elapsed_s=10.0))), True),
    ],
)
def test_numbers_are_told_only_when_people_see_a_difference(
    bridge: Teller, listener: Listener, printer: UUID, clock: Clock, after: PrinterState, differs: bool
) -> None:
    voice = bridge.voice(printer, 1)
    bridge.tell(voice, warm(60.0), urgent=True)
    bridge.flush()
    clock.now += 10
    bridge.tell(voice, after)
    bridge.flush()
    assert len(listener.all()) == 1 + differs


def test_progress_and_times_are_as_fine_as_a_bar_and_a_clock_show() -> None:
    def job(**numbers: float) -> bytes:
        return telemetry.live_json(replace(PRINTING, job=LiveJob(**{"file": "a", "progress": 0.5} | numbers)))  # type: ignore[arg-type]

    assert job(progress=0.5004) == job() != job(progress=0.501)
    assert job(elapsed_s=60.1, left_s=9.4) == job(elapsed_s=60.0, left_s=9.0) != job(elapsed_s=61.0, left_s=9.0)


# -- when


def test_numbers_are_told_twice_a_second_at_most(
    bridge: Teller, listener: Listener, printer: UUID, clock: Clock
) -> None:
    voice = bridge.voice(printer, 1)
    for n in range(100):
        bridge.tell(voice, warm(20.0 + n))
        bridge.flush()
        clock.now += 0.1
    clock.now += 1
    bridge.flush()
    told = listener.all()
    assert 18 <= len(told) <= 2 * 10 + 2
    last = told[-1]["states"][str(printer)]["state"]
    assert last["temperatures"]["bed"]["actual"] == 119.0, "the last one, too"


def test_a_change_that_matters_does_not_wait_for_numbers(
    bridge: Teller, listener: Listener, printer: UUID, clock: Clock
) -> None:
    voice = bridge.voice(printer, 1)
    bridge.tell(voice, warm(20.0))
    bridge.flush()
    bridge.tell(voice, warm(21.0))
    bridge.flush()
    bridge.tell(voice, warm(22.0, PRINTING), urgent=True)
    bridge.flush()
    statuses = [told["states"][str(printer)]["state"]["status"] for told in listener.all()]
    assert statuses == ["idle", "printing"]


def test_the_thread_tells_at_once_what_matters(
    listener: Listener, printer: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teller, "TICK", 3600.0)
    bridge = Teller(endless())
    bridge.start()
    bridge.tell(bridge.voice(printer, 1), IDLE, urgent=True)
    assert str(printer) in listener.next()["states"]
    bridge.close()


def test_the_database_hears_of_it_when_it_can_be_read(bridge: Teller, printer: UUID) -> None:
    voice, readable = bridge.voice(printer, 1), list[PrinterState | None]()
    for state in (IDLE, PRINTING):
        bridge.tell(voice, state, urgent=True, then=lambda: readable.append(shown(printer)))
    assert readable == []
    bridge.flush()
    assert readable == [PRINTING, PRINTING]


# -- signs of life


def test_every_few_seconds_all_are_said_to_live(
    bridge: Teller, listener: Listener, printer: UUID, clock: Clock
) -> None:
    silent, offline = uuid4(), uuid4()
    voices = {each: bridge.voice(each, 3) for each in (printer, silent, offline)}
    for voice in voices.values():
        voice.heard_at = clock.now
        bridge.tell(voice, IDLE, urgent=True)
    bridge.flush()
    clock.now += 20
    voices[printer].heard_at = clock.now - 1.25
    voices[offline].heard_at = None
    bridge.refresh()
    heard = listener.all()[-1]["heard"]
    assert heard == {
        str(printer): [3, voices[printer].n, 1.2],
        str(silent): [3, voices[silent].n, 20.0],
        str(offline): [3, voices[offline].n, 0.0],
    }
    ages = {key: snapshot.stale for key, snapshot in telemetry.read(list(voices)).items()}
    assert ages == {printer: False, silent: True, offline: False}


def test_the_version_said_with_a_sign_of_life_is_the_one_that_was_told(
    bridge: Teller, listener: Listener, printer: UUID, clock: Clock
) -> None:
    """Else every viewer would believe that it missed the numbers that nobody told."""
    voice = bridge.voice(printer, 3)
    bridge.tell(voice, warm(20.0), urgent=True)
    bridge.flush()
    told = voice.n
    bridge.tell(voice, warm(20.01))
    bridge.flush()
    clock.now += 5
    bridge.refresh()
    assert listener.all()[-1]["heard"][str(printer)][:2] == [3, told]


def test_the_heat_of_those_who_were_heard_is_noted_for_the_charts(
    bridge: Teller, printer: UUID, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, cold = uuid4(), uuid4()
    for each, state, age in ((printer, warm(205.0), 1.0), (silent, warm(205.0), 60.0), (cold, IDLE, 1.0)):
        voice = bridge.voice(each, 3)
        voice.heard_at = clock.now - age
        bridge.tell(voice, state, urgent=True)
    bridge.flush()
    bridge.refresh()
    monkeypatch.setattr(history, "time", clock)
    assert [sample.heat["bed"].actual for sample in history.read(printer)] == [205.0]
    assert history.read(silent) == history.read(cold) == []


# -- faults


def test_a_redis_that_lost_everything_gets_it_again(
    bridge: Teller, listener: Listener, printer: UUID, clock: Clock
) -> None:
    voice = bridge.voice(printer, 1)
    bridge.tell(voice, PRINTING, urgent=True)
    bridge.flush()
    telemetry.forget(printer)
    bridge.refresh()
    bridge.flush()
    assert shown(printer) == PRINTING
    assert [list(told) for told in listener.all()] == [["states"], ["states"]]


def test_a_redis_that_is_away_loses_nothing_and_holds_nothing_up(
    bridge: Teller, printer: UUID, away: Callable[[bool], None], clock: Clock
) -> None:
    voice, written = bridge.voice(printer, 1), list[str]()
    away(True)
    bridge.tell(voice, IDLE, urgent=True, then=lambda: written.append("idle"))
    bridge.flush()
    bridge.refresh()
    bridge.tell(voice, PRINTING, urgent=True, then=lambda: written.append("printing"))
    bridge.flush()
    assert written == ["idle", "printing"], "the database does not wait for Redis"
    away(False)
    assert shown(printer) is None
    bridge.flush()
    assert shown(printer) == PRINTING
    assert written == ["idle", "printing"]


def test_what_waited_for_redis_is_as_old_as_it_is(
    bridge: Teller, printer: UUID, away: Callable[[bool], None], clock: Clock
) -> None:
    voice = bridge.voice(printer, 1)
    voice.heard_at = clock.now
    away(True)
    bridge.tell(voice, IDLE, urgent=True)
    bridge.flush()
    away(False)
    clock.now += 60
    bridge.flush()
    assert telemetry.read([printer])[printer].age >= 60


def test_only_what_was_stored_is_told(bridge: Teller, listener: Listener, printer: UUID) -> None:
    """Another bridge has the lease: nobody hears this one any longer."""
    telemetry.put(printer, 8, 1, PRINTING)
    bridge.tell(bridge.voice(printer, 7), IDLE, urgent=True)
    bridge.flush()
    bridge.refresh()
    assert shown(printer) == PRINTING
    assert [told["states"][str(printer)]["fence"] for told in listener.all()] == [8]


def test_a_bridge_that_thaws_too_late_tells_nothing(listener: Listener, printer: UUID) -> None:
    frozen = Tenure(clock=lambda: now)
    now = 100.0
    frozen.renewed(now, ttl=6.0)
    bridge, written = Teller(frozen), list[str]()
    voice = bridge.voice(printer, 1)
    bridge.tell(voice, IDLE, urgent=True)
    bridge.flush()
    bridge.tell(voice, PRINTING, urgent=True, then=lambda: written.append("asked"))
    now += 6.0
    bridge.flush()
    bridge.refresh()
    assert shown(printer) == IDLE
    assert len(listener.all()) == 1
    assert written == ["asked"], "the database decides for itself"


def test_what_could_not_be_told_for_a_moment_is_told_when_the_leases_were_renewed_after_all(printer: UUID) -> None:
    now = 100.0
    tenure = Tenure(clock=lambda: now)
    bridge = Teller(tenure)
    bridge.tell(bridge.voice(printer, 1), IDLE, urgent=True)
    bridge.flush()
    assert shown(printer) is None
    tenure.renewed(now, ttl=6.0)
    bridge.flush()
    assert shown(printer) == IDLE


def test_a_printer_that_was_given_back_is_not_spoken_of(
    bridge: Teller, listener: Listener, printer: UUID, clock: Clock
) -> None:
    voice, written = bridge.voice(printer, 1), list[str]()
    bridge.tell(voice, IDLE, urgent=True, then=lambda: written.append("before"))
    bridge.drop(voice)
    bridge.tell(voice, PRINTING, urgent=True, then=lambda: written.append("after"))
    bridge.flush(everything=True)
    bridge.refresh()
    assert listener.all() == []
    assert written == ["before", "after"]


def test_a_lease_that_came_back_is_not_silenced_by_the_one_before(bridge: Teller, printer: UUID) -> None:
    old = bridge.voice(printer, 1)
    new = bridge.voice(printer, 2)
    bridge.drop(old)
    bridge.tell(old, PRINTING, urgent=True)
    bridge.tell(new, IDLE, urgent=True)
    bridge.flush()
    assert shown(printer) == IDLE


def test_one_write_that_stumbles_does_not_keep_the_others(bridge: Teller, printer: UUID) -> None:
    voice, written = bridge.voice(printer, 1), list[str]()
    bridge.tell(voice, IDLE, urgent=True, then=lambda: math.sqrt(-1))
    bridge.tell(voice, PRINTING, urgent=True, then=lambda: written.append("printing"))
    bridge.flush()
    assert written == ["printing"]
