"""Start and end code: variables from a fixed list and nothing else."""

from __future__ import annotations

import pytest

from slicing.engines import templates
from slicing.engines.base import Machine, SliceSettings, SlicingError
from slicing.engines.templates import VARIABLES, Place, end_gcode, start_gcode
from tests import shapes
from tests.slicing.engines.planar.conftest import Slicer

PLACE = Place((80, 90), (140, 130), 12.4, 62)


def test_every_variable_has_a_value() -> None:
    known = templates.values(Machine(), SliceSettings(), PLACE)
    assert known.keys() == VARIABLES.keys()
    text = start_gcode(Machine(start_gcode="".join(f"; {n} {{{n}}}\n" for n in VARIABLES)), SliceSettings(), PLACE)
    assert "{" not in text
    assert "; bed_temperature 60\n" in text
    assert "; max_z 12.4\n" in text


@pytest.mark.parametrize("flavour", ["marlin", "klipper"])
def test_without_templates_it_heats_homes_primes_and_cleans_up(flavour: str) -> None:
    settings = SliceSettings(first_layer_nozzle_temperature=215.0, first_layer_bed_temperature=65.0)
    start = start_gcode(Machine(flavour=flavour), settings, PLACE).splitlines()
    order = [start.index(line) for line in ("M140 S65", "M104 S215", "G28 ; home", "M190 S65", "M109 S215")]
    assert order == sorted(order)
    assert any(" E" in line for line in start)
    end = end_gcode(Machine(flavour=flavour), SliceSettings(), PLACE).splitlines()
    assert {"M104 S0", "M140 S0", "M107", "G1 Z22.4 F600", "M84"} <= set(end)


def test_own_code_that_heats_nothing_gets_the_heating_put_before_it() -> None:
    text = start_gcode(Machine(start_gcode="G28\nG1 Z5"), SliceSettings(), PLACE)
    assert text.index("M109 S210") < text.index("G28")
    for name in ("nozzle_temperature", "first_layer_nozzle_temperature"):
        macro = start_gcode(Machine(start_gcode=f"START_PRINT T={{{name}}}"), SliceSettings(), PLACE)
        assert macro == "START_PRINT T=210\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("M117 {name}", "{name}, which is not a variable"),
        ("{nozzle_temperature + 5}", "which is not a variable"),
        ("{0.__class__}", "which is not a variable"),
        ("M104 S{nozzle_temperature", "without its partner"),
        ("}", "without its partner"),
    ],
)
def test_anything_else_in_braces_is_an_error_that_names_it(text: str, words: str, sliced: Slicer) -> None:
    with pytest.raises(SlicingError, match=words):
        sliced(shapes.box(10, 10, 1), machine=Machine(start_gcode=text))
    with pytest.raises(SlicingError, match=words):
        sliced(shapes.box(10, 10, 1), machine=Machine(end_gcode=text))


def test_an_unknown_flavour_is_refused() -> None:
    with pytest.raises(SlicingError, match="flavour 'reprap'"):
        start_gcode(Machine(flavour="reprap"), SliceSettings(), PLACE)


def test_the_claimed_filament_and_time_include_the_start_code(sliced: Slicer) -> None:
    plain = sliced(shapes.box(10, 10, 1), machine=Machine(start_gcode="G28"))
    primed = sliced(shapes.box(10, 10, 1), machine=Machine(start_gcode="G28\nM83\nG1 Z0.2\nG1 X100 E25 F600"))
    assert primed.result.filament_mm == pytest.approx(plain.result.filament_mm + 25, abs=0.01)
    assert primed.result.time_s > plain.result.time_s + 5
