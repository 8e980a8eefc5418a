"""A printer that comes and goes every second is shown as away until it stays: no storm, and the truth at last.

Only coming and going is held back, and only after it has happened a few times. What is said of prints never is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from printers.drivers.base import PrinterState, PrinterStatus

#: so many changes within so many s are told at once
FREE_FLIPS, WITHIN = 4, 60.0
#: s for which the next must last before it is told: doubled with every flip from the first to the last
FIRST, LAST = 1.0, 30.0

#: of these nothing is known of prints: the machine is away, or its server does not reach it
_AWAY = frozenset({PrinterStatus.OFFLINE, PrinterStatus.CONNECTING})


def of_prints(state: PrinterState, known: PrinterState | None) -> bool:
    """Whether ``state`` says something of a print that ``known``, the last that the machine itself said, did not."""
    if known is None:
        return state.status not in _AWAY
    return state.ended != known.ended or (state.status not in _AWAY and _print(state) != _print(known))


def _print(state: PrinterState) -> tuple[PrinterStatus | None, str | None]:
    return (state.status if state.working else None, state.job.file if state.job else None)


def hold(state: PrinterState, shown: PrinterState | None, known: PrinterState | None, flips: int) -> float:
    """s that ``state`` must last before it takes the place of ``shown``, after so many changes in the last minute.

    That an idle printer is idle no longer is told at once: nobody should wait for it.
    """
    if shown is None or state.status == shown.status or of_prints(state, known):
        return 0.0
    if flips <= FREE_FLIPS or shown.status is PrinterStatus.IDLE:
        return 0.0
    return min(LAST, FIRST * 2.0 ** min(flips - FREE_FLIPS - 1, 10))


@dataclass(slots=True)
class Steady:
    """One printer's coming and going. ``shown`` is what was told last."""

    shown: PrinterState | None = None
    _known: PrinterState | None = None
    _status: PrinterStatus | None = None
    _since: float = 0.0
    _flips: deque[float] = field(default_factory=deque)

    def shows(self, state: PrinterState, now: float) -> bool:
        """Take the newest state in; whether it is to be told now. One that is held back must be offered again."""
        if state.status is not self._status:
            self._status, self._since = state.status, now
            self._flips.append(now)
        while self._flips and self._flips[0] <= now - WITHIN:
            self._flips.popleft()
        if state == self.shown or now - self._since < hold(state, self.shown, self._known, len(self._flips)):
            return False
        self.shown = state
        if state.status not in _AWAY:
            self._known = state
        return True
