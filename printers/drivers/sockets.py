"""A printer's live connection: a WebSocket that speaks JSON, never blocks for long and never believes in silence."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event
from types import TracebackType
from typing import Any, Self

import orjson
import websocket
from websocket._abnf import frame_buffer

from printers.drivers.base import Garbled, Unreachable

#: The biggest message is OctoPrint's history of 30 minutes, below 100 kB.
MAX_MESSAGE = 4 * 2**20
#: A socket that says nothing for this long is dead.
SILENCE_S = 15.0
#: After this much silence we ask with a ping (OctoPrint is silent while its printer is not connected).
PING_S = 4.0
#: How long one look for a message takes, and how long for those who wait for nothing in particular: they notice that
#: they were told to stop so much later, and a thousand of them wake up for their messages only.
SLICE_S, CALM_SLICE_S = 0.5, 2.0
#: What is read at once; a message of OctoPrint (1.1 kB) is.
READ_BYTES = 16_384

#: What :meth:`Socket.receive` gives for a control frame: the other side lives and has nothing to say.
ALIVE: dict[str, Any] = {}


class Socket:
    """A WebSocket that speaks JSON objects, never blocks for long and never believes in silence."""

    def __init__(self, link: Link, place: str) -> None:
        self._link = link
        self._place = place
        self._heard = self._pinged = time.monotonic()
        link.frame_buffer = _BoundedFrames(self._receive_bytes, skip_utf8_validation=True)
        self._wait_for(SLICE_S)

    def _wait_for(self, seconds: float) -> None:
        self._link.settimeout(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        # shutdown() drops the connection; close() would wait for the other side to say goodbye
        with contextlib.suppress(websocket.WebSocketException, OSError):
            self._link.shutdown()

    def send(self, message: Mapping[str, object]) -> None:
        try:
            self._link.send(orjson.dumps(message).decode())
        except (websocket.WebSocketException, OSError):
            raise Unreachable(f"The connection to {self._place} broke.") from None

    def messages(self, stop: Event, *, calm: bool = False) -> Iterator[dict[str, Any] | None]:
        """Every message, ALIVE, and None about twice a second (``calm``: every two seconds) while there is none. Ends
        when ``stop`` is set. Raises Unreachable when the connection breaks or says nothing for 15 s."""
        self._wait_for(CALM_SLICE_S if calm else SLICE_S)
        while not stop.is_set():
            yield self.receive()

    def receive(self) -> dict[str, Any] | None:
        """The next message, ALIVE, or None when a slice of time passed without one. Raises Unreachable, Garbled."""
        self._ask_if_silent()
        try:
            opcode, frame = self._link.recv_data_frame(control_frame=True)
        except websocket.WebSocketTimeoutException:
            return None
        except _TooBig:
            raise Garbled(f"{self._place} sent a message that is too big.") from None
        except (websocket.WebSocketException, OSError):
            raise Unreachable(f"The connection to {self._place} broke.") from None
        self._heard = time.monotonic()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise Unreachable(f"{self._place} closed the connection.")
        if opcode not in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
            return ALIVE
        return self._decoded(frame.data)

    def _ask_if_silent(self) -> None:
        now = time.monotonic()
        if now - self._heard > SILENCE_S:
            raise Unreachable(f"{self._place} says nothing.")
        if now - max(self._heard, self._pinged) > PING_S:
            self._pinged = now
            try:
                self._link.ping()
            except (websocket.WebSocketException, OSError):
                raise Unreachable(f"The connection to {self._place} broke.") from None

    def _decoded(self, data: bytes) -> dict[str, Any]:
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise Garbled(f"{self._place} sent a message that is not JSON.") from None
        if not isinstance(message, dict):
            raise Garbled(f"{self._place} sent a message that is not an object.")
        return message

    def _receive_bytes(self, size: int) -> bytes:
        """Bytes that drip in one by one are silence too: the deadline counts from the last whole frame."""
        if time.monotonic() - self._heard > SILENCE_S:
            raise websocket.WebSocketTimeoutException("silence")
        return self._link._recv(size)


class Link(websocket.WebSocket):
    """Asks the system no more than it must: for a thousand sockets, this is most of what a message costs."""

    def settimeout(self, timeout: float | None) -> None:
        """Where the kernel gives up waiting by itself, a message takes one call of it instead of two."""
        if self.sock is None or isinstance(self.sock, ssl.SSLSocket) or timeout is None:
            super().settimeout(timeout)
            return
        timeval = struct.pack("ll", int(timeout), round(timeout % 1 * 1e6))
        for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.sock.setsockopt(socket.SOL_SOCKET, limit, timeval)
        super().settimeout(None)

    def _recv(self, bufsize: int) -> bytes:
        received: bytes = self._promptly(lambda sock: sock.recv(bufsize))
        if not received:
            raise websocket.WebSocketConnectionClosedException("the other side is gone")
        return received

    def _send(self, data: Any) -> int:
        sent: int = self._promptly(lambda sock: sock.send(data))
        return sent

    def _promptly(self, call: Callable[[socket.socket], Any]) -> Any:
        if self.sock is None:
            raise websocket.WebSocketConnectionClosedException("closed")
        try:
            return call(self.sock)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise websocket.WebSocketTimeoutException("not yet") from None


class _TooBig(Exception):
    """A message above MAX_MESSAGE is announced."""


class _BoundedFrames(frame_buffer):
    """websocket-client has no limit of its own: refuse by the announced length, before any payload is read. And it
    asks the system three times for each frame, which is most of what a short one costs: read what is there instead."""

    _message = 0

    def __init__(self, receive: Callable[[int], bytes], skip_utf8_validation: bool) -> None:
        super().__init__(receive, skip_utf8_validation)
        self._read = bytearray()

    def recv_strict(self, bufsize: int) -> bytes:
        read = self._read
        while len(read) < bufsize:
            read += self.recv(READ_BYTES)
        taken = bytes(read[:bufsize])
        del read[:bufsize]
        return taken

    def recv_length(self) -> None:
        super().recv_length()
        opcode, length = (self.header or (0,) * 5)[4], self.length or 0
        if opcode == websocket.ABNF.OPCODE_CONT:
            self._message += length
        elif opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
            self._message = length
        if max(length, self._message) > MAX_MESSAGE:
            raise _TooBig
