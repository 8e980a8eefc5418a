"""A shaded picture of a model, drawn by numpy: triangles to pixels, pixels to light. Pure: arrays in, PNG out.

Every triangle is cut into rows of pixels and every row into pixels, all triangles at once; a pixel keeps what is
nearest to the eye. The picture is drawn twice as large as it will be, which makes its edges smooth.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from slicing.headers import thumbnail_block

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Reals = NDArray[np.floating]

SIZE = 512  # of the picture that is kept of a model
FINER = 2
MARGIN = 0.07  # of the picture, on each side
DISTANCE = 5.0  # of the eye from the model's middle, in radii of the model
AT_ONCE = 1 << 21  # pixels of triangles that are worked on at once
MOST_PIXELS = 1 << 26  # in all; a model that covers more is drawn as far as that goes
MOST_IMAGE = 1 << 22  # pixels of a stranger's picture

COLOUR = np.array([0.25, 0.52, 0.78])
SKY, GROUND = np.array([0.62, 0.66, 0.72]), np.array([0.30, 0.27, 0.25])
#: where light comes from, as seen by the eye (right, up, towards it), and how strong
LIGHTS = ((np.array([-0.55, 0.62, 0.56]), 0.70), (np.array([0.80, 0.10, 0.45]), 0.25))
SHADOW = 0.38  # how dark it is below the model

#: pictures in our G-code: OctoPrint's and Moonraker's front ends show the large ones, displays of printers the small
THUMBNAILS = ((16, 16), (32, 32), (220, 124), (300, 300))


@dataclass(frozen=True, slots=True)
class Camera:
    """From a model's coordinates to pixels. ``axes`` (3, 3): right, up, towards the eye."""

    axes: Floats
    middle: Floats
    distance: float
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def project(self, points: Singles) -> Singles:
        """(..., 3): x to the right, y down, both in pixels, and nearness: linear on the picture, as z is not."""
        out = (points - self.middle.astype(np.float32)) @ self.axes.T.astype(np.float32)
        near = 1.0 / (np.float32(self.distance) - out[..., 2])
        out[..., 0] = out[..., 0] * (near * np.float32(self.scale)) + np.float32(self.shift[0])
        out[..., 1] = out[..., 1] * (near * np.float32(-self.scale)) + np.float32(self.shift[1])
        out[..., 2] = near * np.float32(self.distance)
        return out


def camera(size_mm: Floats) -> Camera:
    """On a model that begins at the origin, from the front right and above: the flatter it is, the higher, so that a
    plate shows its face."""
    x, y, z = np.maximum(size_mm, 1e-6).tolist()
    flat = math.atan2(math.hypot(x, y), z) / (math.pi / 2)  # 0 for a tower, 1 for a sheet
    elevation, azimuth = math.radians(18 + 32 * flat**2), math.radians(32)
    sine, cosine = math.sin(azimuth), math.cos(azimuth)
    towards = np.array([math.cos(elevation) * sine, -math.cos(elevation) * cosine, math.sin(elevation)])
    right = np.array([cosine, sine, 0.0])
    axes = np.stack([right, np.cross(towards, right), towards])
    return Camera(axes, size_mm / 2, DISTANCE * max(float(np.linalg.norm(size_mm)) / 2, 1e-6))


def framed(view: Camera, corners: Singles, size: tuple[int, int]) -> Camera:
    """The same view, so that what it projected to ``corners`` fills a picture of ``size``."""
    edges = np.array([(part.min(), part.max()) for part in (corners[..., 0], corners[..., 1])], np.float64)
    room = np.array(size) * (1 - 2 * MARGIN)
    scale = float((room / np.maximum(edges[:, 1] - edges[:, 0], 1e-9)).min())
    shift = np.array(size) / 2 - edges.mean(axis=1) * scale
    return replace(view, scale=scale, shift=(float(shift[0]), float(shift[1])))


# -- triangles to pixels
@dataclass(frozen=True, slots=True)
class Fragments:
    """Pixels of triangles, many for one place: ``pixel`` (row * width + column), nearness, and whose it is."""

    pixel: Ints
    near: Singles
    triangle: Ints


def fragments(corners: Singles, width: int, height: int) -> Iterator[Fragments]:
    """Of triangles (n, 3, 3) as a camera projects them: those pixels whose middle they cover."""
    kept = _visible(corners, width, height)
    order = np.argsort(corners[kept, :, 1], axis=1)
    tri = np.take_along_axis(corners[kept], order[..., None], axis=1)  # corners from top to bottom
    top = np.maximum(np.ceil(tri[:, 0, 1] - 0.5), 0).astype(np.int64)
    count = np.minimum(np.floor(tri[:, 2, 1] - 0.5), height - 1).astype(np.int64) - top + 1
    slopes = _slopes(tri)
    near_low, near_high = _extremes(tri, 2)  # triangles seen edge on have slopes without end
    left, right = _extremes(tri, 0)
    total = 0
    for part in _batches(count * np.maximum(right - left, 1.0)):
        owner, nth = _spread(count[part])
        owner += part.start
        row = top[owner] + nth
        first, last = _span(tri, owner, row + 0.5, width)
        pixel_owner, column = _spread(np.maximum(last - first + 1, 0))
        x, y = first[pixel_owner] + column, row[pixel_owner]
        which = owner[pixel_owner]
        total += len(x)
        near = _nearness(tri, slopes, which, x + 0.5, y + 0.5)
        yield Fragments(y * width + x, np.clip(near, near_low[which], near_high[which]), kept[which])
        if total > MOST_PIXELS:
            return


def _visible(corners: Singles, width: int, height: int) -> Ints:
    """Triangles that may cover the middle of a pixel: of a fine model most do not."""
    kept = np.ones(len(corners), bool)
    for axis, size in ((0, width), (1, height)):
        low, high = _extremes(corners, axis)
        kept &= (np.ceil(low - 0.5) <= np.floor(high - 0.5)) & (high > 0) & (low < size)
    return np.flatnonzero(kept)


def _extremes(corners: Singles, axis: int) -> tuple[Singles, Singles]:
    """Of each triangle; column by column, because reducing rows of three is ten times slower."""
    a, b, c = (np.ascontiguousarray(corners[:, k, axis]) for k in range(3))
    return np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)


def _batches(cost: NDArray[np.floating]) -> Iterator[slice]:
    """Triangles of about AT_ONCE pixels together."""
    if not len(cost):
        return
    batch = (np.cumsum(cost) // AT_ONCE).astype(np.int64)
    cuts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(cost)]
    yield from (slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True))


def _spread(count: Ints) -> tuple[Ints, Ints]:
    """[2, 3] -> ([0, 0, 1, 1, 1], [0, 1, 0, 1, 2])."""
    owner = np.repeat(np.arange(len(count)), count)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)


def _span(tri: Singles, owner: Ints, y: Reals, width: int) -> tuple[Ints, Ints]:
    """First and last column that a triangle covers in a row."""
    a, b, c = (tri[owner, k] for k in range(3))
    upper = y < b[:, 1]
    begin, end = np.where(upper[:, None], a, b), np.where(upper[:, None], b, c)
    one, other = _crossing(a, c, y), _crossing(begin, end, y)
    low, high = np.minimum(one, other), np.maximum(one, other)
    first = np.maximum(np.ceil(low - 0.5), 0).astype(np.int64)
    return first, np.minimum(np.floor(high - 0.5), width - 1).astype(np.int64)


def _crossing(a: Singles, b: Singles, y: Reals) -> Reals:
    """Where an edge crosses a row."""
    rise = b[:, 1] - a[:, 1]
    share = np.clip((y - a[:, 1]) / np.where(rise == 0, 1, rise), 0.0, 1.0)
    return a[:, 0] + share * (b[:, 0] - a[:, 0])


def _slopes(tri: Singles) -> Singles:
    """(n, 2) how nearness changes by a pixel to the right and one down."""
    u, v = (tri[:, 1] - tri[:, 0]).astype(np.float64), (tri[:, 2] - tri[:, 0]).astype(np.float64)
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    area = np.where(np.abs(area) < 1e-9, np.inf, area)
    across = (u[:, 2] * v[:, 1] - v[:, 2] * u[:, 1]) / area
    down = (u[:, 0] * v[:, 2] - v[:, 0] * u[:, 2]) / area
    return np.stack([across, down], axis=1).astype(np.float32)


def _nearness(tri: Singles, slopes: Singles, which: Ints, x: Reals, y: Reals) -> Singles:
    at = tri[which, 0]
    slope = slopes[which]
    return (at[:, 2] + slope[:, 0] * (x - at[:, 0]) + slope[:, 1] * (y - at[:, 1])).astype(np.float32)


def nearest(corners: Singles, width: int, height: int) -> tuple[Ints, Singles]:
    """((h, w) which triangle is seen, -1 for none; (h, w) nearness, 0 for none)."""
    best = np.zeros(width * height, np.int64)
    for part in fragments(corners, width, height):
        # a positive float's bits sort as it does, so one maximum finds both how near and who
        key = (part.near.view(np.int32).astype(np.int64) << 32) | (part.triangle + 1)
        np.maximum.at(best, part.pixel, key)
    seen = (best & 0xFFFFFFFF) - 1
    near = (best >> 32).astype(np.int32).view(np.float32)
    return seen.reshape(height, width), near.reshape(height, width)


def covered(corners: Singles, width: int, height: int) -> NDArray[np.bool_]:
    """(h, w): pixels that any triangle covers."""
    mask = np.zeros(width * height, bool)
    for part in fragments(corners, width, height):
        mask[part.pixel] = True
    return mask.reshape(height, width)


# -- pixels to light
def render(triangles: Floats, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """A picture of a model of (n, 3, 3) corners in mm, on nothing: it fits on dark and on light pages."""
    width, height = size[0] * FINER, size[1] * FINER
    low = np.array([triangles[..., axis].min() for axis in range(3)])
    place = (triangles - low).astype(np.float32)  # near zero, where single precision is fine
    view = camera(np.array([place[..., axis].max() for axis in range(3)], np.float64))
    corners = view.project(place)
    view = framed(view, corners, (width, height))
    corners[..., :2] = corners[..., :2] * np.float32(view.scale) + np.array(view.shift, np.float32)
    seen, near = nearest(corners, width, height)
    there = seen >= 0
    out = np.zeros((height, width, 4), np.uint8)
    out[..., 3] = _ground_shadow(place, view, width, height)
    colour = _lit(*_normals(place, seen[there], view)) * _creases(near, there)[there][:, None]
    out[there, :3] = np.clip(colour * 255, 0, 255)
    out[there, 3] = 255
    return Image.fromarray(out, "RGBA").resize(size, Image.Resampling.BOX)


def _normals(place: Singles, seen: Ints, view: Camera) -> tuple[Floats, Ints]:
    """((k, 3) of the triangles that are seen, as the eye sees them: right, up, towards it; which of them each pixel
    shows). Facets that face away are turned: files are often wrong."""
    mine = np.zeros(len(place), bool)
    mine[seen] = True
    used = np.flatnonzero(mine)
    back = np.cumsum(mine)[seen] - 1
    tri = place[used].astype(np.float64)
    normal = np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1), 1e-12)[:, None]
    eye = view.middle + view.axes[2] * view.distance
    away = np.einsum("ij,ij->i", normal, eye - tri.mean(axis=1)) < 0
    normal[away] *= -1
    return normal @ view.axes.T, back


def _lit(normal: Floats, which: Ints) -> Singles:
    """(n, 3) colour: a sky that is lighter above, two lamps, and a little gloss of the first."""
    up = normal[:, 1] * 0.5 + 0.5
    light = GROUND + (SKY - GROUND) * up[:, None]
    for direction, strength in LIGHTS:
        light = light + strength * np.maximum(normal @ (direction / np.linalg.norm(direction)), 0.0)[:, None]
    half = LIGHTS[0][0] / np.linalg.norm(LIGHTS[0][0]) + np.array([0.0, 0.0, 1.0])
    gloss = np.maximum(normal @ (half / np.linalg.norm(half)), 0.0) ** 40
    shaded = (COLOUR * light + 0.12 * gloss[:, None]).astype(np.float32)
    return shaded[which]


def _creases(near: Singles, there: NDArray[np.bool_]) -> Singles:
    """(h, w) factor: darker where the surface lies behind what is around it. After T. Luft, C. Colditz, O. Deussen,
    "Image enhancement by unsharp masking the depth buffer" (2006)."""
    factor = np.ones(near.shape, np.float32)
    if not there.any():
        return factor
    seen = near[there]
    span = max(float(seen.max() - seen.min()), 1e-6)
    depth = np.where(there, (near - seen.min()) / np.float32(span), np.float32(0))
    for radius, strength in ((1, 1.1), (8, 0.9)):
        weight = np.maximum(_blurred(there.astype(np.float32), radius), np.float32(1e-3))
        behind = _blurred(depth, radius) / weight - depth
        factor -= np.float32(strength) * np.clip(behind, 0.0, 0.22)
    return np.clip(factor, 0.35, 1.0)


def _blurred(values: Singles, radius: int) -> Singles:
    """By boxes, twice: nearly a Gaussian."""
    for axis in (0, 1, 0, 1):
        values = _boxed(values, radius, axis)
    return values


def _boxed(values: Singles, radius: int, axis: int) -> Singles:
    """Mean of 2 radius + 1 neighbours along an axis."""
    padded = np.pad(values, [(radius + 1, radius) if k == axis else (0, 0) for k in range(2)], mode="edge")
    running = np.cumsum(padded, axis=axis)
    high, low = (running[2 * radius + 1 :], running[: -2 * radius - 1])
    if axis == 1:
        high, low = running[:, 2 * radius + 1 :], running[:, : -2 * radius - 1]
    return (high - low) / np.float32(2 * radius + 1)


def _ground_shadow(place: Singles, view: Camera, width: int, height: int) -> NDArray[np.uint8]:
    """(h, w) darkness of the ground, 0-255: what lies between it and the first lamp, softly, and gone at the edges."""
    coarse = 4
    towards = view.axes.T @ LIGHTS[0][0]
    fallen = place.copy()
    fallen[..., :2] -= place[..., 2:] * (0.35 * towards[:2] / max(towards[2], 0.5)).astype(np.float32)
    fallen[..., 2] = 0.0
    corners = view.project(fallen)
    corners[..., :2] /= coarse
    mask = covered(corners, width // coarse, height // coarse)
    image = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(width / coarse / 45))
    fade = np.minimum.outer(_rise(image.height), _rise(image.width))
    faded = Image.fromarray((np.asarray(image) * (SHADOW * fade)).astype(np.uint8))
    return np.asarray(faded.resize((width, height), Image.Resampling.BILINEAR))


def _rise(count: int) -> Singles:
    """0 at both ends, 1 from an eighth on."""
    at = np.arange(count, dtype=np.float32) + 0.5
    share = np.clip(np.minimum(at, count - at) / (count / 8), 0.0, 1.0)
    return share * share * (3 - 2 * share)


# -- files
def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def redrawn(data: bytes) -> bytes:
    """A stranger's picture as a PNG of ours, at most SIZE large. Raises ValueError for what is none."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "QOI"]) as opened:
            if opened.width * opened.height > MOST_IMAGE:
                raise ValueError("The picture is too large.")
            image = opened.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("This is not a picture.") from error
    image.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    return png(image)


def fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """The picture within a frame of another shape, on nothing."""
    small = image.copy()
    small.thumbnail((width, height), Image.Resampling.LANCZOS)
    frame = Image.new("RGBA", (width, height))
    frame.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    return frame


def thumbnail_blocks(picture: bytes) -> bytes:
    """Comments for the head of a G-code file: ``picture`` (a PNG) in all sizes that are shown somewhere."""
    with Image.open(io.BytesIO(picture), formats=["PNG"]) as opened:
        image = opened.convert("RGBA")
    return b"".join(thumbnail_block(w, h, png(fitted(image, w, h))) for w, h in THUMBNAILS)
