"""Follow pieces from end to end: which piece comes next, and which runs and cycles that makes.

Half 2 i is the begin of piece i and half 2 i + 1 its end: a run is the list of halves by which pieces are entered.
"""

from __future__ import annotations

import numpy as np

from slicing.engines.planar.polygons import Ints


def walk(following: list[int]) -> tuple[list[int], list[int]]:
    """Cycles of a permutation: all members one cycle after the other, and where each begins (and the last ends)."""
    seen = bytearray(len(following))
    order: list[int] = []
    cuts = [0]
    add = order.append
    for first in range(len(following)):
        if seen[first]:
            continue
        at = first
        while not seen[at]:
            seen[at] = 1
            add(at)
            at = following[at]
        cuts.append(len(order))
    return order, cuts


def partners(start: Ints, end: Ints) -> list[int]:
    """For every half segment (2 i is the start of segment i, 2 i + 1 its end) the half that it meets, or -1.

    Where more than two meet, an end is given a start before an end is given an end.
    """
    count = len(start)
    keys = np.empty(2 * count, np.int64)
    keys[0::2], keys[1::2] = start, end
    is_end = np.tile([0, 1], count)
    order = np.lexsort((is_end, keys))
    group = np.ones(2 * count, bool)
    group[1:] = (keys[order][1:] != keys[order][:-1]) | (is_end[order][1:] != is_end[order][:-1])
    begin = np.maximum.accumulate(np.where(group, np.arange(2 * count), 0))
    rank = np.empty(2 * count, np.int64)
    rank[order] = np.arange(2 * count) - begin
    partner = np.full(2 * count, -1)
    order = np.lexsort((is_end, rank, keys))
    same = (keys[order][1:] == keys[order][:-1]) & (rank[order][1:] == rank[order][:-1])
    a, b = order[:-1][same], order[1:][same]
    partner[a], partner[b] = b, a
    left = [h for h in order.tolist() if partner[h] < 0]
    found: list[int] = partner.tolist()
    k = 0
    while k + 1 < len(left):
        if keys[left[k]] == keys[left[k + 1]]:
            found[left[k]], found[left[k + 1]] = left[k + 1], left[k]
            k += 1
        k += 1
    return found


def follow(partner: list[int]) -> list[tuple[list[int], bool]]:
    """Runs of halves by which segments are entered, and whether the run closes. Open runs come first."""
    seen = bytearray(len(partner) // 2)
    loose = [h for h, p in enumerate(partner) if p < 0]
    runs = []
    for first in [*loose, *range(0, len(partner), 2)]:
        if seen[first >> 1]:
            continue
        run, at = [], first
        while at >= 0 and not seen[at >> 1]:
            seen[at >> 1] = 1
            run.append(at)
            at = partner[at ^ 1]
        runs.append((run, at >= 0))
    return runs
