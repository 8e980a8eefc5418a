"""Scaffolding under what hangs over air, easy to break off: sparse lines in a thin sleeve, a dense roof, a gap above.

Worked out from the top down: what hangs joins the area, the model (and a distance around it) is cut out of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyclipr

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.planar.cut import Layers
from slicing.engines.planar.infill import fill_within
from slicing.engines.planar.overhang import HANGS, hanging_layers
from slicing.engines.planar.polygons import Floats, Paths, Rings, area, boolean, collect, grown
from slicing.engines.planar.regions import Flow, Regions, by_layer
from slicing.engines.planar.scanlines import FillPaths

SPREAD = 0.8  # mm that a support is wider than what it holds
SPECK = 0.01  # mm; what is narrower is noise of the outlines
SMALLEST = 1.0  # mm2
ROOF_SPACING = 1.3  # times that of solid infill: dense, but not welded together
FIRST_LAYER = 3.0  # times as dense as above, to stick to the bed


@dataclass(frozen=True, slots=True)
class Supports:
    """Areas (rings, of no island) and what is printed in them."""

    sleeves: Rings  # centre lines around all of it
    body: FillPaths
    roof: FillPaths

    @staticmethod
    def none() -> Supports:
        return Supports(collect([]), FillPaths.joined([]), FillPaths.joined([]))


def supports(found: Regions, layers: Layers, flow: Flow, settings: Settings, step: Callable[[float], None]) -> Supports:
    """Supports for the whole print; none if they are switched off."""
    if settings.supports == "none":
        return Supports.none()
    outlines = by_layer(found.outlines, len(layers))
    hung = overhangs(found, outlines, layers, settings)
    columns, roofs = _columns(outlines, hung, settings, step)
    if settings.supports == "bed":
        columns = _standing(columns)
        roofs = [boolean(pyclipr.Intersection, r, c) if r and c else [] for r, c in zip(roofs, columns, strict=True)]
    return _drawn(columns, roofs, flow, settings)


def overhangs(found: Regions, outlines: list[Paths], layers: Layers, settings: Settings) -> dict[int, Paths]:
    """{layer: what of it leans out further than the layer below can hold}."""
    lean = math.tan(math.radians(settings.support_angle))
    hung = {}
    for layer in hanging_layers(found, min(lean * settings.layer_height, HANGS)).tolist():
        held = grown(outlines[layer - 1], float(layers.heights[layer]) * lean)
        free = boolean(pyclipr.Difference, outlines[layer], held) if held else outlines[layer]
        free = grown(grown(free, -SPECK), SPECK + SPREAD)
        if free:
            hung[layer] = free
    return hung


def _columns(
    outlines: list[Paths], hung: dict[int, Paths], settings: Settings, step: Callable[[float], None]
) -> tuple[list[Paths], list[Paths]]:
    """Areas of each layer, and those parts of them that are roof."""
    count = len(outlines)
    gap = 1 + round(settings.support_gap / settings.layer_height)  # from the overhang down to the layer that holds it
    columns: list[Paths] = [[] for _ in range(count)]
    roofs: list[Paths] = [[] for _ in range(count)]
    column: Paths = []
    for layer in reversed(range(count)):
        fresh = hung.get(layer + gap, [])
        if fresh:
            column = boolean(pyclipr.Union, column + fresh, [])
        if not column:
            continue
        column = boolean(pyclipr.Difference, column, grown(outlines[layer], settings.support_distance))
        column = column if area(column) >= SMALLEST else []
        above = [p for k in range(settings.support_roof_layers) for p in hung.get(layer + gap + k, [])]
        if column and above:
            roofs[layer] = boolean(pyclipr.Intersection, column, boolean(pyclipr.Union, above, []))
        columns[layer] = column
        step(1 - layer / count)
    return columns, roofs


def _standing(columns: list[Paths]) -> list[Paths]:
    """Only what stands on the bed, without a piece of the model in between."""
    standing: list[Paths] = []
    for column in columns:
        below = standing[-1] if standing else column
        standing.append(boolean(pyclipr.Intersection, column, below) if column and below else [])
    return standing


def _drawn(columns: list[Paths], roofs: list[Paths], flow: Flow, settings: Settings) -> Supports:
    width = flow.width
    sleeves = collect((k, -1, grown(column, -width / 2)) for k, column in enumerate(columns) if column)
    inner: list[tuple[int, int, Paths]] = []
    dense: list[tuple[int, int, Paths]] = []
    for k, column in enumerate(columns):
        room = grown(column, -width) if column else []
        roof = boolean(pyclipr.Intersection, room, roofs[k]) if room and roofs[k] else []
        inner.append((k, -1, boolean(pyclipr.Difference, room, roof) if roof else room))
        dense.append((k, -1, roof))
    body, top = collect(inner), collect(dense)
    spacing = float(flow.spacings[-1])
    apart = spacing * 100 / settings.support_density
    first = body.layer == 0
    lines = [
        fill_within(body.take(~first), _turned(body.take(~first), 0.0), apart),
        fill_within(body.take(first), _turned(body.take(first), 0.0), max(apart / FIRST_LAYER, spacing)),
    ]
    return Supports(
        sleeves, FillPaths.joined(lines), fill_within(top, _turned(top, math.pi / 2), ROOF_SPACING * spacing)
    )


def _turned(rings: Rings, angle: float) -> Floats:
    return np.full(len(rings), angle)
