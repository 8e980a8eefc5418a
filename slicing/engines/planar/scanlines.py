"""Areas as intervals on parallel scan lines: the infill of all layers at once, without polygon booleans.

A family of scan lines has a direction and a spacing. Each contour of each layer crosses them in events that carry a
weight (+1 where the contour is entered, -1 where it is left, times a weight that says whose contour it is). Sorted
along the lines and summed up, the weights tell for every piece of every line what covers it: the area to be filled,
and the layers above and below it. Each event is one 64-bit integer (line | position | code), because sorting plain
integers is five times faster than sorting indices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slicing.engines.planar.polygons import Floats, Ints, Rings, ramp

GRID = 1000.0  # positions per mm along a line
CODE_BITS = 4


@dataclass(frozen=True, slots=True)
class Family:
    """Lines at ``angle`` (radians) to the x axis, ``spacing`` mm apart: line j lies at v = (j + 1/2) spacing."""

    angle: float
    spacing: float

    def along(self, points: Floats) -> tuple[Floats, Floats]:
        """(u, v): along and across the lines."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return points[:, 0] * c + points[:, 1] * s, points[:, 1] * c - points[:, 0] * s

    def back(self, u: Floats, line: Ints) -> Floats:
        """(n, 2) points at position u of the given lines."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        v = (line + 0.5) * self.spacing
        return np.stack([u * c - v * s, u * s + v * c], axis=-1)


@dataclass(frozen=True, slots=True)
class Crossings:
    """Where rings cross the lines of a family. ``entering`` is 1 where a ring is entered in the direction of u,
    else 0."""

    ring: Ints
    line: Ints
    u: Ints  # 1 / GRID mm, not negative
    entering: Ints

    def take(self, keep: Ints) -> Crossings:
        return Crossings(self.ring[keep], self.line[keep], self.u[keep], self.entering[keep])


def crossings(rings: Rings, family: Family, origin: float) -> Crossings:
    """All crossings; positions count from ``origin`` (mm along u)."""
    u, v = family.along(rings.points)
    # The first line at or above a point. Shared corners give shared numbers, so every ring crosses every line an even
    # number of times, whatever the rounding.
    first = np.ceil(v / family.spacing - 0.5).astype(np.int64)
    following = rings.next_point()
    ahead = first[following] - first
    edge = np.repeat(np.arange(len(first)), np.abs(ahead))
    up = ahead[edge] > 0
    line = np.minimum(first, first[following])[edge] + ramp(np.abs(ahead))
    slope = (u[following][edge] - u[edge]) / (v[following][edge] - v[edge])
    at = u[edge] + ((line + 0.5) * family.spacing - v[edge]) * slope
    position = np.rint((at - origin) * GRID).astype(np.int64)
    # the material is on the left of a ring: an edge that runs up has it on the side of smaller u
    return Crossings(rings.ring_of_point()[edge], line, position, 1 - up.astype(np.int64))


@dataclass(frozen=True, slots=True)
class Intervals:
    """Pieces of scan lines, sorted by layer, line and position; no two of them overlap or touch on one line."""

    layer: Ints
    line: Ints
    low: Ints  # 1 / GRID mm
    high: Ints
    island: Ints

    def __len__(self) -> int:
        return len(self.line)

    def take(self, keep: Ints | np.ndarray) -> Intervals:
        return Intervals(self.layer[keep], self.line[keep], self.low[keep], self.high[keep], self.island[keep])

    def row(self) -> Ints:
        """One number per layer and line; neighbouring lines of a layer have neighbouring numbers, and no line of
        one layer neighbours a line of another."""
        if not len(self):
            return self.line
        span = int(self.line.max() - self.line.min()) + 3
        return self.layer * span + self.line - self.line.min()


def overlaps(these: Intervals, row_these: Ints, row_those: Ints, those: Intervals) -> tuple[Ints, Ints]:
    """(first, count): for each of ``these``, which of ``those`` share a stretch with it on the row given for each.

    Rows must be comparable between the two; both must be sorted by row and position.
    """
    width = 1 + max((int(i.high.max()) for i in (these, those) if len(i)), default=0)
    first = np.searchsorted(row_those * width + those.high, row_these * width + these.low, "right")
    last = np.searchsorted(row_those * width + those.low, row_these * width + these.high, "left")
    return first, np.maximum(last - first, 0)
