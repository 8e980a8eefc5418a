"""The outlines of all layers: cut, follow the pieces around, repair, simplify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.engines.planar import repair
from slicing.engines.planar.chaining import walk
from slicing.engines.planar.cut import Layers, Segments, intersect, layer_of, spans, unpack
from slicing.engines.planar.polygons import Floats, Ints, Rings, joined, offsets, ramp

RESOLUTION = 0.0125  # mm, how far a simplified outline may be off
SKEW = np.array([0.8191, 0.5736])
STRAIGHT = 0.0015  # mm, a little more than the grid
BLOCK = 1_500_000  # segments that are chained at once; bounds the memory


@dataclass(frozen=True, slots=True)
class Body:
    """Triangles that stand on the bed in coordinates that are not negative, and the planes that cut each of them."""

    triangles: Floats
    planes: Floats
    first: Ints
    last: Ints  # one past it

    @staticmethod
    def of(triangles: Floats, layers: Layers) -> Body:
        return Body(triangles, layers.planes, *spans(triangles, layers.planes))

    def segments(self) -> Ints:
        """(layers,) how many pieces of outline each layer has, about."""
        count = len(self.planes)
        change = np.bincount(self.first, minlength=count + 1) - np.bincount(self.last, minlength=count + 1)
        found: Ints = np.cumsum(change)[:count]
        return found


def sections(body: Body, low: int, high: int, step: Callable[[float], None]) -> Rings:
    """Closed, simplified rings of the layers from ``low`` to before ``high`` (numbered from 0), material on their left.
    ``step`` is told the share done, 0..1. Raises SlicingError where the surface has holes that cannot be closed.
    """
    patches = repair.Patches(body.triangles)
    found = []
    for a, b in blocks(body.segments()[low:high], BLOCK):
        start, stop = low + a, low + b
        inside = (body.first < stop) & (body.last > start)
        first, last = np.maximum(body.first[inside], start), np.minimum(body.last[inside], stop)
        part = intersect(body.triangles[inside], body.planes, first, last)
        step((a + 0.5 * (b - a)) / (high - low))
        found.append(repair.right_side_out(simplified(chain(part, body.planes, patches))))
        step(b / (high - low))
    rings = joined(found)
    return Rings(rings.points, rings.starts, rings.layer - low, rings.island)


def blocks(work: Ints, most: float) -> list[tuple[int, int]]:
    """Ranges of layers with at most about so much work each."""
    block = (np.cumsum(work) - work / 2) // most
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(work)]
    return [(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]


def chain(segments: Segments, planes: Floats, patches: repair.Patches) -> Rings:
    """Follow the segments around. Layers where every start meets an end go the fast way, others are repaired."""
    by_start, by_end = _order(segments.start), _order(segments.end)
    starts, ends = segments.start[by_start], segments.end[by_end]
    if np.array_equal(starts, ends):
        return _follow(segments.start, by_start, by_end)
    dirty = _unequal_layers(starts, ends)
    bad = np.isin(layer_of(segments.start), dirty)
    rings = repair.chain_layers(segments.start[bad], segments.end[bad], planes, patches)
    good = ~bad
    start, end = segments.start[good], segments.end[good]
    clean = _follow(start, _order(start), _order(end))
    return joined([clean, rings])


def _order(values: Ints) -> Ints:
    """Sorts, equal ones in the order in which they came: the result for a layer must not depend on other layers.

    Equal values are few (rings that touch), and sorting these again is faster than a stable sort of all.
    """
    order = np.argsort(values)
    ranked = values[order]
    tied = np.zeros(len(values), bool)
    tied[1:] = ranked[1:] == ranked[:-1]
    tied[:-1] |= tied[1:]
    order[tied] = order[tied][np.lexsort((order[tied], ranked[tied]))]
    return order


def _unequal_layers(starts: Ints, ends: Ints) -> Ints:
    """Layers in which the two sorted lists differ."""
    layers = np.unique(np.concatenate([layer_of(starts), layer_of(ends)]))
    sums = []
    for values in (starts, ends):
        mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(31)
        total = np.concatenate([[np.uint64(0)], np.cumsum(mixed * np.uint64(0xBF58476D1CE4E5B9))])
        left, right = (np.searchsorted(layer_of(values), layers, side) for side in ("left", "right"))
        sums.append(total[right] - total[left])
    return layers[sums[0] != sums[1]]


def _follow(start: Ints, by_start: Ints, by_end: Ints) -> Rings:
    """Rings from segments whose sorted starts and ends are equal: the k-th end is followed by the k-th start."""
    following = np.empty(len(start), np.int64)
    following[by_end] = by_start
    order, cuts = walk(following.tolist())
    packed = start[np.array(order, np.int64)]
    starts = np.array(cuts, np.int64)
    return Rings(unpack(packed), starts, layer_of(packed[starts[:-1]]), np.full(len(starts) - 1, -1))


def _from_a_corner(rings: Rings) -> Rings:
    """The same rings, begun at their extreme point in a direction that no edge has: a corner. What simplifying begins
    with stays, and layers that are equal should be so to the last bit, which saves all further work on them."""
    value = rings.points @ SKEW
    owner = rings.ring_of_point()
    hit = np.flatnonzero(value == np.maximum.reduceat(value, rings.starts[:-1])[owner])
    first = hit[np.searchsorted(hit, rings.starts[:-1])]
    index = first[owner] + ramp(rings.lengths)
    index -= np.where(index >= rings.starts[1:][owner], rings.lengths[owner], 0)
    return Rings(rings.points[index], rings.starts, rings.layer, rings.island)


def simplified(rings: Rings) -> Rings:
    """Without points that lie within RESOLUTION of the outline (Douglas-Peucker), and without rings that vanish."""
    rings = rings.take(rings.lengths >= 3)
    if not len(rings):
        return rings
    rings = _from_a_corner(rings)
    made = shapely.linearrings(rings.points, indices=rings.ring_of_point())
    thin = shapely.simplify(made, RESOLUTION, preserve_topology=False)
    points, ring = shapely.get_coordinates(thin, return_index=True)
    lengths = np.bincount(ring, minlength=len(rings))
    keep = np.ones(len(points), bool)
    closed = lengths > 0
    keep[(np.cumsum(lengths) - 1)[closed]] = False  # shapely repeats the first point at the end
    lengths[closed] -= 1
    result = Rings(points[keep], offsets(lengths), rings.layer, rings.island)
    usable: NDArray[np.bool_] = lengths >= 3
    return _without_straight_points(result.take(usable))


def _without_straight_points(rings: Rings) -> Rings:
    """Douglas-Peucker keeps a point of an edge that is parallel to one of its chords: where the edge lies farthest off,
    any point of it does. Such points move from layer to layer, and walls would be made anew for each."""
    following = rings.next_point()
    way = rings.points[following] - rings.points
    before = np.empty_like(way)
    before[following] = way
    off = np.abs(before[:, 0] * way[:, 1] - before[:, 1] * way[:, 0])
    ahead = before + way
    straight = (off <= STRAIGHT * np.hypot(ahead[:, 0], ahead[:, 1])) & ((before * way).sum(axis=1) > 0)
    straight[1:] &= ~straight[:-1]  # never two neighbours
    straight[rings.starts[:-1]] = False
    lengths = rings.lengths - np.bincount(rings.ring_of_point()[straight], minlength=len(rings))
    return Rings(rings.points[~straight], offsets(lengths), rings.layer, rings.island)
