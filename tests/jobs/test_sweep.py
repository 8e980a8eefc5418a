from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from farm.models import IdempotencyKey
from jobs import preparing, services, sweep
from jobs.models import Job, JobEvent, Print
from jobs.states import JobStatus, PrintStatus
from printers import telemetry
from printers.drivers.base import Unclear
from printers.models import BedClear, Command, CommandStatus
from tests.cast import Cast, attempt, falls_silent, gcode, job
from tests.machines import away
from tests.work import Shop, Work, expire, workers_die

pytestmark = pytest.mark.django_db


def now(row: Any) -> str:
    row.refresh_from_db()
    return str(row.status)


def everything() -> list[Any]:
    """All that may not change when nothing happens."""
    tables: tuple[Any, ...] = (Job, Print, JobEvent, Command, BedClear)
    return [list(table.objects.order_by("pk").values()) for table in tables]


# -- what was forgotten
def test_a_job_whose_slicing_was_forgotten_is_sliced(cast: Cast, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    sliced = gcode(cast.anvil)
    monkeypatch.setattr(preparing, "slice_model", lambda *_: sliced)
    row = job(cast.sam, JobStatus.PREPARING)
    work.sweep()
    assert now(row) == "preparing"  # it was submitted a moment ago
    Job.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    work.sweep()
    assert (now(row), row.gcode) == ("ready", sliced)


def test_a_job_that_is_being_sliced_is_left_to_it(cast: Cast, work: Work) -> None:
    later = timezone.now() + timedelta(minutes=1)
    job(cast.sam, JobStatus.PREPARING, worker_until=later)
    Job.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    work.do(("jobs.sweep",))
    assert work.names() == ["jobs.dispatch"]


def test_a_job_that_nobody_dispatched_is_dispatched(shop: Shop) -> None:
    row = shop.ready()
    shop.clear()
    shop.work.lose()
    shop.work.sweep()
    assert now(row) == "active"


@pytest.mark.parametrize("died", [False, True], ids=["forgotten", "its worker died"])
def test_a_print_that_nobody_sends_is_sent(shop: Shop, died: bool) -> None:
    live = shop.claimed()
    if died:
        Print.objects.update(worker="dead", worker_until=timezone.now() + timedelta(minutes=1))
        shop.work.sweep()
        assert now(live) == "uploading"
        workers_die()
    shop.work.lose()
    shop.work.sweep()
    assert now(live) == "starting"


def test_a_print_whose_slicing_was_forgotten_is_sliced(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    sliced = gcode(shop.anvil)
    monkeypatch.setattr(preparing, "slice_model", lambda *_: sliced)
    live = shop.claimed()
    Job.objects.update(gcode=None)
    shop.work.do(shop.work.waiting.pop())
    assert shop.work.names() == ["jobs.slice"]
    shop.work.lose()
    shop.work.sweep()
    assert (now(live), live.gcode) == ("starting", sliced)


def test_a_start_that_no_bridge_ever_took_is_taken_back(shop: Shop) -> None:
    live = shop.starting()
    shop.work.sweep()
    assert now(live) == "starting"
    expire(shop.anvil)
    shop.work.sweep()
    assert (now(live), live.spent, now(live.job)) == ("failed", False, "ready")
    assert [start.status for start in shop.starts()] == [CommandStatus.EXPIRED]
    assert shop.bed_is_clear()


def test_a_start_whose_bridge_died_after_sending_it_is_found_out(shop: Shop) -> None:
    live = shop.starting()
    Command.objects.update(status=CommandStatus.SENT)
    shop.machine.begin(live.remote_path)
    expire(shop.anvil, 30)
    shop.work.sweep()
    assert now(live) == "starting"  # its answer may still come
    expire(shop.anvil, 60)
    shop.work.sweep()
    assert now(live) == "printing"
    assert [start.status for start in shop.starts()] == [CommandStatus.UNCLEAR]


def test_a_lost_question_about_an_unclear_print_is_asked_again(shop: Shop) -> None:
    live = shop.starting()
    shop.machine.faults["start"] = Unclear("No answer came.")
    shop.bridge.run_lane()
    shop.work.lose()
    shop.work.sweep()
    assert now(live) == "failed"


def test_a_state_that_nobody_followed_is_followed(shop: Shop) -> None:
    """The bridge's writer failed in the middle: Redis knows, the database does not."""
    live = shop.starting()
    shop.bridge.run_lane()
    telemetry.put(shop.anvil.pk, shop.bridge.fence, 5000, shop.machine.state)
    shop.work.sweep()
    assert now(live) == "printing"
    shop.machine.end()
    telemetry.put(shop.anvil.pk, shop.bridge.fence, 5001, shop.machine.state)
    shop.work.sweep()
    assert (now(live), now(live.job)) == ("completed", "completed")


def test_an_old_state_is_not_followed(shop: Shop) -> None:
    live = shop.printing()
    shop.machine.forget()
    telemetry.put(shop.anvil.pk, shop.bridge.fence, 5000, shop.machine.state)
    falls_silent(shop.anvil)
    shop.work.sweep()
    assert now(live) == "printing"


def test_a_job_that_nobody_settled_is_settled(cast: Cast, work: Work) -> None:
    row = job(cast.sam, JobStatus.ACTIVE)
    attempt(row, cast.anvil, PrintStatus.COMPLETED)
    work.sweep()
    assert now(row) == "completed"


def test_files_that_a_printer_kept_are_tried_for_two_days(shop: Shop) -> None:
    made = timezone.now()
    for hours in (1, 49):
        row = attempt(job(shop.cast.sam), shop.anvil, PrintStatus.COMPLETED)
        Print.objects.filter(pk=row.pk).update(ended_at=made - timedelta(hours=hours))
    shop.machine.faults["delete_file"] = away()
    for _ in range(2):
        shop.work.do(("jobs.housekeeping",))
        shop.work.do_all()
    assert len(shop.machine.asked("delete_file")) == 2
    assert not Print.objects.filter(file_deleted=True).exists()


def test_old_idempotency_keys_are_forgotten(cast: Cast, work: Work) -> None:
    for name, hours in (("new", 23), ("old", 25)):
        row = IdempotencyKey.objects.create(user=cast.sam, key=name)
        IdempotencyKey.objects.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(hours=hours))
    work.do(("jobs.housekeeping",))
    assert [row.key for row in IdempotencyKey.objects.all()] == ["new"]


# -- again and again
def test_when_all_is_well_it_changes_nothing(shop: Shop) -> None:
    for reach in (shop.claimed, shop.work.do_all, shop.go_on):
        reach()
    job(shop.cast.tina, JobStatus.AWAITING_APPROVAL)
    attempt(job(shop.cast.tina), shop.cast.cellar, PrintStatus.COMPLETED, file_deleted=True)
    before = everything()
    for _ in range(3):
        shop.work.sweep()
    assert everything() == before


def test_twice_at_once_is_as_good_as_once(shop: Shop) -> None:
    shop.starting()
    shop.machine.faults["start"] = Unclear("No answer came.")
    shop.bridge.run_lane()
    for _ in range(2):
        sweep.sweep()
        shop.work.do(("jobs.sweep",))
    twice = list(shop.work.waiting)
    shop.work.do_all()
    for task in twice:
        shop.work.do(task)
    live = Print.objects.get(status=PrintStatus.FAILED)
    assert live.events.filter(new="failed").count() == 1
    assert Print.objects.filter(status=PrintStatus.UPLOADING).count() == 0
    assert BedClear.objects.filter(print=None).count() == 1


def test_what_waits_in_a_long_queue_is_not_put_into_it_with_every_tick(cast: Cast, work: Work) -> None:
    for _ in range(3):
        job(cast.sam, JobStatus.PREPARING)
    Job.objects.update(created_at=timezone.now() - timedelta(seconds=10))
    for _ in range(5):
        work.do(("jobs.sweep",))
    assert work.names().count("jobs.slice") == 3


def test_one_wrong_wish_does_not_stop_the_others(shop: Shop) -> None:
    """A printer that refuses to cancel is asked again, and the rest of the sweep goes on."""
    live = shop.printing()
    services.cancel(live.job, shop.cast.sam)
    shop.machine.faults["cancel"] = away()
    for _ in range(3):
        shop.bridge.run_lane()
        shop.work.sweep()
    assert len(shop.machine.asked("cancel")) == 3
    del shop.machine.faults["cancel"]
    shop.go_on()
    assert now(live.job) == "cancelled"
