"""G-code as lines in space: the same lengths and places as in the file, in few bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slicing import toolpaths
from slicing.engines.base import Machine, SliceSettings
from slicing.engines.planar import PlanarEngine
from slicing.layers import Index, index
from slicing.toolpaths import END, KINDS, TRAVEL, Lines, decoded, kind, layer, reduced, straightened, whole
from tests import shapes
from tests.slicing.files import NAMES, extruded, sample


def mm(header: dict[str, Any], points: Any) -> Any:
    return points[:, :3] * header["step"] + header["low"]


def length(header: dict[str, Any], points: Any) -> float:
    """mm of lines, without travels and without the gaps between lines."""
    ways = np.linalg.norm(np.diff(mm(header, points), axis=0), axis=1)
    return float(ways[points[:-1, 3] < TRAVEL].sum())


def shown(path: Path, found: Index, number: int) -> tuple[dict[str, Any], Any]:
    """A layer without its travels."""
    header, points = decoded(layer(path, found, number))
    return header, points[: header["lines"]]


@pytest.mark.parametrize("name", NAMES)
def test_all_layers_together_are_the_whole_print(name: str) -> None:
    path = sample(name)
    expected = extruded(path.read_bytes())
    found = index(path)
    header, points = decoded(whole(path, found))
    assert header["inside"]
    assert header["every"] == 1
    assert header["first"][0] == 0
    assert header["first"][-1] == len(points)
    assert len(header["first"]) == len(header["z"]) + 1 == 5
    assert length(header, points) == pytest.approx(expected, rel=0.01)
    assert sum(length(*shown(path, found, k)) for k in range(4)) == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("name", NAMES)
def test_lines_lie_where_the_file_puts_them(name: str) -> None:
    found = index(sample(name))
    header, points = decoded(whole(sample(name), found))
    places = mm(header, points)
    assert places[:, :2].min(axis=0) == pytest.approx(found.low, abs=0.02)
    assert places[:, :2].max(axis=0) == pytest.approx(found.high, abs=0.02)
    for k, (low, high) in enumerate(zip(header["first"][:-1], header["first"][1:], strict=True)):
        assert places[low:high, 2] == pytest.approx(header["z"][k], abs=0.02)
        assert points[high - 1, 3] == END, "no line leads from a layer to the next"


def test_time_at_a_layer_grows_up_to_the_time_of_all() -> None:
    header, _ = decoded(whole(sample("prusaslicer"), index(sample("prusaslicer"))))
    times = [*header["begins_s"], header["time_s"]]
    assert times == sorted(times)
    assert times[1] > times[0]


def test_travels_come_after_the_lines_of_a_layer() -> None:
    header, points = decoded(layer(sample("prusaslicer"), index(sample("prusaslicer")), 1))
    lines, travels = points[: header["lines"]], points[header["lines"] :]
    assert len(travels) > 10
    assert set(np.unique(travels[:, 3])) == {TRAVEL, END}
    assert TRAVEL not in lines[:, 3]


def test_every_line_has_its_kind() -> None:
    names = {
        "Perimeter": "Inner walls",
        "External perimeter": "Outer wall",
        "FILL": "Infill",
        "Bottom surface": "Solid",
    }
    for said, meant in names.items():
        assert KINDS[kind(said)][0] == meant
    assert KINDS[kind("Custom")][0] == "Line"
    _, points = shown(sample("prusaslicer"), index(sample("prusaslicer")), 1)
    assert {"Outer wall", "Inner walls"} <= {KINDS[code][0] for code in np.unique(points[:, 3]) if code != END}


def test_a_large_print_is_shown_from_outside_and_then_by_fewer_layers(tmp_path: Path) -> None:
    part, settings = shapes.mesh(shapes.cylinder(15, 12, 90)), SliceSettings(layer_height=0.2)
    PlanarEngine().slice(part, Machine(), settings, tmp_path / "out", lambda share: None)
    found = index(tmp_path / "out")
    everything = decoded(whole(tmp_path / "out", found))
    outside = decoded(whole(tmp_path / "out", found, most=len(everything[1]) // 3))
    fewer = decoded(whole(tmp_path / "out", found, most=600))
    assert [header["inside"] for header, _ in (everything, outside, fewer)] == [True, False, False]
    assert [header["every"] > 1 for header, _ in (everything, outside, fewer)] == [False, False, True]
    assert len(fewer[1]) <= 1.1 * 600
    for header, points in (everything, outside, fewer):
        assert len(header["first"]) == len(found.layers) + 1
        assert mm(header, points)[:, :2].max(axis=0) == pytest.approx(found.high, abs=0.3)


def test_straight_ways_need_no_points_between() -> None:
    steps = [[x, 10, 5, 2] for x in range(0, 1000, 10)] + [[990, y, 5, 2] for y in range(20, 500, 10)]
    points = np.array(steps, np.uint16)
    points[-1, 3] = END
    lines = straightened(Lines(points, np.array([0, len(points)])), 2)
    assert len(lines.points) < 20
    assert [lines.points[0, 1], lines.points[-1, 0]] == [10, 990]
    assert (lines.points[:, :3] == (990, 10, 5)).all(axis=1).any(), "the corner stays"
    assert lines.first.tolist() == [0, len(lines.points)]


def test_nothing_is_left_out_that_is_few() -> None:
    points = np.array([[0, 0, 0, 4], [9, 9, 0, END], [5, 0, 1, 4], [9, 0, 1, END]], np.uint16)
    found, every, inside = reduced(Lines(points, np.array([0, 2, 4])), 0.01, 100)
    assert (found.points == points).all()
    assert (every, inside) == (1, True)


def test_the_command_writes_all_or_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = [str(sample("cura")), "--index", str(tmp_path / "index.json"), "--out", str(tmp_path)]
    assert toolpaths.main(wanted) == 0
    assert json.loads(capsys.readouterr().out) == {"layers": 4}
    assert toolpaths.main([*wanted, "--first", "2", "--count", "9"]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["index.json", "layer-2.bin", "layer-3.bin", "whole.bin"]
    assert decoded((tmp_path / "layer-2.bin").read_bytes())[0]["number"] == 2
    capsys.readouterr()
    assert toolpaths.main([*wanted, "--first", "4"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "There is no layer 4; the last one is 3."


def test_other_bytes_are_no_toolpaths() -> None:
    with pytest.raises(ValueError, match="not toolpaths"):
        decoded(b"PNG " + bytes(60))
