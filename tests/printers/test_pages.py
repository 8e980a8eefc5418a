from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from farm.models import User
from printers.drivers.base import PrinterStatus
from printers.models import BedClear, Command, CommandKind, CommandStatus, Printer, Role
from printers.services import bed_is_clear
from tests.cast import KEY, Cast, as_, attempt, falls_silent, grant, htmx, job, person, printer, says

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return Cast()


def wall(user: User, query: str = "") -> str:
    answer = as_(user).get(f"/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def page(user: User, of: Printer) -> str:
    answer = as_(user).get(f"/printers/{of.pk}/")
    assert answer.status_code == 200
    return answer.content.decode()


# -- the wall
def test_it_asks_strangers_to_log_in(client: Any, cast: Cast) -> None:
    for path in ("/", f"/printers/{cast.anvil.pk}/", f"/printers/{cast.anvil.pk}/commands/"):
        answer = client.get(path)
        assert (answer.status_code, answer["Location"]) == (302, f"/login/?next={path}")


def test_the_wall_shows_only_printers_that_the_person_may_see(cast: Cast) -> None:
    assert "Anvil" in wall(cast.sam)
    assert "Cellar" not in wall(cast.sam)
    assert "Anvil" not in wall(cast.mallory)
    assert "Nobody has given you a printer yet" in wall(cast.mallory)
    assert "Cellar" in wall(cast.ada)


def test_the_wall_shows_state_temperatures_progress_and_the_time_of_the_end(cast: Cast) -> None:
    attempt(job(cast.sam), cast.anvil)
    shown = wall(cast.sam)
    for word in ("Printing", "bracket.stl", "42 %", "45 min", "210", "60", "Bench"):
        assert word in shown
    assert '<time data-f="ends" datetime="' in shown


def test_the_wall_tells_a_files_name_only_to_its_owner_and_operators(cast: Cast) -> None:
    attempt(job(cast.sam, name="secret-gift.stl"), cast.anvil)
    for user in (cast.sam, cast.olivia, cast.ada):
        assert "secret-gift.stl" in wall(user)
    shown = wall(cast.tina)
    assert "secret-gift" not in shown
    assert "Sam" not in shown
    assert "Another person&#x27;s print" in shown
    assert "42 %" in shown


def test_the_wall_begins_with_what_needs_attention(cast: Cast) -> None:
    says(cast.anvil, PrinterStatus.OFFLINE)
    printer("Zinc", by=cast.ada)  # its bed is not clear
    printer("Bellows", by=cast.ada, bed_clear=True)
    shown = wall(cast.ada)
    order = sorted(("Anvil", "Bellows", "Zinc"), key=lambda name: shown.index(f">{name}<"))
    assert order == ["Zinc", "Anvil", "Bellows"]


def test_of_those_that_wait_for_somebody_the_longest_comes_first(cast: Cast) -> None:
    hours = {"Anvil": 1, "Cellar": 3, "Zinc": 2}
    printer("Zinc", by=cast.ada)
    for name, ago in hours.items():
        Printer.objects.filter(name=name).update(bed_since=timezone.now() - timedelta(hours=ago))
    shown = wall(cast.ada)
    assert sorted(hours, key=lambda name: shown.index(f">{name}<")) == ["Cellar", "Zinc", "Anvil"]
    assert 'for <span data-f="waited">3 h 00 min</span>' in shown


def test_the_wall_tells_who_is_next_to_its_owner_and_operators_and_to_others_how_many_wait(cast: Cast) -> None:
    job(cast.sam, name="gift.stl", printer=cast.anvil)
    job(cast.sam, name="gift.stl", printer=cast.anvil)
    for user in (cast.sam, cast.olivia):
        assert "gift.stl (Sam) and 1 more" in wall(user)
    assert "2 waiting" in wall(cast.tina)
    assert "gift" not in wall(cast.tina)


def test_only_operators_can_select_and_only_who_may_print_can_drop_a_file(cast: Cast) -> None:
    guest = person("guest")
    grant(guest, cast.anvil, Role.VIEW)
    for user, selects, submits in ((guest, False, False), (cast.sam, False, True), (cast.olivia, True, True)):
        shown = wall(user)
        assert ("data-pick" in shown, 'id="many"' in shown) == (selects, selects)
        assert ("data-submits" in shown) is submits


def test_the_wall_hides_what_the_filter_leaves_out(cast: Cast) -> None:
    shown = wall(cast.sam, "?show=printing")
    card = shown[shown.index(f'id="card-{cast.anvil.pk}"') :].split(">")[0]
    assert card.endswith("hidden")


def test_the_wall_says_so_when_a_printer_fell_silent(cast: Cast) -> None:
    falls_silent(cast.anvil, 2.5 * 3600)
    shown = wall(cast.sam)
    assert "No contact" in shown
    assert re.search(r'<span data-f="heard">2 h 3[0-9] min</span>', shown)


def test_the_wall_offers_to_clear_a_bed_to_operators_only(cast: Cast) -> None:
    assert "Clear bed" in wall(cast.olivia)
    assert "Clear bed" not in wall(cast.sam)


def test_the_wall_costs_the_same_for_many_printers(cast: Cast) -> None:
    def queries() -> int:
        client = as_(cast.ada)
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert client.get("/").status_code == 200
        return len(seen)

    few = queries()
    for n in range(6):
        printer(f"More {n}", by=cast.ada)
    assert queries() == few


def test_no_page_ever_shows_a_printers_key_or_address(cast: Cast) -> None:
    for shown in (wall(cast.ada), page(cast.ada, cast.anvil)):
        assert KEY not in shown
        assert cast.anvil.url not in shown


# -- one printer
def test_a_printer_page_is_nothing_to_who_may_not_see_it(cast: Cast) -> None:
    for user, of in ((cast.mallory, cast.anvil), (cast.olivia, cast.cellar)):
        answer = as_(user).get(f"/printers/{of.pk}/")
        assert answer.status_code == 404
        assert of.name not in answer.content.decode()


def test_a_student_sees_the_printer_and_no_controls(cast: Cast) -> None:
    shown = page(cast.sam, cast.anvil)
    assert "Bed not clear" in shown
    for word in ("Clear bed", "Emergency stop", "Console", "Begin maintenance"):
        assert word not in shown
        assert word in page(cast.olivia, cast.anvil)


def test_a_printer_page_says_why_a_print_waits(cast: Cast) -> None:
    assert "waits until somebody has looked at the bed" in page(cast.sam, cast.anvil)


def test_names_of_people_and_printers_are_escaped(cast: Cast) -> None:
    cast.sam.first_name = "<i>Sam</i>"
    cast.sam.save()
    attempt(job(cast.sam, name="<img src=x>.stl"), cast.anvil)
    shown = page(cast.olivia, cast.anvil)
    assert "<img src=x>" not in shown
    assert "<i>Sam</i>" not in shown
    assert "&lt;img src=x&gt;.stl" in shown


# -- the bed
def clear(user: User, of: Printer, bed: Any, **headers: str) -> Any:
    return as_(user).post(f"/printers/{of.pk}/clear-bed/", {"bed": bed}, headers=headers)


def test_an_operator_clears_a_bed(cast: Cast) -> None:
    answer = clear(cast.olivia, cast.anvil, 1, **htmx(f"card-{cast.anvil.pk}"))
    assert answer.status_code == 200
    assert 'data-kind="ready"' in answer.content.decode()
    assert BedClear.objects.get(printer=cast.anvil, n=1).by == cast.olivia


def test_clearing_without_scripts_leads_back_to_the_printer(cast: Cast) -> None:
    answer = clear(cast.olivia, cast.anvil, 1)
    assert (answer.status_code, answer["Location"]) == (302, f"/printers/{cast.anvil.pk}/")


def test_students_and_strangers_clear_nothing(cast: Cast) -> None:
    assert clear(cast.sam, cast.anvil, 1).status_code == 403
    assert clear(cast.mallory, cast.anvil, 1).status_code == 404
    assert clear(cast.olivia, cast.cellar, 1).status_code == 404
    assert not bed_is_clear(cast.anvil)


def test_a_bed_that_changed_since_the_look_stays_uncleared(cast: Cast) -> None:
    Printer.objects.filter(pk=cast.anvil.pk).update(bed=2)
    answer = clear(cast.olivia, cast.anvil, 1, **htmx(f"card-{cast.anvil.pk}"))
    assert (answer.status_code, answer["HX-Retarget"]) == (409, "#notices")
    assert "changed since you looked" in answer.content.decode()
    assert not bed_is_clear(cast.anvil)


def test_a_bed_number_that_is_none_is_refused(cast: Cast) -> None:
    assert clear(cast.olivia, cast.anvil, "one").status_code == 422


# -- maintenance
def test_an_operator_begins_and_ends_maintenance(cast: Cast) -> None:
    client, path = as_(cast.olivia), f"/printers/{cast.anvil.pk}/maintenance/"
    shown = client.post(path, {"on": "yes", "reason": "Nozzle is worn"}, follow=True).content.decode()
    assert "Nozzle is worn" in shown
    assert "End maintenance" in shown
    client.post(path, {"on": "no"})
    cast.anvil.refresh_from_db()
    assert cast.anvil.maintenance == ""


def test_maintenance_needs_a_reason_and_the_right(cast: Cast) -> None:
    path = f"/printers/{cast.anvil.pk}/maintenance/"
    assert as_(cast.olivia).post(path, {"on": "yes", "reason": " "}).status_code == 422
    assert as_(cast.sam).post(path, {"on": "yes", "reason": "mine"}).status_code == 403
    assert as_(cast.mallory).post(path, {"on": "yes", "reason": "mine"}).status_code == 404
    cast.anvil.refresh_from_db()
    assert cast.anvil.maintenance == ""


# -- commands
def command(user: User, of: Printer, **form: Any) -> Any:
    return as_(user).post(f"/printers/{of.pk}/commands/", form, headers=htmx("commands"))


@pytest.mark.parametrize(
    ("form", "kind", "args"),
    [
        ({"command": "home", "axes": ["x", "y"]}, "home", {"axes": ["x", "y"]}),
        ({"command": "jog", "move": "z-", "distance": "0.1"}, "jog", {"moves": {"z": -0.1}, "speed": 50.0}),
        (
            {"command": "set_temperature", "heater": "tool0", "target": "205"},
            "set_temperature",
            {"heater": "tool0", "target": 205.0},
        ),
        ({"command": "gcode", "lines": "M105\r\n\r\n M114 "}, "gcode", {"lines": ["M105", "M114"]}),
    ],
)
def test_an_operator_commands_an_idle_machine(cast: Cast, form: dict[str, Any], kind: str, args: Any) -> None:
    answer = command(cast.olivia, cast.anvil, **form)
    assert answer.status_code == 200
    asked = Command.objects.get(printer=cast.anvil)
    assert (asked.kind, asked.args, asked.by) == (kind, args, cast.olivia)
    assert "waiting to be sent" in answer.content.decode()
    assert "every 1s" in answer.content.decode()


@pytest.mark.parametrize(
    "form",
    [
        {"command": "jog", "move": "q+", "distance": "1"},
        {"command": "jog", "move": "", "distance": "1"},
        {"command": "jog", "move": "x+", "distance": "nan"},
        {"command": "jog", "move": "x+", "distance": "far"},
        {"command": "set_temperature", "heater": "tool0", "target": "inf"},
        {"command": "set_temperature", "heater": "tool0", "target": "900"},
        {"command": "gcode", "lines": "M500"},
        {"command": "gcode", "lines": ""},
        {"command": "start"},
        {"command": "dance"},
        {"command": "pause"},
        {},
    ],
)
def test_commands_that_make_no_sense_are_refused_with_a_notice(cast: Cast, form: dict[str, str]) -> None:
    answer = command(cast.olivia, cast.anvil, **form)
    assert (answer.status_code, answer["HX-Retarget"]) == (422, "#notices")
    assert not Command.objects.exists()


def test_students_and_strangers_command_no_machine(cast: Cast) -> None:
    for kind in CommandKind.values:
        assert command(cast.sam, cast.anvil, command=kind).status_code == 403
        assert command(cast.mallory, cast.anvil, command=kind).status_code == 404
    assert not Command.objects.exists()


def test_an_owner_pauses_the_own_print_and_nobody_elses(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    assert command(cast.tina, cast.anvil, command="pause", print=str(live.pk)).status_code == 403
    assert command(cast.sam, cast.anvil, command="pause", print=str(uuid4())).status_code == 409
    assert command(cast.sam, cast.anvil, command="pause", print=str(live.pk)).status_code == 200
    assert Command.objects.get().print_id == live.pk


def test_a_command_for_a_print_that_ended_is_refused(cast: Cast) -> None:
    ended = attempt(job(cast.sam), cast.anvil)
    type(ended).objects.filter(pk=ended.pk).update(status="completed")
    assert command(cast.olivia, cast.anvil, command="cancel", print=str(ended.pk)).status_code == 409


def test_what_became_of_commands_is_told_to_operators_and_to_who_gave_them(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    command(cast.sam, cast.anvil, command="pause", print=str(live.pk))
    Command.objects.update(status=CommandStatus.REFUSED, message="The printer is finishing.")

    def told(user: User) -> str:
        return as_(user).get(f"/printers/{cast.anvil.pk}/commands/").content.decode()

    for user in (cast.sam, cast.olivia):
        assert "refused by the printer" in told(user)
        assert "The printer is finishing." in told(user)
        assert "every 1s" not in told(user)
    assert "refused" not in told(cast.tina)
    assert as_(cast.mallory).get(f"/printers/{cast.anvil.pk}/commands/").status_code == 404


@pytest.mark.parametrize("path", ["clear-bed", "maintenance"])
def test_nothing_changes_by_following_a_link(cast: Cast, path: str) -> None:
    assert as_(cast.ada).get(f"/printers/{cast.anvil.pk}/{path}/").status_code == 405


def test_forms_of_other_sites_are_refused(cast: Cast) -> None:
    client = as_(cast.olivia)
    client.handler.enforce_csrf_checks = True
    answer = client.post(f"/printers/{cast.anvil.pk}/clear-bed/", {"bed": 1})
    assert answer.status_code == 403
    assert not bed_is_clear(cast.anvil)


def test_pages_allow_no_script_and_no_style_but_their_own_files(cast: Cast) -> None:
    answer = as_(cast.ada).get(f"/printers/{cast.anvil.pk}/")
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    shown = answer.content.decode()
    assert " style=" not in shown
    assert "<script>" not in shown


def test_a_person_who_may_only_look_is_offered_no_printing(cast: Cast) -> None:
    guest = person("guest")
    grant(guest, cast.anvil, Role.VIEW)
    assert "Print on it" not in page(guest, cast.anvil)
    assert "Print on it" in page(cast.sam, cast.anvil)
