from __future__ import annotations

from typing import Any

import pytest

from farm.models import User
from jobs.models import Job, Print, PrinterPace
from jobs.states import JobStatus, PrintStatus
from tests.cast import Cast, as_, attempt, job

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return Cast()


def action(user: User, room: str, name: str, *rows: Any) -> str:
    chosen = {"action": name, "_selected_action": [str(row.pk) for row in rows]}
    answer = as_(user).post(f"/admin/jobs/{room}/", chosen, follow=True)
    return " ".join(str(message) for message in answer.context.get("messages", []))


def status(row: Any) -> str:
    row.refresh_from_db()
    return str(row.status)


def test_rows_are_only_to_be_read(cast: Cast) -> None:
    row = job(cast.sam)
    live = attempt(row, cast.anvil)
    client = as_(cast.ada)
    for path in (f"job/{row.pk}", f"print/{live.pk}", f"jobevent/{row.events.get().pk}"):
        assert client.get(f"/admin/jobs/{path}/change/").status_code == 200
        assert client.post(f"/admin/jobs/{path}/change/", {"status": "completed"}).status_code == 403
        assert client.post(f"/admin/jobs/{path}/delete/", {"post": "yes"}).status_code == 403
    assert (status(row), status(live)) == ("active", "printing")
    assert client.get("/admin/jobs/job/add/").status_code == 403


def test_cancelling_goes_through_the_service_and_says_what_could_not_be(cast: Cast) -> None:
    waiting, done = job(cast.sam), job(cast.tina, JobStatus.COMPLETED, name="done.stl")
    told = action(cast.ada, "job", "cancel", waiting, done)
    assert "1 cancelled" in told
    assert "done.stl: This job is completed already." in told
    assert (status(waiting), status(done)) == ("cancelled", "completed")
    assert waiting.message == "Cancelled by Ada."
    assert waiting.events.filter(new="cancelled", actor=cast.ada).exists()


def test_what_awaits_approval_is_approved_and_rejected(cast: Cast) -> None:
    good, bad = job(cast.sam, JobStatus.AWAITING_APPROVAL), job(cast.tina, JobStatus.AWAITING_APPROVAL)
    action(cast.ada, "job", "approve", good)
    action(cast.ada, "job", "reject", bad)
    assert (status(good), status(bad)) == ("ready", "failed")


def test_a_hold_is_ended(cast: Cast) -> None:
    held = job(cast.sam, hold=True)
    action(cast.ada, "job", "release", held)
    held.refresh_from_db()
    assert not held.hold


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("it_completed", "completed"), ("it_failed", "failed"), ("it_was_cancelled", "cancelled")],
)
def test_a_print_that_nobody_followed_is_decided(cast: Cast, name: str, outcome: str) -> None:
    lost = attempt(job(cast.sam), cast.anvil, PrintStatus.UNKNOWN)
    assert "1 decided" in action(cast.ada, "print", name, lost)
    assert (status(lost), lost.message) == (outcome, "Decided by Ada.")


def test_a_print_that_is_followed_is_not_decided(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    assert "The printer is being followed" in action(cast.ada, "print", "it_failed", live)
    assert status(live) == "printing"


def test_operators_and_students_have_no_actions(cast: Cast) -> None:
    row = job(cast.sam)
    for user in (cast.olivia, cast.sam):
        action(user, "job", "cancel", row)
    assert status(row) == "ready"
    assert (Job.objects.count(), Print.objects.count()) == (1, 0)


def test_staff_see_what_printers_really_take(cast: Cast) -> None:
    PrinterPace.objects.create(printer=cast.anvil, profile=cast.anvil.profile, ratio=1.257, prints=12)
    shown = as_(cast.ada).get("/admin/jobs/printerpace/").content.decode()
    assert "126 %" in shown
    assert as_(cast.ada).get("/admin/jobs/printerpace/add/").status_code == 403
    assert as_(cast.ada).post(f"/admin/printers/printer/{cast.anvil.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not PrinterPace.objects.exists(), "with the printer"
