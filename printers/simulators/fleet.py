"""Hundreds of OctoPrints that print, in one process: ``python -m printers.simulators.fleet --count 500``.

Each is the simulated OctoPrint (:mod:`octoprint`) with its own port, key and files, made cheap: its print advances by
the clock instead of by G-code, and of the two ``current`` messages a second only the numbers are made anew. It is
busier than a real one: every message carries a new temperature sample (a real server's one in three).

The first line on stdout is ``{"printers": [{"name", "kind", "url", "api_key"}, ...]}``. Then each line on stdin is an
order; end of input ends the fleet:

``{"changes_per_s": 2.0}``   pause and resume printers at random moments, so many times a second; 0 ends that
``{"report": true}``         answer on stdout with one line of what happened since the last report, see Fleet.report
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import orjson

from printers.simulators.octoprint import OctoPrint
from printers.simulators.octoprint_host import Host
from printers.simulators.octoprint_push import UPDATE_SECONDS, Push, Viewer

FILE = "helical-gear.gcode"
#: bytes of that file and s that it takes: its progress moves with every message
FILE_SIZE, PRINT_SECONDS = 1_000_000, 4 * 3600.0
TARGETS = {"tool0": 215.0, "bed": 60.0}
#: degrees that a controlled heater wanders about its target (standard deviation)
RIPPLE = 0.2
#: s between two changes of state of one printer, so that none hides the one before
REST = 5.0
#: s between two looks at the clock; a message goes out at most so much later than it is due
TICK = 0.005
_dice = random.Random()  # noqa: S311 - it makes weather, not keys
_GCODE = (b"G1 X10 Y10 E1 F3000\n" * (FILE_SIZE // 20))[:FILE_SIZE]
#: what differs between two messages of one state; the rest of a message is encoded once
_NUMBERS = ("completion", "filepos", "printTime", "printTimeLeft", "serverTime", "temps")


class FleetHost(Host):
    """Prints by the clock. Knows when its state changed, by the monotonic clock that all processes share."""

    def boot(self) -> None:
        super().boot()
        self.changed_at = 0.0
        self.temps = deque(maxlen=100)  # less than the real one keeps: there are many of us
        self._begun_at = 0.0
        self._facts: dict[str, Any] = {}

    def begin(self, done: float) -> None:
        """The print is on, and was begun so long ago that ``done`` (0..1) of it is over."""
        for name, target in TARGETS.items():
            self.machine.heaters[name].target = target
        self.select(FILE, "_api")
        self.start("_api")
        self._loaded = _GCODE  # one for all
        self._elapsed = done * PRINT_SECONDS
        self._begin()

    def step(self) -> None:
        """Progress and temperatures of now."""
        if self.machine.job is not None:
            self.machine.job.position = min(int(self.print_seconds / PRINT_SECONDS * FILE_SIZE), FILE_SIZE - 1)
        for heater in self.machine.heaters.values():
            heater.actual = _dice.gauss(heater.target or heater.ambient, RIPPLE)
        self.tick()

    def _poll_machine(self, now: float) -> None:
        self.sample_temperatures()

    def _become(self, state: str, *, quiet: bool = False) -> None:
        self.changed_at = time.monotonic()  # before anybody is told
        super()._become(state, quiet=quiet)

    def _loaded_job_info(self, path: str) -> dict[str, Any]:
        """The real one looks at the disk, for every message."""
        if self._facts.get("file", {}).get("path") != path:
            self._facts = {**super()._loaded_job_info(path), "estimatedPrintTime": PRINT_SECONDS}
        return self._facts


class FleetPush(Push):
    """Sends what :class:`Push` does, without encoding twice what stays the same."""

    def __init__(self) -> None:
        super().__init__()
        self.authorised_at: float | None = None
        self.messages = self.bytes = 0
        self._mould: bytes = b""
        self._moulded: tuple[Any, ...] = ()

    def _authorise(self, viewer: Viewer, login: str) -> None:
        super()._authorise(viewer, login)
        if viewer.authorised:
            self.authorised_at = time.monotonic()

    def update(self) -> None:
        """To everybody, now: whoever calls keeps OctoPrint's pace."""
        for viewer in self._viewers:
            if viewer.authorised and viewer.state:
                message = self._encoded(viewer)
                viewer.socket.send_encoded(message)
                viewer.temps, viewer.logs = [], []
                self.messages += 1
                self.bytes += len(message)

    def tick(self) -> None:
        """Not by the clock of the single simulator."""

    def _encoded(self, viewer: Viewer) -> bytes:
        progress = self.host.progress_info()
        numbers = {**progress, "serverTime": time.time(), "temps": viewer.temps}
        return self._moulded_for(progress) % {name.encode(): orjson.dumps(numbers[name]) for name in _NUMBERS}

    def _moulded_for(self, progress: dict[str, Any]) -> bytes:
        """The message of this state with a place for each number."""
        host = self.host
        shape = (host.state, host.file, len(host.markings), progress["printTimeLeftOrigin"])
        if shape != self._moulded:
            places = {name: f"<{name}>" for name in _NUMBERS}
            snapshot = {**self._snapshot(), "temps": [], "logs": [], "messages": []}
            snapshot = {name: places.get(name, value) for name, value in snapshot.items()}
            snapshot["progress"] = {name: places.get(name, value) for name, value in progress.items()}
            text = json.dumps({"current": snapshot}).replace("%", "%%")
            for name, place in places.items():
                text = text.replace(f'"{place}"', f"%({name})b")
            self._mould, self._moulded = text.encode(), shape
        return self._mould


class FleetPrinter(OctoPrint):
    """One of many. Prints from the beginning; what it is told to do besides (home, jog) it does as the single one."""

    host_kind, push_kind = FleetHost, FleetPush
    host: FleetHost
    push: FleetPush

    async def open(self, done: float) -> dict[str, str]:
        """Listen, and be in the middle of a print; its address and key."""
        await self.web.listen()
        self.power_on()
        self.host._opened()
        self.host.begin(done)
        address = f"http://127.0.0.1:{self.web.port}"
        return {"name": self.name, "kind": "octoprint", "url": address, "api_key": self.api_key}

    def step(self, seconds: float) -> None:
        if self.machine.busy:  # somebody asked for something
            self.machine.advance(seconds)
        self.host.step()
        self.push.update()

    def toggle(self) -> tuple[str, float]:
        """Pause or resume: (the farm's word for the new state, when it was reached). It is told at once, by events."""
        if self.host.paused:
            self.host.resume()
        else:
            self.host.pause()
        return ("paused" if self.host.paused else "printing"), self.host.changed_at


class Fleet:
    """``count`` printers called Fleet 0001 and so on, with their files in ``folder``."""

    def __init__(self, count: int, folder: Path) -> None:
        shared = folder / FILE
        shared.write_bytes(_GCODE)
        self.printers = [self._printer(folder, shared, n) for n in range(count)]
        self._due: list[tuple[float, int]] = []
        self._rested = [0.0] * count
        self._changes: list[tuple[int, str, float]] = []
        self._pace = 0.0
        self._next_change = 0.0

    @staticmethod
    def _printer(folder: Path, shared: Path, n: int) -> FleetPrinter:
        own = folder / f"{n:04}"
        own.mkdir()
        printer = FleetPrinter(api_key=secrets.token_hex(16), data_dir=own, name=f"Fleet {n + 1:04}")
        os.link(shared, printer.storage.folder / FILE)
        printer.storage.known[FILE] = {"user": "_api"}
        return printer

    async def open(self) -> list[dict[str, str]]:
        facts = [await printer.open(_dice.uniform(0.05, 0.6)) for printer in self.printers]
        now = time.monotonic()
        self._due = [(now + _dice.uniform(0, UPDATE_SECONDS), n) for n in range(len(self.printers))]
        heapq.heapify(self._due)
        return facts

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.step(time.monotonic())

    def step(self, now: float) -> None:
        """Whatever is due: messages, a change of state."""
        while self._due and self._due[0][0] <= now:
            due, n = self._due[0]
            self.printers[n].step(UPDATE_SECONDS)
            # in its own pace, unless we are too late for that
            heapq.heapreplace(self._due, (max(due + UPDATE_SECONDS, now + TICK), n))
        if self._pace and now >= self._next_change:
            self._change_one(now)
            self._next_change = now + _dice.expovariate(self._pace)

    def change_state(self, per_second: float) -> None:
        self._pace, self._next_change = per_second, 0.0

    def _change_one(self, now: float) -> None:
        n = _dice.randrange(len(self.printers))
        printer = self.printers[n]
        if self._rested[n] <= now and printer.host.state in ("PRINTING", "PAUSED") and not printer.machine.busy:
            self._rested[n] = now + REST
            self._changes.append((n, *printer.toggle()))

    def report(self) -> dict[str, Any]:
        """``changes`` [[index, status, when]], ``messages``, ``bytes`` since the last report; now: ``statuses`` and
        ``connected`` (when each live connection was logged in, or null). Times are s of the monotonic clock, and that
        of a change is when the state changed, before its first byte was sent."""
        printers = self.printers
        changes, self._changes = self._changes, []
        result = {
            "changes": changes,
            "messages": sum(printer.push.messages for printer in printers),
            "bytes": sum(printer.push.bytes for printer in printers),
            "connected": [printer.push.authorised_at for printer in printers],
            "statuses": ["paused" if printer.host.paused else "printing" for printer in printers],
        }
        for printer in printers:
            printer.push.messages = printer.push.bytes = 0
        return result

    def order(self, line: str) -> dict[str, Any] | None:
        """Carry out one line of stdin; what is to be answered."""
        wish = json.loads(line)
        if "changes_per_s" in wish:
            self.change_state(float(wish["changes_per_s"]))
        return self.report() if wish.get("report") else None

    async def close(self) -> None:
        await asyncio.gather(*(printer.stop() for printer in self.printers))


async def serve(count: int, folder: Path) -> None:
    fleet = Fleet(count, folder)
    _say({"printers": await fleet.open()})
    clock = asyncio.create_task(fleet.run())
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        answer = fleet.order(line.decode())
        if answer is not None:
            _say(answer)
    clock.cancel()
    await fleet.close()


def _say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Many OctoPrints that print, in one process")
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(serve(options.count, Path(folder)))


if __name__ == "__main__":
    main()
