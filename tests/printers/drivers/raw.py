"""Servers that misbehave, byte by byte: what real ones do at the worst moment and simulators never would."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TEXT, PING, PONG = 1, 9, 10


@dataclass
class Raw:
    """One listening socket: ``behave(connection, request head)`` once per connection, each in a thread."""

    port: int
    heads: list[str] = field(default_factory=list)
    #: set when the test is over: a server that "never answers" waits for it
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


Behaviour = Callable[[socket.socket, Raw], None]


@contextmanager
def serving(behave: Behaviour, wrap: Callable[[socket.socket], socket.socket] = lambda link: link) -> Iterator[Raw]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        raw = Raw(listener.getsockname()[1])
        threading.Thread(target=_accept, args=(listener, raw, behave, wrap), daemon=True).start()
        try:
            yield raw
        finally:
            raw.over.set()
            listener.shutdown(socket.SHUT_RDWR)


def _accept(
    listener: socket.socket, raw: Raw, behave: Behaviour, wrap: Callable[[socket.socket], socket.socket]
) -> None:
    while True:
        try:
            link, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(link, raw, behave, wrap), daemon=True).start()


def _serve(link: socket.socket, raw: Raw, behave: Behaviour, wrap: Callable[[socket.socket], socket.socket]) -> None:
    with contextlib.suppress(OSError), link, wrap(link) as wrapped:
        raw.heads.append(_head(wrapped))
        behave(wrapped, raw)


def _head(link: socket.socket) -> str:
    received = b""
    while b"\r\n\r\n" not in received:
        block = link.recv(1)
        if not block:
            break
        received += block
    return received.decode()


def answering(status: str, body: bytes = b"{}", *headers: str) -> Behaviour:
    """One ordinary HTTP answer."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]

    def behave(link: socket.socket, raw: Raw) -> None:
        link.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    return behave


def silent(link: socket.socket, raw: Raw) -> None:
    raw.over.wait()


def swallowing(link: socket.socket, raw: Raw) -> None:
    """Takes whatever comes and never answers."""
    while link.recv(65_536):
        pass


def hanging_up(link: socket.socket, raw: Raw) -> None:
    """The request was read; the connection ends without a word."""


def dripping(link: socket.socket, raw: Raw) -> None:
    """A body that never stops coming, a byte at a time."""
    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while not raw.over.wait(0.05):
        link.sendall(b" ")


def speaking(talk: Behaviour, first: bytes = b"") -> Behaviour:
    """A WebSocket server (RFC 6455): the handshake with ``first`` right behind it, then ``talk``."""

    def behave(link: socket.socket, raw: Raw) -> None:
        key = next(line.split(": ")[1] for line in raw.heads[-1].split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        accept = base64.b64encode(
            hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
        )
        link.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + first
        )
        talk(link, raw)

    return behave


def frame(payload: bytes, opcode: int = TEXT, *, last: bool = True, announced: int | None = None) -> bytes:
    """One frame; ``announced`` is a length that it claims to have."""
    length = len(payload) if announced is None else announced
    first = bytes([(0x80 if last else 0) | opcode])
    return first + (bytes([length]) if length < 126 else b"\x7f" + struct.pack("!Q", length)) + payload


def saying(wire: bytes) -> Behaviour:
    """A WebSocket server that says these bytes, and then nothing more."""
    return speaking(silent, wire)


def answering_pings(link: socket.socket, raw: Raw) -> None:
    """Has nothing to say, but lives."""
    while head := link.recv(2):
        payload = link.recv(4 + (head[1] & 0x7F))[4:]
        if head[0] & 0x0F == PING:
            link.sendall(frame(payload, PONG))


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for a host name and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
