"""How long a printer takes for a list of moves: trapezoids with per-axis limits and Marlin's classic jerk.

Vectorised exactly: with S the running sum of 2 a L, squared speeds w can only fall as fast as S grows, so the backward
pass of a planner is a reverse running minimum of w + S, and the forward pass one of w - S.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicing.engines.base import Machine

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moves:
    """``delta`` (n, 4): how far x, y, z and the filament go, mm; ``speed`` (n,) mm/s as commanded."""

    delta: Floats
    speed: Floats


def durations(moves: Moves, machine: Machine) -> Floats:
    """(n,) seconds of each move, starting and ending at rest."""
    out = np.zeros(len(moves.speed))
    x, y, z, e = moves.delta.T
    travelled = np.sqrt(x * x + y * y + z * z)
    length = np.where(travelled > 0, travelled, np.abs(e))
    real = np.flatnonzero(length > 0)
    if not len(real):
        return out
    length = length[real]
    # axis by axis, in contiguous columns: reducing rows of four is ten times slower
    ways = [axis[real] / length for axis in (x, y, z, e)]
    speed, accel = moves.speed[real], np.full(len(real), machine.acceleration)
    for way, fastest, hardest in zip(ways, machine.max_speed, machine.max_acceleration, strict=True):
        with np.errstate(divide="ignore"):
            steep = 1.0 / np.abs(way)
        speed = np.minimum(speed, fastest * steep)
        accel = np.minimum(accel, hardest * steep)
    entry = _entry_speeds([way * speed for way in ways], speed, machine.jerk)
    gain = 2 * accel * length
    first, last = _feasible(entry**2, gain)
    peak = np.sqrt(np.minimum(speed**2, 0.5 * (gain + first + last)))
    ramps = (2 * peak - np.sqrt(first) - np.sqrt(last)) / accel
    cruise = np.maximum(length - (2 * peak**2 - first - last) / (2 * accel), 0.0) / peak
    out[real] = ramps + cruise
    return out


def _entry_speeds(velocities: list[Floats], speed: Floats, jerk: tuple[float, ...]) -> Floats:
    """(n + 1,) highest speed at each junction: no axis may change its speed by more than its jerk at once."""
    entry = np.zeros(len(speed) + 1)
    joint = np.minimum(speed[1:], speed[:-1])
    slow_out, slow_in = joint / speed[:-1], joint / speed[1:]
    share = np.ones(len(joint))
    for velocity, most in zip(velocities, jerk, strict=True):
        out, into = velocity[:-1] * slow_out, velocity[1:] * slow_in
        # an axis that reverses passes through rest: the larger of its two speeds counts, not their sum
        change = np.where(out * into < 0, np.maximum(np.abs(out), np.abs(into)), np.abs(out - into))
        with np.errstate(divide="ignore"):
            share = np.minimum(share, most / change)
    entry[1:-1] = joint * share
    return entry


def _feasible(squared: Floats, gain: Floats) -> tuple[Floats, Floats]:
    """Squared speeds at the begin and end of each move that acceleration allows."""
    s = np.concatenate([[0.0], np.cumsum(gain)])
    back = np.minimum.accumulate((squared + s)[::-1])[::-1] - s
    both = np.maximum(np.minimum.accumulate(back - s) + s, 0.0)
    return both[:-1], both[1:]
