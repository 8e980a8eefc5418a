"""Klipper without its socket: the host software with its printer, the file that it prints, and its G-code.

Behaviour and wording were held against Klipper v0.13.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from printers.simulators.klippy_objects import Objects, PrintStats, SdCard, Status, Wanted
from printers.simulators.machine import Command, Machine, MachineError, Wait, parse

#: Klippy answers queries and sends changes on this beat (4 Hz).
BEAT_SECONDS = 0.25
#: Klipper plans at least this far ahead, so no print with a move in it is over sooner, however fast the machine.
#: It is longer than a beat: whoever listens sees every print at work, here also when this process was held up.
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


class KlippyError(Exception):
    """Klippy answered with an error."""


class Listener(Protocol):
    """Somebody connected to Klippy's API."""

    def send_changes(self, now: float) -> None: ...

    def send_output(self, text: str) -> None: ...

    def hang_up(self) -> None: ...


class Klippy:
    """The host software with its printer. ``watch`` is called with False when its socket closes (a restart, a crash)
    and with True when it is there again."""

    def __init__(self, gcodes: Path, *, speed: float = 1.0, extruders: int = 1, restart_seconds: float = 0.5) -> None:
        self.gcodes, self.speed, self.restart_seconds = gcodes.resolve(), speed, restart_seconds
        self.machine = Machine(self._machine_says, tools=extruders, strict=True, commands=self._commands())
        self.heaters = {"extruder": "tool0", "heater_bed": "bed"}
        self.heaters |= {f"extruder{n}": f"tool{n}" for n in range(1, extruders)}
        self.objects = Objects(self)
        self.sessions: set[Listener] = set()
        self.watch: Callable[[bool], None] = lambda online: None
        self.began: Callable[[str], None] = lambda file: None
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
        self._seen_printing = False
        self._waiting: list[tuple[Wanted, asyncio.Future[Status]]] = []

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
        self.remember_position()
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
        if self._ends_at is not None and now >= self._ends_at and self._seen_printing:
            self._complete()
        if self.online and now >= self._beat_at:
            self._beat_at = now + BEAT_SECONDS
            self._beat(now)

    def _beat(self, now: float) -> None:
        self._seen_printing = self.sd.active
        waiting, self._waiting = self._waiting, []
        for objects, answer in waiting:
            if not answer.done():
                answer.set_result(self.objects.pick(objects))
        for session in list(self.sessions):
            session.send_changes(now)

    async def query(self, objects: Wanted) -> Status:
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
        self.began(name)

    def _begin(self, data: bytes) -> None:
        self.machine.start(data)
        self.sd.active = True
        self.print_stats.start()
        self._ends_at = None
        self._planned_until = time.monotonic() + PLANNING_SECONDS
        self._seen_printing = False

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
            self.remember_position()
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
            self.remember_position()
            self.machine.drop_job(interrupt=True)
            self._fail(message)

    def remember_position(self) -> None:
        if self.machine.job is not None:
            self.sd.position = self.machine.job.position

    @property
    def at_rest(self) -> bool:
        return self.state == "ready" and not self.is_paused and self.print_stats.state not in ("printing", "paused")

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
