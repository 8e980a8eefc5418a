"""A picture of any layer of any G-code file. Pure.

An index of where layers begin, and of what the printer remembers there, is made in one pass over the file; then a layer
is a few kilobytes of text by itself. ``python -m slicing.layers FILE --index FILE.json --first 0 --count 8 --out DIR``
draws some of them as DIR/0.png ... and prints one line of JSON: how many layers there are, or ``{"error": sentence}``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from slicing.engines.base import Machine, SlicingError
from slicing.gcode import LayerMark, opened, survey
from slicing.pictures import png
from slicing.reading import CHUNK, E, Floats, Rows, State, Stretch, chunks, replay, rows

SIZE = 800
FINER = 2
MARGIN = 0.04  # of the picture, on each side
LINE = 0.42  # mm; how wide lines are drawn
MOST_TEXT = 48 << 20  # bytes of one layer

#: what slicers call their lines, by a word in the name, and how they are shown; the first that fits
FEATURES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("support", (70, 170, 90)),
    ("skirt", (60, 150, 160)),
    ("brim", (60, 150, 160)),
    ("raft", (60, 150, 160)),
    ("tower", (170, 160, 120)),
    ("bridge", (70, 110, 200)),
    ("overhang", (40, 80, 190)),
    ("gap", (150, 160, 175)),
    ("thin", (150, 160, 175)),
    ("iron", (230, 120, 160)),
    ("external", (240, 120, 50)),
    ("outer", (240, 120, 50)),
    ("perimeter", (245, 190, 60)),
    ("wall", (245, 190, 60)),
    ("top", (215, 70, 80)),
    ("solid", (150, 95, 205)),
    ("bottom", (150, 95, 205)),
    ("skin", (150, 95, 205)),
    ("fill", (175, 75, 55)),
)
OTHER, TRAVEL = (120, 130, 145), (130, 140, 160, 150)


def colour(feature: str) -> tuple[int, int, int]:
    """Of lines that the slicer calls ``feature``."""
    name = feature.lower()
    return next((shade for word, shade in FEATURES if word in name), OTHER)


@dataclass(frozen=True, slots=True)
class Index:
    """Layers of one file and what its pictures show: mm of the bed. ``top``: of the highest line; ``time_s``: of the
    whole print."""

    low: tuple[float, float]
    high: tuple[float, float]
    layers: list[LayerMark]
    top: float
    time_s: float

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> Index:
        found = json.loads(text)
        marks = [LayerMark(**mark) for mark in found["layers"]]
        return Index(tuple(found["low"]), tuple(found["high"]), marks, found["top"], found["time_s"])


def index(path: Path) -> Index:
    """Raises SlicingError for what is no G-code that prints."""
    with opened(path) as (text, _):
        found = survey((rows(data, offset) for offset, data in chunks(text)), Machine(), check=False)
    (x0, y0, _), (x1, y1, z1) = found.in_layers.rounded
    return Index((x0, y0), (x1, y1), found.layers, z1, round(found.clock.seconds, 1))


@dataclass(slots=True)
class Drawn:
    """Lines of one layer, mm: ``lines`` (feature, (n, 2) points) in the order in which they are printed."""

    lines: list[tuple[str, Floats]] = field(default_factory=list)
    travels: list[Floats] = field(default_factory=list)


def layer(path: Path, marks: list[LayerMark], number: int) -> Drawn:
    """The lines of a layer, counted from 0."""
    drawn = Drawn()
    for feature, found in moves(path, marks, number):
        drawn.lines += [(feature, points) for points in _runs(found, found.extruding)]
        drawn.travels += list(_runs(found, found.delta[:, 3] <= 0))
    return drawn


def moves(path: Path, marks: list[LayerMark], number: int) -> Iterator[tuple[str, Stretch]]:
    """What a layer is made of, in order, each with what the slicer calls it."""
    mark = marks[number]
    end = marks[number + 1].offset if number + 1 < len(marks) else mark.offset + MOST_TEXT
    with opened(path) as (text, _):
        _go_to(text, mark.offset)
        part = rows(text.read(min(end - mark.offset, MOST_TEXT)) + b"\n")
    state = _state(mark, part)
    for found in replay([part], state, by_feature=True):
        if isinstance(found, Stretch):
            yield state.feature, found


def _go_to(text: BinaryIO, offset: int) -> None:
    """Binary G-code has to be unpacked up to there."""
    if text.seekable():
        text.seek(offset)
    while not text.seekable() and offset > 0:
        offset -= len(text.read(min(offset, CHUNK))) or offset


def _state(mark: LayerMark, part: Rows) -> State:
    """As noted; filament that was not is taken to stand just before where the layer's first move puts it: that begins
    a layer by printing."""
    state = State(**mark.state)
    if state.place[E] is None:
        given = part.values[:, E][~np.isnan(part.values[:, E])]
        state.place[E] = float(given[0]) - 1e-6 if len(given) else 0.0
    return state


def _runs(stretch: Stretch, chosen: Any) -> Iterator[Floats]:
    """Moves that follow each other, as (n, 2) points."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    for low, high in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield np.concatenate([stretch.before[low : low + 1, :2], stretch.position[low:high, :2]])


def draw(drawn: Drawn, found: Index, size: int = SIZE, travels: bool = False) -> Image.Image:
    """Every layer of a file has the same frame, so that they can be leafed through."""
    scale, place = _frame(found, size * FINER)
    image = Image.new("RGBA", (size * FINER, size * FINER))
    pen = ImageDraw.Draw(image)
    width = max(LINE * scale, 2.0)
    for feature, points in drawn.lines:
        dots = place(points)
        shade = colour(feature)
        _line(pen, dots, tuple(int(part * 0.62) for part in shade), width)
        _line(pen, dots, shade, width * 0.72)
    for points in drawn.travels if travels else ():
        pen.line(place(points), fill=TRAVEL, width=FINER)
    return image.resize((size, size), Image.Resampling.BOX)


def _line(pen: ImageDraw.ImageDraw, dots: list[tuple[float, float]], shade: tuple[int, ...], width: float) -> None:
    thick = max(1, round(width))
    pen.line(dots, fill=shade, width=thick, joint="curve" if thick > 3 else None)


def _frame(found: Index, size: int) -> tuple[float, Any]:
    """(pixels per mm, points in mm -> pixels): y goes up on a bed and down in a picture."""
    low, high = np.array(found.low) - LINE, np.array(found.high) + LINE
    scale = size * (1 - 2 * MARGIN) / max(float((high - low).max()), 1e-3)
    middle = (low + high) / 2

    def place(points: Floats) -> list[tuple[float, float]]:
        at = (points - middle) * (scale, -scale) + size / 2
        return [(x, y) for x, y in at.tolist()]

    return scale, place


def picture(path: Path, found: Index, number: int, travels: bool = False) -> bytes:
    """PNG of a layer, counted from 0. Raises SlicingError when there is none of that number."""
    if not 0 <= number < len(found.layers):
        raise SlicingError(f"There is no layer {number}; the last one is {len(found.layers) - 1}.")
    return png(draw(layer(path, found.layers, number), found, travels=travels))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slicing.layers", description="Pictures of layers of G-code.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--index", type=Path, required=True, help="where it is kept, or shall be")
    parser.add_argument("--first", type=int, default=0, help="layers are counted from 0")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--travels", action="store_true", help="show moves that print nothing too")
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    options = parser.parse_args(argv)
    said: dict[str, Any]
    try:
        said = {"layers": _draw_some(options)}
    except SlicingError as error:
        said = {"error": str(error)}
    except MemoryError:
        said = {"error": "This layer needs more memory than a picture may use."}
    sys.stdout.write(json.dumps(said) + "\n")
    return 2 if "error" in said else 0


def _draw_some(options: argparse.Namespace) -> int:
    found = indexed(options.file, options.index)
    last = min(options.first + options.count, len(found.layers))
    for number in range(options.first, max(last, options.first + 1)):
        put(options.out / f"{number}.png", picture(options.file, found, number, options.travels))
    return len(found.layers)


def indexed(path: Path, kept: Path) -> Index:
    """As it is kept, or made and kept now."""
    if kept.exists():
        return Index.load(kept.read_text())
    found = index(path)
    put(kept, found.dump().encode())
    return found


def put(path: Path, data: bytes) -> None:
    """In one step: others may be looking for the file while it is written, or write the very same."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


if __name__ == "__main__":
    from slicing import layers  # by its real name, as slicing.mesh does

    sys.exit(layers.main())
