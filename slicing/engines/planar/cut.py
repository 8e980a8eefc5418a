"""Cut triangles with all layer planes at once.

Sections are taken in the middle of each layer. Where a plane lies exactly in a facet, the section just below counts
(PrusaSlicer and CuraEngine do the same): corners on the plane belong to the upper side, and planes are lowered by
10 nm so that rounding in their heights cannot decide it.

Points are integers of 1 um from here on, so that neighbours meet exactly: along an edge the point is always
interpolated from its lower end to its upper one, which gives both facets of that edge the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slicing.engines.planar.polygons import SCALE, Floats, Ints, ramp

TIE = 1e-5  # mm
XY_BITS = 23  # of a coordinate in um: 8.3 m

_LONE = np.array([0, 0, 1, 2, 2, 1, 0, 0])  # which corner is alone, by the bits "corner k is above"
_LONE_UP = np.array([0, 1, 1, 0, 1, 0, 0, 0], bool)  # whether that corner is above


@dataclass(frozen=True, slots=True)
class Layers:
    """Where the layers are: tops and heights in mm, (n,) each."""

    tops: Floats
    heights: Floats

    @property
    def planes(self) -> Floats:
        return self.tops - 0.5 * self.heights - TIE

    def __len__(self) -> int:
        return len(self.tops)


def layers_for(height: float, first: float, following: float) -> Layers:
    """1 + floor((H - h0) / h + 1/2) layers: the count that PrusaSlicer and CuraEngine give."""
    # 1 nm of grace: a model that is exactly n layers and a half high must not lose one to rounding
    count = max(1, 1 + int(np.floor((height - first) / following + 0.5 + 1e-6)))
    tops = np.round(first + following * np.arange(count), 6)
    return Layers(tops, np.concatenate([[first], np.full(count - 1, following)]))


@dataclass(frozen=True, slots=True)
class Segments:
    """Pieces of outline with the material on their left; ends packed as layer | x | y in um, see pack()."""

    start: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.start)


def pack(layer: Ints, x: Floats, y: Floats) -> Ints:
    """One integer for a point: equal exactly when layer, x and y (mm, not negative) are equal on the grid."""
    xi, yi = np.rint(x * SCALE).astype(np.int64), np.rint(y * SCALE).astype(np.int64)
    return (layer << (2 * XY_BITS)) | (xi << XY_BITS) | yi


def layer_of(packed: Ints) -> Ints:
    return packed >> (2 * XY_BITS)


def unpack(packed: Ints) -> Floats:
    """(n, 2) mm."""
    mask = (1 << XY_BITS) - 1
    return np.stack([(packed >> XY_BITS) & mask, packed & mask], axis=-1) / SCALE


def spans(triangles: Floats, planes: Floats) -> tuple[Ints, Ints]:
    """First plane that cuts each triangle, and one past the last: those with zmin < plane <= zmax."""
    z = triangles[:, :, 2]
    return np.searchsorted(planes, z.min(axis=1), "right"), np.searchsorted(planes, z.max(axis=1), "right")


def intersect(triangles: Floats, planes: Floats, first: Ints, last: Ints) -> Segments:
    """All segments of triangles (n, 3, 3) with planes[first:last] of each triangle."""
    count = np.maximum(last - first, 0)
    tri = np.repeat(np.arange(len(triangles)), count)
    layer = first[tri] + ramp(count)
    plane = planes[layer]
    x, y, z = (np.ascontiguousarray(triangles[:, :, k]).ravel() for k in range(3))
    base = 3 * tri
    bits = (z[base] >= plane) + 2 * (z[base + 1] >= plane) + 4 * (z[base + 2] >= plane)
    lone, up = _LONE[bits], _LONE_UP[bits]
    ends = []
    for step in (1, 2):
        other = base + (lone + step) % 3
        low, high = np.where(up, other, base + lone), np.where(up, base + lone, other)
        t = (plane - z[low]) / (z[high] - z[low])
        ends.append(pack(layer, x[low] + (x[high] - x[low]) * t, y[low] + (y[high] - y[low]) * t))
    # with the lone corner above, the direction "next corner's edge to last corner's edge" keeps the material left
    start, end = np.where(up, ends[0], ends[1]), np.where(up, ends[1], ends[0])
    real = start != end
    return Segments(start[real], end[real])
