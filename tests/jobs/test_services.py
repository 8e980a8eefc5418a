from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings

from farm.errors import Conflict, Forbidden, Invalid
from jobs import services
from jobs.dispatch import claim
from jobs.matching import Assignment
from jobs.models import Job, JobEvent, Print
from jobs.states import JOB_TERMINAL, PRINT_TERMINAL, JobStatus, PrintStatus
from printers.models import Command, CommandKind, CommandStatus, Role
from tests.cast import Cast, attempt, falls_silent, gcode, grant, job, model, printer, says
from tests.work import Shop, Work, committed, expire

pytestmark = pytest.mark.django_db


def now(row: Any) -> str:
    row.refresh_from_db()
    return str(row.status)


def newest(of: Job | Print) -> JobEvent:
    return of.events.latest("at", "pk")


def cancels(of: Print) -> list[Command]:
    return list(Command.objects.filter(print_id=of.pk, kind=CommandKind.CANCEL))


# -- status
def test_a_status_changes_once_with_an_event_of_who_and_why(cast: Cast) -> None:
    row = job(cast.sam, JobStatus.AWAITING_APPROVAL)
    late = Job.objects.get(pk=row.pk)
    assert services.advance(row, JobStatus.READY, actor=cast.ada, message="Looks fine.")
    assert not services.advance(late, JobStatus.FAILED, actor=cast.olivia)
    assert late.status == "ready"  # whoever came late sees what is true now
    event = newest(row)
    assert (event.old, event.new, event.cause) == ("awaiting_approval", "ready", "approved")
    assert (event.actor, event.message) == (cast.ada, "Looks fine.")
    assert row.events.count() == 2


def test_there_is_no_way_that_the_table_does_not_have(cast: Cast) -> None:
    row = job(cast.sam, JobStatus.COMPLETED)
    with pytest.raises(Conflict, match="It is completed: it cannot become ready") as refusal:
        services.advance(row, JobStatus.READY)
    assert refusal.value.code == "not_possible"
    assert now(row) == "completed"


def test_a_further_condition_is_part_of_the_same_update(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil, PrintStatus.UPLOADING, worker="first")
    assert not services.advance(live, PrintStatus.STARTING, only={"worker": "second"})
    assert now(live) == "uploading"
    assert not live.events.exists()


# -- submitting
def test_a_model_is_sliced_first_whichever_printer_it_is_for(cast: Cast, work: Work) -> None:
    with committed():
        anywhere = services.submit(cast.sam, model=model(cast.sam), copies=3)
        named = services.submit(cast.sam, model=model(cast.sam), printer=cast.anvil, hold=True)
    assert (anywhere.status, anywhere.printer, anywhere.copies, anywhere.hold) == ("preparing", None, 3, False)
    assert (named.status, named.printer, named.copies, named.hold) == ("preparing", cast.anvil, 1, True)
    assert work.waiting == [("jobs.slice", str(anywhere.pk)), ("jobs.slice", str(named.pk))]
    assert [(event.new, event.actor) for event in named.events.all()] == [("preparing", cast.sam)]


def test_gcode_goes_straight_into_the_queue(cast: Cast, work: Work) -> None:
    with committed():
        row = services.submit(cast.olivia, gcode=gcode(cast.anvil))
    assert (row.status, row.name) == ("ready", "bracket.gcode")
    assert work.names() == ["jobs.dispatch"]


def test_a_lab_that_approves_sees_everything_but_its_staffs_jobs_first(cast: Cast, settings: Settings) -> None:
    settings.FARM_APPROVAL = True
    operators, staffs = (services.submit(user, gcode=gcode(cast.anvil)) for user in (cast.olivia, cast.ada))
    assert (operators.status, operators.message) == (
        "awaiting_approval",
        "Waiting for somebody of the staff to approve it.",
    )
    assert staffs.status == "ready"


@pytest.mark.parametrize(
    ("wanted", "field", "sentence"),
    [
        ({}, "model", "Name a model or a G-code file to print, not both."),
        ({"model": 1, "gcode": 1}, "model", "Name a model or a G-code file to print, not both."),
        ({"gcode": 1, "settings": {"walls": 2}}, "settings", "G-code is printed as it is: settings are for models."),
        ({"model": 1, "copies": 0}, "copies", "copies must be between 1 and 100."),
        ({"model": 1, "copies": 101}, "copies", "copies must be between 1 and 100."),
        ({"model": 1, "settings": {"wals": 2}}, "settings", "Unknown settings: wals."),
        ({"model": 1, "settings": {"nozzle_diameter": 0.6}}, "settings", "nozzle_diameter must be 0.4"),
    ],
)
def test_what_makes_no_sense_is_refused_and_not_stored(
    cast: Cast, wanted: dict[str, Any], field: str, sentence: str
) -> None:
    given = {"model": model(cast.sam), "gcode": gcode(cast.anvil)}
    with pytest.raises(Invalid) as refusal:
        services.submit(cast.sam, **{key: given.get(key, value) for key, value in wanted.items()})
    assert refusal.value.extra["field"] == field
    assert sentence in refusal.value.message
    assert not Job.objects.exists()


def test_a_part_larger_than_every_bed_is_refused_with_both_sizes(cast: Cast) -> None:
    large = model(cast.sam, "vase.stl", size=(300, 40.5, 20))
    with pytest.raises(Invalid) as refusal:
        services.submit(cast.sam, model=large)
    assert refusal.value.code == "too_large_for_bed"
    assert refusal.value.message == (
        "vase.stl is 300 x 40.5 x 20 mm; Anvil prints at most 220 x 220 x 250 mm. Make it smaller or cut it into parts."
    )
    assert not Job.objects.exists()


def test_gcode_for_an_older_revision_of_the_profile_is_refused(cast: Cast) -> None:
    old = gcode(cast.anvil)
    type(old).objects.filter(pk=old.pk).update(profile_revision=cast.anvil.profile.revision + 1)
    old.refresh_from_db()
    with pytest.raises(Invalid, match="made for another profile than Anvil's") as refusal:
        services.submit(cast.olivia, gcode=old)
    assert refusal.value.code == "other_profile"


def test_gcode_is_printed_only_where_its_owner_operates(cast: Cast) -> None:
    """It can say anything to a machine; two printers may share a profile."""
    bellows = printer("Bellows", by=cast.ada, profile=cast.anvil.profile)
    grant(cast.olivia, bellows, Role.SUBMIT)
    for user, where in ((cast.sam, cast.anvil), (cast.sam, None), (cast.olivia, bellows)):
        with pytest.raises(Forbidden, match="only where you operate the printer") as refusal:
            services.submit(user, gcode=gcode(bellows), printer=where)
        assert refusal.value.code == "operate_needed"
    assert not Job.objects.exists()


def test_who_may_print_nowhere_cannot_submit(cast: Cast) -> None:
    grant(cast.mallory, cast.anvil, Role.VIEW)
    with pytest.raises(Forbidden, match="There is no printer that you may print on") as refusal:
        services.submit(cast.mallory, model=model(cast.mallory))
    assert refusal.value.code == "no_printer"
    assert not Job.objects.exists()


# -- approving
def test_staff_approve_or_reject_with_a_reason(cast: Cast, work: Work) -> None:
    good, bad, dull = (job(cast.sam, JobStatus.AWAITING_APPROVAL) for _ in range(3))
    with committed():
        services.approve(good, cast.ada)
        services.reject(bad, cast.ada, "that is a weapon")
        services.reject(dull, cast.ada, "")
    assert (now(good), now(bad)) == ("ready", "failed")
    assert (bad.message, dull.message) == ("Not approved: that is a weapon", "Not approved: no reason given")
    assert newest(good).actor == newest(bad).actor == cast.ada
    assert work.names() == ["jobs.dispatch"]


@pytest.mark.parametrize("user", ["sam", "tina", "olivia", "mallory"])
def test_nobody_else_approves_or_rejects(cast: Cast, user: str) -> None:
    row = job(cast.sam, JobStatus.AWAITING_APPROVAL)
    for act in (services.approve, lambda row, by: services.reject(row, by, "no")):
        with pytest.raises(Forbidden, match="Only staff may do this"):
            act(row, getattr(cast, user))
    assert now(row) == "awaiting_approval"


@pytest.mark.parametrize("status", [s for s in JobStatus if s != JobStatus.AWAITING_APPROVAL])
def test_what_does_not_wait_for_approval_is_left_alone(cast: Cast, status: JobStatus) -> None:
    """Not sliced yet, or on its printer: approving it would put it into the queue as it is."""
    row = job(cast.sam, status)
    for act in (services.approve, lambda row, by: services.reject(row, by, "no")):
        with pytest.raises(Conflict, match="does not wait for approval"):
            act(row, cast.ada)
    assert now(row) == status


def test_two_of_the_staff_do_not_decide_twice(cast: Cast) -> None:
    row = job(cast.sam, JobStatus.AWAITING_APPROVAL)
    mine, yours = Job.objects.get(pk=row.pk), Job.objects.get(pk=row.pk)
    services.approve(mine, cast.ada)
    with pytest.raises(Conflict, match="Somebody was faster"):
        services.reject(yours, cast.ada, "no")
    assert now(row) == "ready"


# -- holding
def test_a_held_job_takes_its_place_when_it_is_released(cast: Cast, work: Work) -> None:
    row = job(cast.sam, hold=True)
    with committed():
        services.release(row, cast.sam)
    assert (row.hold, row.status) == (False, "ready")
    assert [(e.cause, e.actor) for e in row.events.all()][-1] == ("hold ended", cast.sam)
    assert work.names() == ["jobs.dispatch"]
    with pytest.raises(Conflict, match="This job is not on hold"):
        services.release(row, cast.sam)


@pytest.mark.parametrize("status", JOB_TERMINAL)
def test_an_ended_job_is_not_released(cast: Cast, status: JobStatus) -> None:
    with pytest.raises(Conflict, match=f"This job is {status} already"):
        services.release(job(cast.sam, status, hold=True), cast.sam)


def test_a_waiting_job_is_put_on_hold_and_gets_no_printer_until_it_is_released(cast: Cast, work: Work) -> None:
    row = job(cast.sam)
    with committed():
        services.hold(row, cast.ada)
    assert (row.hold, row.status) == (True, "ready")
    assert [(e.cause, e.actor) for e in row.events.all()][-1] == ("put on hold", cast.ada)
    work.do_all()
    row.refresh_from_db()
    assert row.message == "On hold: start it when you are ready."
    with pytest.raises(Conflict, match="on hold already"):
        services.hold(row, cast.ada)


@pytest.mark.parametrize("status", JOB_TERMINAL)
def test_an_ended_job_is_not_held(cast: Cast, status: JobStatus) -> None:
    with pytest.raises(Conflict, match=f"This job is {status} already"):
        services.hold(job(cast.sam, status), cast.sam)


def test_a_claim_that_was_decided_before_the_hold_loses(shop: Shop) -> None:
    row = shop.ready()
    shop.clear()
    services.hold(row, shop.cast.sam)
    assert not claim(Assignment(job_id=row.pk, printer_id=shop.anvil.pk), claims=row.claims)
    assert not row.prints.exists()


# -- cancelling
@pytest.mark.parametrize("status", [JobStatus.PREPARING, JobStatus.AWAITING_APPROVAL, JobStatus.READY])
def test_what_only_waits_is_cancelled_at_once(cast: Cast, status: JobStatus) -> None:
    row = job(cast.sam, status)
    services.cancel(row, cast.sam)
    assert (row.status, row.message) == ("cancelled", "Cancelled by Sam.")
    assert row.ended_at is not None
    assert services.cancel(row, cast.sam).status == "cancelled"  # twice is harmless
    assert row.events.filter(new="cancelled").count() == 1


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED])
def test_what_ended_otherwise_is_not_cancelled(cast: Cast, status: JobStatus) -> None:
    row = job(cast.sam, status)
    with pytest.raises(Conflict, match=f"This job is {status} already") as refusal:
        services.cancel(row, cast.sam)
    assert (refusal.value.code, refusal.value.extra["status"]) == ("not_possible", status)
    assert not row.cancel_requested


def test_cancelling_before_the_start_leaves_printer_and_bed_as_they_were(shop: Shop) -> None:
    claimed = shop.claimed()
    assert not shop.bed_is_clear()
    with committed():
        services.cancel(claimed.job, shop.cast.sam)
    assert (now(claimed), now(claimed.job)) == ("cancelled", "cancelled")
    assert (claimed.message, claimed.spent) == ("Cancelled by Sam.", False)
    assert shop.bed_is_clear()
    shop.work.do_all()
    assert shop.machine.files == {}
    assert shop.machine.starts == []


def test_cancelling_what_prints_asks_the_printer(shop: Shop) -> None:
    live = shop.printing()
    with committed():
        services.cancel(live.job, shop.cast.sam)
        services.cancel(live.job, shop.cast.sam)  # somebody presses twice
    assert (now(live), live.job.cancel_requested) == ("printing", True)
    assert len(cancels(live)) == 1
    shop.go_on()
    assert (now(live), now(live.job)) == ("cancelled", "cancelled")
    assert shop.machine.asked("cancel") == [()]
    assert not shop.bed_is_clear()


def test_cancelling_a_start_on_its_way_cancels_the_print_behind_it(shop: Shop) -> None:
    live = shop.starting()
    with committed():
        services.cancel(live.job, shop.cast.sam)
    shop.go_on()
    assert [name for name, *_ in shop.machine.calls if name in ("start", "cancel")] == ["start", "cancel"]
    assert (now(live), now(live.job)) == ("cancelled", "cancelled")


def test_what_its_printer_did_not_hear_is_cancelled_by_the_sweep(shop: Shop) -> None:
    live = shop.printing()
    with committed():
        services.cancel(live.job, shop.cast.sam)
    expire(shop.anvil)  # the bridge was away
    shop.work.sweep()
    assert [command.status for command in cancels(live)] == [CommandStatus.QUEUED, CommandStatus.EXPIRED]
    shop.go_on()
    assert (now(live), now(live.job)) == ("cancelled", "cancelled")


def test_an_unclear_print_is_cancelled_when_it_turns_out_to_be_printed(shop: Shop) -> None:
    live = shop.starting()
    shop.machine.begin(live.remote_path)
    services.advance(live, PrintStatus.UNKNOWN)
    with committed():
        services.cancel(live.job, shop.cast.sam)
    assert cancels(live) == []
    shop.bridge.hear()
    assert now(live) == "printing"
    shop.work.sweep()
    shop.go_on()
    assert now(live.job) == "cancelled"


def test_a_wish_that_comes_too_late_does_not_hide_that_it_was_printed(shop: Shop) -> None:
    live = shop.printing()
    with committed():
        services.cancel(live.job, shop.cast.sam)
    shop.machine.end()
    shop.bridge.hear()
    assert (now(live), now(live.job)) == ("completed", "completed")


def test_a_wish_at_the_moment_of_another_copys_end_is_not_forgotten(shop: Shop) -> None:
    """Whoever ends the copy read the job before the wish; the wish found no copy that it could cancel any more."""
    row = shop.claimed(copies=2).job
    stale = Job.objects.get(pk=row.pk)
    Print.objects.update(status=PrintStatus.FAILED, spent=False)
    Job.objects.update(cancel_requested=True)
    services.settle(stale)
    assert now(row) == "cancelled"


# -- copies
@pytest.mark.parametrize(
    ("ends", "status", "message"),
    [
        (["completed"] * 3, "completed", "3 of 3 printed."),
        (["completed", "failed", "completed"], "failed", "2 of 3 printed; 1 failed."),
        (["completed", "cancelled", "completed"], "cancelled", "2 of 3 printed; 1 cancelled."),
        (["completed", "failed"], "ready", ""),
    ],
)
def test_a_job_of_several_copies_ends_when_all_are_used_up(
    cast: Cast, ends: list[str], status: str, message: str
) -> None:
    row = job(cast.sam, copies=3)
    for end in ends:
        assert now(row) == "ready"
        services.advance(attempt(row, cast.anvil), PrintStatus(end))
    assert (now(row), row.message) == (status, message)


def test_a_job_gives_up_after_so_many_attempts_in_a_row(cast: Cast) -> None:
    row = job(cast.sam, copies=2)
    for n in range(2 * services.MOST_ATTEMPTS - 1):
        assert now(row) == "ready"
        services.advance(row, JobStatus.ACTIVE)
        live = attempt(row, cast.anvil, PrintStatus.UPLOADING)
        if n == services.MOST_ATTEMPTS - 2:  # a copy that does print begins a new count
            services.advance(live, PrintStatus.STARTING)
            services.advance(live, PrintStatus.COMPLETED)
        else:
            services.not_started(live, PrintStatus.FAILED, "Anvil did not take the file: it is full.")
    assert now(row) == "failed"
    assert row.message == (
        "Given up after 5 attempts. Anvil did not take the file: it is full. Ask the people who run the lab."
    )


# -- a person decides
@pytest.mark.parametrize("outcome", PRINT_TERMINAL)
def test_staff_decide_about_what_is_unclear_and_the_bed_waits_for_them(shop: Shop, outcome: PrintStatus) -> None:
    lost = shop.starting()
    services.advance(lost, PrintStatus.UNKNOWN)
    with committed():
        services.decide(lost, outcome, by=shop.cast.ada)
    assert (now(lost), lost.message, now(lost.job)) == (outcome, "Decided by Ada.", outcome)
    assert newest(lost).actor == shop.cast.ada
    assert not shop.bed_is_clear()
    assert shop.work.names()[0] == "jobs.clean_up"


def test_a_print_on_a_printer_that_fell_silent_can_be_decided(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    falls_silent(cast.anvil)
    services.decide(live, "failed", by=cast.ada)
    assert now(live) == "failed"


def test_what_is_followed_or_was_never_started_is_not_decided(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    with pytest.raises(Conflict, match="The printer is being followed: pause or cancel it instead"):
        services.decide(live, "failed", by=cast.ada)
    with pytest.raises(Invalid, match="Say completed, failed or cancelled") as refusal:
        services.decide(live, "printing", by=cast.ada)
    assert refusal.value.extra["field"] == "outcome"
    services.advance(live, PrintStatus.COMPLETED)
    says(cast.anvil)
    waiting = attempt(job(cast.tina), cast.anvil, PrintStatus.UPLOADING)
    for row in (live, waiting):
        with pytest.raises(Conflict, match="Only a print that was started"):
            services.decide(row, "failed", by=cast.ada)


def test_nothing_is_decided_while_the_start_may_still_be_sent(shop: Shop) -> None:
    live = shop.starting()
    with pytest.raises(Conflict, match="Its start is on its way"):
        services.decide(live, "failed", by=shop.cast.ada)
    assert now(live) == "starting"


# -- what a job shows
def test_one_copy_shows_its_prints_status_and_several_show_that_they_are_active(cast: Cast) -> None:
    one, two = job(cast.sam), job(cast.tina, copies=2)
    live = attempt(one, cast.anvil, PrintStatus.PAUSED)
    other = attempt(two, cast.cellar, PrintStatus.PAUSED)
    assert services.shown_status(one, [live]) == "paused"
    assert services.shown_status(two, [other]) == "active"
    assert services.shown_status(job(cast.sam), []) == "ready"


# -- who is on which printer
def test_printers_learn_who_is_on_them(cast: Cast) -> None:
    live = attempt(job(cast.sam, name="cup.stl"), cast.anvil, PrintStatus.PAUSED, progress=0.4)
    attempt(job(cast.tina), cast.cellar, PrintStatus.COMPLETED)
    (occupant,) = services.occupants([cast.anvil.pk, cast.cellar.pk]).values()
    assert (occupant.print_id, occupant.job_id, occupant.owner_id) == (live.pk, live.job_id, cast.sam.pk)
    assert (occupant.file, occupant.person, occupant.status) == ("cup.stl", "Sam", "paused")
    assert (occupant.remote_path, occupant.progress) == (live.remote_path, 0.4)
    assert services.occupants([uuid4()]) == {}
