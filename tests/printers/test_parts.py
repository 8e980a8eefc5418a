"""What one printer's page asks for on its own: presets of heat, the console, files."""

from __future__ import annotations

import re
from typing import Any

import pytest

from farm.models import User
from printers import answers, telemetry
from printers.drivers.base import LiveJob, PrinterState, PrinterStatus, Refused, RemoteFile, Temperature
from printers.models import Command, CommandKind, CommandStatus, Printer, Role
from printers.parts import MUTE, STILL, doing
from slicing.models import Material, PrinterProfile
from tests.cast import Cast, as_, attempt, falls_silent, grant, htmx, job, person, says
from tests.machines import Machines, away

pytestmark = pytest.mark.django_db


def at(of: Printer, part: str) -> str:
    return f"/printers/{of.pk}/{part}/"


def look(user: User, of: Printer, part: str, query: str = "") -> str:
    answer = as_(user).get(at(of, part) + query, headers=htmx())
    assert answer.status_code == 200
    return answer.content.decode()


def send(user: User, of: Printer, part: str, **form: str) -> Any:
    return as_(user).post(at(of, part), form, headers=htmx(part))


def page(user: User, of: Printer) -> str:
    return as_(user).get(f"/printers/{of.pk}/").content.decode()


def feels(of: Printer, **heat: tuple[float | None, float]) -> None:
    """What its sensors say, idle: heater=(actual, target)."""
    temperatures = {name: Temperature(actual=actual, target=target) for name, (actual, target) in heat.items()}
    telemetry.forget(of.pk)
    telemetry.put(of.pk, 1, 1, PrinterState(status=PrinterStatus.IDLE, temperatures=temperatures))


def targets() -> list[tuple[str, float]]:
    """What was asked for, oldest first."""
    asked = Command.objects.filter(kind=CommandKind.SET_TEMPERATURE).order_by("created_at")
    return [(command.args["heater"], command.args["target"]) for command in asked]


# -- who may
@pytest.mark.parametrize("part", ["console", "files"])
def test_only_who_operates_a_printer_looks_into_it(cast: Cast, machines: Machines, part: str) -> None:
    for user, of, status in (
        (cast.sam, cast.anvil, 403),
        (cast.mallory, cast.anvil, 404),
        (cast.olivia, cast.cellar, 404),
    ):
        assert as_(user).get(at(of, part)).status_code == status
    assert machines[cast.anvil].calls == []


@pytest.mark.parametrize(
    ("part", "form"),
    [("console", {"lines": "M105"}), ("heat", {"material": "off"}), ("files/delete", {"path": "a.gcode"})],
)
def test_only_who_operates_a_printer_does_something_to_it(
    cast: Cast, machines: Machines, part: str, form: dict[str, str]
) -> None:
    for user, of, status in (
        (cast.sam, cast.anvil, 403),
        (cast.mallory, cast.anvil, 404),
        (cast.olivia, cast.cellar, 404),
    ):
        assert as_(user).post(at(of, part), form).status_code == status
    assert not Command.objects.exists()
    assert machines[cast.anvil].calls == []


@pytest.mark.parametrize("part", ["heat", "files/delete"])
def test_nothing_happens_by_following_a_link(cast: Cast, part: str) -> None:
    assert as_(cast.ada).get(at(cast.anvil, part)).status_code == 405


def test_a_student_sees_how_warm_it_is_and_no_control(cast: Cast) -> None:
    shown = page(cast.sam, cast.anvil)
    assert "210" in shown
    for word in ("All off", "Set Nozzle", "G-code", "Files on it", 'id="reasons"'):
        assert word not in shown
        assert word in page(cast.olivia, cast.anvil)


# -- heat
def test_a_material_heats_nozzle_and_bed_in_one_press(cast: Cast) -> None:
    petg = Material.objects.get(name="PETG")
    answer = send(cast.olivia, cast.anvil, "heat", material=str(petg.pk))
    assert (answer.status_code, answer["Location"]) == (302, at(cast.anvil, "commands"))
    assert targets() == [("bed", 90.0), ("tool0", 240.0)]
    assert set(Command.objects.values_list("by", flat=True)) == {cast.olivia.pk}


def test_off_means_every_heater_that_the_machine_has(cast: Cast) -> None:
    feels(cast.anvil, tool0=(210, 210), tool1=(180, 180), bed=(60, 60), chamber=(35, 40))
    send(cast.olivia, cast.anvil, "heat", material="off")
    assert targets() == [("tool0", 0.0), ("tool1", 0.0), ("bed", 0.0), ("chamber", 0.0)]


@pytest.mark.parametrize("material", ["", "PLA", "04679c90-399b-4c0d-b983-d01b8226d7a2"])
def test_a_material_that_is_none_heats_nothing(cast: Cast, material: str) -> None:
    answer = send(cast.olivia, cast.anvil, "heat", material=material)
    assert (answer.status_code, answer["HX-Retarget"]) == (422, "#notices")
    assert targets() == []


def test_presets_are_the_labs_materials_as_far_as_the_machine_goes(cast: Cast) -> None:
    assert '<button class="small" title="Nozzle 250 °C, bed 100 °C">ABS' in page(cast.olivia, cast.anvil)
    PrinterProfile.objects.update(max_bed_temperature=80)
    shown = page(cast.olivia, cast.anvil)
    assert 'title="Nozzle 210 °C, bed 60 °C">PLA' in shown
    assert ">ABS" not in shown
    assert send(cast.olivia, cast.anvil, "heat", material=str(Material.objects.get(name="ABS").pk)).status_code == 422
    assert targets() == []


def test_a_material_that_is_too_hot_for_the_nozzle_warms_not_even_the_bed(cast: Cast) -> None:
    PrinterProfile.objects.update(max_nozzle_temperature=245)
    assert send(cast.olivia, cast.anvil, "heat", material=str(Material.objects.get(name="ABS").pk)).status_code == 422
    assert targets() == []


def test_every_heater_that_the_machine_reports_is_shown_and_can_be_set(cast: Cast) -> None:
    feels(cast.anvil, tool0=(21, 0), tool1=(180.4, 200), bed=(60, 60), chamber=(None, 0))
    shown = page(cast.olivia, cast.anvil)
    assert re.findall(r'data-heater="(\w+)"', shown) == ["tool0", "tool1", "bed", "chamber"]
    assert re.findall(r"data-now>([^<]*)<", shown) == ["21", "180", "60", "–"]
    for label in ("Set Nozzle", "Set Nozzle 2", "Set Bed", "Set Chamber"):
        assert f'aria-label="{label}"' in shown


def test_a_machine_that_was_never_heard_shows_the_heaters_that_all_have(cast: Cast) -> None:
    telemetry.forget(cast.anvil.pk)
    assert re.findall(r'data-heater="(\w+)"', page(cast.olivia, cast.anvil)) == ["tool0", "bed"]


# -- the console
def typed(cast: Cast, *lines: str, **fields: Any) -> Command:
    send(cast.olivia, cast.anvil, "console", lines="\n".join(lines))
    newest = Command.objects.get(kind=CommandKind.GCODE, args__lines=list(lines))
    Command.objects.filter(pk=newest.pk).update(**fields)
    return newest


def test_what_is_typed_is_sent_line_by_line(cast: Cast) -> None:
    answer = send(cast.olivia, cast.anvil, "console", lines="M105\r\n\r\n  M114 ")
    assert answer.status_code == 200
    assert "data-waiting" in answer.content.decode()
    asked = Command.objects.get()
    assert (asked.kind, asked.args, asked.by) == (CommandKind.GCODE, {"lines": ["M105", "M114"]}, cast.olivia)


def test_without_scripts_the_console_leads_back_to_the_printer(cast: Cast) -> None:
    answer = as_(cast.olivia).post(at(cast.anvil, "console"), {"lines": "M105"})
    assert (answer.status_code, answer["Location"]) == (302, f"/printers/{cast.anvil.pk}/")


@pytest.mark.parametrize("lines", ["", "M500", "M104 S900", "start"])
def test_what_may_not_be_typed_is_refused_with_a_notice(cast: Cast, lines: str) -> None:
    answer = send(cast.olivia, cast.anvil, "console", lines=lines)
    assert (answer.status_code, answer["HX-Retarget"]) == (422, "#notices")
    assert not Command.objects.exists()


def test_answers_stand_under_what_was_typed_in_order_and_harmless(cast: Cast) -> None:
    first = typed(cast, "M115", status=CommandStatus.DONE)
    second = typed(cast, "M105", status=CommandStatus.DONE)
    for command, line in ((second, "ok T:21.3"), (first, "<script>alert(1)</script>"), (first, "ok")):
        answers.Recording(command.pk)(line)
    shown = look(cast.olivia, cast.anvil, "console")
    assert "<script>" not in shown
    where = [shown.index(words) for words in ("M115", "&lt;script&gt;alert(1)&lt;/script&gt;\nok", "M105", "ok T:21.3")]
    assert where == sorted(where)
    assert "data-waiting" not in shown


def test_the_console_says_what_became_of_a_command(cast: Cast) -> None:
    typed(cast, "G28", status=CommandStatus.REFUSED, message="Must home axis first")
    typed(cast, "G90", status=CommandStatus.DONE)
    shown = look(cast.olivia, cast.anvil, "console")
    assert "refused by the printer: Must home axis first" in shown
    assert "took it and said nothing" in shown


def test_only_the_newest_of_what_was_typed_is_shown(cast: Cast) -> None:
    for number in range(32):
        typed(cast, f"M117 n{number}")
    shown = look(cast.olivia, cast.anvil, "console")
    assert re.findall(r"<code>M117 n(\d+)</code>", shown) == [str(number) for number in range(2, 32)]


def test_what_was_answered_on_one_printer_is_not_told_to_who_operates_another(cast: Cast) -> None:
    answers.Recording(typed(cast, "M115").pk)("FIRMWARE_NAME:Marlin")
    other = person("otto")
    grant(other, cast.cellar, Role.OPERATE)
    assert as_(other).get(at(cast.anvil, "console")).status_code == 404
    assert "Marlin" not in look(other, cast.cellar, "console")


# -- what can be asked of it now
@pytest.mark.parametrize("status", list(PrinterStatus))
def test_a_machine_that_cannot_be_moved_says_why(cast: Cast, status: PrinterStatus) -> None:
    says(cast.anvil, status)
    shown = page(cast.olivia, cast.anvil)
    movable = status in (PrinterStatus.IDLE, PrinterStatus.PAUSED)
    assert (STILL.get(status) is None) == movable
    assert re.search(r'<fieldset data-usable="still" *>', shown) is not None if movable else STILL[status] in shown
    assert (MUTE.get(status) is None) == (status is PrinterStatus.IDLE)


def test_a_machine_that_fell_silent_is_not_moved_whatever_it_said_last(cast: Cast) -> None:
    falls_silent(cast.anvil)
    shown = page(cast.olivia, cast.anvil)
    assert f'data-why="still" >{STILL[""]}</p>' in shown
    assert doing({"stale": True, "status": "idle"}) == ""


# -- files
@pytest.fixture
def anvil(cast: Cast, machines: Machines) -> Printer:
    """Three files are on it; the farm printed the second."""
    machines[cast.anvil].files = {"by-hand.gcode": b"G28", "gear-1.gcode": b"G28\nG1", "<b>.gcode": b""}
    Command.objects.create(
        printer=cast.anvil, kind=CommandKind.START, args={"path": "gear-1.gcode", "bed": 1}, status=CommandStatus.DONE,
        created_at="2026-01-01T00:00Z", expires_at="2026-01-01T00:01Z",
    )  # fmt: skip
    return cast.anvil


def test_files_are_listed_with_what_the_farm_knows_of_them(cast: Cast, anvil: Printer) -> None:
    shown = look(cast.olivia, anvil, "files")
    assert "&lt;b&gt;.gcode" in shown
    assert "3 files" in shown
    gear, rest = shown.split("gear-1.gcode", 1)[1].split("</li>", 1)
    assert "sent by the farm" in gear
    assert "sent by the farm" not in rest


def test_the_room_that_is_left_is_said_if_the_printer_says_it(cast: Cast, anvil: Printer, machines: Machines) -> None:
    assert "free" not in look(cast.olivia, anvil, "files")
    machines[anvil].free = 3 * 2**30
    assert "3.0\xa0GB free" in look(cast.olivia, anvil, "files")


def test_the_newest_files_come_first_whatever_the_printers_clock_says(
    cast: Cast, anvil: Printer, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [RemoteFile(path="none.g"), RemoteFile(path="old.g", modified=1.7e9), RemoteFile(path="odd.g", modified=1e18)]
    monkeypatch.setattr("tests.machines.FakeDriver.list_files", lambda self, location: odd)
    shown = look(cast.olivia, anvil, "files")
    assert re.findall(r'strong">(\w+)\.g<', shown) == ["odd", "old", "none"]
    assert shown.count("<time") == 1


def test_many_files_come_in_pages(cast: Cast, anvil: Printer, machines: Machines) -> None:
    machines[anvil].files = {f"part-{number:02}.gcode": b"" for number in range(45)}
    first, last = look(cast.olivia, anvil, "files"), look(cast.olivia, anvil, "files", "?page=3")
    assert "part-00" in first
    assert "part-20" not in first
    assert "page 1 of 3" in first
    assert "Newer" not in first
    assert "part-44" in last
    assert "Older" not in last


def test_a_printer_that_does_not_answer_is_named_in_the_lists_place(
    cast: Cast, anvil: Printer, machines: Machines
) -> None:
    machines[anvil].faults["list_files"] = away()
    shown = look(cast.olivia, anvil, "files")
    assert "Anvil did not answer as it should: Nobody answers." in shown
    assert "Ask again" in shown


def test_an_operator_deletes_a_file(cast: Cast, anvil: Printer, machines: Machines) -> None:
    answer = send(cast.olivia, anvil, "files/delete", path="by-hand.gcode")
    assert answer.status_code == 200
    assert "by-hand" not in answer.content.decode()
    assert set(machines[anvil].files) == {"gear-1.gcode", "<b>.gcode"}


def test_the_file_of_a_live_print_is_not_deleted(cast: Cast, anvil: Printer, machines: Machines) -> None:
    live = attempt(job(cast.sam), anvil)
    machines[anvil].files[live.remote_path] = b"G28"
    shown = look(cast.olivia, anvil, "files")
    assert "A print of the farm needs this file." in shown
    assert f'value="{live.remote_path}"' not in shown
    answer = send(cast.olivia, anvil, "files/delete", path=live.remote_path)
    assert (answer.status_code, answer["HX-Retarget"]) == (409, "#notices")
    assert live.remote_path in machines[anvil].files


def test_a_file_that_is_printed_at_the_machine_is_not_deleted(cast: Cast, anvil: Printer, machines: Machines) -> None:
    says(anvil, PrinterStatus.PRINTING, job=LiveJob(file="by-hand.gcode", progress=0.1))
    assert "It is being printed." in look(cast.olivia, anvil, "files")
    assert send(cast.olivia, anvil, "files/delete", path="by-hand.gcode").status_code == 409
    assert "by-hand.gcode" in machines[anvil].files


def test_what_the_printer_itself_refuses_is_said(cast: Cast, anvil: Printer, machines: Machines) -> None:
    machines[anvil].faults["delete_file"] = Refused("The card is locked.")
    answer = send(cast.olivia, anvil, "files/delete", path="by-hand.gcode")
    assert answer.status_code == 409
    assert "The card is locked." in answer.content.decode()
    assert send(cast.olivia, anvil, "files/delete").status_code == 422


# -- who did what
def test_older_commands_are_shown_on_request(cast: Cast) -> None:
    for number in range(9):
        typed(cast, f"M117 n{number}", status=CommandStatus.DONE)
    few, all_ = look(cast.olivia, cast.anvil, "commands"), look(cast.olivia, cast.anvil, "commands", "?rows=30")
    assert len(re.findall("M117 n", few)) == 6
    assert "?rows=30" in few
    assert len(re.findall("M117 n", all_)) == 9
    assert "Show more" not in all_


@pytest.mark.parametrize("rows", ["-1", "x", "99999", "²"])
def test_nobody_asks_for_too_many(cast: Cast, rows: str) -> None:
    assert look(cast.olivia, cast.anvil, "commands", f"?rows={rows}")
