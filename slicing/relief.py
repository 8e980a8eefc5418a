"""A picture of a G-code file whose slicer put none in: how high its lines lie, as a model of columns. Pure.

What hangs over is not seen so, but one knows the part again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slicing.gcode import Survey, opened
from slicing.pictures import png, render
from slicing.reading import Floats, State, Stretch, chunks, replay, rows

COLUMNS = 220  # along the longer side
FINEST = 0.22  # mm; half a line: finer columns would show the gaps between lines
MOST_BYTES = 150_000_000  # of a file that is read once more for its picture
MOST_STEPS = 400  # of one line

Grid = NDArray[np.float32]


def drawn(path: Path, found: Survey) -> bytes | None:
    """PNG; None when that would take too long."""
    if path.stat().st_size > MOST_BYTES:
        return None
    return png(render(columns(*heights(path, found))))


def heights(path: Path, found: Survey) -> tuple[Grid, float]:
    """((x, y) how high lines lie over each cell, 0 for none; mm of a cell). Lines before the first layer are left
    out."""
    low, high = found.in_layers.low, found.in_layers.high
    cell = max(float((high - low)[:2].max()) / COLUMNS, FINEST)
    shape = tuple((np.ceil((high - low)[:2] / cell).astype(int) + 3).tolist())
    grid = np.zeros(shape, np.float32)
    first = found.layers[0].offset if found.layers else 0
    with opened(path) as (text, _):
        for part in replay((rows(data, at) for at, data in chunks(text)), State()):
            if isinstance(part, Stretch):
                chosen = part.extruding & (part.offset >= first)
                _raise(
                    grid, (part.before[chosen] - low) / cell + 1, (part.position[chosen] - low) / cell + 1, cell, low
                )
    return _closed(grid), cell


def _raise(grid: Grid, begin: Floats, end: Floats, cell: float, low: Floats) -> None:
    """Lift what lies under lines to their height."""
    if not len(begin):
        return
    way = (end - begin)[:, :2]
    steps = np.clip(np.ceil(np.abs(way).max(axis=1) * 1.5), 1, MOST_STEPS).astype(np.int64)
    line = np.repeat(np.arange(len(steps)), steps)
    share = (np.arange(len(line)) - np.repeat(np.cumsum(steps) - steps, steps) + 0.5) / steps[line]
    x, y = (begin[line, :2] + share[:, None] * way[line]).astype(np.int64).T
    z = ((end[line, 2] - 1) * cell + low[2]).astype(np.float32)
    np.maximum.at(grid, (np.clip(x, 0, grid.shape[0] - 1), np.clip(y, 0, grid.shape[1] - 1)), z)


def _closed(grid: Grid) -> Grid:
    """Without gaps of one cell: what a coarse grid leaves between lines."""
    return _of_neighbours(_of_neighbours(grid, np.maximum), np.minimum)


def _of_neighbours(grid: Grid, best: np.ufunc) -> Grid:
    for axis in (0, 1):
        wide = np.pad(grid, [(1, 1) if k == axis else (0, 0) for k in range(2)], mode="edge")
        parts = [np.take(wide, np.arange(k, k + grid.shape[axis]), axis=axis) for k in range(3)]
        grid = best(best(parts[0], parts[1]), parts[2])
    return grid


def columns(grid: Grid, cell: float) -> Floats:
    """(n, 3, 3) triangles: a top for each cell, and walls down to lower neighbours."""
    x, y = np.nonzero(grid)
    top = grid[x, y].astype(np.float64)
    quads = [_quad(x, y, top, ((0, 0), (1, 0), (1, 1), (0, 1)), top)]
    padded = np.pad(grid, 1).astype(np.float64)
    for (dx, dy), edge in (
        ((-1, 0), ((0, 1), (0, 0))),
        ((1, 0), ((1, 0), (1, 1))),
        ((0, -1), ((0, 0), (1, 0))),
        ((0, 1), ((1, 1), (0, 1))),
    ):
        below = padded[x + 1 + dx, y + 1 + dy]
        wall = below < top
        quads.append(_quad(x[wall], y[wall], top[wall], (*edge, *edge[::-1]), below[wall]))
    triangles: Floats = np.concatenate(quads)
    return triangles * (cell, cell, 1.0)


def _quad(
    x: NDArray[np.int64], y: NDArray[np.int64], high: Floats, corners: tuple[tuple[int, int], ...], low: Floats
) -> Floats:
    """Two triangles each; the first two corners lie at ``high``, the others at ``low``."""
    a, b, c, d = (
        np.stack([x + dx, y + dy, level], axis=1)
        for (dx, dy), level in zip(corners, (high, high, low, low), strict=True)
    )
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
