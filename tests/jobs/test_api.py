"""Jobs and prints as programs see them: asked for, watched, taken back, approved, remembered."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from pytest_django import Settings

from farm.models import User
from jobs import access
from jobs.models import Job, Print
from jobs.services import make_ready
from jobs.states import JobStatus, PrintStatus
from printers.drivers.base import LiveJob, PrinterStatus
from printers.models import Command, Role
from slicing.models import Gcode, PrinterProfile
from tests.api import api, ok, refused
from tests.cast import Cast, attempt, falls_silent, gcode, grant, job, model, person, printer, says
from tests.work import Work, committed

pytestmark = pytest.mark.django_db


def submit(user: User, **body: Any) -> Any:
    return api(user).post("/api/jobs/", body)


def at(of: Job, *more: str) -> str:
    return "/".join(["/api/jobs", str(of.pk), *more, ""])


def own_gcode(user: User, on: Any) -> Gcode:
    row = gcode(on)
    row.owner = user
    row.save()
    return row


# -- asking for one
FIELDS = {
    "id", "name", "person", "status", "message", "model", "gcode", "printer", "material", "quality",
    "placement", "settings", "copies", "printed", "hold", "cancel_requested", "slice_progress", "time_s", "filament_mm",
    "created_at", "ended_at", "prints",
}  # fmt: skip


def test_a_job_for_a_model_begins_to_be_prepared(cast: Cast, work: Work) -> None:
    part = model(cast.sam)
    with committed():
        made = ok(submit(cast.sam, model=str(part.pk)), 201)
    assert set(made) >= FIELDS
    assert (made["status"], made["model"], made["printer"], made["copies"], made["hold"], made["settings"]) == (
        "preparing", str(part.pk), None, 1, False, {},
    )  # fmt: skip
    assert (made["name"], made["person"], made["prints"]) == ("bracket.stl", "Sam", [])
    assert work.waiting == [("jobs.slice", made["id"])]
    assert ok(api(cast.sam).get(f"/api/jobs/{made['id']}/")) == made


def test_a_job_may_name_a_printer_copies_hold_and_settings(cast: Cast) -> None:
    made = ok(
        submit(
            cast.sam,
            model=str(model(cast.sam).pk),
            printer=str(cast.anvil.pk),
            copies=3,
            hold=True,
            settings={"layer_height": 0.1, "walls": 3},
        ),
        201,
    )
    assert (made["printer"], made["copies"], made["hold"]) == (str(cast.anvil.pk), 3, True)
    assert made["settings"] == {"layer_height": 0.1, "walls": 3}


def test_a_job_for_uploaded_gcode_is_ready_at_once(cast: Cast) -> None:
    code = own_gcode(cast.olivia, cast.anvil)
    made = ok(submit(cast.olivia, gcode=str(code.pk), printer=str(cast.anvil.pk)), 201)
    assert (made["status"], made["gcode"], made["model"]) == ("ready", str(code.pk), None)
    assert (made["time_s"], made["filament_mm"]) == (3900.0, 1500.0)


def test_what_only_the_farm_may_say_is_not_taken_in(cast: Cast) -> None:
    given = {"owner": str(cast.tina.pk), "status": "ready", "id": str(uuid4()), "message": "x", "name": "../x",
             "cancel_requested": True, "claims": 9, "slice_progress": 1, "approved": True}  # fmt: skip
    made = Job.objects.get(pk=ok(submit(cast.sam, model=str(model(cast.sam).pk), **given), 201)["id"])
    assert (made.owner, made.status, made.name) == (cast.sam, "preparing", "bracket.stl")
    assert (made.cancel_requested, made.claims, made.slice_progress) == (False, 0, 0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model"),
        ({"model": None, "gcode": None}, "model"),
        ({"model": "mine"}, "model"),
        ({"model": ["a"]}, "model"),
        ({"printer": "any"}, "printer"),
        ({"copies": 0}, "copies"),
        ({"copies": 101}, "copies"),
        ({"copies": 1.5}, "copies"),
        ({"copies": 10**30}, "copies"),
        ({"copies": "many"}, "copies"),
        ({"copies": None}, "copies"),
        ({"hold": "perhaps"}, "hold"),
        ({"settings": []}, "settings"),
        ({"settings": None}, "settings"),
        ({"settings": {"warp": 9}}, "settings"),
        ({"settings": {"layer_height": "thin"}}, "settings"),
        ({"settings": {"layer_height": None}}, "settings"),
        ({"settings": {"layer_height": True}}, "settings"),
        ({"settings": {"layer_height": -1}}, "settings"),
        ({"settings": {"layer_height": 10**300}}, "settings"),
        ({"settings": {"walls": 2.5}}, "settings"),
        ({"settings": {"infill_pattern": ["grid"]}}, "settings"),
        ({"settings": {"nozzle_temperature": 440}}, "settings"),
        ({"settings": {"bed_temperature": 149}}, "settings"),
        ({"settings": {"nozzle_diameter": 0.8}}, "settings"),
        ({"settings": {"start_gcode": "M500"}}, "settings"),
        ({"material": "PLA"}, "material"),
        ({"quality": "fine"}, "quality"),
    ],
)
def test_what_makes_no_job_is_refused_by_its_field_and_stores_nothing(
    cast: Cast, body: dict[str, Any], field: str
) -> None:
    given = body if "model" in body or not body else {"model": str(model(cast.sam).pk), **body}
    extra = refused(submit(cast.sam, **given), 422, "invalid")["extra"]
    assert field in (extra.get("field"), *extra.get("fields", {}))
    assert not Job.objects.exists()


def test_a_model_and_gcode_at_once_are_one_too_many(cast: Cast) -> None:
    both = {"model": str(model(cast.olivia).pk), "gcode": str(own_gcode(cast.olivia, cast.anvil).pk)}
    refused(submit(cast.olivia, **both), 422)
    refused(submit(cast.olivia, gcode=both["gcode"], settings={"walls": 3}), 422)
    assert not Job.objects.exists()


def test_other_peoples_models_and_gcodes_are_not_there(cast: Cast) -> None:
    refused(submit(cast.tina, model=str(model(cast.sam).pk)), 404, "not_found")
    refused(submit(cast.tina, gcode=str(own_gcode(cast.olivia, cast.anvil).pk)), 404, "not_found")
    sliced = gcode(cast.anvil)  # for somebody's model: shared by the farm, nobody's to name
    refused(submit(cast.ada, gcode=str(sliced.pk)), 404, "not_found")
    refused(submit(cast.tina, model=str(uuid4())), 404, "not_found")
    assert not Job.objects.exists()


def test_one_prints_only_where_one_may(cast: Cast) -> None:
    guest = person("guest")
    grant(guest, cast.anvil, Role.VIEW)
    refused(submit(guest, model=str(model(guest).pk), printer=str(cast.anvil.pk)), 403, "forbidden")
    refused(submit(guest, model=str(model(guest).pk)), 403, "no_printer")
    refused(submit(cast.sam, model=str(model(cast.sam).pk), printer=str(cast.cellar.pk)), 404, "not_found")
    refused(submit(cast.mallory, model=str(model(cast.mallory).pk)), 403, "no_printer")
    assert not Job.objects.exists()


def test_a_part_larger_than_the_bed_is_refused_with_both_sizes(cast: Cast) -> None:
    tall = model(cast.sam, size=(40, 30, 260))
    for printer_id in (None, str(cast.anvil.pk)):
        body = refused(submit(cast.sam, model=str(tall.pk), printer=printer_id), 422, "too_large_for_bed")
        assert "40 x 30 x 260 mm" in body["message"]
        assert "220 x 220 x 250 mm" in body["message"]
    assert not Job.objects.exists()


def test_gcode_for_another_machine_or_an_older_revision_is_refused(cast: Cast) -> None:
    code = own_gcode(cast.olivia, cast.anvil)
    PrinterProfile.objects.filter(pk=cast.anvil.profile_id).update(revision=2)
    refused(submit(cast.olivia, gcode=str(code.pk), printer=str(cast.anvil.pk)), 422, "other_profile")
    assert not Job.objects.exists()


# -- seeing them
def test_people_see_their_own_jobs_and_staff_see_all(cast: Cast) -> None:
    mine, hers = job(cast.sam), job(cast.tina)

    def seen(user: User, query: str = "") -> set[str]:
        return {row["id"] for row in ok(api(user).get(f"/api/jobs/{query}"))["results"]}

    assert seen(cast.sam) == {str(mine.pk)}
    assert seen(cast.olivia) == set()
    assert seen(cast.mallory) == set()
    assert seen(cast.ada) == {str(mine.pk), str(hers.pk)}
    assert seen(cast.ada, f"?owner={cast.tina.pk}") == {str(hers.pk)}
    assert seen(cast.sam, f"?owner={cast.tina.pk}") == set()


def test_jobs_are_filtered_by_status_printer_and_hold(cast: Cast) -> None:
    held = job(cast.sam, hold=True, printer=cast.anvil)
    ended = job(cast.sam, JobStatus.FAILED)
    for query, found in (
        ("status=failed", ended), ("hold=true", held), (f"printer={cast.anvil.pk}", held)
    ):  # fmt: skip
        assert [row["id"] for row in ok(api(cast.sam).get(f"/api/jobs/?{query}"))["results"]] == [str(found.pk)]


STRANGERS = ("tina", "olivia", "mallory")


@pytest.mark.parametrize("who", STRANGERS)
def test_somebody_elses_job_is_not_there(cast: Cast, who: str) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    client = api(getattr(cast, who))
    for path in (at(live.job), at(live.job, "events"), at(live.job, "gcode"), f"/api/prints/{live.pk}/"):
        refused(client.get(path), 404, "not_found")
    for action in ("cancel", "start", "approve", "reject"):
        refused(client.post(at(live.job, action)), 404, "not_found")
    refused(client.post(f"/api/prints/{live.pk}/decide/", {"outcome": "failed"}), 404, "not_found")
    live.job.refresh_from_db()
    assert (live.job.status, live.job.cancel_requested) == ("active", False)


def test_with_one_copy_a_job_shows_its_prints_status_and_with_several_counts(cast: Cast) -> None:
    one, many = job(cast.sam), job(cast.tina, copies=3)
    attempt(one, cast.anvil, PrintStatus.PAUSED)
    attempt(many, cast.cellar, PrintStatus.COMPLETED)
    attempt(many, cast.cellar, PrintStatus.PRINTING)
    assert ok(api(cast.sam).get(at(one)))["status"] == "paused"
    found = ok(api(cast.tina).get(at(many)))
    assert (found["status"], found["copies"], found["printed"], len(found["prints"])) == ("active", 3, 1, 2)


def test_a_list_of_jobs_costs_the_same_for_many(cast: Cast, django_assert_max_num_queries: Any) -> None:
    for _ in range(8):
        attempt(job(cast.sam), cast.anvil, PrintStatus.COMPLETED)
    client = api(cast.sam)
    for path in ("/api/jobs/", "/api/prints/"):
        with django_assert_max_num_queries(12):
            assert len(ok(client.get(path))["results"]) == 8


def test_what_happened_is_told_in_order(cast: Cast, work: Work) -> None:
    made = ok(submit(cast.sam, model=str(model(cast.sam).pk)), 201)
    ok(api(cast.ada).post(f"/api/jobs/{made['id']}/cancel/"))
    page = ok(api(cast.sam).get(f"/api/jobs/{made['id']}/events/"))
    assert list(page) == ["next", "previous", "results"]
    told = [(event["old"], event["new"], event["person"]) for event in page["results"]]
    assert told == [("", "preparing", "Sam"), ("preparing", "cancelled", "Ada")]
    assert set(page["results"][0]) == {"print", "old", "new", "cause", "message", "person", "at"}
    first = ok(api(cast.sam).get(f"/api/jobs/{made['id']}/events/?page_size=1"))
    assert [event["new"] for event in ok(api(cast.sam).get(first["next"]))["results"]] == ["cancelled"]


# -- taking back, starting
def test_a_waiting_job_is_cancelled_at_once_and_twice_is_harmless(cast: Cast) -> None:
    waits = job(cast.sam)
    for _ in range(2):
        found = ok(api(cast.sam).post(at(waits, "cancel")))
        assert (found["status"], found["message"]) == ("cancelled", "Cancelled by Sam.")


def test_a_printing_job_is_cancelled_by_a_command_to_its_printer(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    found = ok(api(cast.sam).post(at(live.job, "cancel")))
    assert (found["status"], found["cancel_requested"]) == ("printing", True)
    asked = Command.objects.get()
    assert (asked.kind, asked.print_id, asked.by, asked.printer) == ("cancel", live.pk, cast.sam, cast.anvil)


def test_a_job_that_ended_is_not_cancelled(cast: Cast) -> None:
    body = refused(api(cast.sam).post(at(job(cast.sam, JobStatus.COMPLETED), "cancel")), 409, "not_possible")
    assert body["extra"] == {"status": "completed"}


def test_a_held_job_is_started_by_its_owner_once(cast: Cast, work: Work) -> None:
    held = job(cast.sam, hold=True)
    with committed():
        assert ok(api(cast.sam).post(at(held, "start")))["hold"] is False
    assert work.names() == ["jobs.dispatch"]
    refused(api(cast.sam).post(at(held, "start")), 409, "not_held")
    refused(api(cast.sam).post(at(job(cast.sam, JobStatus.CANCELLED, hold=True), "start")), 409, "not_possible")


# -- approving
@pytest.fixture
def waiting(cast: Cast, settings: Settings) -> Job:
    """Sam's job in a lab that approves."""
    settings.FARM_APPROVAL = True
    made = job(cast.sam, JobStatus.PREPARING)
    make_ready(made)
    assert made.status == JobStatus.AWAITING_APPROVAL
    return made


def test_staff_let_a_job_into_the_queue(cast: Cast, waiting: Job) -> None:
    assert ok(api(cast.ada).post(at(waiting, "approve")))["status"] == "ready"
    refused(api(cast.ada).post(at(waiting, "approve")), 409)


def test_staff_turn_a_job_down_and_say_why(cast: Cast, waiting: Job) -> None:
    found = ok(api(cast.ada).post(at(waiting, "reject"), {"reason": "Not in this lab."}))
    assert (found["status"], found["message"]) == ("failed", "Not approved: Not in this lab.")
    refused(api(cast.ada).post(at(waiting, "reject"), {"reason": "Again."}), 409)


@pytest.mark.parametrize("reason", ["a\x00b", "two\nlines", "x" * 301, {"no": 1}, ["no"]])
def test_a_reason_is_one_line(cast: Cast, waiting: Job, reason: Any) -> None:
    refused(api(cast.ada).post(at(waiting, "reject"), {"reason": reason}), 422, "invalid")
    waiting.refresh_from_db()
    assert waiting.status == JobStatus.AWAITING_APPROVAL


def test_nobody_approves_the_own_job(cast: Cast, waiting: Job) -> None:
    for action in ("approve", "reject"):
        refused(api(cast.sam).post(at(waiting, action)), 403, "forbidden")
    waiting.refresh_from_db()
    assert waiting.status == JobStatus.AWAITING_APPROVAL


# -- the history
def test_a_print_says_who_what_where_when_and_how_it_ended(cast: Cast) -> None:
    done = attempt(job(cast.sam), cast.anvil, PrintStatus.COMPLETED, filament_mm=1500.0, duration_s=3600.0, progress=1)
    row = ok(api(cast.sam).get(f"/api/prints/{done.pk}/"))
    when = {key: row.pop(key) for key in ("created_at", "started_at", "ended_at")}
    assert row == {
        "id": str(done.pk), "job": str(done.job_id), "person": "Sam", "file": "bracket.stl",
        "printer": str(cast.anvil.pk), "printer_name": "Anvil", "status": "completed", "message": "", "progress": 1.0,
        "filament_mm": 1500.0, "filament_estimated": False, "duration_s": 3600.0,
    }  # fmt: skip
    assert when["created_at"]
    assert when["started_at"]


def test_the_history_is_ones_own_newest_first_and_everybodys_for_staff(cast: Cast) -> None:
    rows = [attempt(job(user), cast.anvil, PrintStatus.COMPLETED) for user in (cast.sam, cast.tina, cast.sam)]

    def seen(user: User, query: str = "") -> list[str]:
        return [row["id"] for row in ok(api(user).get(f"/api/prints/{query}"))["results"]]

    assert seen(cast.sam) == [str(rows[2].pk), str(rows[0].pk)]
    assert seen(cast.mallory) == []
    assert seen(cast.ada) == [str(row.pk) for row in reversed(rows)]
    assert seen(cast.ada, f"?job={rows[1].job_id}") == [str(rows[1].pk)]
    assert seen(cast.ada, f"?printer={cast.cellar.pk}") == []
    assert seen(cast.ada, "?status=failed") == []


def test_staff_decide_how_a_print_ended_that_nobody_followed(cast: Cast, work: Work) -> None:
    lost = attempt(job(cast.sam), cast.anvil, PrintStatus.UNKNOWN)
    path = f"/api/prints/{lost.pk}/decide/"
    refused(api(cast.sam).post(path, {"outcome": "completed"}), 403)
    for outcome in ("printing", "unknown", "", None, 7):
        refused(api(cast.ada).post(path, {"outcome": outcome}), 422)
    assert ok(api(cast.ada).post(path, {"outcome": "failed"}))["status"] == "failed"
    refused(api(cast.ada).post(path, {"outcome": "completed"}), 409)
    assert ok(api(cast.sam).get(at(lost.job)))["status"] == "failed"


def test_a_print_that_is_followed_is_not_decided(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    refused(api(cast.ada).post(f"/api/prints/{live.pk}/decide/", {"outcome": "failed"}), 409)
    falls_silent(cast.anvil)
    ok(api(cast.ada).post(f"/api/prints/{live.pk}/decide/", {"outcome": "failed"}))


# -- the file
def fetched(user: User, path: str) -> tuple[Any, bytes]:
    """As the web process sends it: in pieces."""

    async def fetch() -> tuple[Any, bytes]:
        client = AsyncClient()
        await client.aforce_login(user)
        answer: Any = await client.get(path)
        if not answer.streaming:
            return answer, answer.content
        pieces: Any = answer.streaming_content
        return answer, b"".join([piece async for piece in pieces])

    return async_to_sync(fetch)()


def test_gcode_is_downloaded_under_its_name_and_never_shown(cast: Cast) -> None:
    made = job(cast.sam, gcode=gcode(cast.anvil, "<b>é</b>.gcode"))
    answer, content = fetched(cast.sam, at(made, "gcode"))
    assert (answer.status_code, content) == (200, b"G28\n")
    assert answer["Content-Disposition"].startswith("attachment; filename*=utf-8''%3Cb%3E")
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Length"] == "4"


def test_gcode_that_is_not_there_yet_is_said_to_be_missing(cast: Cast) -> None:
    refused(api(cast.sam).get(at(job(cast.sam), "gcode")), 404, "not_sliced")


def test_operators_see_who_prints_on_their_printer_in_its_state_only(cast: Cast) -> None:
    """The rows of others' jobs stay theirs; what is on the machine now is the operator's to know."""
    live = attempt(job(cast.sam), cast.anvil)
    assert list(access.visible(cast.olivia)) == []
    assert ok(api(cast.olivia).get(f"/api/printers/{cast.anvil.pk}/state/"))["job"]["id"] == str(live.job_id)


def test_every_copy_is_a_print_of_its_own(cast: Cast) -> None:
    many = job(cast.sam, copies=2)
    second = printer("Bellows", by=cast.ada)
    attempt(many, cast.anvil)
    attempt(many, second)
    says(second, PrinterStatus.PRINTING, job=LiveJob(file="x", progress=0.1))
    assert {row["printer_name"] for row in ok(api(cast.sam).get(at(many)))["prints"]} == {"Anvil", "Bellows"}
    assert Print.objects.count() == 2
