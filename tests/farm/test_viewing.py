"""What the hub knows of a printer between two looks into the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from farm.viewing import Known
from printers.drivers.base import PrinterState, PrinterStatus
from printers.models import Printer
from printers.telemetry import Snapshot
from printers.views import Facts

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
P = PrinterStatus


def facts(said: PrinterStatus, since: datetime, **row: Any) -> Facts:
    return Facts(printer=Printer(name="Anvil", said=said, said_since=since, **row), clear=True, occupant=None)


def says(known: Known, status: PrinterStatus, n: int, at: datetime) -> Any:
    """What those who look are told when the printer says this."""
    known.take(Snapshot(state=PrinterState(status=status), age=0.0, fence=1, n=n), now=float(n))
    return known.renew(float(n), at)


def hours(count: float) -> datetime:
    return NOON + timedelta(hours=count)


def test_a_change_counts_from_when_it_is_heard_without_a_look_into_the_database() -> None:
    known = Known(facts(P.PRINTING, NOON))
    assert says(known, P.PRINTING, 1, hours(1))["since"] == NOON.timestamp()
    told = says(known, P.PAUSED, 2, hours(2))
    assert (told["status"], told["since"]) == ("paused", hours(2).timestamp())
    assert says(known, P.PAUSED, 3, hours(3)) == {}


def test_a_database_that_has_not_heard_it_yet_makes_it_no_older() -> None:
    known = Known(facts(P.PRINTING, NOON))
    says(known, P.PAUSED, 1, hours(2))
    known.learn(facts(P.PRINTING, NOON, place="Attic"))
    told = known.renew(2.0, hours(3))
    assert told["place"] == "Attic"
    assert "since" not in told


def test_the_databases_own_time_counts_once_it_has_heard_it() -> None:
    known = Known(facts(P.PRINTING, NOON))
    says(known, P.PAUSED, 1, hours(2))
    known.learn(facts(P.PAUSED, hours(1.9)))
    assert known.renew(2.0, hours(3))["since"] == hours(1.9).timestamp()
