"""Memory that big arrays leave is kept for the next ones while a model is sliced, and given back at the end.

By itself glibc returns every large array to the system at once, which clears the same memory again for the next one:
a fifth of the time of a large model. Elsewhere than with glibc nothing changes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

#: of mallopt(3)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
#: bytes, by option: while slicing; otherwise (as far as glibc goes by itself)
_KEEP = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: 2**30, _TOP_PAD: 64 * 2**20}
_USUAL = {_MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20, _TOP_PAD: 128 * 2**10}


@contextmanager
def kept() -> Iterator[None]:
    libc = _glibc()
    if libc is None:
        yield
        return
    for option, size in _KEEP.items():
        libc.mallopt(option, size)
    try:
        yield
    finally:
        for option, size in _USUAL.items():
            libc.mallopt(option, size)
        libc.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> Any:
    """None where there is another C library."""
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
