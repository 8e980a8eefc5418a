"""Facts of a G-code file, whichever slicer wrote it, and whether a machine may run it. Pure, in constant memory.

``python -m slicing.gcode FILE --machine JSON`` prints one line of JSON, the facts (exit 0) or ``{"error": sentence}``
(exit 2): uploads are read in a child process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from slicing.bgcode import MAGIC, TextReader, is_binary, spaced
from slicing.engines.base import Machine, SlicingError
from slicing.engines.motion import Moves, durations
from slicing.engines.replay import check_bed, check_heat
from slicing.headers import HEAD, TAIL, Said, Thumbnail, Warmth, said, thumbnail_block, thumbnails
from slicing.reading import Floats, Heat, LayerBegins, Rows, State, Stretch, chunks, replay, rows

#: g/cm3; PLA, when a file does not say what it was made for
DENSITY = 1.24
#: moves that are timed at once: the planner takes the nozzle to stand still before the first and after the last
AT_ONCE = 50_000
#: mm between heights that count as two layers, where a file does not say where layers begin
FLAT = 0.03
MOST_LAYERS = 100_000


@dataclass(slots=True, kw_only=True)
class LayerMark:
    """Where a layer begins in the text, and what the printer remembers there: enough to draw it by itself. ``state`` is
    that of :class:`slicing.reading.State`; its filament is None where it is not known."""

    offset: int
    state: dict[str, Any]
    z: float | None = None  # of the first line of it
    begins_s: float = 0.0  # since the print began


@dataclass(slots=True)
class _Tool:
    pushed: float = 0.0
    furthest: float = 0.0  # what is pulled back and pushed again counts once

    def push(self, filament: Floats) -> None:
        way = self.pushed + np.cumsum(filament)
        self.pushed, self.furthest = float(way[-1]), max(self.furthest, float(way.max()))


class _Clock:
    """Times moves in batches: a planner that starts anew for every few of them would be too slow and too long."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._seconds = machine, 0.0
        self._waiting: list[tuple[Floats, Floats]] = []
        self._added = self._timed = 0  # moves
        self._marks: list[int] = []  # moves before each that is not timed yet
        self._marked: list[float] = []

    def add(self, delta: Floats, speed: Floats) -> None:
        if self._added - self._timed > AT_ONCE:
            self._run()
        self._waiting.append((delta, speed))
        self._added += len(speed)

    def _run(self) -> None:
        delta, speed = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        self._waiting = []
        times = np.concatenate([[0.0], np.cumsum(durations(Moves(delta, speed), self._machine))])
        self._marked += [self._seconds + float(times[mark - self._timed]) for mark in self._marks]
        self._marks = []
        self._seconds += float(times[-1])
        self._timed = self._added

    def mark(self, back: int = 0) -> None:
        """Something begins here, or so many of the moves that were added last before."""
        self._marks.append(self._added - back)

    def forget_marks(self) -> None:
        self._marks, self._marked = [], []

    @property
    def seconds(self) -> float:
        if self._waiting:
            self._run()
        return self._seconds

    @property
    def marks(self) -> list[float]:
        """s from the beginning to each mark."""
        total = self.seconds
        return [*self._marked, *(total for _ in self._marks)]


@dataclass(slots=True)
class _Box:
    low: Floats = field(default_factory=lambda: np.full(3, np.inf))
    high: Floats = field(default_factory=lambda: np.full(3, -np.inf))

    def add(self, points: Floats) -> None:
        for axis in range(3):  # column by column: reducing rows of three is ten times slower
            column = points[:, axis]
            self.low[axis] = min(self.low[axis], column.min())
            self.high[axis] = max(self.high[axis], column.max())

    @property
    def rounded(self) -> list[list[float]]:
        return [[round(v, 3) for v in edge.tolist()] for edge in (self.low, self.high)]


@dataclass(slots=True)
class Heater:
    """What a file asks of one heater, C; None: nothing. Only the highest ones matter: a file may ask millions of
    times."""

    now: float | None = None
    most: float | None = None
    first: float | None = None  # when the first layer begins
    later: float | None = None  # highest from the second layer on

    def ask(self, temperature: float, above: bool) -> None:
        """``above``: the second layer has begun."""
        self.now = temperature
        self.most = temperature if self.most is None else max(self.most, temperature)
        if above:
            self.later = temperature if self.later is None else max(self.later, temperature)


@dataclass(slots=True)
class Survey:
    """Everything that is learnt from the moves of a file."""

    machine: Machine
    clock: _Clock
    tools: dict[int, _Tool] = field(default_factory=dict)
    printed: _Box = field(default_factory=_Box)
    in_layers: _Box = field(default_factory=_Box)  # without what is drawn to clean the nozzle before them
    heights: set[float] = field(default_factory=set)
    nozzle: Heater = field(default_factory=Heater)
    bed: Heater = field(default_factory=Heater)
    begun: int = 0  # layers that something was printed in; 2 stands for more, too
    layers: list[LayerMark] = field(default_factory=list)
    marked: bool = False  # the file says where layers begin; else they begin where the nozzle prints higher up
    size: int = 0  # bytes of the text

    def take(self, stretch: Stretch, state: State) -> None:
        self.tools.setdefault(stretch.tool, _Tool()).push(stretch.delta[:, 3])
        self.clock.add(stretch.delta, stretch.speed)
        extruding = stretch.extruding
        if not extruding.any():
            return
        begins, ends = stretch.before[extruding], stretch.position[extruding]
        self.heights.update(np.unique(np.round(ends[:, 2], 3)).tolist())
        if not self.marked:
            self._rises(stretch, np.flatnonzero(extruding), state)
        if len(self.layers) > self.begun < 2:
            self._begin_heat()
        if self.layers and self.layers[-1].z is None:
            self.layers[-1].z = round(float(ends[0, 2]), 3)
        for points in (begins, ends):
            self.printed.add(points)
            if self.layers:
                self.in_layers.add(points)

    def _rises(self, stretch: Stretch, rows: NDArray[np.int64], state: State) -> None:
        """Note where the nozzle prints higher up than ever before."""
        top = self.layers[-1].z if self.layers else None
        steps = np.floor(stretch.position[rows, 2] / FLAT + 0.5)
        begin = -np.inf if top is None else math.floor(top / FLAT + 0.5)
        highest = np.maximum.accumulate(np.concatenate([[begin], steps]))
        for row in rows[highest[1:] > highest[:-1]].tolist():
            if len(self.layers) < MOST_LAYERS:
                place = (stretch.before[row] - np.array(state.shift)).tolist()
                there = {**asdict(state), "place": [*place, None]}
                z = round(float(stretch.position[row, 2]), 3)
                self.layers.append(LayerMark(offset=int(stretch.offset[row]), state=there, z=z))
                self.clock.mark(back=len(stretch.speed) - row)

    def begin_layer(self, offset: int, state: State) -> None:
        if not self.marked:
            self.layers, self.in_layers, self.marked, self.begun = [], _Box(), True, 0
            self.clock.forget_marks()
        if len(self.layers) < MOST_LAYERS:
            self.layers.append(LayerMark(offset=offset, state=asdict(state)))
            self.clock.mark()

    def heat(self, heat: Heat) -> None:
        heater = {"nozzle": self.nozzle, "bed": self.bed}.get(heat.part)
        if heater is not None:
            heater.ask(heat.temperature, self.begun > 1)

    def _begin_heat(self) -> None:
        """What the first layer, and what the others begin with. One stretch of moves may hold both: nothing was asked
        for in between then."""
        for heater in (self.nozzle, self.bed):
            if self.begun == 0:
                heater.first = heater.now
            heater.later = heater.now if len(self.layers) > 1 else None
        self.begun = min(len(self.layers), 2)


def survey(parts: Iterator[Rows], machine: Machine, check: bool) -> Survey:
    """Follow all moves. Raises SlicingError for what cannot be followed and, if ``check``, for what this machine
    should not do."""
    found, state = Survey(machine, _Clock(machine)), State()
    for happening in replay(parts, state):
        if isinstance(happening, Stretch):
            if check:
                check_bed(happening.position, happening.extruding, machine, happening.given)
            found.take(happening, state)
        elif isinstance(happening, Heat):
            if check:
                check_heat(happening.part, happening.temperature, machine)
            found.heat(happening)
        elif isinstance(happening, LayerBegins):
            found.begin_layer(happening.offset, state)
    for mark, seconds in zip(found.layers, found.clock.marks, strict=True):
        mark.begins_s = round(seconds, 1)
    if not found.heights:
        raise SlicingError("This G-code prints nothing: is it really a print file?")
    if check and found.nozzle.most is not None and found.nozzle.most <= 0:
        raise SlicingError("The G-code prints without heating the nozzle.")
    return found


def facts(path: Path, machine: Machine | None = None) -> dict[str, Any]:
    """What :func:`describe` says of a file, binary or text. With a machine, raises SlicingError with a sentence when it
    should not run the file."""
    found, head, tail, pictures = _read(path, machine)
    return describe(found, said(head, tail), pictures)


def _read(path: Path, machine: Machine | None) -> tuple[Survey, bytes, bytes, list[Thumbnail]]:
    with opened(path) as (text, sources):
        size = 0

        def parts() -> Iterator[Rows]:
            nonlocal size
            for offset, data in chunks(text):
                size = offset + len(data)
                yield rows(data, offset)

        found = survey(parts(), machine or Machine(), check=machine is not None)
        found.size = size
        return found, *sources()


Sources = Callable[[], tuple[bytes, bytes, list[Thumbnail]]]


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Sources]]:
    """The text of a file, and what reads its head, its tail and its pictures."""
    with path.open("rb") as file:
        binary = is_binary(file.read(len(MAGIC)))
        file.seek(0)
        if binary:
            text = TextReader(file)
            yield cast("BinaryIO", text), lambda: (text.head, b"", text.thumbnails)
        else:
            yield file, lambda: _ends(file)


def _ends(file: BinaryIO) -> tuple[bytes, bytes, list[Thumbnail]]:
    file.seek(0)
    head = file.read(HEAD)
    file.seek(max(0, file.seek(0, 2) - TAIL))
    return head, file.read(), thumbnails(head)


def describe(found: Survey, told: Said, pictures: list[Thumbnail]) -> dict[str, Any]:
    """Facts, JSON-safe: time (s), filament (mm, cm3, g; all and by tool), layers and at which parts of the file they
    begin, heights and bounds of what is printed (mm), temperatures (C): of the first layer, and the highest of all
    others, by what the printer is told and else by what the slicer says; and what the slicer says of itself."""
    tools = _tools(found, told)
    heights = sorted(found.heights)
    return {
        "time_s": round(found.clock.seconds, 1),
        **{key: round(sum(tool[key] for tool in tools), 4) for key in ("filament_mm", "filament_cm3", "filament_g")},
        "tools": tools,
        "layers": len(found.layers),
        "layer_begins": [round(mark.offset / max(found.size, 1), 6) for mark in found.layers],
        "layer_height": told.layer_height or _step(heights),
        "first_layer_height": told.first_layer_height or heights[0],
        "height": round(max(heights), 3),
        "bounds": found.printed.rounded,
        **_heat("nozzle", found.nozzle, told.nozzle),
        **_heat("bed", found.bed, told.bed),
        "nozzle_diameter": told.nozzle_diameter,
        "slicer": told.slicer,
        "slicer_version": told.version,
        "slicer_time_s": told.time_s,
        "slicer_filament_mm": round(sum(told.filament_mm), 3) if told.filament_mm else None,
        "thumbnails": [
            {"width": one.width, "height": one.height, "format": one.format, "bytes": len(one.data)} for one in pictures
        ],
    }


def _heat(part: str, found: Heater, told: Warmth) -> dict[str, float | None]:
    """A file may leave the heating to a macro of the printer: then only its comments tell."""
    if not found.most:
        first, later = told.first, told.later
    else:
        first, later = found.first or told.first, found.later or found.most
    return {f"first_layer_{part}_temperature": first, f"{part}_temperature": later}


def _tools(found: Survey, told: Said) -> list[dict[str, Any]]:
    area = math.pi * (found.machine.filament_diameter / 2) ** 2
    used = {number: tool.furthest for number, tool in sorted(found.tools.items()) if tool.furthest > 0}
    out = []
    for number, mm in used.items():
        cm3 = mm * area / 1000
        out.append(
            {
                "tool": number,
                "filament_mm": round(mm, 4),
                "filament_cm3": round(cm3, 4),
                "filament_g": round(cm3 * _density(number, area, told), 4),
                "filament_type": _nth(told.filament_type, number),
            }
        )
    return out


def _density(tool: int, area: float, told: Said) -> float:
    """g/cm3 as the slicer says it, or as its mass and length tell; PLA's when that is nonsense."""
    density = _nth(told.density, tool)
    grams, mm = _nth(told.filament_g, tool), _nth(told.filament_mm, tool)
    if density is None and grams and mm:
        density = grams / (mm * area / 1000)
    return density if density is not None and 0.5 <= density <= 10 else DENSITY


def _nth(values: list[Any], tool: int) -> Any:
    return values[tool] if tool < len(values) else None


def _step(heights: list[float]) -> float | None:
    """The most common distance between heights, mm."""
    if len(heights) < 2:
        return None
    steps, counts = np.unique(np.round(np.diff(heights), 3), return_counts=True)
    return float(steps[int(np.argmax(counts))])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slicing.gcode", description="Facts of one G-code file, as JSON.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--machine", default="{}", help="JSON of slicing.engines.base.Machine")
    parser.add_argument("--picture", type=Path, help="where to write a picture of it, PNG")
    parser.add_argument("--text", type=Path, help="where to write it as text, if it is binary")
    options = parser.parse_args(argv)
    try:
        found, head, tail, pictures = _read(options.file, machine_from(json.loads(options.machine)))
        says = describe(found, said(head, tail), pictures)
        if options.text:
            before = _write_text(options.file, options.text)
            says["layer_begins"] = [round(before + (1 - before) * begin, 6) for begin in says["layer_begins"]]
    except SlicingError as error:
        says = {"error": str(error)}
    except MemoryError:
        says = {"error": "The file needs more memory than one upload may use."}
    sys.stdout.write(json.dumps(says) + "\n")
    sys.stdout.flush()  # whatever happens to the picture, the facts are out
    if "error" in says:
        return 2
    if options.picture and (picture := _picture(options.file, found, pictures)):
        options.picture.write_bytes(picture)
    return 0


def _picture(path: Path, found: Survey, pictures: list[Thumbnail]) -> bytes | None:
    """The largest that its slicer put in; else one of its lines."""
    from slicing import pictures as drawing  # only paid for by those who want one
    from slicing import relief

    for one in sorted(pictures, key=lambda one: one.width * one.height, reverse=True)[:1]:
        with contextlib.suppress(ValueError):
            return drawing.redrawn(one.data)
    return relief.drawn(path, found)


def _write_text(path: Path, text: Path) -> float:
    """Of a binary file: printers behind OctoPrint or Klipper know only text. Returns which part of it is its head."""
    with opened(path) as (source, sources):
        if not isinstance(source, TextReader):
            return 0.0
        head, _, pictures = sources()
        with text.open("wb") as out:
            out.write(head)
            for one in pictures:
                if one.format == "png":
                    out.write(thumbnail_block(one.width, one.height, one.data))
            begins = out.tell()
            out.writelines(spaced(lines) for _, lines in chunks(source))
            return begins / max(out.tell(), 1)


def machine_from(values: dict[str, Any]) -> Machine:
    """The inverse of ``dataclasses.asdict`` through JSON, which knows no tuples."""
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return Machine(**plain)


if __name__ == "__main__":
    sys.exit(main())
