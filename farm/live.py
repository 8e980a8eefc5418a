"""/ws/live/: what printers do now, to whoever may see it.

Server: ``{"type": "snapshot", "seq", "printers": {id: state}}``, then ``{"type": "changes", "seq", "printers": {id:
changed fields}, "gone": [ids]}`` and ``{"type": "job", "id", "status"}`` (of own jobs, for staff of all). The viewer
answers each of the first two with ``{"ack": seq}``: Daphne has no back-pressure, so a viewer that does not read gets
nothing more until it does (then only the newest), and is closed after a minute. Nothing is commanded through this
socket.

Who comes with a session is closed within a minute after logging out; who comes with an access token, after its end.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.sessions.backends.db import SessionStore as _SessionStore
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import AuthenticationFailed, InvalidToken

from farm.events import EVERYONE_GROUP, STAFF_GROUP, printer_group, user_group
from farm.models import User
from printers import access, telemetry
from printers.models import Printer
from printers.signals import Occupant, occupants
from printers.views import state_views, telemetry_view

#: s between two messages to one viewer
EVERY = 0.2
#: unanswered messages until a viewer waits; s until it is closed
WINDOW, CLOSE_AFTER = 4, 60.0
#: s between two looks at rights and ages
RECHECK = 60.0
#: close codes, as in HTTP
UNAUTHORISED, TOO_SLOW = 4401, 4408


class _Seen:
    """What one viewer was told of one printer, and what is needed to tell the next change."""

    def __init__(self, printer: Printer, fields: dict[str, Any], role: int, occupant: Occupant | None) -> None:
        self.printer, self.fields, self.role, self.occupant = printer, fields, role, occupant
        self.snapshot: telemetry.Snapshot | None = None
        age = fields.get("age")
        self.heard_at = time.monotonic() - age if age is not None else None
        self.told: dict[str, Any] = {}


class LiveConsumer(AsyncWebsocketConsumer):
    """One viewer."""

    async def connect(self) -> None:
        self.user: User | None = None
        self.seq = self.acked = 0
        self.unread_since: float | None = None
        self.seen: dict[str, _Seen] = {}
        self.dirty: set[str] = set()
        self.gone: set[str] = set()
        self.touched: set[str] = set()
        self.jobs: dict[str, str] = {}
        self.listening: set[str] = set()
        self.recheck_at = 0.0
        await self.accept()
        if not await self._look_again():
            return
        await self._send_state("snapshot", {key: seen.fields for key, seen in self.seen.items()}, [])
        self.flusher = asyncio.create_task(self._flush_for_ever())

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "flusher"):
            self.flusher.cancel()
        await self._listen_to(set())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            message = json.loads(text_data or "")
            acked = message["ack"]
        except (ValueError, KeyError, TypeError):
            return  # nothing else may be said here
        if isinstance(acked, int) and self.acked < acked <= self.seq:
            self.acked, self.unread_since = acked, None

    # -- who
    async def _who(self) -> User | None:
        """Whose session or access token (programs send no cookie) this is, if it is still good."""
        if "session" in self.scope:
            user = await get_user({"session": _SessionStore(self.scope["session"].session_key)})
            return user if isinstance(user, User) and user.is_active else None
        headers = dict(self.scope.get("headers", []))
        bearer = headers.get(b"authorization", b"").decode("latin-1")
        return await self._bearer(bearer) if bearer.startswith("Bearer ") else None

    @database_sync_to_async
    def _bearer(self, header: str) -> User | None:
        authentication = JWTAuthentication()
        try:
            user = authentication.get_user(authentication.get_validated_token(header[7:].encode()))
        except (InvalidToken, AuthenticationFailed):
            return None
        return user if isinstance(user, User) else None

    async def _listen_to(self, groups: set[str]) -> None:
        """Be in these groups and no other."""
        for group in groups - self.listening:
            await self.channel_layer.group_add(group, self.channel_name)
        for group in self.listening - groups:
            await self.channel_layer.group_discard(group, self.channel_name)
        self.listening = groups

    # -- events (see farm.events)
    async def printer_spoke(self, event: dict[str, Any]) -> None:
        seen = self.seen.get(event["printer_id"])
        if seen is None:
            return
        state = telemetry.from_json(event["state"])
        seen.snapshot, seen.heard_at = telemetry.Snapshot(state=state, age=0.0), time.monotonic()
        self.dirty.add(event["printer_id"])

    async def printer_touched(self, event: dict[str, Any]) -> None:
        if event["printer_id"] in self.seen:
            self.touched.add(event["printer_id"])

    async def access_touched(self, event: dict[str, Any]) -> None:
        self.recheck_at = 0.0

    async def job_touched(self, event: dict[str, Any]) -> None:
        self.jobs[event["job_id"]] = event["status"]

    # -- what to tell
    @database_sync_to_async
    def _visible(self, user: User) -> list[str]:
        return [str(pk) for pk in access.visible(user).values_list("pk", flat=True)]

    @database_sync_to_async
    def _read(self, user: User, keys: list[str]) -> dict[str, _Seen]:
        """What the database and Redis say of these printers, if this person may see them."""
        rows = access.visible(user).select_related("profile")
        printers = list(rows.filter(pk__in=[UUID(key) for key in keys]))
        views, live = state_views(user, printers), occupants([printer.pk for printer in printers])
        roles = access.roles(user, printers)
        return {
            str(printer.pk): _Seen(printer, views[printer.pk], roles.get(printer.pk, 0), live.get(printer.pk))
            for printer in printers
        }

    async def _look_again(self) -> bool:
        """Ask anew who this is and what they may see. False, and closed, when they may no longer be here."""
        self.recheck_at = time.monotonic() + RECHECK
        self.user = user = await self._who()
        if user is None:
            await self.close(code=UNAUTHORISED)
            return False
        keys = await self._visible(user)
        own = {user_group(user.pk), EVERYONE_GROUP, *([STAFF_GROUP] if user.is_staff else [])}
        await self._listen_to({*own, *map(printer_group, keys)})  # before reading: what happens between is told twice
        now = await self._read(user, keys)
        self.gone |= self.seen.keys() - now.keys()
        self.seen = {key: seen for key, seen in self.seen.items() if key in now}
        self._take(now)
        return True

    def _take(self, now: dict[str, _Seen]) -> None:
        """Newly read rows replace what we knew, but not what the viewer was told."""
        for key, fresh in now.items():
            old = self.seen.get(key)
            if old is not None:
                fresh.told = old.told
                fresh.snapshot, fresh.heard_at = old.snapshot, old.heard_at or fresh.heard_at
            self.seen[key] = fresh
            self.dirty.add(key)

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self._guarded(self._flush())

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - e.g. Redis went away: the viewer connects anew and gets a snapshot
            await self.close(code=1011)

    async def _flush(self) -> None:
        if self._not_reading():
            if self.unread_since is not None and time.monotonic() - self.unread_since > CLOSE_AFTER:
                await self.close(code=TOO_SLOW)
            return
        if time.monotonic() >= self.recheck_at:
            await self._look_again()
        user = self.user
        if user is None:
            return
        if self.touched:
            touched, self.touched = self.touched, set()
            self._take(await self._read(user, list(touched)))
        changes = {key: change for key in self._due() if (change := self._change(self.seen[key], user))}
        gone, self.gone, self.dirty = sorted(self.gone), set(), set()
        if changes or gone:
            await self._send_state("changes", changes, gone)
        await self._send_jobs()

    async def _send_jobs(self) -> None:
        jobs, self.jobs = self.jobs, {}
        for key, status in jobs.items():
            await self.send(text_data=json.dumps({"type": "job", "id": key, "status": status}))

    def _not_reading(self) -> bool:
        waiting = self.seq - self.acked >= WINDOW
        if waiting and self.unread_since is None:
            self.unread_since = time.monotonic()
        return waiting

    def _due(self) -> set[str]:
        """What changed, and what has become stale by saying nothing."""
        silent = {
            key
            for key, seen in self.seen.items()
            if seen.heard_at is not None
            and not seen.told.get("stale", True)
            and time.monotonic() - seen.heard_at > telemetry.STALE_AFTER
        }
        return (self.dirty | silent) & self.seen.keys()

    @staticmethod
    def _change(seen: _Seen, user: User) -> dict[str, Any]:
        """The fields that differ from what the viewer was told."""
        fields, age = dict(seen.fields), time.monotonic() - (seen.heard_at or 0.0)
        if seen.snapshot is not None:
            snapshot = telemetry.Snapshot(state=seen.snapshot.state, age=age)
            fields |= telemetry_view(seen.printer, snapshot, seen.occupant, user, seen.role)
        elif seen.heard_at is not None:
            fields |= {"age": round(age, 1), "stale": age > telemetry.STALE_AFTER}
        change = {key: value for key, value in fields.items() if seen.told.get(key, _NOTHING) != value}
        seen.told = fields
        return {} if change.keys() <= {"age"} and not _wants_age(change) else change

    async def _send_state(self, kind: str, printers: dict[str, dict[str, Any]], gone: list[str]) -> None:
        if kind == "snapshot":
            for key, fields in printers.items():
                self.seen[key].told = dict(fields)
        self.seq += 1
        await self.send(
            text_data=json.dumps(
                {"type": kind, "seq": self.seq, "printers": printers, **({"gone": gone} if gone else {})}
            )
        )


def _wants_age(change: dict[str, Any]) -> bool:
    """A sign of life is worth a message (the browser counts the age up by itself)."""
    age = change.get("age")
    return age is not None and age < EVERY * 2


_NOTHING = object()
