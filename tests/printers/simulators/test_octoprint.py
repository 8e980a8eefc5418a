"""The simulated OctoPrint says what a real OctoPrint 1.11.8 said, message by message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from printers.simulators.octoprint_files import Storage
from printers.simulators.octoprint_host import Host
from tests.peers import SimulatorPeer, wait_for
from tests.printers.simulators.conftest import (
    DEADLINE_S,
    Ask,
    Ear,
    await_print,
    differences,
    gcode,
    octoprint_ear,
    upload,
)

REAL: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "simulators" / "octoprint.json").read_text())


@pytest.fixture
def ask(octoprint: SimulatorPeer) -> Ask:
    return Ask(octoprint.url, octoprint.api_key)


def is_event(name: str) -> Any:
    return lambda message: message.get("event", {}).get("type") == name


def events(ear: Ear) -> list[str]:
    """Names of what happened, with the state where that changed."""
    heard = [message["event"] for message in ear.heard if "event" in message]
    return [
        event["payload"]["state_id"] if event["type"] == "PrinterStateChanged" else event["type"] for event in heard
    ]


def state(ask: Ask) -> str:
    return str(ask.json("/api/job")["state"])


def until_state(ask: Ask, text: str) -> None:
    wait_for(text, lambda: state(ask) == text, DEADLINE_S)


# -- shapes


@pytest.mark.parametrize("simulator", ["octoprint"], indirect=True)
def test_what_it_tells_before_any_file_was_loaded(simulator: SimulatorPeer) -> None:
    ask = Ask(simulator.url, simulator.api_key)
    assert differences(ask.json("/api/job"), REAL["job_before_any_file"]) == []
    assert differences(ask.json("/api/connection"), REAL["connection"]) == []
    wait_for("temperatures", lambda: ask.json("/api/printer")["temperature"] != {}, DEADLINE_S)
    assert differences(ask.json("/api/printer"), REAL["printer"]) == []


def test_a_print_is_told_as_the_real_one_tells_it(octoprint: SimulatorPeer, ask: Ask) -> None:
    with octoprint_ear(octoprint) as ear:
        answer = upload(octoprint, "told.gcode", gcode(3000), begin=True)
        assert answer.status_code == 201
        assert differences(answer.json(), REAL["upload"]) == []
        current = ear.until(lambda m: m.get("current", {}).get("state", {}).get("text") == "Printing")
        assert differences(current["current"], REAL["current"]) == []
        octoprint.fault("speed", speed=5000)
        ear.until(is_event("PrintDone"))
        history = ear.until(lambda m: "history" in m)["history"]
        assert differences({**history, "job": None}, REAL["history"]) == []
        for message in list(ear.heard):
            if "event" in message and (real := REAL["events"].get(message["event"]["type"])):
                assert differences(message["event"], real) == []
    until_state(ask, "Operational")
    assert differences(ask.json("/api/job"), REAL["job_done"]) == []
    wait_for("the analysis", lambda: "gcodeAnalysis" in ask.json("/api/files/local/told.gcode"), DEADLINE_S)
    assert differences(ask.json("/api/files/local/told.gcode"), REAL["file_done"]) == []


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (
            [("pause", "Paused"), ("resume", "Printing"), ("cancel", "Operational")],
            "STARTING PrintStarted PRINTING PAUSING PrintPaused PAUSED RESUMING PrintResumed PRINTING "
            "PrintCancelling CANCELLING PrintCancelled PrintFailed OPERATIONAL",
        ),
        (
            [("!!DEBUG:trigger_fatal_error_marlin", "Offline after error"), ("connect", "Operational")],
            "STARTING PrintStarted PRINTING ERROR Error PrintFailed EStop Disconnected OFFLINE "
            "Connecting DETECT_SERIAL OPERATIONAL Connected",
        ),
        (
            [("M112", "Offline after error"), ("connect", "Operational")],
            "STARTING PrintStarted PRINTING Disconnected OFFLINE EStop PrintFailed "
            "Connecting DETECT_SERIAL OPERATIONAL Connected",
        ),
        (
            [("disconnect", "Offline"), ("connect", "Operational")],
            "STARTING PrintStarted PRINTING Disconnecting Disconnected OFFLINE PrintFailed "
            "Connecting DETECT_SERIAL OPERATIONAL Connected",
        ),
        (
            # forgotten without a word: no PrintFailed, no record in the file
            [("pause", "Paused"), ("disconnect", "Offline"), ("connect", "Operational")],
            "STARTING PrintStarted PRINTING PAUSING PrintPaused PAUSED Disconnecting Disconnected OFFLINE "
            "Connecting DETECT_SERIAL OPERATIONAL Connected",
        ),
    ],
    ids=["cancel", "fatal", "M112", "disconnect", "disconnect-paused"],
)
def test_events_come_in_the_real_order(
    octoprint: SimulatorPeer, ask: Ask, commands: list[tuple[str, str]], expected: str
) -> None:
    with octoprint_ear(octoprint) as ear:
        ear.until(is_event("ClientAuthed"))
        upload(octoprint, "order.gcode", gcode(5000), begin=True)
        ear.until(lambda m: is_event("PrinterStateChanged")(m) and m["event"]["payload"]["state_id"] == "PRINTING")
        for command, after in commands:
            _command(ask, command)
            until_state(ask, after)
        wanted = set(expected.split())
        wait_for("the last event", lambda: expected.split()[-1] == [n for n in events(ear) if n in wanted][-1])
    assert " ".join(name for name in events(ear) if name in wanted) == expected


def _command(ask: Ask, command: str) -> None:
    if command in ("pause", "resume", "cancel"):
        body = {"command": command} if command == "cancel" else {"command": "pause", "action": command}
        assert ask("POST", "/api/job", json=body).status_code == 204
    elif command in ("connect", "disconnect"):
        assert ask("POST", "/api/connection", json={"command": command}).status_code == 204
    else:
        assert ask("POST", "/api/printer/command", json={"command": command}).status_code == 204


def test_a_new_target_is_told_before_the_next_poll(tmp_path: Path) -> None:
    """Or a print would end and its heaters seem to stay on."""
    heard: list[tuple[str, Any]] = []
    host = Host(Storage(tmp_path), lambda kind, details: heard.append((kind, details)))
    for line in ("M140 S60", "M104 S210", "M104 S0", "M104 S0", "M105"):
        host.machine.perform(line)
    samples = [sample for kind, sample in heard if kind == "temps"]
    assert [(s["bed"]["target"], s["tool0"]["target"]) for s in samples] == [(60, 0), (60, 210), (60, 0)]


# -- odd answers that a client must know


def test_a_wrong_key_is_403_to_a_get_and_a_csrf_failure_to_a_post(ask: Ask) -> None:
    assert ask("GET", "/api/version", key=None).status_code == 403
    assert ask("GET", "/api/version", key="wrong").status_code == 403
    answer = ask("POST", "/api/job", key="wrong", json={"command": "cancel"})
    assert (answer.status_code, answer.json()) == (400, {"error": "CSRF validation failed"})


def test_a_start_with_no_file_is_a_silent_nothing(octoprint: SimulatorPeer, ask: Ask) -> None:
    upload(octoprint, "unselected.gcode", gcode(5), begin=False)
    ask("POST", "/api/files/local/unselected.gcode", json={"command": "select"})
    ask("POST", "/api/files/local/unselected.gcode", json={"command": "unselect"})
    assert ask("POST", "/api/job", json={"command": "start"}).status_code == 204
    assert "unselected.gcode" not in octoprint.happened()["starts"]


@pytest.mark.parametrize(
    ("name", "path"), [("a & b.gcode", "a  b.gcode"), ("x:y?.gcode", "xy.gcode"), (".hidden.gcode", "hidden.gcode")]
)
def test_it_takes_letters_out_of_names(octoprint: SimulatorPeer, name: str, path: str) -> None:
    assert upload(octoprint, name, gcode(2)).json()["files"]["local"]["path"] == path


def test_it_cannot_be_made_to_write_elsewhere(octoprint: SimulatorPeer) -> None:
    assert upload(octoprint, "../../evil.gcode", gcode(2)).status_code == 400


def test_a_chunked_upload_is_411(ask: Ask) -> None:
    body = iter([b"--x--\r\n"])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert ask("POST", "/api/files/local", data=body, headers=headers).status_code == 411


def test_print_while_printing_stores_and_says_so(octoprint: SimulatorPeer, ask: Ask) -> None:
    upload(octoprint, "long.gcode", gcode(5000), begin=True)
    until_state(ask, "Printing")
    other = upload(octoprint, "other.gcode", gcode(5), begin=True)
    assert (other.status_code, other.json()["effectivePrint"]) == (201, False)
    assert ask("DELETE", "/api/files/local/long.gcode").status_code == 409
    assert upload(octoprint, "long.gcode", gcode(5)).status_code == 409
    ask("POST", "/api/job", json={"command": "cancel"})
    until_state(ask, "Operational")
    assert octoprint.happened()["starts"].get("other.gcode") is None


def test_the_record_of_a_file_survives_the_same_content_and_not_another(octoprint: SimulatorPeer, ask: Ask) -> None:
    upload(octoprint, "kept.gcode", gcode(3), begin=True)
    wait_for("the print", lambda: "prints" in ask.json("/api/files/local/kept.gcode"), DEADLINE_S)
    until_state(ask, "Operational")
    upload(octoprint, "kept.gcode", gcode(3))
    assert ask.json("/api/files/local/kept.gcode")["prints"]["success"] == 1
    upload(octoprint, "kept.gcode", gcode(4))
    assert "prints" not in ask.json("/api/files/local/kept.gcode")


# -- the socket


def test_an_api_key_at_the_socket_is_never_answered(octoprint: SimulatorPeer) -> None:
    with (
        Ear(octoprint, "/sockjs/websocket", {"auth": octoprint.api_key}) as silent,
        octoprint_ear(octoprint) as authorised,
    ):
        silent.until(lambda m: "connected" in m)
        authorised.until(lambda m: "current" in m)
        assert [list(message) for message in silent.heard] == [["connected"]]


def test_a_stale_session_is_told_to_log_in_again(octoprint: SimulatorPeer) -> None:
    with Ear(octoprint, "/sockjs/websocket", {"auth": "_api:deadbeef"}) as ear:
        assert ear.until(lambda m: "reauthRequired" in m) == {"reauthRequired": {"reason": "stale"}}


def test_what_is_not_json_is_ignored_and_what_is_no_object_hangs_up(octoprint: SimulatorPeer) -> None:
    with octoprint_ear(octoprint, "garbage") as ear:
        ear.until(lambda m: "current" in m)
        ear.say("[1]")
        assert ear.gone.wait(DEADLINE_S)


def test_a_subscriber_gets_only_what_it_asked_for(octoprint: SimulatorPeer) -> None:
    wish = {"state": {"logs": False, "messages": False}, "events": ["PrintStarted"], "plugins": False}
    with octoprint_ear(octoprint, {"subscribe": wish}) as ear:
        upload(octoprint, "chosen.gcode", gcode(3000), begin=True)
        current = ear.until(lambda m: m.get("current", {}).get("state", {}).get("text") == "Printing")["current"]
        octoprint.fault("speed", speed=5000)
        await_print(octoprint, False)
    assert (current["logs"], current["messages"]) == ([], [])
    assert events(ear) == ["PrintStarted"]
