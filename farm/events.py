"""What the farm tells its web processes, and how: frozen events, published on Redis after commit.

An event says what to look at; rights are checked by whoever shows it (see farm/hub.py). What printers say takes a
way of its own (see printers/telemetry.py): it is not an event of the database.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar

import orjson
import structlog
from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

#: the Redis channel
EVENTS = "farm:events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    type: ClassVar[str]

    def message(self) -> dict[str, Any]:
        return {"type": self.type, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterTouched(Event):
    """What the database says of a printer changed (bed, live print, settings): read it again."""

    type = "printer"
    printer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTouched(Event):
    """A job or one of its prints changed."""

    type = "job"
    job_id: str
    owner_id: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTouched(Event):
    """Grants, groups or printers came or went: ask again who may see what."""

    type = "access"


def publish(event: Event) -> None:
    """Send once the current transaction is committed. A broken Redis never breaks the caller."""
    transaction.on_commit(partial(_send, event))


def _send(event: Event) -> None:
    try:
        _client().publish(EVENTS, orjson.dumps(event.message()))
    except RedisError as error:  # web processes read everything anew when Redis is back
        log.warning("event_not_sent", event_type=event.type, error=str(error))


@lru_cache(maxsize=1)
def _client() -> Redis:
    """Short timeouts: whoever changed something must not hang on Redis."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1)
