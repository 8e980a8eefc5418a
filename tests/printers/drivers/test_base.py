"""What no printer is asked for, whoever made its server."""

from __future__ import annotations

from typing import Any

import pytest

from printers.drivers.base import (
    Garbled,
    Refused,
    Unsupported,
    checked_axes,
    checked_lines,
    checked_moves,
    checked_target,
    one_line,
    understood,
)

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("target", [-1, 501, NAN, INFINITE])
def test_it_refuses_a_temperature_that_makes_no_sense(target: float) -> None:
    with pytest.raises(Refused):
        checked_target("tool0", target)


@pytest.mark.parametrize("heater", ["", "extruder", "tool", "tool123", "bed ", "tool0 TARGET=300\nM112"])
def test_it_knows_no_heater_by_another_name(heater: str) -> None:
    with pytest.raises(Unsupported):
        checked_target(heater, 50)


def test_axes_are_homed_once_each() -> None:
    assert checked_axes(["Z", "x", "X"]) == ["x", "z"]


@pytest.mark.parametrize("axes", [[], ["e"], ["x y"], ["x", ""]])
def test_it_homes_only_axes(axes: list[str]) -> None:
    with pytest.raises(Refused):
        checked_axes(axes)


@pytest.mark.parametrize(
    ("moves", "speed"), [({}, 50), ({"e": 1}, 50), ({"x": NAN}, 50), ({"x": 1}, 0), ({"x": 1}, INFINITE)]
)
def test_it_refuses_a_move_that_makes_no_sense(moves: dict[str, float], speed: float) -> None:
    with pytest.raises(Refused):
        checked_moves(moves, speed)


def test_blank_lines_are_no_gcode() -> None:
    assert checked_lines(["  G28 ", "", " "]) == ["G28"]


@pytest.mark.parametrize("lines", [[], [" "], ["M105\nM112"], ["M105\rM112"], ["G28\0"]])
def test_it_refuses_a_line_that_is_none_or_several(lines: list[str]) -> None:
    with pytest.raises(Refused):
        checked_lines(lines)


def test_what_a_printer_says_becomes_one_short_line() -> None:
    assert one_line("  a\n\tb\x1b[31m  c\u202e ") == "a b [31m c"
    assert one_line(None) == ""
    assert len(one_line("x" * 10_000_000)) == 300


@pytest.mark.parametrize("key", ["state", 0, None, []])
def test_an_answer_of_another_shape_is_garbled(key: Any) -> None:
    answer: Any = "not an object"
    with pytest.raises(Garbled), understood():
        answer[key].get("flags")
