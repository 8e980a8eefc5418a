"""Model files from strangers: what is read, and what is refused with which sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from slicing.mesh import Limits, Mesh, MeshError, read_mesh, write_stl
from tests import shapes
from tests.shapes import stl
from tests.slicing.files import BOX, XML, ascii_stl, mesh_object, threemf

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("write", [stl, ascii_stl])
def test_it_reads_both_kinds_of_stl(write: object) -> None:
    mesh = read_mesh(write(BOX), "part.STL")  # type: ignore[operator]
    assert mesh.size_mm == pytest.approx((20, 10, 5))
    assert mesh.volume_mm3 == pytest.approx(1000)
    assert mesh.watertight
    assert len(mesh.triangles) == 12


def test_it_reads_a_binary_stl_whose_header_says_solid() -> None:
    data = b"solid exported by some program".ljust(80) + stl(BOX)[80:]
    assert len(read_mesh(data, "part.stl").triangles) == 12


def test_it_reads_polygons_and_negative_indices_of_obj() -> None:
    text = b"# a box\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\nvn 0 0 1\n"
    text += b"f 4/1/1 3/1/1 2 1\nf 5 6 7 8\nf -8 -7 -3 -4\nf 2 3 7 6\nf 3//1 4//1 8 7\nf 4 1 5 8\n"
    mesh = read_mesh(text, "part.obj")
    assert mesh.volume_mm3 == pytest.approx(1)
    assert mesh.signed_volume_mm3 > 0
    assert mesh.watertight


@pytest.mark.parametrize(("unit", "factor"), [("micron", 0.001), ("millimeter", 1), ("inch", 25.4), ("meter", 1000)])
def test_it_reads_the_unit_of_a_3mf(unit: str, factor: float) -> None:
    scaled = BOX / factor
    mesh = read_mesh(threemf(mesh_object(1, scaled), '<item objectid="1"/>', unit), "part.3mf")
    assert mesh.size_mm == pytest.approx((20, 10, 5))


def test_it_places_objects_and_components_of_a_3mf_and_keeps_mirrors_right_side_out() -> None:
    group = (
        '<object id="2"><components><component objectid="1"/>'
        '<component objectid="1" transform="-1 0 0 0 1 0 0 0 1 50 0 0"/></components></object>'
    )
    build = '<item objectid="2" transform="1 0 0 0 1 0 0 0 2 0 0 7"/><item objectid="1" printable="0"/>'
    mesh = read_mesh(threemf(mesh_object(1, BOX) + group, build), "part.3mf")
    assert mesh.size_mm == pytest.approx((70, 10, 10))
    assert mesh.bounds[0][2] == pytest.approx(7)
    assert mesh.signed_volume_mm3 == pytest.approx(4000)


def test_it_follows_parts_of_their_own_in_a_3mf() -> None:
    group = '<object id="2"><components><component p:path="/3D/other.model" objectid="1"/></components></object>'
    other = XML.format(unit="millimeter", resources=mesh_object(1, BOX), build="", doctype="")
    data = threemf(group, '<item objectid="2"/>', **{"3D__other": other})
    assert read_mesh(data, "part.3mf").volume_mm3 == pytest.approx(1000)


CIRCLE = '<object id="1"><components><component objectid="1"/></components></object>'
WIDE = "".join(
    f'<object id="{k}"><components>' + f'<component objectid="{k + 1}"/>' * 40 + "</components></object>"
    for k in range(1, 6)
)

REFUSED = {
    "text.txt": (b"hello", "only .stl, .obj and .3mf"),
    "empty.stl": (b"", "is empty"),
    "short.stl": (b"abc", "not an STL"),
    "words.stl": (b"These are not the facets you are looking for. " * 10, "not an STL"),
    "cut.stl": (stl(BOX)[:-20], "cut off: 12 triangles"),
    "cut-ascii.stl": (ascii_stl(BOX)[:-60], "cut off"),
    "damaged-ascii.stl": (ascii_stl(BOX).replace(b"vertex", b"vortex", 1), "damaged"),
    "none.stl": (stl(BOX[:0]), "no triangles"),
    "nan.stl": (stl(np.where(BOX == 5, np.nan, BOX)), "not numbers"),
    "inf.stl": (stl(np.where(BOX == 5, np.inf, BOX)), "not numbers"),
    "flat.stl": (stl(BOX * 0 + np.arange(3)[:, None]), "degenerate"),
    "tiny.stl": (stl(BOX / 1000), "another unit"),
    "huge.stl": (stl(BOX * 1000), "another unit"),
    "damaged.obj": (b"v 0 0 0\nv 1 0\n", "line 2"),
    "faceless.obj": (b"v 0 0 0\n", "no faces"),
    "beyond.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "corner that does not exist"),
    "not-a-zip.3mf": (b"PK not really", "cannot be unpacked"),
    "unit.3mf": (threemf(mesh_object(1, BOX), '<item objectid="1"/>', "furlong"), "unknown unit"),
    "nothing.3mf": (threemf(mesh_object(1, BOX), ""), "nothing to print"),
    "missing.3mf": (threemf("", '<item objectid="5"/>'), "does not hold"),
    "circle.3mf": (threemf(CIRCLE, '<item objectid="1"/>'), "in a circle"),
    "wide.3mf": (threemf(WIDE + '<object id="6"/>', '<item objectid="1"/>'), "too many objects"),
    "doctype.3mf": (
        threemf(mesh_object(1, BOX), '<item objectid="1"/>', doctype='<!DOCTYPE model [<!ENTITY a "b">]>'),
        "DOCTYPE",
    ),
    "beyond.3mf": (
        threemf(
            '<object id="1"><mesh><vertices/><triangles><triangle v1="0" v2="1" v3="2"/></triangles></mesh></object>',
            '<item objectid="1"/>',
        ),
        "corner that does not exist",
    ),
    "bomb.3mf": (threemf(" " * 5_000_000, ""), "zip bomb"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_with_a_sentence(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(MeshError, match=words):
        read_mesh(data, name)


@pytest.mark.parametrize("write", [stl, ascii_stl, lambda t: threemf(mesh_object(1, t), '<item objectid="1"/>')])
def test_it_refuses_more_triangles_than_allowed(write: object) -> None:
    name = "part.3mf" if write(BOX)[:2] == b"PK" else "part.stl"  # type: ignore[operator]
    with pytest.raises(MeshError, match="12 triangles"):
        read_mesh(write(BOX), name, Limits(max_triangles=11))  # type: ignore[operator]


def test_it_counts_what_a_3mf_unpacks_to() -> None:
    data = threemf(mesh_object(1, BOX), '<item objectid="1"/>')
    with pytest.raises(MeshError, match="too large once unpacked"):
        read_mesh(data, "part.3mf", Limits(max_unpacked=1000))
    with pytest.raises(MeshError, match="2 files"):
        read_mesh(data, "part.3mf", Limits(max_entries=1))


def test_it_drops_degenerate_triangles_and_keeps_the_rest() -> None:
    line = np.array([[[0, 0, 0], [1, 1, 1], [2, 2, 2.0]]])
    assert len(read_mesh(stl(np.concatenate([BOX, line])), "part.stl").triangles) == 12


@pytest.mark.parametrize(
    ("triangles", "tight"),
    [
        (shapes.gear(12, 10, 4), True),
        (shapes.sphere(10), True),
        (shapes.plate(50, 40, 3, 6, 5, 2), True),
        (shapes.with_flips(BOX, 0.5), True),
        (shapes.with_holes(BOX, 1), False),
        (shapes.with_duplicates(BOX, 0.5), False),
    ],
)
def test_it_knows_whether_a_surface_is_closed(triangles: shapes.Triangles, tight: bool) -> None:
    assert Mesh(triangles).watertight is tight


def test_it_agrees_with_trimesh(tmp_path: Path) -> None:
    for triangles in (shapes.gear(9, 12, 3), shapes.sphere(8), shapes.bumpy_sphere(15, 40, 60), shapes.terrain(20)):
        write_stl(Mesh(triangles), tmp_path / "part.stl")
        ours, theirs = read_mesh(tmp_path / "part.stl"), trimesh.load_mesh(tmp_path / "part.stl")
        assert ours.volume_mm3 == pytest.approx(theirs.volume, rel=1e-5)
        assert ours.watertight == theirs.is_watertight
        np.testing.assert_allclose(ours.bounds, theirs.bounds, atol=1e-5)


def facts_of(path: Path, *options: str) -> tuple[int, dict[str, object]]:
    command = [sys.executable, "-m", "slicing.mesh", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    return done.returncode, json.loads(done.stdout)


def test_its_command_prints_facts_or_an_error_as_json(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(stl(BOX))
    code, facts = facts_of(tmp_path / "upload", "--name", "part.stl")
    assert code == 0
    assert facts["size_mm"] == [20, 10, 5]
    assert facts["triangles"] == 12
    assert facts["watertight"] is True
    assert facts["volume_mm3"] == pytest.approx(1000)
    assert facts_of(tmp_path / "upload", "--name", "part.txt")[0] == 2
    code, facts = facts_of(tmp_path / "upload", "--name", "part.stl", "--max-triangles", "3")
    assert code == 2
    assert "at most 3" in str(facts["error"])


def test_its_command_does_not_load_django() -> None:
    code = "import sys, slicing.mesh; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60, capture_output=True, text=True
    )
    assert "numpy" in done.stdout.split()
    assert not {"django", "shapely", "trimesh"} & set(done.stdout.split())
