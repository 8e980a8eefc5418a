"""What holds for every good slicer, measured on PrusaSlicer and CuraEngine: sizes, places and volumes of what is
printed against the model itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely

from slicing.engines.base import SlicingError
from slicing.engines.planar.cut import layers_for
from slicing.engines.planar.sections import Body, sections
from tests import shapes
from tests.slicing.engines.planar.conftest import Print, Slicer

WIDTH = 0.45
SHAPES = {
    "box": shapes.box(24, 18, 8),
    "gear": shapes.gear(16, 14, 4),
    "ring": shapes.ring(18, 12, 5),
    "comb": shapes.comb(6, 4, 2.5, 18, 4),
    "cone": shapes.cone(15, 5, 12),
    "sphere": shapes.bumpy_sphere(12, 60, 90),
    "plate": shapes.plate(50, 40, 3, 6, 5, 2),
    "terrain": shapes.terrain(30, 40, 3, 9),
}
BOXY = ("box", "comb", "plate")


def sections_of(triangles: shapes.Triangles, made: Print) -> dict[int, shapely.Geometry]:
    """Material of each layer in bed coordinates, by even-odd of an independent reading of the rings."""
    low, high = triangles.reshape(-1, 3).min(axis=0), triangles.reshape(-1, 3).max(axis=0)
    layers = layers_for(high[2] - low[2], made.settings.first_layer_height, made.settings.layer_height)
    rings = sections(Body.of(triangles - low + [20, 20, 0], layers), 0, len(layers), lambda share: None)
    shift = np.array(made.machine.size[:2]) / 2 - (high - low)[:2] / 2 - 20
    found: dict[int, shapely.Geometry] = {}
    for layer, ring in zip(rings.layer.tolist(), rings.paths(), strict=True):
        found[layer] = shapely.symmetric_difference(
            found.get(layer, shapely.Polygon()), shapely.Polygon(ring + shift).buffer(0)
        )
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_it_makes_as_many_layers_as_the_height_asks_for(name: str, sliced: Slicer) -> None:
    made = sliced(SHAPES[name])
    height = float(np.ptp(SHAPES[name][..., 2]))
    expected = 1 + math.floor((height - 0.2) / 0.2 + 0.5 + 1e-6)
    tops = np.unique(np.round(made.segments()[1][:, 2], 3))
    assert len(tops) in (expected, expected - 1)  # the last section may be a tip that no line fits into
    assert made.result.layers == len(tops)
    np.testing.assert_allclose(np.diff(tops), 0.2, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_its_outer_wall_lies_half_a_line_inside_the_model(name: str, sliced: Slicer) -> None:
    made = sliced(SHAPES[name])
    cuts = sections_of(SHAPES[name], made)
    low_x, low_y, high_x, high_y = shapely.total_bounds(list(cuts.values())).tolist()
    ends = np.vstack(made.full())[:, :2]
    # hill tops cut by a side of the terrain are so thin that their one line comes nearer to the outline
    slack = 0.003 if name in BOXY else 0.2 if name == "terrain" else 0.03
    np.testing.assert_allclose(np.ptp(ends, axis=0), [high_x - low_x - WIDTH, high_y - low_y - WIDTH], atol=slack)
    a, b = made.full("External perimeter")
    boundaries = {k: s.boundary for k, s in cuts.items()}
    layer = np.rint(b[:, 2] / 0.2).astype(int) - 1
    middle = shapely.points((a + b)[:, :2] / 2)
    distance = shapely.distance(middle, np.array([boundaries[k] for k in layer.tolist()]))
    assert np.median(distance) == pytest.approx(WIDTH / 2, abs=0.005)
    assert np.percentile(distance, 1) >= 0.205
    assert np.percentile(distance, 99) <= (0.35 if name == "terrain" else 0.28)


@pytest.mark.parametrize("name", SHAPES)
def test_it_prints_nothing_outside_of_the_section(name: str, sliced: Slicer) -> None:
    made = sliced(SHAPES[name])
    a, b = made.full()
    layer = np.rint(b[:, 2] / 0.2).astype(int) - 1
    inner = {k: shapely.buffer(s, -(WIDTH / 2 - 0.03)) for k, s in sections_of(SHAPES[name], made).items()}
    shapely.prepare(list(inner.values()))
    for share in (0.25, 0.5, 0.75):
        at = a + (b - a) * share
        inside = shapely.covers(np.array([inner[k] for k in layer.tolist()]), shapely.points(at[:, :2]))
        assert inside.mean() >= 0.999


@pytest.mark.parametrize("name", SHAPES)
def test_its_first_layer_covers_the_section_once(name: str, sliced: Slicer) -> None:
    made = sliced(SHAPES[name])
    area = sections_of(SHAPES[name], made)[0].area
    spacing = WIDTH - 0.2 * (1 - math.pi / 4)
    assert 0.97 <= made.length(layer_top=0.2) * spacing / area <= 1.03


@pytest.mark.parametrize("name", SHAPES)
def test_at_full_density_it_uses_as_much_plastic_as_the_model_has_volume(name: str, sliced: Slicer) -> None:
    made = sliced(SHAPES[name], infill_density=100.0)
    tight = name in ("box", "ring", "cone")
    assert made.volume() / shapes.mesh(SHAPES[name]).volume_mm3 == pytest.approx(1.0, abs=0.012 if tight else 0.025)


def test_it_extrudes_the_cross_section_of_the_line_everywhere(sliced: Slicer) -> None:
    made = sliced(SHAPES["gear"])
    chosen = made.printed()
    length = np.linalg.norm(made.replay.delta[chosen, :3], axis=1)
    long = length > 1
    expected = (WIDTH - 0.2 * (1 - math.pi / 4)) * 0.2 / (math.pi * 1.75**2 / 4)
    assert np.median(made.replay.delta[chosen, 3][long] / length[long]) == pytest.approx(expected, rel=1e-3)


def test_the_flow_factor_changes_filament_and_nothing_else(sliced: Slicer) -> None:
    plain = sliced(SHAPES["box"])
    volume, position = plain.volume(), plain.replay.position
    more = sliced(SHAPES["box"], extrusion_multiplier=1.1)
    assert more.volume() == pytest.approx(1.1 * volume, rel=1e-4)
    np.testing.assert_allclose(more.replay.position, position)


def test_a_section_on_a_step_belongs_to_what_is_below(sliced: Slicer) -> None:
    # the step is exactly in the middle of a layer: 2.1 = 10 layers and a half
    wide, narrow = shapes.box(20, 20, 2.1), shapes.moved(shapes.box(8, 8, 4), z=2.1)
    made = sliced(wide, narrow)
    ends = made.segments()[1]
    at_step = ends[np.abs(ends[:, 2] - 2.2) < 1e-6]
    above = ends[np.abs(ends[:, 2] - 2.4) < 1e-6]
    assert np.ptp(at_step[:, 0]) == pytest.approx(20 - WIDTH, abs=0.002)
    assert np.ptp(above[:, 0]) == pytest.approx(8 - WIDTH, abs=0.002)


@pytest.mark.parametrize("first", [0.2, 0.3, 0.15])
def test_the_first_layer_has_its_own_height_and_speed(first: float, sliced: Slicer) -> None:
    made = sliced(SHAPES["box"], first_layer_height=first, first_layer_speed=15.0)
    a, b = made.segments()
    tops = np.unique(np.round(b[:, 2], 4))
    assert tops[0] == pytest.approx(first)
    assert tops[1] == pytest.approx(first + 0.2)
    chosen = made.printed()
    low = made.replay.position[:, 2] < first + 0.01
    assert set(made.replay.speed[chosen & low].tolist()) == {15.0}
    assert set(made.replay.speed[chosen & ~low].tolist()) == {50.0}


def test_what_is_covered_by_others_is_sparse_and_what_shows_is_solid(sliced: Slicer) -> None:
    # a big block with a smaller one on it: the ledge shows from above, the core does not
    made = sliced(shapes.box(30, 30, 6), shapes.moved(shapes.box(14, 14, 6), z=6), top_layers=3, bottom_layers=2)
    by_top = {}
    for kind in ("Solid infill", "Internal infill"):
        by_top[kind] = {round(t, 1) for t in np.unique(np.round(made.segments(kind)[1][:, 2], 3)).tolist()}
    assert {0.2, 0.4, 5.6, 5.8, 6.0, 11.6, 11.8, 12.0} <= by_top["Solid infill"]
    assert not by_top["Internal infill"] & {0.2, 0.4, 11.6, 11.8, 12.0}
    assert {0.6, 3.0, 5.4, 5.8, 6.0, 6.2, 11.4} <= by_top["Internal infill"]
    a, b = made.segments("Solid infill")
    ledge = (b[:, 2] > 5.55) & (b[:, 2] < 6.05)
    middle = np.abs((a + b)[ledge, :2] / 2 - 110)
    assert (middle.max(axis=1) > 14 / 2 - 4.1).all()  # it reaches so far under the smaller one


def test_sparse_infill_has_the_density_asked_for(sliced: Slicer) -> None:
    made = sliced(shapes.box(40, 40, 10), infill_density=20.0, walls=1)
    spacing = WIDTH - 0.2 * (1 - math.pi / 4)
    inside = (40 - 2 * WIDTH) ** 2
    # Two kinds of length: lines, and their joints along the wall (one spacing each), which density does not count.
    assert made.length("Internal infill", layer_top=5.0) * spacing / inside == pytest.approx(0.2, rel=0.15)


def test_the_part_stands_in_the_middle_of_the_bed_on_its_lowest_point(sliced: Slicer) -> None:
    made = sliced(shapes.moved(shapes.box(20, 30, 4), -500, 77, 33))
    ends = np.vstack(made.segments())
    np.testing.assert_allclose((ends.min(axis=0) + ends.max(axis=0))[:2] / 2, [110, 110], atol=0.002)
    assert ends[:, 2].min() == pytest.approx(0.2)


def test_it_refuses_a_part_that_starts_with_nothing(sliced: Slicer) -> None:
    tip_down = shapes.cone(0.01, 8, 8)
    with pytest.raises(SlicingError, match="hardly touches the bed"):
        sliced(tip_down)


def test_it_refuses_a_part_that_floats(sliced: Slicer) -> None:
    with pytest.raises(SlicingError, match=r"floats.* between 2.0 mm and 5.0 mm"):
        sliced(shapes.box(10, 10, 2), shapes.moved(shapes.box(10, 10, 2), z=5))


@pytest.mark.parametrize("name", SHAPES)
def test_what_it_prints_over_air_it_prints_as_such(name: str, sliced: Slicer) -> None:
    made = sliced(SHAPES[name])
    cuts = sections_of(SHAPES[name], made)
    reach = {k: shapely.buffer(cut, WIDTH / 2 + 0.02) for k, cut in cuts.items()}
    shapely.prepare(list(reach.values()))
    kinds = made.kinds()[made.printed() & (made.kinds() != "Skirt/Brim")]
    a, b = made.segments()
    layer = np.rint(b[:, 2] / 0.2).astype(int) - 1
    judged = (layer > 0) & ~np.isin(kinds, ["Bridge infill", "Overhang perimeter"])
    below = np.array([reach[k - 1] for k in layer[judged].tolist()])
    middle = shapely.points((a + b)[judged, :2] / 2)
    held = shapely.contains(below, middle)
    length = np.linalg.norm(b - a, axis=1)[judged]
    assert length[held].sum() / length.sum() >= 0.995
