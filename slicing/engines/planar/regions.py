"""From sections to what is printed in them: walls, and the area that is left for infill."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.base import SlicingError
from slicing.engines.planar.cut import Layers
from slicing.engines.planar.leftover import Leftover, leftover, merged
from slicing.engines.planar.polygons import (
    Floats,
    Ints,
    Offsetter,
    Paths,
    Rings,
    collect,
    grown,
    joined,
    offsets,
    signatures,
    union,
)

AUTO_WIDTH = 1.125  # of the nozzle
CLOSEST = 0.6  # of the spacing: how close two inner walls may come before the inner one gives way


@dataclass(frozen=True, slots=True)
class Flow:
    """Widths in mm. A line of width w and height h is a rectangle with round sides; lines ``spacing`` apart fill
    the layer without gaps. After https://manual.slic3r.org/advanced/flow-math."""

    width: float
    spacings: Floats  # (layers,)
    areas: Floats  # (layers,) mm2 of a line's cross-section

    def between(self, low: int, high: int) -> Flow:
        return Flow(self.width, self.spacings[low:high], self.areas[low:high])

    @staticmethod
    def of(settings: Settings, layers: Layers) -> Flow:
        width = settings.line_width or round(AUTO_WIDTH * settings.nozzle_diameter, 4)
        tallest = float(layers.heights.max())
        if tallest > settings.nozzle_diameter or width < 1.05 * tallest:
            raise SlicingError(
                f"Layers of {tallest:g} mm are too high for a nozzle of {settings.nozzle_diameter:g} mm "
                f"and lines of {width:g} mm."
            )
        spacings = width - layers.heights * (1 - math.pi / 4)
        return Flow(width, spacings, spacings * layers.heights)


@dataclass(frozen=True, slots=True)
class Regions:
    """Rings of all layers; an island is one connected piece of one layer, numbered from 0 in order of layers."""

    outlines: Rings
    walls: list[Rings]  # outermost first
    fill: Rings  # where the centres of infill lines may end
    thin: Leftover  # what is too thin for two outer walls side by side
    gaps: Leftover  # what inner walls and infill leave between them
    island_layer: Ints  # (islands,)
    like: Ints  # (layers,) the first of the layers below each that are all equal to it; thin and gaps know only those


@dataclass(frozen=True, slots=True)
class _Island:
    """What one island is made of."""

    outline: Paths
    loops: list[Paths]
    fill: Paths


def regions(rings: Rings, flow: Flow, settings: Settings, base: int, step: Callable[[float], None]) -> Regions:
    """Walls and fill areas of every island of every layer of ``flow``, of which the lowest is layer ``base`` of the
    print; ``step`` is told the share done."""
    islands: list[tuple[int, _Island]] = []
    count = len(flow.spacings)
    same = signatures(rings, count)
    new = np.ones(count, bool)
    new[1:] = (same[1:] != same[:-1]) | (flow.spacings[1:] != flow.spacings[:-1])
    new[1:2] |= base == 0 and settings.elephant_foot > 0
    latest: list[_Island] = []
    for layer, paths in enumerate(by_layer(rings, count)):
        spacing = float(flow.spacings[layer])
        if new[layer]:
            if base + layer == 0 and settings.elephant_foot:
                paths = grown(paths, -settings.elephant_foot)  # the first layer is squeezed out by as much
            latest = [_island(outline, flow.width, spacing, settings) for outline in (union(paths) if paths else [])]
        islands += [(layer, island) for island in latest]
        step((layer + 1) / count)
    outlines = _gathered([(layer, i.outline) for layer, i in islands])
    walls = [
        _gathered([(layer, i.loops[k] if k < len(i.loops) else []) for layer, i in islands])
        for k in range(settings.walls)
    ]
    fill = _gathered([(layer, i.fill) for layer, i in islands])
    layer_of = np.array([layer for layer, _ in islands], np.int64)
    return _with_leftovers(outlines, walls, fill, layer_of, new, flow, settings)


def _with_leftovers(
    outlines: Rings,
    walls: list[Rings],
    fill: Rings,
    layer_of: Ints,
    new: NDArray[np.bool_],
    flow: Flow,
    settings: Settings,
) -> Regions:
    """Only layers that are not like the one below them are looked at."""
    first, *between, last = (rings.take(new[rings.layer]) for rings in (outlines, *walls, fill))
    half, overlap = flow.spacings / 2, settings.infill_overlap / 100 * flow.width
    gaps = [leftover(a, -half, b, half) for a, b in zip(between[:-1], between[1:], strict=True)]
    gaps.append(leftover(between[-1], -half, last, half - overlap))
    thin = leftover(first, 0 * half, between[0], np.full(len(half), flow.width / 2))
    like = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
    return Regions(outlines, walls, fill, thin, merged(gaps), layer_of, like)


def stacked(parts: list[Regions]) -> Regions:
    """Regions of ranges of layers put on top of each other; each range begins with the last layer of the one below."""
    whole = parts[0]
    for part in parts[1:]:
        base, repeated = len(whole.like) - 1, int((part.island_layer == 0).sum())
        shift = len(whole.island_layer) - repeated

        def on_top(below: Rings, above: Rings, base: int = base, shift: int = shift) -> Rings:
            above = above.take(above.layer > 0)
            return joined([below, Rings(above.points, above.starts, above.layer + base, above.island + shift)])

        whole = Regions(
            on_top(whole.outlines, part.outlines),
            [on_top(below, above) for below, above in zip(whole.walls, part.walls, strict=True)],
            on_top(whole.fill, part.fill),
            Leftover(on_top(whole.thin.outer, part.thin.outer), on_top(whole.thin.inner, part.thin.inner)),
            Leftover(on_top(whole.gaps.outer, part.gaps.outer), on_top(whole.gaps.inner, part.gaps.inner)),
            np.concatenate([whole.island_layer, part.island_layer[repeated:] + base]),
            np.concatenate([whole.like, np.where(part.like == 0, whole.like[-1], part.like + base)[1:]]),
        )
    return whole


def _gathered(parts: list[tuple[int, Paths]]) -> Rings:
    return collect((layer, number, paths) for number, (layer, paths) in enumerate(parts))


def by_layer(rings: Rings, count: int) -> list[Paths]:
    order = np.argsort(rings.layer, kind="stable")
    cuts = offsets(np.bincount(rings.layer, minlength=count)).tolist()
    paths = rings.paths()
    return [[paths[k] for k in order[a:b].tolist()] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def _island(outline: Paths, width: float, spacing: float, settings: Settings) -> _Island:
    """Walls from the outside in, as long as there is room, and the area within them.

    All are opened (shrunk further, grown back), so that no two lines lie nearly on top of each other: where that takes
    something away, a strip about one line wide is left over.
    """
    back = CLOSEST * spacing / 2
    core = grown(outline, -width / 2 - back)
    loops: list[Paths] = []
    for k in range(settings.walls):
        if not core:
            return _Island(outline, loops, [])
        offsetter = Offsetter(core)
        loops.append(offsetter.by(back))
        last = k == settings.walls - 1
        core = offsetter.by(settings.infill_overlap / 100 * width - spacing if last else -spacing)
    return _Island(outline, loops, grown(core, back))
