"""The outlines of all layers: cut, follow the pieces around, repair, simplify."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.engines.planar import repair
from slicing.engines.planar.chaining import walk
from slicing.engines.planar.cut import Layers, Segments, intersect, layer_of, spans, unpack
from slicing.engines.planar.polygons import Floats, Ints, Rings, joined, offsets

RESOLUTION = 0.0125  # mm, how far a simplified outline may be off
BLOCK = 1_500_000  # segments that are chained at once; bounds the memory


def sections(triangles: Floats, layers: Layers, step: Callable[[float], None]) -> Rings:
    """Closed, simplified rings of every layer, material on their left. ``step`` is told the share done, 0..1.

    ``triangles`` stand on the bed in coordinates that are not negative. Raises SlicingError where the surface has
    holes that cannot be closed.
    """
    planes = layers.planes
    first, last = spans(triangles, planes)
    patches = repair.Patches(triangles)
    found = []
    for low, high in blocks(first, last, len(planes)):
        inside = (first < high) & (last > low)
        part = intersect(triangles[inside], planes, np.maximum(first[inside], low), np.minimum(last[inside], high))
        step((low + 0.5 * (high - low)) / len(planes))
        found.append(repair.right_side_out(simplified(chain(part, planes, patches))))
        step(high / len(planes))
    return joined(found)


def blocks(first: Ints, last: Ints, count: int) -> list[tuple[int, int]]:
    """Ranges of layers with at most about BLOCK segments each."""
    change = np.bincount(first, minlength=count + 1) - np.bincount(last, minlength=count + 1)
    per_layer = np.cumsum(change)[:count]
    block = np.cumsum(per_layer) // BLOCK
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), count]
    return [(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]


def chain(segments: Segments, planes: Floats, patches: repair.Patches) -> Rings:
    """Follow the segments around. Layers where every start meets an end go the fast way, others are repaired."""
    by_start, by_end = np.argsort(segments.start), np.argsort(segments.end)
    starts, ends = segments.start[by_start], segments.end[by_end]
    if np.array_equal(starts, ends):
        return _follow(segments.start, by_start, by_end)
    dirty = _unequal_layers(starts, ends)
    bad = np.isin(layer_of(segments.start), dirty)
    rings = repair.chain_layers(segments.start[bad], segments.end[bad], planes, patches)
    good = ~bad
    start, end = segments.start[good], segments.end[good]
    clean = _follow(start, np.argsort(start), np.argsort(end))
    return joined([clean, rings])


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


def simplified(rings: Rings) -> Rings:
    """Without points that lie within RESOLUTION of the outline (Douglas-Peucker), and without rings that vanish."""
    rings = rings.take(rings.lengths >= 3)
    if not len(rings):
        return rings
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
    return result.take(usable)
