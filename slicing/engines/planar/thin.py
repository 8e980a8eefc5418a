"""Lines of varying width for what is too thin for anything else: thin walls, and gaps between walls.

The middle of a strip is found by scan lines in two directions: the middles of the pieces that lie within it, joined
from line to line. Of two scan directions the one that crosses a strip more squarely has the shorter pieces, so that one
is believed. The directions are turned by 7.5 degrees, because models are full of strips at multiples of 15.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.engines.planar.chaining import follow
from slicing.engines.planar.leftover import Leftover
from slicing.engines.planar.polygons import Floats, Ints, offsets, ramp, segment_sums
from slicing.engines.planar.scanlines import GRID, OTHER, OWN, Family, Intervals, Sweep, crossings

ANGLES = (math.radians(7.5), math.radians(97.5))
STEP = 0.25  # mm between scan lines
JOIN = 0.7  # mm between ends that are joined
FLAT = 0.01  # mm that a point may be off the line between its neighbours and be left out
EVENTS = 3_000_000  # that are sorted at once


@dataclass(frozen=True, slots=True)
class ThinLines:
    """Polylines with a width at every point: path p is points[starts[p]:starts[p + 1]]."""

    points: Floats
    widths: Floats
    starts: Ints
    layer: Ints
    island: Ints


def thin_lines(left: Leftover, narrowest: float, widest: float, shortest: float) -> ThinLines:
    """Lines through the leftover areas where these are between ``narrowest`` and ``widest``, mm; no line is shorter
    than ``shortest``."""
    parts = [
        _lines(strips, family, origin)
        for layers in _portions(left)
        for family, origin, strips in _strips(left, layers, narrowest, widest)
    ]
    if not parts:
        none = np.empty(0, np.int64)
        return ThinLines(np.empty((0, 2)), np.empty(0), np.zeros(1, np.int64), none, none)
    made = ThinLines(
        np.concatenate([p.points for p in parts]),
        np.concatenate([p.widths for p in parts]),
        offsets(np.concatenate([np.diff(p.starts) for p in parts])),
        np.concatenate([p.layer for p in parts]),
        np.concatenate([p.island for p in parts]),
    )
    return _long(_joined(made), shortest)


def _joined(lines: ThinLines) -> ThinLines:
    """Lines whose ends are each other's nearest become one: the two directions of scanning meet there."""
    count = len(lines.layer)
    if not count:
        return lines
    ends = np.stack([lines.starts[:-1], lines.starts[1:] - 1], axis=1).ravel()  # 2 p is where line p begins
    place = lines.points[ends]
    apart = 10 * (np.ptp(place[:, 0]) + 10)  # layers are laid out side by side, to keep them from each other
    points = shapely.points(place[:, 0] + apart * np.repeat(lines.layer, 2), place[:, 1])
    tree = shapely.STRtree(points)
    a, b = tree.query_nearest(points, max_distance=JOIN, exclusive=True, all_matches=False)
    nearest = np.full(2 * count, -1)
    nearest[a] = b
    mutual = (nearest >= 0) & (nearest[nearest] == np.arange(2 * count))
    runs = follow(np.where(mutual, nearest, -1).tolist())
    if len(runs) == count:
        return lines
    return _strung(lines, runs)


def _strung(lines: ThinLines, runs: list[tuple[list[int], bool]]) -> ThinLines:
    """One line for each run of halves (see chaining); closed ones end where they begin."""
    halves = np.array([half for run, _ in runs for half in run])
    path, back = halves >> 1, halves % 2 == 1
    begin, end = lines.starts[path], lines.starts[path + 1] - 1
    enter = np.where(back, end, begin)
    lengths = end - begin + 1
    cuts = offsets(np.array([len(run) for run, _ in runs]))
    closed = np.array([loop for _, loop in runs])
    last = cuts[1:] - 1
    extra = np.zeros(len(halves), np.int64)
    extra[last[closed]] = 1
    step = ramp(lengths + extra)
    owner = np.repeat(np.arange(len(halves)), lengths + extra)
    index = enter[owner] + np.where(back[owner], -step, step)
    home = enter[cuts[:-1]][np.searchsorted(cuts, owner, "right") - 1]
    index = np.where(step == lengths[owner], home, index)
    total = np.add.reduceat(lengths + extra, cuts[:-1])
    head = path[cuts[:-1]]
    return ThinLines(lines.points[index], lines.widths[index], offsets(total), lines.layer[head], lines.island[head])


def copied(lines: ThinLines, like: Ints, island_layer: Ints) -> ThinLines:
    """The lines of each layer also on the layers that are like it; equal layers have equal islands in equal order."""
    order = np.argsort(lines.layer, kind="stable")
    cuts = np.searchsorted(lines.layer[order], np.arange(len(like) + 1))
    count = np.diff(cuts)[like]
    layer = np.repeat(np.arange(len(like)), count)
    path = order[cuts[like][layer] + ramp(count)]
    first_island = np.searchsorted(island_layer, np.arange(len(like)))
    lengths = np.diff(lines.starts)[path]
    index = np.repeat(lines.starts[path], lengths) + ramp(lengths)
    island = lines.island[path] + first_island[layer] - first_island[lines.layer[path]]
    return ThinLines(lines.points[index], lines.widths[index], offsets(lengths), layer, island)


def _portions(left: Leftover) -> Iterator[Ints]:
    """The layers that have something left over, in portions of about EVENTS events."""
    layers, which = np.unique(left.outer.layer, return_inverse=True)
    if not len(layers):
        return
    rings = left.outer
    way = np.abs(np.diff(rings.points, axis=0, append=rings.points[-1:])).sum(axis=1)
    per_layer = np.bincount(which[rings.ring_of_point()], way, len(layers))
    portion = (np.cumsum(per_layer) * 2 / STEP // EVENTS).astype(np.int64)
    for number in np.unique(portion).tolist():
        yield layers[portion == number]


def _strips(left: Leftover, layers: Ints, narrowest: float, widest: float) -> Iterator[tuple[Family, float, Intervals]]:
    """For each of the two directions, the pieces of scan lines that cross a strip more squarely than the other's."""
    found = []
    for angle in ANGLES:
        family = Family(angle, STEP)
        origin = float(family.along(left.outer.points)[0].min()) - 1.0
        pieces = _pieces(left, layers, family, origin)
        length = pieces.high - pieces.low
        fits = (length >= narrowest * GRID) & (length <= 1.5 * widest * GRID)
        found.append((family, origin, pieces.take(fits)))
    (family, origin, first), (other, other_origin, second) = found
    across = second.holding(other, other_origin, _middles(first, family, origin), first.layer)
    length = np.append(second.high - second.low, np.iinfo(np.int64).max)  # the last one is for "none", -1
    first = first.take(first.high - first.low <= length[across])
    taken = first.holding(family, origin, _middles(second, other, other_origin), second.layer)
    yield family, origin, first
    yield other, other_origin, second.take(taken < 0)


def _middles(pieces: Intervals, family: Family, origin: float) -> Floats:
    return family.back((pieces.low + pieces.high) / (2 * GRID) + origin, pieces.line)


def _pieces(left: Leftover, layers: Ints, family: Family, origin: float) -> Intervals:
    slot = np.full(int(max(left.outer.layer.max(), left.inner.layer.max(initial=0))) + 1, -1)
    slot[layers] = np.arange(len(layers))
    outer = left.outer.take(slot[left.outer.layer] >= 0)
    inner = left.inner.take(slot[left.inner.layer] >= 0)
    own, other = crossings(outer, family, origin), crossings(inner, family, origin)
    sweep = Sweep.over(outer, [own, other], len(layers), slot)
    keys = np.concatenate(
        [
            sweep.keys(slot[outer.layer[own.ring]], own, OWN, sweep.member[own.ring]),
            sweep.keys(slot[inner.layer[other.ring]], other, OTHER),
        ]
    )
    return sweep.intervals(keys, (1, -1), lambda weight, _: (weight > 0).astype(np.int64), layers)[0]


def _lines(pieces: Intervals, family: Family, origin: float) -> ThinLines:
    """Middles joined from scan line to scan line."""
    reach = round(1.2 * STEP * GRID)  # to the side, from line to line: strips that run more askew are the other's
    head, rank = pieces.chains(reach, lambda a, b: np.abs(_middle(pieces, a) - _middle(pieces, b)) <= reach)
    order = np.lexsort((rank, head))
    pieces, head = pieces.take(order), head[order]
    points = _middles(pieces, family, origin)
    new = np.ones(len(head), bool)
    new[1:] = head[1:] != head[:-1]
    begin = np.flatnonzero(new)
    starts = np.append(begin, len(head))
    widths = (pieces.high - pieces.low) / GRID * _squareness(points, starts)
    return _reduced(ThinLines(points, widths, starts, pieces.layer[begin], pieces.island[begin]))


def _middle(pieces: Intervals, which: Ints) -> Floats:
    middle: Floats = (pieces.low[which] + pieces.high[which]) / 2
    return middle


def _squareness(points: Floats, starts: Ints) -> Floats:
    """(n,) cosine between each scan line's normal and the strip: a piece is longer than the strip is wide."""
    n = len(points)
    before, after = np.maximum(np.arange(n) - 1, 0), np.minimum(np.arange(n) + 1, n - 1)
    before[starts[:-1]] = starts[:-1]
    after[starts[1:] - 1] = starts[1:] - 1
    way = points[after] - points[before]
    length = np.hypot(way[:, 0], way[:, 1])
    return np.where(length > 0, (after - before) * STEP / np.maximum(length, 1e-9), 1.0)


def _long(lines: ThinLines, shortest: float) -> ThinLines:
    """Without those that are too short to be worth printing."""
    step = np.hypot(*np.diff(lines.points, axis=0, append=lines.points[-1:]).T)
    step[lines.starts[1:] - 1] = 0.0
    enough = segment_sums(step, lines.starts) >= shortest
    return _taken(lines, np.repeat(enough, np.diff(lines.starts)), enough)


def _taken(lines: ThinLines, points: NDArray[np.bool_], paths: NDArray[np.bool_]) -> ThinLines:
    owner = np.repeat(np.arange(len(lines.layer)), np.diff(lines.starts))
    lengths = np.bincount(owner[points], minlength=len(lines.layer))[paths]
    return ThinLines(
        lines.points[points], lines.widths[points], offsets(lengths), lines.layer[paths], lines.island[paths]
    )


def _reduced(lines: ThinLines) -> ThinLines:
    """Without points that lie between their neighbours in place and width; every second one at most at a time."""
    for _ in range(8):
        n = len(lines.points)
        if n < 3:
            break
        ends = np.zeros(n, bool)
        ends[lines.starts[:-1]] = ends[lines.starts[1:] - 1] = True
        odd = (np.arange(n) - np.repeat(lines.starts[:-1], np.diff(lines.starts))) % 2 == 1
        row = np.column_stack([lines.points, lines.widths])
        before, after = row[:-2], row[2:]
        step = np.linalg.norm((after - before)[:, :2], axis=1)
        first = np.linalg.norm((row[1:-1] - before)[:, :2], axis=1)
        share = (first / np.maximum(step, 1e-9))[:, None]
        off = np.abs(before + share * (after - before) - row[1:-1]).max(axis=1)
        drop = np.zeros(n, bool)
        drop[1:-1] = (off <= FLAT) & odd[1:-1] & ~ends[1:-1]
        if not drop.any():
            break
        lines = _taken(lines, ~drop, np.ones(len(lines.layer), bool))
    return lines
