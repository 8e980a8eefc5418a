"""The built-in engine beside PrusaSlicer in the same run: as much filament, the same walls, the same time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slicing.engines import engine, prusaslicer, replay, site
from slicing.engines.base import Machine, SliceResult, SliceSettings
from slicing.engines.site import Site
from tests import shapes
from tests.slicing.engines.planar.conftest import Print
from tests.slicing.engines.planar.test_oracles import SHAPES

pytestmark = pytest.mark.skipif(bool(site.missing("prusaslicer", Site())), reason="PrusaSlicer is not installed")

#: what it does by itself and we do not: more walls on slopes, solid infill beside them, walls of uneven width
ALIKE = {"extra_perimeters": 0, "ensure_vertical_shell_thickness": 0, "perimeter_generator": "classic"}
PERIMETERS = ("Perimeter", "External perimeter", "Overhang perimeter")


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """PrusaSlicer at settings that mean the same."""
    usual = prusaslicer.config

    def config(machine: Machine, settings: SliceSettings) -> Mapping[str, Any]:
        return {**usual(machine, settings), **ALIKE}

    monkeypatch.setattr(prusaslicer, "config", config)


def printed(name: str, part: shapes.Triangles, folder: Path) -> tuple[Print, SliceResult]:
    machine, chosen, out = Machine(), SliceSettings(), folder / f"{name}.gcode"
    result = engine(name, Site(data=folder / "data", seconds=120)).slice(shapes.mesh(part), machine, chosen, out)
    replay.check(out, machine, chosen, result)
    return Print(out, result, replay.parse(out.read_bytes()), machine, chosen), result


def filament(made: Print, kinds: tuple[str, ...] = ()) -> float:
    chosen = made.printed() & (np.isin(made.kinds(), kinds) if kinds else made.kinds() != "Skirt/Brim")
    return float(made.replay.delta[chosen, 3].sum())


@pytest.mark.usefixtures("alike")
@pytest.mark.parametrize("name", SHAPES)
def test_it_takes_as_much_filament_and_draws_the_same_walls(name: str, tmp_path: Path) -> None:
    (ours, mine), (theirs, other) = (printed(e, SHAPES[name], tmp_path) for e in ("planar", "prusaslicer"))
    assert filament(ours, PERIMETERS) == pytest.approx(filament(theirs, PERIMETERS), rel=0.02)
    assert filament(ours) == pytest.approx(filament(theirs), rel=0.1)
    assert mine.layers == pytest.approx(other.layers, abs=1)
    assert mine.time_s == pytest.approx(other.time_s, rel=0.2)
    mine_size, other_size = (np.ptp(np.vstack(made.segments()), axis=0) for made in (ours, theirs))
    np.testing.assert_allclose(mine_size, other_size, atol=0.03)
