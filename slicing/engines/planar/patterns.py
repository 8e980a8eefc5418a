"""Sparse infill that is no straight lines. Each pattern is drawn over the whole bed and kept where the area is sparse:
a point is, if the piece of scan line next to it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.planar.polygons import Floats, Ints, Offsetter, offsets, ramp
from slicing.engines.planar.regions import Flow, Regions
from slicing.engines.planar.scanlines import GRID, Family, FillPaths, Intervals

STEP = 0.5  # mm between points of a curve
SHORTEST = 1.0  # mm
COARSE = 0.03  # mm that a curve may be off
POINTS = 2_000_000  # that are drawn at once; bounds the memory
WAVINESS = 1.19  # how much longer gyroid waves are than straight lines, on average over all heights


def gyroid(
    room: Intervals, family: Family, origin: float, regions: Regions, flow: Flow, settings: Settings
) -> FillPaths:
    """Waves sin x cos y + sin y cos z + sin z cos x = 0: as strong in every direction, and no line crosses another."""
    layers = np.unique(room.layer)
    if not len(layers):
        return FillPaths.joined([])
    corners = family.back(np.concatenate([room.low, room.high]) / GRID + origin, np.tile(room.line, 2))
    low, high = corners.min(axis=0) - 1, corners.max(axis=0) + 1
    heights = np.cumsum(flow.areas / flow.spacings)
    done = []
    across = float(np.max(high - low))
    for layer in layers.tolist():
        apart = float(flow.spacings[layer]) * 100 / settings.infill_density
        scale = apart * WAVINESS / math.pi  # waves lie half a period apart
        curves = _waves(low / scale, across / scale, float(heights[layer]) / scale)
        points = (curves * scale).reshape(-1, 2)
        run = np.repeat(np.arange(curves.shape[0]), curves.shape[1])
        done.append(_kept(points, run, np.full(len(points), layer), room, family, origin))
    return FillPaths.joined(done)


def _waves(low: Floats, across: float, z: float) -> Floats:
    """(curves, points, 2) of the gyroid at height z, over a square; all lengths in radians of its period."""
    t = np.arange(0, across, 0.4)
    sin_z, cos_z = math.sin(z), math.cos(z)
    steep = abs(sin_z) > abs(cos_z)  # then the waves run along y, else along x
    along = t + low[1 if steep else 0]
    if steep:
        sine, cosine, right = np.cos(along), sin_z, -np.sin(along) * cos_z
    else:
        sine, cosine, right = cos_z, np.sin(along), -np.cos(along) * sin_z
    # sine * sin(other) + cosine * cos(other) = right
    phase = np.arctan2(cosine, sine)
    bend = np.arcsin(np.clip(right / np.hypot(sine, cosine), -1, 1))
    waves = [np.unwrap(bend - phase), np.unwrap(math.pi - bend - phase)]
    start = low[0 if steep else 1]
    period = 2 * math.pi
    shifts = np.arange(-2, math.ceil(across / period) + 3) * period
    other = np.concatenate([wave + shifts[:, None] + _floor(start, period) for wave in waves])
    both = [other, np.broadcast_to(along, other.shape)]
    return np.stack(both if steep else both[::-1], axis=-1)


def _floor(value: float, period: float) -> float:
    return math.floor(value / period) * period


def concentric(
    room: Intervals, family: Family, origin: float, regions: Regions, flow: Flow, settings: Settings
) -> FillPaths:
    """Outlines within outlines."""
    mine = np.isin(regions.fill.layer, np.unique(room.layer))
    fill = regions.fill.take(mine)
    paths = fill.paths()
    cuts = [*np.flatnonzero(np.diff(fill.island, prepend=-1)).tolist(), len(fill)]
    rings: list[Floats] = []
    layer: list[int] = []
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        offsetter = Offsetter(paths[a:b])
        at = int(fill.layer[a])
        apart = float(flow.spacings[at]) * 100 / settings.infill_density
        depth = apart / 2
        while found := offsetter.by(-depth):
            rings += found
            layer += [at] * len(found)
            depth += apart
    if not rings:
        return FillPaths.joined([])
    points, run = _dense(rings)
    return _kept(points, run, np.array(layer)[run], room, family, origin)


def _dense(rings: list[Floats]) -> tuple[Floats, Ints]:
    """Closed rings as polylines with points every STEP, and the ring of each point."""
    closed = [np.vstack([r, r[:1]]) for r in rings]
    points = np.concatenate(closed)
    run = np.repeat(np.arange(len(closed)), [len(r) for r in closed])
    way = np.diff(points, axis=0, append=points[-1:])
    way[np.flatnonzero(np.diff(run))] = 0
    count = np.maximum(np.ceil(np.hypot(way[:, 0], way[:, 1]) / STEP), 1).astype(np.int64)
    origin = np.repeat(np.arange(len(points)), count)
    return points[origin] + way[origin] * (ramp(count) / count[origin])[:, None], run[origin]


def _kept(points: Floats, run: Ints, layer: Ints, room: Intervals, family: Family, origin: float) -> FillPaths:
    """The stretches of each run that lie in the room."""
    held = room.holding(family, origin, points, layer)
    inside = held >= 0
    new = np.ones(len(points), bool)
    new[1:] = (run[1:] != run[:-1]) | ~inside[:-1]
    index = np.flatnonzero(inside)
    if not len(index):
        return FillPaths.joined([])
    begin = np.flatnonzero(new[index])
    lengths = np.diff(np.append(begin, len(index)))
    way = np.hypot(*np.diff(points[index], axis=0, append=points[index[-1:]]).T)
    way[np.append(begin[1:], len(index)) - 1] = 0
    long = np.add.reduceat(way, begin) >= SHORTEST
    chosen: NDArray[np.bool_] = np.repeat(long, lengths)
    first = index[begin[long]]
    return _simplified(points[index[chosen]], lengths[long], layer[first], room.island[held[first]])


def _simplified(points: Floats, lengths: Ints, layer: Ints, island: Ints) -> FillPaths:
    if not len(lengths):
        return FillPaths.joined([])
    lines = shapely.linestrings(points, indices=np.repeat(np.arange(len(lengths)), lengths))
    thin, owner = shapely.get_coordinates(shapely.simplify(lines, COARSE), return_index=True)
    return FillPaths(thin, offsets(np.bincount(owner, minlength=len(lengths))), layer, island)


Pattern = Callable[[Intervals, Family, float, Regions, Flow, Settings], FillPaths]
PATTERNS: dict[str, Pattern] = {"gyroid": gyroid, "concentric": concentric}
