"""The viewers of bench/live.py: many real WebSockets at /ws/live/ in one process.

The first line on stdin is ``[farm's url, [cookies of each viewer], number of printers]``. When everybody has seen
every printer, one line on stdout tells how long that took: ``{"whole_after": [s, ...]}``. Then ``begin`` forgets what
was seen (and is answered by ``{}``) and ``end`` writes it down, see Board. The end of input is the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import orjson

#: s until every viewer has seen every printer
PATIENCE = 180.0
#: what simulated printers change between, without "busy" on the way
SETTLED = ("printing", "paused")


class Board:
    """What all viewers of this process saw since it was last wiped."""

    def __init__(self) -> None:
        self._decoded: dict[bytes, dict[str, Any]] = {}
        self.wipe()

    def wipe(self) -> None:
        self.seen: list[tuple[int, str, str, float]] = []  # viewer, printer, status, when
        self.counts: Counter[str] = Counter()

    def decoded(self, frame: bytes) -> dict[str, Any]:
        """Viewers get the same frames: our own cost should not slow the farm that shares the machine with us."""
        if frame not in self._decoded:
            if len(self._decoded) > 8:
                self._decoded.clear()
            self._decoded[frame] = orjson.loads(frame)
        return self._decoded[frame]


class Viewer(asyncio.Protocol):
    """One person's socket: RFC 6455, no extensions. Comes back when it is closed, as the page does."""

    def __init__(self, n: int, url: str, cookie: str, board: Board) -> None:
        self.n, self.url, self.cookie, self.board = n, url, cookie, board
        self.printers: dict[str, tuple[str, Any]] = {}  # id -> status, version
        self.whole_after: float | None = None  # s until everything was there for the first time

    async def connect(self) -> None:
        place = urlsplit(self.url)
        self._begin, self._buffer, self._open, self._parts = time.monotonic(), bytearray(), False, b""
        await asyncio.get_running_loop().create_connection(lambda: self, str(place.hostname), place.port or 80)

    # -- WebSocket
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(
            f"GET /ws/live/ HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\nOrigin: {self.url}\r\n"
            f"Cookie: {self.cookie}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def connection_lost(self, error: Exception | None) -> None:
        self.board.counts["closed"] += 1
        self._returning = asyncio.ensure_future(self._come_back())

    async def _come_back(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            with contextlib.suppress(OSError):
                return await self.connect()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        now = time.monotonic()
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self._open, self._buffer = True, rest
            if b" 101 " not in head.split(b"\r\n")[0]:
                raise ConnectionError(f"The farm refused a viewer: {head.decode('latin-1')}")
        while (frame := self._next_frame()) is not None:
            self._heard(*frame, now)

    def _next_frame(self) -> tuple[bool, int, bytes] | None:
        """(last part of a message, opcode, payload), if one is here in full."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size > 125:
            wide = 2 if size == 126 else 8
            at += wide
            if len(buffer) < at:
                return None
            size = int.from_bytes(buffer[2:at], "big")
        if len(buffer) < at + size:
            return None
        first, payload = buffer[0], bytes(buffer[at : at + size])
        del buffer[: at + size]
        return bool(first & 0x80), first & 0x0F, payload

    def _heard(self, last: bool, opcode: int, payload: bytes, now: float) -> None:
        if opcode == 9:
            self._send(10, payload)
        elif opcode in (0, 1):
            self._parts += payload
            if last:
                message, self._parts = self._parts, b""
                self._take(message, now)

    def _send(self, opcode: int, payload: bytes) -> None:
        """Masked with zeros, which changes nothing (RFC 6455, 5.3). The farm gets nothing longer than 64 kB."""
        size = len(payload)
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
        self._transport.write(head + bytes(4) + payload)

    # -- the farm's frames (see farm/hub.py)
    def _take(self, message: bytes, now: float) -> None:
        self.board.counts["frames"] += 1
        self.board.counts["bytes"] += len(message)
        frame = self.board.decoded(message)
        if "seq" in frame:
            self._send(1, b'{"type":"ack","seq":%d}' % frame["seq"])
        kind = frame["type"]
        if kind == "snapshot":
            self._snapshot(frame, now)
        elif kind == "changes":
            for key, patch in frame["printers"].items():
                if key in self.printers:
                    self._show(key, patch, now)
            for key in frame.get("gone", ()):
                self.printers.pop(key, None)
        elif kind == "versions":
            self._compare(frame["printers"])

    def _snapshot(self, frame: dict[str, Any], now: float) -> None:
        if self.whole_after is None:
            self.whole_after = now - self._begin
        else:
            self.board.counts["snapshots"] += 1
        for key, base in frame["printers"].items():
            self._show(key, base, now)

    def _show(self, key: str, patch: dict[str, Any], now: float) -> None:
        status, v = self.printers.get(key, ("", None))
        if patch.get("status", status) != status:
            status = patch["status"]
            if status in SETTLED:
                self.board.seen.append((self.n, key, status, now))
        self.printers[key] = (status, patch.get("v", v))

    def _compare(self, versions: dict[str, Any]) -> None:
        """What we should have: where it differs a frame was lost, and we ask for it."""
        lost = [key for key, v in versions.items() if self.printers.get(key, ("", None))[1] != v[:3]]
        if lost:
            self.board.counts["lost"] += len(lost)
            self.board.counts["resyncs"] += 1
            self._send(1, orjson.dumps({"type": "resync", "printers": lost[:1000]}))


async def view(url: str, cookies: list[str], printers: int) -> None:
    """Everybody comes and stays."""
    board = Board()
    viewers = [Viewer(n, url, cookie, board) for n, cookie in enumerate(cookies)]
    for viewer in viewers:
        await viewer.connect()
        await asyncio.sleep(0.02)  # people do not come all at once
    async with asyncio.timeout(PATIENCE):
        while any(len(viewer.printers) < printers for viewer in viewers):
            await asyncio.sleep(0.05)
    say({"whole_after": [viewer.whole_after for viewer in viewers]})
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := (await orders.readline()).strip():
        if order == b"begin":
            board.wipe()
            say({})  # not before: what is seen from now on counts
        else:
            now = [{key: status for key, (status, _) in viewer.printers.items()} for viewer in viewers]
            say({"seen": board.seen, "counts": board.counts, "now": now})


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(view(*json.loads(sys.stdin.readline())))
