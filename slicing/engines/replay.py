"""Read G-code back as moves, and check it before it is accepted, whichever engine wrote it. Pure.

The parser is vectorised: letters mark words, and the digits of all words are read column by column. State that lines
change for those after them (absolute or relative, G92, homing) cuts the file into stretches within which everything is
a running sum or a last value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicing.engines.base import Machine, SliceResult, SliceSettings, SlicingError
from slicing.engines.motion import Moves, durations

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHUNK = 8 << 20  # bytes parsed at once
DIGITS = 14  # characters of a number that are looked at
AXES = b"XYZEFS"
INSIDE = 0.01  # mm of grace at the edge of the bed
_COMMENT = re.compile(rb";[^\n]*|\([^)\n]*\)")


@dataclass(frozen=True, slots=True)
class Words:
    """One row per command: ``code`` is letter * 10000 + number ("G1" is 71 * 10000 + 1); words (n, 6) of AXES, NaN
    where a command has none."""

    code: Ints
    values: Floats


def code(name: str) -> int:
    return ord(name[0]) * 10_000 + int(name[1:])


def words(data: bytes) -> Words:
    """Commands of a text. Raises SlicingError for a number that cannot be read."""
    data = _COMMENT.sub(b"", data.upper())
    buf = np.frombuffer(data + b"\n" + b" " * DIGITS, np.uint8)
    line = np.cumsum(buf == 10)
    at = np.flatnonzero((buf >= 65) & (buf <= 90))
    letter, number = buf[at], _numbers(buf, at)
    line_of = line[at]
    first = np.ones(len(at), bool)
    first[1:] = line_of[1:] != line_of[:-1]
    command = first & np.isin(letter, np.frombuffer(b"GMT", np.uint8)) & np.isfinite(number)
    rows = np.flatnonzero(command)
    with np.errstate(invalid="ignore"):
        codes = letter[rows].astype(np.int64) * 10_000 + number[rows].astype(np.int64)
    values = np.full((len(rows), len(AXES)), np.nan)
    row_of_line = np.full(int(line[-1]) + 1, -1)
    row_of_line[line_of[rows]] = np.arange(len(rows))
    row = row_of_line[line_of]
    motion = np.isin(codes, [code("G0"), code("G1"), code("G2"), code("G3"), code("G92")])
    for column, axis in enumerate(AXES):
        mine = np.flatnonzero((letter == axis) & ~first & (row >= 0))
        broken = mine[~np.isfinite(number[mine])]
        if len(broken) and motion[row[broken]].any():
            raise SlicingError("The G-code has a coordinate that is not a number.")
        values[row[mine], column] = number[mine]
    return Words(codes, values)


def _numbers(buf: NDArray[np.uint8], at: Ints) -> Floats:
    """The number after each of the given places, NaN where there is none."""
    at = at + 1
    sign = buf[at]
    at = at + ((sign == ord("-")) | (sign == ord("+")))
    value, scale = np.zeros(len(at)), np.ones(len(at))
    open_, dot, any_digit = np.ones(len(at), bool), np.zeros(len(at), bool), np.zeros(len(at), bool)
    for k in range(DIGITS):
        if not open_.any():
            break
        char = buf[np.minimum(at + k, len(buf) - 1)]
        digit = (char - np.uint8(48) < 10) & open_
        point = (char == ord(".")) & open_ & ~dot
        value = np.where(digit, value * 10 + (char - np.uint8(48)), value)
        scale = np.where(digit & dot, scale * 10, scale)
        dot |= point
        any_digit |= digit
        open_ &= digit | point
    value = value / scale * np.where(sign == ord("-"), -1.0, 1.0)
    return np.where(any_digit, value, np.nan)


@dataclass(frozen=True, slots=True)
class Replay:
    """What a file does. ``position`` (n, 3) after each move; ``delta`` (n, 4) with filament; speed mm/s."""

    position: Floats
    delta: Floats
    speed: Floats
    nozzle: list[float]  # temperatures asked for, in order
    bed: list[float]
    end: tuple[float, float, float]

    @property
    def extruding(self) -> NDArray[np.bool_]:
        """Moves that lay down plastic: filament goes forward while the nozzle goes sideways."""
        return (self.delta[:, 3] > 0) & ((self.delta[:, 0] != 0) | (self.delta[:, 1] != 0))

    @property
    def filament_mm(self) -> float:
        """The furthest that the filament was ever pushed: what is pulled back and pushed again counts once."""
        return max(0.0, float(np.cumsum(self.delta[:, 3]).max())) if len(self.delta) else 0.0

    def seconds(self, machine: Machine) -> float:
        return float(durations(Moves(self.delta, self.speed), machine).sum())


@dataclass(slots=True)
class _State:
    place: list[float]
    filament: float = 0.0
    feed: float = 25.0  # mm/s
    relative: bool = False
    relative_e: bool = False


def parse(data: bytes, relative_e: bool = False, begin: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Replay:
    """Replay a text. Raises SlicingError where it is not finite or does what cannot be followed (inches)."""
    state = _State(list(begin), relative_e=relative_e)
    nozzle: list[float] = []
    bed: list[float] = []
    parts: list[tuple[Floats, Floats, Floats]] = []
    for low, high in _chunks(data):
        found = words(data[low:high])
        for names, heats in ((("M104", "M109"), nozzle), (("M140", "M190"), bed)):
            temperatures = found.values[np.isin(found.code, [code(name) for name in names]), 5]
            heats += temperatures[np.isfinite(temperatures)].tolist()
        _replay(found, state, parts)
    position = np.concatenate([p[0] for p in parts]) if parts else np.empty((0, 3))
    delta = np.concatenate([p[1] for p in parts]) if parts else np.empty((0, 4))
    speed = np.concatenate([p[2] for p in parts]) if parts else np.empty(0)
    x, y, z = state.place
    return Replay(position, delta, speed, nozzle, bed, (x, y, z))


def _chunks(data: bytes) -> list[tuple[int, int]]:
    cuts = [0]
    while cuts[-1] < len(data):
        end = data.find(b"\n", min(cuts[-1] + CHUNK, len(data)))
        cuts.append(len(data) if end < 0 else end + 1)
    return list(zip(cuts[:-1], cuts[1:], strict=True))


_SWITCHES = [code(c) for c in ("G90", "G91", "M82", "M83", "G92", "G28", "G20", "G2", "G3")]
_MOVES = [code("G0"), code("G1")]


def _replay(found: Words, state: _State, parts: list[tuple[Floats, Floats, Floats]]) -> None:
    switches = np.flatnonzero(np.isin(found.code, _SWITCHES))
    moves = np.isin(found.code, _MOVES)
    low = 0
    for at in [*switches.tolist(), len(found.code)]:
        rows = low + np.flatnonzero(moves[low:at])
        if len(rows):
            parts.append(_stretch(found.values[rows], state))
        if at < len(found.code):
            _switch(int(found.code[at]), found.values[at].tolist(), state)
        low = at + 1


def _switch(number: int, values: list[float], state: _State) -> None:
    if number in (code("G90"), code("G91")):
        state.relative = state.relative_e = number == code("G91")
    elif number in (code("M82"), code("M83")):
        state.relative_e = number == code("M83")
    elif number == code("G92"):
        state.place = [old if new != new else new for old, new in zip(state.place, values, strict=False)]
        state.filament = state.filament if values[3] != values[3] else values[3]
    elif number == code("G28"):
        state.place = [0.0, 0.0, 0.0]
    else:
        raise SlicingError("The G-code uses inches or arcs, which cannot be checked.")


def _stretch(values: Floats, state: _State) -> tuple[Floats, Floats, Floats]:
    """Moves between two switches."""
    columns = []
    for axis in range(3):
        columns.append(_followed(values[:, axis], state.place[axis], state.relative))
        state.place[axis] = float(columns[-1][-1])
    position = np.stack([c[1:] for c in columns], axis=1)
    filament = _followed(values[:, 3], state.filament, state.relative_e)
    state.filament = float(filament[-1])
    delta = np.stack([*(np.diff(c) for c in columns), np.diff(filament)], axis=1)
    if state.relative_e:
        delta[:, 3] = np.nan_to_num(values[:, 3])  # exactly, not by differences of a long sum
    feed = _followed(values[:, 4] / 60, state.feed, relative=False)
    state.feed = float(feed[-1])
    return position, delta, np.maximum(feed[1:], 1e-3)


def _followed(values: Floats, initial: float, relative: bool) -> Floats:
    """(n + 1,) where an axis stands, from where it began."""
    if relative:
        return np.concatenate([[initial], initial + np.cumsum(np.nan_to_num(values))])
    known = np.concatenate([[initial], values])
    last = np.maximum.accumulate(np.where(np.isnan(known), 0, np.arange(len(known))))
    return known[last]


def check(
    path: Path, machine: Machine, settings: SliceSettings, result: SliceResult, time_tolerance: float = 0.03
) -> dict[str, Any]:
    """Refuse a file that this machine should not run, or that is not what its engine says it is.

    Raises SlicingError with a sentence; returns what was found: filament_mm, time_s, bounds, layers.
    """
    replay = parse(path.read_bytes())
    extruding = replay.extruding
    if not extruding.any():
        raise SlicingError("The G-code prints nothing.")
    check_temperatures(replay, machine)
    heights = check_bed(replay.position, extruding, machine)
    first = _check_heights(heights, machine, settings)
    time, filament = replay.seconds(machine), replay.filament_mm
    _agree("filament", "mm", filament, result.filament_mm, 0.005)
    _agree("time", "s", time, result.time_s, time_tolerance)
    printed = replay.position[extruding][first:]
    return {
        "filament_mm": filament,
        "time_s": time,
        "bounds": [printed.min(axis=0).tolist(), printed.max(axis=0).tolist()],
        "layers": int(len(np.unique(np.round(printed[:, 2], 4)))),
    }


def check_temperatures(replay: Replay, machine: Machine) -> None:
    for word, asked, most in (
        ("nozzle", replay.nozzle, machine.max_nozzle_temperature),
        ("bed", replay.bed, machine.max_bed_temperature),
    ):
        if asked and max(asked) > most:
            raise SlicingError(f"The G-code heats the {word} to {max(asked):g} C; this printer allows {most:g} C.")
    if replay.nozzle and max(replay.nozzle) <= 0:
        raise SlicingError("The G-code prints without heating the nozzle.")


def check_bed(position: Floats, extruding: NDArray[np.bool_], machine: Machine) -> Floats:
    """Heights of the extruding moves. Raises SlicingError for a move that leaves the printable volume."""
    low = np.array([*machine.origin, 0.0])
    high = low + np.array(machine.size)
    if not np.isfinite(position).all():
        raise SlicingError("The G-code has a coordinate that is not a number.")
    outside = ((position < low - INSIDE) | (position > high + INSIDE)).any(axis=1)
    if outside.any():
        x, y, z = position[int(np.argmax(outside))].tolist()
        what = "prints" if extruding[outside].any() else "moves"
        raise SlicingError(f"The G-code {what} outside of the printable volume, at X{x:.1f} Y{y:.1f} Z{z:.1f}.")
    heights: Floats = position[extruding, 2]
    return heights


def _check_heights(heights: Floats, machine: Machine, settings: SliceSettings) -> int:
    """Layers must rise one by one from the bed. Returns the number of priming moves before the first layer."""
    first = int(np.argmin(heights))
    if heights[first] > settings.first_layer_height + INSIDE:
        raise SlicingError(f"The G-code prints in the air: it begins at a height of {heights[first]:.2f} mm.")
    rise = np.diff(heights[first:])
    if (rise < -1e-6).any():
        at = float(heights[first:][int(np.argmin(rise))])
        raise SlicingError(f"The G-code goes down while it prints, at a height of {at:.2f} mm.")
    if len(rise) and rise.max() > machine.nozzle_diameter + INSIDE:
        at = float(heights[first:][int(np.argmax(rise))])
        raise SlicingError(
            f"The G-code prints in the air: nothing lies between {at:.2f} mm and {at + rise.max():.2f} mm."
        )
    return first


def _agree(what: str, unit: str, found: float, said: float, tolerance: float) -> None:
    if abs(found - said) > tolerance * max(found, said) + 1.0:
        raise SlicingError(f"The G-code's {what} is {found:.0f} {unit}, but its engine said {said:.0f} {unit}.")
