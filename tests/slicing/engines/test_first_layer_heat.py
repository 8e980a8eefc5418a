"""The first layer may want another heat than the rest: every engine begins with it and leaves it behind that layer."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slicing.engines import engine, external, replay, templates
from slicing.engines.base import Engine, Machine, SliceSettings, SlicingError
from slicing.engines.site import Site, missing
from slicing.gcode import facts
from tests import shapes

PETG = SliceSettings(
    nozzle_temperature=240.0,
    bed_temperature=90.0,
    first_layer_nozzle_temperature=230.0,
    first_layer_bed_temperature=85.0,
)
PART = shapes.mesh(shapes.box(15, 15, 1))
Heating = tuple[str, float]


@pytest.fixture(params=["planar", "prusaslicer", "cura"])
def slicer(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    name: str = request.param
    if name != "planar" and (reason := missing(name, Site())):
        pytest.skip(reason)
    return engine(name, Site(data=tmp_path / "data", seconds=600))


def made(slicer: Engine, out: Path, settings: SliceSettings = PETG, machine: Machine | None = None) -> Path:
    """Checked as the product does it."""
    machine = machine or Machine()
    replay.check(out, machine, settings, slicer.slice(PART, machine, settings, out))
    return out


def heats(path: Path) -> dict[str, list[Heating]]:
    """What heaters are told, by the height that is printed then; "" is before the first layer."""
    found: dict[str, list[Heating]] = {}
    height = ""
    for line in path.read_text().splitlines():
        if line.startswith(";Z:"):
            height = line[3:]
        elif match := re.match(r"(M104|M109|M140|M190) S([\d.]+)", line):
            found.setdefault(height, []).append((match[1], float(match[2])))
    return found


BEGIN = [("M140", 85.0), ("M104", 230.0), ("M190", 85.0), ("M109", 230.0)]
END = [("M104", 0.0), ("M140", 0.0)]


def test_every_engine_changes_the_heat_behind_the_first_layer_and_waits_for_none(
    slicer: Engine, tmp_path: Path
) -> None:
    out = made(slicer, tmp_path / "part.gcode")
    assert heats(out) == {"": BEGIN, "0.4": [("M104", 240.0), ("M140", 90.0)], "1": END}
    read = facts(out)
    assert (read["first_layer_nozzle_temperature"], read["first_layer_bed_temperature"]) == (230, 85)
    assert (read["nozzle_temperature"], read["bed_temperature"]) == (240, 90)


def test_the_heat_changes_before_the_second_layer_prints_anything(slicer: Engine, tmp_path: Path) -> None:
    second = made(slicer, tmp_path / "part.gcode").read_text().split(";LAYER_CHANGE")[2]
    begin = second[: second.index("M140 S90")]
    assert not re.search(r"^G1 .*[XY].* E\d", begin, re.MULTILINE)


def test_what_is_not_said_of_the_first_layer_is_as_in_all_others(slicer: Engine, tmp_path: Path) -> None:
    same = replace(PETG, first_layer_nozzle_temperature=0.0, first_layer_bed_temperature=0.0)
    moves = replay.parse(made(slicer, tmp_path / "part.gcode", same).read_bytes())
    assert (set(moves.nozzle), set(moves.bed)) == ({240.0, 0.0}, {90.0, 0.0})


def test_own_start_code_may_heat_as_it_likes(slicer: Engine, tmp_path: Path) -> None:
    """A macro that takes both; the farm then only says what comes behind the first layer."""
    code = "START NOW={first_layer_nozzle_temperature} BED={first_layer_bed_temperature} LATER={nozzle_temperature}"
    machine = Machine(start_gcode=code, end_gcode="END")
    out = made(slicer, tmp_path / "part.gcode", machine=machine)
    assert "START NOW=230 BED=85 LATER=240\n" in out.read_text()
    assert heats(out) == {"0.4": [("M104", 240.0), ("M140", 90.0)]}


def test_a_print_of_one_layer_keeps_its_heat(slicer: Engine, tmp_path: Path) -> None:
    out = tmp_path / "sheet.gcode"
    slicer.slice(shapes.mesh(shapes.box(15, 15, 0.2)), Machine(), PETG, out)
    assert heats(out) == {"": BEGIN, "0.2": END}


def test_a_vase_changes_its_heat_too(slicer: Engine, tmp_path: Path) -> None:
    out = tmp_path / "vase.gcode"
    vase = shapes.mesh(shapes.prism(shapes.circle(15), 4))
    slicer.slice(vase, Machine(), replace(PETG, spiral_vase=True), out)
    moves = replay.parse(out.read_bytes())
    assert (moves.nozzle, moves.bed) == ([230, 230, 240, 0], [85, 85, 90, 0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first_layer_nozzle_temperature": 300.0}, "nozzle temperature of 300 C is above the 285 C"),
        ({"first_layer_bed_temperature": 120.0}, "bed temperature of 120 C is above the 110 C"),
    ],
)
def test_a_first_layer_too_hot_for_the_machine_is_refused(
    slicer: Engine, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SlicingError, match=words):
        slicer.slice(PART, Machine(), replace(PETG, **changes), tmp_path / "hot.gcode")


def test_a_file_whose_first_layer_is_too_hot_is_not_accepted(slicer: Engine, tmp_path: Path) -> None:
    """Whichever engine wrote it, and whatever it was told."""
    out = tmp_path / "part.gcode"
    hot = replace(PETG, first_layer_nozzle_temperature=250.0)
    result = slicer.slice(PART, Machine(), hot, out)
    with pytest.raises(SlicingError, match="heats the nozzle to 250 C; this printer allows 245 C"):
        replay.check(out, Machine(max_nozzle_temperature=245.0), hot, result)


def test_layers_are_found_by_their_marks_alone() -> None:
    first, second = b";LAYER_CHANGE\n;Z:0.2\n;HEIGHT:0.2\nG1 X1 E1\n", b";LAYER_CHANGE\n;Z:0.4\nG1 X2 E1\n"
    body = b"M83\n" + first + second + b";LAYER_CHANGE\nG1 X3 E1\n"
    warm = external.heated(body, PETG)
    assert warm == body.replace(b";Z:0.4\n", b";Z:0.4\nM104 S240\nM140 S90\n")
    assert external.heated(b"G1 X1 E1\n", PETG) == b"G1 X1 E1\n"


def test_only_what_changes_is_said() -> None:
    assert templates.after_first_layer(SliceSettings()) == b""
    assert templates.after_first_layer(replace(PETG, first_layer_bed_temperature=90.0)) == b"M104 S240\n"
    assert templates.after_first_layer(replace(PETG, bed_temperature=62.5)) == b"M104 S240\nM140 S62.5\n"
