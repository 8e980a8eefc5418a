"""The stand-in for Klipper, asked as Moonraker asks: over its unix socket, JSON that ends in 0x03."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from printers.simulators import klippy_core
from printers.simulators.klippy_core import Klippy
from printers.simulators.klippy_objects import PrintStats
from tests.peers import ROOT, wait_for
from tests.printers.simulators.conftest import DEADLINE_S, differences, gcode

REAL: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "simulators" / "moonraker.json").read_text())


class Line:
    """One connection to Klippy."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._buffer = b""
        self.told: list[dict[str, Any]] = []
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def send(self, method: str, params: dict[str, Any] | None = None) -> int:
        self._number += 1
        request = {"id": self._number, "method": method, "params": params or {}}
        self._socket.sendall(json.dumps(request).encode() + b"\x03")
        return self._number

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer; what else was said meanwhile is kept in ``told``."""
        number = self.send(method, params)
        while (message := self.next()).get("id") != number:
            self.told.append(message)
        return message

    def script(self, text: str) -> dict[str, Any]:
        return self.call("gcode/script", {"script": text})

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("objects/query", {"objects": {name: None}})["result"]["status"][name]
        return found

    def until_it_ends(self) -> None:
        try:
            while True:
                self.next()
        except EOFError:
            pass

    def next(self) -> dict[str, Any]:
        """The next message. Raises EOFError when Klippy has gone."""
        while b"\x03" not in self._buffer:
            block = self._socket.recv(65_536)
            if not block:
                raise EOFError
            self._buffer += block
        text, _, self._buffer = self._buffer.partition(b"\x03")
        message: dict[str, Any] = json.loads(text)
        return message


class Running:
    def __init__(self, folder: Path) -> None:
        self.socket, self.gcodes = folder / "klippy.sock", folder / "gcodes"
        command = [sys.executable, "-m", "printers.simulators.klippy", "--socket", str(self.socket)]
        options = ["--gcodes", str(self.gcodes), "--speed", "50", "--extruders", "2"]
        self.process = subprocess.Popen(command + options, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline()) == {"socket": str(self.socket)}
        self.await_state("ready")

    def line(self) -> Line:
        return Line(self.socket)

    def await_state(self, state: str) -> None:
        def is_so() -> bool:
            try:
                with self.line() as line:
                    return bool(line.call("info")["result"]["state"] == state)
            except (OSError, EOFError):
                return False

        wait_for(f"Klippy {state}", is_so, DEADLINE_S)

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def klippy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("klippy"))
    yield running
    running.stop()


def test_it_shakes_hands_with_moonraker_as_klipper_did(klippy: Running) -> None:
    said = [entry["message"] for entry in REAL["klippy_handshake"]]
    with klippy.line() as line:
        for request, real in zip(said[::2], said[1::2], strict=False):  # the last request's answer is not kept
            ours = line.call(request["method"], request["params"])
            if request["method"] == "list_endpoints":  # it has all that Moonraker needs, not all that Klipper has
                assert set(ours["result"]["endpoints"]) <= set(real["result"]["endpoints"])
            else:
                assert differences(ours["result"], real["result"]) == []


def test_a_print_runs_and_is_told_in_changes(klippy: Running) -> None:
    (klippy.gcodes / "a b.gcode").write_text(gcode(60))
    with klippy.line() as line:
        template = {"method": "process_status_update"}
        line.call("objects/subscribe", {"objects": {"print_stats": None}, "response_template": template})
        line.call("gcode/subscribe_output", {"response_template": {"method": "process_gcode_response"}})
        assert line.script('SDCARD_PRINT_FILE FILENAME="a b.gcode"')["result"] == {}
        states = []
        while "complete" not in states:
            message = line.next()
            if message["method"] == "process_status_update":
                states += [message["params"]["status"]["print_stats"][key]
                           for key in ("state",) if key in message["params"]["status"]["print_stats"]]  # fmt: skip
    said = [told["params"]["response"] for told in line.told if told.get("method") == "process_gcode_response"]
    assert said[0].startswith("File opened:a b.gcode Size:")
    assert states == ["printing", "complete"]


def test_a_script_is_answered_when_it_has_been_carried_out(klippy: Running) -> None:
    with klippy.line() as line:
        line.call("simulate/speed", {"factor": 0.001})
        waiting = line.send("gcode/script", {"script": "M109 S60"})
        line.call("info")
        assert line.told == [], "other requests do not wait"
        line.send("simulate/speed", {"factor": 50})
        while line.next()["id"] != waiting:
            pass
        assert line.status("extruder")["temperature"] >= 58
        line.script("TURN_OFF_HEATERS")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("M104 S999", "Requested temperature (999.0) out of range (0.0:300.0)"),
        ("SET_HEATER_TEMPERATURE HEATER=nothing TARGET=5", "The value 'nothing' is not valid for HEATER"),
        ('SDCARD_PRINT_FILE FILENAME="nowhere.gcode"', "Unable to open file"),
        ('SDCARD_PRINT_FILE FILENAME="unbalanced', "Malformed command 'SDCARD_PRINT_FILE FILENAME=\"unbalanced'"),
        ("SET_HEATER_TEMPERATURE HEATER=extruder TARGET=hot", "Malformed command"),
    ],
)
def test_a_refused_script_says_why(klippy: Running, script: str, message: str) -> None:
    with klippy.line() as line:
        error = line.script(script)["error"]
        assert error["error"] == "WebRequestError"
        assert error["message"].startswith(message)


def test_an_unknown_object_is_empty_and_an_unknown_field_null(klippy: Running) -> None:
    with klippy.line() as line:
        asked = {"nothing": None, "print_stats": ["state", "nothing"]}
        status = line.call("objects/query", {"objects": asked})["result"]["status"]
        assert status == {"nothing": {}, "print_stats": {"state": status["print_stats"]["state"], "nothing": None}}
        assert line.call("objects/query")["error"]["message"] == "Missing Argument [objects]"
        assert line.call("objects/query", {"objects": []})["error"]["message"] == "Invalid Argument Type [objects]"
        assert line.call("objects/query", {"objects": {"fan": "speed"}})["error"]["message"] == "Invalid argument"


def test_its_socket_goes_and_returns_with_a_restart(klippy: Running) -> None:
    with klippy.line() as line:
        line.call("emergency_stop")
        assert line.call("info")["result"]["state"] == "shutdown"
        assert "Shutdown due to webhooks request" in line.script("G28")["error"]["message"]
        line.script("RESTART")
        line.until_it_ends()
    klippy.await_state("error")
    with klippy.line() as line:
        line.script("FIRMWARE_RESTART")
    klippy.await_state("ready")


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    running = Running(tmp_path)
    with running.line() as line:
        line.call("info")
        assert running.stop() == 0
    assert not running.socket.exists()


# -- by a clock of its own


class Onlooker:
    def __init__(self, klippy: Klippy) -> None:
        self.klippy, self.saw = klippy, list[str]()

    def send_changes(self, now: float) -> None:
        self.saw.append(self.klippy.print_stats.state)

    def send_output(self, text: str) -> None: ...

    def hang_up(self) -> None: ...


def test_every_print_is_seen_at_work_even_if_the_process_was_held_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: SimpleNamespace = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(klippy_core, "time", clock)
    (tmp_path / "tiny.gcode").write_text("M117 that is all\n")
    klippy = Klippy(tmp_path)
    klippy.state, klippy.online, onlooker = "ready", True, Onlooker(klippy)
    klippy.sessions.add(onlooker)
    klippy.advance(0.02)
    klippy.machine.run(["SDCARD_PRINT_FILE FILENAME=tiny.gcode"])
    for _ in range(3):
        clock.now += 5
        klippy.advance(5)
    assert onlooker.saw == ["standby", "printing", "complete", "complete"]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.filament = 7.0

    def stats(self) -> PrintStats:
        return PrintStats(lambda: self.filament, lambda: self.now)


def test_print_duration_begins_with_the_first_filament_and_leaves_out_pauses() -> None:
    clock = Clock()
    stats = clock.stats()
    stats.load("a.gcode")
    stats.start()
    clock.now += 30  # heating
    assert (stats.status()["total_duration"], stats.status()["print_duration"]) == (30.0, 0.0)
    clock.now, clock.filament = clock.now + 10, 8.0
    assert (stats.status()["print_duration"], stats.status()["filament_used"]) == (10.0, 1.0)
    stats.pause()
    clock.now += 100
    assert stats.status()["print_duration"] == 10.0
    stats.start()
    clock.now += 5
    stats.finish("complete")
    clock.now += 1000
    ended = stats.status()
    assert (ended["state"], ended["total_duration"], ended["print_duration"]) == ("complete", 145.0, 15.0)


def test_a_print_that_has_ended_cannot_end_again() -> None:
    stats = Clock().stats()
    stats.load("a.gcode")
    stats.start()
    stats.finish("error", "too far")
    stats.finish("cancelled")
    assert (stats.status()["state"], stats.status()["message"]) == ("error", "too far")


def test_layers_count_only_once_their_number_is_known() -> None:
    stats = Clock().stats()
    stats.set_layers(None, 3)
    assert stats.info == {"total_layer": None, "current_layer": None}
    stats.set_layers(10, None)
    stats.set_layers(None, 12)
    assert stats.info == {"total_layer": 10, "current_layer": 10}
