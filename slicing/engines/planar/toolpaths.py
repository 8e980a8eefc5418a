"""Everything that is printed, as polylines of all layers in flat arrays, and the order in which it is printed."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.planar.infill import FillPaths
from slicing.engines.planar.polygons import Floats, Ints, Rings, offsets, ramp
from slicing.engines.planar.regions import Flow, Regions
from slicing.engines.planar.thin import ThinLines, copied, thin_lines

SKIRT, WALL, OUTER_WALL, THIN_WALL, GAP, SOLID, SPARSE = range(7)  # also the order within an island
NAMES = (  # as viewers know them
    "Skirt/Brim",
    "Perimeter",
    "External perimeter",
    "External perimeter",
    "Gap fill",
    "Solid infill",
    "Internal infill",
)
FEW = 24  # paths among which plain Python finds the nearest faster than numpy


@dataclass(frozen=True, slots=True)
class Toolpaths:
    """Path p is points[starts[p]:starts[p + 1]]; a closed one repeats its first point at the end."""

    points: Floats  # (n, 2) mm
    starts: Ints  # (p + 1,)
    layer: Ints  # (p,)
    island: Ints  # (p,) -1 for what belongs to no island
    kind: Ints  # (p,)
    closed: NDArray[np.bool_]  # (p,)
    area: Floats  # (n,) mm2 of the line's cross-section at each point

    def __len__(self) -> int:
        return len(self.layer)

    def arranged(self, order: Ints, backward: NDArray[np.bool_]) -> Toolpaths:
        """The paths in the given order, some of them walked backward."""
        lengths = np.diff(self.starts)[order]
        step = ramp(lengths)
        first, last = np.repeat(self.starts[order], lengths), np.repeat(self.starts[order + 1] - 1, lengths)
        index = np.where(np.repeat(backward, lengths), last - step, first + step)
        return Toolpaths(
            self.points[index],
            offsets(lengths),
            self.layer[order],
            self.island[order],
            self.kind[order],
            self.closed[order],
            self.area[index],
        )


def toolpaths(found: Regions, solid: FillPaths, sparse: FillPaths, flow: Flow, settings: Settings) -> Toolpaths:
    """All paths, in no order yet. Closed ones begin at their seam."""
    parts = [
        _loops(_skirt(found, flow, settings), SKIRT, flow),
        *(_loops(wall, WALL if depth else OUTER_WALL, flow) for depth, wall in enumerate(found.walls)),
        _thin(found, thin_lines(found.thin, *_thin_wall_sizes(flow, settings)), THIN_WALL, flow),
        _thin(found, thin_lines(found.gaps, *_gap_sizes(flow, settings)), GAP, flow),
        _lines(solid, SOLID, flow),
        _lines(sparse, SPARSE, flow),
    ]
    return Toolpaths(
        np.concatenate([p.points for p in parts]),
        offsets(np.concatenate([np.diff(p.starts) for p in parts])),
        np.concatenate([p.layer for p in parts]),
        np.concatenate([p.island for p in parts]),
        np.concatenate([p.kind for p in parts]),
        np.concatenate([p.closed for p in parts]),
        np.concatenate([p.area for p in parts]),
    )


def _thin_wall_sizes(flow: Flow, settings: Settings) -> tuple[float, float, float]:
    """(narrowest, widest, shortest) mm of a wall that is one line."""
    return thinnest_wall(settings), 1.8 * flow.width, settings.nozzle_diameter / 2


def thinnest_wall(settings: Settings) -> float:
    """mm; what is thinner cannot be printed with this nozzle."""
    return settings.nozzle_diameter / 4


def _gap_sizes(flow: Flow, settings: Settings) -> tuple[float, float, float]:
    return 0.35 * settings.nozzle_diameter, 1.8 * flow.width, 3 * settings.nozzle_diameter


def _lines(paths: FillPaths, kind: int, flow: Flow) -> Toolpaths:
    n = len(paths.layer)
    area = np.repeat(flow.areas[paths.layer], np.diff(paths.starts))
    return Toolpaths(paths.points, paths.starts, paths.layer, paths.island, np.full(n, kind), np.zeros(n, bool), area)


def _thin(found: Regions, lines: ThinLines, kind: int, flow: Flow) -> Toolpaths:
    """Lines as wide as the space for them. A wall has round sides, a gap has neighbours to fill it up to."""
    lines = copied(lines, found.like, found.island_layer)
    height = (flow.areas / flow.spacings)[lines.layer].repeat(np.diff(lines.starts))
    width = np.maximum(lines.widths, 0.5 * flow.width)  # a thinner line would not hold together
    area = lines.widths * height if kind == GAP else (width - height * (1 - math.pi / 4)) * height
    n = len(lines.layer)
    return Toolpaths(lines.points, lines.starts, lines.layer, lines.island, np.full(n, kind), np.zeros(n, bool), area)


def _loops(rings: Rings, kind: int, flow: Flow) -> Toolpaths:
    """Rings as closed polylines that begin at their rearmost point."""
    lengths = rings.lengths
    seam = _rearmost(rings)
    step = ramp(lengths + 1)
    owner = np.repeat(np.arange(len(rings)), lengths + 1)
    index = rings.starts[:-1][owner] + (seam[owner] + step) % np.maximum(lengths, 1)[owner]
    return Toolpaths(
        rings.points[index],
        offsets(lengths + 1),
        rings.layer,
        rings.island,
        np.full(len(rings), kind),
        np.ones(len(rings), bool),
        flow.areas[rings.layer][owner],
    )


def _rearmost(rings: Rings) -> Ints:
    """(r,) which point of each ring lies furthest back; a little to the right where several do."""
    if not len(rings):
        return np.empty(0, np.int64)
    value = rings.points[:, 1] + 0.01 * rings.points[:, 0]
    best = np.maximum.reduceat(value, rings.starts[:-1])
    hit = np.flatnonzero(value == best[rings.ring_of_point()])
    first = np.searchsorted(hit, rings.starts[:-1])
    return hit[first] - rings.starts[:-1]


def _skirt(regions: Regions, flow: Flow, settings: Settings) -> Rings:
    """Loops around everything on the first layer, outermost first."""
    low = regions.outlines.points[regions.outlines.layer[regions.outlines.ring_of_point()] == 0]
    found: list[Floats] = []
    if settings.skirt_loops and len(low):
        hull = shapely.convex_hull(shapely.MultiPoint(low))
        for k in reversed(range(settings.skirt_loops)):
            away = settings.skirt_distance + flow.width / 2 + k * float(flow.spacings[0])
            loop = shapely.simplify(hull.buffer(away, quad_segs=16), 0.01)
            found.append(np.round(shapely.get_coordinates(loop.exterior)[:-1], 3))
    lengths = np.array([len(p) for p in found], np.int64)
    points = np.concatenate(found) if found else np.empty((0, 2))
    return Rings(points, offsets(lengths), np.zeros(len(found), np.int64), np.full(len(found), -1))


def ordered(paths: Toolpaths) -> Toolpaths:
    """The paths in the order of printing: layer by layer, the skirt, then the nearest island next, within it inner
    walls, outer walls, solid and sparse infill, each time the nearest next; open paths may be walked either way."""
    sorting = np.lexsort((paths.kind, paths.island, paths.layer))
    chooser = _Chooser(paths)
    key = np.stack([paths.layer[sorting], paths.island[sorting], paths.kind[sorting]])
    new = np.ones((3, len(sorting)), bool)
    new[:, 1:] = key[:, 1:] != key[:, :-1]
    new = np.logical_or.accumulate(new, axis=0)  # a new layer is a new island is a new kind
    members = sorting.tolist()
    cuts = [np.append(np.flatnonzero(n), len(sorting)).tolist() for n in new]
    kinds = {a: members[a:b] for a, b in zip(cuts[2][:-1], cuts[2][1:], strict=True)}
    islands = {a: [kinds[k] for k in _between(cuts[2], a, b)] for a, b in zip(cuts[1][:-1], cuts[1][1:], strict=True)}
    for a, b in zip(cuts[0][:-1], cuts[0][1:], strict=True):
        chooser.layer([islands[k] for k in _between(cuts[1], a, b)])
    return paths.arranged(np.array(chooser.order, np.int64), np.array(chooser.backward, bool))


def _between(cuts: list[int], low: int, high: int) -> list[int]:
    return cuts[bisect_left(cuts, low) : bisect_left(cuts, high)]


class _Chooser:
    """Walks from path to path, always to the nearest of those that are allowed next."""

    def __init__(self, paths: Toolpaths) -> None:
        first, last = paths.points[paths.starts[:-1]], paths.points[paths.starts[1:] - 1]
        self.first, self.last = first, last
        self.x0, self.y0 = first[:, 0].tolist(), first[:, 1].tolist()
        self.x1, self.y1 = last[:, 0].tolist(), last[:, 1].tolist()
        self.islandless = (paths.island < 0).tolist()
        self.x, self.y = 0.0, 0.0
        self.order: list[int] = []
        self.backward: list[bool] = []

    def layer(self, islands: list[list[list[int]]]) -> None:
        waiting = list(islands)
        while waiting:
            skirt = self.islandless[waiting[0][0][0]]
            k = 0 if skirt or len(waiting) == 1 else self._nearest_island(waiting)
            for group in waiting.pop(k):
                self._group(group)

    def _nearest_island(self, islands: list[list[list[int]]]) -> int:
        x, y, x0, y0 = self.x, self.y, self.x0, self.y0
        best, at = math.inf, 0
        for k, groups in enumerate(islands):
            head = groups[0][0]
            away = (x0[head] - x) ** 2 + (y0[head] - y) ** 2
            if away < best:
                best, at = away, k
        return at

    def _group(self, group: list[int]) -> None:
        if len(group) > FEW:
            self._large_group(group)
            return
        waiting = list(group)
        x0, y0, x1, y1 = self.x0, self.y0, self.x1, self.y1
        while waiting:
            x, y = self.x, self.y
            best, at, turn = math.inf, 0, False
            for k, path in enumerate(waiting):
                away = (x0[path] - x) ** 2 + (y0[path] - y) ** 2
                if away < best:
                    best, at, turn = away, k, False
                away = (x1[path] - x) ** 2 + (y1[path] - y) ** 2
                if away < best:
                    best, at, turn = away, k, True
            self._visit(waiting.pop(at), turn)

    def _large_group(self, group: list[int]) -> None:
        index = np.array(group)
        ends = np.concatenate([self.first[index], self.last[index]])
        x, y, n = ends[:, 0].copy(), ends[:, 1], len(index)
        for _ in range(n):
            k = int(np.argmin((x - self.x) ** 2 + (y - self.y) ** 2))
            turn, k = k >= n, k % n
            x[k] = x[k + n] = math.inf
            self._visit(group[k], turn)

    def _visit(self, path: int, turn: bool) -> None:
        self.order.append(path)
        self.backward.append(turn)
        self.x, self.y = (self.x0[path], self.y0[path]) if turn else (self.x1[path], self.y1[path])
