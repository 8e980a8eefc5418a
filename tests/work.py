"""What Celery and the bridge do, done when a test says so: in any order, twice, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from django.test import TestCase

from jobs import tasks
from printers import lane, services, telemetry
from printers.drivers.base import PrinterState
from printers.models import Lease, Printer
from tests.machines import Machines

TASKS: dict[str, Callable[..., Any]] = {
    "jobs.slice": tasks.slice_job,
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

    def take(self, task: str, args: list[str]) -> None:
        self.waiting.append((task, *args))

    def names(self) -> list[str]:
        return [name for name, *_ in self.waiting]

    def do(self, task: tuple[str, ...]) -> None:
        name, *args = task
        with committed():
            TASKS[name](*args)

    def do_all(self) -> None:
        """These and what follows from them."""
        for _ in range(200):
            if not self.waiting:
                return
            self.do(self.waiting.pop(0))
        raise AssertionError(f"This never ends: {self.waiting[:5]}")


class FakeTask:
    """A bridge's hold on one printer, without threads: the machine's state is read when it is asked for."""

    def __init__(self, printer: Printer, machines: Machines, holder: str = "bridge") -> None:
        self.printer, self.machines, self.holder = printer, machines, holder
        self.stop = Event()
        self.before: PrinterState | None = None
        self.version = 1000
        with committed():
            held = dict(services.take_leases(holder, 1000))
        self.fence = held.get(printer) or Lease.objects.get(printer=printer).fence

    def wait_for(self, seen: Callable[[PrinterState], bool], timeout: float) -> bool:
        return seen(self.machines[self.printer].state)

    def hear(self) -> None:
        """The machine's state reaches the farm."""
        state = self.machines[self.printer].state
        self.version += 1
        telemetry.put(self.printer.pk, self.fence, self.version, state)
        with committed():
            services.note_state(self.printer.pk, self.fence, state, self.before)
        self.before = state

    def run_lane(self) -> None:
        """Every command that is queued now."""
        with committed():
            lane.run(self, self.holder)  # type: ignore[arg-type]
