"""Pictures of cameras for browsers and programs: with headers of ours alone, never an address of a printer."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import Counter
from dataclasses import dataclass
from threading import RLock
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import structlog
from channels.db import database_sync_to_async
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_GET

from farm.errors import FarmError, NotFound, TooMany, Unavailable, understood
from farm.models import User
from farm.pages import person
from printers import access, webcam
from printers.drivers.base import Camera, DriverError
from printers.drivers.frames import Picture
from printers.models import Printer, Role

log = structlog.get_logger(__name__)

#: live pictures that one person may have open, in this process
MOST_OPEN = 4
#: s until a viewer has to ask again; bytes until then; s between two looks at its rights; pictures a second
MOST_S, MOST_SENT, RECHECK_S, MOST_PICTURES = 600.0, 2_000_000_000, 5.0, 15
BOUNDARY = "frame"


# -- one picture
def picture_response(user: User, pk: Any) -> HttpResponse:
    """Raises NotFound, Forbidden and Unavailable."""
    printer, camera = _seen(user, pk)
    try:
        shown = webcam.picture_of(camera)
    except DriverError:
        raise _silent(printer) from None
    return _guarded(HttpResponse(shown.data, content_type=shown.media_type), camera)


def _seen(user: User, pk: Any) -> tuple[Printer, Camera]:
    """A printer that this person may see, and its camera."""
    printer = access.get(user, pk, Role.VIEW)
    camera = camera_or_none(printer)
    if camera is None:
        raise NotFound(f"{printer.name} has no camera.", code="no_camera")
    return printer, camera


def camera_or_none(printer: Printer) -> Camera | None:
    """Raises Unavailable when the printer's server has to be asked and does not answer. From here on a camera may be
    waited for, and meanwhile the connection to the database is somebody else's."""
    close_old_connections()
    try:
        return webcam.camera_of(printer)
    except DriverError as fault:
        log.info("camera_not_known", printer=printer.name, error=fault.message)
        raise Unavailable(
            f"{printer.name} does not answer, so nobody knows where its camera is.", code="camera"
        ) from None


def _silent(printer: Printer) -> Unavailable:
    return Unavailable(f"The camera of {printer.name} does not answer.", code="camera")


def _guarded(response: Any, camera: Camera) -> Any:
    """How to turn the picture, and that it is nothing but one."""
    response["X-Camera-Rotation"] = str(camera.rotation)
    response["X-Camera-Flip"] = "h" * camera.flip_h + "v" * camera.flip_v
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


# -- live
@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who looks, and what that rests on: a session, or a token until ``until`` (Unix seconds)."""

    user_id: Any
    session: str | None = None
    until: float | None = None


def live_response(user: User, pk: Any, viewer: Viewer) -> StreamingHttpResponse:
    """multipart/x-mixed-replace. Raises NotFound, Forbidden, Unavailable and TooMany."""
    printer, camera = _seen(user, pk)
    seat = _Seat(user.pk)
    try:
        viewing = _opened(camera)
    except DriverError:
        seat.close()
        raise _silent(printer) from None
    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    response = _guarded(StreamingHttpResponse(_Live(viewing, seat, viewer, printer), content_type=kind), camera)
    response["X-Accel-Buffering"] = "no"  # for proxies: pictures are worth nothing later
    return response


def _opened(camera: Camera) -> webcam.Viewing:
    """A viewing that has begun. Raises DriverError."""
    viewing = webcam.Viewing(camera)
    try:
        viewing.wait_for_first()
    except DriverError:
        viewing.close()
        raise
    return viewing


class _Seat:
    """One of the few live pictures that a person may have open; free again when closed or forgotten."""

    _lock = RLock()  # re-entrant: a seat may be collected as garbage while another is taken
    _taken: Counter[Any] = Counter()

    def __init__(self, user_id: Any) -> None:
        """Raises TooMany."""
        with self._lock:
            if self._taken[user_id] >= MOST_OPEN:
                raise TooMany(f"You have {MOST_OPEN} live cameras open already. Stop one of them first.")
            self._taken[user_id] += 1
        self.close = weakref.finalize(self, self._free, user_id)

    @classmethod
    def _free(cls, user_id: Any) -> None:
        with cls._lock:
            cls._taken[user_id] -= 1
            if not cls._taken[user_id]:
                del cls._taken[user_id]


class _Live:
    """The body: the newest picture whenever the viewer is ready for one. A delimiter follows each picture at once,
    because browsers show a part when they have seen its end."""

    def __init__(self, viewing: webcam.Viewing, seat: _Seat, viewer: Viewer, printer: Printer) -> None:
        self._viewing, self._seat, self._viewer, self._printer = viewing, seat, viewer, printer
        self._sent = 0
        self._shown_at = 0.0
        self._checked_at = time.monotonic()
        self._ends_at = self._checked_at + MOST_S
        if viewer.until is not None:
            self._ends_at = min(self._ends_at, self._checked_at + viewer.until - time.time())

    def __aiter__(self) -> _Live:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(max(0.0, self._shown_at + 1 / MOST_PICTURES - time.monotonic()))
        while self._sent < MOST_SENT and time.monotonic() < self._ends_at and await self._may_look():
            try:
                shown = await self._viewing.next(RECHECK_S)
            except DriverError:
                break
            if shown is not None:
                return self._part(shown)
        self.close()
        raise StopAsyncIteration

    def _part(self, shown: Picture) -> bytes:
        first = f"--{BOUNDARY}\r\n" if not self._sent else ""
        head = f"{first}Content-Type: {shown.media_type}\r\nContent-Length: {len(shown.data)}\r\n\r\n"
        self._sent += len(shown.data)
        self._shown_at = time.monotonic()
        return head.encode() + shown.data + f"\r\n--{BOUNDARY}\r\n".encode()

    async def _may_look(self) -> bool:
        if time.monotonic() - self._checked_at < RECHECK_S:
            return True
        self._checked_at = time.monotonic()
        return await _still_sees(self._viewer, self._printer)

    def close(self) -> None:
        """Also called by Django when the viewer has gone."""
        self._viewing.close()
        self._seat.close()


@database_sync_to_async
def _still_sees(viewer: Viewer, printer: Printer) -> bool:
    """The session holds, the right to see this printer too, and its camera is where it was."""
    if viewer.session is not None:
        asks: Any = SimpleNamespace(session=SessionStore(viewer.session))  # all that get_user() looks at
        user: Any = get_user(asks)
    else:
        user = User.objects.filter(pk=viewer.user_id).first()
    if not isinstance(user, User) or user.pk != viewer.user_id:
        return False
    row = access.visible(user).filter(pk=printer.pk).first()
    return row is not None and _set_up(row) == _set_up(printer)


def _set_up(printer: Printer) -> tuple[Any, ...]:
    addresses = (printer.url, printer.camera_snapshot_url, printer.camera_stream_url)
    return (printer.enabled, printer.kind, printer.camera, *addresses)


# -- pages
@require_GET
def picture(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _answered(lambda: picture_response(person(request), pk))


@require_GET
def live(request: HttpRequest, pk: UUID) -> HttpResponse:
    viewer = Viewer(user_id=person(request).pk, session=request.session.session_key)
    return _answered(lambda: live_response(person(request), pk, viewer))


def _answered(answer: Any) -> HttpResponse:
    """Scripts ask for pictures, so faults are JSON as those of the API."""
    try:
        return answer()
    except Exception as error:
        ours = understood(error)
        if not isinstance(ours, FarmError):
            raise
        body = {"code": ours.code, "message": ours.message, "extra": ours.extra}
        return JsonResponse(body, status=ours.status, headers={"Cache-Control": "no-store"})
