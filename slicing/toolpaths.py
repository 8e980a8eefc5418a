"""What a print file draws, as lines in space small enough for a phone: all of it coarsely, and any layer exactly. Pure.

``python -m slicing.toolpaths FILE --index FILE.json --out DIR`` writes DIR/whole.bin, with ``--first 0 --count 8``
DIR/layer-0.bin ..., and prints one line of JSON, ``{"layers": n}`` or ``{"error": sentence}``. Little-endian::

    4 bytes  b"PFT1"
    uint32   bytes of the header
    header   JSON, see Frame and `head`; filled up with blanks to a multiple of 8 bytes
    uint16   x, y, z in steps, and a kind, of each point

The kind is that of the line that begins at a point: a number of KINDS, TRAVEL, or END where none does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicing.engines.base import SlicingError
from slicing.gcode import opened
from slicing.layers import LINE, OTHER, Index, colour, indexed, moves, put
from slicing.reading import Floats, Ints, State, Stretch, chunks, replay, rows

Points = NDArray[np.uint16]

MAGIC = b"PFT1"
STEPS = 65_535
FINEST = 0.01  # mm of a step, at least
TRAVEL, END = 254, 255
MOST_POINTS = 260_000  # of all layers together: 2 MB
MOST_OF_LAYER = 400_000
MOST_READ = 12_000_000  # points that are kept in memory until it is clear how many there are

#: what lines are for, by the colour that their slicer's name for them has (see layers.FEATURES)
KINDS: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("Outer wall", (240, 120, 50)),
    ("Inner walls", (245, 190, 60)),
    ("Solid", (150, 95, 205)),
    ("Top", (215, 70, 80)),
    ("Infill", (175, 75, 55)),
    ("Bridge", (70, 110, 200)),
    ("Overhang", (40, 80, 190)),
    ("Gap fill", (150, 160, 175)),
    ("Support", (70, 170, 90)),
    ("Skirt, brim", (60, 150, 160)),
    ("Prime tower", (170, 160, 120)),
    ("Ironing", (230, 120, 160)),
    ("Line", OTHER),
)
_UNSEEN = {"Inner walls", "Solid", "Infill", "Gap fill"}
_INSIDE = tuple(number for number, (name, _) in enumerate(KINDS) if name in _UNSEEN)
#: (without what is inside, mm that a line may be off): tried in turn until there are few enough points
_COARSER = ((False, 0.02), (False, 0.06), (True, 0.06), (True, 0.15), (True, 0.4))


@lru_cache(maxsize=256)
def kind(feature: str) -> int:
    """Of lines that the slicer calls so."""
    shade = colour(feature)
    return next(number for number, (_, colour_of) in enumerate(KINDS) if colour_of == shade)


@dataclass(frozen=True, slots=True)
class Frame:
    """From mm to steps: ``low`` is the lowest point, ``step`` mm are one step along each axis."""

    low: Floats
    step: float

    @staticmethod
    def around(found: Index, margin: float = 0.0) -> Frame:
        low = np.array([*found.low, 0.0]) - margin
        high = np.array([*found.high, max(found.top, 0.0)]) + margin
        return Frame(low, max(float((high - low).max()) / STEPS, FINEST))

    def steps(self, points: Floats) -> Points:
        return np.clip(np.rint((points - self.low) / self.step), 0, STEPS).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Lines:
    """``points`` (n, 4), in order of layers; those of layer k begin at ``first[k]``, and ``first[-1]`` is n."""

    points: Points
    first: Ints


def head(found: Index, frame: Frame, **more: Any) -> dict[str, Any]:
    """What a browser needs to draw the points: mm, s."""
    return {
        "low": [round(v, 3) for v in frame.low.tolist()],
        "step": frame.step,
        "width": LINE,
        "kinds": [{"name": name, "colour": list(shade)} for name, shade in KINDS],
        "travel": TRAVEL,
        **more,
    }


def encoded(header: dict[str, Any], points: Points) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 8)
    return b"".join([MAGIC, len(text).to_bytes(4, "little"), text, points.astype("<u2").tobytes()])


def decoded(data: bytes) -> tuple[dict[str, Any], Points]:
    """The inverse of :func:`encoded`. Raises ValueError."""
    if data[:4] != MAGIC:
        raise ValueError("not toolpaths")
    begin = 8 + int.from_bytes(data[4:8], "little")
    return json.loads(data[8:begin]), np.frombuffer(data, "<u2", offset=begin).reshape(-1, 4)


# -- all layers, coarsely
def whole(path: Path, found: Index, most: int = MOST_POINTS) -> bytes:
    """Every layer with at most about ``most`` points in all: first without what nobody would see, then without what is
    inside, then with fewer layers. The header's ``every`` says that only each k-th layer is there, ``inside`` whether
    infill and inner walls are."""
    frame = Frame.around(found)
    lines = _collected(path, found, frame)
    shown, every, inside = reduced(lines, frame.step, most)
    times = [mark.begins_s for mark in found.layers]
    header = head(
        found,
        frame,
        first=shown.first.tolist(),
        z=[mark.z or 0.0 for mark in found.layers],
        begins_s=times,
        time_s=found.time_s,
        every=every,
        inside=inside,
    )
    return encoded(header, shown.points)


def _collected(path: Path, found: Index, frame: Frame) -> Lines:
    begins = np.array([mark.offset for mark in found.layers])
    parts: list[Points] = []
    layers: list[Ints] = []
    total, state = 0, State()
    with opened(path) as (text, _):
        for stretch in replay((rows(data, at) for at, data in chunks(text)), state, by_feature=True):
            if not isinstance(stretch, Stretch):
                continue
            layer = np.searchsorted(begins, stretch.offset, side="right") - 1
            points, of = _drawn(stretch, stretch.extruding & (layer >= 0), layer, frame, kind(state.feature))
            parts.append(points)
            layers.append(of)
            total += len(points)
            if total > MOST_READ:
                raise SlicingError("This file has too many lines to be shown in 3D.")
    if not total:
        raise SlicingError("Nothing is printed in this file's layers.")
    first = np.searchsorted(np.concatenate(layers), np.arange(len(begins) + 1))
    return Lines(np.concatenate(parts), first)


def _drawn(stretch: Stretch, chosen: NDArray[np.bool_], layer: Ints, frame: Frame, code: int) -> tuple[Points, Ints]:
    """((n, 4) points of the chosen moves, the layer of each): every run of moves begins where its first one does."""
    index = np.flatnonzero(chosen)
    if not len(index):
        return np.empty((0, 4), np.uint16), np.empty(0, np.int64)
    mine = layer[index]
    fresh = np.concatenate([[True], (np.diff(index) > 1) | (np.diff(mine) != 0)])
    # a fresh run has one point more than moves; each move's own point stands behind all of these
    place = np.arange(len(index)) + np.cumsum(fresh)
    points = np.empty((len(index) + int(fresh.sum()), 4), np.uint16)
    points[:, 3] = code
    points[place, :3] = frame.steps(stretch.position[index])
    points[place[fresh] - 1, :3] = frame.steps(stretch.before[index[fresh]])
    points[np.append(place[fresh][1:] - 2, len(points) - 1), 3] = END
    of = np.empty(len(points), np.int64)
    of[place], of[place[fresh] - 1] = mine, mine[fresh]
    return points, of


def reduced(lines: Lines, step: float, most: int) -> tuple[Lines, int, bool]:
    """(few enough lines, each how many-th layer, whether what is inside is still there)."""
    shown, outside = lines, False
    for outside, off in _COARSER:
        shown = straightened(_outside(lines) if outside else lines, off / step)
        if len(shown.points) <= most:
            return shown, 1, not outside
    every = -(-len(shown.points) // most)
    layers = np.arange(len(shown.first) - 1)
    return _kept(shown, (layers % every == 0)[_layers(shown)]), every, not outside


def _layers(lines: Lines) -> Ints:
    return np.repeat(np.arange(len(lines.first) - 1), np.diff(lines.first))


def _kept(lines: Lines, chosen: NDArray[np.bool_]) -> Lines:
    before = np.concatenate([[0], np.cumsum(chosen)])
    return Lines(lines.points[chosen], before[lines.first])


def _outside(lines: Lines) -> Lines:
    """Without infill and inner walls, but for the first and the last layer: those are seen."""
    layer, kinds = _layers(lines), lines.points[:, 3].copy()
    ends = kinds == END
    kinds[ends] = kinds[np.flatnonzero(ends) - 1]  # the end of a line belongs to it
    return _kept(lines, ~np.isin(kinds, _INSIDE) | (layer == 0) | (layer == len(lines.first) - 2))


def straightened(lines: Lines, off: float) -> Lines:
    """Without points that lie almost (``off`` steps) on the way between their neighbours, a few times over: of two that
    follow each other only one is left out at a time."""
    for _ in range(6):
        points = lines.points.astype(np.int64)
        gone = np.zeros(len(points), bool)
        a, b, c = points[:-2], points[1:-1], points[2:]
        inside = (a[:, 3] == b[:, 3]) & (b[:, 3] != END)
        way, along = (c - a)[:, :3].astype(np.float64), (b - a)[:, :3].astype(np.float64)
        length = np.maximum((way * way).sum(axis=1), 1e-9)
        share = np.clip((way * along).sum(axis=1) / length, 0.0, 1.0)
        away = along - share[:, None] * way
        gone[1:-1] = inside & ((away * away).sum(axis=1) <= off * off)
        run = np.arange(len(gone)) - np.maximum.accumulate(np.where(gone, -1, np.arange(len(gone))))
        gone &= run % 2 == 1
        if gone.sum() < 0.02 * len(gone):
            break
        lines = _kept(lines, ~gone)
    return lines


# -- one layer, exactly
def layer(path: Path, found: Index, number: int) -> bytes:
    """A layer, counted from 0: first its lines in the order in which they are printed, then its travels."""
    frame = Frame.around(found, margin=10.0)
    drawn: list[Points] = []
    travels: list[Points] = []
    for feature, stretch in moves(path, found.layers, number):
        one = np.zeros(len(stretch.speed), np.int64)
        drawn.append(_drawn(stretch, stretch.extruding, one, frame, kind(feature))[0])
        travels.append(_drawn(stretch, stretch.delta[:, 3] <= 0, one, frame, TRAVEL)[0])
    lines, ways = (np.concatenate([*some, np.empty((0, 4), np.uint16)])[:MOST_OF_LAYER] for some in (drawn, travels))
    header = head(found, frame, number=number, lines=len(lines), z=found.layers[number].z or 0.0)
    return encoded(header, np.concatenate([lines, ways]))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slicing.toolpaths", description="G-code as lines for browsers.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--index", type=Path, required=True, help="where it is kept, or shall be")
    parser.add_argument("--first", type=int, help="layers are counted from 0; not given: all of them, coarsely")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    options = parser.parse_args(argv)
    said: dict[str, Any]
    try:
        found = indexed(options.file, options.index)
        for name, made in _wanted(options, found):
            put(options.out / name, made())
        said = {"layers": len(found.layers)}
    except SlicingError as error:
        said = {"error": str(error)}
    except MemoryError:
        said = {"error": "This file needs more memory than a view of it may use."}
    sys.stdout.write(json.dumps(said) + "\n")
    return 2 if "error" in said else 0


def _wanted(options: argparse.Namespace, found: Index) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if options.first is None:
        yield "whole.bin", lambda: whole(options.file, found)
        return
    if not 0 <= options.first < len(found.layers):
        raise SlicingError(f"There is no layer {options.first}; the last one is {len(found.layers) - 1}.")
    for number in range(options.first, min(options.first + options.count, len(found.layers))):
        yield f"layer-{number}.bin", lambda number=number: layer(options.file, found, number)  # type: ignore[misc]


if __name__ == "__main__":
    from slicing import toolpaths  # by its real name, as slicing.mesh does

    sys.exit(toolpaths.main())
