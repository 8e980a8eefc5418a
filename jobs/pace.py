"""How much longer or shorter a printer takes than its G-code says. Pure.

An estimate knows the moves, but neither warming up, homing and levelling nor what the firmware really does. What a
printer took for its last prints tells the rest. The middle of the ratios counts, so that one strange print does not;
and the fewer prints and machines there are, the nearer it stays to what is known without them: from the printer to its
profile, from the profile to the G-code's own word. Ratios are averaged as logarithms: half and double are equally far
off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

#: newest prints of a printer that count
RECENT = 20
#: s; of a shorter print, warming up is most
SHORTEST = 300.0
#: prints that a printer must have done before they count: of fewer, the middle one may be the strange one
LEAST = 3
#: what is known without a printer's own prints weighs as much as so many of them
DOUBT = 4
#: further off is no print of this printer as it is: a pause that nobody saw, a simulator, a clock that stood still
IMPLAUSIBLE = 4.0
#: what an expectation never leaves
LOWEST, HIGHEST = 0.5, 2.0


class Source(StrEnum):
    """Whose prints a pace comes from."""

    PRINTER = "printer"
    PROFILE = "profile"
    GCODE = "gcode"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one printer took, over what was estimated, for so many prints."""

    ratio: float = 1.0
    prints: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """What to multiply an estimate with, and whose prints say so."""

    factor: float = 1.0
    source: Source = Source.GCODE
    prints: int = 0


def measured(prints: Sequence[tuple[float, float]]) -> Evidence:
    """Of (estimated, real) s of undisturbed prints, newest first."""
    ratios = (real / estimated for estimated, real in prints[:RECENT] if estimated >= SHORTEST)
    told = [math.log(ratio) for ratio in ratios if 1 / IMPLAUSIBLE <= ratio <= IMPLAUSIBLE]
    return Evidence(math.exp(median(told)), len(told)) if told else Evidence()


def pace(own: Evidence, others: Sequence[Evidence]) -> Pace:
    """Of a printer; ``others`` are those of the same profile."""
    known = [other for other in others if other.prints >= LEAST]
    of_profile = _of_machines(known)
    if own.prints < LEAST:
        source = Source.PROFILE if known else Source.GCODE
        return Pace(_within(of_profile), source, sum(other.prints for other in known))
    told = (own.prints * math.log(own.ratio) + DOUBT * of_profile) / (own.prints + DOUBT)
    return Pace(_within(told), Source.PRINTER, own.prints)


def _of_machines(known: Sequence[Evidence]) -> float:
    """Logarithm of the usual ratio. Machines differ: one of them says half of what it would of itself."""
    if not known:
        return 0.0
    return median(math.log(one.ratio) for one in known) * len(known) / (len(known) + 1)


def _within(told: float) -> float:
    return min(max(math.exp(told), LOWEST), HIGHEST)
