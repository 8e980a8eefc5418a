from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services import postgres_server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An empty database on a real PostgreSQL; for tests that need row locks and several connections."""
    with postgres_server() as url:
        yield url
