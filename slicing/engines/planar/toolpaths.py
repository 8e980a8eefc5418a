"""All lines of a print, put together from regions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import shapely

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.planar import overhang
from slicing.engines.planar.crew import Step, shared
from slicing.engines.planar.infill import FillPaths, fill_within
from slicing.engines.planar.order import seams
from slicing.engines.planar.paths import (
    BRIDGE,
    GAP,
    HELD,
    INTERFACE,
    OUTER_WALL,
    SKIRT,
    SOLID,
    SPARSE,
    SUPPORT,
    THIN_WALL,
    WALL,
    Toolpaths,
)
from slicing.engines.planar.polygons import Floats, Ints, Paths, Rings, grown, offsets, ramp, union
from slicing.engines.planar.regions import Flow, Regions
from slicing.engines.planar.supports import Supports
from slicing.engines.planar.thin import ThinLines, copied, thin_lines

PIECE = 1.0  # mm of wall that is judged at once when something hangs over air


@dataclass(frozen=True, slots=True)
class Air:
    """What is over air, and what is done about it."""

    hanging: Ints  # layers that hang over air somewhere
    below: overhang.Areas  # what each of these lies on, see overhang.ground
    spans: overhang.Bridges
    held: Supports


def toolpaths(
    found: Regions,
    fillings: tuple[FillPaths, FillPaths],
    air: Air,
    flow: Flow,
    settings: Settings,
    crew: int,
    step: Step,
) -> Toolpaths:
    """All paths, in no order yet; closed ones begin at their seam. ``fillings`` are solid and sparse."""
    held, spans, (solid, sparse) = air.held, air.spans, fillings

    def wall(depth: int, step: Step) -> Toolpaths:
        kind = WALL if depth else OUTER_WALL
        return _graded(_loops(found.walls[depth], kind, flow, settings.seam), air, flow)

    def thin(step: Step) -> Toolpaths:
        return _thin(found, thin_lines(found.thin, *_thin_wall_sizes(flow, settings)), THIN_WALL, flow)

    def gaps(step: Step) -> Toolpaths:
        return _thin(found, thin_lines(found.gaps, *_gap_sizes(flow, settings)), GAP, flow)

    tasks: list[Callable[[Step], Toolpaths]] = [partial(wall, depth) for depth in range(len(found.walls))]
    return Toolpaths.joined(
        [
            _loops(adhesion(found, held.sleeves, flow, settings), SKIRT, flow, "rear"),
            _loops(held.sleeves, SUPPORT, flow, "rear"),
            _lines(held.body, SUPPORT, flow.areas),
            _lines(held.roof, INTERFACE, flow.areas),
            *shared([*tasks, thin, gaps], crew, step),
            _lines(fill_within(spans.rings, spans.angle, spans.spacing), BRIDGE, spans.area),
            _lines(solid, SOLID, flow.areas),
            _lines(sparse, SPARSE, flow.areas),
        ]
    )


def _thin_wall_sizes(flow: Flow, settings: Settings) -> tuple[float, float, float]:
    """(narrowest, widest, shortest) mm of a wall that is one line."""
    return thinnest_wall(settings), 1.8 * flow.width, settings.nozzle_diameter / 2


def thinnest_wall(settings: Settings) -> float:
    """mm; what is thinner cannot be printed with this nozzle."""
    return settings.nozzle_diameter / 4


def _gap_sizes(flow: Flow, settings: Settings) -> tuple[float, float, float]:
    return 0.35 * settings.nozzle_diameter, 1.8 * flow.width, 3 * settings.nozzle_diameter


def _lines(paths: FillPaths, kind: int, area: Floats | float) -> Toolpaths:
    """``area`` of the lines' cross-section, mm2: of each layer, or of all."""
    each = area[paths.layer] if isinstance(area, np.ndarray) else np.full(len(paths.layer), area)
    per_point = np.repeat(each, np.diff(paths.starts))
    return Toolpaths.of(paths.points, paths.starts, paths.layer, paths.island, kind, per_point)


def _thin(found: Regions, lines: ThinLines, kind: int, flow: Flow) -> Toolpaths:
    """Lines as wide as the space for them. A wall has round sides, a gap has neighbours to fill it up to."""
    lines = copied(lines, found.like, found.island_layer)
    height = (flow.areas / flow.spacings)[lines.layer].repeat(np.diff(lines.starts))
    width = np.maximum(lines.widths, 0.5 * flow.width)  # a thinner line would not hold together
    area = lines.widths * height if kind == GAP else (width - height * (1 - math.pi / 4)) * height
    return Toolpaths.of(lines.points, lines.starts, lines.layer, lines.island, kind, area)


def _loops(rings: Rings, kind: int, flow: Flow, seam: str) -> Toolpaths:
    """Rings as closed polylines that begin at their seam."""
    lengths = rings.lengths
    begin = seams(rings, seam)
    step = ramp(lengths + 1)
    owner = np.repeat(np.arange(len(rings)), lengths + 1)
    index = rings.starts[:-1][owner] + (begin[owner] + step) % np.maximum(lengths, 1)[owner]
    area = flow.areas[rings.layer][owner]
    return Toolpaths.of(rings.points[index], offsets(lengths + 1), rings.layer, rings.island, kind, area, closed=True)


def _graded(paths: Toolpaths, air: Air, flow: Flow) -> Toolpaths:
    """Walls cut where what is below them changes, and told what that is."""
    owner = paths.owner()
    asked = np.isin(paths.layer, air.hanging)[owner]
    last = np.zeros(len(paths.points), bool)
    last[paths.starts[1:] - 1] = True
    way = np.diff(paths.points, axis=0, append=paths.points[-1:])
    length = np.hypot(way[:, 0], way[:, 1])
    count = np.where(asked & ~last, np.maximum(np.ceil(length / PIECE), 1), 1).astype(np.int64)
    step, origin = ramp(count), np.repeat(np.arange(len(count)), count)
    points = paths.points[origin] + way[origin] * (step / count[origin])[:, None]
    middle = points + way[origin] / (2 * count[origin])[:, None]
    grade = overhang.grades(middle, paths.layer[owner[origin]], air.below, air.hanging, flow.width)
    grade[last[origin]] = HELD
    before = np.concatenate([[HELD], grade[:-1]])
    keep = (step == 0) | (grade != before)
    area = np.where(grade == 2, np.maximum(paths.area[origin], air.spans.area), paths.area[origin])
    lengths = np.bincount(owner[origin[keep]], minlength=len(paths))
    return Toolpaths(
        np.round(points[keep], 3),
        offsets(lengths),
        paths.layer,
        paths.island,
        paths.kind,
        paths.closed,
        area[keep],
        grade[keep],
    )


def adhesion(found: Regions, sleeves: Rings, flow: Flow, settings: Settings) -> Rings:
    """What helps the first layer: a brim around each piece, or else a skirt around all of them."""
    outlines = [ring for rings in (found.outlines, sleeves) for ring in rings.take(rings.layer == 0).paths()]
    spacing = float(flow.spacings[0])
    loops: Paths = []
    if settings.brim_width > 0 and outlines:
        for k in reversed(range(max(1, math.floor(settings.brim_width / spacing)))):
            around = grown(outlines, flow.width / 2 + k * spacing)
            loops += [ring for island in union(around) for ring in island[:1]]
    elif settings.skirt_loops and outlines:
        hull = shapely.convex_hull(shapely.MultiPoint(np.concatenate(outlines)))
        for k in reversed(range(settings.skirt_loops)):
            away = settings.skirt_distance + flow.width / 2 + k * spacing
            ring = shapely.simplify(hull.buffer(away, quad_segs=16), 0.01)
            loops.append(np.round(shapely.get_coordinates(ring.exterior)[:-1], 3))
    lengths = np.array([len(p) for p in loops], np.int64)
    points = np.concatenate(loops) if loops else np.empty((0, 2))
    return Rings(points, offsets(lengths), np.zeros(len(loops), np.int64), np.full(len(loops), -1))
