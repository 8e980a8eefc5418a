"""The engine as its caller sees it: refusals, progress, cancelling, the file itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slicing.engines import engine
from slicing.engines.base import Machine, SliceSettings, SlicingError
from tests import shapes
from tests.slicing.engines.planar.conftest import Slicer

BOX = shapes.box(20, 16, 4)


@pytest.mark.parametrize(
    ("shape", "chosen", "words"),
    [
        (shapes.box(230, 10, 4), {}, r"230 x 10 x 4 mm, .* only print 220 x 220 x 250 mm"),
        (shapes.box(10, 10, 251), {}, r"10 x 10 x 251 mm"),
        (shapes.box(217, 10, 4), {}, r"with its skirt"),
        (shapes.box(0.08, 10, 4), {}, "thinner than a line everywhere"),
        (BOX, {"nozzle_diameter": 0.6}, "nozzle of 0.6 mm, but the printer profile has one of 0.4 mm"),
        (BOX, {"filament_diameter": 2.85}, "filament of 2.85 mm"),
        (BOX, {"nozzle_temperature": 300.0}, "nozzle temperature of 300 C is above the 285 C"),
        (BOX, {"bed_temperature": 120.0}, "bed temperature of 120 C"),
        (BOX, {"layer_height": 0.5}, "too high for a nozzle"),
    ],
)
def test_it_refuses_with_a_sentence(shape: shapes.Triangles, chosen: dict, words: str, sliced: Slicer) -> None:
    with pytest.raises(SlicingError, match=words):
        sliced(shape, **chosen)


def test_a_part_as_large_as_the_bed_prints_without_skirt_and_prime_line(sliced: Slicer) -> None:
    made = sliced(shapes.box(220, 220, 1), skirt_loops=0)
    assert "no room for a prime line" in made.text
    assert np.ptp(made.segments()[1][:, 0]) == pytest.approx(220 - 0.45, abs=0.002)


def test_it_honours_an_origin_in_the_middle_of_the_bed(sliced: Slicer) -> None:
    made = sliced(BOX, machine=Machine(size=(100, 80, 60), origin=(-50, -40)))
    ends = np.vstack(made.segments())
    np.testing.assert_allclose((ends.min(axis=0) + ends.max(axis=0))[:2], [0, 0], atol=0.002)


@pytest.mark.parametrize("where", ["front", "left", "back"])
def test_the_prime_line_keeps_clear_of_the_print(where: str, sliced: Slicer) -> None:
    size = {"front": (200.0, 60.0), "left": (60.0, 206.0), "back": (60.0, 60.0)}[where]
    made = sliced(shapes.box(*size, 0.6))
    primed = made.replay.position[: made.primed][made.replay.extruding[: made.primed]]
    skirt = np.vstack(made.segments("Skirt/Brim"))[:, :2]
    apart = np.maximum(primed[:, :2] - skirt.max(axis=0), skirt.min(axis=0) - primed[:, :2]).max(axis=1)
    assert (apart >= 2).all()


def test_progress_rises_to_the_end_and_raising_from_it_stops(tmp_path: Path) -> None:
    told: list[float] = []
    mesh = shapes.mesh(shapes.terrain(60))
    engine("planar").slice(mesh, Machine(), SliceSettings(), tmp_path / "a.gcode", told.append)
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] == 1
    assert len(told) > 60
    assert np.diff(told).max() <= 0.2

    class Cancelled(Exception):
        pass

    def cancel(share: float) -> None:
        if share > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        engine("planar").slice(mesh, Machine(), SliceSettings(), tmp_path / "b.gcode", cancel)
    assert not (tmp_path / "b.gcode").exists()


def test_equal_input_gives_an_equal_file(sliced: Slicer) -> None:
    first = sliced(BOX).path.read_bytes()
    assert sliced(BOX).path.read_bytes() == first


def test_the_file_says_what_it_is(sliced: Slicer) -> None:
    made = sliced(BOX)
    text = made.text
    for line in (
        f"; filament used [mm] = {made.result.filament_mm:.2f}",
        f"; filament used [g] = {made.result.filament_g:.2f}",
        "; layer_height = 0.2",
        "; nozzle_temperature = 210",
        "M190 S60",
        "M109 S210",
    ):
        assert line in text.splitlines()
    assert text.count(";LAYER_CHANGE") == made.result.layers == 20
    assert ";Z:4\n;HEIGHT:0.2\n" in text
    for kind in ("Skirt/Brim", "External perimeter", "Perimeter", "Solid infill", "Internal infill"):
        assert f";TYPE:{kind}\n" in text
    assert "M106 S255" in text.split(";LAYER_CHANGE")[2]
    assert "M106" not in text.split(";LAYER_CHANGE")[1]
    assert text.rstrip().endswith("M84")
    volume = made.result.filament_mm * np.pi * 1.75**2 / 4
    assert made.result.filament_g == pytest.approx(volume / 1000 * 1.24)


def test_the_skirt_comes_first_and_walls_before_infill(sliced: Slicer) -> None:
    layer = sliced(BOX).text.split(";LAYER_CHANGE")[1]
    kinds = [line[6:] for line in layer.splitlines() if line.startswith(";TYPE:")]
    assert kinds == ["Skirt/Brim", "Perimeter", "External perimeter", "Solid infill"]


def test_it_retracts_between_islands_and_not_within_one(sliced: Slicer) -> None:
    block = sliced(shapes.box(40, 40, 4))
    within = block.replay.delta[block.primed :, 3] < 0
    assert within.sum() <= 3  # to the skirt, to the part, at the end
    towers = sliced(shapes.box(5, 5, 4), shapes.moved(shapes.box(5, 5, 4), 30))
    between = towers.replay.delta[towers.primed :, 3] < 0
    assert between.sum() >= 20
    way = np.linalg.norm(towers.replay.delta[:, :2], axis=1)
    pulled = np.cumsum(np.where(towers.replay.extruding, 0.0, towers.replay.delta[:, 3]))
    crossing = (way > 20) & ~towers.replay.extruding & (np.arange(len(way)) > towers.primed + 9)
    assert crossing.sum() >= 20
    np.testing.assert_allclose(pulled[crossing][:-1], -0.8)  # the last one is the way to the parking place


def test_a_retraction_is_undone_before_printing_goes_on(sliced: Slicer) -> None:
    made = sliced(shapes.box(5, 5, 4), shapes.moved(shapes.box(5, 5, 4), 30))
    pulled = np.cumsum(np.where(made.replay.extruding, 0.0, made.replay.delta[:, 3]))
    assert np.abs(pulled[made.replay.extruding]).max() < 1e-9


def test_no_retraction_where_its_length_is_zero(sliced: Slicer) -> None:
    made = sliced(shapes.box(5, 5, 2), shapes.moved(shapes.box(5, 5, 2), 30), retract_length=0.0)
    assert (made.replay.delta[:, 3] >= 0).all()
