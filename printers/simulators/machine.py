"""A 3D printer made of arithmetic: heaters, axes, an extruder, and the G-code that moves them.

Nothing here reads a clock or touches a socket. :meth:`Machine.advance` is told how many seconds of the machine's
own time have passed; a simulator that runs fifty times too fast simply passes fifty times as many. What happens is
told to ``report``, a function of the event's name and its details::

    job_done {}                      the last line of the file has been carried out
    job_held {}                      a hold() took effect: the line that was running has ended
    job_failed {message}             a line of the file was refused, or failure was ordered
    z_change {new, old}              the head moved to another height
    home {}  tool_change {old, new}  target {heater}: it was given another one
    unknown {line}                   a command this firmware does not have

Units: mm, mm/min for F, degrees C, seconds.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Seconds a G28 takes at speed 1; real printers need 5-20, tests need less.
HOMING_SECONDS = 1.5
#: A wait for a heater ends this close to its target (Marlin's TEMP_WINDOW is 1, Klipper's max_delta 2).
TEMPERATURE_WINDOW = 1.0
#: So that one call after a long sleep cannot block an event loop for seconds.
MAX_LINES_PER_ADVANCE = 20_000

_CODE = re.compile(r"^([GMT])(\d+)(?:\.\d+)?")
_WORD = re.compile(r"([A-Za-z])\s*(-?\d*\.?\d+)")

Report = Callable[[str, dict[str, Any]], None]


class MachineError(Exception):
    """The firmware refused a command."""


class Halted(MachineError):
    """The firmware is shut down and does nothing until it is reset."""


@dataclass(frozen=True, slots=True)
class Command:
    """One line of G-code. ``words`` are its letters with numbers, ``text`` what follows the command's name."""

    name: str
    words: Mapping[str, float]
    text: str


#: What a command needs before the next may begin: seconds, or the name of a heater that must get warm.
Wait = float | str
Handler = Callable[[Command], Wait]


def parse(line: str) -> Command | None:
    """None for an empty line or a comment. Names are upper case; ``G01`` is ``G1``; words of extended commands
    (``SET_HEATER_TEMPERATURE HEATER=...``) are left to whoever knows them."""
    bare = line.split(";", 1)[0].strip()
    if not bare:
        return None
    if match := _CODE.match(bare.upper()):
        text = bare[match.end() :].strip()
        words = {letter.upper(): float(number) for letter, number in _WORD.findall(text)}
        return Command(f"{match[1]}{int(match[2])}", words, text)
    name, _, text = bare.partition(" ")
    return Command(name.upper(), {}, text.strip())


@dataclass(slots=True)
class Heater:
    """Warms and cools in a straight line; ``rate`` 10 C/s is that of OctoPrint's virtual printer."""

    limit: float
    ambient: float
    rate: float = 10.0
    cooling: float = 2.0
    actual: float = 0.0
    target: float = 0.0

    def __post_init__(self) -> None:
        self.actual = self.ambient

    def elapse(self, seconds: float) -> None:
        goal = max(self.target, self.ambient)
        if goal > self.actual:
            self.actual = min(goal, self.actual + self.rate * seconds)
        else:
            self.actual = max(goal, self.actual - self.cooling * seconds)

    @property
    def seconds_until_warm(self) -> float:
        return max(0.0, self.target - TEMPERATURE_WINDOW - self.actual) / self.rate


@dataclass(slots=True)
class Job:
    """A file being printed. ``position`` is the byte after the newest line that was begun."""

    data: bytes
    position: int = 0
    held: bool = False

    @property
    def progress(self) -> float:
        return self.position / len(self.data) if self.data else 0.0

    def next_line(self) -> str | None:
        if self.position >= len(self.data):
            return None
        end = self.data.find(b"\n", self.position)
        end = len(self.data) if end < 0 else end + 1
        line, self.position = self.data[self.position : end], end
        return line.decode("utf-8", "replace")


@dataclass(slots=True)
class _Script:
    """Lines that somebody sent, to be run between two lines of the file."""

    lines: deque[str]
    done: Callable[[MachineError | None], None]


@dataclass(slots=True)
class _Running:
    wait: Wait
    script: _Script | None  # None: a line of the job


@dataclass
class Machine:
    """``strict`` firmware (Klipper) refuses moves before homing, moves outside ``volume`` and temperatures that a
    heater cannot reach; the other kind (Marlin, behind OctoPrint) does as it is told.
    ``commands`` adds to or replaces the firmware's own commands."""

    report: Report = lambda name, details: None
    tools: int = 1
    ambient: float = 21.3
    heat_rate: float = 10.0
    strict: bool = False
    volume: tuple[float, float, float] = (220.0, 220.0, 250.0)
    commands: dict[str, Handler] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commands = {**self._own_commands(), **self.commands}
        self.reset()

    def reset(self) -> None:
        """Power on: cold, not homed, nothing to do. Filament that went through stays counted."""
        self.heaters = {f"tool{n}": Heater(300.0, self.ambient, self.heat_rate) for n in range(self.tools)}
        self.heaters["bed"] = Heater(130.0, self.ambient, self.heat_rate)
        self.position = [0.0, 0.0, 0.0, 0.0]
        self.homed: set[str] = set()
        self.feed = 1500.0
        self.tool = 0
        self.absolute = self.absolute_extrusion = True
        self.speed_factor = self.flow_factor = 1.0
        self.fan = 0.0
        self.message: str | None = None
        self.shown_progress: float | None = None
        self.moved_seconds = 0.0
        self.extruded = getattr(self, "extruded", 0.0)
        self.halted: str | None = None
        self.job: Job | None = None
        self.failure: tuple[float, str] | None = None
        self._scripts: deque[_Script] = deque()
        self._running: _Running | None = None

    # -- the job
    def start(self, data: bytes) -> None:
        """Begin a file. Raises MachineError while another one is under way."""
        if self.job is not None:
            raise MachineError("A file is being printed")
        self.job = Job(data)

    def hold(self) -> None:
        """Take no further line of the file. ``job_held`` comes once the line that is running has ended."""
        if self.job is not None and not self.job.held:
            self.job.held = True
            if not self.job_is_moving:
                self.report("job_held", {})

    def release(self) -> None:
        if self.job is not None:
            self.job.held = False

    def drop_job(self, *, interrupt: bool = False) -> None:
        """Forget the file; with ``interrupt`` the line that is running too (Marlin's M108 ends a heat-up)."""
        self.job = None
        if interrupt and self.job_is_moving:
            self._running = None

    def fail_job(self, message: str, at: float = 0.0) -> None:
        """Make the job, or the next one if there is none, fail once ``at`` (0..1) of its file has been read."""
        self.failure = (at, message)

    @property
    def job_is_moving(self) -> bool:
        return self._running is not None and self._running.script is None

    @property
    def busy(self) -> bool:
        return self._running is not None or bool(self._scripts)

    @property
    def cold(self) -> bool:
        return all(not heater.target and heater.actual == heater.ambient for heater in self.heaters.values())

    # -- commands from outside
    def run(self, lines: list[str], done: Callable[[MachineError | None], None] = lambda error: None) -> None:
        """Queue lines to run before the next line of the file. ``done`` gets the error that ended them, or None."""
        self._scripts.append(_Script(deque(lines), done))

    def halt(self, message: str) -> None:
        """Emergency stop: heaters off, nothing more happens until :meth:`reset`."""
        self.halted = message
        self.job, self._running = None, None
        for heater in self.heaters.values():
            heater.target = 0.0
        waiting, self._scripts = self._scripts, deque()
        for script in waiting:
            script.done(Halted(message))

    # -- time
    def advance(self, seconds: float) -> None:
        """Let this much of the machine's own time pass."""
        left = seconds
        for _ in range(MAX_LINES_PER_ADVANCE):
            need = self._needed()
            if need > left:
                break
            self._elapse(need)
            left -= need
            self._finish()
            if not self._begin():
                break
        self._elapse(left)

    def _needed(self) -> float:
        if self._running is None:
            return 0.0
        wait = self._running.wait
        return self.heaters[wait].seconds_until_warm if isinstance(wait, str) else wait

    def _elapse(self, seconds: float) -> None:
        for heater in self.heaters.values():
            heater.elapse(seconds)
        if self._running is not None and not isinstance(self._running.wait, str):
            self._running.wait -= seconds

    def _finish(self) -> None:
        ended, self._running = self._running, None
        if ended is None:
            return
        if ended.script is None:
            if self.job is not None and self.job.held:
                self.report("job_held", {})
        elif not ended.script.lines:
            self._end_script(ended.script, None)

    def _end_script(self, script: _Script, error: MachineError | None) -> None:
        # whoever is told may have halted or reset the machine meanwhile
        if self._scripts and self._scripts[0] is script:
            self._scripts.popleft()
        script.done(error)

    def _begin(self) -> bool:
        """Begin the next line, if there is one."""
        if self._running is not None or self.halted is not None:
            return False
        if self._scripts:
            self._begin_script_line(self._scripts[0])
            return True
        if self.job is not None and not self.job.held:
            self._begin_job_line(self.job)
            return True
        return False

    def _begin_script_line(self, script: _Script) -> None:
        if not script.lines:
            self._end_script(script, None)
            return
        try:
            wait = self.perform(script.lines.popleft())
        except MachineError as error:
            self._end_script(script, error)
            return
        if self.halted is None:
            self._running = _Running(wait, script)

    def _begin_job_line(self, job: Job) -> None:
        if self.failure is not None and job.progress >= self.failure[0]:
            self._end_job("job_failed", message=self.failure[1])
            self.failure = None
            return
        line = job.next_line()
        if line is None:
            self._end_job("job_done")
            return
        try:
            wait = self.perform(line)
        except MachineError as error:
            self._end_job("job_failed", message=str(error))
            return
        if self.halted is None and wait:
            self._running = _Running(wait, None)

    def _end_job(self, event: str, **details: str) -> None:
        self.job = None
        self.report(event, details)

    # -- G-code
    def perform(self, line: str) -> Wait:
        """Carry out one line at once and say what to wait for before the next. Raises MachineError."""
        command = parse(line)
        if command is None:
            return 0.0
        handler = self.commands.get(command.name)
        if handler is not None:
            try:
                return handler(command)
            except (KeyError, ValueError):
                raise MachineError(f"Malformed command '{line.strip()}'") from None
        if command.name[0] == "T" and command.name[1:].isdigit():
            return self._select_tool(int(command.name[1:]))
        if not _CODE.match(command.name):
            self.report("unknown", {"line": line.strip()})
        return 0.0

    def _own_commands(self) -> dict[str, Handler]:
        return {
            "G0": self._move,
            "G1": self._move,
            "G4": lambda c: max(0.0, c.words.get("P", c.words.get("S", 0.0) * 1000) / 1000),
            "G28": self._home,
            "G90": lambda c: self._set(absolute=True),
            "G91": lambda c: self._set(absolute=False),
            "G92": self._set_position,
            "M73": lambda c: self._set(shown_progress=min(max(c.words.get("P", 0.0), 0.0), 100.0) / 100),
            "M82": lambda c: self._set(absolute_extrusion=True),
            "M83": lambda c: self._set(absolute_extrusion=False),
            "M104": self._heat_tool,
            "M106": lambda c: self._set(fan=min(c.words.get("S", 255.0) / 255, 1.0)),
            "M107": lambda c: self._set(fan=0.0),
            "M109": lambda c: self._heat_tool(c, wait=True),
            "M117": lambda c: self._set(message=c.text or None),
            "M140": self._heat_bed,
            "M190": lambda c: self._heat_bed(c, wait=True),
            "M220": lambda c: self._set(speed_factor=max(c.words.get("S", 100.0), 1.0) / 100),
            "M221": lambda c: self._set(flow_factor=c.words.get("S", 100.0) / 100),
        }

    def _set(self, **values: Any) -> float:
        for name, value in values.items():
            setattr(self, name, value)
        return 0.0

    def _move(self, command: Command) -> float:
        words, old = command.words, self.position
        self.feed = words["F"] if words.get("F", 0.0) > 0 else self.feed
        new = [self._aim(axis, words, old[i]) for i, axis in enumerate("XYZE")]
        if self.strict:
            self._check_move(old, new)
        self.position = new
        self.extruded += (new[3] - old[3]) * self.flow_factor
        if new[2] != old[2]:
            self.report("z_change", {"new": new[2], "old": old[2]})
        distance = math.dist(new[:3], old[:3]) or abs(new[3] - old[3])
        seconds = distance / (self.feed / 60) / self.speed_factor
        self.moved_seconds += seconds
        return seconds

    def _aim(self, axis: str, words: Mapping[str, float], now: float) -> float:
        if axis not in words:
            return now
        absolute = self.absolute and (axis != "E" or self.absolute_extrusion)
        return words[axis] if absolute else now + words[axis]

    def _check_move(self, old: list[float], new: list[float]) -> None:
        """The wording is Klipper's (v0.13)."""
        where = "{:.3f} {:.3f} {:.3f} [{:.3f}]".format(*new)
        for axis, before, after, limit in zip("xyz", old, new, self.volume, strict=False):
            if before == after:
                continue
            if axis not in self.homed:
                raise MachineError(f"Must home axis first: {where}")
            if not -0.001 <= after <= limit + 0.001:
                raise MachineError(f"Move out of range: {where}")

    def _home(self, command: Command) -> float:
        named = [axis for axis in "xyz" if axis.upper() in command.text.upper()] or list("xyz")
        for axis in named:
            self.position["xyz".index(axis)] = 0.0
        self.homed.update(named)
        self.report("home", {})
        self.moved_seconds += HOMING_SECONDS
        return HOMING_SECONDS

    def _set_position(self, command: Command) -> float:
        self.position = [command.words.get(axis, now) for axis, now in zip("XYZE", self.position, strict=True)]
        return 0.0

    def _heat_tool(self, command: Command, *, wait: bool = False) -> Wait:
        return self.heat(f"tool{int(command.words.get('T', self.tool))}", command.words.get("S", 0.0), wait=wait)

    def _heat_bed(self, command: Command, *, wait: bool = False) -> Wait:
        return self.heat("bed", command.words.get("S", 0.0), wait=wait)

    def heat(self, name: str, target: float, *, wait: bool = False) -> Wait:
        """Set a heater. A heater that is not there is ignored, as Marlin does."""
        heater = self.heaters.get(name)
        if heater is None:
            return 0.0
        if self.strict and not 0.0 <= target <= heater.limit:
            raise MachineError(f"Requested temperature ({target:.1f}) out of range (0.0:{heater.limit:.1f})")
        if heater.target != target:
            heater.target = target
            self.report("target", {"heater": name})
        return name if wait and heater.seconds_until_warm else 0.0

    def _select_tool(self, number: int) -> float:
        if number < self.tools:
            self.report("tool_change", {"old": self.tool, "new": number})
            self.tool = number
        else:
            self.report("unknown", {"line": f"T{number}"})
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a file would do: seconds of moves and dwells (no heating), mm of filament, the box the head visits."""

    seconds: float
    filament_mm: float
    low: tuple[float, ...]  # x, y, z
    high: tuple[float, ...]


def estimate(data: bytes) -> Estimate:
    machine, seconds = Machine(), 0.0
    low = high = tuple(machine.position[:3])
    for line in _lines(data):
        wait = machine.perform(line)
        seconds += wait if isinstance(wait, float) else 0.0
        here = machine.position[:3]
        low = tuple(map(min, low, here))
        high = tuple(map(max, high, here))
    return Estimate(seconds=seconds, filament_mm=machine.extruded, low=low, high=high)


def _lines(data: bytes) -> Iterator[str]:
    job = Job(data)
    while (line := job.next_line()) is not None:
        yield line
