"""Send a stream only as fast as it is read. Daphne takes everything that an application sends and keeps what the other
end does not read, so a slow viewer of a live picture, or of a large download, would fill the memory.

Underneath Daphne, Twisted says when its buffer is full and when it is empty again. Here that reaches
the application: ``send`` of a stream returns when there is room for more.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from twisted.web.http import Request

#: s after which a reader that takes nothing has gone
STUCK_S = 60.0


class _Room:
    """Whether the connection's buffer has room: what Twisted calls a push producer."""

    def __init__(self) -> None:
        self._room = asyncio.Event()
        self._room.set()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._room.clear()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._room.set()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._room.set()

    async def wait(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(STUCK_S):  # (wait_for may lose a cancellation)
            await self._room.wait()


def with_backpressure(app: Any) -> Any:
    """The same ASGI application; under another server than Daphne nothing changes."""

    async def sparing(scope: dict[str, Any], receive: Any, send: Any) -> None:
        connection = _connection(send)
        if connection is None:
            await app(scope, receive, send)
            return
        stream = _Stream(connection, send)
        try:
            await app(scope, receive, stream.send)
        finally:
            stream.end()

    return sparing


def _connection(send: Any) -> Request | None:
    """Daphne's side of the request: its ``send`` is a partial of a method that begins with it."""
    found = send.args[0] if isinstance(send, functools.partial) and send.args else None
    return found if isinstance(found, Request) else None


class _Stream:
    """``send`` for one request. Only a body in several parts is held back."""

    def __init__(self, connection: Request, send: Any) -> None:
        self._connection, self._send = connection, send
        self._room: _Room | None = None

    async def send(self, message: dict[str, Any]) -> None:
        more = message["type"] == "http.response.body" and message.get("more_body", False)
        if not more:
            self.end()
        elif self._room is None:
            self._begin()
        await self._send(message)
        if self._room is not None:
            await self._drained(self._room)

    def _begin(self) -> None:
        if self._channel() is not None:
            self._room = _Room()
            self._connection.registerProducer(self._room, True)

    def _channel(self) -> Any:
        """None when the other end has gone."""
        return getattr(self._connection, "channel", None)

    async def _drained(self, room: _Room) -> None:
        try:
            await room.wait()
        except TimeoutError:
            self.end()
            if (channel := self._channel()) is not None:
                channel.forceAbortClient()  # the application hears of it as of any other that goes

    def end(self) -> None:
        """Twisted wants no producer registered when the request ends."""
        if self._room is not None:
            self._room = None
            if self._channel() is not None:
                self._connection.unregisterProducer()
