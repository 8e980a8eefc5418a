"""Digits in a matrix against plain formatting."""

from __future__ import annotations

import numpy as np
import pytest

from slicing.engines.planar import text
from slicing.engines.planar.text import E, F, Lines, X, Y, Z, encode


def lines(count: int, seed: int = 1) -> Lines:
    rng = np.random.default_rng(seed)
    x, y, z = (rng.integers(-400_000, 2_000_000, count) for _ in range(3))
    x[:6] = [0, 1, -1, 999, 1000, -1000]
    e, f = rng.integers(-900_000, 50_000_000, count), rng.integers(1, 99_999, count)
    e[:4] = [0, 1, -1, 99_999]
    words = rng.integers(0, 32, count)
    comment = np.where(rng.random(count) < 0.1, rng.integers(0, 2, count), -1)
    return Lines(x, y, z, e, f, words, comment, (b";TYPE:Perimeter\n", b";TYPE:Internal infill\n"))


def plainly(made: Lines) -> list[str]:
    out = []
    for k in range(len(made)):
        if made.comment[k] >= 0:
            out.append(made.comments[made.comment[k]].decode())
            continue
        words = ["G1"]
        for letter, bit, values in (("X", X, made.x), ("Y", Y, made.y), ("Z", Z, made.z)):
            if made.words[k] & bit:
                words.append(f"{letter}{values[k] / 1000:.3f}")
        if made.words[k] & E:
            words.append(f"E{made.e[k] / 100_000:.5f}")
        if made.words[k] & F:
            words.append(f"F{made.f[k]}")
        out.append(" ".join(words) + "\n")
    return out


def test_it_writes_what_formatting_would_write() -> None:
    made = lines(5000)
    assert b"".join(encode(made, [])).decode() == "".join(plainly(made))


def test_headers_come_before_their_lines_also_at_the_borders_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = lines(200)
    expected = plainly(made)
    headers = [(0, b"; a\n"), (50, b"; b\n"), (50, b"; c\n"), (51, b"; d\n"), (199, b"; e\n"), (200, b"; f\n")]
    for number, header in reversed(headers):
        expected.insert(number, header.decode())
    monkeypatch.setattr(text, "CHUNK", 50)
    assert b"".join(encode(made, headers)).decode() == "".join(expected)
