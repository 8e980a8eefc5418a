"""The newest state of every printer, in Redis: readable at once without asking the printer.

A script compares the lease's fence and the version ``n``, so that a bridge that lost its lease cannot overwrite its
successor, and stamps Redis' own time: age is read from that one clock. What was stored, and only that, the same script
publishes to those who show printers, on the channel :data:`LIVE`:

- ``{"states": {printer id: {"fence": int, "n": int, "state": to_json() without ended}}}``: new states
- ``{"heard": {printer id: [fence, n, s since its last sign of life]}}``: every few seconds, for every printer. Whoever
  has another version has missed something, and reads it anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from redis import Redis
from redis.commands.core import Script

from printers.drivers.base import Ended, LiveJob, Outcome, PrinterState, PrinterStatus, Temperature

#: the channel of new states
LIVE = "farm:live"
#: s without a word from a printer until it is shown as stale
STALE_AFTER = 15.0
#: printers in one message and in one call of a script: Redis does nothing else meanwhile (500 take it 5 ms)
CHUNK = 500

#: KEYS: printers. ARGV: the channel, then for each printer: id, fence, n, state, ended, age. Which were stored: 1 or 0.
_PUT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local stored, told = {}, {}
for i, key in ipairs(KEYS) do
  local id, fence, n, state, ended, age = unpack(ARGV, i * 6 - 4, i * 6 + 1)
  local old = redis.call('HMGET', key, 'fence', 'n')
  local old_fence, old_n = tonumber(old[1] or -1), tonumber(old[2] or -1)
  stored[i] = 0
  if old_fence < tonumber(fence) or (old_fence == tonumber(fence) and old_n < tonumber(n)) then
    local at = string.format('%.6f', now - tonumber(age))
    redis.call('HSET', key, 'fence', fence, 'n', n, 'state', state, 'ended', ended, 'at', at)
    told[#told + 1] = '"' .. id .. '":{"fence":' .. fence .. ',"n":' .. n .. ',"state":' .. state .. '}'
    stored[i] = 1
  end
end
if #told > 0 then redis.call('PUBLISH', ARGV[1], '{"states":{' .. table.concat(told, ',') .. '}}') end
return stored
"""

#: KEYS: printers. ARGV: the channel, then for each printer: id, fence, n, age. What is stored of each: see Stored.
_REFRESH = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local found, told = {}, {}
for i, key in ipairs(KEYS) do
  local id, fence, n, age = unpack(ARGV, i * 4 - 2, i * 4 + 1)
  local old = redis.call('HMGET', key, 'fence', 'n')
  local old_fence, old_n = tonumber(old[1] or -1), tonumber(old[2] or -1)
  if old_fence == tonumber(fence) and old_n == tonumber(n) then
    redis.call('HSET', key, 'at', string.format('%.6f', now - tonumber(age)))
    told[#told + 1] = '"' .. id .. '":[' .. fence .. ',' .. n .. ',' .. age .. ']'
    found[i] = 0
  elseif old_fence > tonumber(fence) then
    found[i] = 1
  else
    found[i] = 2
  end
end
if #told > 0 then redis.call('PUBLISH', ARGV[1], '{"heard":{' .. table.concat(told, ',') .. '}}') end
return found
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A state and how old it is, s. Of two of one printer that with the greater (fence, n) is newer."""

    state: PrinterState
    age: float
    fence: int = 0
    n: int = 0

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


@dataclass(frozen=True, slots=True)
class Word:
    """What a bridge has to say of a printer: the state, and s since the printer was heard."""

    printer_id: UUID | str
    fence: int
    n: int
    state: bytes  # see live_json
    ended: bytes  # see ended_json
    age: float = 0.0


class Stored(IntEnum):
    """What Redis has of a printer, compared with what it should have."""

    SAME = 0
    NEWER = 1  # of a bridge that got the lease since
    OLDER = 2  # or nothing: Redis has lost something


@lru_cache(maxsize=1)
def _scripts() -> tuple[Script, Script]:
    return client().register_script(_PUT), client().register_script(_REFRESH)


def put(printer_id: UUID | str, fence: int, n: int, state: PrinterState) -> bool:
    """Store and publish it unless a newer one is there; whether it was stored."""
    return put_all([Word(printer_id, fence, n, live_json(state), ended_json(state))])[0]


def put_all(words: Sequence[Word]) -> list[bool]:
    """Store and publish each that is newer than what is there; which were. One exchange for each 500."""
    stored: list[bool] = []
    for start in range(0, len(words), CHUNK):
        some = words[start : start + CHUNK]
        args: list[Any] = [LIVE]
        for word in some:
            args += (str(word.printer_id), word.fence, word.n, word.state, word.ended, round(word.age, 3))
        stored += map(bool, _scripts()[0]([_key(word.printer_id) for word in some], args))
    return stored


def refresh_all(heard: Sequence[tuple[UUID | str, int, int, float]]) -> list[Stored]:
    """Signs of life, (printer, fence, n, s since it was heard): what is stored of each is that old, if it is what
    should be stored. One exchange for each 500."""
    found: list[Stored] = []
    for start in range(0, len(heard), CHUNK):
        some = heard[start : start + CHUNK]
        args: list[Any] = [LIVE]
        for printer_id, fence, n, age in some:
            args += (str(printer_id), fence, n, round(age, 1))
        found += map(Stored, _scripts()[1]([_key(printer_id) for printer_id, *_ in some], args))
    return found


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
        pipe.hmget(_key(printer_id), "state", "ended", "at", "fence", "n")
    (seconds, micros), *rows = pipe.execute()
    now = seconds + micros / 1e6
    return dict(_snapshots(ids, rows, now))


def _snapshots(ids: list[UUID], rows: list[Any], now: float) -> Iterable[tuple[UUID, Snapshot]]:
    for printer_id, (state, ended, at, fence, n) in zip(ids, rows, strict=True):
        if ended is None:
            continue
        whole = orjson.loads(state) | {"ended": orjson.loads(ended)}
        age = max(0.0, now - float(at))
        yield printer_id, Snapshot(state=from_json(whole), age=age, fence=int(fence), n=int(n))


def live_json(state: PrinterState) -> bytes:
    """What people see of a state. Two that look the same to them are the same bytes."""
    return orjson.dumps(_live(state))


def ended_json(state: PrinterState) -> bytes:
    return orjson.dumps(_ended(state.ended))


def to_json(state: PrinterState) -> dict[str, Any]:
    """As fine as people can see: degrees to 0.1, progress to 0.001, times to whole seconds."""
    return _live(state) | {"ended": _ended(state.ended)}


def _live(state: PrinterState) -> dict[str, Any]:
    job = state.job
    return {
        "status": state.status.value,
        "message": state.message,
        "temperatures": {
            heater: {"actual": _rounded(t.actual, 1), "target": round(t.target, 1)}
            for heater, t in state.temperatures.items()
        },
        "job": job
        and {
            "file": job.file,
            "progress": round(job.progress, 3),
            "elapsed_s": _rounded(job.elapsed_s),
            "left_s": _rounded(job.left_s),
            "read": _rounded(job.read, 3),
        },
        "ended": None,
    }


def _ended(ended: Ended | None) -> dict[str, Any] | None:
    if ended is None:
        return None
    return {
        "file": ended.file,
        "outcome": ended.outcome.value,
        "reason": ended.reason,
        "mark": ended.mark,
        "filament_mm": ended.filament_mm,
        "duration_s": ended.duration_s,
    }


def _rounded(value: float | None, digits: int = 0) -> float | None:
    return None if value is None else round(value, digits)


def from_json(data: dict[str, Any]) -> PrinterState:
    ended = data["ended"]
    return PrinterState(
        status=PrinterStatus(data["status"]),
        message=data["message"],
        temperatures={k: Temperature(**t) for k, t in data["temperatures"].items()},
        job=LiveJob(**data["job"]) if data["job"] else None,
        ended=Ended(**{**ended, "outcome": Outcome(ended["outcome"])}) if ended else None,
    )
