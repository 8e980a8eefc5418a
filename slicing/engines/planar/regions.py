"""From sections to what is printed in them: walls, and the area that is left for infill."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.base import SlicingError
from slicing.engines.planar.cut import Layers
from slicing.engines.planar.polygons import Floats, Ints, Offsetter, Paths, Rings, collect, grown, offsets, union

AUTO_WIDTH = 1.125  # of the nozzle
CLOSEST = 0.6  # of the spacing: how close two inner walls may come before the inner one gives way
SLIVER = 0.01  # mm2: smaller islands are noise of the mesh


@dataclass(frozen=True, slots=True)
class Flow:
    """Widths in mm. A line of width w and height h is a rectangle with round sides; lines ``spacing`` apart fill
    the layer without gaps. After https://manual.slic3r.org/advanced/flow-math."""

    width: float
    spacings: Floats  # (layers,)
    areas: Floats  # (layers,) mm2 of a line's cross-section

    @staticmethod
    def of(settings: Settings, layers: Layers) -> Flow:
        width = settings.line_width or round(AUTO_WIDTH * settings.nozzle_diameter, 4)
        tallest = float(layers.heights.max())
        if tallest > settings.nozzle_diameter or width < 1.05 * tallest:
            raise SlicingError(
                f"Layers of {tallest:g} mm are too high for a nozzle of {settings.nozzle_diameter:g} mm "
                f"and lines of {width:g} mm."
            )
        spacings = width - layers.heights * (1 - math.pi / 4)
        return Flow(width, spacings, spacings * layers.heights)


@dataclass(frozen=True, slots=True)
class Regions:
    """Rings of all layers; an island is one connected piece of one layer, numbered from 0 in order of layers."""

    outlines: Rings
    walls: list[Rings]  # outermost first
    fill: Rings  # where the centres of infill lines may end
    island_layer: Ints  # (islands,)


def regions(rings: Rings, layers: Layers, flow: Flow, settings: Settings, step: Callable[[float], None]) -> Regions:
    """Walls and fill areas of every island of every layer; ``step`` is told the share done."""
    outlines: list[tuple[int, int, Paths]] = []
    walls: list[list[tuple[int, int, Paths]]] = [[] for _ in range(settings.walls)]
    fill: list[tuple[int, int, Paths]] = []
    island_layer: list[int] = []
    overlap = settings.infill_overlap / 100 * flow.width
    for layer, paths in enumerate(by_layer(rings, len(layers))):
        spacing = float(flow.spacings[layer])
        for island in union(paths) if paths else []:
            loops = _loops(island, flow.width, spacing, settings.walls)
            if not loops:
                continue
            number = len(island_layer)
            island_layer.append(layer)
            outlines.append((layer, number, island))
            for depth, loop in enumerate(loops):
                walls[depth].append((layer, number, loop))
            if len(loops) == settings.walls:
                fill.append((layer, number, grown(loops[-1], overlap - spacing)))
        step((layer + 1) / len(layers))
    return Regions(collect(outlines), [collect(w) for w in walls], collect(fill), np.array(island_layer, np.int64))


def by_layer(rings: Rings, count: int) -> list[Paths]:
    order = np.argsort(rings.layer, kind="stable")
    cuts = offsets(np.bincount(rings.layer, minlength=count)).tolist()
    paths = rings.paths()
    return [[paths[k] for k in order[a:b].tolist()] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def _loops(island: Paths, width: float, spacing: float, count: int) -> list[Paths]:
    """Centre lines of the walls, outermost first; fewer than ``count`` where there is no room.

    Inner walls are opened (shrunk further, grown back), so that none lies nearly on top of its opposite.
    """
    offsetter = Offsetter(island)
    outer = offsetter.by(-width / 2)
    if not outer:
        return []
    loops = [outer]
    back = CLOSEST * spacing / 2
    for k in range(1, count):
        loop = grown(offsetter.by(-(width / 2 + k * spacing + back)), back)
        if not loop:
            break
        loops.append(loop)
    return loops
