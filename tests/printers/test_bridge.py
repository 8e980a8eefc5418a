"""The farm's ear: what it makes of what machines say, of silence, and of the time in which nobody listened."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis.exceptions import RedisError

from farm.errors import Unavailable
from printers import bridge, commands, notes, services, telemetry
from printers.bridge import Bridge, LeaseOver, Means, PrinterTask, backoff, matters
from printers.connecting import Connecting
from printers.drivers.base import (
    Ended,
    Garbled,
    LiveJob,
    Outcome,
    PrinterState,
    PrinterStatus,
    Temperature,
    Unauthorised,
    Unreachable,
)
from printers.models import BedClear, Command, CommandKind, Lease, Printer
from printers.notes import Note, StateNote
from printers.teller import Teller, Then, Voice
from printers.writers import Write, Writers
from tests.cast import Cast, attempt, job, printer
from tests.machines import FakeDriver, FakeMachine, Machines
from tests.work import committed, endless, lapse

IDLE = PrinterState(status=PrinterStatus.IDLE)
GIFT = LiveJob(file="gift.gcode", progress=0.0)
THEIRS = PrinterState(status=PrinterStatus.PRINTING, job=GIFT)
BROKE = Unreachable("The connection broke.")


def done(file: str, mark: str = "1") -> Ended:
    return Ended(file=file, outcome=Outcome.COMPLETED, mark=mark)


class AtOnce(Writers):
    """Writes when it is told to, in the caller's thread; ``faults`` come first."""

    def __init__(self) -> None:
        super().__init__(threads=0)
        self.faults: list[Exception] = []

    def run(
        self, write: Write, note: Note, allowed: Callable[[], None] = lambda: None, *, first: bool = False
    ) -> Future[None]:
        written: Future[None] = Future()
        try:
            if self.faults:
                raise self.faults.pop(0)
            allowed()
            with committed():
                write([note])
            written.set_result(None)
        except Exception as fault:  # noqa: BLE001 - as the real ones do
            written.set_exception(fault)
        return written


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bridge, "time", clock)
    return clock


class TellerAtOnce(Teller):
    """Tells everything in the thread of whoever says it."""

    def tell(self, voice: Voice, state: PrinterState, *, urgent: bool = False, then: Then | None = None) -> None:
        super().tell(voice, state, urgent=urgent, then=then)
        self.flush(everything=True)


@pytest.fixture
def anvil(cast: Cast) -> Printer:
    telemetry.forget(cast.anvil.pk)
    return cast.anvil


@pytest.fixture
def machine(anvil: Printer, machines: Machines) -> FakeMachine:
    return machines[anvil]


@pytest.fixture
def task(anvil: Printer, machine: FakeMachine) -> PrinterTask:
    """A bridge has just leased Anvil, and has not connected yet."""
    return leased(anvil)


def leased(printer: Printer, holder: str = "bridge") -> PrinterTask:
    """By a new bridge, from whoever had it."""
    services.drop_leases(Lease.objects.get(printer=printer).holder, [printer.pk])
    held = dict(services.take_leases(holder, 1000))
    Lease.objects.filter(printer=printer).update(expires_at=timezone.now() + timedelta(hours=1))
    tenure = endless()
    means = Means(tenure, AtOnce(), TellerAtOnce(tenure), Connecting())
    return PrinterTask(Printer.objects.get(pk=printer.pk), held[printer], means)


def connection(
    task: PrinterTask, machine: FakeMachine, *says: PrinterState | BaseException, failures: int = 0
) -> float:
    """One connection from its beginning to its end; how long the bridge waits before the next."""
    machine.says = [*says, BROKE]
    return task._listen(failures)


def heard(printer: Printer) -> PrinterState:
    return telemetry.read([printer.pk])[printer.pk].state


def clear(printer: Printer) -> None:
    """Somebody looked at the bed: it is empty."""
    printer.refresh_from_db()
    BedClear.objects.create(printer=printer, n=printer.bed)


def is_clear(printer: Printer) -> bool:
    printer.refresh_from_db()
    return services.bed_is_clear(printer)


# -- what machines say


def test_the_newest_state_is_kept(task: PrinterTask, machine: FakeMachine) -> None:
    printing = replace(THEIRS, temperatures={"tool0": Temperature(actual=209.6, target=210.0)})
    machine.says = [IDLE, printing]
    machine.says.append(SystemExit())  # what ends a thread that nobody lets end
    with pytest.raises(SystemExit):
        task._listen(0)
    assert heard(task.printer) == printing
    assert telemetry.read([task.printer.pk])[task.printer.pk].fence == task.fence


def test_a_printer_that_has_nothing_new_to_say_still_lives(
    task: PrinterTask, machine: FakeMachine, clock: Clock
) -> None:
    def bored() -> Iterator[PrinterState]:
        yield IDLE
        n = task._voice.n
        clock.now += 60
        yield IDLE
        assert task._voice.n == n, "this is no new version"

    connection(task, machine)
    machine.says = bored()  # type: ignore[assignment]
    task.stop.set()
    task._listen(0)
    assert task._voice.age(clock.now + 1) == 1.0


def test_what_the_bridge_says_by_itself_stays_true_until_it_says_otherwise(
    task: PrinterTask, machine: FakeMachine, clock: Clock
) -> None:
    connection(task, machine, IDLE)
    clock.now += 3600
    assert task._voice.age(clock.now) == 0.0
    assert heard(task.printer).status is PrinterStatus.OFFLINE


@pytest.mark.parametrize(
    ("after", "news"),
    [
        (THEIRS, False),
        (replace(THEIRS, job=replace(GIFT, progress=0.5)), False),
        (replace(THEIRS, temperatures={"bed": Temperature(actual=60.0, target=60.0)}), False),
        (replace(THEIRS, message="Layer 3"), False),
        (replace(THEIRS, status=PrinterStatus.PAUSED), True),
        (replace(THEIRS, job=replace(GIFT, file="other.gcode")), True),
        (replace(THEIRS, job=None), True),
        (replace(THEIRS, ended=done("gift.gcode")), True),
    ],
)
def test_only_edges_matter_to_the_database(after: PrinterState, news: bool) -> None:
    assert matters(after, THEIRS) is news
    assert matters(after, None)


def test_a_broken_redis_stops_nothing(
    task: PrinterTask, machine: FakeMachine, anvil: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[bool]:
        raise RedisError("away")

    clear(anvil)
    monkeypatch.setattr(telemetry, "put_all", broken)
    connection(task, machine, IDLE, THEIRS)
    assert not is_clear(anvil)


# -- machines that do not answer


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        (Unreachable("Nothing answers at 10.0.0.5:80."), PrinterStatus.OFFLINE, "Nothing answers"),
        (Unauthorised("No."), PrinterStatus.ERROR, "API key is not accepted"),
        (Garbled("It speaks Klingon."), PrinterStatus.ERROR, "Klingon"),
        (ZeroDivisionError("a bug of ours"), PrinterStatus.ERROR, "The farm stumbled"),
    ],
)
def test_what_is_wrong_is_shown(
    task: PrinterTask, machine: FakeMachine, fault: Exception, status: PrinterStatus, message: str
) -> None:
    machine.says = [fault]
    pause = task._listen(0)
    state = heard(task.printer)
    assert state.status is status
    assert message in state.message
    assert "a bug of ours" not in state.message
    assert pause > 0
    assert machine.open_drivers == 0
    assert not task.observed.is_set()


def test_a_wrong_key_is_not_tried_again_soon(task: PrinterTask, machine: FakeMachine) -> None:
    machine.says = [Unauthorised("No.")]
    assert task._listen(0) == bridge.BACKOFF_UNAUTHORISED == 60


def test_a_credential_that_no_key_opens_is_shown(task: PrinterTask, machine: FakeMachine) -> None:
    machine.faults["open"] = Unavailable("Enter the API key again.")
    assert task._listen(0) == bridge.BACKOFF_UNAUTHORISED
    assert heard(task.printer).message == "Enter the API key again."


def test_it_waits_longer_after_every_failure_but_never_long(task: PrinterTask, machine: FakeMachine) -> None:
    assert [backoff(n, dice=lambda: 0.5) for n in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff(10**6, dice=lambda: 0.5) == 30
    assert (backoff(3, dice=lambda: 0.0), backoff(3, dice=lambda: 1.0)) == (4.0, 12.0)
    assert 15 <= connection(task, machine, failures=9) <= 45


def test_what_ended_last_is_not_forgotten_while_it_is_away(task: PrinterTask, machine: FakeMachine) -> None:
    connection(task, machine, replace(IDLE, ended=done("a.gcode")))
    assert heard(task.printer) == PrinterState(
        status=PrinterStatus.OFFLINE, message=BROKE.message, ended=done("a.gcode")
    )


def test_it_tries_again_until_it_is_told_to_stop(
    task: PrinterTask, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pass_by(pause: float) -> bool:
        pauses.append(pause)
        if len(pauses) == 4:
            task.stop.set()
        return task.stop.is_set()

    monkeypatch.setattr(bridge, "backoff", lambda failures: float(failures))
    monkeypatch.setattr(task.stop, "wait", pass_by)
    machine.says = [BROKE]
    task._run()
    assert pauses == [0, 1, 2, 3]


def test_a_printer_that_flaps_makes_no_storm_and_ends_in_the_truth(
    task: PrinterTask, machine: FakeMachine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[PrinterStatus] = []
    monkeypatch.setattr(notes, "note_states", lambda batch: noted.extend(note.state.status for note in batch))
    for _ in range(300):
        connection(task, machine, IDLE)
        clock.now += 1
    assert len(noted) <= 5
    assert heard(task.printer).status is PrinterStatus.OFFLINE

    def stays() -> Iterator[PrinterState]:
        for _ in range(40):
            yield IDLE
            clock.now += 1

    machine.says = stays()  # type: ignore[assignment]
    task.stop.set()
    task._listen(0)
    assert heard(task.printer).status is PrinterStatus.IDLE
    assert noted[-1] is PrinterStatus.IDLE


def test_a_flapping_printer_that_stays_away_is_told_to_be_away(
    task: PrinterTask, machine: FakeMachine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was held back is told while nobody is heard, too."""
    for n in range(20):
        connection(task, machine, IDLE)
        clock.now += 1
        machine.says = [Garbled("It speaks Klingon.") if n % 2 else BROKE]
        task._listen(0)
    machine.says = [Unauthorised("No.")]

    def pass_by(pause: float) -> bool:
        clock.now += pause
        return False

    monkeypatch.setattr(task.stop, "wait", pass_by)
    task._wait(task._listen(0))
    assert "key is not accepted" in heard(task.printer).message


# -- what may have come upon the bed


def test_a_print_begun_at_the_machine_makes_the_bed_not_clear_once(
    task: PrinterTask, machine: FakeMachine, anvil: Printer
) -> None:
    clear(anvil)
    seen = anvil.bed
    connection(task, machine, IDLE, THEIRS, replace(THEIRS, status=PrinterStatus.PAUSED), THEIRS)
    assert not is_clear(anvil)
    assert anvil.bed == seen + 1


def test_a_print_too_short_to_be_seen_makes_the_bed_not_clear(
    task: PrinterTask, machine: FakeMachine, anvil: Printer
) -> None:
    clear(anvil)
    connection(task, machine, replace(IDLE, ended=done("old.gcode")), replace(IDLE, ended=done("gift.gcode", "2")))
    assert not is_clear(anvil)


def test_a_machine_that_prints_and_does_not_say_what_makes_the_bed_not_clear(
    task: PrinterTask, machine: FakeMachine, anvil: Printer
) -> None:
    clear(anvil)
    connection(task, machine, IDLE, PrinterState(status=PrinterStatus.PRINTING))
    assert not is_clear(anvil)


def test_homing_and_heating_leave_the_bed_clear(task: PrinterTask, machine: FakeMachine, anvil: Printer) -> None:
    clear(anvil)
    hot = {"bed": Temperature(actual=60.0, target=60.0)}
    connection(task, machine, IDLE, PrinterState(status=PrinterStatus.BUSY), replace(IDLE, temperatures=hot))
    assert is_clear(anvil)


def test_the_farms_own_print_uses_its_bed_and_no_other(
    task: PrinterTask, machine: FakeMachine, anvil: Printer, cast: Cast
) -> None:
    ours = attempt(job(cast.sam), anvil)
    clear(anvil)
    working = PrinterState(status=PrinterStatus.PRINTING, job=LiveJob(file=ours.remote_path, progress=0.1))
    connection(task, machine, IDLE, working, replace(IDLE, ended=done(ours.remote_path)))
    assert is_clear(anvil)


# -- the time in which nobody listened


def test_a_printer_whose_record_has_nothing_new_keeps_its_clear_bed(
    task: PrinterTask, machine: FakeMachine, anvil: Printer
) -> None:
    machine.records = [done("last week.gcode")]
    connection(task, machine, machine.state)
    clear(anvil)
    connection(task, machine, machine.state)
    assert is_clear(anvil)


def test_a_new_bridge_believes_the_record_too(task: PrinterTask, machine: FakeMachine, anvil: Printer) -> None:
    """Its first look at what ended last week is no print of today."""
    machine.records = [done("last week.gcode")]
    connection(task, machine, machine.state)
    clear(anvil)
    connection(leased(anvil, "another"), machine, machine.state)
    assert is_clear(anvil)


@pytest.mark.parametrize("by_another", [False, True], ids=["the same bridge", "another bridge"])
def test_a_print_that_nobody_saw_makes_the_bed_not_clear(
    task: PrinterTask, machine: FakeMachine, anvil: Printer, by_another: bool
) -> None:
    connection(task, machine, IDLE)
    clear(anvil)
    machine.begin("gift.gcode")
    machine.end()
    connection(leased(anvil, "another") if by_another else task, machine, machine.state)
    assert not is_clear(anvil)


def test_a_machine_without_a_record_is_never_believed(
    task: PrinterTask, machine: FakeMachine, anvil: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.machines.FakeDriver.marker", lambda self: None)
    connection(task, machine, IDLE)
    clear(anvil)
    connection(task, machine, IDLE)
    assert not is_clear(anvil)


def test_what_happens_between_record_and_stream_is_not_missed(
    task: PrinterTask, machine: FakeMachine, anvil: Printer
) -> None:
    """The record is read when the stream is open: a print that ends at that very moment is in the one or the other."""
    connection(task, machine, IDLE)
    clear(anvil)
    machine.calls.clear()

    def quick_print() -> None:
        machine.begin("gift.gcode")
        machine.end()

    machine.meanwhile["stream"] = quick_print
    connection(task, machine, IDLE)
    assert [name for name, *_ in machine.calls if name in ("stream", "marker")] == ["stream", "marker"]
    assert not is_clear(anvil)


def test_an_unseen_print_is_not_forgotten_because_the_database_was_away(
    task: PrinterTask, machine: FakeMachine, anvil: Printer
) -> None:
    connection(task, machine, IDLE)
    clear(anvil)
    machine.begin("gift.gcode")
    machine.end()
    assert isinstance(task._writers, AtOnce)
    machine.meanwhile["marker"] = lambda: task._writers.faults.append(TimeoutError())  # type: ignore[attr-defined]
    connection(task, machine, machine.state)
    assert is_clear(anvil), "nobody could write it down"
    assert "database" in heard(anvil).message or heard(anvil).status is not PrinterStatus.IDLE
    machine.meanwhile.clear()
    connection(task, machine, machine.state)
    assert not is_clear(anvil)


@pytest.mark.parametrize(("minutes", "believed"), [(1, True), (60, False)])
def test_the_word_of_whoever_adds_a_printer_counts_if_it_is_heard_soon(
    machine: FakeMachine, anvil: Printer, minutes: int, believed: bool
) -> None:
    clear(anvil)
    BedClear.objects.filter(printer=anvil).update(at=timezone.now() - timedelta(minutes=minutes))
    connection(leased(anvil), machine, IDLE)
    assert is_clear(anvil) is believed


def test_it_observes_from_the_compared_record_to_the_end_of_the_connection(
    task: PrinterTask, machine: FakeMachine
) -> None:
    moments: list[tuple[str, bool]] = []

    def look(name: str) -> Callable[[], None]:
        return lambda: moments.append((name, task.observed.is_set()))

    machine.meanwhile = {"stream": look("connecting"), "marker": look("comparing")}

    def said() -> Iterator[PrinterState | BaseException]:
        yield IDLE
        look("listening")()
        yield IDLE
        raise BROKE

    machine.says = said()  # type: ignore[assignment]
    task._listen(0)
    look("gone")()
    assert moments == [("connecting", False), ("comparing", False), ("listening", True), ("gone", False)]


def test_the_record_is_read_again_a_moment_after_a_print_ended(
    task: PrinterTask, machine: FakeMachine, anvil: Printer, clock: Clock, cast: Cast
) -> None:
    """Servers write it a moment later; without that the farm's own print would look like somebody else's."""
    ours = attempt(job(cast.sam), anvil)

    def said() -> Iterator[PrinterState]:
        yield IDLE
        machine.records.append(done(ours.remote_path))
        yield machine.state
        before = len(machine.asked("marker"))
        yield machine.state
        assert len(machine.asked("marker")) == before, "it is not written yet"
        clock.now += bridge.MARKER_DELAY
        yield machine.state

    machine.says = said()  # type: ignore[assignment]
    task.stop.set()
    task._listen(0)
    anvil.refresh_from_db()
    assert anvil.marker == {"record": {"printed": 1}}
    clear(anvil)
    connection(leased(anvil, "another"), machine, machine.state)
    assert is_clear(anvil)


# -- a bridge that lost its lease


def test_a_bridge_whose_lease_ran_out_writes_nothing(task: PrinterTask, machine: FakeMachine, anvil: Printer) -> None:
    clear(anvil)
    lapse(anvil)
    connection(task, machine, IDLE, THEIRS)
    assert is_clear(anvil)
    assert Printer.objects.get(pk=anvil.pk).marker is None


def test_a_bridge_that_was_frozen_does_not_overwrite_its_successor(
    task: PrinterTask, machine: FakeMachine, anvil: Printer
) -> None:
    connection(leased(anvil, "successor"), machine, IDLE)
    state = heard(anvil)
    connection(task, machine, THEIRS)
    assert heard(anvil) == state


@pytest.fixture
def quiet_bridges(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Bridge]]:
    """Bridges whose tasks have no threads."""
    monkeypatch.setattr(PrinterTask, "start", lambda self: None)
    monkeypatch.setattr(PrinterTask, "join", lambda self, timeout: None)
    with ExitStack() as stack:

        def make() -> Bridge:
            made = Bridge(most=10)
            stack.callback(made._lanes.shutdown)
            stack.callback(made.writers.close)
            return made

        yield make


@pytest.fixture
def quiet(quiet_bridges: Callable[[], Bridge]) -> Bridge:
    return quiet_bridges()


def test_it_takes_what_nobody_holds_up_to_its_limit(cast: Cast, quiet: Bridge) -> None:
    quiet.most = 1
    quiet.keep_leases()
    quiet.keep_leases()
    assert len(quiet.tasks) == 1
    quiet.most = 10
    quiet.keep_leases()
    assert quiet.tasks.keys() == {cast.anvil.pk, cast.cellar.pk}


def test_a_frozen_bridge_lets_go_by_itself_and_begins_anew(cast: Cast, quiet: Bridge) -> None:
    quiet.keep_leases()
    old = quiet.tasks[cast.anvil.pk]
    lapse(cast.anvil)  # it slept longer than its lease
    quiet.keep_leases()
    new = quiet.tasks[cast.anvil.pk]
    assert old.stop.is_set()
    assert not new.stop.is_set()
    assert new.fence > old.fence
    assert quiet.tasks[cast.cellar.pk].fence == 1, "the other lease went on"


def test_it_lets_go_of_what_another_took(cast: Cast, quiet: Bridge) -> None:
    quiet.keep_leases()
    mine = quiet.tasks[cast.anvil.pk]
    lapse(cast.anvil)
    services.take_leases("another", 10)
    quiet.keep_leases()
    assert quiet.tasks.keys() == {cast.cellar.pk}
    assert mine.stop.is_set()


@pytest.mark.parametrize(
    "change", [{"enabled": False}, {"api_key": "another"}, {"url": "http://127.0.0.1:8", "api_key": "key"}]
)
def test_a_changed_printer_is_connected_to_anew(cast: Cast, quiet: Bridge, change: dict[str, Any]) -> None:
    quiet.keep_leases()
    old = quiet.tasks[cast.anvil.pk]
    services.change_printer(cast.anvil, **change)
    quiet.keep_leases()
    assert old.stop.is_set()
    assert (cast.anvil.pk in quiet.tasks) is change.get("enabled", True)


def test_a_removed_printer_is_let_go(cast: Cast, quiet: Bridge) -> None:
    quiet.keep_leases()
    old = quiet.tasks[cast.cellar.pk]
    services.remove_printer(Printer.objects.get(pk=cast.cellar.pk))
    quiet.keep_leases()
    assert old.stop.is_set()


def test_what_a_frozen_bridge_had_still_to_write_is_not_written_by_the_one_it_becomes(
    cast: Cast, quiet: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    quiet.keep_leases()
    old = quiet.tasks[cast.anvil.pk]
    note = StateNote(cast.anvil.pk, old.fence, THEIRS, None)
    old._write(written.extend, note).result(60)
    assert written == [note]
    lapse(cast.anvil)
    quiet.keep_leases()
    assert not quiet.tenure.over
    with pytest.raises(LeaseOver):
        old._write(written.extend, note).result(60)
    assert written == [note]


def test_a_bridge_that_was_not_renewed_in_time_knows_it_without_the_database(
    cast: Cast, quiet: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    quiet.keep_leases()
    task = quiet.tasks[cast.anvil.pk]
    quiet.tenure.renewed(quiet.tenure.now() - 3600, services.LEASE_TTL.total_seconds())
    with CaptureQueriesContext(database) as queries, pytest.raises(LeaseOver):
        task._write(written.extend, StateNote(cast.anvil.pk, task.fence, THEIRS, None)).result(60)
    assert written == []
    assert not queries


def test_what_was_not_written_in_doubt_is_found_in_the_record_when_the_lease_goes_on(
    task: PrinterTask, machine: FakeMachine, anvil: Printer
) -> None:
    """The renewal came late, but the database had not given the printer to anybody."""
    connection(task, machine, IDLE)
    clear(anvil)

    def said() -> Iterator[PrinterState]:
        yield IDLE
        task.tenure.renewed(task.tenure.now(), 0.0)
        machine.begin("gift.gcode")
        yield machine.state
        assert is_clear(anvil), "nobody may write it down"
        machine.end()
        task.tenure.renewed(task.tenure.now(), 3600.0)
        yield machine.state
        yield machine.state

    machine.says = said()  # type: ignore[assignment]
    task.stop.set()
    task._listen(0)
    assert not is_clear(anvil)


# -- several bridges


def test_printers_are_read_again_within_ten_seconds_after_a_bridge_died() -> None:
    """Its leases end, another looks, and connects: this much is left for connecting to its share of 1,000."""
    found = services.LEASE_TTL.total_seconds() + bridge.TICK
    assert found <= 7
    assert services.LEASE_TTL.total_seconds() / 2 >= bridge.RENEW_EVERY + bridge.TICK, "one renewal may fail"


def lab_of(count: int, cast: Cast) -> list[Printer]:
    """With Anvil and Cellar, so many printers."""
    return [cast.anvil, cast.cellar, *(printer(f"P{n}", by=cast.ada) for n in range(count - 2))]


def settle(*bridges: Bridge, rounds: int = 3) -> list[int]:
    """Some rounds later: how many each holds."""
    for _ in range(rounds):
        for one in bridges:
            one.keep_leases()
            for task in one.tasks.values():
                task.state = task.state or IDLE  # heard at once
    return [len(one.tasks) for one in bridges]


def test_a_bridge_that_joins_gets_its_share(cast: Cast, quiet_bridges: Callable[[], Bridge]) -> None:
    lab_of(8, cast)
    first = quiet_bridges()
    assert settle(first) == [8]
    second = quiet_bridges()
    assert settle(first, second) == [4, 4]
    fences = dict(Lease.objects.values_list("printer_id", "fence"))
    assert settle(first, second) == [4, 4]
    assert dict(Lease.objects.values_list("printer_id", "fence")) == fences, "nothing goes to and fro"


def test_few_printers_move_at_a_time(
    cast: Cast, quiet_bridges: Callable[[], Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "GIVE_BACK", 1)
    lab_of(8, cast)
    first = quiet_bridges()
    settle(first)
    second = quiet_bridges()
    second.keep_leases()
    assert settle(first, second, rounds=1) == [7, 1]
    assert settle(first, second, rounds=1) == [6, 2]


def test_printers_that_work_or_are_commanded_stay_where_they_are(
    cast: Cast, quiet_bridges: Callable[[], Bridge]
) -> None:
    rows = lab_of(8, cast)
    first = quiet_bridges()
    settle(first)
    for row in rows[:3]:
        first.tasks[row.pk].state = THEIRS
    queue(rows[3])
    first._busy.add(rows[4].pk)
    second = quiet_bridges()
    second.keep_leases()
    assert settle(first, second, rounds=1) == [5, 3]
    assert first.tasks.keys() == {row.pk for row in rows[:5]}


def test_what_is_given_back_is_no_longer_listened_to(cast: Cast, quiet_bridges: Callable[[], Bridge]) -> None:
    lab_of(4, cast)
    first = quiet_bridges()
    settle(first)
    before = dict(first.tasks)
    settle(first, quiet_bridges())
    assert len(first.tasks) == 2
    assert {key for key, task in before.items() if task.stop.is_set()} == before.keys() - first.tasks.keys()


def test_the_others_take_over_from_a_bridge_that_ends(cast: Cast, quiet_bridges: Callable[[], Bridge]) -> None:
    lab_of(6, cast)
    first, second = quiet_bridges(), quiet_bridges()
    settle(first, second)
    first._shut_down()
    assert settle(second, rounds=1) == [6]


def test_what_waits_for_a_state_does_not_wait_for_one_that_nobody_hears(task: PrinterTask) -> None:
    task.end()
    assert not task.wait_for(lambda state: True, timeout=3600)
    task.state = IDLE
    assert task.wait_for(lambda state: state.status is PrinterStatus.IDLE, timeout=3600)
    assert not task.wait_for(lambda state: state.status is PrinterStatus.PAUSED, timeout=3600)


# -- lanes and writers


def queue(printer: Printer, times: int = 1) -> None:
    for _ in range(times):
        commands.request_command(printer, CommandKind.SET_TEMPERATURE, {"heater": "bed", "target": 40}, by=None)


def test_a_printer_has_one_lane_at_a_time(cast: Cast, quiet: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        quiet, "_lanes", SimpleNamespace(submit=lambda *work: begun.append(work), shutdown=lambda: None)
    )
    monkeypatch.setattr("printers.lane.run", lambda task, holder: None)
    quiet.keep_leases()
    queue(cast.anvil, times=3)
    queue(cast.cellar)
    quiet.run_lanes()
    quiet.run_lanes()
    assert {task.printer.name for _, task in begun} == {"Anvil", "Cellar"}
    assert len(begun) == 2
    for run, task in begun[:]:
        run(task)
    quiet.run_lanes()
    assert len(begun) == 4, "what is still queued gets a lane again"


def test_a_lane_that_stumbles_does_not_block_its_printer(
    cast: Cast, quiet: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[object] = []

    def stumble(task: PrinterTask, holder: str) -> None:
        ran.append(task)
        raise ZeroDivisionError

    monkeypatch.setattr("printers.lane.run", stumble)
    monkeypatch.setattr(quiet, "_lanes", SimpleNamespace(submit=lambda run, task: run(task), shutdown=lambda: None))
    quiet.keep_leases()
    queue(cast.anvil)
    quiet.run_lanes()
    quiet.run_lanes()
    assert len(ran) == 2
    assert Command.objects.get().status == "queued"


# -- the whole, with threads, on machines in memory


class WritesNothing(Writers):
    """For those who have no database."""

    def __init__(self) -> None:
        super().__init__(threads=0)

    def run(
        self, write: Write, note: Note, allowed: Callable[[], None] = lambda: None, *, first: bool = False
    ) -> Future[None]:
        written: Future[None] = Future()
        written.set_result(None)
        return written


def test_printers_that_are_dead_cost_the_living_ones_nothing(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty-five do not answer, five come after them, and there is one place to connect."""
    tenure, silent, over = endless(), set[int](), threading.Event()
    means = Means(tenure, WritesNothing(), Teller(tenure), Connecting(places=1, hold=3600.0))

    def knock(driver: FakeDriver) -> None:
        if id(driver.machine) in silent:
            over.wait(60)
            raise BROKE

    monkeypatch.setattr(FakeDriver, "knock", knock)
    tasks = [PrinterTask(Printer(name=f"P{n}"), 1, means) for n in range(50)]
    silent |= {id(machines[task.printer]) for task in tasks[:45]}
    for task in tasks[45:]:
        machines[task.printer].says = [IDLE]
    for task in tasks:
        task.start()
    heard = [task.wait_for(lambda state: state.status is PrinterStatus.IDLE, timeout=60) for task in tasks[45:]]
    dead = [task.state for task in tasks[:45]]
    over.set()
    for task in tasks:
        task.end()
    for task in tasks:
        task.join(60)
    assert heard == [True] * 5
    assert dead == [None] * 45, "they were still waited for"


def test_it_wakes_up_for_a_command_without_waiting_for_its_tick(
    cast: Cast, quiet: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "TICK", 3600.0)
    listening, woken = threading.Thread(target=quiet._hear_wakes, daemon=True), quiet._wake
    listening.start()

    def knock() -> bool:
        with committed():
            services.wake_bridges(cast.anvil.pk)
        return woken.wait(0.1)

    ends = time.monotonic() + 60
    while not knock():
        assert time.monotonic() < ends, "nobody heard"
    quiet.stop()
    listening.join(60)
    assert not listening.is_alive()
