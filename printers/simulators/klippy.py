"""A stand-in for Klipper: ``python -m printers.simulators.klippy --socket PATH --gcodes DIR``.

Klipper itself is not on any package index, so the real Moonraker is tested against this: Klippy's API socket
(JSON objects that end in 0x03) with a machine made of arithmetic behind it. The simulated Moonraker uses the same
:class:`Klippy` without the socket. Behaviour and wording were held against Klipper v0.13.

For tests, two commands that Klipper does not have: ``SIMULATE_SHUTDOWN MSG="..."`` and ``SIMULATE_SPEED FACTOR=n``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from printers.simulators.machine import Command, Machine, MachineError, Wait, parse

#: Klippy answers queries and sends changes on this beat (4 Hz).
BEAT_SECONDS = 0.25
#: Klipper plans at least this far ahead, so no print with a move in it is over sooner, however fast the machine.
PLANNING_SECONDS = 0.3
STARTUP_SECONDS = 0.3
TICK = 0.02

#: What whoever still waited for an answer is told when Klippy goes; Moonraker's wording.
GONE = "Klippy Disconnected"
_NOT_READY = (
    "\nPrinter is not ready\nThe klippy host software is attempting to connect.  Please\nretry in a few moments.\n"
)
_ADVICE = (
    'Once the underlying issue is corrected, use the\n"FIRMWARE_RESTART" command to reset the firmware, '
    "reload the\nconfig, and restart the host software.\n"
)
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

Status = dict[str, dict[str, Any]]
Objects = dict[str, list[str] | None]


class KlippyError(Exception):
    """Klippy answered with an error."""


@dataclass
class PrintStats:
    """Klipper's print_stats. Some of its habits matter to whoever watches: print_duration stays 0 until filament
    flows, and a shutdown leaves ``paused`` behind with total_duration still growing."""

    extruded: Callable[[], float]
    clock: Callable[[], float] = time.monotonic
    filename: str = ""
    state: str = "standby"
    message: str = ""
    info: dict[str, int | None] = field(default_factory=lambda: {"total_layer": None, "current_layer": None})

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.filename, self.state, self.message = "", "standby", ""
        self.info = {"total_layer": None, "current_layer": None}
        self._started: float | None = None
        self._paused_at: float | None = None
        self._paused = self._before_filament = self._total = self._filament = 0.0
        self._extruded_before = self.extruded()

    def load(self, filename: str) -> None:
        self.reset()
        self.filename = filename

    def start(self) -> None:
        now = self.clock()
        if self._started is None:
            self._started = now
        elif self._paused_at is not None:
            self._paused += now - self._paused_at
        self._paused_at, self.state, self.message = None, "printing", ""

    def pause(self) -> None:
        if self._paused_at is None:
            self._paused_at = self.clock()
        if self.state != "error":
            self.state = "paused"

    def finish(self, state: str, message: str = "") -> None:
        """``complete``, ``cancelled`` or ``error``; nothing if no print was under way."""
        if self._started is None:
            return
        self._measure()
        if self._paused_at is not None:
            self._paused += self.clock() - self._paused_at
        self.state, self.message = state, message
        self._started = self._paused_at = None

    def set_layers(self, total: int | None, current: int | None) -> None:
        if total is not None:
            self.info = {"total_layer": total or None, "current_layer": self.info["current_layer"] or 0}
        if current is not None and self.info["total_layer"]:
            self.info = {**self.info, "current_layer": min(current, self.info["total_layer"])}

    def _measure(self) -> float:
        """Bring the totals up to date; the seconds spent paused."""
        paused = self._paused
        if self._started is not None:
            now = self.clock()
            paused += now - self._paused_at if self._paused_at is not None else 0.0
            self._filament = self.extruded() - self._extruded_before
            self._total = now - self._started
            if self._filament < 1e-7:
                self._before_filament = self._total - paused
        return paused

    def status(self) -> dict[str, Any]:
        paused = self._measure()
        return {
            "filename": self.filename,
            "total_duration": self._total,
            "print_duration": max(0.0, self._total - self._before_filament - paused),
            "filament_used": self._filament,
            "state": self.state,
            "message": self.message,
            "info": self.info,
        }


@dataclass
class SdCard:
    """Klipper's virtual_sdcard: the loaded file, and whether it is being worked on."""

    path: Path | None = None
    size: int = 0
    position: int = 0
    active: bool = False


class Klippy:
    """The host software with its printer. ``watch`` is called with False when its socket closes (a restart, a crash)
    and with True when it is there again."""

    def __init__(self, gcodes: Path, *, speed: float = 1.0, extruders: int = 1, restart_seconds: float = 0.5) -> None:
        self.gcodes, self.speed, self.restart_seconds = gcodes.resolve(), speed, restart_seconds
        self.machine = Machine(self._machine_says, tools=extruders, strict=True, commands=self._commands())
        self.heaters = {"extruder": "tool0", "heater_bed": "bed"}
        self.heaters |= {f"extruder{n}": f"tool{n}" for n in range(1, extruders)}
        self.sessions: set[Session] = set()
        self.watch: Callable[[bool], None] = lambda online: None
        self.online = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._reset("startup", _NOT_READY)

    def _reset(self, state: str, message: str) -> None:
        self.state, self.message = state, message
        self.machine.reset()
        self.print_stats = PrintStats(lambda: self.machine.extruded)
        self.sd = SdCard()
        self.is_paused = self.sd_was_active = False
        self._ends_at: float | None = None
        self._beat_at = 0.0
        self._waiting: list[tuple[Objects, asyncio.Future[Status]]] = []

    # -- life
    def boot(self) -> None:
        """The process starts; ready a moment later."""
        self._reset("startup", _NOT_READY)
        self._come_online()
        self._spawn(self._become_ready())

    def _come_online(self) -> None:
        self.online = True
        self.watch(True)

    async def _become_ready(self) -> None:
        await asyncio.sleep(STARTUP_SECONDS)
        if self.state == "startup":
            self.state, self.message = "ready", "Printer is ready"

    def crash(self) -> None:
        """The process is gone: every connection closes, whatever it did ends."""
        self.online = False
        self.machine.halt(GONE)
        waiting, self._waiting = self._waiting, []
        for _, answer in waiting:
            if not answer.done():
                answer.set_exception(KlippyError(GONE))
        for session in list(self.sessions):
            session.hang_up()
        self.sessions.clear()
        self.watch(False)

    async def _restart(self, *, firmware: bool) -> None:
        after_shutdown = self.state in ("shutdown", "error") and not firmware
        await asyncio.sleep(TICK)  # the answer to whoever asked leaves first
        self.respond("// Klipper state: Disconnect")
        self.crash()
        await asyncio.sleep(self.restart_seconds)
        if after_shutdown:  # only FIRMWARE_RESTART clears the shutdown of a micro-controller
            message = f"Can not update MCU 'mcu' config as it is shutdown\n{_ADVICE}Error configuring printer\n"
            self._reset("error", message)
            self._come_online()
        else:
            self.boot()

    def restart(self, *, firmware: bool) -> None:
        self._spawn(self._restart(firmware=firmware))

    def shutdown(self, reason: str) -> None:
        """The firmware stops everything; only FIRMWARE_RESTART leads out."""
        if self.state == "shutdown":
            return
        self.state, self.message = "shutdown", f"{reason}\n{_ADVICE}Printer is shutdown\n"
        self._remember_position()
        self.machine.halt(self.message)
        self.respond("// Klipper state: Shutdown")
        if self.sd.active:
            self.sd.active = False
            self.print_stats.pause()

    def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- time
    def advance(self, seconds: float) -> None:
        """Let this many real seconds pass."""
        self.machine.advance(seconds * self.speed)
        now = time.monotonic()
        if self._ends_at is not None and now >= self._ends_at:
            self._complete()
        if self.online and now >= self._beat_at:
            self._beat_at = now + BEAT_SECONDS
            self._beat(now)

    def _beat(self, now: float) -> None:
        waiting, self._waiting = self._waiting, []
        for objects, answer in waiting:
            if not answer.done():
                answer.set_result(self.pick(objects))
        for session in list(self.sessions):
            session.send_changes(now)

    async def query(self, objects: Objects) -> Status:
        """The answer comes on the next beat, as Klippy's does."""
        answer: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        self._waiting.append((objects, answer))
        return await answer

    # -- G-code
    async def script(self, text: str) -> None:
        """Run lines; returns when the last has been carried out, so behind a heat-up it takes long."""
        lines = text.split("\n")
        if self.state != "ready":
            self._run_unready(lines)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.machine.run(lines, lambda error: _settle(done, error))
        self.machine.advance(0.0)
        try:
            await done
        except MachineError as error:
            self._respond_error(str(error))
            raise KlippyError(str(error)) from error

    def _run_unready(self, lines: list[str]) -> None:
        for line in lines:
            command = parse(line)
            if command is None:
                continue
            if command.name not in ("RESTART", "FIRMWARE_RESTART", "M112"):
                self._respond_error(self.message)
                raise KlippyError(self.message)
            self.machine.commands[command.name](command)

    def respond(self, text: str) -> None:
        for session in list(self.sessions):
            session.send_output(text)

    def _respond_error(self, message: str) -> None:
        lines = message.strip().split("\n")
        if len(lines) > 1:
            self.respond("\n".join(f"// {line}" for line in lines))
        self.respond(f"!! {lines[0]}")

    def _commands(self) -> dict[str, Callable[[Command], Wait]]:
        quick: dict[str, Callable[[Command], None]] = {
            "CANCEL_PRINT": self._cancel,
            "CLEAR_PAUSE": lambda c: self._clear_pause(),
            "FIRMWARE_RESTART": lambda c: self.restart(firmware=True),
            "M84": lambda c: self.machine.homed.clear(),
            "M105": lambda c: self.respond(self._temperatures()),
            "M112": lambda c: self.shutdown("Shutdown due to M112 command"),
            "M114": lambda c: self.respond("X:{:.3f} Y:{:.3f} Z:{:.3f} E:{:.3f}".format(*self.machine.position)),
            "M115": lambda c: self.respond("FIRMWARE_NAME:Klipper FIRMWARE_VERSION:simulated"),
            "PAUSE": self._pause,
            "RESTART": lambda c: self.restart(firmware=False),
            "RESUME": self._resume,
            "SDCARD_PRINT_FILE": self._print_file,
            "SDCARD_RESET_FILE": self._reset_file,
            "SET_PRINT_STATS_INFO": self._set_layers,
            "SIMULATE_SHUTDOWN": lambda c: self.shutdown(_words(c).get("MSG", "MCU 'mcu' shutdown: Simulated")),
            "SIMULATE_SPEED": lambda c: setattr(self, "speed", float(_words(c)["FACTOR"])),
            "TURN_OFF_HEATERS": lambda c: self._turn_off_heaters(),
        }
        slow: dict[str, Callable[[Command], Wait]] = {"SET_HEATER_TEMPERATURE": self._set_heater}
        return {name: _at_once(action) for name, action in quick.items()} | slow

    def _set_heater(self, command: Command) -> Wait:
        words = _words(command)
        name = words.get("HEATER", "")
        if name not in self.heaters:
            raise MachineError(f"The value '{name}' is not valid for HEATER")
        return self.machine.heat(self.heaters[name], float(words.get("TARGET", 0)))

    def _turn_off_heaters(self) -> None:
        for heater in self.machine.heaters.values():
            heater.target = 0.0

    def _set_layers(self, command: Command) -> None:
        words = _words(command)
        total, current = words.get("TOTAL_LAYER"), words.get("CURRENT_LAYER")
        self.print_stats.set_layers(int(total) if total else None, int(current) if current else None)

    def _temperatures(self) -> str:
        heaters = self.machine.heaters
        shown = [("B", heaters["bed"])] + [(f"T{n}", heaters[f"tool{n}"]) for n in range(self.machine.tools)]
        return " ".join(f"{name}:{heater.actual:.1f} /{heater.target:.1f}" for name, heater in shown)

    # -- the print
    def _reset_file(self, command: Command) -> None:
        if self.sd.active:
            raise MachineError("SD busy")
        self._forget_file()

    def _forget_file(self) -> None:
        self.machine.drop_job()
        self.sd = SdCard()
        self.print_stats.reset()

    def _print_file(self, command: Command) -> None:
        """While paused this silently replaces the paused print, and is_paused stays: so does Klipper."""
        if self.sd.active:
            raise MachineError("SD busy")
        self._forget_file()
        name = _words(command).get("FILENAME", "").lstrip("/")
        path = (self.gcodes / name).resolve()
        if not name or not path.is_relative_to(self.gcodes) or not path.is_file():
            raise MachineError("Unable to open file")
        data = path.read_bytes()
        self.respond(f"File opened:{name} Size:{len(data)}")
        self.respond("File selected")
        self.sd = SdCard(path, len(data))
        self.machine.shown_progress = None
        self.print_stats.load(name)
        self._begin(data)

    def _begin(self, data: bytes) -> None:
        self.machine.start(data)
        self.sd.active = True
        self.print_stats.start()
        self._ends_at = None
        self._planned_until = time.monotonic() + PLANNING_SECONDS

    def _pause(self, command: Command) -> None:
        if self.is_paused:
            self.respond("// Print already paused")
            return
        self.sd_was_active = self.sd.active
        if self.sd.active:
            self.machine.hold()
        else:
            self.respond("// action:paused")
        self.is_paused = True

    def _resume(self, command: Command) -> None:
        if not self.is_paused:
            self.respond("// Print is not paused, resume aborted")
            return
        if self.sd_was_active:
            if self.sd.active:
                raise MachineError("SD busy")
            self.machine.release()
            self.sd.active = self.machine.job is not None
            self.print_stats.start()
        else:
            self.respond("// action:resumed")
        self._clear_pause()

    def _cancel(self, command: Command) -> None:
        if self.sd.active or self.sd_was_active:
            self._ends_at = None
            self.machine.drop_job()
            self.sd = SdCard()
            self.print_stats.finish("cancelled")
        else:
            self.respond("// action:cancel")
        self._clear_pause()

    def _clear_pause(self) -> None:
        self.is_paused = self.sd_was_active = False

    def _machine_says(self, kind: str, details: dict[str, Any]) -> None:
        if kind == "job_done":
            self.sd.position = self.sd.size
            self._ends_at = max(time.monotonic(), self._planned_until)
        elif kind == "job_held":
            self._remember_position()
            self.sd.active = False
            self.print_stats.pause()
        elif kind == "job_failed":
            self._fail(details["message"])
        elif kind == "unknown":
            self.respond(f'// Unknown command:"{details["line"].split(" ")[0].upper()}"')

    def _complete(self) -> None:
        self._ends_at = None
        self.respond("Done printing file")
        self.sd.path, self.sd.active = None, False
        self.print_stats.finish("complete")

    def _fail(self, message: str) -> None:
        self._respond_error(message)
        self.sd.active = False
        self.print_stats.finish("error", message)
        self._turn_off_heaters()

    def fail_print(self, message: str) -> None:
        """A line of the file is refused, now."""
        if self.machine.job is not None:
            self._remember_position()
            self.machine.drop_job(interrupt=True)
            self._fail(message)

    def _remember_position(self) -> None:
        if self.machine.job is not None:
            self.sd.position = self.machine.job.position

    # -- what Klippy tells
    def info(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "state_message": self.message,
            "hostname": "simulator",
            "klipper_path": str(Path(__file__).parent),  # Moonraker reserves it: not where files are kept
            "python_path": sys.executable,
            "process_id": os.getpid(),
            "user_id": os.getuid(),
            "group_id": os.getgid(),
            "log_file": str(self.gcodes.parent / "klippy.log"),
            "config_file": str(self.gcodes.parent / "config" / "printer.cfg"),
            "software_version": "v0.13.0-simulated",
            "cpu_info": "simulated",
        }

    def pick(self, objects: Objects) -> Status:
        """Unknown objects are empty and unknown fields null, never an error."""
        everything = self._status()
        picked: Status = {}
        for name, fields in objects.items():
            if fields is not None and not isinstance(fields, list):
                raise KlippyError("Invalid argument")
            values = everything[name]() if name in everything else {}
            picked[name] = values if fields is None else {field: values.get(field) for field in fields}
        return picked

    def object_names(self) -> list[str]:
        return list(self._status())

    def _status(self) -> dict[str, Callable[[], dict[str, Any]]]:
        heaters = {name: (lambda name=name: self._heater_status(name)) for name in self.heaters}
        return {
            "webhooks": lambda: {"state": self.state, "state_message": self.message},
            "configfile": self._config_status,
            "mcu": lambda: {"mcu_version": "simulated", "mcu_constants": {}, "last_stats": {}},
            "heaters": self._heaters_status,
            "fan": lambda: {"speed": self.machine.fan, "rpm": None},
            "gcode_move": self._gcode_move_status,
            "print_stats": lambda: self.print_stats.status(),
            "virtual_sdcard": self._sd_status,
            "pause_resume": lambda: {"is_paused": self.is_paused},
            "display_status": self._display_status,
            "exclude_object": lambda: {"objects": [], "excluded_objects": [], "current_object": None},
            "idle_timeout": self._idle_status,
            "query_endstops": lambda: {"last_query": {}},
            "toolhead": self._toolhead_status,
            "system_stats": lambda: {"sysload": 0.1, "cputime": 1.0, "memavail": 1_000_000},
            **heaters,
        }

    def _config_status(self) -> dict[str, Any]:
        sections = {"virtual_sdcard": {"path": str(self.gcodes)}, "pause_resume": {}, "display_status": {}}
        pending = {"save_config_pending": False, "save_config_pending_items": {}}
        return {"config": sections, "settings": sections, "warnings": [], **pending}

    def _heaters_status(self) -> dict[str, Any]:
        names = sorted(self.heaters, key=lambda name: (name != "heater_bed", name))
        return {"available_heaters": names, "available_sensors": names, "available_monitors": []}

    def _heater_status(self, name: str) -> dict[str, Any]:
        heater = self.machine.heaters[self.heaters[name]]
        power = 1.0 if heater.target > heater.actual else 0.0
        status = {"temperature": round(heater.actual, 2), "target": heater.target, "power": power}
        if name == "heater_bed":
            return status
        return {**status, "can_extrude": True, "pressure_advance": 0.0, "smooth_time": 0.04, "motion_queue": None}

    def _gcode_move_status(self) -> dict[str, Any]:
        machine = self.machine
        return {
            "speed_factor": machine.speed_factor,
            "speed": machine.feed,
            "extrude_factor": machine.flow_factor,
            "absolute_coordinates": machine.absolute,
            "absolute_extrude": machine.absolute_extrusion,
            "homing_origin": [0.0, 0.0, 0.0, 0.0],
            "position": list(machine.position),
            "gcode_position": list(machine.position),
        }

    def _sd_status(self) -> dict[str, Any]:
        self._remember_position()
        sd = self.sd
        return {
            "file_path": str(sd.path) if sd.path is not None else None,
            "progress": sd.position / sd.size if sd.size else 0.0,
            "is_active": sd.active,
            "file_position": sd.position,
            "file_size": sd.size,
        }

    def _display_status(self) -> dict[str, Any]:
        shown = self.machine.shown_progress
        progress = self._sd_status()["progress"] if shown is None else shown
        return {"progress": progress, "message": self.machine.message}

    def _idle_status(self) -> dict[str, Any]:
        state = "Printing" if self.sd.active or self.machine.busy else "Ready"
        return {"state": state, "printing_time": 0.0, "idle_timeout": 3600.0}

    def _toolhead_status(self) -> dict[str, Any]:
        return {
            "homed_axes": "".join(axis for axis in "xyz" if axis in self.machine.homed),
            "axis_minimum": [0.0, 0.0, 0.0, 0.0],
            "axis_maximum": [*self.machine.volume, 0.0],
            "print_time": self.machine.moved_seconds,
            "estimated_print_time": self.machine.moved_seconds,
            "stalls": 0,
            "extruder": "extruder" if self.machine.tool == 0 else f"extruder{self.machine.tool}",
            "position": list(self.machine.position),
            "max_velocity": 500.0,
            "max_accel": 3000.0,
        }


class Session:
    """One client of Klippy's API. ``send`` takes a message, ``hang_up`` closes the connection."""

    def __init__(self, klippy: Klippy, send: Callable[[dict[str, Any]], None], hang_up: Callable[[], None]) -> None:
        self.klippy, self._send, self.hang_up = klippy, send, hang_up
        self._output: dict[str, Any] | None = None
        self._objects: Objects = {}
        self._template: dict[str, Any] = {}
        self._seen: Status = {}
        klippy.sessions.add(self)

    def close(self) -> None:
        self.klippy.sessions.discard(self)

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
            "objects/list": lambda: {"objects": klippy.object_names()},
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
        self.klippy.pick(objects)  # complains at once, not on the beat
        status = await self.klippy.query(objects)
        if subscribe:
            self._objects, self._template = objects, params.get("response_template", {})
            self._seen = status
        return {"eventtime": time.monotonic(), "status": status}

    def send_changes(self, now: float) -> None:
        """Only fields that differ from what this client has; lists and dicts inside are replaced whole."""
        if not self._objects:
            return
        status = self.klippy.pick(self._objects)
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


def _settle(done: asyncio.Future[None], error: MachineError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _at_once(action: Callable[[Command], None]) -> Callable[[Command], Wait]:
    def run(command: Command) -> Wait:
        action(command)
        return 0.0

    return run


def _words(command: Command) -> dict[str, str]:
    """``NAME=value`` words of an extended command. Raises MachineError."""
    try:
        pieces = [piece.partition("=") for piece in shlex.split(command.text)]
    except ValueError:
        raise MachineError(f"Malformed command '{command.name} {command.text}'") from None
    return {name.upper(): value for name, _, value in pieces}


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
