"""What printers say that the database must know: of beds, of prints, of how long a machine has been waiting."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from printers import commands, services
from printers.drivers.base import Ended, LiveJob, Outcome, PrinterState, PrinterStatus
from printers.models import Printer
from printers.notes import MarkerNote, StateNote, _foreign_print, note_markers, note_states
from printers.signals import printer_states_changed
from tests.cast import Cast, printer
from tests.work import lapse

EARLIER = timezone.now() - timedelta(hours=2)
P = PrinterStatus
IDLE = PrinterState(status=P.IDLE)


def leased(cast: Cast) -> dict[UUID, int]:
    """The fences of all printers, after a bridge took them."""
    return {row.pk: fence for row, fence in services.take_leases("bridge", 1000)}


def is_clear(row: Printer) -> bool:
    row.refresh_from_db()
    return services.bed_is_clear(row)


def clear(cast: Cast) -> None:
    """Ada looks, and Anvil's bed is empty."""
    cast.anvil.refresh_from_db()
    services.clear_bed(cast.anvil, cast.anvil.bed, by=cast.ada)


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """What those above were told."""
    told: list[Any] = []

    def note_change(sender: object, states: Any, **_: object) -> None:
        told.append(states)

    printer_states_changed.connect(note_change)
    yield told
    printer_states_changed.disconnect(note_change)


# -- whose print it is


def doing(status: PrinterStatus, file: str = "", ended: Ended | None = None) -> PrinterState:
    return PrinterState(status=status, job=LiveJob(file=file, progress=0.1) if file else None, ended=ended)


def ended(file: str, mark: str = "1") -> Ended:
    return Ended(file=file, outcome=Outcome.COMPLETED, mark=mark)


@pytest.mark.parametrize(
    ("before", "after", "ours", "foreign"),
    [
        (IDLE, doing(P.PRINTING, "ours.gcode"), "ours.gcode", False),
        (IDLE, doing(P.PRINTING, "gift.gcode"), "ours.gcode", True),
        (IDLE, doing(P.PRINTING, "gift.gcode"), "", True),
        (None, doing(P.PRINTING, "gift.gcode"), "", True),
        (IDLE, doing(P.BUSY, "gift.gcode"), "", True),
        (IDLE, doing(P.BUSY), "", False),
        (IDLE, doing(P.PRINTING), "", True),
        (IDLE, doing(P.PRINTING), "ours.gcode", False),
        (doing(P.PRINTING, "gift.gcode"), doing(P.PAUSED, "gift.gcode"), "", False),
        (doing(P.PRINTING, "gift.gcode"), doing(P.PRINTING, "next.gcode"), "", True),
        (doing(P.PRINTING, "gift.gcode"), doing(P.IDLE, ended=ended("gift.gcode")), "", False),
        (IDLE, doing(P.IDLE, ended=ended("gift.gcode")), "", True),
        (IDLE, doing(P.IDLE, ended=ended("ours.gcode")), "ours.gcode", False),
        (doing(P.IDLE, ended=ended("a.gcode")), doing(P.IDLE, ended=ended("a.gcode", "2")), "", True),
        (doing(P.IDLE, ended=ended("a.gcode")), doing(P.OFFLINE, ended=ended("a.gcode")), "", False),
        (None, doing(P.IDLE, ended=ended("last week.gcode")), "", False),
    ],
)
def test_somebody_elses_print_is_told_from_the_farms_own(
    before: PrinterState | None, after: PrinterState, ours: str, foreign: bool
) -> None:
    assert bool(_foreign_print(StateNote(uuid4(), 1, after, before), {ours} if ours else set())) is foreign


@pytest.mark.parametrize(
    ("before", "after", "soiled"),
    [
        (IDLE, doing(P.PRINTING, "ours.gcode"), False),
        (IDLE, doing(P.IDLE, ended=ended("ours.gcode")), False),
        (doing(P.IDLE, ended=ended("ours.gcode")), doing(P.PRINTING, "ours.gcode", ended("ours.gcode")), True),
        (doing(P.IDLE, ended=ended("ours.gcode")), doing(P.IDLE, ended=ended("ours.gcode", "2")), True),
        (IDLE, doing(P.PRINTING, "gift.gcode"), True),
        (None, doing(P.PRINTING, "ours.gcode"), True),
    ],
    ids=["its beginning", "its end", "begun again", "ended again", "a gift", "unobserved"],
)
def test_late_news_of_our_own_ended_print_does_not_soil_the_bed_that_was_cleared_since(
    cast: Cast, before: PrinterState | None, after: PrinterState, soiled: bool
) -> None:
    """The sweep may read the end of a print before what the bridge saw of it is written."""
    fence = leased(cast)[cast.anvil.pk]
    command = commands.queue_start(cast.anvil, uuid4(), "ours.gcode")
    type(command).objects.update(status="done")
    clear(cast)
    note_states([StateNote(cast.anvil.pk, fence, after, before)])
    assert is_clear(cast.anvil) is not soiled


def test_a_change_that_matters_is_told_to_those_above(cast: Cast, heard: list[Any]) -> None:
    fence = leased(cast)[cast.anvil.pk]
    note_states([StateNote(cast.anvil.pk, fence, IDLE, None)])
    assert heard == [{cast.anvil.pk: IDLE}]


@pytest.mark.parametrize("how", ["another bridge has it", "it ran out", "an old fence"])
def test_whoever_has_no_lease_writes_nothing(cast: Cast, heard: list[Any], how: str) -> None:
    fence = leased(cast)[cast.anvil.pk]
    clear(cast)
    lapse(cast.anvil)
    if how != "it ran out":
        services.take_leases("another" if how == "another bridge has it" else "bridge", 10)
    note_states([StateNote(cast.anvil.pk, fence, doing(P.PRINTING, "gift.gcode"), IDLE)])
    note_markers([MarkerNote(cast.anvil.pk, fence, {"printed": 7}, printed=True)])
    assert commands.claim_command(commands.request_command(cast.anvil, "home", {}, by=None).pk, "bridge", fence) is None
    assert is_clear(cast.anvil)
    assert cast.anvil.marker is None
    assert heard == []


def test_a_printers_record_is_kept_to_be_compared_later(cast: Cast) -> None:
    fence = leased(cast)[cast.anvil.pk]
    clear(cast)
    note_markers([MarkerNote(cast.anvil.pk, fence, {"printed": 7}, printed=False)])
    assert is_clear(cast.anvil)
    assert cast.anvil.marker == {"record": {"printed": 7}}
    note_markers([MarkerNote(cast.anvil.pk, fence, None, printed=True)])
    assert not is_clear(cast.anvil)
    assert cast.anvil.marker == {"record": None}, "it was heard, and keeps no record"


# -- how long it has been like that


def says_next(cast: Cast, status: PrinterStatus, before: PrinterStatus | None) -> set[str]:
    """Which times were written anew when Anvil, which has said ``before`` for two hours, says ``status``."""
    fence = leased(cast)[cast.anvil.pk]
    said = before or P.OFFLINE
    Printer.objects.filter(pk=cast.anvil.pk).update(said=said, said_since=EARLIER, bed_since=EARLIER)
    observed = PrinterState(status=before) if before else None
    note_states([StateNote(cast.anvil.pk, fence, PrinterState(status=status), observed)])
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
    note_states([StateNote(cast.anvil.pk, 7, PrinterState(status=P.ERROR), None)])
    cast.anvil.refresh_from_db()
    assert (cast.anvil.said, cast.anvil.said_since) == (P.IDLE, EARLIER)


# -- many at once


@pytest.fixture
def hall(cast: Cast) -> dict[UUID, int]:
    """Fifty printers with clear beds, and their fences."""
    for n in range(50):
        row = printer(f"Hall {n}", by=cast.ada)
        services.give_bed_back(row.pk, row.bed, "it is new", used=False)
    return {pk: fence for pk, fence in leased(cast).items() if pk not in (cast.anvil.pk, cast.cellar.pk)}


def test_fifty_notes_cost_what_one_does(hall: dict[UUID, int]) -> None:
    (first, fence), *others = hall.items()
    with CaptureQueriesContext(connection) as one:
        note_states([StateNote(first, fence, IDLE, None)])
    with CaptureQueriesContext(connection) as many:
        note_states([StateNote(pk, fence, IDLE, None) for pk, fence in others])
    assert len(many) == len(one)
    assert set(Printer.objects.filter(pk__in=hall).values_list("said", flat=True)) == {P.IDLE}
    with CaptureQueriesContext(connection) as again:
        note_states([StateNote(pk, fence, IDLE, None) for pk, fence in others])
    assert len(again) == len(many) - 1, "nothing was written"


def test_each_of_many_is_judged_by_itself(cast: Cast, hall: dict[UUID, int], heard: list[Any]) -> None:
    gift, lost, marked, *_ = hall
    gone = hall | {lost: 7}
    note_states([StateNote(pk, gone[pk], doing(P.PRINTING, "gift") if pk == gift else IDLE, IDLE) for pk in hall])
    assert heard == [{pk: doing(P.PRINTING, "gift") if pk == gift else IDLE for pk in hall if pk != lost}]
    note_markers([MarkerNote(pk, gone[pk], {"printed": 7}, printed=pk == marked) for pk in hall])
    assert {row.pk for row in Printer.objects.filter(pk__in=hall) if not services.bed_is_clear(row)} == {gift, marked}
    assert [row.pk for row in Printer.objects.filter(pk__in=hall, marker__isnull=True)] == [lost]
