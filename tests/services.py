"""Real servers for tests. Each is started by whoever needs it and ends with the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farm.management.redis_server import RedisServer


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of an empty Redis of one's own."""
    with tempfile.TemporaryDirectory(prefix="farm-redis-") as folder:
        server = RedisServer.in_folder(Path(folder))
        process = server.program().spawn()
        try:
            server.wait()
            yield server.url
        finally:
            end(process)


def end(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """Ask it to stop; then kill it and whatever it started."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
