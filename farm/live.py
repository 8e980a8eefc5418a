"""/ws/live/: what printers do now, to whoever may see it. What is said there: see farm/hub.py.

A browser is known by its session, a program by a ticket (see farm/tickets.py). Rights are looked at again when grants
change and every minute: who may no longer come in is closed with 4401, a program's socket also after an hour (it comes
back with another ticket). Nothing is commanded through this socket.
"""

from __future__ import annotations

import json
import time
from typing import Any

import structlog
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.sessions.backends.db import SessionStore as _SessionStore

from farm import tickets
from farm.hub import UNAUTHORISED, Rights, Viewer, hub
from farm.models import User
from printers import access

log = structlog.get_logger(__name__)

#: the first of a program's two subprotocols; the second is its ticket
TICKET = "farm.ticket"
#: s that a ticket's socket lives
TICKET_LIFE = 3600.0
#: printers that a viewer may ask for at once
MOST_RESYNC = 2000


class LiveConsumer(AsyncWebsocketConsumer):
    """One viewer's socket."""

    viewer: Viewer | None = None
    ticket: dict[str, str] | None = None

    async def connect(self) -> None:
        self.ends_at = time.monotonic() + TICKET_LIFE
        by_ticket = TICKET in self.scope["subprotocols"]
        await self.accept(TICKET if by_ticket else None)
        try:
            if by_ticket:
                self.ticket = await database_sync_to_async(tickets.take)(_second(self.scope["subprotocols"]))
                if self.ticket is None:
                    await self.close(code=UNAUTHORISED)
                    return
            self.viewer = Viewer(self._tell, self._end, self._rights)
            await hub().join(self.viewer)
        except Exception as error:  # noqa: BLE001 - Redis or the database is away: it comes again in a moment
            log.warning("viewer_not_let_in", error=str(error))
            await self.close(code=1011)

    async def disconnect(self, code: int) -> None:
        if self.viewer is not None:
            hub().leave(self.viewer)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        said = _understood(text_data)
        if self.viewer is None or self.viewer.left:
            return
        if said.get("type") == "ack" and type(said.get("seq")) is int:
            await hub().acked(self.viewer, said["seq"])
        elif said.get("type") == "resync" and isinstance(said.get("printers"), list):
            wanted = [key for key in said["printers"][:MOST_RESYNC] if isinstance(key, str)]
            await hub().resync(self.viewer, dict.fromkeys(wanted))

    async def _tell(self, frame: str) -> None:
        await self.send(text_data=frame)

    async def _end(self, code: int) -> None:
        await self.close(code=code)

    # -- who
    async def _rights(self) -> Rights | None:
        user = await self._who()
        return None if user is None else await _rights_of(user)

    async def _who(self) -> User | None:
        """Whose session or ticket this is, if it is still good."""
        if self.ticket is not None:
            if time.monotonic() > self.ends_at:
                return None
            return await database_sync_to_async(tickets.holder)(self.ticket)
        if "session" not in self.scope:
            return None
        user = await get_user({"session": _SessionStore(self.scope["session"].session_key)})
        return user if isinstance(user, User) and user.is_active else None


@database_sync_to_async
def _rights_of(user: User) -> Rights:
    printers = list(access.visible(user).only("pk"))
    roles = access.roles(user, printers)
    return Rights(user_id=user.pk, staff=user.is_staff, roles={str(row.pk): roles.get(row.pk, 0) for row in printers})


def _second(subprotocols: list[str]) -> str:
    """The ticket: whichever is not the word before it."""
    return next((word for word in subprotocols if word != TICKET), "")


def _understood(text: str | None) -> dict[str, Any]:
    """What a viewer said; {} for everything that may not be said here."""
    try:
        said = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
