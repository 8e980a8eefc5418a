"""Four servers behind one interface: the real OctoPrint and Moonraker, and the simulators that stand in for them."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from printers.drivers import driver_for
from printers.drivers.base import DriverError, Outcome, PrinterDriver, PrinterState, PrinterStatus, Refused
from tests.peers import (
    MoonrakerPeer,
    OctoPrintPeer,
    SimulatorPeer,
    moonraker_missing,
    octoprint_missing,
    wait_for,
)

#: Real servers on a busy machine of two cores are slow at times.
DEADLINE_S = 60.0

_numbers = itertools.count(1)


class Watch:
    """A driver's stream in a thread of its own: what it yielded, and what it raised."""

    def __init__(self, driver: PrinterDriver) -> None:
        self.states: list[PrinterState] = []
        self.raised: DriverError | None = None
        self._driver = driver
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.until(lambda state: True)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the stream did not end when it was told to"

    def _run(self) -> None:
        try:
            for state in self._driver.stream(self._stop):
                with self._changed:
                    self.states.append(state)
                    self._changed.notify_all()
        except DriverError as fault:
            with self._changed:
                self.raised = fault
                self._changed.notify_all()

    def until(self, seen: Callable[[PrinterState], bool]) -> PrinterState:
        """The first state since the last call that fits; fails with what was seen instead."""
        with self._changed:
            self._changed.wait_for(lambda: any(map(seen, self.states)) or self.raised, DEADLINE_S)
            for index, state in enumerate(self.states):
                if seen(state):
                    del self.states[:index]
                    return state
        raise AssertionError(f"not seen; raised {self.raised!r}, last states {self.states[-5:]}")

    def until_status(self, status: PrinterStatus) -> PrinterState:
        return self.until(lambda state: state.status is status)

    def until_raised(self) -> DriverError:
        with self._changed:
            self._changed.wait_for(lambda: self.raised is not None, DEADLINE_S)
        assert self.raised is not None, "the stream did not notice"
        return self.raised


@dataclass
class Bench:
    """One server with a machine behind it, and G-code for it."""

    kind: str
    peer: OctoPrintPeer | MoonrakerPeer | SimulatorPeer
    folder: Path

    def driver(self, api_key: str | None = None) -> PrinterDriver:
        return driver_for(self.kind, self.peer.url, self.peer.api_key if api_key is None else api_key)

    def gcode(self, lines: int, end: str = "") -> Path:
        """A file of about 30 lines a second on every one of the four machines."""
        moves = "".join(f"G1 X{40 if n % 2 else 10} Y{10 + n % 20} E{n * 0.05:.2f} F3000\n" for n in range(lines))
        path = self.folder / "local.gcode"
        path.write_text(f"G90\nM82\nG28\n{moves}{end}")
        return path

    def send(self, driver: PrinterDriver, lines: int, end: str = "") -> str:
        """Upload a file of that many lines under a name of its own; its path on the printer."""
        return driver.upload(self.gcode(lines, end), f"print-{next(_numbers)}.gcode").path

    def make_the_print_fail(self, driver: PrinterDriver) -> None:
        """What the machine itself does when it is too hot, or out of its own limits."""
        if self.kind == "octoprint":
            driver.gcode(["!!DEBUG:trigger_fatal_error_marlin"])
        else:
            with contextlib.suppress(Refused):  # the shutdown is the answer to it
                driver.gcode(['SIMULATE_SHUTDOWN MSG="Heater extruder not heating at expected rate"'])

    def settle(self) -> None:
        """Idle again, whatever the last test left behind."""
        driver = self.driver()
        state = driver.read_state()
        if state.status is PrinterStatus.IDLE:
            return
        if state.working:
            driver.cancel()
        else:
            driver.firmware_restart()
        wait_for("an idle machine", lambda: driver.read_state().status is PrinterStatus.IDLE, DEADLINE_S)


@pytest.fixture(scope="session")
def octoprint() -> Iterator[OctoPrintPeer]:
    if reason := octoprint_missing():
        pytest.skip(reason)
    with OctoPrintPeer() as peer:
        yield peer


@pytest.fixture(scope="session")
def moonraker() -> Iterator[MoonrakerPeer]:
    if reason := moonraker_missing():
        pytest.skip(reason)
    with MoonrakerPeer() as peer:
        yield peer


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("octoprint", marks=pytest.mark.octoprint),
        pytest.param("moonraker", marks=pytest.mark.moonraker),
        "simulated-octoprint",
        "simulated-moonraker",
    ],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    name: str = request.param
    if name.startswith("simulated-"):
        with SimulatorPeer(name.removeprefix("simulated-")) as peer:
            yield Bench(peer.kind, peer, tmp_path_factory.mktemp(name))
    else:
        yield Bench(name, request.getfixturevalue(name), tmp_path_factory.mktemp(name))


@pytest.fixture
def bench(server: Bench) -> Bench:
    """The server with an idle machine."""
    server.settle()
    return server


@pytest.fixture
def driver(bench: Bench) -> PrinterDriver:
    return bench.driver()


@pytest.fixture
def watch(driver: PrinterDriver) -> Iterator[Watch]:
    with Watch(driver) as watching:
        yield watching


def idle_after(path: str, outcome: Outcome) -> Callable[[PrinterState], bool]:
    """Ended, and the machine is done with winding up (until then OctoPrint holds on to the file)."""
    return lambda state: state.status is PrinterStatus.IDLE and ended_as(path, outcome)(state)


def ended_as(path: str, outcome: Outcome) -> Callable[[PrinterState], bool]:
    return lambda state: state.ended is not None and state.ended.file == path and state.ended.outcome is outcome
