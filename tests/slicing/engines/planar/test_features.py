"""What makes a print good: bridges, slow overhangs, cooling, seams, quiet travels, patterns, first layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import shapely

from slicing.engines.base import SliceSettings, SlicingError
from tests import shapes
from tests.slicing.engines.planar.conftest import Print, Slicer

SPACING = 0.45 - 0.2 * (1 - math.pi / 4)


def table(span: float, turn: float = 0.0) -> list[shapes.Triangles]:
    """Two legs and a plate over them."""
    legs = [shapes.moved(shapes.box(6, 20, 4), x) for x in (-(span + 6) / 2, (span + 6) / 2)]
    top = shapes.moved(shapes.box(span + 12, 20, 2), z=4)
    return [shapes.turned(part, turn) for part in (*legs, top)]


def headings(made: Print, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(direction 0..180 degrees, length) of the lines of a kind."""
    a, b = made.segments(kind)
    way = (b - a)[:, :2]
    return np.degrees(np.arctan2(way[:, 1], way[:, 0])) % 180, np.hypot(*way.T)


@pytest.mark.parametrize("turn", [0, 30, 77])
def test_a_bridge_runs_from_leg_to_leg(turn: float, sliced: Slicer) -> None:
    made = sliced(*table(14, turn))
    direction, length = headings(made, "Bridge infill")
    off = np.abs((direction - turn + 90) % 180 - 90)
    assert length[off < 8].sum() / length.sum() >= 0.9
    assert length[off < 8].max() >= 14
    tops = np.unique(np.round(made.segments("Bridge infill")[1][:, 2], 3))
    assert tops.tolist() == [4.2]


def test_a_bridge_has_round_threads_its_own_speed_and_the_fan(sliced: Slicer) -> None:
    made = sliced(*table(14), bridge_speed=33.0, fan_speed=40.0, bridge_fan_speed=90.0)
    chosen = made.printed() & (made.kinds() == "Bridge infill")
    length = np.linalg.norm(made.replay.delta[chosen, :3], axis=1)
    per_mm = made.replay.delta[chosen, 3] / length
    assert np.median(per_mm) == pytest.approx(math.pi / 4 * 0.4**2 / (math.pi / 4 * 1.75**2), rel=0.01)
    assert set(made.replay.speed[chosen].tolist()) == {33.0}
    layer = made.text.split(";Z:4.2\n")[1].split(";LAYER_CHANGE")[0]
    at = layer.index(";TYPE:Bridge infill")
    assert "M106 S230" in layer[:at] or "M106 S230" in layer[at:]
    assert layer.rindex("M106 S102") > layer.index("M106 S230")


def test_a_ledge_is_no_bridge(sliced: Slicer) -> None:
    made = sliced(shapes.box(10, 20, 4), shapes.moved(shapes.box(24, 20, 2), 7, z=4))
    assert made.length("Bridge infill") == 0


def test_the_bridge_takes_the_place_of_other_infill(sliced: Slicer) -> None:
    made = sliced(*table(14), infill_density=100.0)
    area = 26 * 20
    plastic = made.replay.delta[made.printed() & (np.abs(made.replay.position[:, 2] - 4.2) < 1e-6), 3].sum()
    assert 0.97 <= plastic * math.pi / 4 * 1.75**2 / 0.2 / area <= 1.35  # threads are thicker than the layer


def test_a_wall_over_air_is_slow_and_has_its_name(sliced: Slicer) -> None:
    made = sliced(*table(14), overhang_speed=17.0)
    a, b = made.segments("Overhang perimeter")
    assert np.unique(np.round(b[:, 2], 3)).tolist() == [4.2]
    middle = np.abs((a + b)[:, 0] / 2 - 110)
    assert middle.max() <= 7.0
    assert np.linalg.norm(b - a, axis=1).sum() == pytest.approx(2 * 2 * 14, rel=0.15)
    chosen = made.printed() & (made.kinds() == "Overhang perimeter")
    assert set(made.replay.speed[chosen].tolist()) == {17.0}


def test_a_steep_cone_has_no_overhang_and_a_flat_one_has(sliced: Slicer) -> None:
    steep = sliced(shapes.cone(5, 8, 12), min_layer_time=0.0)
    assert set(steep.replay.speed[steep.printed()].tolist()) <= {20.0, 50.0}
    flat = sliced(shapes.cone(5, 20, 8), min_layer_time=0.0)
    walls = flat.printed() & (flat.kinds() == "External perimeter") & (flat.replay.position[:, 2] > 0.3)
    assert (flat.replay.speed[walls] == 25.0).mean() > 0.9


def layer_times(made: Print) -> dict[float, float]:
    from slicing.engines.motion import Moves, durations

    time = durations(Moves(made.replay.delta, made.replay.speed), made.machine)[made.primed :]
    z = np.round(made.replay.position[made.primed :, 2], 3)
    return {top: float(time[z == top].sum()) for top in np.unique(z).tolist()}


def test_a_small_layer_takes_its_time(sliced: Slicer) -> None:
    tower = shapes.box(5, 5, 4)
    fast = layer_times(sliced(tower, min_layer_time=0.0))
    slow = layer_times(sliced(tower, min_layer_time=6.0))
    assert fast[2.0] < 4
    assert slow[2.0] == pytest.approx(6, rel=0.1)
    large = sliced(shapes.box(40, 40, 1), min_layer_time=6.0)
    assert {50.0} == set(large.replay.speed[large.printed() & (large.replay.position[:, 2] > 0.3)].tolist())


def test_it_never_prints_more_slowly_than_allowed(sliced: Slicer) -> None:
    made = sliced(shapes.cylinder(1.5, 3), min_layer_time=60.0, min_print_speed=12.0)
    assert made.replay.speed[made.printed()].min() == pytest.approx(12.0)


def seam_places(made: Print) -> np.ndarray:
    """Where each outer wall begins, (layers, 2)."""
    kinds, extruding = made.kinds(), made.replay.extruding
    outer = extruding & (kinds == "External perimeter")
    begins = np.flatnonzero(outer & ~np.roll(outer, 1))
    return made.replay.position[begins - 1, :2]


def test_seams_at_the_rear_are_at_the_rear(sliced: Slicer) -> None:
    places = seam_places(sliced(shapes.cylinder(8, 6), seam="rear"))
    np.testing.assert_allclose(places[:, 1], 110 + 8 - 0.225, atol=0.1)


def test_aligned_seams_stand_above_each_other(sliced: Slicer) -> None:
    places = seam_places(sliced(shapes.turned(shapes.cone(12, 8, 10), 13), seam="aligned"))
    assert np.hypot(*np.diff(places, axis=0).T).max() < 1.5


def test_aligned_seams_hide_in_an_inner_corner(sliced: Slicer) -> None:
    ell = shapes.prism([(0, 0), (20, 0), (20, 8), (8, 8), (8, 20), (0, 20)], 4)
    places = seam_places(sliced(ell, seam="aligned"))
    np.testing.assert_allclose(places, 110 - 10 + 8 - 0.225 + np.zeros_like(places), atol=0.1)


def test_random_seams_are_spread_and_nearest_ones_are_near(sliced: Slicer) -> None:
    part = shapes.cylinder(8, 6)
    spread = seam_places(sliced(part, seam="random"))
    assert np.ptp(spread, axis=0).min() > 12
    near, rear = sliced(part, seam="nearest"), sliced(part, seam="rear")

    def travel(made: Print) -> float:
        return float(np.linalg.norm(made.replay.delta[~made.replay.extruding, :2], axis=1)[made.primed :].sum())

    assert travel(near) <= travel(rear)


def travels(made: Print, above: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """(from, to) of moves that neither print nor leave the part at its end."""
    position, delta = made.replay.position, made.replay.delta
    moving = ~made.replay.extruding & (np.hypot(delta[:, 0], delta[:, 1]) > 0) & (position[:, 2] > above)
    moving[-2:] = False
    return position[moving, :2] - delta[moving, :2], position[moving, :2]


def test_travels_go_around_holes_and_not_across_them(sliced: Slicer) -> None:
    part = shapes.plate(60, 60, 1.2, 3, 3, 7, 48)
    crossings, pulls = {}, {}
    for combing in (False, True):
        made = sliced(part, combing=combing, retract_min_travel=2.0)
        a, b = travels(made)
        holes = [shapely.Point(110 + x, 110 + y).buffer(6.5) for x in (-20, 0, 20) for y in (-20, 0, 20)]
        ways = shapely.linestrings(np.stack([a, b], axis=1))
        crossings[combing] = int(shapely.intersects(ways, shapely.union_all(holes)).sum())
        pulls[combing] = int((made.replay.delta[:, 3] < 0).sum())
    assert crossings[False] > 10
    assert crossings[True] <= crossings[False] / 4
    assert pulls[True] < pulls[False]


def test_it_hops_and_wipes_where_it_retracts(sliced: Slicer) -> None:
    towers = [shapes.box(6, 6, 2), shapes.moved(shapes.box(6, 6, 2), 30)]
    made = sliced(*towers, z_hop=0.4, wipe=2.0)
    position, delta = made.replay.position, made.replay.delta
    far = ~made.replay.extruding & (np.hypot(delta[:, 0], delta[:, 1]) > 15)
    far[: made.primed + 3] = far[-3:] = False
    assert far.sum() >= 9
    tops = np.round(position[far, 2] - 0.4, 3)
    np.testing.assert_allclose(tops / 0.2, np.rint(tops / 0.2), atol=1e-6)
    wiping = (delta[:, 3] < 0) & (np.hypot(delta[:, 0], delta[:, 1]) > 0)
    assert wiping.sum() >= 9
    pulled = np.cumsum(np.where(made.replay.extruding, 0.0, delta[:, 3]))
    np.testing.assert_allclose(pulled[made.replay.extruding], 0, atol=1e-9)
    np.testing.assert_allclose(pulled[far], -0.8, atol=1e-9)


@pytest.mark.parametrize("pattern", ["rectilinear", "grid", "gyroid", "concentric"])
@pytest.mark.parametrize("density", [10.0, 20.0, 40.0])
def test_every_pattern_has_the_density_asked_for(pattern: str, density: float, sliced: Slicer) -> None:
    made = sliced(shapes.box(60, 60, 8), infill_pattern=pattern, infill_density=density, walls=1)
    inside = (60 - 2 * 0.45) ** 2
    middle = [made.length("Internal infill", layer_top=top) for top in np.round(np.arange(2, 6.01, 0.2), 3).tolist()]
    # lines are joined along the walls, which counts for more the fewer they are
    assert np.mean(middle) * SPACING / inside == pytest.approx(density / 100, rel=0.25 if density == 10 else 0.16)


@pytest.mark.parametrize("pattern", ["gyroid", "concentric"])
def test_patterns_stay_inside(pattern: str, sliced: Slicer) -> None:
    part = shapes.gear(12, 20, 5, bore=6)
    made = sliced(part, infill_pattern=pattern, infill_density=25.0)
    a, b = made.segments("Internal infill")
    assert len(a) > 100
    out = np.hypot(*((a + b)[:, :2] / 2 - 110).T)
    assert out.max() < 20 - 0.6
    assert out.min() > 6 + 0.6


def test_gyroid_lines_differ_from_layer_to_layer(sliced: Slicer) -> None:
    made = sliced(shapes.box(40, 40, 8), infill_pattern="gyroid")
    headings_by_layer = []
    a, b = made.segments("Internal infill")
    for top in (3.0, 3.2, 4.0):
        here = np.abs(b[:, 2] - top) < 1e-6
        headings_by_layer.append(np.sort(a[here, 0])[:50])
    assert not np.allclose(headings_by_layer[0], headings_by_layer[1])
    assert not np.allclose(headings_by_layer[0], headings_by_layer[2])


def test_a_brim_lies_around_the_part_and_touches_it(sliced: Slicer) -> None:
    made = sliced(shapes.box(20, 20, 1), brim_width=4.0)
    a, b = made.segments("Skirt/Brim")
    assert np.unique(np.round(b[:, 2], 3)).tolist() == [0.2]
    away = np.abs(np.vstack([a, b])[:, :2] - 110).max(axis=1) - 10
    assert away.min() == pytest.approx(0.225, abs=0.01)
    assert 3.2 <= away.max() <= 4.0
    assert len(np.unique(np.round(away, 2))) >= 9


def test_skirts_go_around_as_often_as_asked(sliced: Slicer) -> None:
    two = sliced(shapes.box(20, 20, 1), skirt_loops=2, skirt_distance=5.0)
    away = np.abs(np.vstack(two.segments("Skirt/Brim"))[:, :2] - 110).max(axis=1) - 10
    assert away.max() == pytest.approx(5 + 0.225 + SPACING, abs=0.02)
    assert sliced(shapes.box(20, 20, 1), skirt_loops=0).length("Skirt/Brim") == 0


def test_an_elephants_foot_is_taken_off_the_first_layer_only(sliced: Slicer) -> None:
    made = sliced(shapes.box(20, 20, 1), elephant_foot=0.2)
    b = made.segments("External perimeter")[1]
    wide = {top: np.ptp(b[np.abs(b[:, 2] - top) < 1e-6, 0]) for top in (0.2, 0.4, 1.0)}
    assert wide == pytest.approx({0.2: 20 - 0.45 - 0.4, 0.4: 20 - 0.45, 1.0: 20 - 0.45}, abs=0.003)


def test_the_outer_wall_can_come_first_and_have_its_own_speed(sliced: Slicer) -> None:
    made = sliced(shapes.box(20, 20, 1), outer_wall_first=True, outer_wall_speed=31.0, min_layer_time=0.0)
    layer = made.text.split(";LAYER_CHANGE")[3]
    kinds = [line[6:] for line in layer.splitlines() if line.startswith(";TYPE:")]
    assert kinds[:2] == ["External perimeter", "Perimeter"]
    outer = made.printed() & (made.kinds() == "External perimeter") & (made.replay.position[:, 2] > 0.3)
    assert set(made.replay.speed[outer].tolist()) == {31.0}


def test_it_never_asks_the_hotend_to_melt_more_than_it_can(sliced: Slicer) -> None:
    made = sliced(*table(14), max_flow=2.5, print_speed=80.0, bridge_speed=80.0, min_layer_time=0.0)
    chosen = made.printed()
    seconds = np.linalg.norm(made.replay.delta[chosen, :3], axis=1) / made.replay.speed[chosen]
    long = seconds > 0.05
    flow = made.replay.delta[chosen, 3] * math.pi / 4 * 1.75**2 / np.maximum(seconds, 1e-9)
    assert flow[long].max() == pytest.approx(2.5, rel=0.01)
    assert np.median(flow[long & (made.replay.position[chosen, 2] > 0.3)]) == pytest.approx(2.5, rel=0.01)


def test_small_areas_are_filled_solid(sliced: Slicer) -> None:
    pin = shapes.box(4.5, 4.5, 6)
    assert sliced(pin, solid_below_area=20.0).length("Internal infill") == 0
    assert sliced(pin, solid_below_area=0.0).length("Internal infill") > 0


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"walls": 2.5}, "walls must be a whole number between 1 and 20"),
        ({"walls": True}, "walls must be a whole number"),
        ({"layer_height": "0.2"}, "layer_height must be between 0.04 and 1.2 mm"),
        ({"layer_height": float("nan")}, "layer_height must be between"),
        ({"infill_pattern": "stars"}, "infill_pattern must be one of rectilinear, grid, gyroid, concentric"),
        ({"combing": 1}, "combing must be one of False, True"),
    ],
)
def test_settings_out_of_range_are_refused_with_their_range(chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(SlicingError, match=words):
        SliceSettings(**chosen)


def test_sparse_lines_are_not_joined_across_walls(sliced: Slicer) -> None:
    made = sliced(shapes.plate(60, 60, 2.4, 4, 4, 3, 48), infill_density=12.0)
    a, b = made.segments("Internal infill")
    holes = shapely.union_all(
        [
            shapely.Point(110 + x, 110 + y).buffer(3.3)
            for x in (-22.5, -7.5, 7.5, 22.5)
            for y in (-22.5, -7.5, 7.5, 22.5)
        ]
    )
    lines = shapely.linestrings(np.stack([a[:, :2], b[:, :2]], axis=1))
    assert len(lines) > 50
    assert not shapely.intersects(lines, holes).any()
