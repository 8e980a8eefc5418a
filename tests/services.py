"""Real servers for tests. Each is started by whoever needs it and ends with the process that started it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farm.management.processes import Running
from farm.management.redis_server import RedisServer


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of an empty Redis of one's own."""
    with tempfile.TemporaryDirectory(prefix="farm-redis-") as folder:
        server = RedisServer.in_folder(Path(folder))
        said: list[str] = []
        running = Running(server.program(), said.append)
        try:
            server.wait()
            yield server.url
        finally:
            running.bury()
