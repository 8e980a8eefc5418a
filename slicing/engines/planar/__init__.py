"""The built-in engine: flat layers of even height, all of them computed at once on numpy and Clipper2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from slicing.engines import VERSIONS, replay, templates
from slicing.engines.base import Machine, Progress, SliceResult, SliceSettings, SlicingError
from slicing.engines.heading import header
from slicing.engines.planar import overhang, vase
from slicing.engines.planar.crew import hands, shared
from slicing.engines.planar.cut import Layers, layers_for
from slicing.engines.planar.heap import kept
from slicing.engines.planar.infill import fill
from slicing.engines.planar.moves import Program, filament_area, program
from slicing.engines.planar.order import ordered
from slicing.engines.planar.paths import SKIRT, Toolpaths
from slicing.engines.planar.polygons import Floats, Ints
from slicing.engines.planar.regions import Flow, Regions, regions, stacked
from slicing.engines.planar.sections import Body, blocks, sections
from slicing.engines.planar.supports import supports
from slicing.engines.planar.text import encode
from slicing.engines.planar.toolpaths import Air, thinnest_wall, toolpaths
from slicing.mesh import Mesh

MARGIN = 20.0  # mm from the origin while the outlines are computed, where coordinates must not be negative
SAME = 1e-6
LEAST_HOLD = 3.0  # mm of line that the first layer must have
STANDS_ON_NOTHING = "The part hardly touches the bed: its first layer is empty. Turn it so that a flat side is below."


class PlanarEngine:
    name = "planar"
    version = VERSIONS["planar"]

    @kept()
    def slice(
        self, mesh: Mesh, machine: Machine, settings: SliceSettings, out: Path, progress: Progress | None = None
    ) -> SliceResult:
        """See Engine.slice."""
        report = progress or (lambda share: None)
        settings = vase.effective(settings)
        check_settings(machine, settings)
        check_size(mesh, machine)
        report(0.0)
        layers = layers_for(mesh.size_mm[2], settings.first_layer_height, settings.layer_height)
        flow = Flow.of(settings, layers)
        body = placed(mesh, layers)
        crew = hands(int(body.segments().sum()))
        found = areas(body, flow, settings, crew, _share(report, 0.0, 0.6))
        del body  # as large as the model
        layers = check_layers(found.island_layer, layers)
        flow = Flow.of(settings, layers)
        paths, notes = lines_of(found, layers, flow, settings, crew, _share(report, 0.6, 0.85))
        layers = check_layers(paths.layer[paths.kind != SKIRT], layers)  # some hold nothing that a line fits into
        paths = ordered(_on_bed(vase.only_wall(paths, layers, settings), mesh, machine), settings)
        check_first_layer(paths)
        place = check_fits(paths, layers, flow, machine)
        job = Job(paths, _moved(found, mesh, machine), layers, machine, settings, place, crew)
        result = write(job, out, _share(report, 0.85, 1.0))
        result.facts["warnings"] = notes
        report(1.0)
        return result


def lines_of(
    found: Regions, layers: Layers, flow: Flow, settings: SliceSettings, crew: int, report: Progress
) -> tuple[Toolpaths, list[str]]:
    """All lines of the print, in no order yet, and sentences about what may go wrong with them."""
    hanging = overhang.hanging_layers(found)
    report(0.1)
    below = overhang.ground(found, hanging)
    spans = overhang.bridges(found, hanging, below, flow, settings)
    report(0.3)
    held = supports(found, layers, flow, settings, _share(report, 0.3, 0.4))
    fillings = fill(found, spans.rings, flow, settings, crew, _share(report, 0.4, 0.7))
    paths = toolpaths(found, fillings, Air(hanging, below, spans, held), flow, settings, crew, _share(report, 0.7, 1.0))
    notes = unprinted(found, paths, layers, settings)
    if settings.supports == "none":
        notes += [
            f"A piece begins in the air at a height of {layers.tops[layer - 1]:.1f} mm; it needs supports."
            for layer in overhang.floating(found, hanging, below)[:1]
        ]
    return paths, notes


def _share(report: Progress, low: float, high: float) -> Callable[[float], None]:
    return lambda done: report(low + done * (high - low))


def check_settings(machine: Machine, settings: SliceSettings) -> None:
    """Refuse what this machine cannot do."""
    for word, mine, its in (
        ("nozzle", settings.nozzle_diameter, machine.nozzle_diameter),
        ("filament", settings.filament_diameter, machine.filament_diameter),
    ):
        if abs(mine - its) > SAME:
            raise SlicingError(
                f"The settings say a {word} of {mine:g} mm, but the printer profile has one of {its:g} mm."
            )
    for word, value, most in (
        ("nozzle", max(settings.first_heat.nozzle, settings.nozzle_temperature), machine.max_nozzle_temperature),
        ("bed", max(settings.first_heat.bed, settings.bed_temperature), machine.max_bed_temperature),
    ):
        if value > most:
            raise SlicingError(f"A {word} temperature of {value:g} C is above the {most:g} C that this printer allows.")


def check_size(mesh: Mesh, machine: Machine) -> None:
    """Refuse what is larger than the printable volume, before any work is done on it."""
    size = mesh.size_mm
    if any(s > most + 1e-3 for s, most in zip(size, machine.size, strict=True)):
        raise SlicingError(f"The part is {_by(size)} mm, but the printer can only print {_by(machine.size)} mm.")


def _by(size: tuple[float, ...]) -> str:
    return " x ".join(f"{s:.1f}".removesuffix(".0") for s in size)


def areas(body: Body, flow: Flow, settings: SliceSettings, crew: int, report: Progress) -> Regions:
    """Walls and fill areas, worked out by ``crew`` processes for a range of layers each."""
    count = len(flow.spacings)
    work = body.segments()
    ranges = blocks(work, max(1.0, work.sum() / crew)) if crew > 1 else [(0, count)]

    def part(low: int, high: int, step: Progress) -> Regions:
        low = max(0, low - 1)  # each range begins with the last layer of the one below: see stacked()
        rings = sections(body, low, high, _share(step, 0.0, 0.5))
        return regions(rings, flow.between(low, high), settings, low, _share(step, 0.5, 1.0))

    return stacked(shared([partial(part, low, high) for low, high in ranges], crew, report))


def placed(mesh: Mesh, layers: Layers) -> Body:
    """The part with its lowest corner at (MARGIN, MARGIN, 0)."""
    triangles = mesh.triangles - (mesh.bounds[0] - np.array([MARGIN, MARGIN, 0.0]))
    if mesh.signed_volume_mm3 < 0:
        triangles = triangles[:, ::-1]
    return Body.of(triangles, layers)


def check_layers(filled: Ints, layers: Layers) -> Layers:
    """The layers that something is printed in: a tip may be too thin for the last ones. ``filled`` are their numbers,
    in any order and repeated. Refuses a part that floats, or that has none."""
    present = np.unique(filled)
    if not len(present):
        raise SlicingError("The part is thinner than a line everywhere; nothing would be printed.")
    if present[0] != 0:
        raise SlicingError(STANDS_ON_NOTHING)
    gap = np.flatnonzero(np.diff(present) > 1)
    if len(gap):
        low, high = layers.tops[present[gap[0]]], layers.tops[present[gap[0] + 1] - 1]
        raise SlicingError(
            f"A piece of the part floats: nothing would be printed between {low:.1f} mm and {high:.1f} mm. "
            "Repair the model, or print its pieces one by one."
        )
    return Layers(layers.tops[: len(present)], layers.heights[: len(present)])


def check_first_layer(paths: Toolpaths) -> None:
    """Refuse a part that stands on a point: it would fall over, if it stuck at all."""
    owner = np.repeat(np.arange(len(paths)), np.diff(paths.starts))[:-1]
    step = np.hypot(*np.diff(paths.points, axis=0).T)
    step[paths.starts[1:-1] - 1] = 0.0
    if step[(paths.layer[owner] == 0) & (paths.kind[owner] != SKIRT)].sum() < LEAST_HOLD:
        raise SlicingError(STANDS_ON_NOTHING)


def unprinted(found: Regions, paths: Toolpaths, layers: Layers, settings: SliceSettings) -> list[str]:
    """A sentence for what is too thin to be printed; nothing may vanish silently."""
    lost = np.setdiff1d(np.arange(len(found.island_layer)), paths.island)
    if not len(lost):
        return []
    height = layers.planes[found.island_layer[lost[0]]]
    return [
        f"{len(lost)} pieces are thinner than {thinnest_wall(settings):g} mm and are not printed, "
        f"the first at a height of {height:.1f} mm."
    ]


def _shift(mesh: Mesh, machine: Machine) -> Floats:
    """From the coordinates of areas() to those of the bed: the part in its centre, on a whole number of um."""
    size = np.array(mesh.size_mm[:2])
    middle = np.array(machine.origin) + np.array(machine.size[:2]) / 2
    return np.round(middle - size / 2 - MARGIN, 3)


def _on_bed(paths: Toolpaths, mesh: Mesh, machine: Machine) -> Toolpaths:
    return replace(paths, points=paths.points + _shift(mesh, machine))


def _moved(found: Regions, mesh: Mesh, machine: Machine) -> Regions:
    return replace(found, outlines=replace(found.outlines, points=found.outlines.points + _shift(mesh, machine)))


def check_fits(paths: Toolpaths, layers: Layers, flow: Flow, machine: Machine) -> templates.Place:
    """Bounds of the print, lines at their full width. Raises SlicingError when they exceed the machine's."""
    low, high = paths.points.min(axis=0) - flow.width / 2, paths.points.max(axis=0) + flow.width / 2
    corner, size = np.array(machine.origin), np.array(machine.size[:2])
    top = float(layers.tops[-1])
    if (low < corner - 1e-3).any() or (high > corner + size + 1e-3).any() or top > machine.size[2] + 1e-3:
        needed = (*(high - low).tolist(), top)
        raise SlicingError(
            f"The print needs {_by(needed)} mm with its skirt, but the printer can only print {_by(machine.size)} mm. "
            "Make it smaller, turn it, or leave out the skirt."
        )
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    return templates.Place((x0, y0), (x1, y1), top, len(layers))


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that is known when the file is written."""

    paths: Toolpaths  # in order, on the bed
    found: Regions  # on the bed
    layers: Layers
    machine: Machine
    settings: SliceSettings
    place: templates.Place
    crew: int  # processes


def write(job: Job, out: Path, report: Progress) -> SliceResult:
    machine, settings = job.machine, job.settings
    start = templates.start_gcode(machine, settings, job.place)
    end = templates.end_gcode(machine, settings, job.place)
    before = replay.parse(start.encode(), relative_e=True)
    body = program(job.paths, job.found, job.layers, settings, before.end[:2], job.crew, _share(report, 0.0, 0.6))
    body, time = body.cooled(machine, settings)
    after = replay.parse(end.encode(), relative_e=True, begin=(*job.paths.points[-1].tolist(), job.place.top))
    time += before.seconds(machine) + after.seconds(machine)
    result = _result(job, body, before.filament_mm, time)
    headers = sorted(_layer_headers(body, job.layers, settings) + body.fan(settings), key=lambda header: header[0])
    text = encode(body.lines, headers, job.crew, _share(report, 0.6, 1.0))
    with out.open("wb") as file:
        file.write(header(result, settings, machine, f"planar {PlanarEngine.version}").encode())
        file.write(start.encode() + b"G90\nM83\n")
        file.writelines(text)
        file.write(end.encode())
    return result


def _result(job: Job, body: Program, primed: float, time: float) -> SliceResult:
    filament = body.filament_mm + primed
    volume = filament * filament_area(job.settings)
    points, tops = job.paths.points, job.layers.tops
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return SliceResult(
        time_s=time,
        filament_mm=filament,
        filament_g=volume / 1000 * job.settings.filament_density,
        layers=len(job.layers),
        bounds=((x0, y0, float(tops[0])), (x1, y1, float(tops[-1]))),
        facts={"filament_cm3": volume / 1000, "lines": len(body.lines)},
    )


def _layer_headers(body: Program, layers: Layers, settings: SliceSettings) -> list[tuple[int, bytes]]:
    headers, heating = [], templates.after_first_layer(settings)
    for k, row in enumerate(body.layer_starts.tolist()):
        text = f";LAYER_CHANGE\n;Z:{layers.tops[k]:.6g}\n;HEIGHT:{layers.heights[k]:.6g}\n"
        headers.append((row, text.encode() + (heating if k == 1 else b"")))
    return headers
