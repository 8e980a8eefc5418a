"""Slices generated shapes once per test, reads the result back, and measures it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slicing.engines import engine, replay
from slicing.engines.base import Machine, SliceResult, SliceSettings
from tests import shapes

Floats = NDArray[np.float64]


@dataclass
class Print:
    """One sliced shape."""

    path: Path
    result: SliceResult
    replay: replay.Replay
    machine: Machine
    settings: SliceSettings

    @property
    def text(self) -> str:
        return self.path.read_text()

    def printed(self) -> NDArray[np.bool_]:
        """Extruding moves of the part: without what the start code primes."""
        return self.replay.extruding & (np.arange(len(self.replay.delta)) >= self.primed)

    @property
    def primed(self) -> int:
        """Number of moves in the start code."""
        return len(replay.parse(self.text.split(";LAYER_CHANGE")[0].encode()).delta)

    def kinds(self) -> NDArray[np.str_]:
        """For every move, the ;TYPE: that it stands under."""
        out, kind = [], ""
        for line in self.text.splitlines():
            if line.startswith(";TYPE:"):
                kind = line[6:]
            elif line.startswith(("G0 ", "G1 ")):
                out.append(kind)
        return np.array(out)

    def segments(self, kind: str | None = None) -> tuple[Floats, Floats]:
        """(from, to), (n, 3) each, of the part's extruding moves; the skirt only when asked for by name."""
        chosen = self.printed()
        kinds = self.kinds()
        chosen &= (kinds == kind) if kind else (kinds != "Skirt/Brim")
        to = self.replay.position[chosen]
        return to - self.replay.delta[chosen, :3], to

    def full(self, kind: str | None = None) -> tuple[Floats, Floats]:
        """Those segments that are as wide as lines are: no thin walls, no gaps."""
        a, b = self.segments(kind)
        chosen = self.printed() & ((self.kinds() == kind) if kind else (self.kinds() != "Skirt/Brim"))
        per_mm = self.replay.delta[chosen, 3] / np.maximum(np.linalg.norm(b - a, axis=1), 1e-9)
        usual = np.abs(per_mm / np.median(per_mm) - 1) < 0.05
        return a[usual], b[usual]

    def length(self, kind: str | None = None, layer_top: float | None = None) -> float:
        a, b = self.segments(kind)
        if layer_top is not None:
            here = np.abs(b[:, 2] - layer_top) < 1e-6
            a, b = a[here], b[here]
        return float(np.linalg.norm(b - a, axis=1).sum())

    def volume(self) -> float:
        """mm3 of plastic in the part, without skirt and priming."""
        chosen = self.printed() & (self.kinds() != "Skirt/Brim")
        return float(self.replay.delta[chosen, 3].sum()) * np.pi * self.settings.filament_diameter**2 / 4


Slicer = Callable[..., Print]


@pytest.fixture
def sliced(tmp_path: Path) -> Slicer:
    """slice(triangles, machine=..., **settings), checked by the replay."""

    def run(*parts: shapes.Triangles, machine: Machine | None = None, **settings: Any) -> Print:
        machine, chosen = machine or Machine(), SliceSettings(**settings)
        out = tmp_path / "out.gcode"
        result = engine("planar").slice(shapes.mesh(*parts), machine, chosen, out)
        replay.check(out, machine, chosen, result)
        return Print(out, result, replay.parse(out.read_bytes()), machine, chosen)

    return run
