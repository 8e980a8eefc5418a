"""Scaffolding under overhangs: there where it is needed, away from the model, and standing on something."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from tests import shapes
from tests.slicing.engines.planar.conftest import Print, Slicer

STEM = shapes.box(8, 8, 10)
CAP = shapes.moved(shapes.box(30, 30, 2), z=10)
TEE = (STEM, CAP)
# a lower tray catches what would reach the bed
TRAY = (*TEE, shapes.box(40, 40, 1))


def support(made: Print) -> tuple[np.ndarray, np.ndarray]:
    body, roof = made.segments("Support material"), made.segments("Support material interface")
    return np.vstack([body[0], roof[0]]), np.vstack([body[1], roof[1]])


def test_there_are_none_unless_asked_for(sliced: Slicer) -> None:
    assert len(support(sliced(*TEE))[0]) == 0


def test_they_stand_below_what_hangs_from_the_bed_to_a_gap_below_it(sliced: Slicer) -> None:
    made = sliced(*TEE, supports="everywhere")
    a, b = support(made)
    tops = np.unique(np.round(b[:, 2], 3))
    assert tops[0] == 0.2
    assert tops[-1] == pytest.approx(9.8)
    assert len(tops) == 49
    out = np.abs(np.vstack([a, b])[:, :2] - 110).max(axis=1)
    assert out.max() <= 15 + 0.8
    assert out.max() >= 15
    for top in (0.2, 5.0, 9.8):
        here = np.abs(b[:, 2] - top) < 1e-6
        lines = shapely.linestrings(np.stack([a[here, :2], b[here, :2]], axis=1))
        area = shapely.union_all(shapely.buffer(lines, 2.0))
        assert area.area >= 0.9 * (30**2 - 9.2**2)


def test_they_keep_their_distance_from_walls(sliced: Slicer) -> None:
    made = sliced(*TEE, supports="everywhere", support_distance=0.8)
    a, b = support(made)
    stem = shapely.box(106, 106, 114, 114)
    lines = shapely.linestrings(np.stack([a[:, :2], b[:, :2]], axis=1))
    assert shapely.distance(lines, stem).min() == pytest.approx(0.8 + 0.225, abs=0.03)


def test_the_gap_and_the_roof_are_as_asked(sliced: Slicer) -> None:
    made = sliced(*TEE, supports="everywhere", support_gap=0.4, support_roof_layers=3)
    roof = made.segments("Support material interface")[1]
    assert np.unique(np.round(roof[:, 2], 3)).tolist() == [9.2, 9.4, 9.6]
    dense = made.length("Support material interface", layer_top=9.4)
    sparse = made.length("Support material", layer_top=5.0)
    assert dense > 3 * sparse / 2


def test_from_the_bed_only_means_not_on_the_model(sliced: Slicer) -> None:
    assert len(support(sliced(*TRAY, supports="bed"))[0]) == 0
    on_model = support(sliced(*TRAY, supports="everywhere"))[1]
    assert np.round(on_model[:, 2].min(), 3) == 1.2


def test_a_steep_cone_needs_none_and_a_flat_one_does(sliced: Slicer) -> None:
    assert len(support(sliced(shapes.cone(5, 9, 6), supports="everywhere", support_angle=50.0))[0]) == 0
    assert len(support(sliced(shapes.cone(5, 9, 6), supports="everywhere", support_angle=20.0))[0]) > 0


def test_supports_come_before_the_part_in_every_layer(sliced: Slicer) -> None:
    layer = sliced(*TEE, supports="everywhere").text.split(";LAYER_CHANGE")[20]
    kinds = [line[6:] for line in layer.splitlines() if line.startswith(";TYPE:")]
    assert kinds[0] == "Support material"
    assert "Support material" not in kinds[1:]


def test_the_skirt_goes_around_the_supports_too(sliced: Slicer) -> None:
    made = sliced(*TEE, supports="everywhere")
    skirt = np.abs(np.vstack(made.segments("Skirt/Brim"))[:, :2] - 110).max()
    assert skirt >= 15 + 3


def test_a_piece_that_begins_in_the_air_is_pointed_out_or_held(sliced: Slicer) -> None:
    hook = [STEM, CAP, shapes.moved(shapes.box(4, 4, 4), 12, 12, 6)]
    warned = sliced(*hook)
    assert warned.result.facts["warnings"] == ["A piece begins in the air at a height of 6.0 mm; it needs supports."]
    held = sliced(*hook, supports="everywhere")
    assert held.result.facts["warnings"] == []
    b = support(held)[1]
    below = (np.abs(b[:, :2] - 122).max(axis=1) < 2.8) & (np.abs(b[:, 2] - 5.8) < 1e-6)
    assert below.any()


def test_everything_that_is_printed_lies_on_something(sliced: Slicer) -> None:
    made = sliced(*TEE, supports="everywhere", support_gap=0.0)
    a, b = made.segments()
    layer = np.rint(b[:, 2] / 0.2).astype(int)
    lines = shapely.linestrings(np.stack([a[:, :2], b[:, :2]], axis=1))
    for k in range(2, layer.max() + 1):
        below = shapely.union_all(shapely.buffer(lines[layer == k - 1], 1.6))
        middle = shapely.points((a + b)[layer == k, :2] / 2)
        assert shapely.covers(below, middle).mean() >= 0.98
