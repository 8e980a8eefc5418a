"""What a printer really takes: learnt from its undisturbed prints, careful with few and with strange ones."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pace import HIGHEST, LEAST, LOWEST, Evidence, Pace, Source, measured, pace

HOUR = 3600.0


def of(*ratios: float) -> Evidence:
    """Prints of an hour each, newest first."""
    return measured([(HOUR, HOUR * ratio) for ratio in ratios])


def test_without_prints_the_g_code_is_believed() -> None:
    assert pace(of(), []) == Pace(1.0, Source.GCODE, 0)


@pytest.mark.parametrize("few", [(1.5,), (1.5, 1.6), (3.0, 0.6)])
def test_few_prints_do_not_move_it(few: tuple[float, ...]) -> None:
    assert pace(of(*few), []) == Pace(1.0, Source.GCODE, 0)


def test_a_print_that_stood_still_overnight_does_not_move_it() -> None:
    usual = (1.1, 1.12, 1.08, 1.11, 1.1)
    assert pace(of(3.5, *usual), []).factor == pytest.approx(pace(of(*usual), []).factor, abs=0.01)
    assert pace(of(1.0, 1.0, 3.9), []).factor == 1.0, "not even with the fewest that count"


def test_it_comes_to_what_the_printer_takes() -> None:
    chance = random.Random(4)
    steps = [pace(of(*(1.3 * math.exp(chance.gauss(0, 0.05)) for _ in range(n))), []).factor for n in (3, 8, 20)]
    assert steps == sorted(steps), "the more prints, the less doubt"
    assert 1.0 < steps[0] < 1.2
    assert steps[-1] == pytest.approx(1.25, abs=0.03)


def test_what_no_printer_does_is_not_counted() -> None:
    """A demo's machines print an hour in a minute."""
    assert of(*[1 / 60] * 9, *[30.0] * 9) == Evidence()
    assert of(0.01, 1.2, 50.0).prints == 1


def test_old_prints_are_forgotten() -> None:
    """A new firmware: the last twenty count."""
    newest = of(*[1.4] * 20, *[1.0] * 200)
    assert (newest.ratio, newest.prints) == (pytest.approx(1.4), 20)
    assert of(*[1.4] * 11, *[1.0] * 200).ratio == pytest.approx(1.4)


def test_short_prints_are_mostly_warming_up_and_do_not_count() -> None:
    assert measured([(60.0, 300.0)] * 10) == Evidence()
    assert measured([(60.0, 300.0), (HOUR, HOUR), (HOUR, 0.0)]).prints == 1


def test_a_printer_without_prints_goes_like_the_others_of_its_profile() -> None:
    several = [of(*[1.3] * 20)] * 4
    found = pace(of(), several)
    assert (found.factor, found.source, found.prints) == (pytest.approx(1.3**0.8), Source.PROFILE, 80)
    assert pace(of(), several[:1]).factor == pytest.approx(1.3**0.5), "one machine may be a strange one"
    assert pace(of(), [*several, of(3.0)]) == pace(of(), several), "few prints of another do not count"


def test_its_own_prints_soon_weigh_more_than_those_of_others() -> None:
    slow = [of(*[1.6] * 20)] * 5
    assert pace(of(*[1.0] * 20), slow).factor == pytest.approx(1.0, abs=0.08)
    assert pace(of(*[1.0] * LEAST), slow).source is Source.PRINTER


@given(
    st.lists(st.tuples(st.floats(1, 1e7), st.floats(-1, 1e8)), max_size=40), st.floats(0.01, 100), st.integers(0, 20)
)
def test_nothing_moves_it_out_of_reason(prints: list[tuple[float, float]], ratio: float, count: int) -> None:
    found = pace(measured(prints), [Evidence(ratio, count)])
    assert LOWEST <= found.factor <= HIGHEST
