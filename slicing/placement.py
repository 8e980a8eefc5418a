"""Where models stand: turned, scaled, and several of them side by side on one bed. Pure.

Lengths in mm, angles in degrees. A rotation is three angles about the fixed axes x, y and z, carried out in that order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from slicing.mesh import Floats, Mesh

Angles = tuple[float, float, float]
UPRIGHT: Angles = (0.0, 0.0, 0.0)

GAP = 5.0  # mm between parts
CONTACT = 0.05  # mm above the lowest point that still touch the bed
STEEP = math.cos(math.radians(50))  # facets that face further down than this need supports
ALIKE = 2  # decimals of a unit normal by which facets count as one side
SIDES = 24  # of a model that are tried
FALLS = 3.0  # surfaces of the part that standing askew costs
TALL = 0.05  # share of the surface that each height as long as the part is wide costs
WORTH = 0.02  # share of the surface by which a suggestion must be better than what is there
MOST_FACETS = 300_000  # looked at; of larger models every second, third ...


class DoesNotFit(Exception):
    """These parts do not go onto the bed together; the message is one sentence for their owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How one model is to stand."""

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)  # along its own axes, before it is turned
    rotation: Angles = UPRIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A way to put a model down, and what it means for the print."""

    rotation: Angles
    contact_mm2: float  # that touch the bed
    overhang_mm2: float  # that need supports
    height_mm: float


def matrix(rotation: Angles) -> Floats:
    """(3, 3); points are rows and are multiplied from the left. Exact for right angles."""
    (cx, sx), (cy, sy), (cz, sz) = map(_cos_sin, rotation)
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1.0]])
    turned: Floats = about_x @ about_y @ about_z
    return turned


def _cos_sin(degrees: float) -> tuple[float, float]:
    quarter = round(degrees / 90)
    if degrees == 90 * quarter:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[quarter % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def placed(mesh: Mesh, placement: Placement) -> Mesh:
    """The model scaled, turned and put down on z = 0. A mirror image (a negative scale) keeps its facets outwards."""
    scale = np.array(placement.scale)
    if not np.isfinite(scale).all() or not scale.all():
        raise ValueError("a scale must be a number other than 0")
    # corner by corner as products of columns: equal corners stay equal to the last bit
    turn = scale[:, None] * matrix(placement.rotation)
    columns = [mesh.triangles[..., k] for k in range(3)]
    triangles = np.stack([sum(columns[k] * turn[k, j] for k in range(3)) for j in range(3)], axis=-1)
    if np.prod(scale) < 0:
        triangles = triangles[:, ::-1]
    triangles[..., 2] -= triangles[..., 2].min()
    return Mesh(triangles, mesh.name)


# --- which side down -------------------------------------------------------------------------------------------------


def stands(mesh: Mesh) -> list[Stand]:
    """Ways to put the model down on one of its larger flat sides, best first; as it is comes first unless another is
    clearly better. Judged by what needs supports, what touches the bed, the height, and whether it would fall over.
    """
    every = -(-len(mesh.triangles) // MOST_FACETS)
    triangles = mesh.triangles[::every] - mesh.bounds.mean(axis=0)
    if mesh.signed_volume_mm3 < 0:
        triangles = triangles[:, ::-1]
    normals, areas = _facets(triangles)
    total = float(areas.sum())
    judged = {}
    for rotation in dict.fromkeys([UPRIGHT, *map(_down, _sides(normals, areas))]):
        stand, falls = _stand(triangles, normals, areas, rotation)
        width = math.sqrt(total / 6)
        cost = stand.overhang_mm2 - stand.contact_mm2 + TALL * total * stand.height_mm / width + falls * FALLS * total
        judged[stand] = cost - (WORTH * total if rotation == UPRIGHT else 0.0)
    return sorted(judged, key=judged.__getitem__)


def _facets(triangles: Floats) -> tuple[Floats, Floats]:
    """(unit normals, areas)."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(length, 1e-12)[:, None], length / 2


def _sides(normals: Floats, areas: Floats) -> list[Floats]:
    """Directions that much of the surface faces, the most of it first."""
    _, which = np.unique(np.round(normals, ALIKE), axis=0, return_inverse=True)
    which = which.ravel()
    share = np.bincount(which, areas)
    mean = np.stack([np.bincount(which, normals[:, k] * areas) for k in range(3)], axis=1)
    best = np.argsort(-share, kind="stable")[:SIDES]
    best = best[share[best] > 0]
    return list(mean[best] / np.maximum(np.linalg.norm(mean[best], axis=1), 1e-12)[:, None])


def _down(normal: Floats) -> Angles:
    """The rotation that makes a side face the bed: about x until its normal has no y, then about y."""
    x, y, z = (0.0 if abs(v) < 1e-9 else v for v in normal.tolist())
    about_x = math.degrees(math.atan2(y, z)) + 180 if y or z else 0.0
    about_y = math.degrees(math.atan2(x, math.hypot(y, z)))
    return (round((about_x + 180) % 360 - 180, 6) + 0.0, round(about_y, 6) + 0.0, 0.0)


def _stand(triangles: Floats, normals: Floats, areas: Floats, rotation: Angles) -> tuple[Stand, bool]:
    """The facts, and whether the centre of mass lies beside what it stands on."""
    turn = matrix(rotation)
    z = triangles @ turn[:, 2]
    low, high = float(z.min()), float(z.max())
    facing = normals @ turn[:, 2]
    touching = (z.max(axis=1) <= low + CONTACT) & (facing < -0.99)
    hanging = (facing < -STEEP) & ~touching
    stand = Stand(
        rotation=rotation,
        contact_mm2=float(areas[touching].sum()),
        overhang_mm2=float((areas * -facing)[hanging].sum()),
        height_mm=high - low,
    )
    feet = (triangles[z <= low + CONTACT] @ turn)[:, :2]
    centre = (triangles.mean(axis=1) * areas[:, None]).sum(axis=0) / areas.sum() @ turn
    base = shapely.convex_hull(shapely.MultiPoint(feet))
    return stand, not shapely.contains_xy(base, centre[0], centre[1])


# --- side by side ----------------------------------------------------------------------------------------------------


def on_one_bed(parts: Sequence[tuple[Mesh, int]], bed: tuple[float, float], gap: float = GAP) -> Mesh:
    """(mesh, copies) put side by side on a bed of (x, y) mm, as one mesh. Raises DoesNotFit."""
    copies = [mesh for mesh, count in parts for _ in range(count)]
    corners = arranged([mesh.size_mm[:2] for mesh in copies], bed, gap)
    moved = []
    for mesh, (x, y, turned) in zip(copies, corners, strict=True):
        stood = placed(mesh, Placement(rotation=(0.0, 0.0, 90.0 if turned else 0.0)))
        triangles = stood.triangles[:, ::-1] if stood.signed_volume_mm3 < 0 else stood.triangles
        moved.append(triangles + np.array([x, y, 0.0]) - [*stood.bounds[0, :2], 0.0])
    return Mesh(np.concatenate(moved), parts[0][0].name)


def arranged(
    sizes: Sequence[tuple[float, ...]], bed: tuple[float, float], gap: float = GAP
) -> list[tuple[float, float, bool]]:
    """(x, y, turned by 90 degrees) of the lower left corner of rectangles of the given (x, y) mm.

    Rows are filled from the deepest part on; of several widths the one that keeps all of it most compact is taken.
    Raises DoesNotFit.
    """
    turned = [x < y for x, y in sizes]  # lying, so that rows are flat
    best: tuple[float, list[tuple[float, float, bool]]] | None = None
    for lying in (turned, [not t for t in turned], [False] * len(turned)):
        flat = [(y, x) if t else (x, y) for (x, y), t in zip(sizes, lying, strict=True)]
        for width in _widths(flat, bed[0], gap):
            places, used = _rows(flat, width, gap)
            if used[0] <= bed[0] + 1e-9 and used[1] <= bed[1] + 1e-9:
                cost = max(used[0] / bed[0], used[1] / bed[1])
                if best is None or cost < best[0] - 1e-9:
                    best = cost, [(x, y, t) for (x, y), t in zip(places, lying, strict=True)]
    if best is None:
        raise DoesNotFit(f"These {len(sizes)} parts do not fit on the bed of {bed[0]:g} x {bed[1]:g} mm together.")
    return best[1]


def _widths(sizes: list[tuple[float, float]], most: float, gap: float) -> list[float]:
    least = max(x for x, _ in sizes)
    area = sum((x + gap) * (y + gap) for x, y in sizes)
    square = math.sqrt(area)
    return [w for w in (square, 1.15 * square, 1.3 * square, 0.5 * (square + most), most) if least <= w <= most] or [
        most
    ]


def _rows(
    sizes: list[tuple[float, float]], width: float, gap: float
) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Lower left corners, and how much is used."""
    places: list[tuple[float, float]] = [(0.0, 0.0)] * len(sizes)
    x = y = depth = wide = 0.0
    for k in sorted(range(len(sizes)), key=lambda k: (-sizes[k][1], -sizes[k][0], k)):
        across, deep = sizes[k]
        if x > 0 and x + across > width + 1e-9:
            x, y, depth = 0.0, y + depth + gap, 0.0
        places[k] = (x, y)
        wide, depth = max(wide, x + across), max(depth, deep)
        x += across + gap
    return places, (wide, y + depth)
