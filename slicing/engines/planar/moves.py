"""From ordered paths to the lines of a G-code file: travels, retractions, speeds, filament, fan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slicing.engines.base import Machine
from slicing.engines.base import SliceSettings as Settings
from slicing.engines.motion import Moves, durations
from slicing.engines.planar import travel, vase
from slicing.engines.planar.crew import Step
from slicing.engines.planar.cut import Layers
from slicing.engines.planar.paths import (
    BRIDGE,
    FREE,
    HELD,
    NAMES,
    OUTER_WALL,
    OVERHANG_NAME,
    THIN_WALL,
    WALL,
    Toolpaths,
)
from slicing.engines.planar.polygons import Floats, Ints, offsets, ramp
from slicing.engines.planar.regions import Regions
from slicing.engines.planar.text import E, F, Lines, X, Y, Z

E_SCALE = 100_000  # steps per mm of filament in the file
HERE = 0.02  # mm; a shorter way to the next path is none
LIFT_SPEED = 10.0  # mm/s, of the z axis

LABELS = tuple(dict.fromkeys([*NAMES, OVERHANG_NAME]))
LABEL_OF_KIND = np.array([LABELS.index(name) for name in NAMES])
OVERHANG = LABELS.index(OVERHANG_NAME)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Program:
    """The body of a file: ``lines``, the same as ``moves`` (one per line, comments stand still), and for each layer the
    number of its first line (it has one, unless it is empty)."""

    lines: Lines
    moves: Moves
    layer_starts: Ints
    layer: Ints  # of each line
    extruding: Mask  # (lines,)
    over_air: Mask  # (lines,)
    filament_mm: float

    def cooled(self, machine: Machine, settings: Settings) -> tuple[Program, float]:
        """Layers that take less than min_layer_time are printed more slowly, except what hangs over air. Returns the
        time that all of it takes, too."""
        time = durations(self.moves, machine)
        count = int(self.layer[-1]) + 1 if len(self.layer) else 0
        slowable = self.extruding & ~self.over_air
        layer = self.layer[slowable]
        total = np.bincount(self.layer, time, count)
        need = settings.min_layer_time - (total - np.bincount(layer, time[slowable], count))
        length = np.bincount(layer, np.hypot(*self.moves.delta[slowable, :2].T), count)
        most = np.maximum(length / np.maximum(need, 1e-6), settings.min_print_speed)
        most[total >= settings.min_layer_time] = np.inf
        if not (most < self.moves.speed.max(initial=0.0)).any():
            return self, float(time.sum())
        speed = self.moves.speed.copy()
        speed[slowable] = np.minimum(speed[slowable], most[layer])
        speed = np.maximum(np.rint(speed * 60), 1) / 60
        lines = replace(self.lines, f=np.rint(speed * 60).astype(np.int64))
        slower = replace(self, lines=lines, moves=Moves(self.moves.delta, speed))
        return slower, float(durations(slower.moves, machine).sum())

    def fan(self, settings: Settings) -> list[tuple[int, bytes]]:
        """Lines that set the fan, with the number of the line that each goes before."""
        wanted = np.where(self.layer == 0, 0, round(255 * settings.fan_speed / 100))
        wanted = np.where(self.over_air & (self.layer > 0), round(255 * settings.bridge_fan_speed / 100), wanted)
        at = np.flatnonzero(self.extruding)
        changes = np.flatnonzero(np.diff(wanted[at], prepend=0))
        return [(int(at[k]), b"M106 S%d\n" % wanted[at[k]] if wanted[at[k]] else b"M107\n") for k in changes.tolist()]


def program(
    paths: Toolpaths,
    regions: Regions,
    layers: Layers,
    settings: Settings,
    begin: tuple[float, float],
    crew: int,
    step: Step,
) -> Program:
    """Lines and moves of the paths in their order; the nozzle comes from ``begin``."""
    way = travel.ways(paths, regions, settings, begin, crew, lambda done: step(0.6 * done))
    writer = _Writer(paths, layers, settings, way)
    made = writer.program(begin)
    step(1.0)
    return made


class _Writer:
    """Lays out the lines of every path: pull back, rise, go, come down, push, print."""

    def __init__(self, paths: Toolpaths, layers: Layers, settings: Settings, way: travel.Ways) -> None:
        self.paths, self.settings, self.way = paths, settings, way
        self.tops = np.rint(layers.tops * 1000).astype(np.int64)
        self.layers = layers
        drawn = np.diff(paths.starts) - 1
        self.owner = np.repeat(np.arange(len(paths)), drawn)  # of each printing move
        self.index = np.repeat(paths.starts[:-1], drawn) + ramp(drawn)  # its first point
        self.label = self._labels()
        self.named = self._named()
        named_so_far = np.cumsum(self.named)
        before_path = np.concatenate([[0], named_so_far])[offsets(drawn)[:-1]]
        self.comments_before = named_so_far - before_path[self.owner]
        comments = np.bincount(self.owner[self.named], minlength=len(paths))
        self.spiral = paths.layer >= vase.begins(settings)
        hop = way.retract & (settings.z_hop > 0) & ~self.spiral
        lift = (way.new_layer & ~self.spiral) | hop
        blocks = [way.retract, lift, way.lengths, hop, way.retract, drawn + comments]
        self.hop, self.lift = hop, lift
        counts = np.stack([np.asarray(b, dtype=np.int64) for b in blocks])
        if len(way.wipes):
            counts[0] += way.wipe_lengths
        self.base = offsets(counts.sum(axis=0))
        self.block = self.base[:-1] + np.cumsum(counts, axis=0) - counts
        self._allocate(int(self.base[-1]))

    def _allocate(self, count: int) -> None:
        self.x, self.y, self.z, self.e, self.words = (np.zeros(count, np.int64) for _ in range(5))
        self.comment = np.full(count, -1)
        self.speed = np.ones(count)
        self.extruding, self.over_air = np.zeros(count, bool), np.zeros(count, bool)

    def _labels(self) -> Ints:
        """(moves,) which of LABELS each printing move goes under."""
        kind, grade = self.paths.kind[self.owner], self.paths.grade[self.index]
        return np.where(grade == FREE, OVERHANG, LABEL_OF_KIND[kind])

    def _named(self) -> Mask:
        """Whether a ;TYPE: comment comes before a printing move: after a change, and at the begin of a layer."""
        layer = self.paths.layer[self.owner]
        named = np.ones(len(self.label), bool)
        named[1:] = (self.label[1:] != self.label[:-1]) | (layer[1:] != layer[:-1])
        return named

    def program(self, begin: tuple[float, float]) -> Program:
        way, settings = self.way, self.settings
        pull = round(settings.retract_length * E_SCALE)
        top = self.tops[self.paths.layer]
        hop = round(settings.z_hop * 1000)
        self._retract(pull)
        self._put(1, self.lift, Z | F, z=top + np.where(self.hop, hop, 0), speed=LIFT_SPEED)
        self._travel()
        self._put(3, self.hop, Z | F, z=top, speed=LIFT_SPEED)
        self._put(4, way.retract, E | F, e=pull, speed=settings.retract_speed)
        self._draw()
        return self._finished(begin)

    def _put(self, block: int, where: Mask, words: int, **values: Ints | float) -> None:
        """One line for each flagged path."""
        row = self.block[block][where]
        self.words[row] = words
        for name, value in values.items():
            getattr(self, name)[row] = value[where] if isinstance(value, np.ndarray) else value

    def _retract(self, pull: int) -> None:
        """At once, or little by little while the nozzle wipes back along the line it has just printed."""
        way, speed = self.way, self.settings.retract_speed
        if not len(way.wipes):
            self._put(0, way.retract, E | F, e=-pull, speed=speed)
            return
        owner, step = np.repeat(np.arange(len(self.paths)), way.wipe_lengths), ramp(way.wipe_lengths)
        row = self.block[0][owner] + step
        there = np.rint(way.wipes * 1000).astype(np.int64)
        wiped = np.rint(way.wipe_shares * pull).astype(np.int64)
        self.words[row] = X | Y | E | np.where(step == 0, F, 0)
        self.x[row], self.y[row], self.e[row] = there[:, 0], there[:, 1], -wiped
        self.speed[row] = 0.8 * self.settings.travel_speed
        rest = pull - np.bincount(owner, wiped, len(self.paths)).astype(np.int64)
        row = (self.block[0] + way.wipe_lengths)[way.retract]
        self.words[row], self.e[row], self.speed[row] = E | F, -rest[way.retract], speed

    def _travel(self) -> None:
        owner, step = np.repeat(np.arange(len(self.paths)), self.way.lengths), ramp(self.way.lengths)
        row = self.block[2][owner] + step
        there = np.rint(self.way.points * 1000).astype(np.int64)
        self.words[row] = X | Y | np.where(step == 0, F, 0)
        self.x[row], self.y[row] = there[:, 0], there[:, 1]
        self.speed[row] = self.settings.travel_speed

    def _draw(self) -> None:
        paths, index = self.paths, self.index
        drawn = np.diff(paths.starts) - 1
        row = self.block[5][self.owner] + ramp(drawn) + self.comments_before
        self.comment[row[self.named] - 1] = self.label[self.named]
        xy = np.rint(paths.points * 1000).astype(np.int64)
        length = np.hypot(*((xy[index + 1] - xy[index]) / 1000).T)
        # a width changes evenly along a thin line, but at once where a wall comes over air
        thin = paths.kind[self.owner] == THIN_WALL
        area = np.where(thin, (paths.area[index] + paths.area[index + 1]) / 2, paths.area[index])
        filament = np.cumsum(length * area) * self.settings.extrusion_multiplier / filament_area(self.settings)
        # differences of the rounded sum, so that rounding never adds up
        self.e[row] = np.diff(np.rint(filament * E_SCALE).astype(np.int64), prepend=0)
        self.x[row], self.y[row] = xy[index + 1].T
        self._spiral(row, length)
        speed = self._speeds()
        first = np.ones(len(row), bool)
        first[1:] = (np.diff(speed) != 0) | (np.diff(row) > 1)
        self.words[row] |= X | Y | E | np.where(first, F, 0)
        self.speed[row] = speed
        self.extruding[row] = True
        self.over_air[row] = (paths.kind[self.owner] == BRIDGE) | (paths.grade[index] == FREE)

    def _spiral(self, row: Ints, length: Floats) -> None:
        """In a vase the nozzle rises all along the wall: by one layer in one turn."""
        rising = self.spiral[self.owner]
        if not rising.any():
            return
        layer = self.paths.layer[self.owner[rising]]
        gone = np.cumsum(length[rising])
        turns = np.bincount(layer, length[rising], len(self.tops))
        before = np.cumsum(turns) - turns
        share = np.minimum((gone - before[layer]) / turns[layer], 1.0)
        height = np.rint(self.layers.heights * 1000)[layer]
        z = self.tops[layer] - np.rint(height * (1 - share)).astype(np.int64)
        self.z[row[rising]], self.words[row[rising]] = z, Z

    def _speeds(self) -> Floats:
        """(moves,) mm/s."""
        s = self.settings
        kind, grade = self.paths.kind[self.owner], self.paths.grade[self.index]
        speed = np.full(len(kind), s.print_speed)
        if s.outer_wall_speed:
            speed[(kind == OUTER_WALL) | (kind == THIN_WALL)] = s.outer_wall_speed
        speed[kind == BRIDGE] = s.bridge_speed
        walls = (kind == WALL) | (kind == OUTER_WALL)
        speed = np.where(walls & (grade != HELD), np.minimum(speed, s.overhang_speed), speed)
        if s.max_flow:
            area = np.maximum(self.paths.area[self.index], self.paths.area[self.index + 1]) * s.extrusion_multiplier
            speed = np.minimum(speed, s.max_flow / area)
        return np.where(self.paths.layer[self.owner] == 0, np.minimum(speed, s.first_layer_speed), speed)

    def _finished(self, begin: tuple[float, float]) -> Program:
        place = [
            _carried(values, (self.words & word) > 0, initial)
            for values, word, initial in (
                (self.x, X, round(begin[0] * 1000)),
                (self.y, Y, round(begin[1] * 1000)),
                (self.z, Z, 0),
            )
        ]
        started = (round(begin[0] * 1000), round(begin[1] * 1000), place[2][0])
        delta = [np.diff(p, prepend=i) / 1000 for p, i in zip(place, started, strict=True)]
        feed = np.maximum(np.rint(self.speed * 60), 1)
        comments = tuple(f";TYPE:{name}\n".encode() for name in LABELS)
        layer = np.repeat(self.paths.layer, np.diff(self.base))
        return Program(
            Lines(self.x, self.y, self.z, self.e, feed.astype(np.int64), self.words, self.comment, comments),
            Moves(np.stack([*delta, self.e / E_SCALE], axis=1), feed / 60),
            self.base[:-1][np.searchsorted(self.paths.layer, np.arange(len(self.layers)))],
            layer,
            self.extruding,
            self.over_air,
            float(self.e[self.extruding].sum()) / E_SCALE,
        )


def filament_area(settings: Settings) -> float:
    """mm2 of the filament's cross-section."""
    return math.pi * settings.filament_diameter**2 / 4


def _carried(values: Ints, named: Mask, initial: int) -> Ints:
    """Each value, or the last one named before it."""
    last = np.maximum.accumulate(np.where(named, np.arange(len(values)), -1))
    return np.where(last >= 0, values[last], initial)
