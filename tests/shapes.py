"""Models made by arithmetic, from 12 triangles to a million, and ways to damage them.

Every shape is (n, 3, 3) float64 corners in mm with facets facing outwards, standing on z = 0.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from slicing.mesh import Mesh

Triangles = NDArray[np.float64]
Outline = Sequence[tuple[float, float]] | NDArray[np.float64]


def mesh(*parts: Triangles, name: str = "shape.stl") -> Mesh:
    return Mesh(np.concatenate(parts), name)


def stl(part: Triangles) -> bytes:
    """Binary, as the format says: the farm's own reader and writer are tried with it."""
    facets = b"".join(struct.pack("<12fH", 0, 0, 0, *corners.ravel(), 0) for corners in part)
    return b"\0" * 80 + struct.pack("<I", len(part)) + facets


def stl_file(part: Triangles, path: Path) -> Path:
    path.write_bytes(stl(part))
    return path


def moved(part: Triangles, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Triangles:
    return part + np.array([x, y, z])


def turned(part: Triangles, degrees: float) -> Triangles:
    """About the vertical axis through the origin; column by column, so that equal corners stay equal."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = part[..., 0], part[..., 1]
    return np.stack([c * x - s * y, s * x + c * y, part[..., 2]], axis=-1)


def box(x: float, y: float, z: float) -> Triangles:
    """Centred in x and y: 12 triangles."""
    return prism([(-x / 2, -y / 2), (x / 2, -y / 2), (x / 2, y / 2), (-x / 2, y / 2)], z)


def circle(radius: float, sides: int = 64) -> NDArray[np.float64]:
    t = np.arange(sides) * (2 * math.pi / sides)
    return radius * np.stack([np.cos(t), np.sin(t)], axis=1)


def prism(outline: Outline, height: float, holes: Sequence[Outline] = (), top_scale: float = 1.0) -> Triangles:
    """A polygon with holes, pulled up; the top may be scaled (about the origin)."""
    polygon = shapely.Polygon(outline, holes)
    polygon = shapely.orient_polygons(polygon)
    triangles = shapely.constrained_delaunay_triangles(polygon)
    flat = np.array([shapely.get_coordinates(shapely.orient_polygons(t))[:3] for t in triangles.geoms])
    low = np.concatenate([flat, np.zeros((len(flat), 3, 1))], axis=2)[:, ::-1]
    high = np.concatenate([flat * top_scale, np.full((len(flat), 3, 1), height)], axis=2)
    walls = [_wall(np.array(r.coords), height, top_scale) for r in (polygon.exterior, *polygon.interiors)]
    return np.concatenate([low, high, *walls])


def _wall(ring: NDArray[np.float64], height: float, top_scale: float) -> Triangles:
    a, b = ring[:-1], ring[1:]
    low, high = np.zeros((len(a), 1)), np.full((len(a), 1), height)
    al, bl = np.hstack([a, low]), np.hstack([b, low])
    ah, bh = np.hstack([a * top_scale, high]), np.hstack([b * top_scale, high])
    return np.concatenate([np.stack([al, bl, bh], axis=1), np.stack([al, bh, ah], axis=1)])


def cylinder(radius: float, height: float, sides: int = 64) -> Triangles:
    return prism(circle(radius, sides), height)


def cone(radius: float, top_radius: float, height: float, sides: int = 64) -> Triangles:
    return prism(circle(radius, sides), height, top_scale=top_radius / radius)


def ring(outer: float, inner: float, height: float, sides: int = 64) -> Triangles:
    return prism(circle(outer, sides), height, [circle(inner, sides)])


def frame(size: float, wall: float, height: float) -> Triangles:
    """A square tube."""
    a, b = size / 2, size / 2 - wall
    return prism([(-a, -a), (a, -a), (a, a), (-a, a)], height, [[(-b, -b), (b, -b), (b, b), (-b, b)]])


def comb(teeth: int, tooth: float, gap: float, length: float, height: float) -> Triangles:
    """Teeth on a back of 3 mm."""
    points: list[tuple[float, float]] = []
    for k in range(teeth):
        x = k * (tooth + gap)
        points += [(x, 0), (x, -length), (x + tooth, -length), (x + tooth, 0)]
    return prism([*points, (points[-1][0], 3), (0, 3)], height)


def gear(teeth: int, radius: float, height: float, bore: float = 3.0) -> Triangles:
    t = np.arange(4 * teeth) * (2 * math.pi / (4 * teeth))
    r = np.where(np.arange(4 * teeth) % 4 < 2, radius, radius * 0.85)
    return prism(np.stack([r * np.cos(t), r * np.sin(t)], axis=1), height, [circle(bore, 32)])


def plate(x: float, y: float, z: float, columns: int, rows: int, radius: float, sides: int = 16) -> Triangles:
    """A plate with columns x rows round holes."""
    hole = circle(radius, sides)
    dx, dy = x / columns, y / rows
    holes = [hole + ((i + 0.5) * dx - x / 2, (j + 0.5) * dy - y / 2) for i in range(columns) for j in range(rows)]
    return prism([(-x / 2, -y / 2), (x / 2, -y / 2), (x / 2, y / 2), (-x / 2, y / 2)], z, holes)


def sphere(radius: float, rings: int = 32, sides: int = 64) -> Triangles:
    """Standing on its south pole."""
    lat = np.linspace(-math.pi / 2, math.pi / 2, rings + 1)
    lon = np.arange(sides) * (2 * math.pi / sides)
    grid = np.stack(
        [
            radius * np.cos(lat)[:, None] * np.cos(lon),
            radius * np.cos(lat)[:, None] * np.sin(lon),
            np.broadcast_to(radius * (1 + np.sin(lat))[:, None], (rings + 1, sides)),
        ],
        axis=-1,
    )
    grid[0], grid[-1] = (0, 0, 0), (0, 0, 2 * radius)
    return _skin(grid)


def _skin(grid: NDArray[np.float64]) -> Triangles:
    """Quads between rows of a grid that closes around its second axis; without degenerate triangles."""
    a, b = grid[:-1], np.roll(grid, -1, axis=1)[:-1]
    c, d = np.roll(grid, -1, axis=1)[1:], grid[1:]
    faces = np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3, 3)
    solid = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0]).any(axis=1)
    return faces[solid]


def terrain(cells: int, size: float = 80.0, low: float = 3.0, high: float = 15.0, seed: int = 1) -> Triangles:
    """Rolling hills on a square base: 4 x cells^2 + 8 x cells triangles (500 cells: a million)."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(0, 1, cells + 1)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    z = np.zeros_like(x)
    for octave in range(1, 7):
        kx, ky = rng.uniform(-1, 1, 2) * 2**octave
        z += np.sin(2 * math.pi * (kx * x + ky * y) + rng.uniform(0, 6)) / 1.7**octave
    z = low + (high - low) * (z - z.min()) / (z.max() - z.min())
    top = np.stack([x * size, y * size, z], axis=-1)
    bottom = top * np.array([1.0, 1.0, 0.0])
    around = np.index_exp[:, 0], np.index_exp[-1, :], np.index_exp[::-1, -1], np.index_exp[0, ::-1]
    sides = [_strip(top[edge], bottom[edge]) for edge in around]
    return np.concatenate([_sheet(top), _sheet(bottom)[:, ::-1], *sides])


def _sheet(grid: NDArray[np.float64]) -> Triangles:
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    return np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3, 3)


def _strip(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> Triangles:
    a, b, c, d = bottom[:-1], bottom[1:], top[1:], top[:-1]
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


def bumpy_sphere(radius: float, rings: int, sides: int, depth: float = 0.05, seed: int = 1) -> Triangles:
    """A sphere with relief, cut flat at the bottom: what scanned busts cost, with 2 x rings x sides triangles."""
    rng = np.random.default_rng(seed)
    lat = np.linspace(-1.2, math.pi / 2, rings + 1)[:, None]
    lon = (np.arange(sides) * (2 * math.pi / sides))[None]
    relief = np.zeros((rings + 1, sides))
    for octave in range(2, 8):
        k, m = int(rng.integers(1, 2**octave)), rng.uniform(-1, 1) * 2**octave
        relief += np.sin(k * lon + m * lat + rng.uniform(0, 6)) * np.cos(lat) / 1.5**octave
    r = radius * (1 + depth * relief)
    grid = np.stack([r * np.cos(lat) * np.cos(lon), r * np.cos(lat) * np.sin(lon), r * np.sin(lat)], axis=-1)
    grid[-1] = grid[-1].mean(axis=0)
    floor = np.stack([grid[0], np.broadcast_to(grid[0].mean(axis=0), grid[0].shape)])
    low = grid[0, :, 2].min()
    grid[0, :, 2] = low
    floor[:, :, 2] = low
    body = np.concatenate([_skin(grid), _skin(floor[::-1])])
    return moved(body, z=-low)


# --- damage ----------------------------------------------------------------------------------------------------------


def with_holes(part: Triangles, count: int, seed: int = 1) -> Triangles:
    """Without ``count`` facets, chosen at random."""
    keep = np.ones(len(part), bool)
    keep[np.random.default_rng(seed).choice(len(part), count, replace=False)] = False
    return part[keep]


def with_flips(part: Triangles, share: float, seed: int = 1) -> Triangles:
    flip = np.random.default_rng(seed).random(len(part)) < share
    out = part.copy()
    out[flip] = out[flip][:, ::-1]
    return out


def inside_out(part: Triangles) -> Triangles:
    return part[:, ::-1].copy()


def with_duplicates(part: Triangles, share: float, seed: int = 1) -> Triangles:
    twice = np.random.default_rng(seed).random(len(part)) < share
    return np.concatenate([part, part[twice]])


def with_cracks(part: Triangles, width: float, seed: int = 1) -> Triangles:
    """Every corner of every facet moved a little on its own: no two facets meet any more."""
    return part + np.random.default_rng(seed).uniform(-width / 2, width / 2, part.shape)


def soup(count: int, size: float = 25.0, seed: int = 1) -> Triangles:
    """Triangles that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, size, (count, 1, 3)) + rng.uniform(-3, 3, (count, 3, 3)) + np.array([3.0, 3.0, 3.0])
