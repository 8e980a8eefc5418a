"""Pictures of layers: any of any file, found by an index, in the colours of what the lines are for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slicing import layers
from slicing.engines.base import Machine, SliceSettings, SlicingError
from slicing.engines.planar import PlanarEngine
from slicing.layers import Drawn, Index, colour, draw, index, layer
from tests import shapes
from tests.slicing import binary
from tests.slicing.files import NAMES, extruded, sample


def length(drawn: Drawn) -> float:
    return sum(float(np.hypot(*np.diff(points, axis=0).T).sum()) for _, points in drawn.lines)


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_together_are_the_whole_print(name: str) -> None:
    path = sample(name)
    marks = index(path).layers
    assert len(marks) == 4
    assert sum(length(layer(path, marks, k)) for k in range(4)) == pytest.approx(extruded(path.read_bytes()), abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_without_the_slicers_marks_layers_are_found_by_height(name: str, tmp_path: Path) -> None:
    lines = [line for line in sample(name).read_text().split("\n") if not line.startswith(";")]
    path = tmp_path / "bare.gcode"
    path.write_text("\n".join(lines))
    bare, marked = index(path), index(sample(name))
    assert [mark.z for mark in bare.layers] == [mark.z for mark in marked.layers]
    for k in range(4):
        expected = length(layer(sample(name), marked.layers, k))
        assert length(layer(path, bare.layers, k)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("prusaslicer", {"Skirt/Brim", "Perimeter", "External perimeter", "Solid infill"}),
        ("orcaslicer", {"Outer wall", "Sparse infill"}),
        ("cura", {"SKIRT", "WALL-INNER", "WALL-OUTER", "SKIN"}),
        ("simplify3d", {"outer perimeter", "infill"}),
    ],
)
def test_lines_have_the_slicers_names_and_colours_of_their_own(name: str, features: set[str]) -> None:
    found = index(sample(name))
    assert {feature for feature, _ in layer(sample(name), found.layers, 0).lines} == features
    assert len({colour(feature) for feature in features}) == len(features)


def test_a_name_goes_on_into_the_next_layer(tmp_path: Path) -> None:
    """PrusaSlicer names lines only when they change."""
    path = tmp_path / "a.gcode"
    one = ";LAYER_CHANGE\nG1 Z{z}\nG1 X10 Y10\nG1 X30 E1\n"
    path.write_text("G90\nM83\n;TYPE:Perimeter\n" + one.format(z=0.2) + one.format(z=0.4))
    assert [feature for feature, _ in layer(path, index(path).layers, 1).lines] == ["Perimeter"]


@pytest.mark.parametrize(
    ("feature", "like"),
    [
        ("WALL-OUTER", "External perimeter"),
        ("Outer wall", "External perimeter"),
        ("Overhang wall", "Overhang perimeter"),
        ("Sparse infill", "Internal infill"),
        ("FILL", "Internal infill"),
        ("Top surface", "Top solid infill"),
        ("SUPPORT-INTERFACE", "Support material"),
        ("PRIME-TOWER", "Wipe tower"),
        ("Brim", "Skirt/Brim"),
    ],
)
def test_the_same_has_the_same_colour_whatever_it_is_called(feature: str, like: str) -> None:
    assert colour(feature) == colour(like) != layers.OTHER


def test_lines_are_drawn_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.gcode"
    path.write_text(
        "G90\nM83\nG1 X2 Y2 Z0.2\nG1 X200 E9\n;LAYER_CHANGE\nG1 Z0.2\nG1 X100 Y100\n;TYPE:External perimeter\n"
        "G1 X140 E1\n;TYPE:Internal infill\nG1 Y140 E1\nG1 X100 Y100\n"
    )
    found = index(path)
    assert (found.low, found.high) == ((100, 100), (140, 140)), "without the line that cleans the nozzle"
    image = np.asarray(draw(layer(path, found.layers, 0), found, size=200)).astype(int)
    assert image[5, 5, 3] == 0
    bottom, right = image[180:, 20:170], image[20:170, 180:]
    assert (bottom[..., 3] > 200).any()
    assert (right[..., 3] > 200).any()
    orange, brown = bottom[bottom[..., 3] > 250], right[right[..., 3] > 250]
    assert orange[:, 1].mean() > brown[:, 1].mean() + 20
    assert (image[40:160, 20:160, 3] == 0).all(), "the way back prints nothing"
    with_travels = np.asarray(draw(layer(path, found.layers, 0), found, size=200, travels=True))
    assert (with_travels[40:160, 20:160, 3] > 0).any()


def test_every_layer_of_ours_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "a.gcode"
    mesh = shapes.mesh(shapes.ring(12, 6, 2))
    result = PlanarEngine().slice(mesh, Machine(), SliceSettings(), path)
    found = index(path)
    assert len(found.layers) == result.layers
    assert found.high[0] - found.low[0] == pytest.approx(result.bounds[1][0] - result.bounds[0][0], abs=0.01)
    for number in range(result.layers):
        assert length(layer(path, found.layers, number)) > 100


def test_binary_files_have_layers_too(tmp_path: Path) -> None:
    text = sample("prusaslicer").read_text()
    packed = tmp_path / "a.bgcode"
    packed.write_bytes(binary.of_text(text, 1, 2))
    found, plain = index(packed), index(sample("prusaslicer"))
    assert length(layer(packed, found.layers, 2)) == length(layer(sample("prusaslicer"), plain.layers, 2))


def test_an_index_is_what_it_was_when_it_is_read_again() -> None:
    found = index(sample("prusaslicer"))
    assert Index.load(found.dump()) == found


def test_there_is_no_layer_beyond_the_last() -> None:
    found = index(sample("cura"))
    for number in (-1, 4):
        with pytest.raises(SlicingError, match="There is no layer"):
            layers.picture(sample("cura"), found, number)


def test_as_a_program_it_draws_some_and_keeps_the_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "index.json"
    wanted = [str(sample("cura")), "--index", str(kept), "--out", str(tmp_path)]
    assert layers.main([*wanted, "--first", "1", "--count", "9"]) == 0
    assert json.loads(capsys.readouterr().out) == {"layers": 4}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png", "3.png", "index.json"]
    with Image.open(tmp_path / "1.png") as image:
        assert image.size == (layers.SIZE, layers.SIZE)
    kept.write_text(kept.read_text().replace('"z": 0.5', '"z": 0.6'))
    assert layers.main([*wanted, "--first", "0"]) == 0, "it is not made again"
    assert '"z": 0.6' in kept.read_text()
    assert layers.main([*wanted, "--first", "4"]) == 2
    assert "no layer" in capsys.readouterr().out


def test_two_processes_may_draw_the_same_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody leafs on before the first picture is there."""
    picture, replace = tmp_path / "7.png", Path.replace

    def overtaken(part: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr("slicing.layers.os.getpid", lambda: -1)
        layers.put(picture, b"the same")  # by another process, just now
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", overtaken)
    layers.put(picture, b"the same")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("7.png", b"the same")]
