"""How long a bridge may believe that its leases are its own, without asking the database."""

from __future__ import annotations

import time
from collections.abc import Callable


def boot_time() -> float:
    """s, by a clock that also counts while the machine sleeps (a frozen or suspended bridge must not start late)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


class Tenure:
    """All leases of one bridge are renewed together, so they end together.

    The end is counted from *before* the database was asked, so it is never later than what the database says. Until
    the first renewal it is over.
    """

    def __init__(self, clock: Callable[[], float] = boot_time) -> None:
        self._clock = clock
        self._ends = float("-inf")

    def now(self) -> float:
        return self._clock()

    def renewed(self, asked_at: float, ttl: float) -> None:
        """The database renewed the leases for ``ttl`` s, and was asked at ``asked_at``, see :meth:`now`."""
        self._ends = asked_at + ttl

    @property
    def over(self) -> bool:
        return self._clock() >= self._ends
