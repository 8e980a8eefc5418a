from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from farm.models import User
from jobs import dispatch
from jobs.matching import Assignment
from jobs.models import Job, Print
from jobs.states import JobStatus, PrintStatus
from printers import commands
from printers import services as printers
from printers.drivers.base import LiveJob, PrinterStatus
from printers.models import Command, CommandKind, CommandStatus, Grant, Lease, Printer, Role
from slicing.models import PrinterProfile
from tests.cast import Cast, attempt, falls_silent, gcode, grant, job, model, person, printer, says
from tests.work import Work, committed

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast(cast: Cast, work: Work) -> Cast:
    """Anvil's bed is clear."""
    clear(cast.anvil, cast.ada)
    return cast


def clear(on: Printer, by: User) -> None:
    on.refresh_from_db()
    printers.clear_bed(on, on.bed, by)


def placed() -> dict[str, str]:
    """{job: printer} for every print that was ever claimed."""
    return {attempt.job.name: attempt.printer_name for attempt in Print.objects.select_related("job")}


def told(row: Job) -> str:
    row.refresh_from_db()
    return row.message


# -- order
def test_jobs_get_printers_in_order_of_submission(cast: Cast, work: Work) -> None:
    for user, name in ((cast.tina, "first"), (cast.sam, "second"), (cast.tina, "third")):
        job(user, name=name)
    with committed():
        assert dispatch.dispatch() == 1
    assert placed() == {"first": "Anvil"}
    claimed = Print.objects.get()
    assert (claimed.status, claimed.job.status, claimed.job.message) == ("uploading", "active", "")
    assert claimed.bed_clear is not None
    assert claimed.bed_clear.n == cast.anvil.bed
    assert work.waiting == [("jobs.send", str(claimed.pk))]
    assert [event.cause for event in claimed.events.all()] == ["dispatch gave it a printer"]


def test_a_job_that_fits_nowhere_now_blocks_nobody(cast: Cast) -> None:
    grant(cast.sam, cast.cellar, Role.SUBMIT)
    job(cast.sam, name="asks for Cellar", printer=cast.cellar)
    large = job(cast.sam, model=model(cast.sam, "large", size=(221, 10, 10)))
    job(cast.sam, name="any")
    dispatch.dispatch()
    assert placed() == {"any": "Anvil"}
    assert told(large) == "It fits no printer: Anvil is too small for this part."


def test_a_released_job_goes_before_those_that_were_submitted_later(cast: Cast) -> None:
    held = job(cast.sam, name="held", hold=True)
    job(cast.sam, name="later")
    Job.objects.filter(pk=held.pk).update(hold=False)
    dispatch.dispatch()
    assert placed() == {"held": "Anvil"}


def test_copies_take_all_printers_that_are_free(cast: Cast) -> None:
    for other in (cast.cellar, printer("Third", by=cast.ada, bed_clear=True)):
        grant(cast.sam, other, Role.SUBMIT)
    clear(cast.cellar, cast.ada)
    row = job(cast.sam, copies=2)
    job(cast.sam, name="next")
    assert dispatch.dispatch() == 3
    assert sorted(attempt.printer_name for attempt in row.prints.all()) == ["Anvil", "Cellar"]
    assert placed()["next"] == "Third"
    assert dispatch.dispatch() == 0


def test_a_copy_that_was_never_started_is_given_a_printer_again(cast: Cast) -> None:
    row = job(cast.sam)
    old = timezone.now() - timedelta(minutes=1)
    attempt(row, cast.anvil, PrintStatus.FAILED, spent=False, ended_at=old)
    assert dispatch.dispatch() == 1
    assert row.prints.count() == 2


def test_a_printer_it_was_sliced_for_is_taken_first(cast: Cast) -> None:
    other = PrinterProfile.objects.create(name="Other")
    fast = printer("Zebra", by=cast.ada, profile=other, bed_clear=True)
    grant(cast.sam, fast, Role.SUBMIT)
    job(cast.sam, name="cup", gcode=gcode(fast))
    job(cast.sam, name="jug")
    dispatch.dispatch()
    assert placed() == {"cup": "Zebra", "jug": "Anvil"}


# -- who may
@pytest.mark.parametrize("role", [None, Role.VIEW])
def test_nobodys_job_comes_to_a_printer_that_they_may_not_print_on(cast: Cast, role: Role | None) -> None:
    """Whoever lost the right after submitting included."""
    row = job(cast.mallory, printer=cast.anvil)
    if role is not None:
        grant(cast.mallory, cast.anvil, role)
    dispatch.dispatch()
    assert placed() == {}
    assert told(row) == "It cannot be printed: Anvil is not one its owner may print on."


def test_a_right_that_was_taken_away_and_given_back(cast: Cast) -> None:
    row = job(cast.sam)
    Grant.objects.filter(user=cast.sam).delete()
    dispatch.dispatch()
    assert told(row) == "There is no printer that its owner may use. Ask the people who run the lab."
    grant(cast.sam, cast.anvil, Role.SUBMIT)
    dispatch.dispatch()
    assert placed() == {"bracket.stl": "Anvil"}


def test_gcode_waits_until_its_owner_operates_the_printer_again(cast: Cast) -> None:
    row = job(cast.sam, gcode=gcode(cast.anvil))
    Job.objects.filter(pk=row.pk).update(model=None)  # uploaded
    dispatch.dispatch()
    assert placed() == {}
    assert told(row) == "There is no printer that its owner may use. Ask the people who run the lab."
    Grant.objects.filter(user=cast.sam).update(role=Role.OPERATE)
    dispatch.dispatch()
    assert placed() == {"bracket.stl": "Anvil"}


# -- what may
def test_gcode_goes_only_to_printers_of_its_profile_as_it_is_now(cast: Cast) -> None:
    row = job(cast.olivia, gcode=gcode(cast.anvil))
    Job.objects.filter(pk=row.pk).update(model=None)  # uploaded
    type(cast.anvil.profile).objects.update(revision=cast.anvil.profile.revision + 1)
    dispatch.dispatch()
    assert placed() == {}
    assert told(row) == (
        "It fits no printer: Anvil has another profile (or a newer revision of it) than this G-code was made for."
    )


def test_settings_for_another_nozzle_wait_for_a_printer_with_it(cast: Cast) -> None:
    row = job(cast.sam, settings={"nozzle_diameter": 0.6})
    dispatch.dispatch()
    assert told(row) == "It fits no printer: Anvil has another nozzle or filament than the settings ask for."
    wide = PrinterProfile.objects.create(name="Wide", nozzle_diameter=0.6)
    grant(cast.sam, printer("Wide", by=cast.ada, profile=wide, bed_clear=True), Role.SUBMIT)
    dispatch.dispatch()
    assert placed() == {"bracket.stl": "Wide"}


@pytest.mark.parametrize("status", [JobStatus.PREPARING, JobStatus.AWAITING_APPROVAL, JobStatus.CANCELLED])
def test_only_what_is_ready_is_dispatched(cast: Cast, status: JobStatus) -> None:
    job(cast.sam, status)
    job(cast.sam, cancel_requested=True)
    job(cast.sam, hold=True)
    assert dispatch.dispatch() == 0
    assert placed() == {}


# -- where not
def _off(on: Printer) -> None:
    Printer.objects.filter(pk=on.pk).update(enabled=False)


def _in_maintenance(on: Printer) -> None:
    Printer.objects.filter(pk=on.pk).update(maintenance="new belt")


def _soiled(on: Printer) -> None:
    printers.soil_bed(on.pk, "somebody printed at the machine")


def _failed(on: Printer) -> None:
    attempt(job(person("eve")), on, PrintStatus.FAILED, spent=False, ended_at=timezone.now())


def _homing(on: Printer) -> None:
    commands.request_command(on, CommandKind.HOME, {}, by=None)


def _saying(status: PrinterStatus) -> Callable[[Printer], None]:
    return lambda on: says(on, status, job=LiveJob(file="gift.gcode", progress=0.5))


@pytest.mark.parametrize(
    ("happened", "reason"),
    [
        (_off, "is switched off"),
        (_in_maintenance, "is in maintenance (new belt)"),
        (_soiled, "waits for somebody to clear its bed"),
        (_homing, "is carrying out a command"),
        (_failed, "just failed to take a print and is tried again in a moment"),
        (falls_silent, "has not been heard from"),
        (_saying(PrinterStatus.OFFLINE), "is offline"),
        (_saying(PrinterStatus.CONNECTING), "is connecting"),
        (_saying(PrinterStatus.PRINTING), "is printing something that was started at the machine"),
        (_saying(PrinterStatus.PAUSED), "is paused with something that was started at the machine"),
        (_saying(PrinterStatus.BUSY), "is busy"),
        (_saying(PrinterStatus.ERROR), "reports an error"),
        (lambda on: attempt(job(person("eve")), on), "is printing another job"),
        (lambda on: attempt(job(person("eve")), on, PrintStatus.UNKNOWN), "is printing another job"),
    ],
)
def test_a_printer_that_cannot_take_a_print_now_gets_none_and_its_reason_is_told(
    cast: Cast, happened: Callable[[Printer], None], reason: str
) -> None:
    row = job(cast.sam)
    happened(cast.anvil)
    assert dispatch.dispatch() == 0
    assert told(row) == f"Waiting: Anvil {reason}."


def test_what_a_bridge_sent_before_it_died_holds_nobody_up(cast: Cast) -> None:
    row = job(cast.sam)
    _homing(cast.anvil)
    fence = dict(printers.take_leases("first", 10))[cast.anvil]
    Command.objects.update(status=CommandStatus.SENT, fence=fence)
    assert dispatch.dispatch() == 0
    assert told(row) == "Waiting: Anvil is carrying out a command."
    Lease.objects.update(expires_at=None)
    printers.take_leases("second", 10)
    assert dispatch.dispatch() == 1


def test_a_printer_that_is_ready_again_gets_what_waits(cast: Cast) -> None:
    job(cast.sam)
    says(cast.anvil, PrinterStatus.ERROR)
    assert dispatch.dispatch() == 0
    says(cast.anvil)
    assert dispatch.dispatch() == 1


def test_everyone_who_waits_knows_why(cast: Cast) -> None:
    grant(cast.tina, cast.cellar, Role.SUBMIT)
    held, first, second, third = job(cast.sam, hold=True), job(cast.sam), job(cast.sam), job(cast.tina)
    dispatch.dispatch()
    assert told(held) == "On hold: start it when you are ready."
    assert told(first) == ""
    assert told(second) == "Waiting its turn: jobs before it take the free printers."
    assert told(third) == (
        "Waiting: Cellar waits for somebody to clear its bed. Jobs before it take the other printers."
    )


def test_a_reason_is_written_only_when_it_changes(cast: Cast) -> None:
    rows = [job(cast.sam, hold=True), job(cast.mallory)]
    dispatch.dispatch()
    seen = [told(row) for row in rows]
    Job.objects.filter(pk=rows[0].pk).update(status=JobStatus.CANCELLED, message="Cancelled by Sam.")
    dispatch.dispatch()
    assert [told(rows[0]), told(rows[1])] == ["Cancelled by Sam.", seen[1]]


# -- claiming
def test_of_two_schedulers_with_the_same_plan_one_claims(cast: Cast) -> None:
    row = job(cast.sam, copies=2)
    plan = Assignment(job_id=row.pk, printer_id=cast.anvil.pk)
    assert dispatch.claim(plan, claims=0)
    assert not dispatch.claim(plan, claims=0)
    assert not dispatch.claim(plan, claims=1)  # the bed is taken, too
    assert Print.objects.count() == 1
    row.refresh_from_db()
    assert row.claims == 1


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"cancel_requested": True},
        {"hold": True},
        {"status": JobStatus.CANCELLED},
        {"claims": 1},
    ],
)
def test_a_plan_that_is_out_of_date_claims_nothing(cast: Cast, meanwhile: dict[str, object]) -> None:
    row = job(cast.sam)
    Job.objects.filter(pk=row.pk).update(**meanwhile)
    assert not dispatch.claim(Assignment(job_id=row.pk, printer_id=cast.anvil.pk), claims=0)
    assert not Print.objects.exists()


def test_a_bed_that_was_soiled_since_the_plan_is_not_claimed(cast: Cast) -> None:
    row = job(cast.sam)
    _soiled(cast.anvil)
    assert not dispatch.claim(Assignment(job_id=row.pk, printer_id=cast.anvil.pk), claims=0)
    row.refresh_from_db()
    assert (row.status, row.claims) == ("ready", 0)
