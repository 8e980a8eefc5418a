"""G-code text as moves: what a file may contain, and what it may try."""

from __future__ import annotations

import contextlib
import io
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
from gcodeparser import parse_gcode_lines
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slicing.engines.base import SlicingError
from slicing.reading import Heat, LayerBegins, Rows, State, Stretch, chunks, replay, rows

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "gcode"


def moves(text: str) -> Stretch:
    """Everything that a text does, as one stretch."""
    parts = [one for one in replay([rows(text.encode() + b"\n")], State()) if isinstance(one, Stretch)]
    stacked = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("position", "delta", "speed", "given", "offset")
    }
    return Stretch(parts[0].begin, tool=parts[-1].tool, **stacked)


def ends(text: str) -> list[float]:
    return [round(v, 6) for v in moves(text).position[-1].tolist()]


def filament(text: str) -> float:
    return round(float(moves(text).delta[:, 3].sum()), 6)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("G1 X1.5 Y-2 Z.25", [1.5, -2, 0.25]),
        ("G0X1Y2Z3", [1, 2, 3]),
        ("g1 x1 y2", [1, 2, 0]),
        ("  \tG1 X1", [1, 0, 0]),
        ("G01 X1", [1, 0, 0]),
        ("G1 X+1 Y1. Z0000.5", [1, 1, 0.5]),
        ("G1 X 1 Y  2", [1, 2, 0]),
        ("N12 G1 X1 Y2*87", [1, 2, 0]),
        ("G1 X1 ; to X9", [1, 0, 0]),
        ("G1 X1;Y9", [1, 0, 0]),
        ("G1 X1 (to the Y9 side) Y2", [1, 2, 0]),
        ("G1 X1 S255 P3 Y2", [1, 2, 0]),
        ("G1 X123456.1234567", [123456.123457, 0, 0]),
        ("G1 X1\r", [1, 0, 0]),
        ("M117 X9 Y9\nG1 X1", [1, 0, 0]),
        ("; X9\n\n\nG1 X1\n;G1 X9", [1, 0, 0]),
    ],
)
def test_a_move_may_be_written_in_many_ways(line: str, place: list[float]) -> None:
    assert ends(line) == place


def test_positions_are_absolute_or_relative_filament_too() -> None:
    assert ends("G1 X10\nG91\nG1 X5\nG1 X5 Z1\nG90\nG1 Y1") == [20, 1, 1]
    assert filament("M82\nG1 X1 E2\nG1 X2 E3") == 3
    assert filament("M83\nG1 X1 E2\nG1 X2 E3") == 5
    assert filament("M82\nG1 X1 E2\nG92 E0\nG1 X2 E3") == 5
    assert filament("M83\nG1 E2\nG92 E7\nG1 E1\nM82\nG1 E9") == 4, "8 before, 9 after"


def test_a_position_that_is_set_moves_nothing_but_what_comes_after_it() -> None:
    assert ends("G1 X100\nG92 X0\nG1 X50") == [150, 0, 0], "the machine is where it is, whatever the file calls that"
    assert ends("G91\nG1 X100\nG92 X7\nG90\nG1 X8") == [101, 0, 0]


def test_homing_takes_back_what_was_set() -> None:
    assert ends("G1 X100 Y100\nG92 X0\nG28 X\nG1 Y50") == [0, 50, 0]
    assert ends("G1 X100 Y100 Z5\nG28\nG1 Z1") == [0, 0, 1]


def test_speed_lasts_until_it_is_changed() -> None:
    assert moves("G1 X1 F600\nG1 X2\nG1 X3 F1200").speed.tolist() == [10, 10, 20]


@pytest.mark.parametrize(
    ("text", "length", "far"),
    [
        ("G1 X10\nG2 X-10 Y0 I-10 J0", math.pi * 10, (0, -10)),  # clockwise from the right: through the front
        ("G1 X10\nG3 X-10 Y0 I-10 J0", math.pi * 10, (0, 10)),
        ("G1 X10\nG3 I-10", 2 * math.pi * 10, (0, 10)),  # no end: all the way round
        ("G1 X10\nG3 X0 Y10 R10", math.pi * 5, (7.0711, 7.0711)),
        ("G1 X10\nG3 X0 Y10 R-10", math.pi * 15, (17.0711, 17.0711)),  # the long way
        ("G91\nG1 X10\nG3 X-20 I-10", math.pi * 10, (0, 10)),
    ],
)
def test_arcs_go_round_their_centre(text: str, length: float, far: tuple[float, float]) -> None:
    found = moves(text)
    arc = found.delta[1:, :2]
    assert np.hypot(arc[:, 0], arc[:, 1]).sum() == pytest.approx(length, rel=2e-3)
    assert np.hypot(*(found.position[:, :2] - far).T).min() < 0.7, "it passes there"


def test_the_way_of_an_arc_is_cut_up_with_its_filament_and_height() -> None:
    found = moves("M83\nG1 X10\nG3 X-10 Y0 Z2 I-10 E5")
    assert found.delta[1:, 3].sum() == pytest.approx(5)
    assert found.position[-1].tolist() == pytest.approx([-10, 0, 2], abs=1e-9)
    assert np.ptp(found.delta[1:, 3]) < 1e-9


def test_it_tells_heat_tools_and_layers() -> None:
    text = "M140 S60\nT1\nM104 T0 S200\nM109 R210\n;LAYER_CHANGE\nSET_HEATER_TEMPERATURE HEATER=extruder1 TARGET=215\n"
    found = list(replay([rows(text.encode())], State()))
    assert found == [
        Heat("bed", 60, wait=False, tool=0),
        Heat("nozzle", 200, wait=False, tool=0),
        Heat("nozzle", 210, wait=True, tool=1),
        LayerBegins(text.index(";LAYER")),
        Heat("nozzle", 215, wait=False, tool=1),
    ]


@pytest.mark.parametrize(
    "comment",
    [";LAYER_CHANGE", ";LAYER:0", ";LAYER:-3", "; CHANGE_LAYER", "; layer 12, Z = 3.200", "; BEGIN_LAYER_OBJECT z=0.2"],
)
def test_every_slicer_has_its_own_word_for_a_new_layer(comment: str) -> None:
    assert list(replay([rows(f"{comment}\n".encode(), 7)], State())) == [LayerBegins(7)]


def test_comments_about_layers_are_not_new_layers() -> None:
    text = "; layer end\n; layer_height = 0.2\n;LAYER_COUNT:5\n; total layers count = 4\nG1 X1 ;LAYER:1\n"
    assert not [one for one in replay([rows(text.encode())], State()) if isinstance(one, LayerBegins)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("G1 X1.2.3", "not a number"),
        ("G1 X--1", "not a number"),
        ("G1 Xten", "not a number"),
        ("G1 X1-2", "not a number"),
        ("G1 X123456789", "not a number"),
        ("G1 X", "not a number"),
        ("G1 X1 Y", "not a number"),
        ("G20", "inches"),
        ("G2 X1 Y1", "without a centre"),
        ("G001 X500", "cannot be checked"),
        ("G1.0 X500", "cannot be checked"),
        (" " * 90 + "G1 X500", "cannot be checked"),
    ],
)
def test_it_refuses_what_it_cannot_follow(line: str, why: str) -> None:
    with pytest.raises(SlicingError, match=why):
        moves(f"G1 X1\n{line}")


def test_an_exponent_is_none_in_g_code_but_filament() -> None:
    assert (ends("G1 X1e5"), filament("G1 X1e5")) == ([1, 0, 0], 5)


@pytest.mark.parametrize(
    "line",
    [
        b"G1 X1 " + b"(" * 300_000,
        b"SET_HEATER_TEMPERATURE " + b"HEATER=a " * 30_000,
        b"M104 " + b"S " * 150_000,
        b"a" * 300_000,
        b" " * 300_000 + b";",
        b"G1 " + b"X " * 150_000,
        b"N" + b" " * 300_000,
    ],
)
def test_long_lines_cost_no_more_than_they_are_long(line: bytes) -> None:
    """What looks from each of its places on to the end of a line would take hours here."""
    with contextlib.suppress(SlicingError):
        list(replay([rows(line + b"\n")], State()))


def test_a_file_in_chunks_is_the_file() -> None:
    text = (SAMPLES / "prusaslicer.gcode").read_bytes()
    whole = list(chunks(io.BytesIO(text)))
    small = list(chunks(io.BytesIO(text), size=100))
    assert b"".join(part for _, part in small) == whole[0][1]
    assert all(text[offset : offset + len(part)] == part for offset, part in small)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(SlicingError, match="not G-code text"):
        list(chunks(io.BytesIO(b"G1 X1\n\0\0")))
    with pytest.raises(SlicingError, match="damaged"):
        list(chunks(io.BytesIO(b"x" * 5000), size=1000))


def test_offsets_say_where_each_line_is() -> None:
    data = (SAMPLES / "cura.gcode").read_bytes()
    found: Rows = rows(data)
    assert all(data[at : at + 1] in (b"G", b"M") for at in found.offset.tolist())
    assert all(data[at : at + len(line)] == line for _, at, line in found.others)


@pytest.mark.parametrize("sample", ["prusaslicer", "orcaslicer", "cura", "simplify3d"])
def test_another_parser_reads_the_same_words(sample: str) -> None:
    """The PyPI package gcodeparser, which goes line by line."""
    text = (SAMPLES / f"{sample}.gcode").read_text()
    theirs = [
        [line.params.get(word, math.nan) for word in "XYZEF"]
        for line in parse_gcode_lines(text)
        if line.command in (("G", 0), ("G", 1), ("G", 92))
    ]
    ours = rows(text.encode()).values[:, :5]
    assert len(theirs) > 50
    np.testing.assert_allclose(ours, np.array(theirs, float))


def straightforward(text: str) -> tuple[list[tuple[float, float, float]], float]:
    """(where a printer goes, what it takes the filament to be at in the end), one line after the other: the slow way to
    say what ours must be."""
    place = dict.fromkeys("XYZE", 0.0)
    relative = relative_e = False
    out = []
    for line in text.split("\n"):
        name, *words = line.split()
        if name in ("G90", "G91"):
            relative = relative_e = name == "G91"
        elif name in ("M82", "M83"):
            relative_e = name == "M83"
        elif name in ("G0", "G1", "G92"):
            for word in words:
                adds = name != "G92" and (relative_e if word[0] == "E" else relative)
                place[word[0]] = float(word[1:]) + (place[word[0]] if adds else 0.0)
            out += [(place["X"], place["Y"], place["Z"])] if name != "G92" else []
    return out, place["E"]


def program(seed: int, lines: int = 200) -> str:
    dice = random.Random(seed)
    out = ["G1 X1"]
    for _ in range(lines):
        kind = dice.choice(["G1"] * 12 + ["G0", "G90", "G91", "M82", "M83", "G92"])
        if kind[0] == "M" or kind in ("G90", "G91"):
            out.append(kind)
            continue
        axes = ["E"] if kind == "G92" else dice.sample("XYZE", dice.randint(1, 4))
        out.append(" ".join([kind, *(f"{axis}{dice.uniform(-200, 200):.{dice.randint(0, 5)}f}" for axis in axes)]))
    return "\n".join(out)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_it_follows_any_program_as_a_printer_does(seed: int) -> None:
    text = program(seed)
    state = State()
    found = [one for one in replay([rows(text.encode() + b"\n")], state) if isinstance(one, Stretch)]
    position = np.concatenate([one.position for one in found])
    expected, filament_at = straightforward(text)
    np.testing.assert_allclose(position, np.array(expected), atol=1e-6)
    assert state.place[3] == pytest.approx(filament_at, abs=1e-6)


WORDS = "G0|G1|G2|G3|G92|G28|G91|M83|T1|M104|X|Y|Z|E|F|I|J|R|;|(|)|-1|.5|1.|99999|e"
words = st.sampled_from([*re.split(r"\|", WORDS), "\n", "\n", "\r\n"])
texts = st.lists(words, max_size=60).map(lambda some: " ".join(some).encode())


def everything(data: bytes) -> list[Stretch]:
    parts = (rows(part, offset) for offset, part in chunks(io.BytesIO(data), 64))
    return [one for one in replay(parts, State()) if isinstance(one, Stretch)]


@given(st.one_of(st.binary(max_size=400), texts))
@settings(deadline=None, max_examples=300)
@example(b"G1 X1 ;")
@example(b"G2 X1 I1e9")
@example(b"G1 X." + b"0" * 50)
def test_no_bytes_crash_it_and_all_that_it_tells_is_finite(data: bytes) -> None:
    found: list[Stretch] = []
    with contextlib.suppress(SlicingError):
        found = everything(data)
    for stretch in found:
        assert np.isfinite(stretch.position).all()
        assert np.isfinite(stretch.delta).all()
        assert np.isfinite(stretch.speed).all()
        assert (stretch.speed > 0).all()
