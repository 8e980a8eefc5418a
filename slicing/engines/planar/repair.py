"""What to do where a section does not close: holes, flipped and doubled facets, bodies that are inside out.

Clean layers never come here, so this is written for clarity and not for speed. The order of remedies: facets that
are there twice count once; a missing facet (a rim of three edges) and holes up to GAP are patched; pieces are then
followed around whichever way they run; ends no further than GAP apart are joined; what remains open is dropped when
it is a trifle, and refused with its place and size when it is not.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.engines.base import SlicingError
from slicing.engines.planar.chaining import follow, partners
from slicing.engines.planar.cut import TIE, intersect, layer_of, spans, unpack
from slicing.engines.planar.polygons import Floats, Ints, Rings, collect, joined, offsets
from slicing.mesh import open_edges, weld

GAP = 2.0  # mm
TRIFLE = 0.05  # share of a layer's outline that may be dropped because it does not close
MANY_RIMS = 200_000  # open edges beyond which this is a heap of triangles and patching is in vain
MANY_ENDS = 1_000  # open ends in one layer, likewise
HOPELESS = 12  # layers with holes after which no more are looked at
DECISIVE = 0.75  # share of a ring's length that must run one way to be believed


class Patches:
    """Facets that close small holes, found only when a layer turns out to be open."""

    def __init__(self, triangles: Floats) -> None:
        self.triangles = triangles

    @cached_property
    def facets(self) -> Floats:
        """(n, 3, 3)."""
        vertices, faces = weld(self.triangles)
        ordered = np.sort(faces, axis=1)
        once = np.unique(ordered, axis=0, return_index=True)[1]
        rims = open_edges(faces[once])
        if not 0 < len(rims) <= MANY_RIMS:
            return np.empty((0, 3, 3))
        made = [_cone(vertices[loop]) for loop in _rim_loops(rims) if _small(vertices[loop])]
        return np.concatenate(made) if made else np.empty((0, 3, 3))

    def segments(self, planes: Floats, layers: Ints) -> tuple[Ints, Ints]:
        """Starts and ends, packed, in the given layers."""
        first, last = spans(self.facets, planes)
        cut = intersect(self.facets, planes, first, last)
        wanted = np.isin(layer_of(cut.start), layers)
        return cut.start[wanted], cut.end[wanted]


def _small(loop: Floats) -> bool:
    """One missing facet leaves no doubt, whatever its size; larger rims must be within GAP."""
    return len(loop) == 3 or float(np.linalg.norm(np.ptp(loop, axis=0))) <= GAP


def _cone(loop: Floats) -> Floats:
    """A triangle for a rim of three corners, else a fan from the centre: closed for every shape of rim."""
    if len(loop) == 3:
        return loop[None]
    centre = np.broadcast_to(loop.mean(axis=0), loop.shape)
    return np.stack([loop, np.roll(loop, -1, axis=0), centre], axis=1)


def _rim_loops(rims: Ints) -> list[list[int]]:
    """Closed loops of vertex numbers; triangles first, since holes may touch in a corner."""
    near: dict[int, set[int]] = defaultdict(set)
    for a, b in rims.tolist():
        near[a].add(b)
        near[b].add(a)
    loops = []
    for a, b in rims.tolist():
        common = near[a] & near[b] if b in near[a] else set()
        if common:
            loops.append([a, b, min(common)])
            _remove(near, loops[-1])
    for a in list(near):
        while near[a]:
            loop = [a]
            while near[loop[-1]]:
                at = loop[-1]
                to = min(near[at])
                near[at].discard(to)
                near[to].discard(at)
                if to == a:
                    loops.append(loop)
                    break
                loop.append(to)
    return loops


def _remove(near: dict[int, set[int]], loop: list[int]) -> None:
    for a, b in zip(loop, loop[1:] + loop[:1], strict=True):
        near[a].discard(b)
        near[b].discard(a)


def chain_layers(start: Ints, end: Ints, planes: Floats, patches: Patches) -> Rings:
    """Rings of the layers that do not chain by themselves. Raises SlicingError for the largest hole found."""
    layers = np.unique(layer_of(start))
    more_start, more_end = patches.segments(planes, layers)
    start, end = np.concatenate([start, more_start]), np.concatenate([end, more_end])
    order = np.argsort(layer_of(start), kind="stable")
    start, end = start[order], end[order]
    cuts = np.searchsorted(layer_of(start), np.append(layers, layers[-1] + 1))
    made: list[Rings] = []
    holes: list[tuple[float, int]] = []
    for k, layer in enumerate(layers.tolist()):
        rings, hole = _chain_layer(start[cuts[k] : cuts[k + 1]], end[cuts[k] : cuts[k + 1]], layer)
        made.append(rings)
        if hole > 0:
            holes.append((hole, layer))
        if len(holes) >= HOPELESS:
            break
    if holes:
        size, layer = max(holes)
        raise SlicingError(
            f"The model's surface has a hole of {size:.1f} mm at a height of {planes[layer] + TIE:.1f} mm, "
            "too large to be closed. Repair the model and upload it again."
        )
    return joined(made)


def _chain_layer(start: Ints, end: Ints, layer: int) -> tuple[Rings, float]:
    """The closed rings of one layer, and the size of the hole if it must be refused (else 0)."""
    rings, left = _pieces(*_once(start, end, doubles=0))
    if left:  # perhaps the doubles that cancelled out were one facet and its flipped copy
        again = _pieces(*_once(start, end, doubles=1))
        rings, left = min((rings, left), again, key=lambda pieces: sum(c.length for c in pieces[1]))
    lost = sum(c.length for c in left)
    total = lost + sum(c.length for c in rings)
    hole = max((c.gap for c in left), default=0.0) if lost > TRIFLE * total else 0.0
    return _facing(rings, layer), hole


def _once(start: Ints, end: Ints, doubles: int) -> tuple[Ints, Ints]:
    """Segments that lie on each other become one; pairs that face each other become ``doubles`` (0 or 1)."""
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.lexsort((high, low))
    low, high, forward = low[order], high[order], np.where(start <= end, 1, -1)[order]
    new = np.ones(len(low), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    first = np.flatnonzero(new)
    net = np.add.reduceat(forward, first)
    keep = (net != 0) | bool(doubles)
    low, high, backward = low[first][keep], high[first][keep], net[keep] < 0
    return np.where(backward, high, low), np.where(backward, low, high)


def _pieces(start: Ints, end: Ints) -> tuple[list[_Chain], list[_Chain]]:
    """(closed, open) chains, ends within GAP joined."""
    chains = _trace(start, end)
    closed, left = _join([c for c in chains if not c.closed])
    return [c for c in chains if c.closed] + closed, left


class _Chain:
    """A polyline that was followed through segments, some of them against their direction."""

    def __init__(self, points: Floats, closed: bool, balance: float) -> None:
        self.points, self.closed = points, closed
        self.balance = balance  # length followed forwards minus length followed backwards
        steps = np.diff(np.vstack([points, points[:1]]) if closed else points, axis=0)
        self.length = float(np.hypot(steps[:, 0], steps[:, 1]).sum())
        self.gap = 0.0 if closed else float(np.hypot(*(points[-1] - points[0])))


def _trace(start: Ints, end: Ints) -> list[_Chain]:
    ends = np.empty((2 * len(start), 2))
    ends[0::2], ends[1::2] = unpack(start), unpack(end)
    length = np.hypot(*(ends[1::2] - ends[0::2]).T)
    chains = []
    for run, closed in follow(partners(start, end)):
        halves = np.array(run)
        balance = float((length[halves >> 1] * np.where(halves % 2 == 0, 1, -1)).sum())
        points = ends[halves] if closed else np.vstack([ends[halves], ends[halves[-1] ^ 1]])
        chains.append(_Chain(points, closed, balance))
    return chains


def _join(opened: list[_Chain]) -> tuple[list[_Chain], list[_Chain]]:
    """Join ends within GAP, nearest first. Returns (closed, still open)."""
    if not 0 < len(opened) <= MANY_ENDS // 2:
        return [], opened
    ends = np.array([p for chain in opened for p in (chain.points[0], chain.points[-1])])
    a, b = np.triu_indices(len(ends), 1)
    distance = np.hypot(*(ends[a] - ends[b]).T)
    near = np.flatnonzero(distance <= GAP)
    partner = [-1] * len(ends)
    for k in near[np.argsort(distance[near], kind="stable")].tolist():
        i, j = int(a[k]), int(b[k])
        if partner[i] < 0 and partner[j] < 0:
            partner[i], partner[j] = j, i
    closed: list[_Chain] = []
    left: list[_Chain] = []
    for run, loop in follow(partner):
        pieces = [opened[h >> 1].points if h % 2 == 0 else opened[h >> 1].points[::-1] for h in run]
        balance = sum(opened[h >> 1].balance * (1 if h % 2 == 0 else -1) for h in run)
        (closed if loop else left).append(_Chain(np.vstack(pieces), loop, balance))
    return closed, left


def _facing(chains: list[_Chain], layer: int) -> Rings:
    """Rings with their material on the left: as most of their length says, else by how deep they are nested."""
    points = [c.points if c.balance >= 0 else c.points[::-1] for c in chains if len(c.points) >= 3]
    sure = [abs(c.balance) >= (2 * DECISIVE - 1) * c.length for c in chains if len(c.points) >= 3]
    rings = collect([(layer, -1, points)])
    if all(sure):
        return rings
    depth = np.bincount(containment(rings)[0], minlength=len(rings))
    should_be_left = np.where(depth % 2 == 0, 1.0, -1.0)
    wrong = ~np.array(sure) & (np.sign(rings.areas()) != should_be_left)
    return turned(rings, np.flatnonzero(wrong))


def containment(rings: Rings, inner: Ints | None = None) -> tuple[Ints, Ints]:
    """Pairs (i, j): ring i lies within ring j of the same layer. Only for the given inner rings, if any are given."""
    inner = np.arange(len(rings)) if inner is None else inner
    boxes = np.array([[*p.min(axis=0), *p.max(axis=0)] for p in rings.paths()])
    found: list[tuple[Ints, Ints]] = []
    for layer in np.unique(rings.layer[inner]).tolist():
        i, j = inner[rings.layer[inner] == layer], np.flatnonzero(rings.layer == layer)
        a, b = np.repeat(i, len(j)), np.tile(j, len(i))
        within = (a != b) & (boxes[a, :2] >= boxes[b, :2]).all(axis=1) & (boxes[a, 2:] <= boxes[b, 2:]).all(axis=1)
        found.append((a[within], b[within]))
    a = np.concatenate([f[0] for f in found]) if found else np.empty(0, np.int64)
    b = np.concatenate([f[1] for f in found]) if found else np.empty(0, np.int64)
    outer, which = np.unique(b, return_inverse=True)
    polygons = np.array([shapely.Polygon(rings.points[rings.starts[k] : rings.starts[k + 1]]) for k in outer.tolist()])
    shapely.prepare(polygons)
    probe = rings.points[rings.starts[a]]
    inside: NDArray[np.bool_] = shapely.contains_xy(polygons[which], probe[:, 0], probe[:, 1])
    return a[inside], b[inside]


def right_side_out(rings: Rings) -> Rings:
    """Turn bodies that are inside out: a clockwise ring that lies within no other cannot be a hole."""
    area = rings.areas()
    clockwise = np.flatnonzero(area < 0)
    if not len(clockwise):
        return rings
    inner, outer = containment(rings, clockwise)
    lost = np.setdiff1d(clockwise, inner[area[outer] > 0])
    if not len(lost):
        return rings
    inner, outer = containment(rings)
    return turned(rings, np.union1d(lost, inner[np.isin(outer, lost)]))


def turned(rings: Rings, which: Ints) -> Rings:
    """The same rings, with the given ones running the other way."""
    points = rings.points.copy()
    for k in which.tolist():
        a, b = rings.starts[k], rings.starts[k + 1]
        points[a:b] = points[a:b][::-1]
    return Rings(points, offsets(rings.lengths), rings.layer, rings.island)
