from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from printers.drivers import driver_for
from tests.flows.client import Client
from tests.flows.farm import RunningFarm
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

    def print_here(self, folder: Path, lines: int = 600) -> str:
        """Somebody who never heard of the farm prints about ``lines`` / 30 s; the file's name."""
        file = folder / f"by-hand-{next(_numbers)}.gcode"
        moves = (f"G1 X{40 if n % 2 else 10} Y{10 + n % 20} E{n * 0.05:.2f} F3000\n" for n in range(lines))
        file.write_text("G90\nM82\nG28\n" + "".join(moves))
        driver = driver_for(self.kind, self.peer.url, self.peer.api_key)
        path = driver.upload(file, file.name).path
        driver.start(path)
        driver.close()
        return path


@dataclass
class Lab:
    """A running farm, its people and its printers."""

    farm: RunningFarm
    folder: Path
    staff: Client
    machines: dict[str, Machine]

    @property
    def url(self) -> str:
        return self.farm.url

    def person(self, name: str) -> Client:
        return Client(self.farm.url, name, PASSWORD)

    def add(self, name: str, kind: str, peer: Any, **fields: Any) -> Machine:
        facts = {"name": name, "kind": kind, "url": peer.url, "api_key": peer.api_key, **fields}
        machine = Machine(self.staff.post("printers/", **facts)["id"], name, kind, peer)
        self.machines[name] = machine
        return machine

    def open_to_students(self) -> None:
        """Every printer that there is now."""
        self.farm.manage("shell", "-c", INTO_THE_POOL)


@pytest.fixture(scope="module")
def lab(farm: RunningFarm, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The module's farm with people and no printer yet."""
    farm.manage("shell", "-c", PEOPLE.format(password=PASSWORD))
    return Lab(farm, tmp_path_factory.mktemp("models"), Client(farm.url, "ada", PASSWORD), {})


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    with ExitStack() as stop:
        yield Peers(stop)


class Peers:
    """Servers with a machine behind them, each started once, when a test first needs it."""

    def __init__(self, stop: ExitStack) -> None:
        self._stop = stop
        self._running: dict[str, Peer] = {}

    def __getitem__(self, name: str) -> Peer:
        if name not in self._running:
            self._running[name] = self._stop.enter_context(self._start(name))
        return self._running[name]

    def _start(self, name: str) -> Peer:
        if name == "octoprint":
            if reason := octoprint_missing():
                pytest.skip(reason)
            return OctoPrintPeer()
        if name == "moonraker":
            if reason := moonraker_missing():
                pytest.skip(reason)
            return MoonrakerPeer()
        return SimulatorPeer(name.removeprefix("simulated-"))
