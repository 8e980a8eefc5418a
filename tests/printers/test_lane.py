"""The farm's hand: one printer's commands in order, one at a time, and a start that is sent at most once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from printers import answers, commands, lane, services
from printers.drivers.base import (
    DriverError,
    Garbled,
    LiveJob,
    Refused,
    Unauthorised,
    Unclear,
    Unreachable,
    Unsupported,
)
from printers.models import Command, CommandKind, CommandStatus
from tests.cast import Cast
from tests.machines import Machines
from tests.work import FakeTask, Shop, Work, committed, expire, lapse


@pytest.fixture
def shop(cast: Cast, machines: Machines, work: Work) -> Shop:
    """Anvil is idle, its bed waits to be cleared, and a bridge listens to it."""
    return Shop(cast, machines, work)


class Clock:
    """For lane.boot_time: ``step`` s pass with every look at it."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now - self.step


def ask(shop: Shop, kind: str, args: dict[str, Any] | None = None, **fields: Any) -> Command:
    with committed():
        return commands.request_command(shop.anvil, kind, args or {}, by=shop.cast.olivia, **fields)


def heat(shop: Shop, target: float = 40.0) -> Command:
    return ask(shop, CommandKind.SET_TEMPERATURE, {"heater": "bed", "target": target})


def outcome(command: Command) -> tuple[str, str]:
    command.refresh_from_db()
    return command.status, command.message


# -- in order


def test_commands_are_carried_out_in_order_and_each_once(shop: Shop) -> None:
    ask(shop, CommandKind.HOME, {"axes": ["x"]})
    ask(shop, CommandKind.JOG, {"x": 5})
    ask(shop, CommandKind.GCODE, {"lines": ["M117 hello"]})
    shop.machine.calls.clear()
    shop.bridge.run_lane()
    shop.bridge.run_lane()
    done = [call for call in shop.machine.calls if call[0] in ("home", "jog", "gcode")]
    assert done == [("home", ["x"]), ("jog", {"x": 5.0}, 50.0), ("gcode", ["M117 hello"])]
    assert set(Command.objects.values_list("status", flat=True)) == {CommandStatus.DONE}
    assert shop.machine.open_drivers == 0


def test_the_next_is_sent_only_when_the_one_before_has_ended(shop: Shop) -> None:
    first, second = ask(shop, CommandKind.HOME), ask(shop, CommandKind.JOG, {"x": 1})
    found: list[str] = []
    shop.machine.meanwhile["jog"] = lambda: found.append(outcome(first)[0])
    shop.bridge.run_lane()
    assert found == [CommandStatus.DONE]
    assert outcome(second)[0] == CommandStatus.DONE


def test_a_refused_command_stops_nobody(shop: Shop) -> None:
    shop.machine.faults["home"] = Refused("Not now.")
    first, second = ask(shop, CommandKind.HOME), ask(shop, CommandKind.JOG, {"x": 1})
    shop.bridge.run_lane()
    assert outcome(first) == (CommandStatus.REFUSED, "Not now.")
    assert outcome(second)[0] == CommandStatus.DONE


def test_another_printers_commands_are_left_alone(shop: Shop) -> None:
    with committed():
        theirs = commands.request_command(shop.cast.cellar, CommandKind.HOME, {}, by=None)
    shop.bridge.run_lane()
    assert outcome(theirs)[0] == CommandStatus.QUEUED


def test_a_lane_that_is_told_to_stop_begins_nothing_more(shop: Shop) -> None:
    first, second = ask(shop, CommandKind.HOME), ask(shop, CommandKind.JOG, {"x": 1})
    shop.machine.meanwhile["home"] = shop.bridge.stop.set
    shop.bridge.run_lane()
    assert outcome(first)[0] == CommandStatus.DONE
    assert outcome(second)[0] == CommandStatus.QUEUED


# -- what became of it


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Refused("No."), CommandStatus.REFUSED),
        (Unsupported("It cannot."), CommandStatus.REFUSED),
        (Unauthorised("Wrong key."), CommandStatus.REFUSED),
        (Unreachable("Nobody answers."), CommandStatus.FAILED),
        (Unclear("It hung up."), CommandStatus.UNCLEAR),
        (Garbled("It speaks Klingon."), CommandStatus.UNCLEAR),
    ],
)
def test_a_fault_is_told_as_what_it_means(shop: Shop, fault: DriverError, status: str) -> None:
    shop.machine.faults["home"] = fault
    command = ask(shop, CommandKind.HOME)
    shop.bridge.run_lane()
    assert outcome(command)[0] == status
    assert fault.message in outcome(command)[1]


def test_what_the_printer_does_not_show_is_not_done(shop: Shop) -> None:
    """This machine says yes and does nothing."""
    command = heat(shop)
    shop.bridge.run_lane()
    assert shop.machine.asked("set_temperature") == [("bed", 40.0)]
    assert outcome(command) == (CommandStatus.UNCLEAR, "The printer accepted it and did not show it.")


def test_a_lost_answer_is_made_good_by_the_printers_own_state(shop: Shop) -> None:
    attempt = shop.printing()
    command = ask(shop, CommandKind.CANCEL, print_id=attempt.pk)
    shop.machine.meanwhile["cancel"] = shop.machine.end
    shop.machine.faults["cancel"] = Unclear("It hung up.")
    shop.bridge.run_lane()
    assert outcome(command)[0] == CommandStatus.DONE


# -- not any more


def test_a_command_that_is_too_old_is_never_sent(shop: Shop) -> None:
    command = ask(shop, CommandKind.HOME)
    expire(shop.anvil)
    shop.bridge.run_lane()
    assert shop.machine.asked("home") == []
    assert outcome(command)[0] == CommandStatus.EXPIRED


def test_a_bridge_without_the_lease_sends_nothing_and_its_successor_does(shop: Shop) -> None:
    command = ask(shop, CommandKind.HOME)
    lapse(shop.anvil)
    shop.bridge.run_lane()
    assert shop.machine.asked("home") == []
    assert outcome(command)[0] == CommandStatus.QUEUED
    FakeTask(shop.anvil, shop.machines, "successor").run_lane()
    shop.bridge.run_lane()
    assert len(shop.machine.asked("home")) == 1


@pytest.mark.parametrize("kind", commands.FOR_A_PRINT)
def test_what_was_meant_for_a_print_that_has_ended_is_not_sent(shop: Shop, kind: str) -> None:
    attempt = shop.printing()
    command = ask(shop, kind, print_id=attempt.pk)
    shop.machine.end()
    shop.bridge.hear()
    shop.bridge.run_lane()
    assert shop.machine.asked(kind) == []
    assert outcome(command) == (CommandStatus.REFUSED, "That print is no longer on this printer.")


def test_what_the_machine_answers_is_kept_with_the_command(shop: Shop) -> None:
    shop.machine.answers = ["FIRMWARE_NAME:Marlin", "ok"]
    command = ask(shop, CommandKind.GCODE, {"lines": ["M115"]})
    shop.bridge.run_lane()
    assert outcome(command)[0] == CommandStatus.DONE
    assert answers.read([command.pk]) == {command.pk: ["FIRMWARE_NAME:Marlin", "ok"]}


def test_gcode_is_not_sent_into_a_print_that_began_meanwhile(shop: Shop) -> None:
    command = ask(shop, CommandKind.GCODE, {"lines": ["G28"]})
    shop.machine.begin("gift.gcode")
    shop.bridge.run_lane()
    assert shop.machine.asked("gcode") == []
    assert outcome(command)[0] == CommandStatus.REFUSED


# -- the start


def test_a_start_is_sent_once_and_done_when_the_printer_shows_it(shop: Shop) -> None:
    attempt = shop.starting()
    shop.bridge.run_lane()
    shop.bridge.run_lane()
    assert shop.machine.starts == [attempt.remote_path]
    (command,) = shop.starts()
    assert command.status == CommandStatus.DONE
    assert command.args["path"] == attempt.remote_path


def test_a_start_is_sent_within_five_seconds_of_its_commit(shop: Shop) -> None:
    assert commands.START_TTL == 5
    shop.starting()
    (command,) = shop.starts()
    assert (command.expires_at - command.created_at).total_seconds() == 5


@pytest.mark.parametrize("step", [2.0, 10.0, 100_000.0], ids=["while reading", "at once", "suspended"])
def test_a_start_that_comes_too_late_is_not_sent(shop: Shop, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """However long ago that was noticed: the machine may have slept between any two looks at the clock."""
    attempt = shop.starting()
    monkeypatch.setattr(lane, "boot_time", Clock(step))
    shop.bridge.run_lane()
    assert shop.machine.starts == []
    (command,) = shop.starts()
    assert (command.status, command.message) == (CommandStatus.EXPIRED, "Not sent: it came too late.")
    attempt.refresh_from_db()
    assert attempt.status == "starting", "until its file is deleted nobody says that it did not start"


def test_the_clock_of_a_start_goes_on_while_the_machine_sleeps() -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no CLOCK_BOOTTIME")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= lane.boot_time() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_machine_that_is_not_idle_gets_no_start(shop: Shop) -> None:
    shop.starting()
    shop.machine.status, shop.machine.job = shop.machine.status.BUSY, LiveJob(file="gift.gcode", progress=0.1)
    shop.bridge.run_lane()
    assert shop.machine.starts == []
    (command,) = shop.starts()
    assert command.status == CommandStatus.REFUSED


def test_a_lease_that_ran_out_at_the_last_moment_stops_the_start(shop: Shop) -> None:
    shop.starting()
    shop.machine.meanwhile["start"] = lambda: lapse(shop.anvil)
    shop.bridge.run_lane()
    assert shop.machine.starts == []
    assert shop.starts()[0].status == CommandStatus.EXPIRED


def test_a_bed_that_was_soiled_at_the_last_moment_stops_the_start(shop: Shop) -> None:
    """Say, somebody pressed the emergency stop, or the record shows a print that nobody saw."""
    attempt = shop.starting()
    shop.machine.meanwhile["start"] = lambda: services.soil_bed(shop.anvil.pk, "emergency stop")
    shop.bridge.run_lane()
    assert shop.machine.starts == []
    shop.machine.meanwhile.clear()
    shop.work.do_all()
    attempt.refresh_from_db()
    assert attempt.status == "failed"
    assert "no longer clear" in attempt.message
    assert not shop.bed_is_clear()


def test_a_printer_that_nobody_listens_to_gets_no_start(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge that has just taken the lease does not know yet what happened before."""
    shop.starting()
    shop.bridge.observed.clear()
    monkeypatch.setattr(lane, "boot_time", Clock(2.4))  # so that it does not wait for that in earnest
    shop.bridge.run_lane()
    assert shop.machine.starts == []
    (command,) = shop.starts()
    assert (command.status, command.message) == (
        CommandStatus.EXPIRED,
        "Not sent: nobody was listening to the printer.",
    )


def test_a_start_waits_a_moment_for_the_bridge_to_listen(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = shop.starting()
    waited: list[float] = []

    def comes_back(seconds: float) -> bool:
        waited.append(seconds)
        shop.bridge.observed.set()
        return True

    shop.bridge.observed.clear()
    monkeypatch.setattr(shop.bridge.observed, "wait", comes_back)
    shop.bridge.run_lane()
    assert shop.machine.starts == [attempt.remote_path]
    assert 0 <= waited[0] <= 5


def test_a_start_without_a_clear_answer_is_unclear_and_never_sent_again(shop: Shop) -> None:
    attempt = shop.starting()
    shop.machine.faults["start"] = Unclear("It hung up.")
    shop.bridge.run_lane()
    shop.machine.faults.clear()
    shop.bridge.run_lane()
    assert len(shop.machine.asked("start")) == 1
    assert shop.starts()[0].status == CommandStatus.UNCLEAR
    attempt.refresh_from_db()
    assert attempt.status == "unknown"


def test_a_start_that_began_without_an_answer_is_done(shop: Shop) -> None:
    attempt = shop.starting()
    shop.machine.lost_answers["start"] = Unclear("It hung up.")
    shop.bridge.run_lane()
    assert shop.machine.starts == [attempt.remote_path]
    assert shop.starts()[0].status == CommandStatus.DONE


def test_a_bridge_that_died_while_it_sent_a_start_leaves_it_unclear(shop: Shop) -> None:
    attempt = shop.starting()
    (command,) = shop.starts()
    assert commands.claim_command(command.pk, "bridge", shop.bridge.fence)
    FakeTask(shop.anvil, shop.machines, "bridge").run_lane()
    assert shop.machine.starts == []
    expire(shop.anvil, seconds=3600)
    with committed():
        commands.expire_commands()
    assert outcome(command)[0] == CommandStatus.UNCLEAR
    attempt.refresh_from_db()
    assert attempt.status == "unknown"
