"""What hangs over air: walls that must go slowly, and bridges that must run from one support to the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyclipr
import shapely
from numpy.typing import NDArray

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.planar.polygons import Floats, Ints, Paths, Rings, boolean, collect, grown, union
from slicing.engines.planar.regions import Flow, Regions, by_layer
from slicing.engines.planar.scanlines import GRID, OTHER, OWN, Family, Sweep, crossings

PROBE = Family(math.radians(22.5), 0.5)  # scan lines on which overhang is looked for
HANGS = 0.2  # mm; half of the narrowest lines
THINNEST = 0.5  # mm; narrower strips over air are no bridges but slopes
SMALLEST = 2.0  # mm2
HOLD = 1.5  # mm that a bridge reaches onto what holds it
TURNS = 12  # directions that are tried
ANCHORED = 0.6  # share of the lines that must be held at both ends
EXTRA_SPACING = 0.05  # mm between the round threads of a bridge, as in PrusaSlicer
EVENTS = 3_000_000

Areas = NDArray[np.object_]  # of shapely geometries


@dataclass(frozen=True, slots=True)
class Bridges:
    """Areas (rings with islands), and the direction of the lines in each, radians; ``thread`` in mm."""

    rings: Rings
    angle: Floats  # (rings,)
    thread: float

    @property
    def spacing(self) -> float:
        return self.thread + EXTRA_SPACING

    @property
    def area(self) -> float:
        """mm2 of a thread's cross-section."""
        return math.pi / 4 * self.thread**2


def hanging_layers(found: Regions, least: float = HANGS) -> Ints:
    """Layers of which more than ``least`` mm hang over air somewhere, judged by scan lines."""
    outlines = found.outlines
    count = len(found.like)
    fresh = np.flatnonzero((found.like == np.arange(count)) & (np.arange(count) > 0))
    edges = np.bincount(outlines.layer, outlines.lengths, count)  # a rough measure of the number of events
    portion = (np.cumsum(edges[fresh]) * 8 // EVENTS).astype(np.int64)
    hanging = [_hanging(outlines, fresh[portion == n], count, least) for n in np.unique(portion).tolist()]
    return np.concatenate(hanging) if hanging else np.empty(0, np.int64)


def _hanging(outlines: Rings, layers: Ints, count: int, least: float) -> Ints:
    slot, above = np.full(count + 1, -1), np.full(count + 1, -1)
    slot[layers] = np.arange(len(layers))
    above[layers - 1] = np.arange(len(layers))
    origin = float(PROBE.along(outlines.points)[0].min()) - 1.0
    upper = outlines.take(slot[outlines.layer] >= 0)
    lower = outlines.take(above[outlines.layer] >= 0)
    own, other = crossings(upper, PROBE, origin), crossings(lower, PROBE, origin)
    sweep = Sweep.over(upper, [own, other], len(layers), slot)
    keys = np.concatenate(
        [
            sweep.keys(slot[upper.layer[own.ring]], own, OWN, sweep.member[own.ring]),
            sweep.keys(above[lower.layer[other.ring]], other, OTHER),
        ]
    )
    free, _ = sweep.intervals(keys, (1, -2), lambda weight, _: (weight > 0).astype(np.int64), layers)
    return np.unique(free.layer[free.high - free.low > least * GRID])


def ground(found: Regions, hanging: Ints) -> Areas:
    """(layers,) the material of every layer that a hanging one lies on; None for others."""
    wanted = np.zeros(len(found.like), bool)
    wanted[hanging - 1] = True
    out = np.full(len(found.like), None, dtype=object)
    rings = found.outlines.take(wanted[found.outlines.layer])
    if not len(rings):
        return out
    linear = shapely.linearrings(rings.points, indices=rings.ring_of_point())
    outer = np.diff(rings.island, prepend=-1) != 0  # of an island the first ring is the outline, the others are holes
    islands = shapely.polygons(linear, indices=np.cumsum(outer) - 1)
    layers, which = np.unique(rings.layer[outer], return_inverse=True)
    out[layers] = shapely.multipolygons(islands, indices=which)
    shapely.prepare(out[layers])
    return out


def floating(found: Regions, hanging: Ints, below: Areas) -> list[int]:
    """Layers in which an island begins with nothing below it."""
    outlines = found.outlines
    first = np.flatnonzero(np.diff(outlines.island, prepend=-1) != 0)
    first = first[np.isin(outlines.layer[first], hanging)]
    begin = outlines.points[outlines.starts[first]]
    layer = outlines.layer[first]
    # most islands begin above material; only the others are looked at as a whole
    asked = first[~shapely.contains_xy(below[layer - 1], begin[:, 0], begin[:, 1])]
    ends = outlines.starts[asked + 1]
    shapes = [shapely.Polygon(outlines.points[a:b]) for a, b in zip(outlines.starts[asked], ends, strict=True)]
    lost = ~shapely.intersects(np.array(shapes, dtype=object), below[outlines.layer[asked] - 1])
    return [int(k) for k in np.unique(outlines.layer[asked[lost]])]


def bridges(found: Regions, hanging: Ints, ground: Areas, flow: Flow, settings: Settings) -> Bridges:
    """Where infill spans air between two supports."""
    thread = settings.nozzle_diameter * math.sqrt(settings.bridge_flow)
    fills = by_layer(found.fill, len(found.like))
    outlines = by_layer(found.outlines, len(found.like))
    pieces: list[tuple[int, int, Paths]] = []
    angles: list[float] = []
    for layer in hanging.tolist():
        free = boolean(pyclipr.Difference, fills[layer], outlines[layer - 1])
        free = grown(grown(free, -THINNEST / 2), THINNEST / 2)
        if not free:
            continue
        for island, area, angle in _spans(found.fill, layer, free, ground[layer - 1]):
            pieces.append((layer, island, area))
            angles += [angle] * len(area)
    return Bridges(collect(pieces), np.array(angles), thread)


def _spans(fill: Rings, layer: int, free: Paths, below: shapely.Geometry) -> list[tuple[int, Paths, float]]:
    """(island, area, direction) of the bridges of one layer."""
    low, high = np.searchsorted(fill.layer, [layer, layer + 1])
    islands = fill.island[low:high]
    paths = [fill.points[fill.starts[k] : fill.starts[k + 1]] for k in range(low, high)]
    found = []
    taken: Paths = []
    for piece in union(free):
        polygon = shapely.Polygon(piece[0], piece[1:])
        if polygon.area < SMALLEST:
            continue
        angle = direction(polygon, below)
        if angle is None:
            continue
        for island in np.unique(islands).tolist():
            home = [p for p, i in zip(paths, islands.tolist(), strict=True) if i == island]
            area = boolean(pyclipr.Intersection, grown(piece, HOLD), home)
            area = boolean(pyclipr.Difference, area, taken) if taken and area else area
            if area:
                found.append((island, area, angle))
                taken = taken + area
    return found


def direction(span: shapely.Geometry, below: shapely.Geometry) -> float | None:
    """The direction in which most of a span's length is held at both ends, and of those the one with the shortest
    lines; None where no direction is held well enough: then it is no bridge, but a ledge."""
    best: tuple[float, float] | None = None
    chosen = 0.0
    for angle in _candidates(span):
        lengths, held = _lines_across(span, below, angle)
        if not len(lengths) or lengths[held].sum() < ANCHORED * lengths.sum():
            continue
        # held share in steps of 5 %, so that among nearly equal ones the shortest span wins
        score = (round(float(lengths[held].sum() / lengths.sum()) * 20), -float(lengths[held].mean()))
        if best is None or score > best:
            best, chosen = score, angle
    return None if best is None else chosen


def _candidates(span: shapely.Geometry) -> list[float]:
    """Even steps, and along and across the longest side."""
    ring = shapely.get_coordinates(span.exterior)
    way = np.diff(ring, axis=0)
    longest = way[int(np.argmax(np.hypot(way[:, 0], way[:, 1])))]
    main = math.atan2(float(longest[1]), float(longest[0])) % math.pi
    return [main, (main + math.pi / 2) % math.pi, *(k * math.pi / TURNS for k in range(TURNS))]


def _lines_across(span: shapely.Geometry, below: shapely.Geometry, angle: float) -> tuple[Floats, NDArray[np.bool_]]:
    """(lengths, held at both ends) of lines across the span."""
    c, s = math.cos(angle), math.sin(angle)
    points = shapely.get_coordinates(span)
    u, v = points[:, 0] * c + points[:, 1] * s, points[:, 1] * c - points[:, 0] * s
    count = int(np.clip(np.ptp(v) / 0.5, 3, 30))
    at = v.min() + (np.arange(count) + 0.5) * (np.ptp(v) / count)
    left, right = np.full(count, u.min() - 1), np.full(count, u.max() + 1)
    ends = np.stack([np.stack([left, at], 1), np.stack([right, at], 1)], axis=1)
    turned = np.stack([ends[..., 0] * c - ends[..., 1] * s, ends[..., 0] * s + ends[..., 1] * c], axis=-1)
    parts = shapely.get_parts(shapely.intersection(shapely.linestrings(turned), span))
    parts = parts[shapely.get_type_id(parts) == 1]
    if not len(parts):
        return np.empty(0), np.empty(0, bool)
    first, last = (shapely.get_coordinates(shapely.get_point(parts, k)) for k in (0, -1))
    way = last - first
    length = np.hypot(way[:, 0], way[:, 1])
    unit = way / np.maximum(length, 1e-9)[:, None]
    before, after = first - unit * HOLD / 2, last + unit * HOLD / 2
    held = shapely.contains_xy(below, before[:, 0], before[:, 1]) & shapely.contains_xy(below, after[:, 0], after[:, 1])
    return length, held


def grades(points: Floats, layer: Ints, below: Areas, hanging: Ints, width: float) -> Ints:
    """(n,) for points on centre lines of walls: 0 held by the layer below, 1 by less than half of the line's width,
    2 not at all."""
    out = np.zeros(len(points), np.int64)
    asked = np.flatnonzero(np.isin(layer, hanging))
    if not len(asked):
        return out
    near = below[layer[asked] - 1]
    x, y = points[asked].T
    off = ~shapely.contains_xy(near, x, y)
    out[asked[off]] = 1
    free = np.flatnonzero(off)
    held = shapely.dwithin(near[free], shapely.points(x[free], y[free]), width / 2)
    out[asked[free[~held]]] = 2
    return out
