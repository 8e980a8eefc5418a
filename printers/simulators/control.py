"""What both simulators share: the clock that drives the machine, the tests' own door, and how they are started.

The door is ``/simulator/`` (needs the API key), off the vendor's protocol::

    POST {"fault": NAME, ...}    do something that real printers do at the worst moment; see Simulator.faults
    GET                          what really happened: starts per file, commands in order, filament through the nozzle;
                                 which ordered faults are still to come; whether it is at rest
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import json
import logging
import secrets
import signal
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from printers.simulators import camera
from printers.simulators.machine import Machine
from printers.simulators.web import CONTROL_PATH, NoAnswer, Request, Response, Server, WebSocket

#: Seconds between two looks at the clock.
TICK = 0.02

Fault = Callable[[dict[str, Any]], None]


class Orders:
    """Faults that wait for their moment: each is taken as often as it was ordered (``times``, default once)."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[dict[str, Any]]] = {}

    def put(self, name: str, details: dict[str, Any]) -> None:
        self._waiting.setdefault(name, []).extend([details] * int(details.get("times", 1)))

    def take(self, name: str) -> dict[str, Any] | None:
        waiting = self._waiting.get(name)
        return waiting.pop(0) if waiting else None

    @property
    def waiting(self) -> list[str]:
        """Names of the faults that have not happened yet."""
        return [name for name, details in self._waiting.items() if details]

    def clear(self) -> None:
        self._waiting.clear()


class Simulator(ABC):
    """One simulated printer with its server. Times given to faults are real seconds."""

    #: where the vendor's WebSocket is
    socket_path: str

    def __init__(self, *, api_key: str, data_dir: Path, speed: float = 1.0, name: str = "Simulator") -> None:
        self.api_key, self.data_dir, self.speed, self.name = api_key, data_dir, speed, name
        self.web = Server(self._answer, self.serve_socket, self.socket_path)
        self.orders = Orders()
        self.starts: Counter[str] = Counter()
        self.commands: list[str] = []
        self.uploads: list[str] = []
        self._usual_speed = speed
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    @abstractmethod
    def machine(self) -> Machine: ...

    # -- what a vendor's server does
    @abstractmethod
    async def answer(self, request: Request) -> Response: ...

    @abstractmethod
    async def serve_socket(self, socket: WebSocket) -> None: ...

    @abstractmethod
    def authorised(self, request: Request) -> bool: ...

    @abstractmethod
    def power_on(self) -> None:
        """Begin as after a reboot: nothing loaded, nobody logged in; files and records stay."""

    def power_off(self) -> None:
        """Everything stops where it is."""
        self.machine.halt("Power loss")

    @abstractmethod
    def fail_print(self, message: str) -> None: ...

    @abstractmethod
    def start_locally(self, file: str) -> None:
        """Somebody at the machine starts a file. Raises ValueError if it cannot be started."""

    def advance(self, seconds: float) -> None:
        """Let simulated time pass, in real seconds."""
        self.machine.advance(seconds * self.speed)

    # -- life
    async def start(self, port: int = 0) -> str:
        """Listen and let time begin; the address."""
        await self.web.listen(port)
        self.power_on()
        self.spawn(self._run_clock())
        return f"http://127.0.0.1:{self.web.port}"

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.web.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logging.getLogger(__name__).error("The simulator failed", exc_info=error)

    async def _run_clock(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self.advance(now - last)
            last = now

    async def _answer(self, request: Request) -> Response:
        if request.path == CONTROL_PATH:
            return self._control(request)
        if request.path == camera.CAMERA_PATH:  # beside the vendor's server, and without its key
            return camera.answer(request, self.machine, self.name)
        return await self.answer(request)

    # -- the tests' own door
    def faults(self) -> dict[str, Fault]:
        """By name; details in brackets, with their defaults:

        speed (speed)               run the machine so many times faster than real
        hang (seconds 5)            accept connections, answer nobody, then carry out what came in meanwhile
        resume                      end a hang now
        drop                        close every WebSocket without a close frame
        swallow_start (times 1)     take the next start, begin the print, never answer
        ignore_start (times 1)      take the next start, do nothing, never answer
        refuse_start (message)      refuse the next start
        fail_print (message, at)    the print fails now, or once ``at`` (0..1) of the file is done
        slow_upload (seconds 5)     read the bodies of uploads so much later from now on; 0 ends it
        reject_upload (times 1)     refuse the next upload
        corrupt_upload (times 1)    keep only half of the next upload and say nothing
        local_start (file)          somebody at the machine starts that file
        power_loss (seconds 1)      dead at once; back after that, with nothing but its files
        restart (seconds 1)         the same, for the server's software
        """
        later = ("swallow_start", "ignore_start", "refuse_start", "reject_upload", "corrupt_upload")
        waiting = {name: (lambda details, name=name: self.orders.put(name, details)) for name in later}
        return {
            **waiting,
            "speed": lambda details: setattr(self, "speed", float(details["speed"])),
            "hang": lambda details: self.web.hang(float(details.get("seconds", 5))),
            "resume": lambda details: self.web.resume(),
            "drop": lambda details: self.web.drop(only_sockets=True),
            "fail_print": self._order_failure,
            "slow_upload": lambda details: setattr(self.web, "upload_delay", float(details.get("seconds", 5))),
            "local_start": lambda details: self.start_locally(str(details["file"])),
            "power_loss": self._lose_power,
            "restart": self._lose_power,
        }

    def counters(self) -> dict[str, Any]:
        return {
            "starts": dict(self.starts),
            "commands": self.commands,
            "uploads": self.uploads,
            "filament_mm": self.machine.extruded,
            "speed": self.speed,
            "printing": self.machine.job is not None,
            "ordered": self.orders.waiting,
            "at_rest": self.at_rest,
        }

    @property
    def at_rest(self) -> bool:
        """Cold, idle, as fast as it was started and with no fault to come: nothing of an earlier test is left."""
        machine, web = self.machine, self.web
        idle = machine.job is None and not machine.busy and machine.failure is None and machine.cold
        healthy = not web.hanging and not web.upload_delay and not self.orders.waiting
        return idle and healthy and self.speed == self._usual_speed

    def _control(self, request: Request) -> Response:
        if not self.authorised(request):
            return Response.of({"error": "The API key is missing or wrong"}, 403)
        if request.method == "GET":
            return Response.of(self.counters())
        try:
            details = request.json()
            self.faults()[details["fault"]](details)
        except (KeyError, TypeError, ValueError) as error:
            return Response.of({"error": f"No such fault, or a detail of it is missing: {error}"}, 400)
        return Response.of({"done": details["fault"]})

    def _order_failure(self, details: dict[str, Any]) -> None:
        message = str(details.get("message", "Simulated failure"))
        if "at" in details:
            self.machine.fail_job(message, float(details["at"]))
        else:
            self.fail_print(message)

    def _lose_power(self, details: dict[str, Any]) -> None:
        self.spawn(self._reboot(float(details.get("seconds", 1))))

    async def _reboot(self, seconds: float) -> None:
        await asyncio.sleep(TICK)  # let the answer to whoever ordered this get out
        self.web.vanish()
        self.power_off()
        await asyncio.sleep(seconds)
        self.power_on()
        await self.web.listen()

    def began(self, file: str) -> None:
        """A print has begun, whoever asked for it."""
        self.starts[file] += 1

    # -- faults that a vendor's server asks about
    async def before_start(self) -> str | None:
        """Called with every start that was understood: the reason to refuse it, or None. May never return."""
        if self.orders.take("ignore_start") is not None:
            raise NoAnswer
        refused = self.orders.take("refuse_start")
        return str(refused.get("message", "Simulated refusal")) if refused is not None else None

    async def after_start(self) -> None:
        """Called once the print has begun. May never return."""
        if self.orders.take("swallow_start") is not None:
            raise NoAnswer

    def received(self, data: bytes) -> bytes:
        """What of an uploaded file arrives on the disk."""
        return data[: len(data) // 2] if self.orders.take("corrupt_upload") is not None else data


def write_whole(path: Path, text: str) -> None:
    """A simulator may be killed at any moment, and its records must still be readable."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def same_secret(given: str | None, secret: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), secret.encode())


def main(kind: type[Simulator], description: str) -> None:
    """Run one simulator until SIGTERM or SIGINT. Prints one line of JSON when it is ready."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="0 takes any free one")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster than a real machine")
    parser.add_argument("--name", default="Simulator")
    parser.add_argument("--data-dir", type=Path, help="where files are kept; a temporary folder if not given")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        key = options.api_key or secrets.token_hex(16).upper()
        asyncio.run(_serve(kind(api_key=key, data_dir=folder, speed=options.speed, name=options.name), options.port))


async def _serve(simulator: Simulator, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    url = await simulator.start(port)
    sys.stdout.write(json.dumps({"url": url, "api_key": simulator.api_key}) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    await simulator.stop()
