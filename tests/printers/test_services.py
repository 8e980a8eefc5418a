"""Printers, their beds, their leases and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from farm.errors import Conflict, Invalid, NotFound, Unavailable
from printers import commands, credentials, notes, services, telemetry
from printers.drivers.base import (
    Garbled,
    LiveJob,
    Missing,
    PrinterState,
    PrinterStatus,
    Refused,
    Unauthorised,
    Unclear,
    Unreachable,
    Unsupported,
)
from printers.models import BedClear, Command, CommandKind, CommandStatus, Lease, Printer
from printers.signals import start_ended
from tests.cast import KEY, Cast, attempt, falls_silent, job, printer, says
from tests.machines import Machines
from tests.work import committed, lapse

IDLE = PrinterState(status=PrinterStatus.IDLE)
ABSENT = "http://127.0.0.1:9"


def leased(*printers: Printer, holder: str = "bridge") -> dict[str, int]:
    """Their fences by name, after this bridge took them."""
    held = {row.name: fence for row, fence in services.take_leases(holder, 1000)}
    return {row.name: held[row.name] for row in printers}


def lease(row: Printer) -> Lease:
    return Lease.objects.get(printer=row)


def seconds_left(row: Printer) -> float:
    ends = lease(row).expires_at
    assert ends is not None
    return (ends - timezone.now()).total_seconds()


def is_clear(row: Printer) -> bool:
    row.refresh_from_db()
    return services.bed_is_clear(row)


def clear(row: Printer, cast: Cast) -> int:
    """Ada looks, and the bed is empty; its number."""
    row.refresh_from_db()
    services.clear_bed(row, row.bed, by=cast.ada)
    return row.bed


def ask(row: Printer, kind: str = CommandKind.HOME, args: dict[str, Any] | None = None, **fields: Any) -> Command:
    return commands.request_command(row, kind, args or {}, by=fields.pop("by", None), **fields)


def now(command: Command) -> str:
    command.refresh_from_db()
    return command.status


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """Starts that ended, as those above were told."""
    told: list[Any] = []

    def note_end(sender: object, command: Command, **_: object) -> None:
        told.append((command.pk, command.status))

    start_ended.connect(note_end)
    yield told
    start_ended.disconnect(note_end)


# -- adding, changing, removing


def test_a_new_printer_has_a_lease_that_nobody_holds_and_a_bed_that_is_not_clear(cast: Cast) -> None:
    added = services.add_printer(by=cast.ada, name="New", kind="moonraker", url="http://127.0.0.1:9/", api_key=KEY)
    assert (added.url, added.bed) == ("http://127.0.0.1:9", 1)
    assert (lease(added).holder, lease(added).fence, lease(added).expires_at) == ("", 0, None)
    assert not is_clear(added)


def test_whoever_adds_a_printer_answers_for_its_bed(cast: Cast) -> None:
    added = services.add_printer(by=cast.ada, name="New", kind="octoprint", url=ABSENT, bed_clear=True)
    assert is_clear(added)
    assert BedClear.objects.get(printer=added).by == cast.ada


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "fax"}, "kind"),
        ({"url": "printer"}, "url"),
        ({"url": "http://user:pass@127.0.0.1"}, "url"),
        ({"url": "http://169.254.169.254"}, "url"),
        ({"url": "http://127.0.0.1/../admin"}, "url"),
    ],
)
def test_what_makes_no_printer_is_refused(cast: Cast, fields: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        services.add_printer(by=cast.ada, name="New", **{"kind": "octoprint", "url": ABSENT, **fields})  # type: ignore[arg-type]
    assert refused.value.extra["field"] == field
    assert not Printer.objects.filter(name="New").exists()


def test_two_printers_do_not_share_a_name(cast: Cast) -> None:
    with pytest.raises(Conflict):
        printer("Anvil", by=cast.ada)
    with pytest.raises(Conflict):
        services.change_printer(cast.cellar, name="Anvil")
    services.change_printer(cast.anvil, name="Anvil")


def test_a_name_or_a_place_changes_nothing_of_the_connection(cast: Cast) -> None:
    leased(cast.anvil)
    clear(cast.anvil, cast)
    services.change_printer(cast.anvil, name="Hammer", place="Room 12", maintenance="new belt")
    assert lease(cast.anvil).holder == "bridge"
    assert is_clear(cast.anvil)


@pytest.mark.parametrize(
    "fields", [{"url": "http://127.0.0.1:8", "api_key": "key"}, {"kind": "moonraker"}], ids=["address", "kind"]
)
def test_another_machine_under_the_same_name_is_not_clear_and_has_no_record(cast: Cast, fields: dict[str, str]) -> None:
    leased(cast.anvil)
    Printer.objects.filter(pk=cast.anvil.pk).update(marker={"record": {"printed": 3}})
    clear(cast.anvil, cast)
    with committed():
        services.change_printer(Printer.objects.get(pk=cast.anvil.pk), **fields)
    assert not is_clear(cast.anvil)
    assert telemetry.read([cast.anvil.pk]) == {}, "nothing was heard from this one"
    assert cast.anvil.marker is None
    assert lease(cast.anvil).holder == "", "the bridge must connect anew"


def test_another_address_waits_for_the_end_of_the_print(cast: Cast) -> None:
    attempt(job(cast.sam), cast.anvil)
    with pytest.raises(Conflict, match="wait for its end"):
        services.change_printer(cast.anvil, url="http://127.0.0.1:8", api_key="key")
    with pytest.raises(Conflict, match="Cancel it or wait"):
        services.remove_printer(cast.anvil)
    services.change_printer(cast.anvil, url=cast.anvil.url, place="Window")


def test_a_stored_key_follows_no_change_of_address(cast: Cast) -> None:
    """Else who manages a printer could send its key to a server of their own, and read it there."""
    services.change_printer(cast.anvil, api_key="the-key")
    with pytest.raises(Invalid, match="Give the key again") as refusal:
        services.change_printer(cast.anvil, url="http://127.0.0.1:8")
    assert refusal.value.extra["field"] == "api_key"
    services.change_printer(cast.anvil, url=cast.anvil.url + "/printer")  # the same server
    services.change_printer(cast.anvil, url="http://127.0.0.1:8", api_key="another")
    assert Printer.objects.get(pk=cast.anvil.pk).url == "http://127.0.0.1:8"


@pytest.mark.parametrize("fields", [{"api_key": "another"}, {"enabled": False}])
def test_a_bridge_connects_anew_with_what_is_true_now(cast: Cast, fields: dict[str, Any]) -> None:
    fence = leased(cast.anvil)["Anvil"]
    services.change_printer(cast.anvil, **fields)
    notes.note_states([notes.StateNote(cast.anvil.pk, fence, PrinterState(status=PrinterStatus.PRINTING), IDLE)])
    assert lease(cast.anvil).holder == ""
    cast.anvil.refresh_from_db()
    assert cast.anvil.bed == 1, "who had it before has nothing to say any more"


def test_a_removed_printer_is_forgotten(cast: Cast) -> None:
    gone = cast.cellar.pk
    with committed():
        services.remove_printer(cast.cellar)
    assert telemetry.read([gone]) == {}
    assert not Lease.objects.filter(printer=gone).exists()


# -- credentials


def test_a_credential_is_sealed_and_only_the_driver_gets_it(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(services, "driver_for", lambda kind, url, key, check_address: given.append(key))
    services.open_driver(cast.anvil)
    assert given == [KEY]
    assert KEY not in "".join(str(value) for value in Printer.objects.filter(pk=cast.anvil.pk).values().get().values())
    assert credentials.seal(KEY) != credentials.seal(KEY), "equal keys do not look alike"


def test_a_key_that_rotates_opens_what_was_sealed_before(cast: Cast, settings: Settings) -> None:
    old, new = settings.FARM_FIELD_KEYS, Fernet.generate_key().decode()
    settings.FARM_FIELD_KEYS = [new, *old]
    assert credentials.unseal(cast.anvil.sealed_key) == KEY
    renewed = credentials.reseal(cast.anvil.sealed_key)
    settings.FARM_FIELD_KEYS = [new]
    assert credentials.unseal(renewed) == KEY
    with pytest.raises(Unavailable, match="Enter the API key again"):
        credentials.unseal(cast.anvil.sealed_key)


def test_no_credential_is_no_credential() -> None:
    assert credentials.seal("") == credentials.unseal("") == credentials.reseal("") == ""


# -- one exchange with a printer, for people


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (Unreachable("Nobody answers."), Unavailable, "Is it on"),
        (Unauthorised("No."), Invalid, "Copy the key again"),
        (Garbled("Klingon."), Unavailable, "does not look like Octoprint"),
    ],
)
def test_a_connection_that_fails_says_what_to_do(
    cast: Cast, machines: Machines, fault: Exception, error: type[Exception], said: str
) -> None:
    machines[cast.anvil].faults["identify"] = fault
    with pytest.raises(error, match=said):
        services.try_connection(cast.anvil)
    assert machines[cast.anvil].open_drivers == 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Missing("No such file."), NotFound),
        (Unsupported("No SD card."), Invalid),
        (Refused("Not now."), Conflict),
        (Unreachable("Nobody answers."), Unavailable),
        (Unclear("It hung up."), Unavailable),
    ],
)
def test_a_printers_fault_is_an_answer_for_people(
    cast: Cast, machines: Machines, fault: Exception, error: type[Exception]
) -> None:
    machines[cast.anvil].faults["list_files"] = fault
    with pytest.raises(error):
        services.asking(cast.anvil, lambda driver: driver.list_files())
    assert machines[cast.anvil].open_drivers == 0


# -- the bed


def test_a_bed_is_cleared_by_who_saw_it_and_used_once(cast: Cast) -> None:
    n = clear(cast.anvil, cast)
    assert services.clear_beds([cast.anvil.pk, cast.cellar.pk]).keys() == {cast.anvil.pk}
    assert services.use_bed(cast.anvil.pk, n)
    assert not services.use_bed(cast.anvil.pk, n)
    assert not is_clear(cast.anvil)
    assert cast.anvil.bed == n + 1


def test_a_doubled_clear_is_harmless_even_when_the_printer_is_busy_by_then(cast: Cast) -> None:
    n = clear(cast.anvil, cast)
    says(cast.anvil, PrinterStatus.PRINTING)
    services.clear_bed(cast.anvil, n, by=cast.olivia)
    assert BedClear.objects.get(printer=cast.anvil).by == cast.ada


@pytest.mark.parametrize("n", [-1, 0, 1, 3, 99])
def test_a_clear_of_another_bed_is_refused(cast: Cast, n: int) -> None:
    services.soil_bed(cast.anvil.pk, "a print was started at the machine")
    with pytest.raises(Conflict) as refused:
        services.clear_bed(cast.anvil, n, by=cast.ada)
    assert (refused.value.code, refused.value.extra["bed"]) == ("bed_changed", 2)
    assert not is_clear(cast.anvil)


def test_a_bed_is_cleared_only_when_nothing_can_be_on_it(cast: Cast) -> None:
    def refused() -> bool:
        try:
            services.clear_bed(cast.anvil, 1, by=cast.ada)
        except Conflict as error:
            return error.code == "not_idle"
        return False

    for status in set(PrinterStatus) - {PrinterStatus.IDLE}:
        says(cast.anvil, status)
        assert refused(), status
    says(cast.anvil)
    falls_silent(cast.anvil, 3600)
    assert refused(), "nobody has heard of it for an hour"
    telemetry.forget(cast.anvil.pk)
    assert refused(), "nobody ever heard of it"
    live = attempt(job(cast.sam), cast.anvil)
    says(cast.anvil)
    assert refused(), "the farm's own print is on it, whatever the machine says"
    live.delete()
    assert not refused()


@pytest.mark.parametrize(
    ("used", "soiled", "clear_again"),
    [(True, False, True), (True, True, False), (False, False, True), (False, True, False)],
)
def test_a_bed_is_given_back_unless_it_was_soiled_since(
    cast: Cast, used: bool, soiled: bool, clear_again: bool
) -> None:
    n = clear(cast.anvil, cast)
    if used:
        services.use_bed(cast.anvil.pk, n)
    if soiled:
        services.soil_bed(cast.anvil.pk, "emergency stop")
    services.give_bed_back(cast.anvil.pk, n, "nothing was printed", used=used)
    services.give_bed_back(cast.anvil.pk, n, "nothing was printed", used=used)
    assert is_clear(cast.anvil) is clear_again


# -- leases


def test_a_printer_has_one_holder(cast: Cast) -> None:
    assert {row.name for row, _ in services.take_leases("one", 1000)} == {"Anvil", "Cellar"}
    assert services.take_leases("two", 1000) == []
    assert services.take_leases("one", 1000) == [], "not even a second time"


def test_a_bridge_takes_no_more_than_it_wants(cast: Cast) -> None:
    assert len(services.take_leases("one", 1)) == 1
    assert services.take_leases("two", 0) == services.take_leases("two", -3) == []
    assert len(services.take_leases("two", 5)) == 1


def test_nobody_listens_to_a_printer_that_is_switched_off(cast: Cast) -> None:
    services.change_printer(cast.cellar, enabled=False)
    assert leased(cast.anvil).keys() == {"Anvil"}
    assert services.take_leases("two", 10) == []


def test_a_fence_only_grows(cast: Cast) -> None:
    fences = []
    for holder in ("one", "two", "one"):
        fences.append(leased(cast.anvil, holder=holder)["Anvil"])
        if holder == "one":
            services.drop_leases(holder)
        else:
            lapse(cast.anvil)
            lapse(cast.cellar)
    assert fences == [1, 2, 3]


def test_all_leases_of_a_bridge_are_renewed_in_one_update(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [cast.anvil, cast.cellar, *(printer(f"P{n}", by=cast.ada) for n in range(8))]
    leased(*rows)
    monkeypatch.setattr(services, "LEASE_TTL", timedelta(hours=2))
    with CaptureQueriesContext(connection) as queries:
        held = services.renew_leases("bridge")
    assert held == dict.fromkeys([row.pk for row in rows], 1)
    assert [query["sql"].split()[0] for query in queries if "UPDATE" in query["sql"]] == ["UPDATE"]
    assert min(map(seconds_left, rows)) > 3600


def test_what_ran_out_is_not_renewed(cast: Cast) -> None:
    leased(cast.anvil, cast.cellar)
    lapse(cast.anvil)
    assert services.renew_leases("bridge") == {cast.cellar.pk: 1}
    assert seconds_left(cast.anvil) < 0
    assert services.renew_leases("another") == {}


def test_leases_run_by_the_databases_clock_and_not_by_the_bridges(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge whose clock is an hour wrong neither holds longer nor takes what others hold."""
    before = timezone.now()
    for hours in (-1, 1):
        monkeypatch.setattr(timezone, "now", lambda wrong=before + timedelta(hours=hours): wrong)
        leased(cast.anvil)
        assert services.take_leases("another", 10) == []
        ends = lease(cast.anvil).expires_at
        assert ends is not None
        assert abs(ends - before) < timedelta(minutes=30)
        assert abs(commands.database_now() - before) < timedelta(minutes=30)
        services.drop_leases("bridge")


def test_what_is_given_back_is_free_at_once(cast: Cast) -> None:
    leased(cast.anvil, cast.cellar)
    services.drop_leases("another")
    services.drop_leases("bridge", [cast.anvil.pk])
    assert {row.name: fence for row, fence in services.take_leases("two", 10)} == {"Anvil": 2}
    services.drop_leases("bridge")
    assert {row.name: fence for row, fence in services.take_leases("two", 10)} == {"Cellar": 2}


# -- commands


@pytest.mark.parametrize("kind", ["start", "explode", "", "START"])
def test_nobody_starts_a_print_by_a_command(cast: Cast, kind: str) -> None:
    with pytest.raises(Invalid):
        ask(cast.anvil, kind, {"path": "gift.gcode"}, by=cast.ada)
    assert not Command.objects.exists()


def test_a_command_lives_for_half_a_minute_and_a_start_for_five_seconds(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.cellar)
    for command, seconds in ((ask(cast.anvil), 30), (commands.queue_start(cast.cellar, live.pk, "a.gcode"), 5)):
        assert command.expires_at - command.created_at == timedelta(seconds=seconds)
        assert command.status == CommandStatus.QUEUED


def test_a_start_knows_the_bed_that_it_is_for(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    services.use_bed(cast.anvil.pk, clear(printer("Third", by=cast.ada), cast))
    start = commands.queue_start(cast.anvil, live.pk, "a.gcode")
    fence = leased(cast.anvil)["Anvil"]
    assert commands.may_start(start, fence)
    assert not commands.may_start(start, fence + 1)
    services.soil_bed(cast.anvil.pk, "emergency stop")
    assert not commands.may_start(start, fence)


@pytest.mark.parametrize("kind", commands.FOR_A_PRINT)
def test_what_is_meant_for_a_print_names_the_one_on_this_printer(cast: Cast, kind: str) -> None:
    live, other = attempt(job(cast.sam), cast.anvil), attempt(job(cast.tina), cast.cellar)
    with pytest.raises(Invalid, match="which print"):
        ask(cast.anvil, kind)
    for wrong in (other.pk, uuid4()):
        with pytest.raises(Conflict) as refused:
            ask(cast.anvil, kind, print_id=wrong)
        assert refused.value.code == "not_live"
    assert ask(cast.anvil, kind, print_id=live.pk).print_id == live.pk


@pytest.mark.parametrize(
    ("kind", "args"),
    [("home", {}), ("jog", {"x": 1}), ("gcode", {"lines": ["G28"]}), ("firmware_restart", {})],
)
def test_what_would_ruin_a_print_is_refused_while_one_is_on(cast: Cast, kind: str, args: dict[str, Any]) -> None:
    says(cast.anvil, PrinterStatus.PRINTING, job=LiveJob(file="gift.gcode", progress=0.1))
    with pytest.raises(Conflict) as refused:
        ask(cast.anvil, kind, args)
    assert refused.value.code == "printing"
    falls_silent(cast.anvil, 3600)
    with pytest.raises(Conflict) as refused:
        ask(cast.anvil, kind, args)
    assert refused.value.code == "stale"


def test_a_paused_head_may_be_moved_out_of_the_way(cast: Cast) -> None:
    says(cast.anvil, PrinterStatus.PAUSED, job=LiveJob(file="gift.gcode", progress=0.1))
    assert ask(cast.anvil, CommandKind.JOG, {"z": 10}).status == CommandStatus.QUEUED
    with pytest.raises(Conflict):
        ask(cast.anvil, CommandKind.HOME)


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("home", {"axes": []}),
        ("home", {"axes": "x"}),
        ("home", {"axes": ["e"]}),
        ("jog", {}),
        ("jog", {"x": 0}),
        ("jog", {"x": 501}),
        ("jog", {"x": True}),
        ("jog", {"x": float("nan")}),
        ("jog", {"x": 1, "speed": 0}),
        ("set_temperature", {"heater": "bed"}),
        ("set_temperature", {"heater": "tool", "target": 20}),
        ("set_temperature", {"heater": ["bed"], "target": 20}),
        ("set_temperature", {"heater": "bed", "target": 1000}),
        ("set_temperature", {"heater": "tool0", "target": -1}),
        ("gcode", {"lines": "G28"}),
        ("gcode", {"lines": [28]}),
        ("gcode", {"lines": ["M112"]}),
        ("gcode", {}),
    ],
)
def test_arguments_that_make_no_sense_are_refused(cast: Cast, kind: str, args: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        ask(cast.anvil, kind, args)


@pytest.mark.parametrize(("line", "clear_after"), [("G28", True), ("G1 E5 F120", False)])
def test_filament_moved_from_the_console_leaves_no_clear_bed(cast: Cast, line: str, clear_after: bool) -> None:
    fence = leased(cast.anvil)["Anvil"]
    clear(cast.anvil, cast)
    command = ask(cast.anvil, CommandKind.GCODE, {"lines": [line]})
    assert is_clear(cast.anvil), "nothing was sent yet"
    assert commands.claim_command(command.pk, "bridge", fence)
    assert is_clear(cast.anvil) is clear_after


def test_a_command_is_sent_by_one_bridge_once(cast: Cast) -> None:
    fence = leased(cast.anvil)["Anvil"]
    command = ask(cast.anvil)
    assert commands.claim_command(command.pk, "another", fence) is None
    assert commands.claim_command(command.pk, "bridge", fence - 1) is None
    left = commands.claim_command(command.pk, "bridge", fence)
    assert left is not None
    assert 0 < left <= 30
    assert commands.claim_command(command.pk, "bridge", fence) is None
    assert (now(command), command.fence) == (CommandStatus.SENT, fence)


def test_a_command_has_one_outcome(cast: Cast, heard: list[Any]) -> None:
    command = ask(cast.anvil)
    assert commands.end_command(command.pk, CommandStatus.REFUSED, "x" * 600)
    assert not commands.end_command(command.pk, CommandStatus.DONE)
    assert (now(command), len(command.message)) == (CommandStatus.REFUSED, 500)
    assert command.ended_at is not None
    assert heard == [], "only starts are told above"


@pytest.mark.parametrize(("status", "after"), [("queued", "expired"), ("sent", "unclear")])
def test_what_nobody_ends_ends_by_itself(cast: Cast, heard: list[Any], status: str, after: str) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    old, young = commands.queue_start(cast.anvil, live.pk, "a.gcode"), ask(cast.cellar)
    past = timezone.now() - timedelta(hours=1)
    Command.objects.filter(pk=old.pk).update(created_at=past, expires_at=past + timedelta(seconds=5), status=status)
    commands.expire_commands()
    commands.expire_commands()
    assert now(old) == after
    assert now(young) == CommandStatus.QUEUED
    assert heard == [(old.pk, after)]
    assert commands.claim_command(old.pk, "bridge", leased(cast.anvil)["Anvil"]) is None


def test_what_was_sent_a_moment_ago_is_not_given_up(cast: Cast) -> None:
    fence = leased(cast.anvil)["Anvil"]
    command = ask(cast.anvil)
    commands.claim_command(command.pk, "bridge", fence)
    Command.objects.filter(pk=command.pk).update(
        created_at=timezone.now() - timedelta(seconds=40), expires_at=timezone.now() - timedelta(seconds=10)
    )
    commands.expire_commands()
    assert now(command) == CommandStatus.SENT


# -- the emergency stop


def test_an_emergency_stop_is_sent_at_once_past_everything_that_waits(cast: Cast, machines: Machines) -> None:
    clear(cast.anvil, cast)
    waiting = ask(cast.anvil)
    stop = ask(cast.anvil, CommandKind.EMERGENCY_STOP, by=cast.olivia)
    assert machines[cast.anvil].calls == [("emergency_stop",)]
    assert (stop.status, stop.by) == (CommandStatus.DONE, cast.olivia)
    assert now(waiting) == CommandStatus.QUEUED
    assert not is_clear(cast.anvil)
    assert machines[cast.anvil].open_drivers == 0


def test_no_bridge_can_take_an_emergency_stop(cast: Cast, machines: Machines) -> None:
    fence = leased(cast.anvil)["Anvil"]
    taken: list[object] = []

    def a_bridge_looks() -> None:
        taken.extend(commands.claim_command(pk, "bridge", fence) for pk in Command.objects.values_list("pk", flat=True))

    machines[cast.anvil].meanwhile["emergency_stop"] = a_bridge_looks
    ask(cast.anvil, CommandKind.EMERGENCY_STOP)
    assert taken == [None]


def test_an_emergency_stop_needs_no_idle_printer_and_no_fresh_state(cast: Cast, machines: Machines) -> None:
    attempt(job(cast.sam), cast.anvil)
    falls_silent(cast.anvil, 3600)
    assert ask(cast.anvil, CommandKind.EMERGENCY_STOP).status == CommandStatus.DONE


@pytest.mark.parametrize(
    ("fault", "status"), [(Unreachable("Nobody answers."), "failed"), (Unclear("It hung up."), "unclear")]
)
def test_an_emergency_stop_that_may_not_have_arrived_sends_people_to_the_machine(
    cast: Cast, machines: Machines, fault: Exception, status: str
) -> None:
    machines[cast.anvil].faults["emergency_stop"] = fault
    stop = ask(cast.anvil, CommandKind.EMERGENCY_STOP)
    assert stop.status == status
    assert "switch it off" in stop.message
