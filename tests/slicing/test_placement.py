"""Models scaled, turned, put down on a flat side, and arranged on one bed."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicing.engines import engine, replay
from slicing.engines.base import Machine, SliceSettings
from slicing.placement import DoesNotFit, Placement, arranged, on_one_bed, placed, stands
from tests import shapes


def test_it_scales_along_the_models_own_axes_and_then_turns_it() -> None:
    made = placed(shapes.mesh(shapes.box(10, 20, 30)), Placement(scale=(2, 1, 1), rotation=(0, 0, 90)))
    assert made.size_mm == pytest.approx((20, 20, 30))
    lying = placed(shapes.mesh(shapes.box(10, 20, 30)), Placement(rotation=(90, 0, 0)))
    assert lying.size_mm == pytest.approx((10, 30, 20))
    assert lying.bounds[0, 2] == 0
    assert lying.signed_volume_mm3 == pytest.approx(6000)


def test_turns_are_carried_out_about_x_then_y_then_z() -> None:
    arrow = shapes.mesh(shapes.moved(shapes.box(1, 1, 10), z=0))
    tip = placed(arrow, Placement(rotation=(90, 0, 90))).size_mm  # z goes to -y, and that to x
    assert tip == pytest.approx((10, 1, 1))


def test_a_turned_model_is_still_closed_and_a_mirrored_one_not_inside_out() -> None:
    gear = shapes.mesh(shapes.gear(9, 10, 4))
    made = placed(gear, Placement(scale=(-1, 1.3, 1), rotation=(17, 33, 71)))
    assert made.watertight
    assert made.signed_volume_mm3 == pytest.approx(1.3 * gear.volume_mm3)


@pytest.mark.parametrize("scale", [(0.0, 1.0, 1.0), (math.nan, 1.0, 1.0), (math.inf, 1.0, 1.0)])
def test_it_refuses_a_scale_that_is_none(scale: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="scale"):
        placed(shapes.mesh(shapes.box(1, 1, 1)), Placement(scale=scale))


@pytest.mark.parametrize("turn", [(0, 0, 0), (90, 0, 0), (0, 90, 0), (180, 0, 0), (25, 40, 0), (-160, 71, 30)])
def test_it_suggests_the_flat_side(turn: tuple[float, float, float]) -> None:
    lying = placed(shapes.mesh(shapes.box(60, 40, 6)), Placement(rotation=turn))
    best = stands(lying)[0]
    made = placed(lying, Placement(rotation=best.rotation))
    assert made.size_mm[2] == pytest.approx(6, abs=1e-3)
    assert best.contact_mm2 == pytest.approx(2400, rel=1e-6)
    assert best.overhang_mm2 == pytest.approx(0, abs=1e-6)


def test_it_stands_a_cone_on_its_base_and_a_table_on_its_top() -> None:
    cone = placed(shapes.mesh(shapes.cone(12, 2, 20)), Placement(rotation=(180, 0, 0)))
    assert placed(cone, Placement(rotation=stands(cone)[0].rotation)).bounds[1, 0] == pytest.approx(12, abs=0.1)
    legs = [shapes.moved(shapes.box(5, 5, 20), x, y) for x in (-20, 20) for y in (-20, 20)]
    best = stands(shapes.mesh(*legs, shapes.moved(shapes.box(50, 50, 4), z=20)))[0]
    assert best.overhang_mm2 == pytest.approx(100)  # where the legs' ends lie on the plate, which is no overhang
    assert best.contact_mm2 == pytest.approx(2500)


def test_what_stands_well_is_left_as_it_is() -> None:
    assert stands(shapes.mesh(shapes.box(20, 20, 20)))[0].rotation == (0, 0, 0)
    assert stands(shapes.mesh(shapes.bumpy_sphere(10, 40, 60)))[0].rotation == (0, 0, 0)


def test_a_model_that_would_fall_over_is_put_otherwise() -> None:
    askew = shapes.box(6, 6, 30)
    askew[..., 0] += askew[..., 2]  # leans by 45 degrees
    best = stands(shapes.mesh(askew))[0]
    assert best.rotation != (0, 0, 0)
    assert best.height_mm < 10


def overlapping(sizes: list[tuple[float, float]], places: list[tuple[float, float, bool]], gap: float) -> int:
    boxes = [
        (x, y, x + (d if turned else w), y + (w if turned else d))
        for (w, d), (x, y, turned) in zip(sizes, places, strict=True)
    ]
    slack = gap - 1e-6
    return sum(
        a[0] < b[2] + slack and b[0] < a[2] + slack and a[1] < b[3] + slack and b[1] < a[3] + slack
        for a, b in itertools.combinations(boxes, 2)
    )


@given(
    st.lists(st.tuples(st.floats(1, 90), st.floats(1, 90)), min_size=1, max_size=25),
    st.floats(0, 10),
)
@settings(max_examples=200, deadline=None)
def test_arranged_parts_keep_apart_and_on_the_bed(sizes: list[tuple[float, float]], gap: float) -> None:
    try:
        places = arranged(sizes, (200, 180), gap)
    except DoesNotFit:
        assert sum(x * y for x, y in sizes) > 0.2 * 200 * 180  # it may waste space, but not most of it
        return
    assert overlapping(sizes, places, gap) == 0
    for (w, d), (x, y, turned) in zip(sizes, places, strict=True):
        assert x >= 0
        assert y >= 0
        assert x + (d if turned else w) <= 200 + 1e-6
        assert y + (w if turned else d) <= 180 + 1e-6


def test_as_many_squares_fit_as_there_is_room_for() -> None:
    assert len(arranged([(20.0, 20.0)] * 64, (195, 195), 5.0)) == 64
    with pytest.raises(DoesNotFit, match="65 parts do not fit on the bed of 195 x 195 mm"):
        arranged([(20.0, 20.0)] * 65, (195, 195), 5.0)


def test_a_long_part_is_turned_if_it_only_fits_that_way() -> None:
    assert arranged([(10.0, 150.0)], (200, 100), 5.0) == [(0, 0, True)]


def test_several_models_and_copies_are_sliced_together(tmp_path: Path) -> None:
    parts = [(shapes.mesh(shapes.box(20, 10, 2)), 3), (shapes.mesh(shapes.inside_out(shapes.cylinder(6, 2))), 2)]
    together = on_one_bed(parts, (220, 220))
    assert together.volume_mm3 == pytest.approx(3 * 400 + 2 * parts[1][0].volume_mm3)
    machine, chosen, out = Machine(), SliceSettings(), tmp_path / "five.gcode"
    result = engine("planar").slice(together, machine, chosen, out)
    replay.check(out, machine, chosen, result)
    separate = [engine("planar").slice(m, machine, chosen, tmp_path / "one.gcode").filament_mm for m, _ in parts]
    assert result.filament_mm == pytest.approx(3 * separate[0] + 2 * separate[1], rel=0.12)  # but for skirts
    assert np.ptp(np.array(result.bounds), axis=0)[:2].max() < 80
