"""Which layer a printer is at, from how much of its file it has read. Pure, and without numpy: it is asked for every
printer that is shown.

Where layers begin is kept as 16 bits each: 65,535 is the end of the file.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable

WHOLE = 65_535


def packed(begins: Iterable[float]) -> bytes:
    """Parts of the file (0..1) at which layers begin, in order, as they are kept."""
    return _portable(array("H", (round(min(max(begin, 0.0), 1.0) * WHOLE) for begin in begins))).tobytes()


def layer_at(begins: bytes, progress: float) -> int:
    """The layer that is printed (the first is 1) when ``progress`` (0..1) of the file is read; 0 before the first."""
    return bisect_right(unpacked(begins), round(progress * WHOLE))


def layers_in(begins: bytes) -> int:
    return len(begins) // 2


def unpacked(begins: bytes) -> array[int]:
    found = array("H")
    found.frombytes(begins)
    return _portable(found)


def _portable(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values.byteswap()
    return values
