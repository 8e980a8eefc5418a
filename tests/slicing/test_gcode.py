"""Facts of G-code from any slicer, and which of it a machine may run.

The samples in tests/data/gcode were written by PrusaSlicer 2.5.0 and CuraEngine 4.13 (with the header that Cura itself
puts there); those of OrcaSlicer and Simplify3D follow files of theirs.
"""

from __future__ import annotations

import io
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicing import gcode
from slicing.engines.base import Machine, SlicingError
from slicing.engines.motion import Moves, durations
from slicing.gcode import facts, survey
from slicing.headers import said, thumbnail_block, thumbnails
from slicing.reading import State, Stretch, replay, rows

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "gcode"
CENTRED = Machine(origin=(-110, -110))
Pair = tuple[float | None, float | None]
AREA = math.pi * 0.875**2
#: 0.2 mm3 of plastic in every mm
SQUARE = "G28\nM109 S200\nG90\nM83\nG1 Z0.2 F600\nG1 X50 Y50 F6000\nG1 X70 E0.83\nG1 Y70 E0.83\n"


def of(tmp_path: Path, text: str, machine: Machine | None = None) -> dict[str, Any]:
    path = tmp_path / "a.gcode"
    path.write_bytes(text.encode())
    return facts(path, machine)


def sample(name: str) -> dict[str, Any]:
    return facts(SAMPLES / f"{name}.gcode")


# -- what slicers write
@pytest.mark.parametrize(
    ("name", "slicer", "version", "time", "tolerance"),
    [
        ("prusaslicer", "PrusaSlicer", "2.5.0", 64, 0.05),
        ("cura", "Cura", "4.13.0", 36, 0.15),  # it plans with 4000 mm/s2 where we take the printer to have 1000
        ("orcaslicer", "OrcaSlicer", "2.1.1", 62, None),
        ("simplify3d", "Simplify3D", "4.1.2", 60, None),
    ],
)
def test_it_knows_who_made_a_file_and_what_they_say(
    name: str, slicer: str, version: str, time: float, tolerance: float | None
) -> None:
    found = sample(name)
    assert (found["slicer"], found["slicer_version"], found["slicer_time_s"]) == (slicer, version, time)
    assert found["filament_mm"] == pytest.approx(found["slicer_filament_mm"], abs=0.06), "ours is counted, theirs read"
    if tolerance:
        assert found["time_s"] == pytest.approx(time, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "layers", "layer", "first", "height", "nozzle", "bed"),
    [
        ("prusaslicer", 4, 0.25, 0.25, 1.0, (235, 240), (80, 85)),
        ("cura", 4, 0.25, 0.25, 1.0, (210, 210), (60, 60)),
        ("orcaslicer", 4, 0.2, 0.2, 0.8, (220, 220), (55, 55)),
        ("simplify3d", 4, 0.3, 0.3, 1.2, (195, 195), (65, 65)),
    ],
)
def test_it_finds_layers_and_temperatures(
    name: str, layers: int, layer: float, first: float, height: float, nozzle: Pair, bed: Pair
) -> None:
    found = sample(name)
    assert (found["layers"], found["layer_height"], found["first_layer_height"]) == (layers, layer, first)
    assert found["height"] == height
    assert heat(found) == (nozzle, bed)


def heat(found: dict[str, Any]) -> tuple[Pair, Pair]:
    """Nozzle and bed: of the first layer, of the others."""
    nozzle, bed = ((found[f"first_layer_{p}_temperature"], found[f"{p}_temperature"]) for p in ("nozzle", "bed"))
    return nozzle, bed


HIGHER = "G1 Z0.4\nG1 X50 Y50 E0.83\nG1 X70 E0.83\n"


@pytest.mark.parametrize(
    ("text", "nozzle"),
    [
        (SQUARE, (200, 200)),
        (f"{SQUARE}M104 S0\n", (200, 200)),
        (f"{SQUARE}M104 S190\n{HIGHER}M104 S0\n", (200, 190)),
        (f"{SQUARE}M104 S190\n{HIGHER}M104 S230\n{HIGHER.replace('0.4', '0.6')}", (200, 230)),
        (f"M104 S150\n{SQUARE}{HIGHER}", (200, 200)),
        (SQUARE + HIGHER.replace("\n", "\nM104 S195\n", 1), (200, 195)),
        (f"{SQUARE};LAYER_CHANGE\nM104 S205\n{HIGHER};LAYER_CHANGE\nM104 S210\n{HIGHER}", (205, 210)),
    ],
)
def test_the_heat_of_the_first_layer_is_what_it_begins_with(tmp_path: Path, text: str, nozzle: Pair) -> None:
    assert heat(of(tmp_path, text)) == (nozzle, (None, None))


@pytest.mark.parametrize(
    ("comments", "nozzle", "bed"),
    [
        (
            "; first_layer_temperature = 215,220\n; temperature = 210,220\n; bed_temperature = 60\n",
            (215, 210),
            (60, 60),
        ),
        (
            "; nozzle_temperature_initial_layer = 225\n; nozzle_temperature = 220\n; curr_bed_type = Cool Plate\n"
            "; hot_plate_temp = 90\n; cool_plate_temp = 35\n; cool_plate_temp_initial_layer = 40\n",
            (225, 220),
            (40, 35),
        ),
        ("; temperature = 0\n; bed_temperature = warm\n", (None, None), (None, None)),
        ("", (None, None), (None, None)),
    ],
)
def test_where_a_macro_of_the_printer_heats_the_comments_tell(
    tmp_path: Path, comments: str, nozzle: Pair, bed: Pair
) -> None:
    moves = SQUARE.replace("M109 S200", "START_PRINT") + HIGHER + "M104 S0\nM140 S0\n"
    assert heat(of(tmp_path, moves + comments)) == (nozzle, bed)


@pytest.mark.parametrize(("name", "density"), [("prusaslicer", 1.27), ("orcaslicer", 1.24), ("simplify3d", 1.25)])
def test_filament_weighs_what_the_slicer_takes_it_to(name: str, density: float) -> None:
    found = sample(name)
    assert found["filament_cm3"] == pytest.approx(found["filament_mm"] * AREA / 1000, abs=1e-4)
    assert found["filament_g"] == pytest.approx(found["filament_cm3"] * density, abs=2e-4)


def test_bounds_are_those_of_what_is_printed() -> None:
    assert sample("simplify3d")["bounds"] == [[100, 100, 0.3], [120, 120, 1.2]]
    low, high = sample("cura")["bounds"]
    assert (low, high) == ([-8.225, -8.225, 0.25], [8.225, 8.225, 1.0]), "as the engine says itself"


def test_cura_without_its_front_end_leaves_its_header_empty_and_is_not_believed() -> None:
    text = (SAMPLES / "cura.gcode").read_text()
    text = text.replace(";TIME:36\n", ";TIME:6666\n").replace("0.0448402m", "0m")
    found = said(text.encode(), text.encode())
    assert found.filament_mm == []
    assert found.time_s == pytest.approx(36.812524), "what had passed at its last layer"


@pytest.mark.parametrize(
    ("comment", "name", "version"),
    [
        ("; generated by PrusaSlicer 2.7.4+linux-x64-GTK3 on 2024-05-06 at 07:08:09 UTC", "PrusaSlicer", "2.7.4"),
        ("; generated by SuperSlicer 2.5.59.2 on 2023-07-01 at 10:11:12 UTC", "SuperSlicer", "2.5.59.2"),
        ("; generated by Slic3r 1.3.0 on 2020-01-01 at 00:00:00", "Slic3r", "1.3.0"),
        ("; BambuStudio 01.09.07.52", "BambuStudio", "01.09.07.52"),
        (";Sliced by ideaMaker 4.3.2.6470, 2023-01-01 10:00:00 UTC+0800", "ideaMaker", "4.3.2.6470"),
        (";Generated with Cura_SteamEngine 5.6.0", "Cura", "5.6.0"),
        ("; generated by Print Farm 0.1.0 on 2026-01-02 at 03:04:05 UTC", "Print Farm", "0.1.0"),
        ("; G-Code generated by Simplify3D(R) Version 5.1.2", "Simplify3D", "5.1.2"),
        ("; a bracket", "", ""),
    ],
)  # fmt: skip
def test_it_knows_slicers_by_their_first_words(comment: str, name: str, version: str) -> None:
    found = said(f"{comment}\n".encode(), b"")
    assert (found.slicer, found.version) == (name, version)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("; estimated printing time (normal mode) = 1d 2h 3m 4s", 93784),
        ("; estimated printing time (normal mode) = 59s", 59),
        ("; model printing time: 1h 1m; total estimated time: 1h 2m 3s", 3723),
        ("; estimated printing time (normal mode) = soon", None),
    ],
)
def test_it_reads_durations(line: str, seconds: float | None) -> None:
    assert said(line.encode(), b"").time_s == seconds


# -- what is counted
def test_each_tool_has_its_own_filament(tmp_path: Path) -> None:
    text = (
        "; generated by PrusaSlicer 2.7.4 on 2024-05-06 at 07:08:09 UTC\n" + SQUARE
        + "G1 E-2\nT1\nG1 E2\nG1 X50 E1.66\nG1 E-5\nT0\nG1 E2\nG1 Y60 E0.5\n"
        "; filament_type = PLA;PVA\n; filament_density = 1.24,1.19\n"
    )  # fmt: skip
    first, second = of(tmp_path, text)["tools"]
    assert (first["tool"], first["filament_mm"], first["filament_type"]) == (0, pytest.approx(2.16), "PLA")
    assert (second["tool"], second["filament_mm"], second["filament_type"]) == (1, pytest.approx(3.66), "PVA")
    assert second["filament_g"] == pytest.approx(3.66 * AREA / 1000 * 1.19, abs=1e-4)


def test_what_is_pulled_back_and_pushed_again_counts_once(tmp_path: Path) -> None:
    text = SQUARE + "G1 E-1\nG1 X60 Y60\nG1 E1\n" * 50
    assert of(tmp_path, text)["filament_mm"] == pytest.approx(1.66)


def test_layers_are_counted_by_height_where_the_file_does_not_say(tmp_path: Path) -> None:
    one = "G1 Z{z:.2f}\nG1 X50 Y50\nG1 X70 E0.83\nG1 Z{hop:.2f}\nG1 X60\nG1 Z{z:.2f}\nG1 X80 E1\n"
    text = SQUARE + "".join(one.format(z=0.2 * k, hop=0.2 * k + 0.6) for k in range(1, 8))
    found = of(tmp_path, text)
    assert (found["layers"], found["layer_height"], found["height"]) == (7, 0.2, 1.4)


def test_a_spiral_is_not_a_thousand_layers(tmp_path: Path) -> None:
    at = [(50 + 9 * math.cos(k / 9), 50 + 9 * math.sin(k / 9), 0.2 + k / 1e4) for k in range(6000)]
    turn = "".join(f"G1 X{x:.3f} Y{y:.3f} Z{z:.4f} E0.1\n" for x, y, z in at)
    assert of(tmp_path, SQUARE + turn)["layers"] == pytest.approx(21, abs=2)


def test_the_time_is_that_of_the_planner_over_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is planned in batches: each of them stops the nozzle once, which must not be noticed."""
    text = (SAMPLES / "prusaslicer.gcode").read_text()
    parts = [one for one in replay([rows(text.encode())], State()) if isinstance(one, Stretch)]
    delta, speed = np.concatenate([p.delta for p in parts]), np.concatenate([p.speed for p in parts])
    exact = float(durations(Moves(delta, speed), Machine()).sum())
    assert of(tmp_path, text)["time_s"] == pytest.approx(exact, abs=0.06)
    monkeypatch.setattr(gcode, "AT_ONCE", 100)
    assert of(tmp_path, text)["time_s"] == pytest.approx(exact, rel=0.01)


def test_a_file_in_small_chunks_has_the_same_facts(tmp_path: Path) -> None:
    data = (SAMPLES / "prusaslicer.gcode").read_bytes()

    def found(size: int) -> tuple[Any, ...]:
        parts = (rows(part, at) for at, part in gcode.chunks(io.BytesIO(data), size))
        whole = survey(parts, Machine(), check=False)
        marks = [(mark.offset, mark.z) for mark in whole.layers]
        return whole.printed.rounded, whole.heights, round(whole.tools[0].furthest, 6), marks

    assert found(200) == found(1 << 20)


def test_layers_are_known_by_where_they_begin(tmp_path: Path) -> None:
    data = (SAMPLES / "orcaslicer.gcode").read_bytes()
    whole = survey(iter([rows(data)]), Machine(), check=False)
    assert [data[mark.offset :].split(b"\n")[1] for mark in whole.layers] == [
        b";Z:0.2",
        b";Z:0.4",
        b";Z:0.6",
        b";Z:0.8",
    ]
    assert [mark.z for mark in whole.layers] == [0.2, 0.4, 0.6, 0.8]


# -- what a machine may run
def test_a_file_for_this_machine_passes() -> None:
    assert facts(SAMPLES / "prusaslicer.gcode", Machine())["layers"] == 4
    assert facts(SAMPLES / "cura.gcode", CENTRED)["layers"] == 4


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("G1 X221 E1\n", r"prints outside of the printable volume, at X221\.0"),
        ("G1 X-1\n", "moves outside"),
        ("G1 Z251\n", "moves outside"),
        ("G1 Z-0.5\n", "moves outside"),
        ("G91\nG1 X60\nG1 X60\nG1 X60\n", "moves outside"),
        ("G1 X200\nG92 X0\nG1 X100\n", r"moves outside of the printable volume, at X300\.0"),
        ("G3 X90 Y70 I10 J-100\n", "moves outside"),
        ("G3 X70 Y70 I200\n", "moves outside"),
        ("M104 S286\n", "heats the nozzle to 286 C; this printer allows 285 C"),
        ("M190 R111\n", "heats the bed to 111 C"),
        ("m109 s400\n", "heats the nozzle to 400 C"),
        ("SET_HEATER_TEMPERATURE HEATER=extruder TARGET=400\n", "heats the nozzle to 400 C"),
        ("set_heater_temperature heater=heater_bed target=200\n", "heats the bed to 200 C"),
        ("G20\n", "inches"),
        ("G1 X1.2.3\n", "not a number"),
    ],
)
def test_what_leaves_the_bed_or_overheats_is_refused(tmp_path: Path, more: str, why: str) -> None:
    with pytest.raises(SlicingError, match=why):
        of(tmp_path, SQUARE + more, Machine())


def test_homing_may_put_an_axis_where_it_likes(tmp_path: Path) -> None:
    """A bed whose corner is at 5, 5: after homing the nozzle is at 0, 0 and rises there."""
    text = SQUARE.replace("G1 Z0.2", "G1 Z5 F600\nG1 Z0.2")
    assert of(tmp_path, text, Machine(origin=(5.0, 5.0)))["layers"] == 1


def test_printing_cold_and_printing_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SlicingError, match="without heating"):
        of(tmp_path, SQUARE.replace("S200", "S0"), Machine())
    with pytest.raises(SlicingError, match="prints nothing"):
        of(tmp_path, "G28\nG1 X50\n", Machine())
    with pytest.raises(SlicingError, match="not G-code"):
        of(tmp_path, "G28\n\0\0\0", Machine())


def test_only_what_is_asked_of_a_machine_is_checked(tmp_path: Path) -> None:
    """The command line shows facts of any file."""
    assert of(tmp_path, SQUARE + "G1 X900 E1\n")["bounds"][1][0] == 900


# -- pictures in files
def png(size: int) -> bytes:
    return b"\x89PNG\r\n" + bytes(size)


def test_it_finds_pictures_in_the_head(tmp_path: Path) -> None:
    text = thumbnail_block(16, 16, png(50)) + thumbnail_block(220, 124, png(3000)) + SQUARE.encode()
    (tmp_path / "a.gcode").write_bytes(text)
    assert facts(tmp_path / "a.gcode")["thumbnails"] == [
        {"width": 16, "height": 16, "format": "png", "bytes": 56},
        {"width": 220, "height": 124, "format": "png", "bytes": 3006},
    ]


def test_pictures_of_other_kinds_are_known_and_damaged_ones_left_out() -> None:
    good = thumbnail_block(32, 32, png(90))
    jpg = thumbnail_block(64, 64, b"\xff\xd8\xff" + bytes(60)).replace(b"thumbnail", b"thumbnail_JPG")
    qoi = thumbnail_block(48, 48, b"qoif" + bytes(60)).replace(b"thumbnail", b"thumbnail_QOI")
    cut = good.replace(b"A", b"", 1)
    fake = thumbnail_block(8, 8, b"<script>" + bytes(80))
    found = thumbnails(cut + jpg + fake + qoi + b"; thumbnail begin 9x9 99\n; !!\n; thumbnail end\n" + good)
    assert [(one.format, one.width) for one in found] == [("jpg", 64), ("qoi", 48), ("png", 32)]


def test_pictures_that_never_end_cost_no_time() -> None:
    """Each of them would be looked for to the end of the head: 10 000 times a megabyte."""
    begins = b"; thumbnail begin 9x9 99\n; AAAA\n" * 30_000
    good = thumbnail_block(8, 8, png(90))
    assert len(thumbnails(begins + good)) == 1
    assert thumbnails(begins) == []
    assert len(thumbnails(good * 100)) == 12, "no slicer writes more"


# -- as a child process, and from strangers
def test_as_a_program_it_prints_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.gcode"
    path.write_text(SQUARE)
    machine = json.dumps({"size": [100, 100, 100], "origin": [0, 0]})
    assert gcode.main([str(path), "--machine", machine]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == 1
    path.write_text(SQUARE + "G1 X101\n")
    assert gcode.main([str(path), "--machine", machine]) == 2
    assert "outside" in json.loads(capsys.readouterr().out)["error"]


def numbers(found: Any) -> list[float]:
    if isinstance(found, dict):
        return [n for value in found.values() for n in numbers(value)]
    if isinstance(found, list):
        return [n for value in found for n in numbers(value)]
    return [found] if isinstance(found, int | float) else []


def assert_sentence(refusal: SlicingError) -> None:
    assert re.search(r"^[A-Z].*[.?]$", str(refusal)), "a sentence for its owner"


SOURCES = [path.read_text() for path in sorted(SAMPLES.iterdir())]


@given(st.integers(0, 10**9), st.sampled_from(SOURCES))
@settings(deadline=None, max_examples=60)
def test_whatever_is_done_to_a_file_its_facts_are_finite_or_it_is_refused(seed: int, source: str) -> None:
    """Lines lost, doubled, swapped, cut, and with characters exchanged."""
    dice = random.Random(seed)
    lines = source.split("\n")
    for _ in range(dice.randint(1, 12)):
        at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
        lines[at] = dice.choice([lines[other], lines[at][: dice.randint(0, 9)], lines[at] + lines[other], ""])
        if lines[other]:
            place = dice.randrange(len(lines[other]))
            lines[other] = lines[other][:place] + chr(dice.randint(1, 255)) + lines[other][place + 1 :]
    data = "\n".join(lines).encode("latin-1")
    try:
        found = survey(iter([rows(data + b"\n")]), Machine(), check=dice.random() < 0.5)
    except SlicingError as refusal:
        assert_sentence(refusal)
        return
    told = gcode.describe(found, said(data, data), thumbnails(data))
    json.dumps(told, allow_nan=False)
    assert all(math.isfinite(number) for number in numbers(told))
    assert told["time_s"] >= 0


@given(st.binary(max_size=2000))
@settings(deadline=None)
def test_no_comment_crashes_it(data: bytes) -> None:
    text = b";" + data.replace(b"\n", b"\n; ") + b"\n; thumbnail begin 1x1 4\n; AAAA\n; thumbnail end\n"
    said(text, text)
    thumbnails(text)


def test_a_larger_machine_takes_what_a_smaller_one_refuses() -> None:
    small = replace(Machine(), size=(110.0, 110.0, 100.0))
    with pytest.raises(SlicingError, match="outside"):
        facts(SAMPLES / "prusaslicer.gcode", small)
