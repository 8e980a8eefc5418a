"""Klipper's and Moonraker's words become the farm's: recorded sockets, and the cases that no recording has."""

from __future__ import annotations

from typing import Any

import orjson
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
from printers.drivers.moonraker_words import (
    NO_KLIPPER,
    UNKNOWN_END,
    MoonrakerReducer,
    error_text,
    fault_of,
    first_line,
    has_printed,
    heaters_from,
    job_from,
    marker_from,
    status_from,
)
from tests.printers.drivers.replay import moonraker_states, story


def test_a_print_from_start_to_end() -> None:
    states = moonraker_states("complete")
    assert story(states) == ["idle", "printing complete.gcode", "busy complete.gcode", "idle after completed"]
    ended = states[-1].ended
    assert ended is not None
    assert (ended.file, ended.filament_mm) == ("complete.gcode", 36.0)
    assert ended.duration_s == pytest.approx(27.5, abs=0.1)


def test_changes_are_merged_into_what_is_known() -> None:
    for state in moonraker_states("complete"):
        assert state.temperatures.keys() == {"tool0", "tool1", "bed", "chamber"}
    made = reducer(printing(), job("in_progress"))
    made.feed(status_update(display_status={"progress": 0.5}))
    made.feed(status_update(print_stats={"total_duration": 9.0}))
    now = made.state.job
    assert now is not None
    assert (now.file, now.progress, now.elapsed_s) == ("a.gcode", 0.5, 9.0)


def test_pause_and_resume() -> None:
    assert story(moonraker_states("pause-resume")) == [
        "idle",
        "printing pauseme.gcode",
        "paused pauseme.gcode",
        "printing pauseme.gcode",
        "busy pauseme.gcode",
        "idle after completed",
    ]


def test_two_cancelled_prints_differ_in_their_mark() -> None:
    ended = {state.ended for state in moonraker_states("cancel") if state.ended}
    assert [end.outcome for end in ended] == [Outcome.CANCELLED] * 2
    assert len({end.mark for end in ended}) == 2


def test_a_gcode_error_is_a_failed_print_on_a_machine_that_is_fine() -> None:
    states = moonraker_states("gcode-error")
    assert story(states)[:4] == ["idle", "printing err.gcode", "busy err.gcode", "idle after failed"]
    assert states[-1].ended is not None
    assert states[-1].ended.reason == "Move out of range: 9999.000 10.000 0.000 [12.900]"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("emergency-stop", "Shutdown due to webhooks request"), ("mcu-lost", "Lost communication with MCU 'mcu'")],
)
def test_a_shutdown_is_an_error_although_klipper_says_paused(name: str, reason: str) -> None:
    states = moonraker_states(name)
    assert story(states) == [
        "idle",
        "printing cancelme.gcode",
        "error",
        "error after failed",
        "connecting after failed",
    ]
    assert all(state.message == reason for state in states if state.status is PrinterStatus.ERROR)
    assert states[-1].message == NO_KLIPPER
    assert states[-1].ended is not None
    assert states[-1].ended.reason == reason


def test_a_crash_of_klipper_is_a_failed_print_although_klipper_says_standby_afterwards() -> None:
    states = moonraker_states("klippy-killed")
    assert story(states) == [
        "idle",
        "printing cancelme.gcode",
        "connecting",
        "connecting after failed",
        "idle after failed",
    ]
    assert states[-1].ended is not None
    assert states[-1].ended.reason == "Klipper ended during the print."


def test_a_pause_left_behind_does_not_look_like_a_pause() -> None:
    assert "paused pauseme.gcode" not in story(moonraker_states("stale-pause"))


# -- what no recording has

READY = {"state": "ready", "state_message": "Printer is ready"}


def printing(state: str = "printing", **more: Any) -> dict[str, Any]:
    return {"filename": "a.gcode", "state": state, "print_duration": 0.0, "total_duration": 5.0, "message": ""} | more


def job(status: str, job_id: str = "00000A", **more: Any) -> dict[str, Any]:
    return {"job_id": job_id, "filename": "a.gcode", "status": status, "start_time": 1000.0} | more


def reducer(stats: dict[str, Any], newest: dict[str, Any] | None, webhooks: Any = READY) -> MoonrakerReducer:
    made = MoonrakerReducer()
    made.attach(["extruder"], {"webhooks": webhooks, "print_stats": stats, "extruder": {"temperature": 21.0}})
    made.record(newest)
    return made


def status_update(**objects: Any) -> dict[str, Any]:
    return {"method": "notify_status_update", "params": [objects, 1.0]}


@pytest.mark.parametrize("left_behind", ["server_exit", "interrupted"])
class TestMoonrakerRestartedDuringAPrint:
    """Its own record ends there and is never finished, while Klipper prints on."""

    def test_the_print_is_still_on(self, left_behind: str) -> None:
        state = reducer(printing(), job(left_behind)).state
        assert state.status is PrinterStatus.PRINTING
        assert state.ended is None

    @pytest.mark.parametrize(
        ("state", "outcome"),
        [("complete", Outcome.COMPLETED), ("cancelled", Outcome.CANCELLED), ("error", Outcome.FAILED)],
    )
    def test_its_end_is_taken_from_klipper(self, left_behind: str, state: str, outcome: Outcome) -> None:
        made = reducer(printing(), job(left_behind))
        made.feed(status_update(print_stats={"state": state, "message": "Move out of range"}))
        ended = made.state.ended
        assert ended is not None
        assert (ended.outcome, ended.file) == (outcome, "a.gcode")
        assert ended.reason == ("Move out of range" if outcome is Outcome.FAILED else "")

    def test_if_klipper_has_forgotten_it_nobody_knows_and_that_is_said(self, left_behind: str) -> None:
        ended = reducer(printing("standby", filename=""), job(left_behind)).state.ended
        assert ended is not None
        assert (ended.outcome, ended.reason) == (Outcome.FAILED, UNKNOWN_END)

    def test_while_klipper_is_away_nothing_is_said(self, left_behind: str) -> None:
        made = MoonrakerReducer()
        made.record(job(left_behind))
        assert made.state.ended is None


def test_a_machine_is_busy_until_the_history_has_said_how_the_print_ended() -> None:
    made = reducer(printing("complete"), job("in_progress"))
    assert made.state.status is PrinterStatus.BUSY
    made.feed({"method": "notify_history_changed", "params": [{"action": "finished", "job": job("completed")}]})
    assert made.state.status is PrinterStatus.IDLE
    assert made.state.ended is not None
    assert made.state.ended.outcome is Outcome.COMPLETED


def test_a_history_that_never_says_it_does_not_block_the_machine_for_ever() -> None:
    made = reducer(printing("complete"), job("in_progress"))
    made.give_up_waiting()
    assert made.state.status is PrinterStatus.IDLE
    assert made.state.ended is not None
    assert made.state.ended.outcome is Outcome.COMPLETED


def test_the_first_reason_stays_after_klipper_has_forgotten_it() -> None:
    made = reducer(printing("error", message="Heater broken"), job("error"))
    made.attach(["extruder"], {"webhooks": READY, "print_stats": printing("standby", filename="")})
    made.record(job("error"))
    assert made.state.ended is not None
    assert made.state.ended.reason == "Heater broken"


def test_a_new_subscription_forgets_the_old_one() -> None:
    made = reducer(printing(), job("in_progress"))
    made.feed({"method": "notify_klippy_disconnected"})
    assert (made.attached, made.state.status, made.state.temperatures) == (False, PrinterStatus.CONNECTING, {})


def test_a_print_that_the_history_does_not_know_goes_on_over_a_new_subscription() -> None:
    made = reducer(printing(), None)
    made.attach(["extruder"], {"webhooks": READY, "print_stats": printing()})
    assert (made.state.status, made.state.ended) == (PrinterStatus.PRINTING, None)


def test_a_heartbeat_says_something_and_chatter_does_not() -> None:
    made = MoonrakerReducer()
    assert made.feed({"method": "notify_proc_stat_update", "params": [{}]})
    assert not made.feed({"method": "notify_gcode_response", "params": ["ok"]})


@pytest.mark.parametrize(
    ("webhooks", "stats", "expected"),
    [
        (None, "printing", PrinterStatus.CONNECTING),
        ("startup", "standby", PrinterStatus.CONNECTING),
        ("ready", "standby", PrinterStatus.IDLE),
        ("ready", "complete", PrinterStatus.IDLE),
        ("ready", "error", PrinterStatus.IDLE),
        ("ready", "printing", PrinterStatus.PRINTING),
        ("ready", "paused", PrinterStatus.PAUSED),
        ("shutdown", "paused", PrinterStatus.ERROR),
        ("error", "standby", PrinterStatus.ERROR),
    ],
)
def test_klippers_own_state_goes_before_the_prints(webhooks: str | None, stats: str, expected: PrinterStatus) -> None:
    objects = {"webhooks": {"state": webhooks} if webhooks else {}, "print_stats": {"state": stats}}
    assert status_from(objects) is expected


def test_heaters_are_found_by_name() -> None:
    names = ["heater_bed", "extruder", "extruder1", "extruder_stepper x", "temperature_sensor raspberry_pi",
             "temperature_sensor Chamber", "heater_generic chamber_heater"]  # fmt: skip
    assert heaters_from(names) == {
        "tool0": "extruder",
        "tool1": "extruder1",
        "bed": "heater_bed",
        "chamber": "heater_generic chamber_heater",
    }


def test_a_thermometer_has_no_target() -> None:
    made = MoonrakerReducer()
    made.attach(
        ["temperature_sensor chamber"], {"webhooks": READY, "temperature_sensor chamber": {"temperature": 30.5}}
    )
    assert made.state.temperatures == {"chamber": Temperature(actual=30.5, target=0)}


def test_time_left_comes_from_the_slicer_first_and_from_progress_later() -> None:
    early = {"print_stats": printing(print_duration=2.0), "virtual_sdcard": {"progress": 0.01}}
    later = {"print_stats": printing(print_duration=60.0), "virtual_sdcard": {"progress": 0.25}}
    left = [getattr(job_from(objects, estimate_s=100.0), "left_s", None) for objects in (early, later)]
    assert left == [98.0, 180.0]
    assert getattr(job_from(early), "left_s", 0) is None


def test_what_is_read_of_the_file_is_said_where_progress_is_the_slicers_own() -> None:
    plain = job_from({"print_stats": printing(), "virtual_sdcard": {"progress": 0.25}})
    same = {"virtual_sdcard": {"progress": 0.25}, "display_status": {"progress": 0.25}}
    timed = {"virtual_sdcard": {"progress": 0.25}, "display_status": {"progress": 0.4}}
    found = [job_from({"print_stats": printing(), **objects}) for objects in (same, timed)]
    assert [(job.progress, job.read) for job in (plain, *found) if job] == [(0.25, None), (0.25, None), (0.4, 0.25)]


def test_the_useful_line_of_a_message_is_the_first_that_is_not_empty() -> None:
    assert (
        first_line("\nPrinter is not ready\nThe klippy host software is attempting to connect.")
        == "Printer is not ready"
    )
    assert first_line(None) == ""


# -- prints that the history knows nothing of


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("complete", Outcome.COMPLETED), ("cancelled", Outcome.CANCELLED), ("error", Outcome.FAILED)],
)
def test_a_print_that_moonraker_never_wrote_down_ends_by_klippers_own_state(state: str, outcome: Outcome) -> None:
    older = job("completed", filename="older.gcode")
    made = reducer(printing(), older)
    assert made.state.ended is not None
    assert made.state.ended.file == "older.gcode"
    made.feed(status_update(print_stats={"state": state, "message": "Heater broken"}))
    ended = made.state.ended
    assert (ended.file, ended.outcome) == ("a.gcode", outcome)
    assert ended.reason == ("Heater broken" if outcome is Outcome.FAILED else "")
    made.record(older)  # as after a restart of Klipper
    assert made.state.ended == ended


def test_a_crash_during_such_a_print_is_its_end() -> None:
    made = reducer(printing(), None)
    made.feed({"method": "notify_klippy_disconnected"})
    assert made.state.ended is not None
    assert (made.state.ended.outcome, made.state.ended.reason) == (Outcome.FAILED, "Klipper ended during the print.")


def test_a_reprint_of_the_same_file_without_a_record_is_an_end_of_its_own() -> None:
    made = reducer(printing("complete"), job("completed"))
    first = made.state.ended
    made.feed(status_update(print_stats={"state": "printing", "total_duration": 0.1}))
    made.feed(status_update(print_stats={"state": "complete", "total_duration": 7.0}))
    assert first is not None
    assert made.state.ended is not None
    assert made.state.ended.mark != first.mark


def test_a_print_that_the_history_knows_ends_once() -> None:
    made = reducer(printing(), job("in_progress"))
    made.feed(status_update(print_stats={"state": "complete"}))
    assert made.state.ended is None
    made.feed({"method": "notify_history_changed", "params": [{"action": "finished", "job": job("completed")}]})
    assert made.state.ended is not None
    assert made.state.ended.mark == "00000A-1000"


# -- history


@pytest.mark.parametrize(
    ("newest", "count", "file", "printed"),
    [
        (job("completed", "00000A", start_time=1000), 10, "a.gcode", False),
        (job("completed", "00000A", start_time=1000), 10, "", False),  # Klipper was restarted
        (job("completed", "00000A", start_time=1000), 10, None, False),  # Klipper is not there
        (job("completed", "00000A", start_time=1000), 10, "b.gcode", True),  # printed while Moonraker was down
        (job("completed", "000009", start_time=900), 10, "a.gcode", False),  # the newest entry was deleted
        (None, 10, "a.gcode", False),  # all were deleted
        (job("completed", "00000B", start_time=1100), 11, "a.gcode", True),
        (job("in_progress", "00000B", start_time=1100), 10, "a.gcode", True),
        (job("completed", "000001", start_time=1100), 1, "a.gcode", True),  # deleted, reset, then a print
        (job("completed", "00000A", start_time=1000), 11, "a.gcode", True),  # a print whose entry was deleted
        (None, 0, "a.gcode", True),  # deleted and reset: nobody can tell
        (job("completed", "00000A", start_time=1000), 0, "a.gcode", False),  # only reset
    ],
)
def test_its_history_shows_whether_anything_was_printed(
    newest: dict[str, Any] | None, count: int, file: str | None, printed: bool
) -> None:
    before = marker_from(job("completed", "00000A", start_time=1000), {"total_jobs": 10.0}, "a.gcode")
    assert has_printed(before, marker_from(newest, {"total_jobs": float(count)}, file)) is printed


def test_a_first_print_is_a_print() -> None:
    never = marker_from(None, {}, "")
    assert has_printed(never, marker_from(job("completed", "000001"), {"total_jobs": 1.0}, "a.gcode"))
    assert not has_printed(never, never)


def test_a_marker_of_another_kind_proves_nothing() -> None:
    assert has_printed({"files": {}}, marker_from(None, {}, ""))


# -- faults


def failure(status: int, message: str, traceback: str = "") -> Answer:
    error = {"error": {"code": status, "message": message, "traceback": traceback}}
    return Answer(status, "application/json", orjson.dumps(error))


@pytest.mark.parametrize(
    ("message", "traceback", "text"),
    [
        ("Unknown", "HTTPError: HTTP 400: \nPrinter is not ready\nThe klippy host ...\n", "Printer is not ready"),
        (
            "Bad Request",
            "HTTPError: HTTP 400: Bad Request (Invalid file path: gcodes/a)\n",
            "Invalid file path: gcodes/a",
        ),
        (
            "x",
            "HTTPError: HTTP 400: Temperature (499.0) out of range (0.0:300.0)\n",
            "Temperature (499.0) out of range (0.0:300.0)",
        ),
        ("SD busy", "", "SD busy"),
    ],
)
def test_the_real_text_of_an_error_is_at_the_end_of_its_traceback(message: str, traceback: str, text: str) -> None:
    assert error_text(failure(400, message, f"Traceback ...\n\ntornado.web.{traceback}")) == text


def test_an_answer_that_is_no_error_of_moonraker_has_no_text() -> None:
    assert error_text(Answer(502, "text/html", b"<h1>Bad gateway</h1>")) == ""
    assert error_text(Answer(400, "application/json", b'{"error": "else"}')) == ""


@pytest.mark.parametrize(
    ("status", "text", "write", "expected"),
    [
        (401, "Unauthorized", False, Unauthorised),
        (403, "File currently in use", True, Busy),
        (400, "SD busy", True, Busy),
        (400, "Unable to open file", True, Missing),
        (400, "Must home axis first", True, Refused),
        (404, "Not Found", False, Missing),
        (404, "Not Found", True, Refused),  # a command's route is missing until Klipper has come once
        (503, "Klippy Host not connected", True, Refused),
        (422, "File checksum mismatch", True, Refused),
        (500, "", True, Unclear),
        (500, "", False, Garbled),
    ],
)
def test_faults_are_named_by_what_to_do(status: int, text: str, write: bool, expected: type[DriverError]) -> None:
    assert type(fault_of(failure(status, text), write=write, text=text)) is expected


@pytest.mark.parametrize(("write", "expected"), [(True, Unclear), (False, Unreachable)])
def test_a_proxy_without_its_server_is_not_klipper_saying_no(write: bool, expected: type[DriverError]) -> None:
    assert type(fault_of(Answer(503, "text/html", b""), write=write, text="")) is expected
