"""Areas as intervals on parallel scan lines: the infill of all layers at once, without polygon booleans.

A family of scan lines has a direction and a spacing. Each contour of each layer crosses them in events that carry a
weight (+1 where the contour is entered, -1 where it is left, times a weight that says whose contour it is). Sorted
along the lines and summed up, the weights tell for every piece of every line what covers it: the area to be filled,
and the layers above and below it. Each event is one 64-bit integer (line | position | code), because sorting plain
integers is five times faster than sorting indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicing.engines.planar.polygons import Floats, Ints, Rings, offsets, ramp

Kind = Callable[[Ints, Ints], Ints]  # (sum of weights, slot) of stretches -> their kinds, 0 for nothing

GRID = 1000.0  # positions per mm along a line
OWN, OTHER, CUT = 0, 1, 2  # whose contour an event belongs to
_CODE_BITS = 3  # one of these * 2 + entering


@dataclass(frozen=True, slots=True)
class Family:
    """Lines at ``angle`` (radians) to the x axis, ``spacing`` mm apart: line j lies at v = (j + phase) spacing."""

    angle: float
    spacing: float
    phase: float = 0.5

    def halved(self) -> Family:
        """With a line between every two: its even lines are these."""
        return Family(self.angle, self.spacing / 2, 2 * self.phase)

    def along(self, points: Floats) -> tuple[Floats, Floats]:
        """(u, v): along and across the lines."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return points[:, 0] * c + points[:, 1] * s, points[:, 1] * c - points[:, 0] * s

    def back(self, u: Floats, line: Ints) -> Floats:
        """(n, 2) points at position u of the given lines."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        v = (line + self.phase) * self.spacing
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
    first = np.ceil(v / family.spacing - family.phase).astype(np.int64)
    following = rings.next_point()
    ahead = first[following] - first
    edge = np.repeat(np.arange(len(first)), np.abs(ahead))
    up = ahead[edge] > 0
    line = np.minimum(first, first[following])[edge] + ramp(np.abs(ahead))
    slope = (u[following][edge] - u[edge]) / (v[following][edge] - v[edge])
    at = u[edge] + ((line + family.phase) * family.spacing - v[edge]) * slope
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

    @staticmethod
    def none() -> Intervals:
        empty = np.empty(0, np.int64)
        return Intervals(empty, empty, empty, empty, empty)

    def row(self) -> Ints:
        """One number per layer and line; neighbouring lines of a layer have neighbouring numbers, and no line of
        one layer neighbours a line of another."""
        if not len(self):
            return self.line
        span = int(self.line.max() - self.line.min()) + 3
        return self.layer * span + self.line - self.line.min()

    def widened(self, by: int) -> Intervals:
        return Intervals(self.layer, self.line, np.maximum(self.low - by, 0), self.high + by, self.island)

    def chains(
        self, slack: int = 0, near: Callable[[Ints, Ints], NDArray[np.bool_]] | None = None
    ) -> tuple[Ints, Ints]:
        """(first member, rank) of the chain that each piece belongs to.

        A piece is followed by the one that it overlaps (widened by ``slack``) on the next line, where that is one
        only, overlaps no other, and is of the same island; and, if given, where ``near`` says so of the two.
        """
        row, n = self.row(), len(self)
        if not n:
            return row, row
        wide = self.widened(slack) if slack else self
        up, ups = overlaps(wide, row + 1, row, self)
        _, downs = overlaps(wide, row - 1, row, self)
        target = np.minimum(up, n - 1)
        linked = (ups == 1) & (downs[target] == 1) & (self.island[target] == self.island)
        if near is not None:
            linked &= near(np.arange(n), target)
        return _ranks(np.where(linked, target, -1))

    def zigzag(self, family: Family, origin: float, reach: float, room: Intervals | None = None) -> FillPaths:
        """Each piece joined to the one it overlaps on the next line, where that is one only, to and fro.

        Ends further apart along the lines than ``reach`` mm begin a new path; so do those between which there is no
        ``room`` halfway, if that is given: pieces on the lines of ``family.halved()``.
        """
        n = len(self)
        if n == 0:
            return FillPaths.joined([])
        head, rank = self.chains()
        order = np.lexsort((rank, head))
        lines, head, backward = self.take(order), head[order], rank[order] % 2 == 1
        enter, leave = np.where(backward, lines.high, lines.low), np.where(backward, lines.low, lines.high)
        new = np.ones(n, bool)
        new[1:] = (head[1:] != head[:-1]) | (np.abs(enter[1:] - leave[:-1]) > reach * GRID)
        if room is not None:
            halfway = (enter[1:] + leave[:-1]) // 2
            new[1:] |= room.at(lines.layer[1:], 2 * lines.line[:-1] + 1, halfway) < 0
        begin = np.flatnonzero(new)
        u = np.stack([enter, leave], axis=1).ravel() / GRID + origin
        points = family.back(u, np.repeat(lines.line, 2))
        return FillPaths(points, 2 * np.append(begin, n), lines.layer[begin], lines.island[begin])

    def holding(self, family: Family, origin: float, points: Floats, layer: Ints) -> Ints:
        """(n,) which piece each point lies on, on the scan line next to it; -1 for none. ``layer`` of the points."""
        u, v = family.along(points)
        position = np.rint((u - origin) * GRID).astype(np.int64)
        line = np.rint(v / family.spacing - family.phase).astype(np.int64)
        return self.at(layer, line, position)

    def at(self, layer: Ints, line: Ints, position: Ints) -> Ints:
        """(n,) which piece holds each place; -1 for none."""
        if not len(self) or not len(line):
            return np.full(len(line), -1)
        low = min(int(line.min()), int(self.line.min()))
        span = max(int(line.max()), int(self.line.max())) - low + 1
        width = 1 + max(int(np.abs(position).max()), int(self.high.max()))
        starts = (self.layer * span + self.line - low) * width + self.low
        at = np.searchsorted(starts, (layer * span + line - low) * width + np.maximum(position, 0), "right") - 1
        piece = np.maximum(at, 0)
        hit = (at >= 0) & (self.layer[piece] == layer) & (self.line[piece] == line)
        hit &= (self.low[piece] <= position) & (position <= self.high[piece])
        return np.where(hit, piece, -1)


@dataclass(frozen=True, slots=True)
class FillPaths:
    """Polylines: path p is points[starts[p]:starts[p + 1]]."""

    points: Floats
    starts: Ints
    layer: Ints
    island: Ints

    @staticmethod
    def joined(parts: list[FillPaths]) -> FillPaths:
        if not parts:
            none = np.empty(0, np.int64)
            return FillPaths(np.empty((0, 2)), np.zeros(1, np.int64), none, none)
        return FillPaths(
            np.concatenate([p.points for p in parts]),
            offsets(np.concatenate([np.diff(p.starts) for p in parts])),
            np.concatenate([p.layer for p in parts]),
            np.concatenate([p.island for p in parts]),
        )


def _ranks(following: Ints) -> tuple[Ints, Ints]:
    """(first member, position) in the chain that each member belongs to; ``following`` is -1 at the ends."""
    n = len(following)
    head = np.arange(n)
    has = np.flatnonzero(following >= 0)
    head[following[has]] = has
    rank = (head != np.arange(n)).astype(np.int64)
    while True:  # pointer jumping: the distance looked back doubles each time
        further = head[head]
        if np.array_equal(further, head):
            return head, rank
        rank = rank + rank[head]
        head = further


def overlaps(these: Intervals, row_these: Ints, row_those: Ints, those: Intervals) -> tuple[Ints, Ints]:
    """(first, count): for each of ``these``, which of ``those`` share a stretch with it on the row given for each.

    Rows must be comparable between the two; both must be sorted by row and position.
    """
    width = 1 + max((int(i.high.max()) for i in (these, those) if len(i)), default=0)
    first = np.searchsorted(row_those * width + those.high, row_these * width + these.low, "right")
    last = np.searchsorted(row_those * width + those.low, row_these * width + these.high, "left")
    return first, np.maximum(last - first, 0)


@dataclass(frozen=True, slots=True)
class Sweep:
    """How events are packed: slot of the layer and line | position | member | code.

    A slot is the number of a layer among those that are looked at; a member is the number of an island within its
    layer. ``islands`` (slots,) is the island of member 0.
    """

    first_line: int
    lines: int
    position_bits: int
    member_bits: int
    member: Ints  # of each ring of the area swept
    islands: Ints

    @staticmethod
    def over(area: Rings, events: list[Crossings], slots: int, slot: Ints) -> Sweep:
        """For events of rings of ``area`` (whose islands are tracked) and of others; ``slot`` (layers,)."""
        lines = np.concatenate([e.line for e in events])
        low, high = (int(lines.min()), int(lines.max())) if len(lines) else (0, 0)
        top = max((int(e.u.max()) for e in events if len(e.u)), default=0)
        at = slot[area.layer]
        first = np.full(slots, np.iinfo(np.int64).max)
        np.minimum.at(first, at, area.island)
        member = area.island - first[at]
        bits = (int(member.max()) + 1).bit_length() if len(area) else 1
        sweep = Sweep(low, high - low + 1, top.bit_length(), bits, member, first)
        if (slots * sweep.lines).bit_length() + sweep.position_bits + bits + _CODE_BITS > 63:
            raise OverflowError("scan lines do not fit into 63 bits")
        return sweep

    def keys(self, slot: Ints, events: Crossings, owner: int, member: Ints | int = 0) -> Ints:
        row = slot * self.lines + (events.line - self.first_line)
        place = (row << self.position_bits) | events.u
        return (((place << self.member_bits) | member) << _CODE_BITS) | (2 * owner + events.entering)

    def intervals(self, keys: Ints, weights: tuple[int, ...], kind: Kind, layers: Ints) -> tuple[Intervals, Ints]:
        """Stretches of one kind each, and their kinds. ``weights`` of what is OWN, OTHER, CUT; ``layers`` (slots,)."""
        keys.sort()
        code = keys & ((1 << _CODE_BITS) - 1)
        weight = np.cumsum(np.array([sign * w for w in weights for sign in (-1, 1)])[code])
        place = keys >> (_CODE_BITS + self.member_bits)
        entered = np.maximum.accumulate(np.where(code == 2 * OWN + 1, np.arange(len(keys)), 0))
        last = np.ones(len(keys), bool)  # of the events at one place; what lies between them has no length
        last[:-1] = place[1:] != place[:-1]
        at = np.flatnonzero(last)
        weight, place = weight[at], place[at]
        kinds = kind(weight, (place >> self.position_bits) // self.lines)
        change = np.ones(len(kinds), bool)
        change[1:] = kinds[1:] != kinds[:-1]
        begin = np.flatnonzero(change)
        end = np.append(begin[1:], len(kinds) - 1)
        real = kinds[begin] > 0
        begin, end = begin[real], end[real]
        member = (keys[entered[at[begin]]] >> _CODE_BITS) & ((1 << self.member_bits) - 1)
        row, mask = place[begin] >> self.position_bits, (1 << self.position_bits) - 1
        slot = row // self.lines
        made = Intervals(
            layers[slot],
            row % self.lines + self.first_line,
            place[begin] & mask,
            place[end] & mask,
            self.islands[slot] + member,
        )
        return made, kinds[begin]
