"""What walls and infill leave empty: the strips between one contour and the next that no full line fits into.

Where nothing is left over, a contour shrunk by half a line and the next one grown by half a line are the same. Finding
that out by offsetting both is as costly as everything else together, so areas are compared first: offsetting a polygon
of area A, perimeter P and corners turning by t makes its area A + d P + d^2 sum(tan(t / 2)) (Steiner's formula for
mitred corners) as long as nothing merges or vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slicing.engines.planar.polygons import Floats, Ints, Paths, Rings, collect, grown, joined, segment_sums

SCRAP = 0.05  # mm2 of an island that may stay empty: rounded corners leave as much
SHARPEST = 3**0.5  # tan(t / 2) where Clipper2 begins to cut corners off


@dataclass(frozen=True, slots=True)
class Leftover:
    """Areas that are left over: within ``outer`` and not within ``inner``, summed up over all rings of both."""

    outer: Rings
    inner: Rings


def merged(parts: list[Leftover]) -> Leftover:
    return Leftover(joined([p.outer for p in parts]), joined([p.inner for p in parts]))


def leftover(outer: Rings, outer_by: Floats, inner: Rings, inner_by: Floats) -> Leftover:
    """What remains of ``outer`` grown by ``outer_by`` (layers,) once ``inner`` grown by ``inner_by`` is taken away;
    nothing for islands where that is less than SCRAP. Rings of an island must stand together, in order."""
    islands = int(max(outer.island.max(initial=-1), inner.island.max(initial=-1))) + 1
    left = _areas(outer, outer_by, islands) - _areas(inner, inner_by, islands)
    chosen = np.flatnonzero(left > SCRAP)
    layer = np.zeros(islands, np.int64)
    layer[outer.island] = outer.layer
    return Leftover(_grown(outer, outer_by, chosen, layer), _grown(inner, inner_by, chosen, layer))


def _areas(rings: Rings, by: Floats, islands: int) -> Floats:
    """(islands,) predicted areas after offsetting."""
    if not len(rings):
        return np.zeros(islands)
    way = rings.points[rings.next_point()] - rings.points
    length = np.hypot(way[:, 0], way[:, 1])
    before = np.empty_like(way)
    before[rings.next_point()] = way
    long_before = np.hypot(before[:, 0], before[:, 1])
    cross = before[:, 0] * way[:, 1] - before[:, 1] * way[:, 0]
    ahead = long_before * length + (before * way).sum(axis=1)
    turn = np.clip(cross / np.maximum(ahead, 1e-12), -SHARPEST, SHARPEST)
    d = by[rings.layer]
    area = rings.areas() + d * segment_sums(length, rings.starts) + d**2 * segment_sums(turn, rings.starts)
    return np.bincount(rings.island, area, islands).astype(np.float64)


def _grown(rings: Rings, by: Floats, chosen: Ints, layer: Ints) -> Rings:
    low, high = np.searchsorted(rings.island, chosen), np.searchsorted(rings.island, chosen, "right")
    paths = rings.paths()
    pieces: list[tuple[int, int, Paths]] = []
    for island, a, b in zip(chosen.tolist(), low.tolist(), high.tolist(), strict=True):
        at = int(layer[island])
        pieces.append((at, island, grown(paths[a:b], float(by[at])) if by[at] else paths[a:b]))
    return collect(pieces)
