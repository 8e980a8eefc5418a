"""The world that tests run in: a temporary data folder and a real Redis, one of each per test process.

A pytest plugin (``-p tests.environment`` in pyproject.toml) and no conftest, because pytest-django reads the settings
before any conftest is loaded.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile

_world = contextlib.ExitStack()


def _prepare() -> None:
    # whatever the developer's shell or, under xdist, the process that started us says is not ours
    for name in [name for name in os.environ if name.startswith("FARM_")] + ["DATABASE_URL", "REDIS_URL"]:
        os.environ.pop(name, None)
    folder = _world.enter_context(tempfile.TemporaryDirectory(prefix="farm-test-", ignore_cleanup_errors=True))
    os.mkdir(os.path.join(folder, "static"))  # whitenoise warns of a folder that is not there
    os.environ.update(FARM_DATA_DIR=folder, FARM_STATIC_PLAIN="true")
    from tests.services import redis_server

    os.environ["REDIS_URL"] = _world.enter_context(redis_server())


_prepare()
atexit.register(_world.close)


def pytest_unconfigure() -> None:
    """Earlier than atexit, which a test process that is told to hurry may never reach."""
    _world.close()
