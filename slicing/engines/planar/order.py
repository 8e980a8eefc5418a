"""Where rings begin, and the order in which everything is printed."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.planar.paths import INTERFACE, OUTER_WALL, SKIRT, SUPPORT, THIN_WALL, WALL, Toolpaths
from slicing.engines.planar.polygons import Floats, Ints, Rings

FEW = 24  # paths among which plain Python finds the nearest faster than numpy
FOLLOW = 5.0  # mm from a seam to the one above it
CORNER = 1.0  # mm that a seam may move to hide in a sharp inner corner


def seams(rings: Rings, where: str) -> Ints:
    """(r,) number of the point at which each ring begins."""
    if not len(rings):
        return np.empty(0, np.int64)
    if where == "random":
        return np.random.default_rng(len(rings)).integers(0, rings.lengths)
    if where == "aligned":
        return _aligned(rings)
    return _rearmost(rings)  # "nearest" is decided on the way, from here


def _rearmost(rings: Rings) -> Ints:
    """The point that lies furthest back; a little to the right where several do."""
    value = rings.points[:, 1] + 0.01 * rings.points[:, 0]
    best = np.maximum.reduceat(value, rings.starts[:-1])
    hit = np.flatnonzero(value == best[rings.ring_of_point()])
    first = np.searchsorted(hit, rings.starts[:-1])
    return hit[first] - rings.starts[:-1]


def _aligned(rings: Rings) -> Ints:
    """Above the seam of the layer below, if there is one near; else in the sharpest inner corner, or at the back."""
    rear, sharp = _rearmost(rings), _corners(rings)
    out = rear.copy()
    last_layer, below = -1, np.empty((0, 2))
    here: list[Floats] = []
    for k, points in enumerate(rings.paths()):
        if rings.layer[k] != last_layer:
            below = np.array(here) if rings.layer[k] == last_layer + 1 and here else np.empty((0, 2))
            last_layer, here = int(rings.layer[k]), []
        bonus = CORNER * sharp[rings.starts[k] : rings.starts[k + 1]]
        if len(below):
            apart = np.hypot(points[:, None, 0] - below[:, 0], points[:, None, 1] - below[:, 1]).min(axis=1)
            if apart.min() <= FOLLOW:
                out[k] = int(np.argmin(apart - bonus))
        elif bonus.max() > 0.3:
            out[k] = int(np.argmax(bonus))
        here.append(points[out[k]])
    return out


def _corners(rings: Rings) -> Floats:
    """(n,) how well a point hides a seam: 0 straight on, up to 1 in a sharp corner that points into the material."""
    following = rings.next_point()
    way = rings.points[following] - rings.points
    before = np.empty_like(way)
    before[following] = way
    turn = np.arctan2(before[:, 0] * way[:, 1] - before[:, 1] * way[:, 0], (before * way).sum(axis=1))
    inner = np.clip(-turn / math.pi, 0, 1)
    outer = np.clip(turn / math.pi, 0, 1)
    score: Floats = np.where(inner > 0.15, inner, 0.5 * np.where(outer > 0.15, outer, 0.0))
    return score


def ordered(paths: Toolpaths, settings: Settings) -> Toolpaths:
    """Layer by layer: skirt, supports, then the nearest island next; within it walls, then fillings, each time the
    nearest next; open paths may be walked either way, and closed ones begun anywhere if the seam is "nearest"."""
    rank = paths.kind.copy()
    if settings.outer_wall_first:
        rank[paths.kind == WALL], rank[paths.kind == OUTER_WALL], rank[paths.kind == THIN_WALL] = (
            THIN_WALL,
            WALL,
            OUTER_WALL,
        )
    sorting = np.lexsort((rank, paths.island, paths.layer))
    chooser = _Chooser(paths, settings.seam == "nearest")
    key = np.stack([paths.layer[sorting], paths.island[sorting], rank[sorting]])
    new = np.ones((3, len(sorting)), bool)
    new[:, 1:] = key[:, 1:] != key[:, :-1]
    new = np.logical_or.accumulate(new, axis=0)  # a new layer is a new island is a new kind
    members = sorting.tolist()
    cuts = [np.append(np.flatnonzero(n), len(sorting)).tolist() for n in new]
    kinds = {a: members[a:b] for a, b in zip(cuts[2][:-1], cuts[2][1:], strict=True)}
    islands = {a: [kinds[k] for k in _between(cuts[2], a, b)] for a, b in zip(cuts[1][:-1], cuts[1][1:], strict=True)}
    for a, b in zip(cuts[0][:-1], cuts[0][1:], strict=True):
        chooser.layer([islands[k] for k in _between(cuts[1], a, b)])
    return paths.arranged(
        np.array(chooser.order, np.int64), np.array(chooser.backward, bool), np.array(chooser.begin, np.int64)
    )


def _between(cuts: list[int], low: int, high: int) -> list[int]:
    return cuts[bisect_left(cuts, low) : bisect_left(cuts, high)]


class _Chooser:
    """Walks from path to path, always to the nearest of those that are allowed next."""

    def __init__(self, paths: Toolpaths, anywhere: bool) -> None:
        first, last = paths.points[paths.starts[:-1]], paths.points[paths.starts[1:] - 1]
        self.paths, self.first, self.last = paths, first, last
        self.x0, self.y0 = first[:, 0].tolist(), first[:, 1].tolist()
        self.x1, self.y1 = last[:, 0].tolist(), last[:, 1].tolist()
        self.before_all = np.isin(paths.kind, (SKIRT, SUPPORT, INTERFACE)).tolist()
        self.free_seam = (paths.closed & anywhere & (paths.kind != SKIRT)).tolist()
        self.x, self.y = 0.0, 0.0
        self.order: list[int] = []
        self.backward: list[bool] = []
        self.begin: list[int] = []

    def layer(self, islands: list[list[list[int]]]) -> None:
        waiting = list(islands)
        while waiting:
            first = self.before_all[waiting[0][0][0]]
            k = 0 if first or len(waiting) == 1 else self._nearest_island(waiting)
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
        if self.free_seam[path]:
            a, b = int(self.paths.starts[path]), int(self.paths.starts[path + 1]) - 1
            apart = self.paths.points[a:b] - (self.x, self.y)
            at = int(np.argmin((apart * apart).sum(axis=1)))
            self.begin.append(at)
            self.x, self.y = self.paths.points[a + at].tolist()
            return
        self.begin.append(0)
        self.x, self.y = (self.x0[path], self.y0[path]) if turn else (self.x1[path], self.y1[path])
