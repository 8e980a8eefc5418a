"""How long a bridge believes in its leases."""

from __future__ import annotations

import time

from printers.tenure import Tenure, boot_time


def test_it_is_over_until_the_first_renewal() -> None:
    tenure = Tenure()
    assert tenure.over
    tenure.renewed(tenure.now(), ttl=3600)
    assert not tenure.over


def test_it_ends_by_the_time_before_the_database_was_asked() -> None:
    """So that it never ends after what the database says, however long the answer took."""
    now = 100.0
    tenure = Tenure(clock=lambda: now)
    asked_at = tenure.now()
    now = 105.0
    tenure.renewed(asked_at, ttl=6.0)
    assert not tenure.over
    now = 106.0
    assert tenure.over
    tenure.renewed(now, ttl=6.0)
    assert not tenure.over


def test_its_clock_counts_while_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= boot_time() <= time.clock_gettime(time.CLOCK_BOOTTIME)
