"""The newest state of every printer, in Redis: readable at once without asking the printer.

A script compares the lease's fence and the version, so that a bridge that lost its lease cannot overwrite its
successor, and stamps Redis' own time: age is read from that one clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from redis import Redis

from printers.drivers.base import Ended, LiveJob, Outcome, PrinterState, PrinterStatus, Temperature

#: s without a word from a printer until it is shown as stale
STALE_AFTER = 15.0

_PUT = """
local old = redis.call('HMGET', KEYS[1], 'fence', 'version')
local fence, version = tonumber(ARGV[1]), tonumber(ARGV[2])
local newer = old[1] and (tonumber(old[1]) > fence or (tonumber(old[1]) == fence and tonumber(old[2]) >= version))
if newer then return 0 end
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'version', ARGV[2], 'state', ARGV[3], 'at', now)
return 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A state and how old it is, s."""

    state: PrinterState
    age: float

    @property
    def stale(self) -> bool:
        return self.age > STALE_AFTER

    @property
    def idle(self) -> bool:
        """Would accept a start, as far as we know now."""
        return not self.stale and self.state.status == PrinterStatus.IDLE


@lru_cache(maxsize=1)
def client() -> Redis:
    """One pool for this process. Short timeouts: a page must not hang on Redis."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=3)


def _key(printer_id: UUID | str) -> str:
    return f"farm:printer:{printer_id}"


def put(printer_id: UUID | str, fence: int, version: int, state: PrinterState) -> bool:
    """Store it unless a newer one is there; whether it was stored."""
    args: list[Any] = [fence, version, orjson.dumps(to_json(state))]
    return bool(client().eval(_PUT, 1, _key(printer_id), *args))


def forget(printer_id: UUID | str) -> None:
    client().delete(_key(printer_id))


def read(printer_ids: Collection[UUID]) -> dict[UUID, Snapshot]:
    """The newest state of each that has one, in one exchange."""
    ids = list(printer_ids)
    if not ids:
        return {}
    pipe = client().pipeline(transaction=False)
    pipe.time()
    for printer_id in ids:
        pipe.hmget(_key(printer_id), "state", "at")
    (seconds, micros), *rows = pipe.execute()
    now = seconds + micros / 1e6
    return dict(_snapshots(ids, rows, now))


def _snapshots(ids: list[UUID], rows: list[Any], now: float) -> Iterable[tuple[UUID, Snapshot]]:
    for printer_id, (state, at) in zip(ids, rows, strict=True):
        if state is not None:
            yield printer_id, Snapshot(state=from_json(orjson.loads(state)), age=max(0.0, now - float(at)))


def to_json(state: PrinterState) -> dict[str, Any]:
    job, ended = state.job, state.ended
    return {
        "status": state.status.value,
        "message": state.message,
        "temperatures": {k: {"actual": t.actual, "target": t.target} for k, t in state.temperatures.items()},
        "job": job and {"file": job.file, "progress": job.progress, "elapsed_s": job.elapsed_s, "left_s": job.left_s},
        "ended": ended
        and {
            "file": ended.file,
            "outcome": ended.outcome.value,
            "reason": ended.reason,
            "mark": ended.mark,
            "filament_mm": ended.filament_mm,
            "duration_s": ended.duration_s,
        },
    }


def from_json(data: dict[str, Any]) -> PrinterState:
    ended = data["ended"]
    return PrinterState(
        status=PrinterStatus(data["status"]),
        message=data["message"],
        temperatures={k: Temperature(**t) for k, t in data["temperatures"].items()},
        job=LiveJob(**data["job"]) if data["job"] else None,
        ended=Ended(**{**ended, "outcome": Outcome(ended["outcome"])}) if ended else None,
    )
