"""Read G-code back as moves, and check it before it is accepted, whichever engine wrote it. Pure."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicing.engines.base import Machine, SliceResult, SliceSettings, SlicingError
from slicing.engines.motion import Moves, durations
from slicing.reading import CHUNK, Heat, State, Stretch, chunks, rows
from slicing.reading import replay as follow

Floats = NDArray[np.float64]

INSIDE = 0.01  # mm of grace at the edge of the bed


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


def parse(data: bytes, relative_e: bool = False, begin: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Replay:
    """Replay a text. Raises SlicingError where it is not finite or does what cannot be followed (inches)."""
    state = State([*begin, 0.0], relative_e=relative_e)
    heats: dict[str, list[float]] = {"nozzle": [], "bed": [], "chamber": []}
    moves: list[Stretch] = []
    for found in follow((rows(text, at) for at, text in chunks(io.BytesIO(data), CHUNK)), state):
        if isinstance(found, Heat):
            heats[found.part].append(found.temperature)
        elif isinstance(found, Stretch):
            moves.append(found)
    position = np.concatenate([m.position for m in moves]) if moves else np.empty((0, 3))
    delta = np.concatenate([m.delta for m in moves]) if moves else np.empty((0, 4))
    speed = np.concatenate([m.speed for m in moves]) if moves else np.empty(0)
    return Replay(position, delta, speed, heats["nozzle"], heats["bed"], state.machine)


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
    for part, asked in (("nozzle", replay.nozzle), ("bed", replay.bed)):
        check_heat(part, max(asked, default=0.0), machine)
    if replay.nozzle and max(replay.nozzle) <= 0:
        raise SlicingError("The G-code prints without heating the nozzle.")


def check_heat(part: str, temperature: float, machine: Machine) -> None:
    limits = {"nozzle": machine.max_nozzle_temperature, "bed": machine.max_bed_temperature}
    most = limits.get(part)
    if most is not None and temperature > most:
        raise SlicingError(f"The G-code heats the {part} to {temperature:g} C; this printer allows {most:g} C.")


def check_bed(
    position: Floats, extruding: NDArray[np.bool_], machine: Machine, given: NDArray[np.bool_] | None = None
) -> Floats:
    """Heights of the extruding moves. Raises SlicingError for a move that leaves the printable volume; with ``given``
    only along axes that it names: where homing puts the others is the machine's business."""
    outside = np.zeros(len(position), bool)
    for axis, (low, size) in enumerate(zip((*machine.origin, 0.0), machine.size, strict=True)):
        place = position[:, axis]
        beyond = (place < low - INSIDE) | (place > low + size + INSIDE)
        outside |= beyond if given is None else beyond & given[:, axis]
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
