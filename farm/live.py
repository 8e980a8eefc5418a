"""/ws/live/: what printers do now, to whoever may see it. What is said there: see farm/hub.py.

A browser is known by its session, a program by a ticket (see farm/tickets.py), a screen in the lab by its link (see
printers/screens.py). Rights are looked at again when grants
change and every minute: who may no longer come in is closed with 4401, a program's socket also after an hour (it comes
back with another ticket). Nothing is commanded through this socket.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from channels.auth import get_user
from channels.db import database_sync_to_async
from django.contrib.sessions.backends.db import SessionStore as _SessionStore

from farm import tickets
from farm.errors import NotFound
from farm.hub import hub
from farm.models import User
from farm.viewing import Rights, Viewer
from printers import access, screens

log = structlog.get_logger(__name__)

#: the first of two subprotocols; the second is the program's ticket, or the secret of the screen's link
TICKET, SCREEN = "farm.ticket", "farm.tv"
#: s that a ticket's socket lives
TICKET_LIFE = 3600.0
#: printers that a viewer may ask for at once
MOST_RESYNC = 2000

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def live(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
    """The ASGI application. Not a consumer of Channels: that takes a turn of a thread for each message, and viewers
    answer every frame."""
    await receive()  # websocket.connect
    socket = LiveSocket(scope, send)
    try:
        await socket.open()
        while (message := await receive())["type"] != "websocket.disconnect":
            await socket.hear(_understood(message.get("text")))
    finally:
        hub().leave(socket.viewer)


class LiveSocket:
    """One viewer's socket."""

    def __init__(self, scope: dict[str, Any], send: Send) -> None:
        self._scope, self._send = scope, send
        self._key, self._secret = key_of(scope)
        self._ticket: dict[str, str] | None = None
        self._ends_at = time.monotonic() + TICKET_LIFE
        self.viewer = Viewer(self._tell, self._close, self._rights)

    async def open(self) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": self._key})
        try:
            if self._key == TICKET:
                self._ticket = await database_sync_to_async(tickets.take)(self._secret)
            await hub().join(self.viewer)
        except Exception as error:  # noqa: BLE001 - Redis or the database is away: it comes again in a moment
            log.warning("viewer_not_let_in", error=str(error))
            await self._close(1011)

    async def hear(self, said: dict[str, Any]) -> None:
        if said.get("type") == "ack" and type(said.get("seq")) is int:
            await hub().acked(self.viewer, said["seq"])
        elif said.get("type") == "resync" and isinstance(said.get("printers"), list):
            wanted = [key for key in said["printers"][:MOST_RESYNC] if isinstance(key, str)]
            await hub().resync(self.viewer, dict.fromkeys(wanted))

    async def _tell(self, frame: str) -> None:
        await self._send({"type": "websocket.send", "text": frame})

    async def _close(self, code: int) -> None:
        await self._send({"type": "websocket.close", "code": code})

    # -- who
    async def _rights(self) -> Rights | None:
        if self._key == SCREEN:
            return await _rights_of_screen(self._secret)
        user = await self._who()
        return None if user is None else await _rights_of(user)

    async def _who(self) -> User | None:
        """Whose session or ticket this is, if it is still good."""
        if self._key == TICKET:
            if self._ticket is None or time.monotonic() > self._ends_at:
                return None
            return await database_sync_to_async(tickets.holder)(self._ticket)
        if "session" not in self._scope:
            return None
        user = await get_user({"session": _SessionStore(self._scope["session"].session_key)})
        return user if isinstance(user, User) and user.is_active else None


@database_sync_to_async
def _rights_of(user: User) -> Rights:
    roles = access.roles(user)
    return Rights(user_id=user.pk, staff=user.is_staff, roles={str(pk): role for pk, role in roles.items()})


@database_sync_to_async
def _rights_of_screen(secret: str) -> Rights | None:
    try:
        link = screens.open_link(secret)
    except NotFound:
        return None
    return Rights(user_id=None, staff=False, roles={str(pk): role for pk, role in screens.roles_of(link).items()})


def key_of(scope: dict[str, Any]) -> tuple[str | None, str]:
    """TICKET or SCREEN and what came with it; (None, "") for who offers neither."""
    offered: list[str] = scope["subprotocols"]
    key = next((word for word in offered if word in (TICKET, SCREEN)), None)
    return key, next((word for word in offered if word != key), "") if key else ""


def _understood(text: str | None) -> dict[str, Any]:
    """What a viewer said; {} for everything that may not be said here."""
    try:
        said = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
