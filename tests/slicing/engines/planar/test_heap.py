"""Memory while slicing: kept for the next arrays, given back at the end."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from slicing.engines.planar import heap

pytestmark = pytest.mark.skipif(heap._glibc() is None, reason="there is another C library than glibc")
#: bytes
LARGE = 16 * 2**20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cleared_pages(times: int) -> int:
    """Pages that the system had to give anew for the same array, so many times."""
    np.ones(LARGE, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(LARGE, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_the_same_memory_is_used_again_and_not_cleared_anew() -> None:
    pages = LARGE // resource.getpagesize()
    with heap.kept():
        assert cleared_pages(10) < pages


def fills_the_heap() -> int:
    """Memory in use while it is full."""
    many = [np.ones(LARGE, np.uint8) for _ in range(10)]
    full = resident()
    del many
    assert full - resident() < LARGE, "it is kept"
    return full


def test_it_is_given_back_at_the_end() -> None:
    with heap.kept():
        full = fills_the_heap()
    assert full - resident() > 8 * LARGE


def test_it_is_given_back_after_a_failure_too() -> None:
    full: list[int] = []

    @heap.kept()
    def fails() -> None:
        full.append(fills_the_heap())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert full[0] - resident() > 8 * LARGE
