"""The surface of a model for browsers: the same part, small enough for a phone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slicing import shape
from slicing.mesh import Mesh, weld
from slicing.shape import packed, simplified, unpacked
from tests import shapes
from tests.shapes import stl


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    return Mesh(vertices[faces]).volume_mm3


def test_what_is_small_is_sent_as_it_is() -> None:
    mesh = Mesh(shapes.moved(shapes.gear(12, 20, 8), x=200, y=-40, z=3))
    vertices, faces, of_file = unpacked(packed(mesh))
    assert len(faces) == of_file == len(mesh.triangles)
    assert vertices.min(axis=0) == pytest.approx(mesh.bounds[0], abs=0.001)
    assert vertices.max(axis=0) == pytest.approx(mesh.bounds[1], abs=0.001)
    assert volume(vertices, faces) == pytest.approx(mesh.volume_mm3, rel=1e-3)


def test_what_is_fine_is_made_coarser_and_stays_the_same_part() -> None:
    mesh = Mesh(shapes.sphere(30, 120))
    most = len(mesh.triangles) // 6
    data = packed(mesh, most)
    vertices, faces, of_file = unpacked(data)
    assert of_file == len(mesh.triangles)
    assert most / 4 < len(faces) <= most
    assert len(data) < 16 * most
    assert vertices.min(axis=0) == pytest.approx(mesh.bounds[0], abs=0.001)
    assert vertices.max(axis=0) == pytest.approx(mesh.bounds[1], abs=0.001)
    assert volume(vertices, faces) == pytest.approx(mesh.volume_mm3, rel=0.02)


def test_no_triangle_is_a_line_or_there_twice() -> None:
    _, faces = simplified(*weld(shapes.sphere(30, 60)), 500)
    assert (np.diff(np.sort(faces, axis=1), axis=1) > 0).all()
    assert len(np.unique(np.sort(faces, axis=1), axis=0)) == len(faces)


def test_a_flat_sheet_is_no_division_by_nothing() -> None:
    sheet = np.array([[[0, 0, 0], [10, 0, 0], [0, 10, 0]]], float)
    vertices, faces, _ = unpacked(packed(Mesh(sheet)))
    assert len(faces) == 1
    assert vertices[:, 2] == pytest.approx(0, abs=1e-6)


def test_other_bytes_are_no_shape() -> None:
    with pytest.raises(ValueError, match="not a shape"):
        unpacked(b"PNG " + bytes(60))


def test_the_command_writes_it_and_says_how_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_bytes(stl(shapes.box(20, 10, 5)))
    out = tmp_path / "shape.bin"
    assert shape.main([str(tmp_path / "in"), "--name", "a.stl", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == {"bytes": out.stat().st_size}
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["in", "shape.bin"]
    out.unlink()
    (tmp_path / "in").write_bytes(b"solid")
    assert shape.main([str(tmp_path / "in"), "--name", "a.stl", "--out", str(out)]) == 2
    assert json.loads(capsys.readouterr().out)["error"].endswith(".")
    assert not out.exists()
