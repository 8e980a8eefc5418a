"""Everything that is printed, as polylines of all layers in flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicing.engines.planar.polygons import Floats, Ints, offsets, ramp

SKIRT, SUPPORT, INTERFACE, WALL, OUTER_WALL, THIN_WALL, GAP, BRIDGE, SOLID, SPARSE = range(10)
NAMES = (  # as viewers know them
    "Skirt/Brim",
    "Support material",
    "Support material interface",
    "Perimeter",
    "External perimeter",
    "External perimeter",
    "Gap fill",
    "Bridge infill",
    "Solid infill",
    "Internal infill",
)
OVERHANG_NAME = "Overhang perimeter"
HELD, LEANING, FREE = 0, 1, 2  # grades of what is below a line: all of it, less than half, nothing


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
    grade: Ints  # (n,) of the piece that begins at each point

    def __len__(self) -> int:
        return len(self.layer)

    @staticmethod
    def of(
        points: Floats, starts: Ints, layer: Ints, island: Ints, kind: int, area: Floats, closed: bool = False
    ) -> Toolpaths:
        """All of one kind."""
        n = len(layer)
        none = np.zeros(len(points), np.int64)
        return Toolpaths(points, starts, layer, island, np.full(n, kind), np.full(n, closed), area, none)

    @staticmethod
    def joined(parts: list[Toolpaths]) -> Toolpaths:
        def all_of(name: str) -> NDArray[np.generic]:
            return np.concatenate([getattr(p, name) for p in parts])

        lengths = np.concatenate([np.diff(p.starts) for p in parts])
        names = ("layer", "island", "kind", "closed", "area", "grade")
        return Toolpaths(all_of("points"), offsets(lengths), *map(all_of, names))  # type: ignore[arg-type]

    def arranged(self, order: Ints, backward: NDArray[np.bool_], begin: Ints) -> Toolpaths:
        """The paths in the given order, open ones perhaps walked backward, closed ones begun at another point."""
        lengths = np.diff(self.starts)[order]
        step = ramp(lengths)
        back = np.repeat(backward, lengths)
        first, last = np.repeat(self.starts[order], lengths), np.repeat(self.starts[order + 1] - 1, lengths)
        turn = np.repeat(begin, lengths)
        around = first + (turn + step) % np.maximum(last - first, 1)
        index = np.where(turn > 0, around, np.where(back, last - step, first + step))
        piece = np.where(back, np.maximum(index - 1, 0), index)  # walked backward, it is the one before the point
        return Toolpaths(
            self.points[index],
            offsets(lengths),
            self.layer[order],
            self.island[order],
            self.kind[order],
            self.closed[order],
            self.area[index],
            self.grade[piece],
        )

    def owner(self) -> Ints:
        """(n,) path of each point."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))
