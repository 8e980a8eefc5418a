from __future__ import annotations

import pytest

from tests.cast import Cast
from tests.machines import Machines
from tests.work import Shop, Work


@pytest.fixture
def shop(cast: Cast, machines: Machines, work: Work) -> Shop:
    """Anvil is idle, its bed waits to be cleared, and a bridge listens to it."""
    return Shop(cast, machines, work)
