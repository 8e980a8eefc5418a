from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from printers.drivers import driver_for
from printers.drivers.base import PrinterDriver
from tests.flows import browsing
from tests.flows.client import PATIENCE, TERMINAL, Client
from tests.flows.farm import RunningFarm, wait_until
from tests.peers import MoonrakerPeer, OctoPrintPeer, Peer, SimulatorPeer, moonraker_missing, octoprint_missing

PASSWORD = "correct-horse-battery"
#: one who runs the lab, three who print; they get their grants when there are printers
PEOPLE = """
from django.contrib.auth.models import Group
from farm.models import User
from printers.models import Grant, Pool
User.objects.create_superuser("ada", "", {password!r})
students = Group.objects.create(name="Students")
for name in ("sam", "tina", "uwe"):
    students.user_set.add(User.objects.create_user(name, "", {password!r}))
Grant.objects.create(group=students, pool=Pool.objects.create(name="Lab"), role=2)
"""
INTO_THE_POOL = """
from printers.models import Pool, Printer
Pool.objects.get(name="Lab").printers.set(Printer.objects.all())
"""

_numbers = itertools.count(1)


@dataclass
class Machine:
    """A printer of the farm, with the server behind it that the farm talks to."""

    id: str
    name: str
    kind: str
    peer: Any

    @contextmanager
    def by_hand(self) -> Iterator[PrinterDriver]:
        """What somebody does at the machine itself, past the farm."""
        driver = driver_for(self.kind, self.peer.url, self.peer.api_key)
        yield driver
        driver.close()

    @staticmethod
    def print_by_hand(driver: PrinterDriver, folder: Path) -> str:
        """Somebody prints a file of their own, for minutes unless they cancel it; its name."""
        file = folder / f"by-hand-{next(_numbers)}.gcode"
        moves = (f"G1 X{40 if n % 2 else 10} Y{10 + n % 20} E{n * 0.05:.2f} F3000\n" for n in range(20_000))
        file.write_text("G90\nM82\nG28\n" + "".join(moves))
        path = driver.upload(file, file.name).path
        driver.start(path)
        return path


class Peers:
    """Servers with a machine behind them, each started once, when a test first needs it."""

    def __init__(self, stop: ExitStack) -> None:
        self._stop = stop
        self._running: dict[str, Peer] = {}

    def __getitem__(self, name: str) -> Peer:
        """octoprint, moonraker, simulated-octoprint ...; skips the test when that is not installed."""
        if name not in self._running:
            self._running[name] = self._stop.enter_context(self._start(name))
        return self._running[name]

    @staticmethod
    def _start(name: str) -> Peer:
        kind = name.removeprefix("simulated-")
        if name != kind:
            return SimulatorPeer(kind)
        missing = octoprint_missing() if kind == "octoprint" else moonraker_missing()
        if missing:
            pytest.skip(missing)
        return OctoPrintPeer() if kind == "octoprint" else MoonrakerPeer()


class Lab:
    """A running farm, its people and its printers."""

    def __init__(self, farm: RunningFarm, folder: Path, peers: Peers) -> None:
        self.farm, self.folder, self._peers = farm, folder, peers
        farm.manage("shell", "-c", PEOPLE.format(password=PASSWORD))
        self.staff = self.person("ada")
        self._machines: dict[str, Machine] = {}

    def person(self, name: str) -> Client:
        return Client(self.farm.url, name, PASSWORD)

    def machine(self, name: str) -> Machine:
        """The printer of that name with a server of that kind behind it; anybody may print there."""
        if name not in self._machines:
            self._machines[name] = self.add(name, name.removeprefix("simulated-"), self._peers[name], bed_clear=True)
            self.farm.manage("shell", "-c", INTO_THE_POOL)
        return self._machines[name]

    def add(self, name: str, kind: str, peer: Any, **fields: Any) -> Machine:
        facts = {"name": name, "kind": kind, "url": peer.url, "api_key": peer.api_key, **fields}
        return Machine(self.staff.post("printers/", **facts)["id"], name, kind, peer)

    def empty_the_queue(self) -> None:
        """Of what a test that failed has left there."""
        for job in self.staff.every("jobs/"):
            if job["status"] not in TERMINAL:
                self.staff.post(f"jobs/{job['id']}/cancel/")
                self.staff.wait_for_job(job["id"], "cancelled")

    @contextmanager
    def leases_change(self, *machines: Machine) -> Iterator[None]:
        """Whatever is done inside: it is over when a bridge has these printers anew."""
        before = len(self.farm.log)
        yield
        for machine in machines:
            taken = re.compile(rf"lease_taken .*printer={machine.name}$", re.MULTILINE)
            wait_until(lambda: taken.search(self.farm.log, before), f"a bridge takes {machine.name}", PATIENCE)  # noqa: B023

    def ready(self, machine: Machine) -> Machine:
        """Whatever the last test left on it: idle, with a clear bed."""
        now = self.staff.wait_for_state(
            machine.id, lambda now: now["status"] not in ("offline", "connecting"), "answers"
        )
        if now["status"] == "error":
            self.staff.done(machine.id, "firmware_restart")
        self.staff.clear_bed(machine.id)
        return machine


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    with ExitStack() as stop:
        yield Peers(stop)


@pytest.fixture(scope="module")
def environment() -> dict[str, str | None]:
    """What a module wants of its plain farm."""
    return {}


@pytest.fixture(scope="module")
def plain_farm(environment: dict[str, str | None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarm]:
    """The module's farm, which serves style sheets and scripts as they are: it starts sooner."""
    farm = RunningFarm(tmp_path_factory.mktemp("farm"), environment={"FARM_STATIC_PLAIN": "true", **environment})
    yield farm
    farm.stop()


@pytest.fixture(scope="module")
def lab(plain_farm: RunningFarm, peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The module's farm with its people."""
    return Lab(plain_farm, tmp_path_factory.mktemp("files"), peers)


@pytest.fixture(scope="module")
def sam(lab: Lab) -> Client:
    """Somebody who may print, and nothing else."""
    return lab.person("sam")


# -- browsers
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Not for longer than a module: its event loop keeps Django from the database in this thread."""
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with browsing.chromium(playwright, "--disable-gpu") as browser:
        yield browser


@pytest.fixture
def quiet_consoles(lab: browsing.Lab) -> Iterator[None]:
    """Of the browsers in a module's lab."""
    with lab.quietly():
        yield
