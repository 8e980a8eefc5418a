"""What the hub keeps of each viewer and of each printer. Data in, data out: no clock, no database, no Redis."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from printers import telemetry
from printers.drivers.base import PrinterState
from printers.views import Facts, base_view

#: unanswered frames until a viewer waits; s until it is closed
MOST_OPEN, CLOSE_AFTER = 3, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a viewer may be told now. ``user_id`` is None for a screen that is nobody's."""

    user_id: UUID | None
    staff: bool
    roles: dict[str, int]  # printer id -> the strongest role, for every printer that may be seen


class Viewer:
    """One open socket, as the hub sees it. ``rights`` asks anew who it is (None: may no longer be here)."""

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[int], Awaitable[None]],
        rights: Callable[[], Awaitable[Rights | None]],
    ) -> None:
        self._send, self.close, self.ask_rights = send, close, rights
        self.rights = Rights(user_id=None, staff=False, roles={})
        self.recheck_at = 0.0
        self.overlays: dict[str, dict[str, Any]] = {}
        self.open: deque[tuple[int, float]] = deque()  # seq, when it was sent
        self.left = False
        self.missed: set[str] = set()
        self.missed_jobs: dict[str, str] = {}

    @property
    def waits(self) -> bool:
        """Is told nothing until it answers."""
        return len(self.open) > MOST_OPEN

    async def send(self, seq: int, frame: str, now: float) -> None:
        self.open.append((seq, now))
        await self._send(frame)

    def acked(self, seq: int) -> None:
        while self.open and self.open[0][0] <= seq:
            self.open.popleft()

    def too_slow(self, now: float) -> bool:
        return bool(self.open) and now - self.open[0][1] > CLOSE_AFTER


@dataclass(slots=True)
class Known:
    """One printer: what is known, and what viewers were told. Every ``now`` is monotonic, s."""

    facts: Facts
    snapshot: telemetry.Snapshot | None = None
    heard_at: float | None = None  # monotonic s
    base: dict[str, Any] = field(default_factory=dict)
    whole: bytes = b""  # the base, encoded
    revision: int = 0

    def take(self, snapshot: telemetry.Snapshot, now: float) -> bool:
        """If it is not older than what is known. Whether more than numbers moved."""
        if (snapshot.fence, snapshot.n) < self.version:
            return False
        before, self.snapshot = self.snapshot, snapshot
        self.heard_at = max(self.heard_at or 0.0, now - snapshot.age)
        return before is None or self.base.get("stale", True) or _differ(before.state, snapshot.state)

    @property
    def version(self) -> tuple[int, int]:
        return (self.snapshot.fence, self.snapshot.n) if self.snapshot else (0, 0)

    def age(self, now: float) -> float | None:
        """s since a sign of life; None when there was none, or none is looked for."""
        unheard = self.heard_at is None or not self.facts.printer.enabled
        return None if unheard else max(0.0, now - (self.heard_at or 0.0))

    def falls_silent(self, now: float) -> bool:
        return not self.base.get("stale", True) and (self.age(now) or 0.0) > telemetry.STALE_AFTER

    def learn(self, fresh: Facts) -> None:
        """What the database says now. Of what the printer said last it may not have heard yet."""
        said, heard = self.facts.printer, self.snapshot.state.status if self.snapshot else None
        if fresh.printer.said != heard == said.said:
            fresh.printer.said, fresh.printer.said_since = said.said, said.said_since
        self.facts = fresh

    def _count_from(self, at: datetime) -> None:
        """What the printer says now is news: so it has been like that since this moment."""
        printer = self.facts.printer
        if self.snapshot is not None and printer.said != self.snapshot.state.status:
            printer.said, printer.said_since = self.snapshot.state.status, at

    def renew(self, now: float, at: datetime) -> dict[str, Any]:
        """Work the base out anew; the merge patch from what was told before, {} if nothing moved. ``at``: the same
        moment as ``now``, by the clock."""
        self._count_from(at)
        age = self.age(now)
        heard = replace(self.snapshot, age=age) if self.snapshot and age is not None else None
        new, told = base_view(self.facts, heard), self.base.get("v", [0, 0, 0])
        patch = merge_patch({key: value for key, value in self.base.items() if key != "v"}, new)
        if not patch and self.base:
            return {}
        self.revision = self.revision + 1 if tuple(told[:2]) == self.version else 0
        patch["v"] = new["v"] = [*self.version, self.revision]
        self.base, self.whole = new, orjson.dumps(new)
        return patch


def merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) that makes ``new`` of ``old``. Pure. None is the same as absent."""
    patch: dict[str, Any] = {key: None for key in old.keys() - new.keys() if old[key] is not None}
    for key, value in new.items():
        was = old.get(key)
        if isinstance(value, dict) and isinstance(was, dict):
            if inner := merge_patch(was, value):
                patch[key] = inner
        elif value != was or (key not in old and value is not None):
            patch[key] = value
    return patch


def _differ(before: PrinterState, after: PrinterState) -> bool:
    """More than numbers moved."""
    old, new = before.job, after.job
    same = before.status == after.status and before.message == after.message
    return not same or (old.file if old else None) != (new.file if new else None)
