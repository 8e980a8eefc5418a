"""Vase mode: one line from the bottom to the rim."""

from __future__ import annotations

import numpy as np
import pytest

from slicing.engines.base import SlicingError
from tests import shapes
from tests.slicing.engines.planar.conftest import Slicer

VASE = shapes.cone(10, 14, 12)


def test_the_wall_rises_all_the_time_without_a_pause(sliced: Slicer) -> None:
    made = sliced(VASE, spiral_vase=True, bottom_layers=3, min_layer_time=0.0)
    position, extruding = made.replay.position, made.replay.extruding
    spiral = np.flatnonzero(extruding & (position[:, 2] > 0.6 + 1e-6))
    assert (np.diff(position[spiral, 2]) >= 0).all()
    assert np.diff(position[spiral, 2]).max() < 0.05
    assert position[spiral[-1], 2] == pytest.approx(12)
    after = slice(int(spiral[0]), int(spiral[-1]))
    assert (made.replay.delta[after, 3] >= 0).all()
    pauses = ~extruding[after]
    assert np.hypot(*made.replay.delta[after][pauses, :2].T).max() < 1.5


def test_it_has_a_solid_bottom_and_nothing_inside(sliced: Slicer) -> None:
    made = sliced(VASE, spiral_vase=True, bottom_layers=3)
    solid = made.segments("Solid infill")[1]
    assert np.unique(np.round(solid[:, 2], 3)).tolist() == [0.2, 0.4, 0.6]
    assert made.length("Internal infill") == 0
    assert made.length("Perimeter") == 0


def test_it_refuses_what_has_more_than_one_outline(sliced: Slicer) -> None:
    with pytest.raises(SlicingError, match=r"at a height of 0.8 mm there are 2"):
        sliced(shapes.ring(12, 8, 6), spiral_vase=True, bottom_layers=3)
    with pytest.raises(SlicingError, match=r"one closed outline"):
        sliced(shapes.box(8, 8, 4), shapes.moved(shapes.box(8, 8, 4), 20), spiral_vase=True)
