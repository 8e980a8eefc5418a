from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from farm.models import User
from jobs import history, queues
from jobs.models import Job, Print
from jobs.services import advance
from jobs.states import JobStatus, PrintStatus
from printers import services as printers
from printers.models import Role
from tests.cast import Cast, as_, attempt, gcode, grant, job, model, person, printer

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return Cast()


def page(user: User, path: str) -> str:
    answer = as_(user).get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    """What a reader sees, roughly."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split()).replace(" ,", ",")


# -- the queue
def test_the_queue_gives_names_only_to_owners_operators_and_staff(cast: Cast) -> None:
    job(cast.sam, name="sams-part.stl", printer=cast.anvil, message="Waiting: Anvil is offline.")
    for user in (cast.sam, cast.olivia, cast.ada):
        shown = page(user, "/queue/")
        assert "sams-part.stl" in shown
        assert "Waiting: Anvil is offline." in shown
    shown = page(cast.tina, "/queue/")
    assert "Another person's job" in shown
    for word in ("sams-part", "Sam", "is offline"):
        assert word not in shown
    assert "Another person's job" not in page(cast.mallory, "/queue/")


def test_the_queue_gives_names_of_live_prints_likewise(cast: Cast) -> None:
    attempt(job(cast.sam, name="sams-part.stl"), cast.anvil)
    assert "sams-part.stl" in page(cast.olivia, "/queue/")
    shown = words(page(cast.tina, "/queue/"))
    assert "Another person's job Anvil Printing 42 %" in shown
    assert "sams-part" not in shown
    assert "Anvil" not in page(cast.mallory, "/queue/")


def test_the_queue_hides_jobs_for_printers_that_one_may_not_see(cast: Cast) -> None:
    job(cast.ada, printer=cast.cellar)
    assert "Nothing waits" in page(cast.sam, "/queue/")
    stranger = person("stranger")
    grant(stranger, cast.cellar, Role.SUBMIT)
    job(stranger)  # for any printer: only Cellar can be meant
    assert "Nothing waits" in page(cast.sam, "/queue/")
    job(cast.tina)
    assert "Another person's job" in page(cast.sam, "/queue/")


def test_the_queue_is_in_order_of_submission_with_what_is_missing(cast: Cast) -> None:
    first = job(cast.sam, name="first.stl", copies=3)
    attempt(first, cast.anvil)
    job(cast.sam, JobStatus.PREPARING, name="second.stl")
    job(cast.sam, name="third.stl", hold=True)
    shown = words(page(cast.sam, "/queue/").split(">Waiting</h2>")[1])
    assert re.search(
        r"Place 1 first.stl [^W]*2 copies .*Place 2 second.stl .*Slicing.* Place 3 third.stl .*On hold", shown
    )


def test_what_awaits_approval_is_listed_for_staff_and_its_owner(cast: Cast) -> None:
    row = job(cast.sam, JobStatus.AWAITING_APPROVAL)
    assert f"/jobs/{row.pk}/approve/" in page(cast.ada, "/queue/")
    assert "Awaits approval" in page(cast.sam, "/queue/")
    assert "approve/" not in page(cast.sam, "/queue/")
    assert "Awaits approval" not in page(cast.tina, "/queue/")


# -- the part of a printer's page
def test_a_printers_page_tells_its_queue_and_to_operators_its_history(cast: Cast) -> None:
    job(cast.sam, name="next.stl", printer=cast.anvil)
    job(cast.tina, name="anywhere.stl")
    job(cast.tina, model=model(cast.tina, "giant.stl", size=(900, 30, 20)))
    job(cast.ada, name="elsewhere.stl", printer=cast.cellar)
    attempt(job(cast.tina, JobStatus.COMPLETED, name="past.stl"), cast.anvil, PrintStatus.COMPLETED)
    path = f"/printers/{cast.anvil.pk}/jobs/"
    shown = page(cast.olivia, path)
    assert shown.index("next.stl") < shown.index("Another person") < shown.index("past.stl")
    assert "Takes any printer that fits" in words(shown)
    for name in ("anywhere.stl", "giant.stl", "elsewhere.stl"):
        assert name not in shown
    shown = page(cast.tina, path)
    assert shown.index("Another person") < shown.index("anywhere.stl")
    assert "giant.stl" not in shown
    assert "next.stl" not in shown
    assert "past.stl" not in shown
    assert as_(cast.mallory).get(path).status_code == 404


def test_a_long_queue_and_a_long_history_are_cut_and_say_so(cast: Cast) -> None:
    for number in range(14):
        job(cast.sam, name=f"next-{number}.stl")
        attempt(job(cast.sam, JobStatus.COMPLETED, name=f"past-{number}.stl"), cast.anvil, PrintStatus.COMPLETED)
    path = f"/printers/{cast.anvil.pk}/jobs/"
    shown = page(cast.ada, path)
    assert "2 more wait behind these" in words(shown)
    assert "next-0.stl" in shown
    assert "next-12.stl" not in shown
    assert len(set(re.findall(r"past-\d+", shown))) == 8
    assert "?prints=40" in shown
    assert len(set(re.findall(r"past-\d+", page(cast.ada, f"{path}?prints=40")))) == 14


# -- the history
def test_the_history_is_ones_own_and_for_staff_everybodys_on_demand(cast: Cast) -> None:
    for user in (cast.sam, cast.tina, cast.ada):
        row = job(user, JobStatus.COMPLETED, name=f"of-{user.username}.stl")
        attempt(row, cast.cellar, PrintStatus.COMPLETED, duration_s=3725.0, filament_mm=1580.0)
    shown = page(cast.sam, "/prints/?who=all")
    assert "of-sam.stl" in shown
    assert "of-tina.stl" not in shown
    for text in ("Cellar", "1 h 02 min", "1.58 m", "Completed"):
        assert text in shown
    assert "of-sam.stl" not in page(cast.ada, "/prints/")
    assert "of-sam.stl" in page(cast.ada, "/prints/?who=all")


def test_a_job_that_was_never_printed_is_in_its_owners_history_with_the_reason(cast: Cast) -> None:
    advance(job(cast.sam, JobStatus.PREPARING, name="torn.stl"), JobStatus.FAILED, message="It has no volume.")
    shown = page(cast.sam, "/prints/")
    assert "torn.stl" in shown
    assert "It has no volume." in shown
    assert "torn.stl" not in page(cast.tina, "/prints/")


def test_a_long_history_has_pages(cast: Cast) -> None:
    row = job(cast.sam, JobStatus.COMPLETED)
    for n in range(31):
        row.prints.create(printer_name=f"Printer {n}", status=PrintStatus.COMPLETED)
    assert "Older" in page(cast.sam, "/prints/")
    assert "Printer 0<" in page(cast.sam, "/prints/?page=2")
    assert "Newer" in page(cast.sam, "/prints/?page=999")


def test_the_history_survives_the_printer(cast: Cast) -> None:
    gone = printer("Gone", by=cast.ada)
    attempt(job(cast.sam, JobStatus.COMPLETED), gone, PrintStatus.COMPLETED)
    printers.remove_printer(gone)
    assert "Gone" in page(cast.sam, "/prints/")


# -- rows that are asked for anew
def rows_of(html: str) -> dict[str, str]:
    """Key -> the row, of everything with one."""
    return {found[1]: found[0] for found in re.finditer(r'<(?:li|tr) id="([^"]+)".*?</(?:li|tr)>', html, re.DOTALL)}


def test_only_rows_of_jobs_that_changed_are_written_anew(cast: Cast) -> None:
    first, second = job(cast.sam, name="first.stl"), job(cast.sam, name="second.stl")
    live = attempt(job(cast.sam, name="live.stl"), cast.anvil)
    shown = rows_of(page(cast.sam, f"/queue/?changed={second.pk}"))
    assert list(shown) == [f"p-{live.pk}", f"w-{first.pk}", f"w-{second.pk}"]  # all of them, in order
    assert "data-same" in shown[f"p-{live.pk}"]
    assert 'data-same data-place="1"' in shown[f"w-{first.pk}"]
    assert "second.stl" in shown[f"w-{second.pk}"]
    assert "<html" not in page(cast.sam, f"/queue/?changed={second.pk}")


def test_a_row_without_a_name_is_written_always_as_nobody_says_when_it_changes(cast: Cast) -> None:
    row = job(cast.sam, printer=cast.anvil)
    shown = page(cast.tina, "/queue/?changed=")
    assert "Another person's job" in words(shown)
    assert str(row.pk) not in shown


@pytest.mark.parametrize("asked", ["x", "1,2", ",".join(str(UUID(int=n)) for n in range(101))])
def test_whatever_cannot_be_understood_is_answered_with_every_row(cast: Cast, asked: str) -> None:
    job(cast.sam, name="first.stl")
    shown = page(cast.sam, f"/queue/?changed={asked}")
    assert "first.stl" in shown
    assert "data-same" not in shown


def long_queue(cast: Cast, count: int) -> None:
    """Of two people, some for any printer."""
    made = {user: model(user, f"{user.username}.stl") for user in (cast.sam, cast.tina)}
    code = gcode(cast.anvil)
    Job.objects.bulk_create(
        Job(owner=user, name=row.name, model=row, gcode=code, status=JobStatus.READY, printer=where)
        for n in range(count)
        for user, row in [list(made.items())[n % 2]]
        for where in [cast.anvil if n % 3 else None]
    )


def queries(user: User, path: str) -> int:
    client = as_(user)
    client.get(path)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert client.get(path).status_code == 200
    return len(asked)


def test_a_queue_of_five_hundred_costs_as_many_questions_as_one_of_ten(cast: Cast) -> None:
    everybody = (cast.sam, cast.olivia, cast.ada)
    long_queue(cast, 10)
    few = [queries(user, "/queue/") for user in everybody]
    long_queue(cast, 490)
    assert [queries(user, "/queue/") for user in everybody] == few
    assert max(few) <= 25


def test_a_long_queue_has_pages_and_places_go_on_counting(cast: Cast) -> None:
    long_queue(cast, 120)
    assert "1 to 50 of 120" in words(page(cast.ada, "/queue/"))
    shown = page(cast.ada, "/queue/?page=3")
    assert len(rows_of(shown)) == 20
    assert "Place 120 sam.stl" in words(shown) or "Place 120 tina.stl" in words(shown)
    assert "Behind them" not in shown


def test_own_jobs_can_be_seen_alone_at_their_place_in_the_whole_queue(cast: Cast) -> None:
    job(cast.tina, printer=cast.anvil)
    job(cast.sam, name="mine.stl", printer=cast.anvil)
    shown = words(page(cast.sam, "/queue/?who=me"))
    assert "Place 2 mine.stl Yours" in shown
    assert "Another person" not in shown
    assert "All 2 Mine 1" in shown


# -- deeds
def test_the_queue_offers_deeds_to_owners_and_staff_only(cast: Cast) -> None:
    row = job(cast.sam, printer=cast.anvil)
    for user in (cast.sam, cast.ada):
        shown = page(user, "/queue/")
        assert f'action="/jobs/{row.pk}/hold/"' in shown
        assert f'action="/jobs/{row.pk}/cancel/"' in shown
    for user in (cast.olivia, cast.tina):
        assert f"/jobs/{row.pk}/hold/" not in page(user, "/queue/")


def test_a_job_is_held_and_started_from_the_queue(cast: Cast) -> None:
    row = job(cast.sam)
    answer = as_(cast.sam).post(f"/jobs/{row.pk}/hold/", {"from": "queue"})
    assert (answer.status_code, answer["Location"]) == (302, "/queue/")
    row.refresh_from_db()
    assert row.hold
    assert f'action="/jobs/{row.pk}/start/"' in page(cast.sam, "/queue/")
    as_(cast.sam).post(f"/jobs/{row.pk}/start/", {"from": "queue"})
    row.refresh_from_db()
    assert not row.hold


@pytest.mark.parametrize("user", ["tina", "olivia", "mallory"])
def test_nobody_holds_the_job_of_another(cast: Cast, user: str) -> None:
    row = job(cast.sam, printer=cast.anvil)
    assert as_(getattr(cast, user)).post(f"/jobs/{row.pk}/hold/").status_code == 404
    assert as_(cast.ada).get(f"/jobs/{row.pk}/hold/").status_code == 405
    row.refresh_from_db()
    assert not row.hold


# -- what it says
def test_slicing_and_sending_show_how_far_they_are(cast: Cast) -> None:
    job(cast.sam, JobStatus.PREPARING, name="new.stl", slice_attempts=1, slice_progress=0.37)
    going = {"progress": 0.64, "message": "Sending to Anvil."}
    attempt(job(cast.sam, name="going.stl"), cast.anvil, PrintStatus.UPLOADING, **going)
    shown = words(page(cast.sam, "/queue/"))
    assert re.search(r"going.stl .*Sending to Anvil\. .*64 % sent", shown)
    assert re.search(r"new.stl .*Being cut into layers\. .*37 % sliced", shown)


def test_who_waits_knows_the_place_on_the_jobs_own_page_too(cast: Cast) -> None:
    job(cast.tina, printer=cast.anvil)
    row = job(cast.sam, printer=cast.anvil)
    assert "Place 2 of 2 in the queue" in words(page(cast.sam, f"/jobs/{row.pk}/"))
    assert "in the queue" not in words(page(cast.sam, f"/jobs/{job(cast.sam, JobStatus.COMPLETED).pk}/"))


def test_a_job_for_any_printer_waits_in_view_of_those_whose_printers_it_may_come_to(cast: Cast) -> None:
    row = job(cast.tina)
    places = queues.places_of(cast.sam, set())
    assert [(place.pk, place.n, place.named) for place in places] == [(row.pk, 1, False)]
    assert queues.places_of(cast.mallory, set()) == []


# -- looking for something in the history
def past(owner: User, name: str, status: PrintStatus = PrintStatus.COMPLETED, **fields: Any) -> Print:
    code = gcode(printer(f"Printer of {name}", by=owner))
    return Print.objects.create(
        job=job(owner, JobStatus(status), name=name, gcode=code), printer_name="Anvil", gcode=code, status=status,
        **{"filament_mm": 1500.0, "duration_s": 3600.0, **fields},
    )  # fmt: skip


def test_a_history_is_filtered_by_outcome_and_searched_by_words(cast: Cast) -> None:
    past(cast.sam, "left-hinge.stl")
    past(cast.sam, "right-hinge.stl", PrintStatus.FAILED)
    past(cast.sam, "vase.stl")
    failed = page(cast.sam, "/prints/?outcome=failed")
    assert "right-hinge.stl" in failed
    assert "left-hinge.stl" not in failed
    hinges = page(cast.sam, "/prints/?q=HINGE+anvil")
    assert "left-hinge.stl" in hinges
    assert "right-hinge.stl" in hinges
    assert "vase.stl" not in hinges
    assert "No print matches" in page(cast.sam, "/prints/?q=hinge+bellows")
    assert "outcome=failed&amp;q=hinge" in page(cast.sam, "/prints/?q=hinge")  # one filter does not forget the other


@pytest.mark.parametrize("asked", ["outcome=eaten", "outcome=", "q=%00", "page=x"])
def test_what_cannot_be_looked_for_is_not(cast: Cast, asked: str) -> None:
    past(cast.sam, "vase.stl")
    assert "vase.stl" in page(cast.sam, f"/prints/?{asked}")


def test_a_history_adds_up_what_is_shown(cast: Cast) -> None:
    past(cast.sam, "one.stl")
    past(cast.sam, "two.stl", PrintStatus.FAILED, filament_mm=500.0, duration_s=1800.0, filament_estimated=True)
    past(cast.tina, "theirs.stl")
    shown = words(page(cast.sam, "/prints/"))
    assert "Prints 2 Completed 1 Printed for 1 h 30 min Filament about 6.0 g 2.00 m" in shown
    assert "Prints 1 Completed 1 Printed for 1 h 00 min Filament 4.5 g 1.50 m" in words(
        page(cast.sam, "/prints/?outcome=completed")
    )


def test_filament_without_a_known_density_is_a_length(cast: Cast) -> None:
    made = past(cast.sam, "one.stl")
    made.gcode.filament_g = None  # type: ignore[union-attr]
    made.gcode.save()  # type: ignore[union-attr]
    assert history.totals(Print.objects.all())["grams"] is None
    assert history.grams_of(made) is None
    assert "Filament 1.50 m" in words(page(cast.sam, "/prints/"))


def test_an_estimate_is_called_one(cast: Cast) -> None:
    past(cast.sam, "one.stl", filament_estimated=True)
    assert "4.5 g 1.50 m estimated" in words(page(cast.sam, "/prints/"))


def test_the_history_offers_own_prints_again(cast: Cast) -> None:
    made = past(cast.sam, "one.stl")
    assert f'action="/jobs/{made.job_id}/again/"' in page(cast.sam, "/prints/")
    assert "/again/" not in page(cast.ada, "/prints/?who=all")  # the model is not theirs


def test_a_long_history_costs_as_many_questions_as_a_short_one(cast: Cast) -> None:
    row = job(cast.sam, JobStatus.COMPLETED, gcode=gcode(cast.anvil))
    Print.objects.bulk_create(
        Print(job=row, printer_name="Anvil", status="completed", gcode=row.gcode) for _ in range(3)
    )
    few = queries(cast.sam, "/prints/")
    Print.objects.bulk_create(
        Print(job=row, printer_name="Anvil", status="completed", gcode=row.gcode) for _ in range(30)
    )
    assert queries(cast.sam, "/prints/") == few
