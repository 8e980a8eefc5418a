"""OctoPrint's words become the farm's: recorded sockets, and the cases that no recording has."""

from __future__ import annotations

from typing import Any

import pytest

from printers.drivers.base import (
    Busy,
    DriverError,
    Garbled,
    Missing,
    Outcome,
    PrinterStatus,
    Refused,
    Temperature,
    Unauthorised,
    Unclear,
    Unreachable,
)
from printers.drivers.http import Answer
from printers.drivers.octoprint_words import (
    Answers,
    OctoPrintReducer,
    ended_from_record,
    fault_of,
    files_from,
    has_printed,
    job_from,
    marker_from,
    message_from,
    status_from,
)
from tests.printers.drivers.replay import octoprint_states, rows, story


def test_a_print_of_a_tenth_of_a_second_is_seen_although_no_sample_shows_it() -> None:
    samples = [row["msg"]["current"]["state"]["text"] for row in rows("octoprint", "fast") if "current" in row["msg"]]
    assert "Printing" not in samples
    assert story(octoprint_states("fast")) == [
        "idle",
        "printing fast.gcode",
        "busy fast.gcode",
        "busy fast.gcode after completed",
        "idle after completed",
    ]


def test_pause_and_resume_have_their_in_between() -> None:
    assert story(octoprint_states("pause-resume")) == [
        "idle",
        "printing pauseme.gcode",
        "busy pauseme.gcode",
        "paused pauseme.gcode",
        "busy pauseme.gcode",
        "printing pauseme.gcode",
        "busy pauseme.gcode",
        "busy pauseme.gcode after completed",
        "idle after completed",
    ]


def test_a_cancel_is_one_end_and_no_failure() -> None:
    told = octoprint_states("pause-cancel")
    assert story(told)[-3:] == ["busy cancelme.gcode", "busy cancelme.gcode after cancelled", "idle after cancelled"]


def test_a_cancel_and_a_restart_between_two_samples_are_two_prints() -> None:
    ended = [state.ended for state in octoprint_states("cancel-and-restart") if state.ended]
    assert {(end.outcome, end.mark) for end in ended} == {(Outcome.CANCELLED, "1"), (Outcome.CANCELLED, "2")}


def test_every_way_to_fail_says_why() -> None:
    """Disconnect, thermal runaway, emergency stop, reset by the firmware, cancel at the machine, dead serial line."""
    states = octoprint_states("faults")
    ended = {state.ended.file: (str(state.ended.outcome), state.ended.reason) for state in states if state.ended}
    assert ended == {
        "mid.gcode": ("failed", "The connection to the printer ended during the print."),
        "mid2.gcode": ("failed", "Thermal Runaway, system stopped! Heater_ID: bed - Printer halted. kill() called!"),
        "mid3.gcode": ("failed", "Closing serial port due to emergency stop M112."),
        "mid4.gcode": ("cancelled", ""),
        "mid5.gcode": ("cancelled", ""),
        "mid6.gcode": ("failed", "SerialTimeoutException:"),
    }
    assert {state.status for state in states if state.job is not None} <= {"printing", "paused", "busy"}


def test_a_failed_print_is_an_error_state_until_somebody_reconnects() -> None:
    told = story(octoprint_states("faults"))
    assert told[:5] == ["idle", "printing mid.gcode", "busy mid.gcode after failed", "connecting after failed", "idle after failed"]  # fmt: skip  # noqa: E501
    assert told[5:9] == ["printing mid2.gcode after failed", "error after failed", "connecting after failed", "idle after failed"]  # fmt: skip  # noqa: E501


def test_a_killed_server_tells_no_end() -> None:
    last = octoprint_states("server-killed")[-1]
    assert last.status is PrinterStatus.PRINTING
    assert last.ended is None


def test_temperatures_stay_while_samples_are_empty_and_an_absent_chamber_is_left_out() -> None:
    states = octoprint_states("pause-resume")
    assert all(state.temperatures.keys() == {"tool0", "bed"} for state in states)
    assert octoprint_states("two-extruders")[-1].temperatures == {
        "tool0": Temperature(actual=21.3, target=50),
        "tool1": Temperature(actual=21.3, target=60),
        "bed": Temperature(actual=21.3, target=0),
        "chamber": Temperature(actual=21.3, target=30),
    }


# -- what no recording has


def sample(text: str, path: str | None = None, error: str = "", **flags: bool) -> dict[str, Any]:
    return {
        "current": {
            "state": {"text": text, "error": error, "flags": flags},
            "job": {"file": {"path": path}},
            "progress": {"completion": None, "printTime": None, "printTimeLeft": None},
            "temps": [],
        }
    }


def event(kind: str, **payload: object) -> dict[str, Any]:
    return {"event": {"type": kind, "payload": payload}}


READY = sample("Operational", "a.gcode", operational=True, ready=True)
PRINTING = sample("Printing", "a.gcode", operational=True, printing=True)
PAUSED = sample("Paused", "a.gcode", operational=True, paused=True)
STOPPED = sample("Offline after error", error="Closing serial port due to emergency stop M112.", closedOrError=True)


def fed(*messages: dict[str, Any]) -> OctoPrintReducer:
    reducer = OctoPrintReducer()
    for message in messages:
        reducer.feed(message)
    return reducer


def test_a_stop_of_a_paused_print_ends_it_although_octoprint_tells_nothing() -> None:
    state = fed(READY, event("PrintStarted", path="a.gcode"), PRINTING, PAUSED, STOPPED).state
    assert state.status is PrinterStatus.ERROR
    assert state.ended is not None
    assert (state.ended.file, state.ended.outcome) == ("a.gcode", Outcome.FAILED)
    assert "M112" in state.ended.reason


def test_a_paused_print_found_on_connecting_ends_the_same_way() -> None:
    ended = fed(PAUSED, STOPPED).state.ended
    assert ended is not None
    assert ended.outcome is Outcome.FAILED


def test_a_late_failure_event_is_the_same_end_with_a_better_reason() -> None:
    reducer = fed(PRINTING, STOPPED)
    first = reducer.state.ended
    reducer.feed(event("PrintFailed", path="a.gcode", reason="error", error="Heater failed", time=3.5))
    last = reducer.state.ended
    assert first is not None
    assert last is not None
    assert (last.reason, last.duration_s) == ("Heater failed", 3.5)
    assert last.mark == first.mark


def test_a_sample_older_than_the_start_is_not_believed() -> None:
    reducer = fed(READY, event("PrintStarted", path="a.gcode"), READY)
    assert reducer.state.status is PrinterStatus.PRINTING
    reducer.feed(PRINTING)
    reducer.feed(event("PrintDone", path="a.gcode", time=2.0))
    reducer.feed(READY)
    assert reducer.state.status is PrinterStatus.IDLE
    assert reducer.state.ended is not None
    assert reducer.state.ended.outcome is Outcome.COMPLETED


def test_a_print_that_vanishes_is_a_failed_print() -> None:
    state = fed(PRINTING, READY, READY).state
    assert state.status is PrinterStatus.IDLE
    assert state.ended is not None
    assert state.ended.outcome is Outcome.FAILED


def test_a_selected_file_is_no_job() -> None:
    assert fed(READY).state.job is None


def test_the_next_print_is_never_shown_with_the_file_of_the_last() -> None:
    done = event("PrintDone", path="a.gcode", time=1.0)
    reducer = fed(PRINTING, done, READY, event("PrinterStateChanged", state_id="STARTING", state_string="Starting"))
    assert reducer.state.job is None
    reducer.feed(event("PrintStarted", path="b.gcode"))
    assert reducer.state.job is not None
    assert reducer.state.job.file == "b.gcode"


@pytest.mark.parametrize(
    ("flags", "error", "expected"),
    [
        ({"operational": True, "ready": True}, "", PrinterStatus.IDLE),
        ({"operational": True, "printing": True}, "", PrinterStatus.PRINTING),
        ({"operational": True, "printing": True, "cancelling": True}, "", PrinterStatus.BUSY),
        ({"operational": True, "printing": True, "pausing": True}, "", PrinterStatus.BUSY),
        ({"operational": True, "printing": True, "finishing": True}, "", PrinterStatus.BUSY),
        ({"operational": True, "paused": True}, "", PrinterStatus.PAUSED),
        ({"operational": True}, "", PrinterStatus.BUSY),  # sending a file to the printer's SD card
        ({}, "", PrinterStatus.CONNECTING),
        ({"closedOrError": True}, "", PrinterStatus.CONNECTING),
        ({"closedOrError": True}, "Thermal Runaway", PrinterStatus.ERROR),
        ({"closedOrError": True, "error": True}, "", PrinterStatus.ERROR),
    ],
)
def test_flags_become_a_status(flags: dict[str, bool], error: str, expected: PrinterStatus) -> None:
    assert status_from({"text": "", "flags": flags, "error": error}) is expected


def test_an_error_is_told_even_when_only_the_text_says_so() -> None:
    assert status_from({"text": "Offline after error", "flags": {"closedOrError": True}}) is PrinterStatus.ERROR
    assert message_from(PrinterStatus.ERROR, "Offline after error", "") == "Offline after error"
    assert message_from(PrinterStatus.CONNECTING, "Offline", "") != ""
    assert message_from(PrinterStatus.IDLE, "Operational", "") == ""


@pytest.mark.parametrize(("completion", "progress"), [(None, 0), (50, 0.5), (100.0, 1), (130, 1), (-3, 0)])
def test_progress_is_a_share(completion: float | None, progress: float) -> None:
    job = job_from({"file": {"path": "a.gcode"}}, {"completion": completion})
    assert job is not None
    assert job.progress == progress


# -- records


def file(path: str, success: int = 0, failure: int = 0, date: float = 0, done: bool = True) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": path, "type": "machinecode", "size": 1}
    if success or failure:
        last = {"success": done, "date": date} | ({"printTime": 2.5} if done else {})
        entry["prints"] = {"success": success, "failure": failure, "last": last}
    return entry


def test_folders_are_opened_and_models_left_out() -> None:
    tree: list[dict[str, Any]] = [
        {
            "type": "folder",
            "path": "a",
            "children": [{"type": "folder", "path": "a/b", "children": [file("a/b/c.gcode")]}],
        },
        {"type": "model", "path": "cube.stl"},
        file("d.gcode"),
    ]
    assert [entry["path"] for entry in files_from(tree)] == ["a/b/c.gcode", "d.gcode"]


def test_the_newest_record_is_what_ended_last() -> None:
    reducer = fed(READY)
    reducer.reconcile([file("old.gcode", success=3, date=100), file("new.gcode", failure=1, date=200, done=False)])
    ended = reducer.state.ended
    assert ended is not None
    assert (ended.file, ended.outcome, ended.mark) == ("new.gcode", Outcome.FAILED, "1")
    assert "cancelled or" in ended.reason


def test_the_next_event_goes_on_counting_where_the_record_is() -> None:
    reducer = fed(READY)
    reducer.reconcile([file("a.gcode", success=3, failure=1, date=100)])
    reducer.feed(event("PrintDone", path="a.gcode", time=2.0))
    after = ended_from_record(file("a.gcode", success=4, failure=1, date=200))
    assert reducer.state.ended is not None
    assert after is not None
    assert reducer.state.ended.mark == after.mark


@pytest.mark.parametrize(
    ("now", "printed"),
    [
        ([file("a.gcode", success=1, date=10), file("b.gcode")], False),
        ([file("a.gcode", success=1, date=10), file("c.gcode")], False),  # an upload
        ([file("b.gcode")], False),  # a deletion
        ([file("a.gcode", success=2, date=20)], True),
        ([file("a.gcode", success=1, failure=1, date=20, done=False)], True),
        ([file("a.gcode", success=1, date=10), file("b.gcode", failure=1, date=20, done=False)], True),
        ([file("a.gcode", success=1, date=10), file("new.gcode", success=1, date=20)], True),
        ([file("a.gcode", success=1, date=20)], True),  # deleted, sent again and printed
    ],
)
def test_its_records_show_whether_anything_was_printed(now: list[dict[str, Any]], printed: bool) -> None:
    before = {"files": marker_from([file("a.gcode", success=1, date=10), file("b.gcode")])}
    assert has_printed(before, marker_from(now)) is printed


def test_a_marker_of_another_kind_proves_nothing() -> None:
    assert has_printed({"job": 3}, {})


# -- faults


def answer(status: int, media_type: str = "application/json") -> Answer:
    return Answer(status, media_type, b"{}")


@pytest.mark.parametrize(
    ("status", "text", "write", "expected"),
    [
        (403, "", False, Unauthorised),
        (400, "CSRF validation failed", True, Unauthorised),  # what a wrong key is on a POST
        (400, "command is invalid", True, Refused),
        (404, "not found", False, Missing),
        (409, "Printer is already printing", True, Busy),
        (415, "invalid type", True, Refused),
        (500, "", True, Unclear),
        (502, "", True, Unclear),
        (500, "", False, Garbled),
        (503, "", False, Unreachable),
    ],
)
def test_faults_are_named_by_what_to_do(status: int, text: str, write: bool, expected: type[DriverError]) -> None:
    assert type(fault_of(answer(status), write=write, text=text)) is expected


def test_a_server_that_still_starts_is_not_there_yet() -> None:
    """A small server without an API holds the port then; nothing that is sent to it reaches OctoPrint."""
    assert type(fault_of(answer(404, "text/plain"), write=True, text="")) is Unreachable


def test_a_success_is_no_fault() -> None:
    assert fault_of(answer(204), write=True, text="") is None


# -- the console
def heard(lines: list[str], *logs: str) -> list[str]:
    return list(Answers(lines).feed(logs))


def test_an_answer_is_what_comes_between_a_line_and_its_ok() -> None:
    logs = ("Recv: before", "Send: M115", "Recv: FIRMWARE_NAME:Marlin", "Recv: Cap:EEPROM:1", "Recv: ok", "Recv: after")
    assert heard(["M115"], *logs) == ["FIRMWARE_NAME:Marlin", "Cap:EEPROM:1", "ok"]


def test_lines_are_known_by_their_code_with_number_and_checksum_or_without() -> None:
    assert heard(["m114 ; where"], "Send: N12 M114*28", "Recv: ok X:0.0 Y:0.0") == ["ok X:0.0 Y:0.0"]


def test_what_octoprint_asks_for_itself_is_nobodys_answer() -> None:
    logs = ("Send: M105", "Recv: ok T:21.3 /0.0", "Send: G28", "Recv: T:21.3 /0.0 B:21.3", "Recv: Not SD printing")
    assert heard(["G28"], *logs, "Recv: ok") == ["ok"]


def test_who_asks_for_temperatures_gets_them() -> None:
    logs = ("Send: M109 S60", "Recv: T:21.3 /60.0", "Recv: T:58.0 /60.0", "Recv: ok")
    assert heard(["M109 S60"], *logs) == ["T:21.3 /60.0", "T:58.0 /60.0", "ok"]


def test_a_line_that_a_plugin_swallowed_is_not_waited_for() -> None:
    answers = Answers(["M300 S440", "G90"])
    assert not answers.complete
    assert list(answers.feed(["Send: G90", "Recv: ok"])) == ["ok"]
    assert answers.complete


def test_remarks_have_no_answer() -> None:
    assert Answers(["; hello", " "]).complete


def test_an_answer_may_come_in_pieces() -> None:
    answers = Answers(["M503"])
    assert list(answers.feed(["Send: M503", "Recv: echo: M92 X80"])) == ["echo: M92 X80"]
    assert not answers.complete
    assert list(answers.feed(["Recv: ok"])) == ["ok"]
    assert answers.complete
