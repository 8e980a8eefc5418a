"""Pictures and shapes of models, pictures and lines of G-code and its layers, as files that may be sent.

Shapes and layers are made when somebody looks at them: by a child process with limits, a few layers at once because
people leaf through them, and kept on disk until the space is needed. What is kept may be deleted at any time.
"""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db.models.fields.files import FieldFile

from farm.errors import Invalid, NotFound, Unavailable
from slicing.models import Gcode, Model3D
from slicing.sandbox import WALL_S, facts_of

#: layers that are drawn together
TOGETHER = 8
#: children that may draw at once in one web process, and s that a request waits for its turn
AT_ONCE, PATIENCE_S = 2, 15.0
#: bytes of what is kept, and after how many children that is looked at
MOST_KEPT, LOOK_EVERY = 1_000_000_000, 16
#: bytes of G-code that are surely read in a second, also by a small machine; how often they are read for one view: once
#: for where layers begin, and by what lines are for, which takes twice as long
READING_SPEED, READINGS = 3_000_000, 3

#: of how layers are drawn or written as lines, and shapes are written
REVISION, SHAPE_REVISION = 2, 1

_turns = threading.BoundedSemaphore(AT_ONCE)
_drawn = itertools.count(1)


def picture(kept: FieldFile) -> Path:
    """Of a model or a G-code. Raises NotFound when there is none."""
    path = Path(kept.path) if kept else None
    if path is None or not path.exists():
        raise NotFound("There is no picture of this.", code="no_picture")
    return path


def shape(model: Model3D) -> Path:
    """See slicing.shape. Raises NotFound when it cannot be made, and Unavailable when too many want one at once."""
    folder = kept_views() / f"{model.pk}-{SHAPE_REVISION}"
    path = folder / "shape.bin"
    if not path.exists():
        with _turn():
            if not path.exists():
                _make_shape(model, path)
    return path


def _make_shape(model: Model3D, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = ("--name", f"model.{model.kind}", "--max-triangles", str(settings.FARM_MAX_TRIANGLES), "--out", str(path))
    try:
        facts_of("slicing.shape", model.file.path, *wanted)
    except Invalid as error:
        raise NotFound(error.message, code="no_shape") from error
    _make_room(path.parent)


def layer(gcode: Gcode, number: int) -> Path:
    """Of a layer, counted from 1. Raises NotFound, and Unavailable when too many want pictures at once."""
    if not 1 <= number <= gcode.layers:
        raise NotFound(f"There is no layer {number}; the highest is {gcode.layers}.", code="no_layer")
    return _seen(gcode, f"{number - 1}.png", "slicing.layers", number - 1)


def toolpaths(gcode: Gcode, number: int | None = None) -> Path:
    """The lines of a layer, counted from 1, or of all of them coarsely: see slicing.toolpaths. Raises as layer."""
    if number is None:
        return _seen(gcode, "whole.bin", "slicing.toolpaths", None)
    if not 1 <= number <= gcode.layers:
        raise NotFound(f"There is no layer {number}; the highest is {gcode.layers}.", code="no_layer")
    return _seen(gcode, f"layer-{number - 1}.bin", "slicing.toolpaths", number - 1)


def _seen(gcode: Gcode, name: str, module: str, number: int | None) -> Path:
    """A view of a file, kept or made now."""
    folder = kept_views() / f"{gcode.pk}-{REVISION}"
    path = folder / name
    if not path.exists():
        with _turn():
            if not path.exists():  # made meanwhile, together with another
                _draw(gcode, folder, module, number)
    if not path.exists():
        raise NotFound("This view could not be made.", code="no_layer")
    return path


def kept_views() -> Path:
    return Path(settings.DATA_DIR) / "views"


def _draw(gcode: Gcode, folder: Path, module: str, number: int | None) -> None:
    """Of a layer, counted from 0, and those beside it; None: of all."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = ("--index", str(folder / "index.json"), "--out", str(folder))
    some = () if number is None else ("--first", str(number // TOGETHER * TOGETHER), "--count", str(TOGETHER))
    try:
        seconds = WALL_S + READINGS * gcode.bytes // READING_SPEED
        facts_of(module, gcode.file.path, *wanted, *some, seconds=seconds)
    except Invalid as error:
        raise NotFound(error.message, code="no_layer") from error
    _make_room(folder)


def _make_room(looked_at: Path) -> None:
    looked_at.touch()
    if next(_drawn) % LOOK_EVERY == 0:
        forget_old(MOST_KEPT)


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=PATIENCE_S):
        raise Unavailable("Too many pictures are being drawn. Try again in a moment.", code="busy")
    try:
        yield
    finally:
        _turns.release()


def forget_old(most: int) -> None:
    """Delete what was made of the files that were not looked at for longest, until ``most`` bytes are left."""
    root = kept_views()
    folders = sorted(root.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True) if root.exists() else []
    total = 0
    for folder in folders:
        total += sum(file.stat().st_size for file in folder.iterdir())
        if total > most:
            shutil.rmtree(folder, ignore_errors=True)
