"""For how long a machine has been waiting for somebody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from printers import services
from printers.drivers.base import PrinterState, PrinterStatus
from printers.models import Printer
from tests.cast import Cast

pytestmark = pytest.mark.django_db

EARLIER = timezone.now() - timedelta(hours=2)
P = PrinterStatus


def says_next(cast: Cast, status: PrinterStatus, before: PrinterStatus | None) -> set[str]:
    """Which times were written anew when Anvil, which has said ``before`` for two hours, says ``status``."""
    fence = {row.pk: fence for row, fence in services.take_leases("bridge", 10)}[cast.anvil.pk]
    said = before or P.OFFLINE
    Printer.objects.filter(pk=cast.anvil.pk).update(said=said, said_since=EARLIER, bed_since=EARLIER)
    observed = PrinterState(status=before) if before else None
    services.note_state(cast.anvil.pk, fence, PrinterState(status=status), observed)
    cast.anvil.refresh_from_db()
    return {name for name in ("said_since", "bed_since") if getattr(cast.anvil, name) > EARLIER}


@pytest.mark.parametrize(
    ("before", "status", "anew"),
    [
        (P.IDLE, P.ERROR, {"said_since"}),
        (P.ERROR, P.ERROR, set()),
        (P.PRINTING, P.IDLE, {"said_since", "bed_since"}),
        (P.PRINTING, P.ERROR, {"said_since", "bed_since"}),
        (P.PRINTING, P.PAUSED, {"said_since"}),
        (P.IDLE, P.OFFLINE, {"said_since"}),
        (None, P.IDLE, {"said_since"}),
        (None, P.OFFLINE, set()),
    ],
)
def test_it_counts_from_the_change_and_what_lies_on_the_bed_from_the_end_of_the_work(
    cast: Cast, before: PrinterStatus | None, status: PrinterStatus, anew: set[str]
) -> None:
    assert says_next(cast, status, before) == anew
    assert cast.anvil.said == status


def test_a_bed_counts_anew_when_it_is_soiled(cast: Cast) -> None:
    Printer.objects.filter(pk=cast.anvil.pk).update(bed_since=EARLIER)
    services.soil_bed(cast.anvil.pk, "emergency stop")
    cast.anvil.refresh_from_db()
    assert cast.anvil.bed_since > EARLIER


def test_a_bridge_without_the_lease_changes_no_time(cast: Cast) -> None:
    Printer.objects.filter(pk=cast.anvil.pk).update(said=P.IDLE, said_since=EARLIER)
    services.note_state(cast.anvil.pk, 7, PrinterState(status=P.ERROR), None)
    cast.anvil.refresh_from_db()
    assert (cast.anvil.said, cast.anvil.said_since) == (P.IDLE, EARLIER)
