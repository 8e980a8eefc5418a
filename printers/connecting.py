"""Opening a thousand connections: many at a time but not all, and nobody waits for those that hang."""

from __future__ import annotations

import math
import random
import threading
import time

#: connections that are being opened at once: what they bring to the database is written together. More do not come up
#: sooner (it is work for one core), and keep those who renew the leases and tell the states from getting their turn.
PLACES = 64
#: s after which one that is still being opened occupies no place any longer: it waits for its server at no cost
HOLD = 1.0


class Connecting:
    """Places for those who connect. Each is left as soon as it is connected or has failed."""

    def __init__(self, places: int = PLACES, hold: float = HOLD) -> None:
        self._places, self._hold = places, hold
        self._begun: dict[object, float] = {}
        self._changed = threading.Condition()

    def enter(self, stop: threading.Event) -> object:
        """Wait for a place, or until told to stop; what to give to :meth:`leave`."""
        place = object()
        with self._changed:
            while not (self._free() or stop.is_set()):
                # jittered, so that those who wait look one after the other when places are held for long
                self._changed.wait(self._hold * (0.5 + random.random()))  # noqa: S311
            self._begun[place] = time.monotonic()
        return place

    def keep(self, place: object) -> None:
        """Its server has answered: what follows is our own work, of which there must not be too much at once."""
        with self._changed:
            if place in self._begun:
                self._begun[place] = math.inf

    def leave(self, place: object) -> None:
        """Harmless a second time."""
        with self._changed:
            if self._begun.pop(place, None) is not None:
                self._changed.notify()

    def _free(self) -> bool:
        long_ago = time.monotonic() - self._hold
        if len(self._begun) >= self._places:
            self._begun = {place: begun for place, begun in self._begun.items() if begun > long_ago}
        return len(self._begun) < self._places
