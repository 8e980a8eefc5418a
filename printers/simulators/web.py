"""The smallest HTTP/1.1 and WebSocket (RFC 6455) server that can also misbehave on demand.

Ordinary servers hide the two things that the fault tests need: closing a socket without a word, and being stuck while
the kernel still accepts connections. Requests are read whole into memory; that is enough for G-code.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
#: Requests to this path are answered even by a server that hangs: it is the tests' own door.
CONTROL_PATH = "/simulator/"


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes = b""
    chunked: bool = False

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def origin(self) -> str:
        """``scheme://host:port`` as the client called it."""
        return f"http://{self.headers.get('host', 'localhost')}"

    def json(self) -> Any:
        """Raises ValueError for what is not JSON."""
        return json.loads(self.body.decode() or "null")


@dataclass(slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    #: a body that goes on until the client leaves, instead of ``body``
    stream: AsyncIterator[bytes] | None = None

    @classmethod
    def of(cls, data: Any, status: int = 200, **headers: str) -> Response:
        names = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return cls(status, json.dumps(data).encode(), "application/json", names)


class NoAnswer(Exception):
    """Raised by a handler that takes the request and never answers it."""


@dataclass(slots=True)
class Part:
    """One part of a multipart/form-data body; ``filename`` is None for a plain field."""

    name: str
    filename: str | None
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


def multipart(request: Request) -> list[Part]:
    """The parts of a form (RFC 7578). Raises ValueError when the body is not multipart."""
    boundary = _parameter(request.headers.get("content-type", ""), "boundary")
    if request.content_type != "multipart/form-data" or not boundary:
        raise ValueError("not multipart/form-data")
    parts = []
    for piece in (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode())[1:]:
        head, found, data = piece.partition(b"\r\n\r\n")
        if found:
            disposition = _header(head.decode("utf-8", "replace"), "content-disposition")
            parts.append(Part(_parameter(disposition, "name") or "", _filename(disposition), data))
    return parts


def _header(head: str, name: str) -> str:
    lines = (line.partition(":") for line in head.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip().lower() == name), "")


def _parameter(header: str, name: str) -> str | None:
    """One ``name=value`` of a header; a value in quotes may hold anything but a bare quote."""
    for piece in _split_outside_quotes(header)[1:]:
        key, _, value = piece.strip().partition("=")
        if key.lower() == name:
            quoted = value.startswith('"') and value.endswith('"')
            return value[1:-1] if quoted else value
    return None


def _split_outside_quotes(header: str) -> list[str]:
    pieces, quoted = [""], False
    for letter in header:
        quoted ^= letter == '"'
        if letter == ";" and not quoted:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def _filename(disposition: str) -> str | None:
    extended = _parameter(disposition, "filename*")  # RFC 5987, as requests sends for names that are not ASCII
    return unquote(extended.partition("''")[2]) if extended else _parameter(disposition, "filename")


class WebSocket:
    """The server's end of one socket."""

    def __init__(self, server: Server, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.server, self.request = server, request
        self._reader, self._writer = reader, writer
        self._held_back: list[bytes] = []

    def send(self, message: Any) -> None:
        """JSON; kept back while the server hangs and sent when it is itself again."""
        self.send_encoded(json.dumps(message).encode())

    def send_encoded(self, message: bytes) -> None:
        """The same for what is JSON already."""
        self._write(_TEXT, message)

    def ping(self) -> None:
        self._write(_PING, b"")

    def close(self, code: int = 1000) -> None:
        self._write(_CLOSE, struct.pack("!H", code))
        self._writer.close()

    def abort(self) -> None:
        """Gone, without a close frame."""
        self._writer.transport.abort()

    def release(self) -> None:
        held, self._held_back = self._held_back, []
        for frame in held:
            self._writer.write(frame)

    async def receive(self) -> str | None:
        """The next text message; None when the client has gone."""
        message = b""
        while True:
            try:
                final, opcode, payload = await self._read_frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            await self.server.thaw()
            if opcode == _CLOSE:
                self._write(_CLOSE, payload[:2])
                return None
            if opcode == _PING:
                self._write(_PONG, payload)
            elif opcode != _PONG:
                message += payload
                if final:
                    return message.decode("utf-8", "replace")

    async def _read_frame(self) -> tuple[bool, int, bytes]:
        first, second = await self._reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
        mask = await self._reader.readexactly(4) if second & 0x80 else bytes(4)
        payload = await self._reader.readexactly(length)
        unmasked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        return bool(first & 0x80), first & 0x0F, unmasked

    def _write(self, opcode: int, payload: bytes) -> None:
        if self._writer.is_closing():
            return
        if len(payload) < 126:
            head = struct.pack("!BB", 0x80 | opcode, len(payload))
        elif len(payload) < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 126, len(payload))
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 127, len(payload))
        if self.server.hanging:
            self._held_back.append(head + payload)
        else:
            self._writer.write(head + payload)


class Server:
    """Listens on 127.0.0.1. ``answer`` makes a response of a request; ``serve_socket`` talks to one WebSocket at
    ``socket_path`` until the client goes."""

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Response]],
        serve_socket: Callable[[WebSocket], Awaitable[None]],
        socket_path: str,
    ) -> None:
        self.answer, self.serve_socket, self.socket_path = answer, serve_socket, socket_path
        self.port = 0
        #: the answer to a handshake that is not welcome
        self.refuse_socket: Callable[[Request], Response | None] = lambda request: None
        self.sockets: set[WebSocket] = set()
        #: seconds before the body of an upload is read, so that the sender's buffers fill up
        self.upload_delay = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._thawed = asyncio.Event()
        self._thawed.set()

    # -- being there
    async def listen(self, port: int = 0) -> None:
        """Begin, on ``port`` or where it was before, else on any free one."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", port or self.port, limit=1 << 20)
        self.port = self._listener.sockets[0].getsockname()[1]

    def vanish(self) -> None:
        """Stop listening and drop every connection without a word, as a process that is killed."""
        if self._listener is not None:
            self._listener.close()
        self.drop()

    async def close(self) -> None:
        """Vanish and wait until every connection has noticed."""
        self.resume()
        self.vanish()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def drop(self, *, only_sockets: bool = False) -> None:
        for socket in list(self.sockets):
            socket.abort()
        if not only_sockets:
            for writer in list(self._writers):
                writer.transport.abort()

    @property
    def hanging(self) -> bool:
        return not self._thawed.is_set()

    def hang(self, seconds: float) -> None:
        """Accept connections but neither read nor answer; what came in meanwhile is carried out afterwards."""
        self._thawed.clear()
        asyncio.get_running_loop().call_later(seconds, self.resume)

    def resume(self) -> None:
        self._thawed.set()
        for socket in self.sockets:
            socket.release()

    async def thaw(self) -> None:
        await self._thawed.wait()

    # -- one connection
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connections.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while (request := await self._read_request(reader)) is not None:
                    if not await self._respond(request, reader, writer):
                        break
        finally:
            self._connections.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _read_request(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in rest)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        url = urlsplit(target)
        request = Request(method, unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True)), headers)
        if request.content_type == "multipart/form-data" and self.upload_delay:
            await asyncio.sleep(self.upload_delay)
        await self._read_body(request, reader)
        return request

    async def _read_body(self, request: Request, reader: asyncio.StreamReader) -> None:
        if request.headers.get("transfer-encoding", "").lower() == "chunked":
            request.chunked = True
            while size := int((await reader.readline()).split(b";")[0], 16):
                request.body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        elif length := int(request.headers.get("content-length", 0)):
            request.body = await reader.readexactly(length)

    async def _respond(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open for another request."""
        if request.path != CONTROL_PATH:
            await self.thaw()
        if request.headers.get("upgrade", "").lower() == "websocket" and request.path == self.socket_path:
            refused = self.refuse_socket(request)
            if refused is None:
                await self._serve_websocket(request, reader, writer)
            else:
                writer.write(_head(refused) + refused.body)
            return False
        try:
            response = await self.answer(request)
        except NoAnswer:
            await reader.read()  # until the client gives up
            return False
        except Exception:
            logging.getLogger(__name__).exception("%s %s", request.method, request.path)
            response = Response.of({"error": "The simulator failed"}, 500)
        if request.path != CONTROL_PATH:
            await self.thaw()
        writer.write(_head(response) + (b"" if request.method == "HEAD" else response.body))
        await writer.drain()
        if response.stream is not None:
            async for block in response.stream:
                writer.write(block)
                await writer.drain()
            return False
        return request.headers.get("connection", "").lower() != "close"

    async def _serve_websocket(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        key = request.headers.get("sec-websocket-key", "").encode()
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        socket = WebSocket(self, request, reader, writer)
        self.sockets.add(socket)
        try:
            await self.serve_socket(socket)
        finally:
            self.sockets.discard(socket)


def _head(response: Response) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    length = {} if response.stream is not None else {"Content-Length": str(len(response.body))}
    headers = {"Content-Type": response.content_type, **length, **response.headers}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
