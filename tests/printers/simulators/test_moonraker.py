"""The simulated Moonraker says what a real Moonraker 0.11.0 in front of a real Klipper v0.13 said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.peers import SimulatorPeer, wait_for
from tests.printers.simulators.conftest import (
    DEADLINE_S,
    Ask,
    Ear,
    await_ready,
    begin,
    differences,
    gcode,
    moonraker_ear,
    upload,
)

REAL: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "simulators" / "moonraker.json").read_text())


@pytest.fixture
def ask(moonraker: SimulatorPeer) -> Ask:
    return Ask(moonraker.url, moonraker.api_key)


def objects(ask: Ask, *names: str) -> Any:
    return ask.json("/printer/objects/query?" + "&".join(names))["result"]["status"]


def print_state(ask: Ask) -> str:
    return str(objects(ask, "print_stats")["print_stats"]["state"])


def klippy_state(ask: Ask) -> str:
    return str(ask.json("/server/info")["result"]["klippy_state"])


def newest_job(ask: Ask) -> Any:
    """Empty while there is none."""
    return next(iter(ask.json("/server/history/list?limit=1")["result"]["jobs"]), {})


def until_newest(ask: Ask, **expected: str) -> None:
    """Wait until the newest job in the history is like that."""
    wait_for(f"a job {expected}", lambda: expected.items() <= newest_job(ask).items(), DEADLINE_S)


def cancel(ask: Ask) -> None:
    """And wait until Moonraker itself has seen it: until then it starts no uploaded file."""
    ask("POST", "/printer/print/cancel")
    until_newest(ask, status="cancelled")


def is_call(method: str) -> Any:
    return lambda message: message.get("method") == method


def has_state(name: str, value: str) -> Any:
    return lambda m: m.get("method") == "notify_status_update" and m["params"][0].get(name, {}).get("state") == value


def edges(ear: Ear) -> list[str]:
    """What a client must not miss, in order."""
    found = []
    for message in ear.heard:
        method, params = message.get("method", ""), message.get("params", [])
        if method == "notify_history_changed":
            found.append(f"{params[0]['action']} {params[0]['job']['status']}")
        elif method == "notify_status_update":
            found += [f"{name} {params[0][name]['state']}" for name in ("webhooks", "print_stats")
                      if "state" in params[0].get(name, {})]  # fmt: skip
        elif method.startswith("notify_klippy"):
            found.append(method)
    return found


# -- shapes


def test_a_print_is_told_as_the_real_one_tells_it(moonraker: SimulatorPeer, ask: Ask) -> None:
    with moonraker_ear(moonraker) as ear:
        first = ear.until(lambda m: m.get("id") == 1)["result"]
        told = {name: first["status"][name] for name in ("webhooks", "print_stats", "virtual_sdcard", "pause_resume")}
        assert differences(told, {name: REAL["subscribe"]["status"][name] for name in told}) == []
        answer = upload(moonraker, "told.gcode", gcode(30), begin=True)
        assert answer.status_code == 201
        assert differences(answer.json(), REAL["upload"]) == []
        added = ear.until(is_call("notify_history_changed"))
        assert differences(added, REAL["history_changed"]) == []
        ear.until(lambda m: is_call("notify_history_changed")(m) and m["params"][0]["action"] == "finished")
    assert edges(ear) == ["print_stats printing", "added in_progress", "print_stats complete", "finished completed"]
    assert differences(ask.json("/server/history/list?limit=1"), REAL["history_list"]) == []


def test_updates_carry_only_what_changed(moonraker: SimulatorPeer, ask: Ask) -> None:
    with moonraker_ear(moonraker) as ear:
        ask("POST", "/printer/gcode/script", json={"script": "M117 once"})
        update = ear.until(is_call("notify_status_update"))
        assert update["params"][0] == {"display_status": {"message": "once"}}
        assert isinstance(update["params"][1], float)


def test_a_heartbeat_comes_every_second(moonraker: SimulatorPeer) -> None:
    with moonraker_ear(moonraker) as ear:
        ear.until(is_call("notify_proc_stat_update"))
        ear.forget()
        ear.until(is_call("notify_proc_stat_update"))


def test_a_print_shorter_than_a_beat_is_in_the_history(moonraker: SimulatorPeer, ask: Ask) -> None:
    for name in ("tiny-1.gcode", "tiny-2.gcode"):
        upload(moonraker, name, "M117 that is all\n", begin=True)
        until_newest(ask, filename=name, status="completed")


# -- control


def test_pause_resume_and_cancel(moonraker: SimulatorPeer, ask: Ask) -> None:
    with moonraker_ear(moonraker) as ear:
        upload(moonraker, "long.gcode", gcode(5000), begin=True)
        ear.until(has_state("print_stats", "printing"))
        ask("POST", "/printer/print/pause")
        ear.until(has_state("print_stats", "paused"))
        assert objects(ask, "pause_resume")["pause_resume"]["is_paused"] is True
        ear.forget()
        ask("POST", "/printer/print/resume")
        ear.until(has_state("print_stats", "printing"))
        ask("POST", "/printer/print/cancel")
        ear.until(lambda m: is_call("notify_history_changed")(m) and m["params"][0]["job"]["status"] == "cancelled")
    assert objects(ask, "virtual_sdcard")["virtual_sdcard"]["file_path"] is None


def test_job_control_says_ok_when_there_is_no_job(ask: Ask) -> None:
    for command in ("pause", "cancel"):
        assert ask("POST", f"/printer/print/{command}").json() == {"result": "ok"}


def test_pause_waits_behind_a_heat_up(moonraker: SimulatorPeer, ask: Ask) -> None:
    moonraker.fault("speed", speed=0.001)  # five hours until it is hot
    assert upload(moonraker, "heat.gcode", "M109 S200\n" + gcode(5000), begin=True).json()["print_started"] is True
    with pytest.raises(OSError, match="Read timed out"):
        ask("POST", "/printer/print/pause", timeout=0.5)
    wait_for("the order", lambda: moonraker.happened()["commands"][-1] == "pause", DEADLINE_S)
    assert print_state(ask) == "printing"
    moonraker.fault("speed", speed=200)
    wait_for("the late pause", lambda: print_state(ask) == "paused", DEADLINE_S)


def test_a_start_while_paused_drops_the_paused_print_and_leaves_pause_stale(moonraker: SimulatorPeer, ask: Ask) -> None:
    upload(moonraker, "first.gcode", gcode(5000), begin=True)
    wait_for("the print", lambda: print_state(ask) == "printing", DEADLINE_S)
    ask("POST", "/printer/print/pause")
    upload(moonraker, "second.gcode", gcode(5000))
    assert begin(moonraker, "second.gcode").status_code == 200
    status = objects(ask, "print_stats", "pause_resume")
    assert (status["print_stats"]["state"], status["pause_resume"]["is_paused"]) == ("printing", True)
    assert ask("POST", "/printer/print/pause").status_code == 200
    assert print_state(ask) == "printing"
    refused = ask("POST", "/printer/print/resume")
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "SD busy")
    cancel(ask)
    assert objects(ask, "pause_resume")["pause_resume"]["is_paused"] is False


def test_a_refused_line_ends_the_print_and_not_klippy(moonraker: SimulatorPeer, ask: Ask) -> None:
    with moonraker_ear(moonraker) as ear:
        upload(moonraker, "bad.gcode", gcode(5, end="G1 X9999\n"), begin=True)
        ear.until(has_state("print_stats", "error"))
        ear.until(lambda m: is_call("notify_history_changed")(m) and m["params"][0]["job"]["status"] == "error")
    stats = objects(ask, "print_stats")["print_stats"]
    assert stats["message"].startswith("Move out of range: 9999.000")
    assert klippy_state(ask) == "ready"


# -- shutdown and restart


def test_only_a_firmware_restart_leads_out_of_an_emergency_stop(moonraker: SimulatorPeer, ask: Ask) -> None:
    upload(moonraker, "stopped.gcode", gcode(5000), begin=True)
    wait_for("the print", lambda: print_state(ask) == "printing", DEADLINE_S)
    with moonraker_ear(moonraker) as ear:
        ask("POST", "/printer/emergency_stop")
        shutdown = ear.until(has_state("webhooks", "shutdown"))
        assert shutdown["params"][0]["webhooks"] == REAL["shutdown"]["params"][0]["webhooks"]
        assert shutdown["params"][0]["print_stats"]["state"] == "paused", "Klipper really says so"
        ear.until(
            lambda m: is_call("notify_history_changed")(m) and m["params"][0]["job"]["status"] == "klippy_shutdown"
        )
        wait_for("the shutdown", lambda: klippy_state(ask) == "shutdown", DEADLINE_S)
        refused = ask("POST", "/printer/gcode/script", json={"script": "G28"}).json()["error"]
        assert refused["message"] == "Unknown"
        assert "Shutdown due to webhooks request" in refused["traceback"]
        ask("POST", "/printer/restart")
        wait_for("an error", lambda: klippy_state(ask) == "error", DEADLINE_S)
        ask("POST", "/printer/firmware_restart")
        ear.until(is_call("notify_klippy_ready"))
    assert [edge for edge in edges(ear) if edge.startswith("notify")] == [
        "notify_klippy_shutdown",
        "notify_klippy_disconnected",
        "notify_klippy_disconnected",
        "notify_klippy_ready",
    ]
    await_ready(moonraker)
    assert objects(ask, "print_stats")["print_stats"]["filename"] == ""


def test_updates_end_with_klippy_until_somebody_subscribes_again(moonraker: SimulatorPeer, ask: Ask) -> None:
    with moonraker_ear(moonraker) as ear:
        moonraker.fault("klippy_crash", seconds=0.2)
        ear.until(is_call("notify_klippy_ready"))
        ear.forget()
        ask("POST", "/printer/gcode/script", json={"script": "M117 unheard"})
        ear.until(is_call("notify_proc_stat_update"))
        assert not any(is_call("notify_status_update")(message) for message in ear.heard)


# -- who may ask


def test_a_wrong_key_is_401_and_the_handshake_succeeds_anyway(moonraker: SimulatorPeer, ask: Ask) -> None:
    assert ask("GET", "/server/info", key=None).status_code == 401
    assert ask("GET", "/server/info", key="wrong").status_code == 401
    assert ask("GET", "/access/info", key=None).status_code == 200

    class Stranger:
        url, api_key = moonraker.url, "wrong"

    with Ear(Stranger, "/websocket", {"jsonrpc": "2.0", "id": 1, "method": "server.info"}) as ear:
        error = ear.until(lambda m: m.get("id") == 1)["error"]
        assert error == {"code": -32602, "message": "Unauthorized"}
        named = {"client_name": "x", "version": "1", "type": "other", "url": "u", "api_key": moonraker.api_key}
        ear.say({"jsonrpc": "2.0", "id": 2, "method": "server.connection.identify", "params": named})
        assert "connection_id" in ear.until(lambda m: m.get("id") == 2)["result"]


def test_a_token_is_good_for_one_request(ask: Ask) -> None:
    token = ask.json("/access/oneshot_token")["result"]
    assert [ask("GET", f"/server/info?token={token}", key=None).status_code for _ in range(2)] == [200, 401]


# -- files


def test_an_upload_is_checked_against_its_checksum(ask: Ask) -> None:
    text = gcode(3)
    right = hashlib.sha256(text.encode()).hexdigest()
    for checksum, status in ((right, 201), ("0" * 64, 422)):
        answer = ask("POST", "/server/files/upload", files={"file": ("c.gcode", text)}, data={"checksum": checksum})
        assert answer.status_code == status


def test_only_the_word_true_prints(moonraker: SimulatorPeer, ask: Ask) -> None:
    answer = ask("POST", "/server/files/upload", files={"file": ("t.gcode", gcode(3))}, data={"print": "True"})
    assert answer.json()["print_started"] is False
    assert "t.gcode" not in moonraker.happened()["starts"]


def test_it_cannot_be_made_to_read_or_write_elsewhere(moonraker: SimulatorPeer, ask: Ask) -> None:
    assert upload(moonraker, "../../evil.gcode", gcode(2)).status_code == 400
    assert begin(moonraker, "../history.json").status_code == 400


def test_a_server_that_was_killed_in_a_print_calls_it_interrupted() -> None:
    with SimulatorPeer("moonraker") as peer:
        await_ready(peer)
        ask = Ask(peer.url, peer.api_key)
        upload(peer, "interrupted.gcode", gcode(5000), begin=True)
        wait_for("history", lambda: ask.json("/server/history/list")["result"]["count"] == 1, DEADLINE_S)
        peer.kill()
        peer.restart()
        until_newest(ask, status="interrupted")
