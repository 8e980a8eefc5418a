"""A stand-in for Klipper: ``python -m printers.simulators.klippy --socket PATH --gcodes DIR``.

Klipper itself is not on any package index, so the real Moonraker is tested against this: Klippy's API socket
(JSON objects that end in 0x03) with a machine made of arithmetic behind it. The simulated Moonraker uses the same
:class:`Klippy` without the socket. Behaviour and wording were held against Klipper v0.13.

For tests, what Klipper does not have: a command ``SIMULATE_SHUTDOWN MSG="..."`` and, because a command waits behind
what the machine is at, a request ``simulate/speed {"factor": n}``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

from printers.simulators.klippy_core import TICK, Klippy, KlippyError
from printers.simulators.klippy_objects import Status, Wanted

_ENDPOINTS = [
    "list_endpoints",
    "info",
    "emergency_stop",
    "register_remote_method",
    "gcode/help",
    "gcode/script",
    "gcode/restart",
    "gcode/firmware_restart",
    "gcode/subscribe_output",
    "objects/list",
    "objects/query",
    "objects/subscribe",
    "pause_resume/cancel",
    "pause_resume/pause",
    "pause_resume/resume",
    "query_endstops/status",
]
_HELP = {
    "RESTART": "Reload config file and restart host software",
    "FIRMWARE_RESTART": "Restart firmware, host, and reload config",
    "PAUSE": "Pauses the current print",
    "RESUME": "Resumes the print from a pause",
    "CANCEL_PRINT": "Cancel the current print",
    "TURN_OFF_HEATERS": "Turn off all heaters",
    "SDCARD_PRINT_FILE": "Loads a SD file and starts the print.  May include files in subdirectories.",
}


class Session:
    """One client of Klippy's API. ``send`` takes a message, ``hang_up`` closes the connection."""

    def __init__(self, klippy: Klippy, send: Callable[[dict[str, Any]], None], hang_up: Callable[[], None]) -> None:
        self.klippy, self._send, self._hang_up = klippy, send, hang_up
        self._output: dict[str, Any] | None = None
        self._objects: Wanted = {}
        self._template: dict[str, Any] = {}
        self._seen: Status = {}
        klippy.sessions.add(self)

    def close(self) -> None:
        self.klippy.sessions.discard(self)

    def hang_up(self) -> None:
        self._hang_up()

    async def handle(self, request: dict[str, Any]) -> None:
        """Answer one request; a request without an id gets no answer."""
        number = request.get("id")
        try:
            answer: dict[str, Any] = {"result": await self.call(request.get("method", ""), request.get("params") or {})}
        except KlippyError as error:
            answer = {"error": {"error": "WebRequestError", "message": str(error)}}
        if number is not None:
            self._send({"id": number, **answer})

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Raises KlippyError."""
        klippy = self.klippy
        scripts = {
            "pause_resume/pause": "PAUSE",
            "pause_resume/resume": "RESUME",
            "pause_resume/cancel": "CANCEL_PRINT",
            "gcode/restart": "RESTART",
            "gcode/firmware_restart": "FIRMWARE_RESTART",
        }
        facts: dict[str, Callable[[], Any]] = {
            "info": klippy.info,
            "list_endpoints": lambda: {"endpoints": _ENDPOINTS},
            "objects/list": lambda: {"objects": klippy.objects.names()},
            "gcode/help": lambda: _HELP,
            "register_remote_method": dict,
            "query_endstops/status": lambda: dict.fromkeys(("stepper_x", "stepper_y", "stepper_z"), "open"),
        }
        if method in facts:
            return facts[method]()
        if method in scripts:
            await klippy.script(scripts[method])
        elif method == "gcode/script":
            await klippy.script(str(_needed(params, "script")))
        elif method == "emergency_stop":
            klippy.shutdown("Shutdown due to webhooks request")
        elif method == "simulate/speed":
            klippy.speed = float(_needed(params, "factor"))
        elif method == "gcode/subscribe_output":
            self._output = params.get("response_template", {})
        elif method in ("objects/query", "objects/subscribe"):
            return await self._query(params, subscribe=method == "objects/subscribe")
        else:
            raise KlippyError(f"webhooks: No registered callback for path '{method}'")
        return {}

    async def _query(self, params: dict[str, Any], *, subscribe: bool) -> dict[str, Any]:
        objects = _needed(params, "objects")
        if not isinstance(objects, dict):
            raise KlippyError("Invalid Argument Type [objects]")
        try:
            self.klippy.objects.pick(objects)  # complain at once, not on the beat
        except TypeError as error:
            raise KlippyError(str(error)) from None
        status = await self.klippy.query(objects)
        if subscribe:
            self._objects, self._template = objects, params.get("response_template", {})
            self._seen = status
        return {"eventtime": time.monotonic(), "status": status}

    def send_changes(self, now: float) -> None:
        """Only fields that differ from what this client has; lists and dicts inside are replaced whole."""
        if not self._objects:
            return
        status = self.klippy.objects.pick(self._objects)
        changes = {
            name: changed
            for name, values in status.items()
            if (changed := {key: value for key, value in values.items() if self._differs(name, key, value)})
        }
        self._seen = status
        if changes:
            self._send({**self._template, "params": {"eventtime": now, "status": changes}})

    def _differs(self, name: str, key: str, value: Any) -> bool:
        seen = self._seen.get(name, {})
        return key not in seen or seen[key] != value

    def send_output(self, text: str) -> None:
        if self._output is not None:
            self._send({**self._output, "params": {"response": text}})


def _needed(params: dict[str, Any], name: str) -> Any:
    if name not in params:
        raise KlippyError(f"Missing Argument [{name}]")
    return params[name]


class SocketServer:
    """Klippy's unix socket, there only while Klippy is."""

    def __init__(self, klippy: Klippy, path: Path) -> None:
        self.klippy, self.path = klippy, path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        klippy.watch = self._watch

    async def close(self) -> None:
        self.klippy.crash()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _watch(self, online: bool) -> None:
        if online:
            self._spawn(self._open())
        elif self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)

    async def _open(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.path), limit=1 << 24)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connections.add(task)
        session = Session(self.klippy, lambda message: _write(writer, message), writer.close)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = await reader.readuntil(b"\x03")
                self._spawn(session.handle(json.loads(message[:-1])))  # a script may take minutes, others go on
        session.close()
        writer.close()
        self._connections.discard(task)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\x03")


async def _run(klippy: Klippy, path: Path) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = SocketServer(klippy, path)
    klippy.boot()
    clock = asyncio.get_running_loop().create_task(_run_clock(klippy))
    sys.stdout.write(json.dumps({"socket": str(path)}) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    clock.cancel()
    klippy.stop()
    await server.close()


async def _run_clock(klippy: Klippy) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(TICK)
        now = time.monotonic()
        klippy.advance(now - last)
        last = now


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for Klipper behind a real Moonraker")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--gcodes", type=Path, required=True, help="Moonraker's folder of G-code files")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster than a real machine")
    parser.add_argument("--extruders", type=int, default=1)
    options = parser.parse_args()
    options.gcodes.mkdir(parents=True, exist_ok=True)
    klippy = Klippy(options.gcodes, speed=options.speed, extruders=options.extruders)
    asyncio.run(_run(klippy, options.socket.absolute()))


if __name__ == "__main__":
    main()
