"""What the simulators do at the worst moment, when a test tells them to. Each fault is as a client would meet it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.peers import ROOT, SimulatorPeer, wait_for
from tests.printers.simulators.conftest import (
    DEADLINE_S,
    KINDS,
    Ask,
    Ear,
    await_print,
    await_ready,
    begin,
    gcode,
    moonraker_ear,
    octoprint_ear,
    upload,
)

SHORT = 0.4  # seconds, to wait for an answer that certainly never comes


def ear_on(simulator: SimulatorPeer) -> Ear:
    return octoprint_ear(simulator) if simulator.kind == "octoprint" else moonraker_ear(simulator)


def path_of(simulator: SimulatorPeer, name: str) -> str:
    return f"/api/files/local/{name}" if simulator.kind == "octoprint" else f"/server/files/metadata?filename={name}"


def is_alive(simulator: SimulatorPeer) -> bool:
    try:
        Ask(simulator.url, simulator.api_key)("GET", "/simulator/")
    except requests.ConnectionError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_where_it_is_and_ends_when_it_is_told_to(kind: str) -> None:
    command = [sys.executable, "-m", f"printers.simulators.{kind}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert Ask(ready["url"], ready["api_key"])("GET", "/simulator/").ok
        process.terminate()
        rest, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_the_door_needs_the_key_and_knows_its_faults(simulator: SimulatorPeer) -> None:
    ask = Ask(simulator.url, simulator.api_key)
    assert ask("GET", "/simulator/", key="wrong").status_code in (401, 403)
    bad: list[Any] = [{"fault": "no such thing"}, {"fault": "speed"}, [], {"fault": "local_start", "file": "no.gcode"}]
    for body in bad:
        assert ask("POST", "/simulator/", json=body).status_code == 400


@pytest.mark.parametrize("left", [{"fault": "speed", "speed": 3}, {"fault": "refuse_start"}, {"fault": "slow_upload"}])
def test_it_is_at_rest_until_something_is_left_behind(simulator: SimulatorPeer, left: dict[str, Any]) -> None:
    assert simulator.happened()["at_rest"] is True
    Ask(simulator.url, simulator.api_key)("POST", "/simulator/", json=left)
    assert simulator.happened()["at_rest"] is False


def test_everything_is_counted(simulator: SimulatorPeer) -> None:
    simulator.fault("speed", speed=500)
    upload(simulator, "counted.gcode", gcode(20, end="M117 done\n"))
    for _ in range(2):
        begin(simulator, "counted.gcode")
        wait_for("filament", lambda: simulator.happened()["filament_mm"] > 1.8, DEADLINE_S)
        await_print(simulator, False)
        wait_for("idle", lambda: _may_start(simulator), DEADLINE_S)
    happened = simulator.happened()
    assert happened["starts"] == {"counted.gcode": 2}
    assert happened["uploads"] == ["counted.gcode"]
    assert happened["commands"] == ["start", "start"]
    assert happened["speed"] == 500


def _may_start(simulator: SimulatorPeer) -> bool:
    ask = Ask(simulator.url, simulator.api_key)
    if simulator.kind == "octoprint":
        return bool(ask.json("/api/job")["state"] == "Operational")
    status = ask.json("/printer/objects/query?print_stats=state")["result"]["status"]
    return bool(status["print_stats"]["state"] in ("complete", "standby"))


# -- a server that hangs or goes


def test_a_hanging_server_takes_requests_and_carries_them_out_later(simulator: SimulatorPeer) -> None:
    upload(simulator, "late.gcode", gcode(500))
    if simulator.kind == "octoprint":
        Ask(simulator.url, simulator.api_key)("POST", "/api/files/local/late.gcode", json={"command": "select"})
    simulator.fault("hang", seconds=600)
    with pytest.raises(requests.ReadTimeout):
        _start(simulator, "late.gcode", SHORT)
    assert simulator.happened()["starts"] == {}
    simulator.fault("resume")
    wait_for("the late start", lambda: simulator.happened()["starts"] == {"late.gcode": 1}, DEADLINE_S)


def _start(simulator: SimulatorPeer, name: str, timeout: float) -> requests.Response:
    """The one request that starts, and nothing before it."""
    ask = Ask(simulator.url, simulator.api_key)
    if simulator.kind == "octoprint":
        answer: requests.Response = ask("POST", "/api/job", json={"command": "start"}, timeout=timeout)
    else:
        answer = ask("POST", "/printer/print/start", json={"filename": name}, timeout=timeout)
    return answer


def test_a_hanging_server_says_nothing_on_its_sockets(simulator: SimulatorPeer) -> None:
    upload(simulator, "meanwhile.gcode", gcode(5000), begin=True)
    await_print(simulator, True)
    with ear_on(simulator) as ear:
        ear.until(lambda message: True)
        simulator.fault("hang", seconds=600)
        _until_it_has_moved_on(simulator)  # what was said before is heard by then
        ear.forget()
        _until_it_has_moved_on(simulator)
        assert ear.heard == []
        simulator.fault("resume")
        ear.until(lambda message: True)
        assert not ear.gone.is_set()


def _until_it_has_moved_on(simulator: SimulatorPeer) -> None:
    """By 5 mm of filament, 1.5 s of the machine, in which a healthy server would have spoken."""
    before = simulator.happened()["filament_mm"]
    wait_for("filament", lambda: simulator.happened()["filament_mm"] > before + 5, DEADLINE_S)


def test_sockets_drop_without_a_close_frame_and_the_server_stays(simulator: SimulatorPeer) -> None:
    with ear_on(simulator) as ear:
        simulator.fault("drop")
        assert ear.gone.wait(DEADLINE_S)
        assert not ear.clean_end
    assert is_alive(simulator)


@pytest.mark.parametrize("fault", ["power_loss", "restart"])
def test_a_server_that_goes_comes_back_with_its_files(simulator: SimulatorPeer, fault: str) -> None:
    upload(simulator, "kept.gcode", gcode(5000), begin=True)
    await_print(simulator, True)
    with ear_on(simulator) as ear:
        simulator.fault(fault, seconds=0.5)
        assert ear.gone.wait(DEADLINE_S)
        assert not ear.clean_end
    wait_for("its return", lambda: is_alive(simulator), DEADLINE_S)
    await_ready(simulator)
    assert Ask(simulator.url, simulator.api_key)("GET", path_of(simulator, "kept.gcode")).status_code == 200
    # a Moonraker that restarts is not the machine: Klippy prints on
    assert simulator.happened()["printing"] is (simulator.kind == "moonraker" and fault == "restart")
    assert simulator.happened()["starts"] == {"kept.gcode": 1}


def test_octoprint_forgets_sessions_and_the_loaded_file_when_it_restarts() -> None:
    with SimulatorPeer("octoprint") as peer:
        await_ready(peer)
        ask = Ask(peer.url, peer.api_key)
        upload(peer, "loaded.gcode", gcode(5000), begin=True)
        session = ask("POST", "/api/login", json={"passive": True}).json()["session"]
        with octoprint_ear(peer) as ear:
            peer.fault("power_loss", seconds=0.2)
            assert ear.gone.wait(DEADLINE_S)
        wait_for("its return", lambda: is_alive(peer), DEADLINE_S)
        await_ready(peer)
        assert ask.json("/api/job")["job"]["file"]["name"] is None
        assert "prints" not in ask.json("/api/files/local/loaded.gcode"), "a killed server records no failure"
        with Ear(peer, "/sockjs/websocket", {"auth": f"_api:{session}"}) as ear:
            ear.until(lambda m: "reauthRequired" in m)


# -- starts


@pytest.mark.parametrize(("fault", "starts"), [("swallow_start", {"once.gcode": 1}), ("ignore_start", {})])
def test_a_start_that_is_never_answered(simulator: SimulatorPeer, fault: str, starts: dict[str, int]) -> None:
    """Begun or not, the client cannot tell."""
    upload(simulator, "once.gcode", gcode(5000))
    simulator.fault(fault)
    with pytest.raises(requests.ReadTimeout):
        begin(simulator, "once.gcode", timeout=SHORT)
    wait_for("the fault", lambda: simulator.happened()["ordered"] == [], DEADLINE_S)
    assert simulator.happened()["starts"] == starts
    assert simulator.happened()["printing"] is bool(starts)


def test_a_start_with_the_upload_can_be_swallowed_too(simulator: SimulatorPeer) -> None:
    simulator.fault("swallow_start")
    with pytest.raises(requests.ReadTimeout):
        upload(simulator, "both.gcode", gcode(5000), begin=True, timeout=SHORT)
    wait_for("the fault", lambda: simulator.happened()["ordered"] == [], DEADLINE_S)
    assert simulator.happened()["starts"] == {"both.gcode": 1}


def test_a_start_is_refused_as_often_as_was_ordered(simulator: SimulatorPeer) -> None:
    upload(simulator, "refused.gcode", gcode(5))
    simulator.fault("refuse_start", message="Not today", times=2)
    for _ in range(2):
        answer = begin(simulator, "refused.gcode")
        assert answer.status_code in (400, 409)
        assert "Not today" in answer.text
    assert simulator.happened()["starts"] == {}
    assert begin(simulator, "refused.gcode").ok
    assert simulator.happened()["starts"] == {"refused.gcode": 1}


def test_somebody_at_the_machine_starts_a_file(simulator: SimulatorPeer) -> None:
    upload(simulator, "theirs.gcode", gcode(5000))
    simulator.fault("local_start", file="theirs.gcode")
    await_print(simulator, True)
    assert simulator.happened()["commands"] == [], "nobody asked for it over the network"
    with pytest.raises(requests.HTTPError):
        simulator.fault("local_start", file="theirs.gcode")


# -- prints that fail


def failed(simulator: SimulatorPeer) -> Callable[[], bool]:
    ask = Ask(simulator.url, simulator.api_key)
    if simulator.kind == "octoprint":
        return lambda: ask.json("/api/job").get("error") == "Nozzle clogged"
    return lambda: (
        ask.json("/printer/objects/query?print_stats")["result"]["status"]["print_stats"]["message"] == "Nozzle clogged"
    )


def test_a_print_fails_when_it_is_told_to(simulator: SimulatorPeer) -> None:
    upload(simulator, "fails.gcode", gcode(5000), begin=True)
    await_print(simulator, True)
    simulator.fault("fail_print", message="Nozzle clogged")
    wait_for("the failure", failed(simulator), DEADLINE_S)
    assert simulator.happened()["printing"] is False


def test_a_print_fails_half_way(simulator: SimulatorPeer) -> None:
    simulator.fault("fail_print", message="Nozzle clogged", at=0.5)
    simulator.fault("speed", speed=200)
    upload(simulator, "half.gcode", gcode(100), begin=True)
    wait_for("the failure", failed(simulator), DEADLINE_S)
    assert simulator.happened()["filament_mm"] == pytest.approx(5.0, abs=1.0)


# -- uploads


def test_a_slow_upload_stalls_until_it_is_read(simulator: SimulatorPeer) -> None:
    simulator.fault("slow_upload", seconds=0.6)
    began = time.monotonic()
    assert upload(simulator, "slow.gcode", gcode(5)).status_code == 201
    assert time.monotonic() - began > 0.55
    simulator.fault("slow_upload", seconds=0)
    with pytest.raises(requests.HTTPError):
        simulator.fault("slow_upload", seconds="no number")


def test_an_upload_can_be_refused_or_arrive_short(simulator: SimulatorPeer) -> None:
    ask, text = Ask(simulator.url, simulator.api_key), gcode(50)
    simulator.fault("reject_upload")
    assert upload(simulator, "no.gcode", text).status_code == 500
    assert ask("GET", path_of(simulator, "no.gcode")).status_code == 404
    simulator.fault("corrupt_upload")
    assert upload(simulator, "short.gcode", text).status_code == 201
    found = ask.json(path_of(simulator, "short.gcode"))
    assert found.get("result", found)["size"] == len(text) // 2
