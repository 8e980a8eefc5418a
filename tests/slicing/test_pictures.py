"""Pictures of models: they show the part, whatever it is, on nothing."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from slicing import mesh as meshes
from slicing import pictures
from slicing.headers import thumbnails
from slicing.mesh import write_stl
from slicing.pictures import (
    THUMBNAILS,
    camera,
    covered,
    fitted,
    framed,
    nearest,
    png,
    redrawn,
    render,
    thumbnail_blocks,
)
from tests import shapes

ROOT = Path(__file__).resolve().parents[2]
SMALL = (96, 96)


def picture(*parts: shapes.Triangles) -> np.ndarray:
    """(96, 96, 4)"""
    return np.asarray(render(np.concatenate(parts), SMALL)).astype(int)


def body(image: np.ndarray) -> np.ndarray:
    """Where the model is: its shadow is black."""
    return (image[..., 3] > 250) & (image[..., :3].max(axis=-1) > 25)


TRIANGLE = np.array([[[1, 1, 1], [9, 1, 1], [1, 9, 1]]], np.float32)


# -- triangles to pixels
def test_a_triangle_covers_the_pixels_whose_middle_it_holds() -> None:
    mask = covered(TRIANGLE, 12, 12)
    y, x = np.mgrid[:12, :12] + 0.5
    assert (mask == ((x > 1) & (y > 1) & (x + y <= 10))).all()


def test_two_triangles_of_a_square_leave_no_seam_and_cover_nothing_twice() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        around = np.array([[4, 4], [45, 6], [58, 58], [6, 45]])
        a, b, c, d = around + rng.uniform(-3, 3, (4, 2))
        square = np.array([[a, b, c], [a, c, d]])
        corners = np.concatenate([square, np.ones((2, 3, 1))], axis=2).astype(np.float32)
        pixels = np.concatenate([part.pixel for part in pictures.fragments(corners, 64, 64)])
        whole = np.concatenate([covered(corners[k : k + 1], 64, 64)[None] for k in range(2)])
        assert len(pixels) - len(np.unique(pixels)) <= 1, "a middle that lies on the seam itself"
        assert (whole.any(axis=0) == covered(corners, 64, 64)).all()


def test_what_is_nearest_is_seen() -> None:
    far, near = TRIANGLE.copy(), TRIANGLE.copy()
    far[..., 2], near[..., 2] = 1.0, 2.0
    for first, second, winner in ((far, near, 1), (near, far, 0)):
        seen, depth = nearest(np.concatenate([first, second]), 12, 12)
        assert set(np.unique(seen)) == {-1, winner}
        assert set(np.unique(depth).tolist()) == {0.0, 2.0}


def test_crossing_triangles_cut_each_other_where_they_meet() -> None:
    flat = np.array([[[0, 0, 1.5], [60, 0, 1.5], [0, 60, 1.5]]], np.float32)
    steep = np.array([[[0, 0, 1], [60, 0, 2], [0, 60, 1]]], np.float32)  # nearer from x = 30 on
    seen, _ = nearest(np.concatenate([flat, steep]), 60, 60)
    assert set(np.unique(seen[:28, :28])) == {0}
    assert set(np.unique(seen[:20, 33:39])) == {1}


def test_the_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    part = shapes.gear(12, 20, 8)
    whole = render(part, SMALL)
    monkeypatch.setattr(pictures, "AT_ONCE", 500)
    assert (np.asarray(render(part, SMALL)) == np.asarray(whole)).all()


# -- the camera
@pytest.mark.parametrize("size", [(10, 10, 10), (200, 150, 1), (3, 3, 200), (0.2, 0.2, 0.1)])
def test_the_model_fills_the_picture_and_stays_inside(size: tuple[float, float, float]) -> None:
    place = (shapes.box(*size) + np.array([size[0] / 2, size[1] / 2, 0])).astype(np.float32)
    view = camera(np.array(size, float))
    corners = framed(view, view.project(place), (200, 200)).project(place)
    low, high = corners[..., :2].reshape(-1, 2).min(axis=0), corners[..., :2].reshape(-1, 2).max(axis=0)
    assert (low > 12).all()
    assert (high < 188).all()
    assert (high - low).max() == pytest.approx(200 * (1 - 2 * pictures.MARGIN), abs=0.5)


def test_a_plate_is_seen_from_higher_up_than_a_tower() -> None:
    assert camera(np.array([100.0, 80, 2])).axes[2, 2] > camera(np.array([10.0, 10, 90])).axes[2, 2] + 0.3


def test_the_picture_is_not_mirrored() -> None:
    """x goes to the right and towards the eye, y to the right and away from it, z up."""
    place = (shapes.box(20, 20, 20) + np.array([10.0, 10.0, 0.0])).astype(np.float32)
    view = camera(np.array([20.0, 20.0, 20.0]))
    view = framed(view, view.project(place), (200, 200))
    corner, x, y, z = view.project(np.array([[0, 0, 0], [20, 0, 0], [0, 20, 0], [0, 0, 20]], np.float32))
    assert x[0] > corner[0]
    assert x[1] > corner[1], "down"
    assert y[0] > corner[0]
    assert y[1] < corner[1], "up"
    assert z[0] == pytest.approx(corner[0], abs=15)
    assert z[1] < corner[1]
    assert x[2] > y[2], "nearer"


# -- what they show
MODELS = {
    "box": lambda: shapes.box(20, 20, 10),
    "gear": lambda: shapes.gear(18, 20, 8),
    "ring": lambda: shapes.ring(20, 14, 30),
    "plate": lambda: shapes.plate(100, 80, 4, 8, 6, 4),
    "comb": lambda: shapes.comb(6, 3, 3, 25, 10),
    "cone": lambda: shapes.cone(15, 3, 40),
    "tube": lambda: shapes.frame(60, 2, 60),
    "bust": lambda: shapes.bumpy_sphere(25, 60, 80),
    "hills": lambda: shapes.terrain(40),
    "soup": lambda: shapes.soup(100),
}


@pytest.mark.parametrize("name", MODELS)
def test_ten_models_are_seen_in_the_middle_of_nothing(name: str) -> None:
    image = picture(MODELS[name]())
    solid = body(image)
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) > 70, "it fills the picture"
    assert solid.mean() > 0.05
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert edge[:, 3].max() < 12, "nothing is cut off, no shadow either"
    shades = image[solid][:, 1]
    assert np.percentile(shades, 98) - np.percentile(shades, 2) > 25, "faces differ in their light"
    assert np.percentile(shades, 98) > 110


def test_one_sees_through_holes() -> None:
    plate = picture(shapes.plate(60, 60, 1, 2, 2, 12))
    solid = picture(shapes.box(60, 60, 1))
    assert body(plate).sum() < 0.75 * body(solid).sum()


def test_the_top_is_the_lightest_and_left_differs_from_right() -> None:
    image = picture(shapes.box(20, 20, 20))[..., :3].sum(axis=-1)
    top, left, right = image[20, 48], image[60, 25], image[60, 70]
    assert top > left > right > 60


def test_facets_that_face_inwards_and_lost_ones_do_not_spoil_it() -> None:
    right = picture(shapes.gear(18, 20, 8))
    for damaged in (shapes.inside_out(shapes.gear(18, 20, 8)), shapes.with_flips(shapes.gear(18, 20, 8), 0.5)):
        assert np.abs(picture(damaged) - right).mean() < 1.0
    assert body(picture(shapes.with_holes(shapes.gear(18, 20, 8), 3))).sum() > 0.9 * body(right).sum()


def test_where_it_stands_in_its_file_does_not_matter() -> None:
    part = shapes.gear(18, 20, 8)
    here, there = picture(part), picture(shapes.moved(part, 900.0, -3000.0, 70.0))
    assert np.abs(here - there).mean() < 0.5


def test_edges_are_smooth() -> None:
    alpha = picture(shapes.sphere(10))[..., 3]
    assert len(np.unique(alpha[:40])) > 4, "more than there and not there"


def test_a_shadow_lies_below_and_beside_it() -> None:
    image = picture(shapes.cylinder(4, 30))
    shadow = (image[..., 3] > 15) & ~body(image)
    rows, columns = np.nonzero(shadow)
    assert len(rows) > 50
    assert columns.mean() > np.nonzero(body(image))[1].mean(), "the lamp is on the left"
    assert rows.mean() > 48, "it lies on the ground"


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 20), st.just(3), st.just(3)),
                     elements=st.floats(-5000, 5000, allow_nan=False, width=32)))  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_no_triangles_crash_it(triangles: np.ndarray) -> None:
    image = render(triangles, (24, 24))
    assert image.size == (24, 24)


# -- files
def test_the_sizes_in_a_file_are_those_that_are_shown() -> None:
    found = thumbnails(thumbnail_blocks(png(render(shapes.box(20, 20, 5)))))
    assert [(one.width, one.height) for one in found] == list(THUMBNAILS)
    for one in found:
        with Image.open(io.BytesIO(one.data)) as image:
            assert image.size == (one.width, one.height)
            assert np.asarray(image)[..., 3].max() == 255


def test_a_picture_keeps_its_shape_in_another_frame() -> None:
    wide = fitted(Image.new("RGBA", (100, 100), "red"), 220, 124)
    columns = np.flatnonzero(np.asarray(wide)[..., 3].any(axis=0))
    assert (columns[0], columns[-1]) == (60, 159) or np.ptp(columns) <= 124


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "QOI"])
def test_a_strangers_picture_is_drawn_anew(kind: str) -> None:
    data = redrawn(encoded(Image.new("RGB", (1200, 600), "green"), kind))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("PNG", (512, 256))


def giant(size: int) -> bytes:
    """A small file that says it is a large picture."""
    head = b"IHDR" + struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunks = (struct.pack(">I", 13), head, struct.pack(">I", zlib.crc32(head)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + struct.pack(">I", 9) + b"IDAT" + bytes(40)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg onload=alert(1)>",
        encoded(Image.new("RGB", (9, 9)), "GIF"),
        encoded(Image.new("RGB", (99, 99)), "PNG")[:80],
        giant(60_000),
        giant(2_500),
    ],
)
def test_what_is_no_picture_or_a_giant_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="picture"):
        redrawn(data)


def test_an_upload_is_drawn_by_the_process_that_read_it(tmp_path: Path) -> None:
    write_stl(shapes.mesh(shapes.gear(9, 20, 8)), tmp_path / "a.stl")
    command = [sys.executable, "-m", "slicing.mesh", str(tmp_path / "a.stl"), "--picture", str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert '"triangles"' in done.stdout
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (pictures.SIZE, pictures.SIZE)


def test_a_model_whose_picture_fails_is_still_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stl(shapes.mesh(shapes.box(9, 9, 9)), tmp_path / "a.stl")

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pictures, "render", fails)
    with pytest.raises(MemoryError):
        meshes.main([str(tmp_path / "a.stl"), "--picture", str(tmp_path / "a.png")])
    assert '"triangles": 12' in capsys.readouterr().out, "they were said before"
