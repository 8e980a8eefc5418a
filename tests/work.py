"""What Celery and the bridge do, done when a test says so: in any order, twice, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from threading import Event
from typing import Any

from django.test import TestCase
from django.utils import timezone

from farm.models import User
from jobs import tasks
from jobs.models import Job, Print
from jobs.states import PrintStatus
from printers import lane, notes, services, telemetry
from printers.drivers.base import PrinterState
from printers.models import Command, CommandKind, Lease, Printer
from printers.tenure import Tenure
from tests.cast import Cast, gcode, job
from tests.machines import Machines

TASKS: dict[str, Callable[..., Any]] = {
    "jobs.slice": tasks.slice_job,
    "jobs.estimate": tasks.estimate,
    "jobs.dispatch": tasks.dispatch_jobs,
    "jobs.send": tasks.send,
    "jobs.reconcile": tasks.reconcile,
    "jobs.clean_up": tasks.clean_up,
    "jobs.sweep": tasks.sweep_all,
    "jobs.housekeeping": tasks.housekeeping,
}


@contextmanager
def committed() -> Iterator[None]:
    """What happens on commit happens at the end of this, although the test's own transaction goes on."""
    with TestCase.captureOnCommitCallbacks(execute=True):
        yield


class Work:
    """Tasks that nobody has done yet: (name, *ids)."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, ...]] = []
        self.done: list[tuple[str, ...]] = []

    def take(self, task: str, args: list[str]) -> None:
        self.waiting.append((task, *args))

    def names(self) -> list[str]:
        return [name for name, *_ in self.waiting]

    def do(self, task: tuple[str, ...]) -> None:
        name, *args = task
        self.done.append(task)
        with committed():
            TASKS[name](*args)

    def do_all(self) -> None:
        """These and what follows from them."""
        for _ in range(200):
            if not self.waiting:
                return
            self.do(self.waiting.pop(0))
        raise AssertionError(f"This never ends: {self.waiting[:5]}")

    def redeliver(self, name: str) -> None:
        """The broker hands out again what was done already."""
        again = [task for task in self.done if task[0] == name]
        assert again, f"No {name} was done yet: {self.done}"
        for task in again:
            self.do(task)

    def lose(self) -> None:
        """The broker forgets everything."""
        self.waiting.clear()

    def sweep(self) -> None:
        """A tick of the clock, long after the last."""
        for key in telemetry.client().scan_iter("farm:woken:*"):
            telemetry.client().delete(key)
        self.do(("jobs.sweep",))
        self.do_all()


class FakeTask:
    """A bridge's hold on one printer, without threads: the machine's state is read when it is asked for."""

    def __init__(self, printer: Printer, machines: Machines, holder: str = "bridge") -> None:
        self.printer, self.machines, self.holder = printer, machines, holder
        self.stop = Event()
        self.tenure = endless()
        self.observed = Event()
        self.observed.set()
        self.before: PrinterState | None = None
        self.version = 1000
        with committed():
            held = dict(services.take_leases(holder, 1000))
        self.fence = held.get(printer) or Lease.objects.get(printer=printer, holder=holder).fence
        # nobody renews it here, and a slow test is no reason to lose it: see lapse
        Lease.objects.filter(printer=printer, holder=holder).update(expires_at=timezone.now() + timedelta(hours=1))
        self._compare_marker()

    def wait_for(self, seen: Callable[[PrinterState], bool], timeout: float) -> bool:
        return seen(self.machines[self.printer].state)

    def hear(self) -> None:
        """The machine's state reaches the farm."""
        state = self.machines[self.printer].state
        self.version += 1
        telemetry.put(self.printer.pk, self.fence, self.version, state)
        with committed():
            notes.note_states([notes.StateNote(self.printer.pk, self.fence, state, self.before)])
        if self.before is not None and state.ended != self.before.ended:
            self._note_marker(printed=False)
        self.before = state

    def run_lane(self) -> None:
        """Every command that is queued now."""
        with committed():
            lane.run(self, self.holder)  # type: ignore[arg-type]

    def _compare_marker(self) -> None:
        """Was anything printed while nobody listened?"""
        known = Printer.objects.get(pk=self.printer.pk).marker
        with closing(self.machines.open_driver(self.printer)) as driver:
            state, now = driver.read_state(), driver.marker()
            printed = known is not None and (state.working or driver.printed_between(known["record"], now))
        self._note_marker(printed)

    def _note_marker(self, printed: bool) -> None:
        with closing(self.machines.open_driver(self.printer)) as driver:
            record = driver.marker()
        with committed():
            notes.note_markers([notes.MarkerNote(self.printer.pk, self.fence, record, printed)])


def endless() -> Tenure:
    """Of a bridge that is never frozen."""
    tenure = Tenure()
    tenure.renewed(tenure.now(), float("inf"))
    return tenure


def lapse(printer: Printer) -> None:
    """The bridge that held this printer did not renew its lease in time."""
    Lease.objects.filter(printer=printer).update(expires_at=timezone.now() - timedelta(seconds=1))


def expire(printer: Printer, seconds: float = 60) -> None:
    """As if that much time were over since this printer's commands were made."""
    for command in Command.objects.filter(printer=printer):
        command.created_at -= timedelta(seconds=seconds)
        command.expires_at -= timedelta(seconds=seconds)
        command.save()


def workers_die() -> None:
    """As if nobody had heard of any worker for a while."""
    past = timezone.now() - timedelta(seconds=1)
    for table in (Job, Print):
        table._default_manager.filter(worker_until__isnull=False).update(worker_until=past)


class Shop:
    """The cast's printers with machines in memory, a bridge, and everything that Celery would do."""

    def __init__(self, cast: Cast, machines: Machines, work: Work) -> None:
        self.cast, self.machines, self.work = cast, machines, work
        self.anvil = cast.anvil
        self.machine = machines[cast.anvil]
        self.bridge = FakeTask(cast.anvil, machines)
        self.bridge.hear()
        work.lose()

    def clear(self, printer: Printer | None = None) -> None:
        """Ada looks, and the bed is empty."""
        printer = printer or self.anvil
        printer.refresh_from_db()
        with committed():
            services.clear_bed(printer, printer.bed, by=self.cast.ada)

    def bed_is_clear(self, printer: Printer | None = None) -> bool:
        printer = printer or self.anvil
        printer.refresh_from_db()
        return services.bed_is_clear(printer)

    def ready(self, owner: User | None = None, name: str = "bracket.stl", **fields: Any) -> Job:
        """A job that is sliced for Anvil and waits."""
        return job(owner or self.cast.sam, gcode=gcode(self.anvil), name=name, **fields)

    def claimed(self, owner: User | None = None, **fields: Any) -> Print:
        """Dispatch gave Anvil to a job; nothing is sent yet."""
        row = self.ready(owner, **fields)
        self.clear()
        self.work.lose()
        self.work.do(("jobs.dispatch",))
        return row.prints.get()

    def starting(self, **fields: Any) -> Print:
        """Uploaded; the start is committed, and the bridge has not sent it yet."""
        attempt = self.claimed(**fields)
        self.work.do_all()
        attempt.refresh_from_db()
        assert attempt.status == PrintStatus.STARTING, attempt.message
        return attempt

    def printing(self, **fields: Any) -> Print:
        """The machine prints it, and the farm knows."""
        attempt = self.starting(**fields)
        self.go_on()
        attempt.refresh_from_db()
        assert attempt.status == PrintStatus.PRINTING, attempt.message
        return attempt

    def go_on(self) -> None:
        """The bridge does what it is asked, hears what follows, and so do the workers."""
        self.bridge.run_lane()
        self.bridge.hear()
        self.work.do_all()

    def starts(self) -> list[Command]:
        return list(Command.objects.filter(kind=CommandKind.START).order_by("created_at"))
