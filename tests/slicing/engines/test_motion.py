"""The time planner against a plain planner that walks move by move."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slicing.engines.base import Machine
from slicing.engines.motion import Moves, durations


def moves(*steps: tuple[float, float, float, float, float]) -> Moves:
    table = np.array(steps)
    return Moves(table[:, :4], table[:, 4])


def test_a_long_move_is_a_trapezoid() -> None:
    # 100 mm at 50 mm/s with 1000 mm/s2: 50 ms up, 50 ms down, 97.5 mm between
    assert durations(moves((100, 0, 0, 0, 50)), Machine())[0] == pytest.approx(0.05 + 0.05 + 97.5 / 50)


def test_a_short_move_never_reaches_its_speed() -> None:
    assert durations(moves((1, 0, 0, 0, 200)), Machine())[0] == pytest.approx(2 * math.sqrt(1 / 1000))


def test_straight_on_does_not_slow_down() -> None:
    once = durations(moves((100, 0, 0, 5, 50)), Machine()).sum()
    cut = durations(moves(*[(10, 0, 0, 0.5, 50)] * 10), Machine()).sum()
    assert cut == pytest.approx(once)


def test_a_corner_slows_down_to_the_jerk() -> None:
    straight = durations(moves((50, 0, 0, 0, 60), (50, 0, 0, 0, 60)), Machine()).sum()
    corner = durations(moves((50, 0, 0, 0, 60), (0, 50, 0, 0, 60)), Machine()).sum()
    back = durations(moves((50, 0, 0, 0, 60), (-50, 0, 0, 0, 60)), Machine()).sum()
    # from 60 to 8 mm/s and back up at 1000 mm/s2, instead of going through
    lost = 2 * ((60 - 8) / 1000 - (60**2 - 8**2) / 2000 / 60)
    assert corner == pytest.approx(straight + lost)
    assert back == pytest.approx(corner)


def test_each_axis_keeps_to_its_own_limits() -> None:
    machine = Machine(max_speed=(300, 300, 12, 60))
    lift = durations(moves((0, 0, 24, 0, 100)), machine)[0]
    ramp = 12 / 200
    assert lift == pytest.approx(2 * ramp + (24 - 12 * ramp) / 12)


def test_a_retraction_takes_time_and_a_comment_takes_none() -> None:
    found = durations(moves((0, 0, 0, -0.8, 35), (0, 0, 0, 0, 35)), Machine())
    assert found[0] == pytest.approx(2 * math.sqrt(0.8 / 1000))
    assert found[1] == 0
    assert durations(Moves(np.empty((0, 4)), np.empty(0)), Machine()).sum() == 0


def walked(plan: Moves, machine: Machine) -> float:
    """Marlin's planner as it is written: backward, forward, trapezoids."""
    speed, accel, length = [], [], []
    for delta, wanted in zip(plan.delta, plan.speed, strict=True):
        distance = math.hypot(*delta[:3]) or abs(delta[3])
        unit = np.abs(delta) / distance
        speed.append(min([wanted, *(s / u for s, u in zip(machine.max_speed, unit, strict=True) if u)]))
        limits = [a / u for a, u in zip(machine.max_acceleration, unit, strict=True) if u]
        accel.append(min([machine.acceleration, *limits]))
        length.append(distance)
    n = len(speed)
    entry = [0.0] * (n + 1)
    for i in range(1, n):
        joint, factor = min(speed[i - 1], speed[i]), 1.0
        for axis in range(4):
            out = plan.delta[i - 1][axis] / length[i - 1] * joint
            into = plan.delta[i][axis] / length[i] * joint
            if out > into:
                jump = out - into if into > 0 or out < 0 else max(out, -into)
            else:
                jump = into - out if into < 0 or out > 0 else max(-out, into)
            if jump > machine.jerk[axis]:
                factor = min(factor, machine.jerk[axis] / jump)
        entry[i] = joint * factor
    for i in reversed(range(n)):
        entry[i] = min(entry[i], math.sqrt(entry[i + 1] ** 2 + 2 * accel[i] * length[i]))
    total = 0.0
    for i in range(n):
        entry[i + 1] = min(entry[i + 1], math.sqrt(entry[i] ** 2 + 2 * accel[i] * length[i]))
        a, b = entry[i], entry[i + 1]
        peak = min(speed[i], math.sqrt((2 * accel[i] * length[i] + a * a + b * b) / 2))
        cruise = length[i] - (2 * peak**2 - a * a - b * b) / (2 * accel[i])
        total += (2 * peak - a - b) / accel[i] + max(cruise, 0) / peak
    return total


def test_it_equals_a_planner_that_walks_move_by_move() -> None:
    rng = np.random.default_rng(3)
    delta = rng.normal(0, 5, (400, 4)) * [1, 1, 0.02, 0.03]
    plan = Moves(delta, rng.uniform(10, 150, 400))
    assert durations(plan, Machine()).sum() == pytest.approx(walked(plan, Machine()), rel=1e-9)
