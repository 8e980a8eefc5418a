"""Pictures of G-code that has none: columns as high as its lines lie."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slicing import relief
from slicing.engines.base import Machine, SliceSettings
from slicing.engines.planar import PlanarEngine
from slicing.gcode import Survey, chunks, rows, survey
from slicing.mesh import open_edges, weld
from tests import shapes


def followed(path: Path) -> Survey:
    data = path.read_bytes()
    return survey((rows(part, at) for at, part in chunks(io.BytesIO(data))), Machine(), check=False)


@pytest.fixture(scope="module")
def stairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps, 20 x 10 mm each: 2 mm and 5 mm high."""
    path = tmp_path_factory.mktemp("relief") / "stairs.gcode"
    low, high = shapes.moved(shapes.box(20, 10, 2), y=-5), shapes.moved(shapes.box(20, 10, 5), y=5)
    PlanarEngine().slice(shapes.mesh(low, high), Machine(), SliceSettings(skirt_loops=0), path)
    return path


def test_columns_are_as_high_as_what_is_printed_there(stairs: Path) -> None:
    grid, cell = relief.heights(stairs, followed(stairs))
    assert cell == relief.FINEST
    middle = grid.shape[0] // 2
    assert grid[middle, grid.shape[1] // 4] == pytest.approx(2)
    assert grid[middle, grid.shape[1] * 3 // 4] == pytest.approx(5)
    assert set(np.unique(np.round(grid.astype(float), 2)).tolist()) <= {0.0, *(round(0.2 * k, 2) for k in range(1, 26))}
    assert (grid[2:-3, 2:-3] > 0).all(), "no gaps between the lines"
    assert (grid > 0).sum() * cell**2 == pytest.approx(400, rel=0.06)


def test_they_are_a_closed_body(stairs: Path) -> None:
    grid, cell = relief.heights(stairs, followed(stairs))
    triangles = relief.columns(grid, cell)
    rim = weld(triangles)[0][np.unique(open_edges(weld(triangles)[1]))]
    inner = rim[(rim[:, 2] > 0.01) & (np.abs(rim[:, 2] - 2) > 0.01) & (np.abs(rim[:, 2] - 5) > 0.01)]
    assert len(inner) == 0, "open only below, and where walls of different heights meet"
    assert np.ptp(triangles[..., 2]) == pytest.approx(5)


def test_it_is_drawn(stairs: Path) -> None:
    data = relief.drawn(stairs, followed(stairs))
    assert data is not None
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (512, 512)
        assert image.getchannel("A").getextrema() == (0, 255)


def test_giants_are_not_read_once_more(stairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relief, "MOST_BYTES", 1000)
    assert relief.drawn(stairs, followed(stairs)) is None
