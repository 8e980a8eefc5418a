"""Models as people really upload them: with holes, flipped, doubled and cracked facets."""

from __future__ import annotations

import re

import numpy as np
import pytest

from slicing.engines.base import SlicingError
from tests import shapes
from tests.slicing.engines.planar.conftest import Slicer

GEAR = shapes.gear(20, 15, 3)
BUST = shapes.bumpy_sphere(10, 80, 120)
DAMAGE = {
    "half of the facets flipped": (shapes.with_flips(GEAR, 0.5), GEAR, 0.001),
    "a few facets flipped": (shapes.with_flips(BUST, 0.03), BUST, 0.001),
    "inside out": (shapes.inside_out(GEAR), GEAR, 0.001),
    "facets doubled": (shapes.with_duplicates(GEAR, 0.5), GEAR, 0.001),
    "facets doubled and flipped": (shapes.with_flips(shapes.with_duplicates(BUST, 0.1), 0.5), BUST, 0.001),
    "a facet of a box missing": (shapes.with_holes(shapes.box(20, 20, 4), 1), shapes.box(20, 20, 4), 0.001),
    "facets missing": (shapes.with_holes(BUST, 60), BUST, 0.01),
    "cracks everywhere": (shapes.with_cracks(GEAR, 0.01), GEAR, 0.02),
    "one body of two inside out": (
        np.concatenate([GEAR, shapes.moved(shapes.inside_out(GEAR), 40)]),
        np.concatenate([GEAR, shapes.moved(GEAR, 40)]),
        0.001,
    ),
    "one body within another": (
        np.concatenate([shapes.box(20, 20, 4), shapes.moved(shapes.box(8, 8, 2), z=1)]),
        shapes.box(20, 20, 4),
        0.001,
    ),
    "a stray facet in the air beside": (
        np.concatenate([GEAR, np.array([[[20, 0, 1], [20.2, 0, 1], [20, 0, 1.4]]])]),
        np.concatenate([GEAR, np.array([[[20, 0, 1], [20.2, 0, 1], [20, 0, 1.4]]])]),
        0.001,
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_it_prints_the_whole_model_in_spite_of(name: str, sliced: Slicer) -> None:
    damaged, whole, slack = DAMAGE[name]
    made = sliced(damaged, infill_density=100.0).volume()
    if name.startswith("a stray"):
        assert made == pytest.approx(sliced(GEAR, infill_density=100.0).volume(), rel=slack)
    else:
        assert made == pytest.approx(sliced(whole, infill_density=100.0).volume(), rel=slack)


def test_overlapping_bodies_are_one(sliced: Slicer) -> None:
    crossed = [shapes.box(30, 8, 4), shapes.turned(shapes.box(30, 8, 4), 90)]
    made = sliced(*crossed, infill_density=100.0)
    assert made.volume() == pytest.approx((2 * 30 * 8 - 64) * 4, rel=0.012)


def test_it_names_the_place_and_the_size_of_a_hole_it_cannot_close(sliced: Slicer) -> None:
    box = shapes.box(20, 20, 10)
    side = np.abs(box[:, :, 0] - 10).max(axis=1) < 1e-9
    with pytest.raises(SlicingError, match=r"hole of (19|20)\.\d mm at a height of \d\.\d mm"):
        sliced(box[~side])


def test_it_closes_a_gap_up_to_two_millimetres(sliced: Slicer) -> None:
    def slotted(width: float) -> shapes.Triangles:
        """A box whose side has a slot over its whole height."""
        a, h = 10.0, 4.0
        outline = [(a, width / 2), (a, a), (-a, a), (-a, -a), (a, -a), (a, -width / 2)]
        return shapes.prism(outline, h)[[*range(8), *range(8, 18)]]

    whole = sliced(shapes.box(20, 20, 4), infill_density=100.0).volume()
    made = {}
    for width in (1.8, 2.5):
        part = slotted(width)
        rim = np.isclose(part[:, :, 0], 10).all(axis=1) & (np.abs(part[:, :, 1]) <= width / 2 + 1e-9).all(axis=1)
        made[width] = part[~rim]
    assert sliced(made[1.8], infill_density=100.0).volume() == pytest.approx(whole, rel=0.002)
    with pytest.raises(SlicingError, match="hole of 2.5 mm"):
        sliced(made[2.5])


@pytest.mark.parametrize("count", [100, 3000])
def test_it_refuses_a_heap_of_triangles(count: int, sliced: Slicer) -> None:
    with pytest.raises(SlicingError) as refusal:
        sliced(shapes.soup(count))
    assert re.search(r"hole of \d+\.\d mm at a height of \d+\.\d mm", str(refusal.value))
