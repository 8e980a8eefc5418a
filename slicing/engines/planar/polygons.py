"""Polygons of all layers in flat arrays, and the two Clipper2 operations that everything is made of.

Coordinates are mm on a grid of 1 um: Clipper2 works on integers, and points that are equal stay equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyclipr
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Paths = list[Floats]  # closed polygons, (n, 2) each: outlines counter-clockwise, holes clockwise

SCALE = 1000.0  # grid steps per mm


@dataclass(frozen=True, slots=True)
class Rings:
    """``points`` (n, 2); ring r is points[starts[r]:starts[r + 1]], not closed by a repeated point."""

    points: Floats
    starts: Ints  # (r + 1,)
    layer: Ints  # (r,)
    island: Ints  # (r,) number of the island it belongs to, or -1 where that is not known yet

    def __len__(self) -> int:
        return len(self.layer)

    @property
    def lengths(self) -> Ints:
        return np.diff(self.starts)

    def ring_of_point(self) -> Ints:
        return np.repeat(np.arange(len(self)), self.lengths)

    def next_point(self) -> Ints:
        """Index of the point that follows each point around its ring."""
        following = np.arange(1, len(self.points) + 1)
        full = self.lengths > 0
        following[self.starts[1:][full] - 1] = self.starts[:-1][full]
        return following

    def areas(self) -> Floats:
        """(r,) signed areas, counter-clockwise positive."""
        if not len(self.points):
            return np.zeros(len(self))
        origin = self.points[np.minimum(self.starts[:-1], len(self.points) - 1)]  # near the ring, for precision
        p = self.points - np.repeat(origin, self.lengths, axis=0)
        q = p[self.next_point()]
        return 0.5 * segment_sums(p[:, 0] * q[:, 1] - q[:, 0] * p[:, 1], self.starts)

    def take(self, keep: NDArray[np.bool_]) -> Rings:
        lengths = self.lengths
        return Rings(self.points[np.repeat(keep, lengths)], offsets(lengths[keep]), self.layer[keep], self.island[keep])

    def paths(self) -> Paths:
        cuts = self.starts.tolist()
        return [self.points[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def joined(parts: list[Rings]) -> Rings:
    """All rings of all parts."""
    lengths = np.concatenate([p.lengths for p in parts])
    return Rings(
        np.concatenate([p.points for p in parts]),
        offsets(lengths),
        np.concatenate([p.layer for p in parts]),
        np.concatenate([p.island for p in parts]),
    )


def offsets(lengths: Ints) -> Ints:
    """(n + 1,) where each of n runs begins and the last one ends."""
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


def segment_sums(values: Floats, starts: Ints) -> Floats:
    """Sum of values over each run starts[r]:starts[r + 1]; empty runs give 0 (np.add.reduceat does not)."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    return total[starts[1:]] - total[starts[:-1]]


def ramp(lengths: Ints) -> Ints:
    """0, 1, .., lengths[0] - 1, 0, 1, .. for every run."""
    total = int(lengths.sum())
    return np.arange(total) - np.repeat(offsets(lengths)[:-1], lengths)


def collect(pieces: Iterable[tuple[int, int, Paths]]) -> Rings:
    """Rings from (layer, island, paths)."""
    points: list[Floats] = []
    layers: list[int] = []
    islands: list[int] = []
    for layer, island, paths in pieces:
        points += paths
        layers += [layer] * len(paths)
        islands += [island] * len(paths)
    lengths = np.array([len(p) for p in points], np.int64)
    flat = np.concatenate(points) if points else np.empty((0, 2))
    return Rings(flat, offsets(lengths), np.array(layers, np.int64), np.array(islands, np.int64))


def union(paths: Paths) -> list[Paths]:
    """The islands of the area that is covered more often than it is taken away: [outline, hole, ...] each."""
    clipper = pyclipr.Clipper()
    clipper.scaleFactor = SCALE
    clipper.addPaths(paths, pyclipr.Subject)
    return _islands(clipper.execute2(pyclipr.Union, pyclipr.FillRule.Positive))


def _islands(tree: pyclipr.PolyTreeD) -> list[Paths]:
    found: list[Paths] = []
    waiting = list(tree.children)
    while waiting:
        outline = waiting.pop()
        holes = outline.children
        found.append([outline.polygon, *(hole.polygon for hole in holes)])
        for hole in holes:
            waiting += hole.children
    return found


def area(paths: Paths) -> float:
    """mm2; holes count negative."""
    total = 0.0
    for path in paths:
        x, y = path[:, 0] - path[0, 0], path[:, 1] - path[0, 1]
        total += float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2
    return total


def boolean(kind: pyclipr.ClipType, subject: Paths, clip: Paths) -> Paths:
    """subject minus, or within, clip."""
    clipper = pyclipr.Clipper()
    clipper.scaleFactor = SCALE
    if subject:
        clipper.addPaths(subject, pyclipr.Subject)
    if clip:
        clipper.addPaths(clip, pyclipr.Clip)
    result: Paths = clipper.execute(kind, pyclipr.FillRule.NonZero)
    return result


class Offsetter:
    """Offsets of one set of paths by several distances; mitred, cut off at twice the distance."""

    def __init__(self, paths: Paths) -> None:
        self.offset = pyclipr.ClipperOffset()
        self.offset.scaleFactor = SCALE
        if paths:
            self.offset.addPaths(paths, pyclipr.JoinType.Miter, pyclipr.EndType.Polygon)

    def by(self, distance: float) -> Paths:
        """Grown by ``distance``, shrunk when it is negative."""
        result: Paths = self.offset.execute(distance)
        return result


def grown(paths: Paths, distance: float) -> Paths:
    return Offsetter(paths).by(distance) if paths else []


def signatures(rings: Rings, count: int) -> NDArray[np.uint64]:
    """(count,) one number per layer, equal when the layers hold the same edges, in whatever order."""
    grid = np.rint(rings.points * SCALE).astype(np.int64).view(np.uint64)
    here = grid[:, 0] * np.uint64(0x9E3779B97F4A7C15) + grid[:, 1] * np.uint64(0xC2B2AE3D27D4EB4F)
    edge = here ^ (here[rings.next_point()] * np.uint64(0x165667B19E3779F9))
    edge ^= edge >> np.uint64(31)
    edge *= np.uint64(0xBF58476D1CE4E5B9)
    edge ^= edge >> np.uint64(29)
    total = np.concatenate([[np.uint64(0)], np.cumsum(edge)])
    per_ring = total[rings.starts[1:]] - total[rings.starts[:-1]]
    out = np.zeros(count, np.uint64)
    np.add.at(out, rings.layer, per_ring)
    return out
