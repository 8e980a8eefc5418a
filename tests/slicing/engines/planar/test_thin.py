"""Thin walls and gaps: nothing vanishes, nothing is printed twice."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely

from slicing.engines.base import SlicingError
from tests import shapes
from tests.slicing.engines.planar.conftest import Print, Slicer


def covered(made: Print, layer_top: float) -> tuple[shapely.Geometry, float]:
    """(area that lines of one layer cover, sum of the areas of the lines), mm2."""
    a, b = made.segments()
    chosen = made.printed() & (made.kinds() != "Skirt/Brim")
    volume = made.replay.delta[chosen, 3] * math.pi * 1.75**2 / 4
    here = np.abs(b[:, 2] - layer_top) < 1e-6
    length = np.linalg.norm((b - a)[here], axis=1)
    width = volume[here] / length / 0.2 + 0.2 * (1 - math.pi / 4)
    lines = shapely.linestrings(np.stack([a[here, :2], b[here, :2]], axis=1))
    return shapely.union_all(shapely.buffer(lines, width / 2)), float(volume[here].sum() / 0.2)


@pytest.mark.parametrize("wall", [0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0, 1.15, 1.3, 1.5, 1.7, 2.0])
@pytest.mark.parametrize("turn", [0, 37, 45])
def test_a_wall_of_any_thickness_is_filled(wall: float, turn: float, sliced: Slicer) -> None:
    made = sliced(shapes.turned(shapes.frame(30, wall, 0.6), turn))
    section = 30**2 - (30 - 2 * wall) ** 2
    area, plastic = covered(made, 0.4)
    assert area.area / section >= 0.93
    assert 0.80 <= plastic / section <= 1.09 or wall < 0.25  # two outer walls may overlap by two fifths


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_a_thin_fin_is_one_line_from_end_to_end_at_any_angle(angle: int, sliced: Slicer) -> None:
    base, fin = shapes.box(8, 8, 0.4), shapes.moved(shapes.box(30, 0.4, 2), 0)
    made = sliced(base, shapes.turned(fin, angle))
    length = made.length(layer_top=1.6)
    assert length == pytest.approx(30 - 0.4, abs=1.0)


@pytest.mark.parametrize("radius", [3.0, 6.0, 12.0])
def test_a_thin_round_wall_is_closed(radius: float, sliced: Slicer) -> None:
    made = sliced(shapes.ring(radius, radius - 0.5, 1))
    around = 2 * math.pi * (radius - 0.25)
    assert made.length(layer_top=0.6) == pytest.approx(around, rel=0.05)
    middle = np.concatenate(made.segments())[:, :2] - 110
    np.testing.assert_allclose(np.hypot(*middle.T), radius - 0.25, atol=0.05)


def test_a_thin_cross_is_not_printed_twice_where_it_crosses(sliced: Slicer) -> None:
    fins = [shapes.box(20, 0.5, 1), shapes.turned(shapes.box(20, 0.5, 1), 90)]
    made = sliced(*fins)
    assert 36 <= made.length(layer_top=0.6) <= 41


def test_a_pin_thinner_than_two_lines_does_not_vanish(sliced: Slicer) -> None:
    pins = [shapes.moved(shapes.cylinder(0.3, 2, 24), x, 0, 0.4) for x in (-3, 0, 3)]
    made = sliced(shapes.box(12, 6, 0.6), *pins)
    assert made.result.layers == 12
    assert 0.1 <= made.length(layer_top=2.0) / 3 <= 0.7


def test_a_tapering_wedge_is_filled_to_its_thin_end(sliced: Slicer) -> None:
    made = sliced(shapes.prism([(0, 0), (40, -1.2), (40, 1.2)], 0.6))
    wedge = shapely.Polygon([(0, 0), (40, -1.2), (40, 1.2)])
    area, plastic = covered(made, 0.4)
    assert area.area / wedge.area >= 0.93
    assert 0.9 <= plastic / wedge.area <= 1.05
    reach = np.ptp(np.concatenate(made.segments())[:, 0])
    assert reach >= 40 - 5


def test_it_says_what_it_could_not_print(sliced: Slicer) -> None:
    hair = shapes.moved(shapes.box(0.05, 10, 2), 20)
    made = sliced(shapes.box(10, 10, 2), hair)
    assert made.result.facts["warnings"] == [
        "10 pieces are thinner than 0.1 mm and are not printed, the first at a height of 0.1 mm."
    ]
    assert sliced(shapes.box(10, 10, 2)).result.facts["warnings"] == []


def test_a_tip_too_thin_for_a_line_ends_the_print_below_it(sliced: Slicer) -> None:
    made = sliced(shapes.box(8, 8, 2), shapes.moved(shapes.box(0.05, 6, 2), z=2))
    assert made.result.bounds[1][2] == pytest.approx(2.0)
    assert "thinner than" in made.result.facts["warnings"][0]


def test_it_refuses_a_part_with_a_waist_too_thin_for_a_line(sliced: Slicer) -> None:
    waist = [shapes.box(8, 8, 2), shapes.moved(shapes.box(0.05, 6, 2), z=2), shapes.moved(shapes.box(8, 8, 2), z=4)]
    with pytest.raises(SlicingError, match=r"nothing would be printed between 2.0 mm and 4.0 mm"):
        sliced(*waist)
