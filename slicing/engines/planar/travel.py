"""How the nozzle gets from the end of one path to the begin of the next: straight, around a hole, or pulled back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.planar.crew import Step, shared
from slicing.engines.planar.paths import Toolpaths
from slicing.engines.planar.polygons import Floats, Ints, Paths, grown, offsets
from slicing.engines.planar.regions import Regions

HERE = 0.02  # mm; a shorter way to the next path is none
SLACK = 0.02  # mm that a travel may touch the outline of its island
DETOUR = 3.0  # times the straight way, and
DETOUR_PLUS = 10.0  # mm more, that a way around holes may take
INSET = 0.15  # mm that it keeps from the outline; less than half a line, so that walls lie within

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ways:
    """What comes before each path (p,): ``lengths[p]`` of ``points``, of which the last is where the path begins; none
    where it begins here. ``retract`` where the filament is pulled back first, perhaps while wiping over
    ``wipe_lengths[p]`` of ``wipes``, each with its share of the pull."""

    new_layer: Mask
    retract: Mask
    lengths: Ints
    points: Floats
    wipe_lengths: Ints
    wipes: Floats
    wipe_shares: Floats


def ways(
    paths: Toolpaths, regions: Regions, settings: Settings, begin: tuple[float, float], crew: int, step: Step
) -> Ways:
    """Travels before every path, coming from ``begin``."""
    first, last = paths.points[paths.starts[:-1]], paths.points[paths.starts[1:] - 1]
    came = np.vstack([begin, last[:-1]])
    new_layer = np.ones(len(paths), bool)
    new_layer[1:] = paths.layer[1:] != paths.layer[:-1]
    away = np.hypot(*(first - came).T)
    crossing = np.flatnonzero(away > settings.retract_min_travel)
    at_home = np.zeros(len(paths), bool)  # the way may stay within one island, or lead from the layer below into it
    at_home[1:] = (paths.island[1:] == paths.island[:-1]) | new_layer[1:]
    at_home[1:] &= (paths.island[1:] >= 0) & (paths.island[:-1] >= 0)
    asked = crossing[at_home[crossing]]
    retract = away > settings.retract_min_travel
    around: dict[int, Floats] = {}
    for path, detour in zip(
        asked.tolist(), _trips(asked, paths, came, first, regions, settings, crew, step), strict=True
    ):
        if detour is not None:
            retract[path] = False
            if len(detour):
                around[path] = detour
    if settings.retract_length == 0:
        retract[:] = False
    lengths, points = _points(first, (away > HERE) | new_layer, around)
    return Ways(new_layer, retract, lengths, points, *_wipes(paths, retract, settings))


def _trips(
    asked: Ints,
    paths: Toolpaths,
    came: Floats,
    first: Floats,
    regions: Regions,
    settings: Settings,
    crew: int,
    step: Step,
) -> list[Floats | None]:
    """For each of the paths asked for, the points at which the way to it within its island turns; none, if it cannot
    stay within. Equal layers have equal trips, which are looked at once."""
    trips = np.column_stack([_first_alike(regions)[paths.island[asked]] / 1000, came[asked], first[asked]])
    trips, which = np.unique(np.rint(trips * 1000).astype(np.int64), axis=0, return_inverse=True)

    def part(mine: NDArray[Any], step: Step) -> list[Floats | None]:
        home = _Homes(regions, mine[:, 0])
        return home.ways(mine[:, 1:3] / 1000, mine[:, 3:5] / 1000, settings.combing)

    done = shared([partial(part, mine) for mine in np.array_split(trips, crew)], crew, step)
    found = [detour for detours in done for detour in detours]
    return [found[k] for k in which.ravel().tolist()]


def _first_alike(regions: Regions) -> Ints:
    """(islands,) the same island of the lowest layer below that is equal; equal layers have equal islands in order."""
    first_island = np.searchsorted(regions.island_layer, np.arange(len(regions.like)))
    layer = regions.island_layer
    return np.arange(len(layer)) - first_island[layer] + first_island[regions.like[layer]]


def _points(first: Floats, goes: Mask, around: dict[int, Floats]) -> tuple[Ints, Floats]:
    lengths = goes.astype(np.int64)
    for path, detour in around.items():
        lengths[path] = len(detour) + 1
    points = np.repeat(first, lengths, axis=0)
    start = offsets(lengths)
    for path, detour in around.items():
        points[start[path] : start[path] + len(detour)] = detour
    return lengths, points


def _wipes(paths: Toolpaths, retract: Mask, settings: Settings) -> tuple[Ints, Floats, Floats]:
    """Points back along the path before, over settings.wipe mm, and the share of the pull on the way to each."""
    lengths = np.zeros(len(paths), np.int64)
    if settings.wipe <= 0 or not retract.any():
        return lengths, np.empty((0, 2)), np.empty(0)
    points: list[Floats] = []
    shares: list[Floats] = []
    for path in np.flatnonzero(retract).tolist():
        if path == 0:
            continue
        back = paths.points[paths.starts[path - 1] : paths.starts[path]][::-1]
        if paths.closed[path - 1]:
            back = back[::-1]  # on around the loop, over its begin
        step = np.hypot(*np.diff(back, axis=0).T)
        gone = np.concatenate([[0.0], np.cumsum(step)])
        end = min(settings.wipe, float(gone[-1]))
        inner = (gone > 0) & (gone < end)
        stops = np.append(gone[inner], end)
        points.append(np.stack([np.interp(stops, gone, back[:, k]) for k in (0, 1)], axis=1))
        shares.append(np.diff(stops, prepend=0.0) / settings.wipe)
        lengths[path] = len(stops)
    if not points:
        return lengths, np.empty((0, 2)), np.empty(0)
    return lengths, np.concatenate(points), np.concatenate(shares)


class _Homes:
    """The islands that travels may stay within."""

    def __init__(self, regions: Regions, islands: Ints) -> None:
        self.regions = regions
        self.islands, self.which = np.unique(islands, return_inverse=True)
        self.rings = regions.outlines.paths() if len(self.islands) else []
        ids = regions.outlines.island
        self.low, self.high = np.searchsorted(ids, self.islands), np.searchsorted(ids, self.islands, "right")
        if len(self.islands):
            exact = np.array([shapely.Polygon(p[0], p[1:]) for p in map(self._paths, range(len(self.islands)))])
            self.polygons = shapely.buffer(exact, SLACK, quad_segs=1)
            shapely.prepare(self.polygons)
        self.inner: dict[int, _Inner] = {}

    def _paths(self, k: int) -> Paths:
        """Of an island the first ring is the outline, the others are its holes."""
        return self.rings[self.low[k] : self.high[k]]

    def ways(self, a: Floats, b: Floats, combing: bool) -> list[Floats | None]:
        """Points between each a and b: none where the straight way stays within the island, so that no string of
        plastic can show; None where no way does."""
        if not len(a):
            return []
        inside = shapely.contains(self.polygons[self.which], shapely.linestrings(np.stack([a, b], axis=1)))
        straight = np.empty((0, 2))
        return [
            straight if held else self._detour(k, here, there) if combing else None
            for held, k, here, there in zip(inside.tolist(), self.which.tolist(), a, b, strict=True)
        ]

    def _detour(self, k: int, a: Floats, b: Floats) -> Floats | None:
        """Straight as far as it goes, then along the outline or the hole that is in the way, then straight on."""
        if k not in self.inner:
            self.inner[k] = _Inner(grown(self._paths(k), -INSET))
        pieces = self.inner[k].pieces(a, b)
        if not pieces:
            return None
        way = np.vstack([a, *pieces, b])
        length = float(np.hypot(*np.diff(way, axis=0).T).sum())
        if length > DETOUR * float(np.hypot(*(b - a))) + DETOUR_PLUS:
            return None
        if not shapely.contains(self.polygons[k], shapely.linestrings(way)):
            return None
        return np.round(_shortcut(way, self.polygons[k])[1:-1], 3)


def _shortcut(way: Floats, home: shapely.Geometry) -> Floats:
    """Without the points that a straight line can skip: to the last one if that can be seen from here, else half as
    far, and so on."""
    kept, at = [0], 0
    while at < len(way) - 1:
        steps = [len(way) - 1 - at]
        while steps[-1] > 1:
            steps.append(steps[-1] // 2)
        reach = at + np.array(steps[:-1], np.int64)
        lines = np.empty((len(reach), 2, 2))
        lines[:, 0], lines[:, 1] = way[at], way[reach]
        seen = np.flatnonzero(shapely.contains(home, shapely.linestrings(lines)))
        at = int(reach[seen[0]]) if len(seen) else at + 1
        kept.append(at)
    return way[kept]


class _Inner:
    """Closed polygons, a little inside of an island, that travels may go along."""

    def __init__(self, rings: Paths) -> None:
        lengths = np.array([len(r) for r in rings], np.int64)
        self.points = np.concatenate(rings) if rings else np.empty((0, 2))
        self.starts, self.ring = offsets(lengths), np.repeat(np.arange(len(rings)), lengths)
        ahead = np.concatenate([np.roll(r, -1, axis=0) for r in rings]) if rings else np.empty((0, 2))
        self.side = ahead - self.points
        self.length = np.hypot(self.side[:, 0], self.side[:, 1])
        way = np.concatenate([[0.0], np.cumsum(self.length)])
        self.total = way[self.starts[1:]] - way[self.starts[:-1]]
        self.gone = way[:-1] - np.repeat(way[self.starts[:-1]], lengths)  # from the begin of the ring to each point

    def pieces(self, a: Floats, b: Floats) -> list[Floats]:
        """The ways along those rings that the straight way from a to b crosses."""
        place, edge, share = self._hits(a, b)
        around, ring = self.gone[edge] + share * self.length[edge], self.ring[edge]
        found = []
        first = 0
        while first < len(place):
            last = int(np.flatnonzero(ring == ring[first])[-1])
            if last > first:
                inner = self._between(int(ring[first]), float(around[first]), float(around[last]))
                found.append(np.vstack([a + place[first] * (b - a), inner, a + place[last] * (b - a)]))
            first = last + 1
        return found

    def _hits(self, a: Floats, b: Floats) -> tuple[Floats, Ints, Floats]:
        """Where on the way from a (0) to b (1) it crosses a ring, in order; which edge of it, and where on that."""
        (x, y), side, off = b - a, self.side, self.points - a
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 1.0 / (x * side[:, 1] - y * side[:, 0])
            t = (off[:, 0] * side[:, 1] - off[:, 1] * side[:, 0]) * scale
            u = (off[:, 0] * y - off[:, 1] * x) * scale
            hit = np.flatnonzero((t > 0) & (t < 1) & (u >= 0) & (u < 1))
        order = hit[np.argsort(t[hit])]
        return t[order], order, u[order]

    def _between(self, ring: int, begin: float, end: float) -> Floats:
        """The points on the shorter way around a ring from one place to another, mm from its begin."""
        low, high = self.starts[ring], self.starts[ring + 1]
        points, gone, total = self.points[low:high], self.gone[low:high], float(self.total[ring])
        forward = (end - begin) % total
        if forward <= total / 2:
            first, last = np.searchsorted(gone, [begin, end], "right")
            return points[first:last] if begin <= end else np.concatenate([points[first:], points[:last]])
        first, last = np.searchsorted(gone, [end, begin], "right")
        back = points[first:last] if end <= begin else np.concatenate([points[first:], points[:last]])
        return back[::-1]
