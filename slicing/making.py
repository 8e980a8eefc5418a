"""Make a G-code file from model files: read, slice with the profile's engine, check, put pictures and facts in.

Imports numpy when it works, not before: web processes import this too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings as django_settings
from django.utils import timezone

from slicing import presets
from slicing.engines import engine, version
from slicing.engines.base import SliceResult, SliceSettings, SlicingError
from slicing.engines.isolation import isolation
from slicing.engines.site import NAMES, Site, missing
from slicing.models import PrinterProfile
from slicing.stance import Stance

if TYPE_CHECKING:
    from slicing.mesh import Mesh

#: s; an external engine ends that much before the worker would be killed, so that its owner is told why
MARGIN_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One slice. ``models`` are paths and names (whose ending says the kind); ``copies`` of each are put side by
    side."""

    models: Sequence[tuple[Path, str]]
    profile: PrinterProfile
    settings: SliceSettings
    material: str
    out: Path
    picture: bytes | None = None  # PNG; None: drawn from the models
    copies: int = 1
    stance: Stance = Stance()


@dataclass(frozen=True, slots=True)
class Made:
    result: SliceResult
    picture: bytes  # PNG


def site() -> Site:
    """Where the engines are on this machine, and how much they may use."""
    return Site(
        programs={"prusaslicer": django_settings.FARM_PRUSASLICER, "cura": django_settings.FARM_CURAENGINE},
        cura_definitions=django_settings.FARM_CURA_DEFINITIONS,
        data=django_settings.DATA_DIR,
        memory=django_settings.FARM_SLICE_MEMORY,
        seconds=max(5.0, django_settings.FARM_SLICE_TIMEOUT - MARGIN_S),
    )


def engines() -> list[dict[str, str]]:
    """Every engine, its version here, why it is missing, how it is cut off. For people who look after the farm."""
    here = site()
    return [
        {
            "name": name,
            "title": title,
            "version": version(name, here),
            "missing": missing(name, here),
            "isolation": "" if name == "planar" else isolation().sentence,
        }
        for name, title in NAMES.items()
    ]


def make(work: Work, progress: Callable[[float], None]) -> Made:
    """Raises SlicingError with a sentence for the owner, and whatever ``progress`` raises."""
    from slicing.engines.replay import check

    slicer = engine(work.profile.engine, site())
    machine = work.profile.machine
    mesh = _mesh(work)
    result = slicer.slice(mesh, machine, work.settings, work.out, progress)
    check(work.out, machine, work.settings, result)
    return Made(result, _finish(work, mesh, result))


def _mesh(work: Work) -> Mesh:
    """What is printed, as one mesh."""
    from slicing.mesh import Limits, MeshError, read_mesh
    from slicing.placement import DoesNotFit, Placement, on_one_bed, placed

    limits = Limits(max_triangles=django_settings.FARM_MAX_TRIANGLES)
    try:
        meshes = [read_mesh(path, name, limits) for path, name in work.models]
        if not work.stance.as_it_is:
            stand = Placement(scale=work.stance.scale, rotation=work.stance.rotation)
            meshes = [placed(mesh, stand) for mesh in meshes]
        if len(meshes) * work.copies == 1:
            return meshes[0]
        return on_one_bed([(mesh, work.copies) for mesh in meshes], _room(work))
    except (MeshError, DoesNotFit) as error:
        raise SlicingError(str(error)) from error


def _room(work: Work) -> tuple[float, float]:
    """mm of the bed that a skirt or a brim around everything leaves."""
    settings, (x, y, _) = work.settings, work.profile.machine.size
    width = settings.line_width or presets.LINE_OVER_NOZZLE * settings.nozzle_diameter
    skirt = settings.skirt_distance + settings.skirt_loops * width if settings.skirt_loops else 0.0
    edge = (settings.brim_width or skirt) + width
    return x - 2 * edge, y - 2 * edge


def _finish(work: Work, mesh: Mesh, result: SliceResult) -> bytes:
    """Put who made it, pictures and facts into the file. Returns the picture."""
    from slicing.finishing import Finish, finish
    from slicing.pictures import png, render

    picture = work.picture or png(render(mesh.triangles))
    finish(
        work.out,
        Finish(
            result=result,
            settings=work.settings,
            machine=work.profile.machine,
            version=django_settings.VERSION,
            when=timezone.now(),
            material=work.material,
            picture=picture,
        ),
    )
    return picture
