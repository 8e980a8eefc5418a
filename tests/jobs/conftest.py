from __future__ import annotations

import pytest

from printers import telemetry
from tests.cast import Cast
from tests.machines import Machines
from tests.work import Shop, Work


@pytest.fixture(autouse=True)
def _patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """No printer falls silent here because a test is slow: see falls_silent."""
    monkeypatch.setattr(telemetry, "STALE_AFTER", 3600.0)


@pytest.fixture
def shop(cast: Cast, machines: Machines, work: Work) -> Shop:
    """Anvil is idle, its bed waits to be cleared, and a bridge listens to it."""
    return Shop(cast, machines, work)
