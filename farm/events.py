"""What the farm tells browsers, and how: frozen events, published to Channels groups after commit.

An event says what to look at; rights are checked by whoever shows it (see farm/live.py).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import structlog
from channels.layers import get_channel_layer
from django.db import transaction

log = structlog.get_logger(__name__)


def printer_group(printer_id: UUID | str) -> str:
    return f"printer.{printer_id}"


def user_group(user_id: UUID | str) -> str:
    return f"user.{user_id}"


#: everyone who may see every job
STAFF_GROUP = "staff"
#: everyone: what people may see may have changed
EVERYONE_GROUP = "everyone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events. ``type`` is the name of the consumer's method."""

    type: ClassVar[str]

    def message(self) -> dict[str, Any]:
        return {"type": self.type, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterSpoke(Event):
    """A printer's newest state, or a sign of life: ``state`` as in printers.services.state_to_json."""

    type = "printer.spoke"
    printer_id: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterTouched(Event):
    """What the database says of a printer changed (bed, live print, settings): read it again."""

    type = "printer.touched"
    printer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTouched(Event):
    """A job or one of its prints changed."""

    type = "job.touched"
    job_id: str
    owner_id: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTouched(Event):
    """Grants, groups or printers came or went: ask again what you may see."""

    type = "access.touched"


def publish(event: Event, *groups: str) -> None:
    """Send to ``groups`` once the current transaction is committed. A broken Redis never breaks the caller."""
    transaction.on_commit(lambda: publish_now(event, *groups))


def publish_now(event: Event, *groups: str) -> None:
    """Send without waiting. For those who hold no transaction (the bridge)."""
    message = event.message()
    for group in groups:
        _loop.run(partial(_send, group, message))


async def _send(group: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        await layer.group_send(group, message)
    except Exception as error:  # noqa: BLE001 - any fault of Redis: viewers resynchronise by snapshot
        log.warning("event_not_sent", group=group, event_type=message["type"], error=str(error))


class _Loop:
    """One long-lived event loop in a daemon thread: async_to_sync per message costs eight times the CPU and a
    new Redis connection each time. Started on first use, again in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(make(), self._started())

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="events", daemon=True)
                self._thread.start()
            return self._loop


_loop = _Loop()
