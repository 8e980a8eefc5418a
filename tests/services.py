"""Real servers for tests. Each is started by whoever needs it and ends with the process that started it."""

from __future__ import annotations

import tempfile
import warnings
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


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL of one's own (the pgserver wheel).

    Its folder lies directly under the system's temporary directory: as root, PostgreSQL runs as a user that pgserver
    makes, and pgserver opens all parent folders for that user.
    """
    with warnings.catch_warnings(action="ignore"):  # it looks for a runtime folder of the user, which a CI has not
        import pgserver

    folder = Path(tempfile.mkdtemp(prefix="farm-postgres-"))
    server = pgserver.get_server(folder, cleanup_mode="delete")
    try:
        server.psql("CREATE DATABASE farm;")
        yield server.get_uri("farm")
    finally:
        server.cleanup()
