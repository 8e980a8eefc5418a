"""Which parts of every layer are solid and which sparse, and the zig-zag lines that fill them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.planar import patterns
from slicing.engines.planar.crew import Step, shared
from slicing.engines.planar.polygons import Floats, Ints, Rings, signatures
from slicing.engines.planar.regions import Flow, Regions
from slicing.engines.planar.scanlines import (
    CUT,
    GRID,
    OTHER,
    OWN,
    Family,
    FillPaths,
    Intervals,
    Sweep,
    crossings,
    overlaps,
)

SPARSE, SOLID = 1, 2
ANGLE = math.pi / 4  # of infill on even layers; odd ones are square to it
EVENTS = 3_000_000  # that are sorted at once; bounds the memory
ANCHOR = 5.5  # mm along their lines that solid areas reach into sparse ones, to have a hold on them: 3.5 mm on average
SCRAP = 0.1  # mm of a line; less than this shows nowhere
BOND = 0.6  # mm that sparse lines reach into solid areas
SHORTEST_SOLID = 1.0  # mm; smaller patches of solid are not worth a visit
SHORTEST_SPARSE = 1.0
SHORTEST = 0.1  # mm, of any line
LENIENT = 0.2  # mm that the way from one sparse line to the next may lie outside of the fill area

# Of the own area, of neighbours, of what is cut out: the sum counts the neighbours in its low 16 bits.
_WEIGHTS = (1 << 16, 1, -(1 << 20))


@dataclass(frozen=True, slots=True)
class _Cover:
    """Which neighbouring layers must cover a place for it to be sparse."""

    whole: NDArray[np.bool_]  # (layers,) solid everywhere
    pairs: list[tuple[int, NDArray[np.bool_]]]  # (k, for each layer i: must layer i + k be looked at)
    need: Ints  # (layers,) how many are looked at
    solid_islands: NDArray[np.bool_]  # (islands,) too small to be worth sparse infill


def _cover(regions: Regions, count: int, settings: Settings) -> _Cover:
    layer = np.arange(count)
    whole = (layer < settings.bottom_layers) | (layer >= count - settings.top_layers)
    if settings.infill_density >= 100:
        whole[:] = True
    same = signatures(regions.outlines, count)
    pairs = []
    for k in [*range(-settings.bottom_layers, 0), *range(1, settings.top_layers + 1)]:
        at = np.clip(layer + k, 0, count - 1)
        pairs.append((k, ~whole & (same[at] != same)))  # a layer like this one covers it wholly
    need = sum((looked.astype(np.int64) for _, looked in pairs), np.zeros(count, np.int64))
    area = np.bincount(regions.fill.island, regions.fill.areas(), len(regions.island_layer))
    small = (area < settings.solid_below_area) & (settings.infill_density > 0)
    return _Cover(whole, pairs, need, small)


def fill(
    regions: Regions, cut: Rings, flow: Flow, settings: Settings, crew: int, step: Step
) -> tuple[FillPaths, FillPaths]:
    """(solid, sparse) lines of all layers, nothing within the rings of ``cut``; worked out by ``crew`` processes."""
    cover = _cover(regions, len(flow.spacings), settings)

    def part(kind: int, family: Family, layers: Ints, step: Step) -> tuple[FillPaths, FillPaths]:
        origin, none = _origin(regions, family), FillPaths.joined([])
        found, kinds = _classified(regions, cut, family if kind == SOLID else family.halved(), layers, cover)
        if kind == SPARSE:
            return none, _sparse_lines(found, kinds, family, origin, settings)
        solid = _solid(found, kinds, settings).zigzag(family, origin, 4 * family.spacing)
        pattern = patterns.PATTERNS.get(settings.infill_pattern)
        if pattern and settings.infill_density > 0:
            return solid, pattern(_sparse(found, kinds, settings), family, origin, regions, flow, settings)
        return solid, none

    done = shared(
        [
            partial(part, kind, family, part_of)
            for kind, family, layers in _families(flow, cover, settings)
            for part_of in _parts(regions, family, layers, cover, crew)
        ],
        crew,
        step,
    )
    return FillPaths.joined([solid for solid, _ in done]), FillPaths.joined([sparse for _, sparse in done])


def _families(flow: Flow, cover: _Cover, settings: Settings) -> Iterator[tuple[int, Family, Ints]]:
    """(kind, scan lines, layers that use them)."""
    layer = np.arange(len(flow.spacings))
    straight = settings.infill_density > 0 and settings.infill_pattern not in patterns.PATTERNS
    grid = settings.infill_pattern == "grid"  # lines both ways on every layer, half as dense
    for spacing in np.unique(flow.spacings).tolist():
        for parity in (0, 1):
            here = flow.spacings == spacing
            mine = here & (layer % 2 == parity)
            angle = ANGLE + parity * math.pi / 2
            if mine.any():
                yield SOLID, Family(angle, spacing), layer[mine]
            sparse = (here if grid else mine) & ~cover.whole
            if sparse.any() and straight:
                yield SPARSE, Family(angle, (1 + grid) * spacing * 100 / settings.infill_density), layer[sparse]


def _origin(regions: Regions, family: Family) -> float:
    if not len(regions.outlines.points):
        return 0.0
    return float(family.along(regions.outlines.points)[0].min()) - 1.0


def _parts(regions: Regions, family: Family, layers: Ints, cover: _Cover, crew: int) -> Iterator[Ints]:
    """The layers in portions of about EVENTS events or less, so that there is one for each of the crew."""
    edges = np.abs(np.diff(family.along(regions.outlines.points)[1], append=0.0)) / family.spacing + 0.1
    per_layer = np.bincount(regions.outlines.layer[regions.outlines.ring_of_point()], edges, len(cover.need))
    events = per_layer[layers] * (cover.need[layers] + 1)
    portion = (np.cumsum(events) // min(EVENTS, events.sum() / crew + 1)).astype(np.int64)
    for number in np.unique(portion).tolist():
        yield layers[portion == number]


def _classified(regions: Regions, cut: Rings, family: Family, layers: Ints, cover: _Cover) -> tuple[Intervals, Ints]:
    """Every piece of every scan line within the fill area, and whether it is SPARSE or SOLID."""
    count = len(cover.need)
    slot = np.full(count, -1)
    slot[layers] = np.arange(len(layers))
    origin = _origin(regions, family)
    area, gone = (rings.take(slot[rings.layer] >= 0) for rings in (regions.fill, cut))
    near = np.zeros(count, bool)
    for k, looked in cover.pairs:
        near[(layers + k)[looked[layers]]] = True
    around = regions.outlines.take(near[regions.outlines.layer])
    own, other, without = (crossings(rings, family, origin) for rings in (area, around, gone))
    sweep = Sweep.over(area, [own, other, without], len(layers), slot)
    keys = [
        sweep.keys(slot[area.layer[own.ring]], own, OWN, sweep.member[own.ring]),
        sweep.keys(slot[gone.layer[without.ring]], without, CUT),
    ]
    layer_of_other = around.layer[other.ring]
    for k, looked in cover.pairs:
        target = layer_of_other - k
        wanted = np.flatnonzero((target >= 0) & (target < count))
        at = slot[target[wanted]]
        mine = (at >= 0) & looked[target[wanted]]
        keys.append(sweep.keys(at[mine], other.take(wanted[mine]), OTHER))
    need = np.where(cover.whole, -1, cover.need)[layers]

    def kind(weight: Ints, at: Ints) -> Ints:
        inside = weight >= 1 << 15
        return np.where(inside, np.where((weight & 0xFFFF) == need[at], SPARSE, SOLID), 0)

    found, kinds = sweep.intervals(np.concatenate(keys), _WEIGHTS, kind, layers)
    return found, np.where(cover.solid_islands[found.island], SOLID, kinds)


def fill_within(areas: Rings, angle: Floats, spacing: float) -> FillPaths:
    """Zig-zag lines that fill each ring's area at the angle given for it."""
    done = []
    for turn in np.unique(angle).tolist():
        mine = areas.take(angle == turn)
        family = Family(turn, spacing)
        origin = float(family.along(mine.points)[0].min()) - 1.0
        layers = np.unique(mine.layer)
        slot = np.full(int(layers.max()) + 1, -1)
        slot[layers] = np.arange(len(layers))
        own = crossings(mine, family, origin)
        sweep = Sweep.over(mine, [own], len(layers), slot)
        keys = sweep.keys(slot[mine.layer[own.ring]], own, OWN, sweep.member[own.ring])
        found, _ = sweep.intervals(keys, _WEIGHTS, lambda weight, _: (weight > 0).astype(np.int64), layers)
        done.append(found.take(found.high - found.low >= SHORTEST * GRID).zigzag(family, origin, 4 * spacing))
    return FillPaths.joined(done)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Whole stretches of fill area on a line, of which intervals are parts."""

    of: Ints  # (intervals,) which run each interval belongs to
    first: Ints  # (runs,) its first interval
    low: Ints
    high: Ints

    @staticmethod
    def over(found: Intervals) -> _Runs:
        row = found.row()
        new = np.ones(len(found), bool)
        new[1:] = (row[1:] != row[:-1]) | (found.low[1:] != found.high[:-1])
        first = np.flatnonzero(new)
        high = found.high[np.append(first, len(found))[1:] - 1]
        return _Runs(np.cumsum(new) - 1, first, found.low[first], high)


def _anchored(found: Intervals, kinds: Ints, runs: _Runs, settings: Settings) -> tuple[Intervals, Ints]:
    """(pieces, their runs): what is solid, grown a little into sparse neighbours."""
    whole = (found.low == runs.low[runs.of]) & (found.high == runs.high[runs.of])
    solid = np.flatnonzero((kinds == SOLID) & (whole | (found.high - found.low >= SCRAP * GRID)))
    pieces, run = found.take(solid), runs.of[solid]
    return (pieces, run) if settings.infill_density == 0 else _merged(pieces, run, runs, round(ANCHOR * GRID))


def _solid(found: Intervals, kinds: Ints, settings: Settings) -> Intervals:
    """The solid pieces that are printed, without scraps."""
    runs = _Runs.over(found)
    pieces, run = _anchored(found, kinds, runs, settings)
    whole = (pieces.low == runs.low[run]) & (pieces.high == runs.high[run])
    long = pieces.high - pieces.low >= SHORTEST_SOLID * GRID
    pieces, whole = pieces.take(long | whole), whole[long | whole]
    row = pieces.row()
    lone = (overlaps(pieces, row - 1, row, pieces)[1] == 0) & (overlaps(pieces, row + 1, row, pieces)[1] == 0)
    pieces = pieces.take(~lone | whole)
    return pieces.take(pieces.high - pieces.low >= SHORTEST * GRID)


def _merged(pieces: Intervals, run: Ints, runs: _Runs, reach: int) -> tuple[Intervals, Ints]:
    """Pieces grown by ``reach`` within their runs; those that meet become one."""
    if not len(pieces):
        return pieces, run
    low, high = np.maximum(pieces.low - reach, runs.low[run]), np.minimum(pieces.high + reach, runs.high[run])
    new = np.ones(len(low), bool)
    new[1:] = (run[1:] != run[:-1]) | (low[1:] > high[:-1])
    begin = np.flatnonzero(new)
    grown = Intervals(
        pieces.layer[begin], pieces.line[begin], low[begin], np.maximum.reduceat(high, begin), pieces.island[begin]
    )
    return grown, run[begin]


def _sparse_lines(found: Intervals, kinds: Ints, family: Family, origin: float, settings: Settings) -> FillPaths:
    """Every second line of ``found`` is printed; the others tell whether there is room to go from one to the next."""
    pieces = _sparse(found, kinds, settings)
    printed = pieces.take(pieces.line % 2 == 0)
    printed = replace(printed, line=printed.line // 2)
    between = found.take(found.line % 2 == 1).widened(round(LENIENT * GRID))
    return printed.zigzag(family, origin, 1.5 * family.spacing, between)


def _sparse(found: Intervals, kinds: Ints, settings: Settings) -> Intervals:
    """What the solid pieces leave of their runs, reaching a little into them."""
    if not len(found):
        return found
    runs = _Runs.over(found)
    solid, run = _anchored(found, kinds, runs, settings)
    # What is left begins where a run begins or a solid piece ends, and ends at the next one's begin or the run's end:
    # sorted, the k-th begin belongs to the k-th end.
    width = int(runs.high.max()) + 1
    base = np.arange(len(runs.first)) * width
    begin = np.sort(np.concatenate([base + runs.low, run * width + solid.high]))
    end = np.sort(np.concatenate([run * width + solid.low, base + runs.high]))
    long = end - begin >= SHORTEST_SPARSE * GRID
    run = begin[long] // width
    at = runs.first[run]
    left = Intervals(found.layer[at], found.line[at], begin[long] % width, end[long] % width, found.island[at])
    return _merged(left, run, runs, round(BOND * GRID))[0]
