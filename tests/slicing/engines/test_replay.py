"""Reading G-code back, and refusing what a machine should not run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gcodeparser import parse_gcode_lines

from slicing.engines import engine, replay
from slicing.engines.base import Machine, SliceResult, SliceSettings, SlicingError
from tests import shapes


def test_it_follows_absolute_relative_and_resets() -> None:
    text = b"""
    G90 ; absolute
    M82
    g1 x10 y20 z0.2 f1200
    G1 X20 E2.5
    G92 E0
    G1 X30 E1
    M83
    G1 X.5 E0.25 F600
    G91
    G1 X1 Y-1
    G90
    G92 X100
    G1 X101 (in words) Y2
    M117 X999 is not a move
    """
    made = replay.parse(text)
    np.testing.assert_allclose(made.position[:, 0], [10, 20, 30, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(made.delta[:, 3], [0, 2.5, 1, 0.25, 0, 0])
    np.testing.assert_allclose(made.delta[:, 0], [10, 10, 10, -29.5, 1, 1])
    np.testing.assert_allclose(made.speed, [20, 20, 20, 10, 10, 10])
    assert made.filament_mm == pytest.approx(3.75)
    assert made.end == pytest.approx((2.5, 2, 0.2)), "of the machine, whatever the file calls the place"


def test_a_pulled_back_filament_counts_once() -> None:
    made = replay.parse(b"M83\nG1 X10 E1\nG1 E-0.8\nG1 X20\nG1 E0.8\nG1 X30 E1\nG1 E-2\n")
    assert made.filament_mm == pytest.approx(2)


def test_it_hears_the_temperatures() -> None:
    made = replay.parse(b"M140 S60\nM104 S200\nM190 S61.5\nM109 S205\nM106 S255\nM104 S0\n")
    assert made.nozzle == [200, 205, 0]
    assert made.bed == [60, 61.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [(b"G20\n", "inches"), (b"G2 X1 Y1\n", "arc"), (b"G1 Xnan\n", "not a number"), (b"G1 X Y2\n", "not a number")],
)
def test_it_refuses_what_it_cannot_follow(text: bytes, words: str) -> None:
    with pytest.raises(SlicingError, match=words):
        replay.parse(text)


def test_chunks_do_not_cut_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"M83\n" + b"".join(b"G1 X%d.125 E0.5\n" % k for k in range(500))
    whole = replay.parse(text)
    monkeypatch.setattr(replay, "CHUNK", 100)
    cut = replay.parse(text)
    np.testing.assert_array_equal(cut.position, whole.position)
    assert cut.filament_mm == pytest.approx(250)


GOOD = """M104 S200
M140 S60
G90
M83
G1 Z5
G1 X5 Y5 F6000
G1 Z0.2
G1 X50 E2 F1200
;LAYER_CHANGE
G1 X60 Y60 E1
G1 X100 E3
G1 Z0.4
G1 Y100 E3
G1 Z0.6
G1 X60 E3
"""
SAID = SliceResult(time_s=13.5, filament_mm=12.0, filament_g=0.04, layers=3, bounds=((5, 5, 0.2), (100, 100, 0.6)))


def checked(tmp_path: Path, text: str, said: SliceResult = SAID) -> dict[str, object]:
    (tmp_path / "part.gcode").write_text(text)
    return replay.check(tmp_path / "part.gcode", Machine(), SliceSettings(), said)


def test_a_good_file_passes_with_its_facts(tmp_path: Path) -> None:
    found = checked(tmp_path, GOOD)
    assert found["filament_mm"] == pytest.approx(12)
    assert found["layers"] == 3
    assert found["bounds"] == [[50, 5, 0.2], [100, 100, 0.6]] or found["bounds"][1] == [100, 100, 0.6]  # type: ignore[index]


BAD = {
    "leaves the bed": (GOOD.replace("Y100", "Y220.5"), "prints outside .* Y220.5"),
    "travels off the bed": (GOOD.replace("X5 Y5", "X-5 Y5"), "moves outside .* X-5.0"),
    "rises above the machine": (GOOD + "G1 Z260\n", "moves outside .* Z260"),
    "begins in the air": (GOOD.replace("Z0.", "Z2."), "in the air: it begins"),
    "jumps over layers": (GOOD.replace("Z0.6", "Z1.6"), "in the air: nothing"),
    "goes down": (GOOD + "G1 Z0.4\nG1 X50 E1\n", "goes down"),
    "is too hot": (GOOD.replace("S200", "S320"), "heats the nozzle to 320 C"),
    "boils the bed": (GOOD.replace("S60", "S150"), "heats the bed to 150 C"),
    "is cold": (GOOD.replace("S200", "S0"), "without heating"),
    "prints nothing": ("G90\nG1 X5\n", "prints nothing"),
    "uses more filament than it says": (GOOD.replace("E3", "E4"), "filament is 15 mm, but .* 12 mm"),
}


@pytest.mark.parametrize("name", BAD)
def test_it_refuses_a_file_that(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    with pytest.raises(SlicingError, match=words):
        checked(tmp_path, text)


def test_it_refuses_a_time_that_does_not_agree(tmp_path: Path) -> None:
    said = SliceResult(time_s=40, filament_mm=12, filament_g=0, layers=3, bounds=SAID.bounds)
    with pytest.raises(SlicingError, match="time is"):
        checked(tmp_path, GOOD, said)


def test_another_parser_reads_the_same_from_our_file(tmp_path: Path) -> None:
    out = tmp_path / "gear.gcode"
    result = engine("planar").slice(shapes.mesh(shapes.gear(8, 8, 1)), Machine(), SliceSettings(), out)
    ours = replay.parse(out.read_bytes())
    moves = [line.params for line in parse_gcode_lines(out.read_text()) if line.command == ("G", 1)]
    assert len(moves) == len(ours.delta)
    printed = sum(m["E"] for m in moves if "E" in m and ("X" in m or "Y" in m))
    assert printed == pytest.approx(result.filament_mm, rel=1e-4)
    xs = np.array([m["X"] for m in moves if "X" in m])
    named = np.array(["X" in m for m in moves])
    np.testing.assert_allclose(ours.position[named, 0], xs)
