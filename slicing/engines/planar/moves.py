"""From ordered paths to the lines of a G-code file: travels, retractions, speeds, filament."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.motion import Moves
from slicing.engines.planar.cut import Layers
from slicing.engines.planar.polygons import Floats, Ints, offsets, ramp
from slicing.engines.planar.regions import Regions
from slicing.engines.planar.text import E, F, Lines, X, Y, Z
from slicing.engines.planar.toolpaths import NAMES, Toolpaths

E_SCALE = 100_000  # steps per mm of filament in the file
HERE = 0.02  # mm; a shorter way to the next path is none
LIFT_SPEED = 10.0  # mm/s, of the z axis
SLACK = 0.02  # mm that a travel may touch the outline of its island

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Program:
    """The body of a file: ``lines``, the same as ``moves`` (one per line, comments stand still), and for each layer the
    number of its first line."""

    lines: Lines
    moves: Moves
    layer_starts: Ints
    extruding: Mask  # (lines,)
    filament_mm: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """What comes before each path: (p,) flags."""

    lift: Mask
    travel: Mask
    retract: Mask
    comment: Mask

    @property
    def count(self) -> Ints:
        rows = np.stack([self.lift, self.travel, self.retract, self.retract, self.comment])  # a retraction is undone
        return rows.sum(axis=0, dtype=np.int64)


def program(
    paths: Toolpaths, regions: Regions, layers: Layers, settings: Settings, begin: tuple[float, float]
) -> Program:
    """Lines and moves of the paths in their order; the nozzle comes from ``begin``."""
    first, last = paths.points[paths.starts[:-1]], paths.points[paths.starts[1:] - 1]
    came = np.vstack([begin, last[:-1]])
    plan = _plan(paths, regions, came, first, settings)
    drawn = np.diff(paths.starts) - 1
    base = offsets(plan.count + drawn)
    rows = _Rows(int(base[-1]))
    tops = np.rint(layers.tops * 1000).astype(np.int64)
    at = base[:-1].copy()
    pull = round(settings.retract_length * E_SCALE)
    at = rows.put(at, plan.retract, words=E | F, e=-pull, speed=settings.retract_speed)
    at = rows.put(at, plan.lift, words=Z | F, z=tops[paths.layer], speed=LIFT_SPEED)
    there = np.rint(first * 1000).astype(np.int64)
    at = rows.put(at, plan.travel, words=X | Y | F, x=there[:, 0], y=there[:, 1], speed=settings.travel_speed)
    at = rows.put(at, plan.retract, words=E | F, e=pull, speed=settings.retract_speed)
    at = rows.put(at, plan.comment, words=0, comment=paths.kind)
    printed = _draw(rows, paths, at, drawn, settings)
    layer_starts = base[:-1][np.searchsorted(paths.layer, np.arange(len(layers)))]
    return rows.program(begin, layer_starts, printed)


def _plan(paths: Toolpaths, regions: Regions, came: Floats, first: Floats, settings: Settings) -> _Plan:
    new_layer = np.ones(len(paths), bool)
    new_layer[1:] = paths.layer[1:] != paths.layer[:-1]
    comment = np.ones(len(paths), bool)
    names = np.unique(NAMES, return_inverse=True)[1][paths.kind]
    comment[1:] = (names[1:] != names[:-1]) | new_layer[1:]
    away = np.hypot(*(first - came).T)
    travel = away > HERE
    retract = away > settings.retract_min_travel
    if settings.retract_length == 0:
        retract[:] = False
    home = np.zeros(len(paths), bool)  # the way may stay within one island, or lead from the layer below into it
    home[1:] = (paths.island[1:] == paths.island[:-1]) | new_layer[1:]
    home[1:] &= (paths.island[1:] >= 0) & (paths.island[:-1] >= 0)
    inside = np.flatnonzero(retract & home)
    retract[inside[stays_inside(regions, paths.island[inside], came[inside], first[inside])]] = False
    return _Plan(new_layer, travel | new_layer, retract, comment)


def stays_inside(regions: Regions, island: Ints, a: Floats, b: Floats) -> Mask:
    """Which of the straight ways from a to b stay within their island: no string of plastic can show there."""
    if not len(island):
        return np.zeros(0, bool)
    wanted, which = np.unique(island, return_inverse=True)
    grown = shapely.buffer(island_polygons(regions, wanted), SLACK, quad_segs=1)
    shapely.prepare(grown)
    ways = shapely.linestrings(np.stack([a, b], axis=1))
    inside: Mask = shapely.contains(grown[which], ways)
    return inside


def island_polygons(regions: Regions, islands: Ints) -> NDArray[np.object_]:
    """Polygons of the given islands (sorted). An island's first ring is its outline, the others are its holes."""
    rings = regions.outlines
    low, high = np.searchsorted(rings.island, islands), np.searchsorted(rings.island, islands, "right")
    paths = rings.paths()
    return np.array([shapely.Polygon(paths[i], paths[i + 1 : j]) for i, j in zip(low, high, strict=True)])


def _draw(rows: _Rows, paths: Toolpaths, at: Ints, drawn: Ints, settings: Settings) -> Ints:
    """The printing moves of all paths; returns their rows."""
    owner = np.repeat(np.arange(len(paths)), drawn)
    step = ramp(drawn)
    row = at[owner] + step
    index = paths.starts[:-1][owner] + step
    xy = np.rint(paths.points * 1000).astype(np.int64)
    length = np.hypot(*((xy[index + 1] - xy[index]) / 1000).T)
    volume = length * (paths.area[index] + paths.area[index + 1]) / 2 * settings.extrusion_multiplier
    filament = np.cumsum(volume) / (math.pi * settings.filament_diameter**2 / 4)
    # differences of the rounded sum, so that rounding never adds up
    rows.e[row] = np.diff(np.rint(filament * E_SCALE).astype(np.int64), prepend=0)
    rows.x[row], rows.y[row] = xy[index + 1].T
    rows.words[row] = X | Y | E | np.where(step == 0, F, 0)
    speed = np.where(paths.layer == 0, min(settings.first_layer_speed, settings.print_speed), settings.print_speed)
    rows.speed[row] = speed[owner]
    return row


class _Rows:
    """Lines in the making; places of axes that a line does not name are filled in at the end."""

    def __init__(self, count: int) -> None:
        self.x, self.y, self.z, self.e, self.words = (np.zeros(count, np.int64) for _ in range(5))
        self.comment = np.full(count, -1)
        self.speed = np.ones(count)

    def put(self, at: Ints, where: Mask, words: int, **values: Ints | float) -> Ints:
        """One line for each flagged path, at the row given for it; returns the rows after those lines."""
        row = at[where]
        self.words[row] = words
        for name, value in values.items():
            getattr(self, name)[row] = value[where] if isinstance(value, np.ndarray) else value
        return at + where

    def program(self, begin: tuple[float, float], layer_starts: Ints, printed: Ints) -> Program:
        place = [
            _carried(values, (self.words & word) > 0, initial)
            for values, word, initial in (
                (self.x, X, round(begin[0] * 1000)),
                (self.y, Y, round(begin[1] * 1000)),
                (self.z, Z, 0),
            )
        ]
        delta = [np.diff(p, prepend=i) / 1000 for p, i in zip(place, (p[0] for p in place), strict=True)]
        delta[0][0] = place[0][0] / 1000 - begin[0]
        delta[1][0] = place[1][0] / 1000 - begin[1]
        moves = Moves(np.stack([*delta, self.e / E_SCALE], axis=1), self.speed)
        feed = np.rint(self.speed * 60).astype(np.int64)
        comments = tuple(f";TYPE:{name}\n".encode() for name in NAMES)
        lines = Lines(self.x, self.y, self.z, self.e, feed, self.words, self.comment, comments)
        extruding = np.zeros(len(self.x), bool)
        extruding[printed] = True
        return Program(lines, moves, layer_starts, extruding, float(self.e[printed].sum()) / E_SCALE)


def _carried(values: Ints, named: Mask, initial: int) -> Ints:
    """Each value, or the last one named before it."""
    last = np.maximum.accumulate(np.where(named, np.arange(len(values)), -1))
    return np.where(last >= 0, values[last], initial)
