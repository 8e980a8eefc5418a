"""Pictures of models, of G-code and of its layers, as files that may be sent.

Layers are drawn when somebody looks at them: by a child process with limits, a few of them at once because people leaf
through them, and kept on disk until the space is needed. What is kept may be deleted at any time.
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
from slicing.models import Gcode
from slicing.sandbox import WALL_S, facts_of

#: layers that are drawn together
TOGETHER = 8
#: children that may draw at once in one web process, and s that a request waits for its turn
AT_ONCE, PATIENCE_S = 2, 15.0
#: bytes of kept layers, and after how many children that is looked at
MOST_KEPT, LOOK_EVERY = 1_000_000_000, 16
#: bytes of G-code that are surely read in a second, also by a small machine
READING_SPEED = 3_000_000

#: of how layers are drawn
REVISION = 1

_turns = threading.BoundedSemaphore(AT_ONCE)
_drawn = itertools.count(1)


def picture(kept: FieldFile) -> Path:
    """Of a model or a G-code. Raises NotFound when there is none."""
    path = Path(kept.path) if kept else None
    if path is None or not path.exists():
        raise NotFound("There is no picture of this.", code="no_picture")
    return path


def layer(gcode: Gcode, number: int) -> Path:
    """Of a layer, counted from 1. Raises NotFound, and Unavailable when too many want pictures at once."""
    if not 1 <= number <= gcode.layers:
        raise NotFound(f"There is no layer {number}; the highest is {gcode.layers}.", code="no_layer")
    folder = kept_layers() / f"{gcode.pk}-{REVISION}"
    path = folder / f"{number - 1}.png"
    if not path.exists():
        with _turn():
            if not path.exists():  # drawn meanwhile, together with another
                _draw(gcode, folder, number - 1)
    if not path.exists():
        raise NotFound(f"Layer {number} could not be drawn.", code="no_layer")
    return path


def kept_layers() -> Path:
    return Path(settings.DATA_DIR) / "layers"


def _draw(gcode: Gcode, folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = ("--index", str(folder / "index.json"), "--out", str(folder))
    some = ("--first", str(number // TOGETHER * TOGETHER), "--count", str(TOGETHER))
    try:
        seconds = WALL_S + gcode.bytes // READING_SPEED
        facts_of("slicing.layers", gcode.file.path, *wanted, *some, seconds=seconds)
    except Invalid as error:
        raise NotFound(error.message, code="no_layer") from error
    folder.touch()
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
    """Delete the layers of the files that were not looked at for longest, until ``most`` bytes are left."""
    root = kept_layers()
    folders = sorted(root.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True) if root.exists() else []
    total = 0
    for folder in folders:
        total += sum(file.stat().st_size for file in folder.iterdir())
        if total > most:
            shutil.rmtree(folder, ignore_errors=True)
