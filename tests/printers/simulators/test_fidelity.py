"""The same questions to a real server and to its simulator: same status, same kind of answer, same events in the same
order. Where a line here breaks, the simulator is wrong.

Left out: what depends on the moment (analysis results, counters) and what only a real machine has (CPU, disks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.peers import (
    MoonrakerPeer,
    OctoPrintPeer,
    SimulatorPeer,
    moonraker_missing,
    octoprint_missing,
    wait_for,
)
from tests.printers.simulators.conftest import DEADLINE_S, Ask, differences, gcode

#: Names whose values come and go with the moment.
PASSING = frozenset(
    {"gcodeAnalysis", "prints", "statistics", "components", "warnings", "gcode_start_byte", "gcode_end_byte"}
)


def trimmed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: trimmed(inner) for name, inner in value.items() if name not in PASSING}
    return [trimmed(inner) for inner in value] if isinstance(value, list) else value


@dataclass
class Pair:
    real: Ask
    simulated: Ask
    faults: list[str] = field(default_factory=list)

    def both(self, method: str, path: str, **options: Any) -> None:
        """Ask both; what differs is collected."""
        real, ours = (ask(method, path, **options) for ask in (self.real, self.simulated))
        what = f"{method} {path} {options.get('json', options.get('data', ''))}"
        if real.status_code != ours.status_code:
            self.faults.append(f"{what}: {ours.status_code}, really {real.status_code}: {real.text[-300:]}")
        elif "json" not in real.headers.get("Content-Type", ""):
            if real.text != ours.text:
                self.faults.append(f"{what}: {ours.text[:100]}, really {real.text[:100]}")
        elif real.ok:
            self.faults += [f"{what} {fault}" for fault in differences(trimmed(ours.json()), trimmed(real.json()))]
        elif _told(real) != _told(ours):
            self.faults.append(f"{what}: {_told(ours)}, really {_told(real)}")

    def until(self, what: str, ready: Callable[[Ask], bool]) -> None:
        for ask in (self.real, self.simulated):
            wait_for(f"{what} at {ask.url}", partial(ready, ask), DEADLINE_S)


def _told(answer: Any) -> Any:
    """What an error says, without the server's own file names."""
    body = answer.json()
    error = body.get("error", body)
    if isinstance(error, dict):
        said = error["traceback"].strip().rpartition("HTTPError: ")[2]
        return error["code"], error["message"], said.partition("/")[0].split("path: ")[0]
    return error


def upload(name: str, text: str | None = None, **form: str) -> dict[str, Any]:
    return {"files": {"file": (name, gcode(4000) if text is None else text)}, "data": form}


# -- OctoPrint


@pytest.fixture(scope="module")
def octoprint_servers() -> Iterator[tuple[Ask, Ask]]:
    if reason := octoprint_missing():
        pytest.skip(reason)
    with OctoPrintPeer() as real, SimulatorPeer("octoprint", speed=10) as simulated:
        yield Ask(real.url, real.api_key), Ask(simulated.url, simulated.api_key)


@pytest.fixture
def octoprints(octoprint_servers: tuple[Ask, Ask]) -> Pair:
    pair = Pair(*octoprint_servers)
    pair.until("temperatures", lambda ask: ask.json("/api/printer").get("temperature", {}) != {})
    return pair


def is_in(state: str) -> Callable[[Ask], bool]:
    return lambda ask: bool(ask.json("/api/job")["state"] == state)


def moves_on(ask: Ask) -> bool:
    return bool((ask.json("/api/job")["progress"]["filepos"] or 0) > 100)


OCTOPRINT_COMMANDS: list[tuple[str, Any]] = [
    ("printhead", {"command": "jog", "x": 10, "y": -5}),
    ("printhead", {"command": "jog", "x": "abc"}),
    ("printhead", {"command": "jog"}),
    ("printhead", {"command": "home", "axes": ["x", "y"]}),
    ("printhead", {"command": "home", "axes": ["q"]}),
    ("printhead", {"command": "home"}),
    ("printhead", {"command": "feedrate", "factor": 105}),
    ("tool", {"command": "target", "targets": {"tool0": 30}}),
    ("tool", {"command": "target", "targets": {"tool1": 60}}),
    ("tool", {"command": "target", "targets": {"extruder": 60}}),
    ("tool", {"command": "target", "targets": {"tool0": "60"}}),
    ("tool", {"command": "target", "targets": {"tool0": -5}}),
    ("tool", {"command": "target", "targets": [60]}),
    ("tool", {"command": "target", "target": 60}),
    ("tool", {"command": "target", "targets": {"tool0": 0}}),
    ("tool", {"command": "offset", "offsets": {"tool0": 100}}),
    ("tool", {"command": "extrude", "amount": 5}),
    ("tool", {"command": "flowrate", "factor": 95}),
    ("bed", {"command": "target", "target": 40}),
    ("bed", {"command": "target", "target": "40"}),
    ("bed", {"command": "target"}),
    ("bed", {"command": "target", "target": 0}),
    ("chamber", {"command": "target", "target": 40}),
    ("command", {"command": "M105"}),
    ("command", {"commands": ["M105", "G91", "G90"]}),
    ("command", {}),
    ("command", {"command": "M105", "commands": ["M114"]}),
    ("command", {"script": "nosuch"}),
    ("sd", {"command": "init"}),
]


@pytest.mark.octoprint
def test_octoprint_answers_alike_while_idle(octoprints: Pair) -> None:
    both = octoprints.both
    for path in ("version", "server", "connection", "printer", "printer/tool", "printer/bed", "printer/chamber"):
        both("GET", f"/api/{path}")
        both("GET", f"/api/{path}", key=None)
        both("GET", f"/api/{path}", key="wrong")
    for path in ("printer/sd", "printer/error", "job", "files", "files/local", "files/sdcard", "files/none", "none"):
        both("GET", f"/api/{path}")
    both("GET", "/api/printerprofiles")
    both("GET", "/api/version/")
    for key in (None, "wrong"):
        both("POST", "/api/job", key=key, json={"command": "start"})
        both("DELETE", "/api/files/local/none.gcode", key=key)
    both("POST", "/api/login", json={"passive": True})
    both("POST", "/api/login")
    for path, body in OCTOPRINT_COMMANDS:
        both("POST", f"/api/printer/{path}", json=body)
    for command in ("start", "pause", "cancel", "restart", "unknown"):
        both("POST", "/api/job", json={"command": command})
    both("POST", "/api/job", data={"command": "start"})
    both("POST", "/api/job", data="{broken", headers={"Content-Type": "application/json"})
    for body in ({"port": "/dev/nosuch"}, {"baudrate": 1}, {"printerProfile": "none"}):
        both("POST", "/api/connection", json={"command": "connect", **body})
    assert octoprints.faults == []


@pytest.mark.octoprint
def test_octoprint_treats_files_alike(octoprints: Pair) -> None:
    both, files = octoprints.both, "/api/files/local"
    odd = (
        "a b.gcode",
        "pièce 日本.gcode",
        "a+b & c#d%20 (1) 'q'.gcode",
        ".h.gcode",
        'a:b*c?d"e<f>g|h.gcode',
        "a\\b.gcode",
    )
    for name in ("a.gcode", "b.txt", "noextension", "c.g", "d.GCO", "e.bgcode", "../../f.gcode", "g/h.gcode", *odd):
        both("POST", files, **upload(name, "G28\n"))
        names = [
            sorted(_paths(ask.json("/api/files?recursive=true"))) for ask in (octoprints.real, octoprints.simulated)
        ]
        assert names[0] == names[1]
    both("POST", files, **upload("empty.gcode", ""))
    both("POST", files, **upload("a.gcode", "G28\n", noOverwrite="true"))
    both("POST", files, **upload("u.gcode", "G28\n", userdata='{"job": 42}'))
    both("POST", files, **upload("u.gcode", "G28\n", userdata="{broken"))
    both("POST", files, **upload("n.gcode", "G28\n", path="jobs/2024"))
    both("POST", files, files={"foldername": (None, "made")})
    both("POST", files, data={"select": "true"})
    both("POST", "/api/files/sdcard", **upload("x.gcode"))
    for name in ("a.gcode", "nosuch.gcode", "u.gcode", "jobs", "jobs?recursive=true"):
        both("GET", f"{files}/{name}")
    for body in ({"command": "select"}, {"command": "explode"}, {}, {"command": "unselect"}, {"command": "unselect"}):
        both("POST", f"{files}/a.gcode", json=body)
    both("GET", "/api/job")
    both("DELETE", f"{files}/a.gcode")
    both("DELETE", f"{files}/a.gcode")
    both("DELETE", f"{files}/jobs")
    assert octoprints.faults == []


def _paths(listing: Any) -> list[str]:
    inside = [path for entry in listing["files"] for path in _paths({"files": entry.get("children", [])})]
    return inside + [entry["path"] for entry in listing["files"]]


@pytest.mark.octoprint
def test_octoprint_prints_alike(octoprints: Pair) -> None:
    both, until, files = octoprints.both, octoprints.until, "/api/files/local"
    both("POST", files, **upload("p.gcode", print="true"))
    until("moves", moves_on)
    for path in ("/api/job", "/api/printer", "/api/connection"):
        both("GET", path)
    for command in ("start", "restart"):
        both("POST", "/api/job", json={"command": command})
    both("POST", "/api/job", json={"command": "pause", "action": "resume"})
    both("POST", files, **upload("p.gcode"))
    both("POST", files, **upload("other.gcode", print="true"))
    both("POST", f"{files}/other.gcode", json={"command": "select"})
    both("POST", f"{files}/p.gcode", json={"command": "unselect"})
    both("DELETE", f"{files}/p.gcode")
    both("POST", "/api/printer/printhead", json={"command": "jog", "x": 1})
    both("POST", "/api/printer/tool", json={"command": "extrude", "amount": 5})
    both("POST", "/api/job", json={"command": "pause", "action": "pause"})
    until("a pause", is_in("Paused"))
    for path in ("/api/job", "/api/printer"):
        both("GET", path)
    for body in ({"action": "pause"}, {"action": "odd"}):
        both("POST", "/api/job", json={"command": "pause", **body})
    both("POST", "/api/job", json={"command": "start"})
    both("DELETE", f"{files}/p.gcode")
    both("POST", "/api/job", json={"command": "pause"})
    until("work", is_in("Printing"))
    both("POST", "/api/job", json={"command": "cancel"})
    until("the end", is_in("Operational"))
    both("GET", "/api/job")
    both("POST", "/api/job", json={"command": "cancel"})
    assert octoprints.faults == []


@pytest.mark.octoprint
@pytest.mark.parametrize("fault", ["!!DEBUG:trigger_fatal_error_marlin", "M112", "!!DEBUG:drop_connection", ""])
def test_octoprint_fails_alike(octoprints: Pair, fault: str) -> None:
    """The empty fault is somebody who disconnects."""
    both, until = octoprints.both, octoprints.until
    file = f"/api/files/local/{fault[-4:].strip('_') or 'none'}.gcode"
    both("POST", "/api/files/local", **upload(file.rpartition("/")[2], print="true"))
    until("moves", moves_on)
    if fault:
        both("POST", "/api/printer/command", json={"command": fault})
    else:
        both("POST", "/api/connection", json={"command": "disconnect"})
    until("the end", is_in("Offline after error" if fault else "Offline"))
    until("the record", lambda ask: ask.json(file).get("prints", {}).get("failure") == 1)
    for path in ("connection", "job", "printer", "printer/tool", "printer/error"):
        both("GET", f"/api/{path}")
    both("GET", file)
    for command in ("start", "pause", "cancel"):
        both("POST", "/api/job", json={"command": command})
    both("POST", file, json={"command": "select"})
    both("POST", "/api/files/local", **upload("g.gcode", print="true"))
    for path, body in (("printhead", {"command": "jog", "x": 1}), ("tool", {"command": "odd"}), ("command", {})):
        both("POST", f"/api/printer/{path}", json=body)
    both("POST", "/api/connection", json={"command": "connect"})
    until("the connection", is_in("Operational"))
    both("GET", "/api/job")
    assert octoprints.faults == []


# -- Moonraker


@pytest.fixture(scope="module")
def moonraker_servers() -> Iterator[tuple[Ask, Ask]]:
    if reason := moonraker_missing():
        pytest.skip(reason)
    with MoonrakerPeer() as real, SimulatorPeer("moonraker") as simulated:
        yield Ask(real.url, real.api_key), Ask(simulated.url, simulated.api_key)


@pytest.fixture
def moonrakers(moonraker_servers: tuple[Ask, Ask]) -> Pair:
    pair = Pair(*moonraker_servers)
    pair.until("ready", klippy_is("ready"))
    for _ in range(2):  # Moonraker itself listens to Klippy only a beat later
        pair.both("GET", "/printer/objects/query?webhooks")
    return pair


def klippy_is(state: str) -> Callable[[Ask], bool]:
    return lambda ask: bool(ask.json("/server/info")["result"]["klippy_state"] == state)


def print_is(state: str) -> Callable[[Ask], bool]:
    query = "/printer/objects/query?print_stats=state"
    return lambda ask: bool(ask.json(query)["result"]["status"]["print_stats"]["state"] == state)


def history_says(status: str) -> Callable[[Ask], bool]:
    return lambda ask: [job["status"] for job in ask.json("/server/history/list?limit=1")["result"]["jobs"]] == [status]


@pytest.mark.moonraker
def test_moonraker_answers_alike_while_idle(moonrakers: Pair) -> None:
    both = moonrakers.both
    for path in ("/server/info", "/printer/info", "/access/info", "/access/user", "/nosuch", "/printer/nosuch"):
        both("GET", path)
        both("GET", path, key=None)
        both("GET", path, key="wrong")
        both("GET", path, key=None, headers={"Authorization": "Bearer nonsense"})
    for path in ("list", "list?root=nosuch", "directory", "metadata", "metadata?filename=n.gcode", "gcodes/n.gcode"):
        both("GET", f"/server/files/{path}")
    for path in ("list", "list?order=odd", "totals", "job?uid=FFFFFF"):
        both("GET", f"/server/history/{path}")
    for query in ("print_stats", "print_stats=state,nosuch", "nosuch", "", "extruder&heater_bed", "virtual_sdcard&fan"):
        both("GET", f"/printer/objects/query?{query}")
    asked: list[Any] = [{"print_stats": None}, [], {"fan": "speed"}]
    for body in [{"objects": objects} for objects in asked] + [{"fan": None}, {}]:
        both("POST", "/printer/objects/query", json=body)
    both("POST", "/printer/objects/subscribe", json={"objects": {"print_stats": None}})
    for script in ("M105", "FOOBAR", "G28", "G1 X10 F6000", "G1 X9999", "M104 S999", "M140 S500", "TURN_OFF_HEATERS"):
        both("POST", "/printer/gcode/script", json={"script": script})
    both("POST", "/printer/gcode/script", json={})
    both("GET", "/printer/gcode/script?script=M105")
    for command in ("pause", "resume", "cancel"):
        both("POST", f"/printer/print/{command}")
    both("POST", "/printer/print/start", json={})
    for name in ("nosuch.gcode", 'a "b".gcode'):
        both("POST", "/printer/print/start", json={"filename": name})
    both("GET", "/printer/print/start?filename=nosuch.gcode")
    assert moonrakers.faults == []


@pytest.mark.moonraker
def test_moonraker_treats_files_alike(moonrakers: Pair) -> None:
    both, to = moonrakers.both, "/server/files/upload"
    odd = ("a b.gcode", "pièce 日本 🚀.gcode", "a+b & c#d%20 (1) 'q'.gcode", 'a"b.gcode', " lead.gcode ", "/abs.gcode")
    for name in ("a.gcode", "UP.GCODE", "b.txt", "c.stl", "../../d.gcode", "e/f/g.gcode", *odd):
        both("POST", to, **upload(name, "G28\n"))
    both("POST", to, **upload("empty.gcode", ""))
    both("POST", to, **upload("n.gcode", "G28\n", path="jobs/2024"))
    both("POST", to, **upload("l.log", "x", root="logs"))
    both("POST", to, **upload("l.log", "x", root="nosuch"))
    both("POST", to, **upload("c.gcode", "G28\n", checksum="0" * 64))
    both("POST", to, files={"gcode": ("x.gcode", "G28\n")})
    both("POST", to, **upload("t.gcode", "G28\n", print="True"))
    both("POST", to, key=None, **upload("t.gcode", "G28\n"))
    listings = [ask.json("/server/files/list")["result"] for ask in (moonrakers.real, moonrakers.simulated)]
    real, ours = (sorted(entry["path"] for entry in listing) for listing in listings)
    assert real == ours
    for name in ("a.gcode", "b.txt", "empty.gcode", "jobs/2024/n.gcode"):
        both("GET", f"/server/files/metadata?filename={name}")
    both("GET", "/server/files/directory?path=gcodes/jobs")
    both("DELETE", "/server/files/gcodes/a.gcode")
    both("DELETE", "/server/files/gcodes/a.gcode")
    assert moonrakers.faults == []


@pytest.mark.moonraker
def test_moonraker_prints_alike(moonrakers: Pair) -> None:
    both, until, status = moonrakers.both, moonrakers.until, "print_stats&virtual_sdcard&pause_resume"
    both("POST", "/server/files/upload", **upload("a.gcode", print="true"))
    until("a print", history_says("in_progress"))
    both("GET", f"/printer/objects/query?{status}")
    both("POST", "/printer/print/start", json={"filename": "a.gcode"})
    both("POST", "/printer/print/resume")
    both("POST", "/server/files/upload", **upload("a.gcode"))
    both("POST", "/server/files/upload", **upload("b.gcode", print="true"))
    both("DELETE", "/server/files/gcodes/a.gcode")
    both("POST", "/printer/gcode/script", json={"script": "SDCARD_RESET_FILE"})
    both("POST", "/printer/print/pause")
    until("a pause", print_is("paused"))
    both("GET", f"/printer/objects/query?{status}")
    both("DELETE", "/server/files/gcodes/a.gcode")
    both("POST", "/printer/print/start", json={"filename": "b.gcode"})
    both("POST", "/printer/print/pause")  # a no-op now: the stale pause
    both("POST", "/printer/print/resume")
    both("POST", "/printer/print/cancel")
    until("a cancel", history_says("cancelled"))
    for path in (f"/printer/objects/query?{status}", "/server/history/list", "/server/history/totals"):
        both("GET", path)
    both("POST", "/server/files/upload", **upload("bad.gcode", "G28\nG1 X50 F3000\nG1 X9999\n", print="true"))
    until("an error", history_says("error"))
    both("GET", f"/printer/objects/query?{status}")
    both("GET", "/server/files/metadata?filename=bad.gcode")
    assert moonrakers.faults == []


@pytest.mark.moonraker
def test_moonraker_stops_alike(moonrakers: Pair) -> None:
    both, until = moonrakers.both, moonrakers.until
    both("POST", "/server/files/upload", **upload("a.gcode", print="true"))
    until("a print", history_says("in_progress"))
    both("POST", "/printer/emergency_stop")
    both("GET", "/printer/info")
    until("a shutdown", klippy_is("shutdown"))
    until("its record", history_says("klippy_shutdown"))
    for command in ({"script": "G28"}, {"script": "M105"}):
        both("POST", "/printer/gcode/script", json=command)
    for path in ("start", "pause", "cancel"):
        both("POST", f"/printer/print/{path}", json={"filename": "a.gcode"})
    both("GET", "/printer/objects/query?print_stats&webhooks&virtual_sdcard")
    both("POST", "/server/files/upload", **upload("s.gcode", print="true"))
    both("POST", "/printer/restart")
    until("an error", klippy_is("error"))
    both("GET", "/printer/info")
    both("POST", "/printer/gcode/script", json={"script": "G28"})
    both("POST", "/printer/firmware_restart")
    until("ready", klippy_is("ready"))
    both("GET", "/printer/objects/query?print_stats&webhooks")
    both("GET", "/server/history/list")
    assert moonrakers.faults == []
