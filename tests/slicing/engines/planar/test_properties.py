"""Whatever is put together from boxes, rings, combs and cones: it is printed or refused with a sentence, stays on the
bed, and every number is a number."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slicing.engines import engine, replay
from slicing.engines.base import Machine, SliceSettings, SlicingError
from tests import shapes

sizes = st.floats(0.2, 30.0)
boxes = st.builds(shapes.box, sizes, sizes, st.floats(0.1, 8.0))
rings = st.builds(
    lambda inner, wall, height, sides: shapes.ring(inner + wall, inner, height, sides),
    st.floats(0.3, 12.0),
    st.floats(0.1, 5.0),
    st.floats(0.1, 8.0),
    st.integers(3, 40),
)
combs = st.builds(
    shapes.comb, st.integers(1, 8), st.floats(0.2, 4.0), st.floats(0.1, 4.0), st.floats(1.0, 20.0), st.floats(0.2, 5.0)
)
cones = st.builds(shapes.cone, st.floats(0.5, 12.0), st.floats(0.01, 12.0), st.floats(0.5, 8.0), st.integers(3, 30))
solids = st.one_of(boxes, rings, combs, cones)
places = st.tuples(st.floats(-15, 15), st.floats(-15, 15), st.floats(0, 6) | st.just(0.0), st.floats(0, 360))


@st.composite
def unions(draw: st.DrawFn) -> shapes.Triangles:
    """One to four solids, put anywhere: apart, touching, overlapping, or in the air."""
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        x, y, z, turn = draw(places)
        parts.append(shapes.moved(shapes.turned(draw(solids), turn), x, y, z))
    return np.concatenate(parts)


wishes = st.fixed_dictionaries(
    {},
    optional={
        "layer_height": st.sampled_from([0.1, 0.2, 0.3]),
        "first_layer_height": st.sampled_from([0.15, 0.2, 0.35]),
        "walls": st.integers(1, 5),
        "infill_density": st.sampled_from([0.0, 5.0, 15.0, 50.0, 99.0, 100.0]),
        "infill_pattern": st.sampled_from(["rectilinear", "grid", "gyroid", "concentric"]),
        "top_layers": st.integers(0, 5),
        "bottom_layers": st.integers(0, 5),
        "seam": st.sampled_from(["rear", "aligned", "nearest", "random"]),
        "supports": st.sampled_from(["none", "bed", "everywhere"]),
        "brim_width": st.sampled_from([0.0, 4.0]),
        "skirt_loops": st.integers(0, 2),
        "z_hop": st.sampled_from([0.0, 0.3]),
        "wipe": st.sampled_from([0.0, 1.5]),
        "elephant_foot": st.sampled_from([0.0, 0.2]),
        "outer_wall_first": st.booleans(),
        "combing": st.booleans(),
        "spiral_vase": st.booleans(),
    },
)


@given(unions(), wishes)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_anything_is_printed_well_or_refused_with_a_sentence(part: shapes.Triangles, wish: dict) -> None:
    machine, chosen = Machine(), SliceSettings(**wish)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.gcode"
        try:
            result, refusal = engine("planar").slice(shapes.mesh(part), machine, chosen, out), ""
        except SlicingError as error:
            refusal = str(error)
        if refusal:
            assert refusal.endswith(".")
            return
        found = replay.check(out, machine, chosen, result)  # inside the bed, finite, rising, as much as was said
        text = out.read_text()
    assert "nan" not in text.lower()
    assert math.isfinite(result.time_s)
    assert result.time_s > 0
    assert found["layers"] >= 1
    assert np.isfinite(result.bounds).all()


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.6), st.floats(0, 0.4))
@settings(max_examples=15, deadline=None)
def test_flipped_and_doubled_facets_change_nothing(seed: int, flips: float, doubles: float) -> None:
    part = shapes.gear(7, 9, 1.2)
    damaged = shapes.with_flips(shapes.with_duplicates(part, doubles, seed), flips, seed)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for mesh in (part, damaged):
            result = engine("planar").slice(shapes.mesh(mesh), Machine(), SliceSettings(), Path(folder) / "out.gcode")
            found.append(result.filament_mm)
    assert abs(found[0] - found[1]) < 0.002 * found[0]
