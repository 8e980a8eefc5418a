"""Whatever happens, in any order: the whole of jobs and printers with machines in memory, driven by Hypothesis.

The machines know what the farm cannot: whether there is plastic on the bed. A start onto plastic, a second start of
the same print, a copy too many or a job that never ends fails the test.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.db import transaction
from django.db.models import F
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farm import queue
from farm.errors import Conflict
from farm.models import User
from jobs import services
from jobs.models import Job, Print
from jobs.states import JOB_TERMINAL, PRINT_LIVE, PRINT_TERMINAL, JobStatus
from printers import commands, telemetry
from printers import services as printers
from printers.drivers.base import Busy, Outcome, PrinterStatus, Refused, Unclear, Unreachable
from printers.models import CommandKind, Grant, Printer, Role
from tests.cast import Cast, falls_silent, gcode, grant
from tests.machines import FakeMachine, Machines
from tests.work import FakeTask, Work, committed, expire, lapse, workers_die

ANVIL, CELLAR = "Anvil", "Cellar"
which = st.sampled_from([ANVIL, CELLAR])
number = st.integers(0, 7)


class Fault(NamedTuple):
    """What may go wrong between the farm and a printer."""

    method: str
    error: Exception
    #: whether it was done all the same
    done: bool = False


FAULTS = [
    Fault("upload", Unreachable("Nobody answers.")),
    Fault("upload", Refused("The disk is full.")),
    Fault("upload", Unclear("No answer came."), done=True),
    Fault("start", Unreachable("Nobody answers.")),
    Fault("start", Refused("The door is open.")),
    Fault("start", Unclear("No answer came.")),
    Fault("start", Unclear("No answer came."), done=True),
    Fault("cancel", Unreachable("Nobody answers.")),
    Fault("delete_file", Unreachable("Nobody answers.")),
    Fault("delete_file", Busy("It is being printed.")),
    Fault("find_file", Unreachable("Nobody answers.")),
    Fault("find_ended", Unreachable("Nobody answers.")),
    Fault("read_state", Unreachable("Nobody answers.")),
]
#: methods of AnyOrder
PEOPLE = [
    "cancel", "release", "decide", "stop_in_an_emergency", "maintain", "take_the_part_off", "say_that_the_bed_is_clear",
]  # fmt: skip
MACHINES = ["switch_off_and_on", "pause_or_go_on", "print_by_hand", "start_late", "come_to_an_end"]
BRIDGES = ["freeze", "take_over", "wake_up"]
WORKERS = ["do_one", "do_all", "do_again", "forget", "tick", "tick_much_later"]


#: where the farm waits for a printer, and what may happen in the world right then
EXCHANGES = ["upload", "upload", "start", "start", "delete_file", "find_file", "read_state"]
INTERFERENCES = [
    "print_by_hand", "cancel", "freeze", "tick_much_later", "come_to_an_end", "start_late", "stop_in_an_emergency",
]  # fmt: skip


class Died(BaseException):
    """A worker was killed."""


class Once(dict[str, Any]):
    """What happens once."""

    def __getitem__(self, method: str) -> Any:
        return self.pop(method)


@dataclass
class Bench(FakeMachine):
    """A machine with a bed. Whoever starts a print by hand looks at the bed first; the farm cannot."""

    faults: dict[str, BaseException] = field(default_factory=Once)
    lost_answers: dict[str, BaseException] = field(default_factory=Once)
    meanwhile: dict[str, Callable[[], Any]] = field(default_factory=Once)
    plastic: bool = True
    onto_plastic: list[str] = field(default_factory=list)
    #: a start whose packet may still arrive
    late: str = ""
    #: the bed that Ada saw on the page when she last took the parts off
    seen: int | None = None
    bridge: FakeTask | None = None
    frozen: list[FakeTask] = field(default_factory=list)

    def begin(self, path: str) -> None:
        if path.startswith("farm/") and self.plastic:
            self.onto_plastic.append(path)
        self.plastic = True
        super().begin(path)


class AnyOrder(RuleBasedStateMachine):
    @initialize()
    def open_the_lab(self) -> None:
        self.undo = transaction.atomic()
        self.undo.__enter__()
        telemetry.client().flushdb()
        self.cast, self.work, self.machines = Cast(), Work(), Machines()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("printers.services.open_driver", self.machines.open_driver)
        self.patch.setattr("jobs.attempts.open_driver", self.machines.open_driver)
        self.patch.setattr(queue, "_send", self.work.take)
        self.patch.setattr(telemetry, "STALE_AFTER", 3600.0)  # not because a test is slow
        self.patch.setattr("farm.events._send", lambda *_: None)  # nobody looks
        self.printers = {ANVIL: self.cast.anvil, CELLAR: self.cast.cellar}
        self.benches = {name: Bench() for name in self.printers}
        self.machines._made = {row.pk: self.benches[name] for name, row in self.printers.items()}
        for user in (self.cast.sam, self.cast.tina):
            grant(user, self.cast.cellar, Role.SUBMIT)
        Grant.objects.update(role=Role.OPERATE)  # they print G-code here, so that nothing needs to be sliced
        self.bridges = 0
        for name in self.printers:
            self.connect(name)
            self.look_and_clear(name)
        self.submit(True, None, 1, False)
        self.submit(False, None, 2, False)

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.patch.undo()
            transaction.set_rollback(True)
            self.undo.__exit__(None, None, None)

    # -- helpers
    def row(self, name: str) -> Printer:
        return Printer.objects.select_related("profile").get(pk=self.printers[name].pk)

    def do(self, task: tuple[str, ...]) -> None:
        with suppress(Died):
            self.work.do(task)

    def connect(self, name: str) -> None:
        bench = self.benches[name]
        self.bridges += 1
        holder = f"bridge {self.bridges}"
        bench.bridge = FakeTask(self.printers[name], self.machines, holder)
        printers.drop_leases(holder, [row.pk for row in self.printers.values() if row != self.printers[name]])
        bench.bridge.hear()

    def happened(self, name: str) -> None:
        """A connected bridge hears of what happens at the machine at once."""
        bridge = self.benches[name].bridge
        if bridge is not None:
            bridge.hear()

    def without_conflict(self, act: Callable[[], Any]) -> None:
        """People try things that are not possible any more; they are told so, and nothing happens."""
        with suppress(Conflict), committed():
            act()

    # -- a good day
    @precondition(lambda self: Job.objects.count() < 6)
    @rule(sam=st.booleans(), where=st.sampled_from([None, ANVIL, CELLAR]), copies=st.integers(1, 2), hold=st.booleans())
    def submit(self, sam: bool, where: str | None, copies: int, hold: bool) -> None:
        owner = self.cast.sam if sam else self.cast.tina
        on = self.row(where) if where else None
        with committed():
            services.submit(owner, gcode=gcode(self.cast.anvil), printer=on, copies=copies, hold=hold)

    @rule(name=which, steps=st.integers(1, 5))
    def goes_well(self, name: str, steps: int = 5) -> None:
        """Cleared, sent, started, printed; perhaps only the beginning of that."""
        good: list[Callable[[], Any]] = [
            lambda: self.look_and_clear(name), self.work.do_all, lambda: self.bridge_works(name),
            lambda: self.happened(name), lambda: self.happens(name, "come_to_an_end", 0),
        ]  # fmt: skip
        for step in good[:steps]:
            step()

    @rule(name=which)
    def a_good_day(self, name: str) -> None:
        self.goes_well(name)

    @rule(name=which, fault=st.sampled_from(FAULTS), steps=st.integers(2, 5))
    def something_fails(self, name: str, fault: Fault, steps: int) -> None:
        bench = self.benches[name]
        (bench.lost_answers if fault.done else bench.faults)[fault.method] = fault.error
        self.goes_well(name, steps)

    @rule(name=which, at=st.sampled_from(EXCHANGES), what=st.sampled_from(INTERFERENCES), n=number)
    def something_comes_between(self, name: str, at: str, what: str, n: int) -> None:
        self.benches[name].meanwhile[at] = lambda: self.happens(name, what, n)
        self.goes_well(name, 4)

    # -- and everything else
    @rule(name=which, n=number, what=st.sampled_from(PEOPLE))
    def people_change_their_minds(self, name: str, n: int, what: str) -> None:
        self.happens(name, what, n)

    @rule(name=which, n=number, what=st.sampled_from(MACHINES))
    def machine_does_as_it_likes(self, name: str, n: int, what: str) -> None:
        self.happens(name, what, n)

    @rule(name=which, n=number, what=st.sampled_from(BRIDGES))
    def bridges_come_and_go(self, name: str, n: int, what: str) -> None:
        self.happens(name, what, n)

    @rule(name=which, n=number, what=st.sampled_from(WORKERS))
    def workers_and_clocks(self, name: str, n: int, what: str) -> None:
        self.happens(name, what, n)

    def happens(self, name: str, what: str, n: int) -> None:
        """Any of the following; also in the middle of an exchange with the printer."""
        getattr(self, what)(name, n)
        if what in MACHINES:
            self.happened(name)

    # people
    def cancel(self, name: str, n: int) -> None:
        self.ask_for(services.cancel, n)

    def release(self, name: str, n: int) -> None:
        self.ask_for(services.release, n)

    def ask_for(self, act: Callable[[Job, User], Any], n: int) -> None:
        jobs = list(Job.objects.exclude(status__in=JOB_TERMINAL).order_by("created_at"))
        if jobs:
            row = jobs[n % len(jobs)]
            self.without_conflict(lambda: act(row, row.owner))

    def decide(self, name: str, n: int) -> None:
        live = Print.objects.filter(printer=self.printers[name], status__in=PRINT_LIVE).first()
        if live is not None:
            self.benches[name].late = ""  # no packet lives as long as it takes to walk to the machine
            self.without_conflict(lambda: services.decide(live, PRINT_TERMINAL[n % 3], by=self.cast.ada))

    def stop_in_an_emergency(self, name: str, n: int) -> None:
        with committed():
            commands.request_command(self.row(name), CommandKind.EMERGENCY_STOP, {}, by=self.cast.ada)
        self.happened(name)

    def maintain(self, name: str, n: int) -> None:
        with committed():
            printers.change_printer(self.row(name), maintenance="new belt" if n % 2 else "")

    def take_the_part_off(self, name: str, n: int = 0) -> None:
        bench = self.benches[name]
        if bench.job is None:
            bench.seen, bench.plastic = self.row(name).bed, False

    def say_that_the_bed_is_clear(self, name: str, n: int = 0) -> None:
        """Perhaps long after having looked, and twice."""
        if (seen := self.benches[name].seen) is not None:
            self.without_conflict(lambda: printers.clear_bed(self.row(name), seen, by=self.cast.ada))

    def look_and_clear(self, name: str) -> None:
        self.take_the_part_off(name)
        self.say_that_the_bed_is_clear(name)

    # machines
    def switch_off_and_on(self, name: str, n: int) -> None:
        self.benches[name].forget()

    def pause_or_go_on(self, name: str, n: int) -> None:
        bench = self.benches[name]
        if bench.job is not None:
            paused = bench.status == PrinterStatus.PAUSED
            bench.status = PrinterStatus.PRINTING if paused else PrinterStatus.PAUSED

    def print_by_hand(self, name: str, n: int) -> None:
        """Something long, or something short of which only the record tells."""
        bench = self.benches[name]
        if bench.status == PrinterStatus.IDLE:
            bench.begin("gift.gcode")
            if n % 2:
                bench.end()

    def start_late(self, name: str, n: int) -> None:
        bench = self.benches[name]
        if bench.late in bench.files and bench.status == PrinterStatus.IDLE:
            bench.begin(bench.late)
            bench.late = ""

    def come_to_an_end(self, name: str, n: int) -> None:
        if self.benches[name].job is not None:
            self.benches[name].end(list(Outcome)[n % 3])

    # bridges
    def bridge_works(self, name: str) -> None:
        bench = self.benches[name]
        if bench.bridge is not None:
            doubtful, before = isinstance(bench.faults.get("start"), Unclear), len(bench.asked("start"))
            bench.bridge.run_lane()
            if doubtful and len(bench.asked("start")) > before:
                bench.late = str(bench.asked("start")[-1][0])

    def freeze(self, name: str, n: int) -> None:
        bench = self.benches[name]
        if bench.bridge is not None:
            bench.frozen.append(bench.bridge)
            bench.bridge = None
            lapse(self.printers[name])
            falls_silent(self.printers[name])

    def take_over(self, name: str, n: int) -> None:
        if self.benches[name].bridge is None:
            self.connect(name)

    def wake_up(self, name: str, n: int) -> None:
        for frozen in self.benches[name].frozen:
            frozen.run_lane()
            frozen.hear()

    # workers, the broker and the clock
    def do_one(self, name: str, n: int) -> None:
        if waiting := self.work.waiting:
            self.do(waiting.pop(n % len(waiting)))

    def do_all(self, name: str, n: int) -> None:
        self.work.do_all()

    def do_again(self, name: str, n: int) -> None:
        if done := self.work.done:
            self.do(done[-1 - n % len(done)])

    def forget(self, name: str, n: int) -> None:
        self.work.lose()

    def tick(self, name: str, n: int) -> None:
        self.work.sweep()

    def tick_much_later(self, name: str, n: int) -> None:
        self.time_passes()
        self.work.sweep()

    def time_passes(self) -> None:
        for row in self.printers.values():
            expire(row, 120)
        workers_die()
        Print.objects.update(ended_at=F("ended_at") - timedelta(seconds=60))

    @precondition(lambda self: any(name == "jobs.send" for name in self.work.names()))
    @rule(after=st.booleans())
    def worker_dies_while_sending(self, after: bool) -> None:
        task = next(task for task in self.work.waiting if task[0] == "jobs.send")
        self.work.waiting.remove(task)
        for bench in self.benches.values():
            (bench.lost_answers if after else bench.faults)["upload"] = Died()
        self.do(task)
        for bench in self.benches.values():
            bench.faults.pop("upload", None)
            bench.lost_answers.pop("upload", None)

    # -- what must always be true
    @invariant()
    def no_print_was_started_onto_plastic(self) -> None:
        assert {name: bench.onto_plastic for name, bench in self.benches.items()} == {ANVIL: [], CELLAR: []}

    @invariant()
    def what_counts_as_clear_is_clear(self) -> None:
        for name, bench in self.benches.items():
            if bench.bridge is not None and printers.bed_is_clear(self.row(name)):
                assert not bench.plastic, name

    @invariant()
    def every_print_was_started_at_most_once_and_none_that_counts_as_not_started(self) -> None:
        starts = Counter(
            found[1]
            for bench in self.benches.values()
            for path in bench.starts
            if (found := re.search(r"-([0-9a-f]{8})-[0-9a-f]{8}\.gcode$", path))
        )
        assert set(starts.values()) <= {1}
        not_started = {row.pk.hex[:8] for row in Print.objects.filter(spent=False)}
        assert not not_started & set(starts)

    @invariant()
    def jobs_and_prints_agree(self) -> None:
        for row in Job.objects.prefetch_related("prints", "events"):
            live = [attempt for attempt in row.prints.all() if attempt.status in PRINT_LIVE]
            assert bool(live) == (row.status == JobStatus.ACTIVE)
            assert sum(attempt.spent for attempt in row.prints.all()) <= row.copies
            newest = {event.print_id: event.new for event in row.events.all()}
            assert newest.pop(None) == row.status
            assert newest == {attempt.pk: attempt.status for attempt in row.prints.all()}

    def everything_ends(self) -> None:
        """When the world is well again, every job comes to its end."""
        for name, bench in self.benches.items():
            bench.faults.clear()
            bench.lost_answers.clear()
            bench.meanwhile.clear()
            bench.late = ""
            self.maintain(name, 0)
            if bench.bridge is None:
                self.connect(name)
        Job.objects.filter(hold=True).update(hold=False)
        for _ in range(60):
            if not Job.objects.exclude(status__in=JOB_TERMINAL).exists():
                return
            self.one_good_round()
        stuck = list(Job.objects.exclude(status__in=JOB_TERMINAL).values("status", "message", "cancel_requested"))
        raise AssertionError(f"Stuck for ever: {stuck}, {list(Print.objects.values('status', 'message'))}")

    def one_good_round(self) -> None:
        self.time_passes()
        self.work.sweep()
        for name, bench in self.benches.items():
            self.bridge_works(name)
            self.happened(name)
            if bench.job is not None:
                bench.end()
            if bench.status == PrinterStatus.ERROR:
                bench.forget()
            self.happened(name)
            self.work.do_all()
            self.look_and_clear(name)
        self.no_print_was_started_onto_plastic()


@pytest.mark.django_db
def test_whatever_happens_in_any_order_the_invariants_hold(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "jobs")  # half of the time would go into describing what happens
    caplog.set_level("CRITICAL", "printers")
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # shrinking takes longer than anybody waits: add Phase.shrink when it fails
            suppress_health_check=list(HealthCheck),
        ),
    )
