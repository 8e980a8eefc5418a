"""One deed on many printers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from farm.models import User
from jobs.models import Print
from printers import many
from printers.models import Command, Printer, Role
from printers.services import bed_is_clear
from tests.api import api, ok, refused
from tests.cast import Cast, as_, attempt, grant, htmx, job, printer

pytestmark = pytest.mark.django_db


def act(user: User, deed: str, *printers: str, **form: Any) -> Any:
    return as_(user).post("/printers/actions/", {"deed": deed, "printer": printers, **form}, headers=htmx("notices"))


def bed(of: Printer, n: int = 1) -> str:
    return f"{of.pk} bed {n}"


def live(cast: Cast, on: Printer) -> Print:
    return attempt(job(cast.sam), on)


def test_beds_are_cleared_each_by_the_number_that_was_seen(cast: Cast) -> None:
    zinc = printer("Zinc", by=cast.ada)
    Printer.objects.filter(pk=zinc.pk).update(bed=2)  # something was printed since
    shown = act(cast.ada, "clear_bed", bed(cast.anvil), bed(cast.cellar), bed(zinc)).content.decode()
    assert "2 printers cleared." in shown
    assert "not done on 1 printer<" in shown
    assert "<b>Zinc</b> The bed has changed since you looked." in shown
    zinc.refresh_from_db()
    assert [bed_is_clear(row) for row in (cast.anvil, cast.cellar, zinc)] == [True, True, False]


@pytest.mark.parametrize("deed", ["pause", "cancel"])
def test_prints_are_commanded_each_by_the_print_that_was_meant(cast: Cast, deed: str) -> None:
    first, second = live(cast, cast.anvil), live(cast, cast.cellar)
    Print.objects.filter(pk=second.pk).update(status="completed")
    shown = act(cast.ada, deed, f"{cast.anvil.pk} print {first.pk}", f"{cast.cellar.pk} print {second.pk}").content
    assert b"<b>Cellar</b> That print is no longer on this printer." in shown
    asked = Command.objects.get()
    assert (asked.kind, asked.print_id, asked.by) == (deed, first.pk, cast.ada)


def test_maintenance_begins_with_a_reason_and_ends(cast: Cast) -> None:
    both = (str(cast.anvil.pk), str(cast.cellar.pk))
    assert act(cast.ada, "begin_maintenance", *both, reason=" ").status_code == 422
    assert not Printer.objects.exclude(maintenance="").exists()
    assert "2 printers in maintenance." in act(cast.ada, "begin_maintenance", *both, reason="Cleaning").content.decode()
    assert set(Printer.objects.values_list("maintenance", flat=True)) == {"Cleaning"}
    assert "2 printers back in service." in act(cast.ada, "end_maintenance", *both).content.decode()
    assert not Printer.objects.exclude(maintenance="").exists()


@pytest.mark.parametrize("deed", list(many.DEEDS))
def test_each_printer_asks_for_its_own_right(cast: Cast, deed: str) -> None:
    """Olivia operates Anvil, may look at Zinc, and knows of no Cellar."""
    zinc = printer("Zinc", by=cast.ada)
    grant(cast.olivia, zinc, Role.VIEW)
    seen = {
        row.pk: f"print {live(cast, row).pk}" if deed in ("pause", "resume", "cancel") else "bed 1"
        for row in (zinc, cast.cellar)
    }
    before = list(Printer.objects.values())
    shown = act(cast.olivia, deed, *(f"{pk} {what}" for pk, what in seen.items()), str(uuid4()), "x", reason="Mine")
    assert shown.status_code == 200
    told = shown.content.decode()
    assert "not done on 4 printers" in told
    assert "<b>Zinc</b> This needs the right to operate Zinc." in told
    assert told.count("There is no such printer, or you may not see it.") == 3
    assert "Cellar" not in told
    assert list(Printer.objects.values()) == before
    assert not Command.objects.exists()


@pytest.mark.parametrize(
    ("deed", "printers"),
    [("dance", ["x"]), ("start", ["x"]), ("pause", []), ("clear_bed", ["x bed one"]), ("pause", ["x print 7"])],
)
def test_what_makes_no_sense_is_refused_as_a_whole(cast: Cast, deed: str, printers: list[str]) -> None:
    answer = act(cast.ada, deed, *printers)
    assert (answer.status_code, answer["HX-Retarget"]) == (422, "#notices")


def test_a_bed_that_nobody_saw_and_a_print_that_nobody_meant_are_refused(cast: Cast) -> None:
    live(cast, cast.cellar)
    assert b"Say which bed was seen empty" in act(cast.ada, "clear_bed", str(cast.anvil.pk)).content
    assert b"Say which print is meant" in act(cast.ada, "cancel", str(cast.cellar.pk)).content


def test_programs_are_told_what_became_of_each(cast: Cast) -> None:
    printers = [{"printer": str(row.pk), "bed": n} for row, n in ((cast.anvil, 1), (cast.cellar, 2))]
    asked = {"action": "clear_bed", "printers": printers}
    assert ok(api(cast.ada).post("/api/printers/actions/", asked))["results"] == [
        {"printer": str(cast.anvil.pk), "name": "Anvil", "done": True, "code": "", "message": ""},
        {
            "printer": str(cast.cellar.pk),
            "name": "Cellar",
            "done": False,
            "code": "bed_changed",
            "message": "The bed has changed since you looked. Look again.",
        },
    ]
    assert bed_is_clear(cast.anvil)


def test_a_stranger_learns_nothing_from_the_api(cast: Cast) -> None:
    asked = {"action": "end_maintenance", "printers": [{"printer": str(cast.anvil.pk)}, {"printer": "x"}]}
    seen, made_up = ok(api(cast.mallory).post("/api/printers/actions/", asked))["results"]
    assert (seen["name"], seen["done"], seen["code"]) == ("", False, "not_found")
    assert {**seen, "printer": "x"} == made_up


@pytest.mark.parametrize("change", [{"action": "dance"}, {"printers": []}, {"printers": [{"bed": 1}]}, {"printers": 1}])
def test_the_api_refuses_what_makes_no_sense(cast: Cast, change: dict[str, Any]) -> None:
    asked = {"action": "clear_bed", "printers": [{"printer": str(cast.anvil.pk), "bed": 1}], **change}
    refused(api(cast.ada).post("/api/printers/actions/", asked), 422)
    assert not bed_is_clear(cast.anvil)


def test_strangers_and_links_do_nothing(cast: Cast, client: Any) -> None:
    assert client.post("/printers/actions/", {"deed": "clear_bed", "printer": bed(cast.anvil)}).status_code == 302
    assert as_(cast.ada).get("/printers/actions/").status_code == 405
    forged = as_(cast.ada)
    forged.handler.enforce_csrf_checks = True
    assert forged.post("/printers/actions/", {"deed": "clear_bed", "printer": bed(cast.anvil)}).status_code == 403
    assert not bed_is_clear(cast.anvil)
