"""Moonraker (measured with 0.11.0) and the Klipper behind it: REST, and JSON-RPC on a WebSocket.

Protocol: https://moonraker.readthedocs.io/en/latest/external_api/introduction/ ; what the code relies on beyond that
was observed on 0.11.0 with Klipper v0.13:

* Subscriptions send only what changed, four times a second; shorter states vanish. Edges come from the history here.
* After a shutdown ``print_stats`` looks paused, after a crash standby: the state of ``webhooks`` goes first.
* Subscriptions end silently with Klipper; nothing comes until they are made anew.
* Pause, cancel and any G-code wait until Klipper is done with what it does, for minutes while it heats. A command
  that timed out is still carried out later, so it is never sent twice.
* Moonraker says "ok" to a start on a paused machine, which drops the paused print: the driver looks first.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from printers.drivers.base import (
    WORKING,
    Camera,
    Capability,
    Ended,
    Garbled,
    Heard,
    Identity,
    Missing,
    PrinterDriver,
    PrinterState,
    PrinterStatus,
    PrintMarker,
    Refused,
    RemoteFile,
    Unauthorised,
    Unclear,
    Unreachable,
    Unsupported,
    checked_axes,
    checked_lines,
    checked_moves,
    checked_target,
    one_line,
    refuse_unless_idle,
    refuse_unless_printing,
    refuse_while_printing,
    understood,
)
from printers.drivers.cameras import moonraker_camera
from printers.drivers.http import TIMEOUT, Answer, Door, Multipart, is_plain_path
from printers.drivers.moonraker_words import (
    NO_KLIPPER,
    MoonrakerReducer,
    Objects,
    ended_from_job,
    ended_unrecorded,
    error_text,
    fault_of,
    first_line,
    has_printed,
    heaters_from,
    job_from,
    marker_from,
    message_from,
    status_from,
    temperatures_from,
)
from printers.drivers.sockets import Socket

#: Commands that wait for Klipper. Past it the command may still come true, so the outcome is Unclear.
BLOCKING_TIMEOUT = (4.0, 60.0)
#: On an idle machine a start is answered at once; the sooner it counts as unclear, the sooner it is cleared up.
START_TIMEOUT = (4.0, 20.0)
HOMING_TIMEOUT = (4.0, 120.0)
RPC_S = 10.0
#: What Klipper says to a script and the script's end come over two roads: s in which the former may be late.
AFTERWORD_S = 0.3
HISTORY_PAGE = 200
HISTORY_PAGES = 10

JOB_OBJECTS = {
    "webhooks": None,
    "print_stats": None,
    "virtual_sdcard": ["progress"],
    "display_status": ["progress"],
    "pause_resume": ["is_paused"],
}


class _Stopped(Exception):
    """The stream was told to stop while it waited for an answer."""


class _Rpc:
    """JSON-RPC on a socket where notifications arrive between the answers."""

    def __init__(self, link: Socket, stop: Event) -> None:
        self._link = link
        self._stop = stop
        self._last_id = 0
        self._backlog: deque[dict[str, Any]] = deque()

    def call(self, method: str, params: Mapping[str, object] | None = None) -> Any:
        """The result. Raises Unauthorised, Refused (whatever else the server says) and Unreachable."""
        self._last_id += 1
        self._link.send({"jsonrpc": "2.0", "method": method, "params": params or {}, "id": self._last_id})
        deadline = time.monotonic() + RPC_S
        for message in self._link.messages(self._stop):
            if message is not None and message.get("id") == self._last_id:
                return _rpc_result(message)
            if message is not None and "method" in message:
                self._backlog.append(message)
            if time.monotonic() > deadline:
                raise Unreachable("Moonraker does not answer on its live connection.")
        raise _Stopped

    def run(self, method: str, params: Mapping[str, object], meanwhile: Callable[[Mapping[str, Any]], None]) -> None:
        """A call that waits for Klipper; ``meanwhile(notification)`` gets what is announced until it is done. Raises
        Unauthorised, Refused, and Unclear when it was sent and nobody knows what became of it."""
        self._last_id += 1
        self._link.send({"jsonrpc": "2.0", "method": method, "params": params, "id": self._last_id})
        try:
            answered = self._answered(meanwhile, BLOCKING_TIMEOUT[1])
            self._answered(meanwhile, AFTERWORD_S)
        except (Unreachable, Garbled) as fault:
            raise Unclear(fault.message) from None
        if not answered:
            raise Unclear("Klipper is still at it.")

    def _answered(self, meanwhile: Callable[[Mapping[str, Any]], None], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            message = self._link.receive() or {}
            if message.get("id") == self._last_id:
                _rpc_result(message)
                return True
            meanwhile(message)
        return False

    def notifications(self) -> Iterator[dict[str, Any]]:
        for message in self._link.messages(self._stop, calm=True):
            if message is not None and "method" in message:
                self._backlog.append(message)
            while self._backlog:
                yield self._backlog.popleft()


def _rpc_result(message: Mapping[str, Any]) -> Any:
    error = message.get("error")
    if error is None:
        return message.get("result")
    text = first_line(error.get("message"))
    if error.get("code") == 401 or text == "Unauthorized":  # -32602 on calls without a login
        raise Unauthorised("Moonraker does not accept the API key.")
    if error.get("code") in (-32601, 503):  # until Klipper has come once, its methods are missing
        raise Refused(NO_KLIPPER)
    raise Refused(text or "Moonraker refused.")


class MoonrakerDriver(PrinterDriver):
    kind: ClassVar[str] = "moonraker"
    label: ClassVar[str] = "Klipper (Moonraker)"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {Capability.SDCARD}

    def __init__(self, base_url: str, api_key: str, check_address: Callable[[str], str | None] | None = None) -> None:
        super().__init__(base_url, api_key, check_address)
        self._door = Door(base_url, api_key, check_address)

    def knock(self) -> None:
        self._door.knock()

    # -- reading

    @understood()
    def identify(self) -> Identity:
        try:
            info = self._get("/server/info")
            version = info["moonraker_version"]
        except (Missing, KeyError, TypeError):
            raise Garbled("This is not Moonraker.") from None
        state = self.read_state()
        return Identity(
            software=f"Moonraker {one_line(version, 40)}",
            name=self._hostname() if info.get("klippy_connected") else "",
            status=state.status,
            message=state.message,
            capabilities=self.capabilities,
        )

    def _hostname(self) -> str:
        try:
            return str(self._get("/printer/info").get("hostname") or "")
        except Refused:
            return ""

    @understood()
    def read_state(self) -> PrinterState:
        heaters = self._heaters()
        objects = self._objects({**JOB_OBJECTS, **{name: ["temperature", "target"] for name in heaters.values()}})
        return self._state(objects, heaters)

    @understood()
    def _live(self) -> tuple[PrinterState, Objects]:
        """What matters before a command: one query of up to 250 ms, without temperatures."""
        objects = self._objects(JOB_OBJECTS)
        return self._state(objects, {}), objects

    def _state(self, objects: Objects, heaters: Mapping[str, str]) -> PrinterState:
        status = status_from(objects)
        return PrinterState(
            status=status,
            message=message_from(objects),
            temperatures=temperatures_from(objects, heaters),
            job=job_from(objects) if status in WORKING else None,
        )

    @understood()
    def _objects(self, wanted: Mapping[str, object]) -> dict[str, dict[str, Any]]:
        """Values of Klipper's objects; none at all while there is no Klipper (404 if there never was one, 503)."""
        try:
            answer = self._checked(self._door.ask("/printer/objects/query", {"objects": wanted}))
            return dict(answer["status"])
        except Refused:
            return {}

    @understood()
    def _heaters(self) -> dict[str, str]:
        try:
            return heaters_from(self._get("/printer/objects/list")["objects"])
        except Refused:
            return {}

    def stream(self, stop: Event) -> Iterator[PrinterState]:
        reducer = MoonrakerReducer()
        with self._door.connect("/websocket") as link:
            rpc = _Rpc(link, stop)
            with contextlib.suppress(_Stopped), understood():
                self._identify_on(rpc)
                self._attach(rpc, reducer)
                yield reducer.state
                for message in rpc.notifications():
                    if self._follow(rpc, reducer, message):
                        yield reducer.state

    def _follow(self, rpc: _Rpc, reducer: MoonrakerReducer, message: Mapping[str, Any]) -> bool:
        """Take a notification in. What no notification announces (Klipper coming up in an error, a history that
        missed an end) is looked for at each heartbeat."""
        said_something = reducer.feed(message)
        heartbeat = message["method"] == "notify_proc_stat_update"
        if message["method"] == "notify_klippy_ready" or (heartbeat and not reducer.attached):
            self._attach(rpc, reducer)
            return True
        if heartbeat and reducer.unsettled:
            reducer.record(_newest(rpc))
            reducer.give_up_waiting()
        return said_something

    def _identify_on(self, rpc: _Rpc) -> None:
        """The handshake succeeds with any key; this is where a wrong one shows."""
        client = {"client_name": "print-farm", "version": "1", "type": "other", "url": "https://print-farm.invalid"}
        try:
            rpc.call("server.connection.identify", client | ({"api_key": self.api_key} if self.api_key else {}))
        except Refused:
            raise Unauthorised("Moonraker does not accept the API key.") from None

    def _attach(self, rpc: _Rpc, reducer: MoonrakerReducer) -> None:
        """Subscribe, and reconcile with the history. What was known of a running print stays known meanwhile: Moonraker
        announces that Klipper is ready a moment later than Klipper says so itself, when something may print already.

        Before Moonraker has finished its own start-up on a Klipper, its history takes no notice of prints."""
        info = rpc.call("server.info")
        if not info.get("klippy_connected") or info.get("klippy_state") == "startup":
            reducer.detach()
        else:
            try:
                names = rpc.call("printer.objects.list")["objects"]
                heaters = {name: ["temperature", "target"] for name in heaters_from(names).values()}
                answer = rpc.call("printer.objects.subscribe", {"objects": {**JOB_OBJECTS, **heaters}})
                reducer.attach(names, answer["status"])
            except Refused:  # it went away again between two calls, or is not far enough: the next heartbeat looks
                reducer.detach()
        reducer.record(_newest(rpc))

    @understood()
    def list_files(self, location: Literal["local", "sdcard"] = "local") -> list[RemoteFile]:
        if location != "local":
            raise Unsupported("Klipper prints from its own host; it has no SD card in the printer.")
        return [_remote_file(entry) for entry in self._get("/server/files/list", {"root": "gcodes"})]

    @understood()
    def free_space(self) -> int | None:
        free = (self._get("/server/files/directory", {"path": "gcodes"}).get("disk_usage") or {}).get("free")
        return int(free) if free is not None else None

    @understood()
    def find_file(self, path: str) -> RemoteFile | None:
        # the list looks at the disk; the metadata of a deleted file lingers
        return next((entry for entry in self.list_files() if entry.path == path), None)

    @understood()
    def find_ended(self, path: str) -> Ended | None:
        for job in self._history():
            if job.get("filename") == path:
                return ended_from_job(job, self._objects(JOB_OBJECTS))
        objects = self._objects(JOB_OBJECTS)
        stats = objects.get("print_stats") or {}
        done = stats.get("filename") == path and stats.get("state") in ("complete", "cancelled", "error")
        return ended_unrecorded(stats, objects) if path and done else None

    def _history(self) -> Iterator[Mapping[str, Any]]:
        """The newest 2,000 prints, newest first."""
        for page in range(HISTORY_PAGES):
            params = {"limit": str(HISTORY_PAGE), "start": str(page * HISTORY_PAGE), "order": "desc"}
            jobs = self._get("/server/history/list", params)["jobs"]
            yield from jobs
            if len(jobs) < HISTORY_PAGE:
                return

    @understood()
    def marker(self) -> PrintMarker | None:
        jobs = self._get("/server/history/list", {"limit": "1", "order": "desc"})["jobs"]
        totals = self._get("/server/history/totals")["job_totals"]
        stats = self._objects(JOB_OBJECTS).get("print_stats")
        return marker_from(jobs[0] if jobs else None, totals, str(stats.get("filename") or "") if stats else None)

    def printed_between(self, before: PrintMarker | None, now: PrintMarker | None) -> bool:
        return before is None or now is None or has_printed(before, now)

    @understood()
    def objects(self, names: Sequence[str] = ()) -> dict[str, Any]:
        try:
            if not names:
                return {name: {} for name in self._get("/printer/objects/list")["objects"]}
            answer = self._checked(self._door.ask("/printer/objects/query", {"objects": dict.fromkeys(names)}))
            return dict(answer["status"])
        except Missing:
            raise Refused(NO_KLIPPER) from None

    @understood()
    def camera(self) -> Camera | None:
        return moonraker_camera(self._get("/server/webcams/list")["webcams"], self.base_url)

    # -- files

    def upload(self, local: Path, name: str, progress: Callable[[int], None] | None = None) -> RemoteFile:
        folder, _, base = name.rpartition("/")
        with local.open("rb") as source:
            checksum = hashlib.file_digest(source, "sha256").hexdigest()  # Moonraker compares it itself
            size = source.seek(0, 2)
            source.seek(0)
            fields = {"root": "gcodes", "path": folder, "checksum": checksum, "print": "false"}
            answer = self._door.upload("/server/files/upload", Multipart(fields, base, source, size, progress))
        path = _uploaded_path(self._checked(answer, write=True))
        found = self.find_file(path)
        if found is None or found.size != size:
            self.delete_file(path)
            raise Refused("The file that arrived at the printer differs from the one that was sent.")
        return found

    def delete_file(self, path: str, location: Literal["local", "sdcard"] = "local") -> None:
        if location != "local" or not is_plain_path(path):
            return
        answer = self._door.write("DELETE", f"/server/files/gcodes/{quote(path)}")
        if answer.status in (400, 404) and self.find_file(path) is None:
            return
        self._checked(answer, write=True)

    # -- printing

    def select(self, path: str) -> None:
        """Klipper loads a file only to print it."""

    def start(self, path: str, last_look: Callable[[], None] = lambda: None) -> None:
        state, objects = self._live()
        refuse_unless_idle(state)
        if not is_plain_path(path):
            raise Missing("There is no such file on the printer.")
        self._forget_old_pause(objects)
        last_look()
        self._command("/printer/print/start", {"filename": path}, timeout=START_TIMEOUT)

    def _forget_old_pause(self, objects: Objects) -> None:
        """A start on a paused machine (by somebody else) leaves ``is_paused`` behind, and then no pause works."""
        if (objects.get("pause_resume") or {}).get("is_paused"):
            self.gcode(["CLEAR_PAUSE"])

    def pause(self) -> None:
        state, objects = self._live()
        refuse_unless_printing(state)
        if state.status is PrinterStatus.PRINTING:
            self._forget_old_pause(objects)
            self._command("/printer/print/pause", timeout=BLOCKING_TIMEOUT)

    def resume(self) -> None:
        state, _ = self._live()
        refuse_unless_printing(state)
        if state.status is PrinterStatus.PAUSED:
            self._command("/printer/print/resume", timeout=BLOCKING_TIMEOUT)

    def cancel(self) -> None:
        refuse_unless_printing(self._live()[0])
        self._command("/printer/print/cancel", timeout=BLOCKING_TIMEOUT)

    # -- the machine

    def gcode(self, lines: Sequence[str], heard: Heard | None = None) -> None:
        wanted = checked_lines(lines)
        if heard is None:
            return self._script(wanted)
        with self._door.connect("/websocket") as link, understood():
            rpc = _Rpc(link, Event())
            self._identify_on(rpc)
            rpc.run("printer.gcode.script", {"script": "\n".join(wanted)}, self._hearing(heard))
        return None

    def _hearing(self, heard: Heard) -> Callable[[Mapping[str, Any]], None]:
        def take(message: Mapping[str, Any]) -> None:
            if message.get("method") == "notify_gcode_response":
                for line in str(message["params"][0]).splitlines():
                    heard(self._door.masked(line))

        return take

    def _script(self, lines: Sequence[str], timeout: tuple[float, float] = BLOCKING_TIMEOUT) -> None:
        self._command("/printer/gcode/script", {"script": "\n".join(lines)}, timeout=timeout)

    def set_temperature(self, heater: str, target: float) -> None:
        checked_target(heater, target)
        name = self._heaters().get(heater, "")
        if not name or name.startswith("temperature_"):  # a chamber may have a thermometer only
            raise Unsupported(f"This printer has no heater called {heater}.")
        self._script([f"SET_HEATER_TEMPERATURE HEATER={name.removeprefix('heater_generic ')} TARGET={target:.1f}"])

    def home(self, axes: Sequence[str]) -> None:
        wanted = checked_axes(axes)
        refuse_while_printing(self._live()[0])  # Klipper would home in the middle of a print
        self._script([f"G28 {' '.join(axis.upper() for axis in wanted)}"], HOMING_TIMEOUT)

    def jog(self, moves: Mapping[str, float], speed: float) -> None:
        wanted = checked_moves(moves, speed)
        refuse_while_printing(self._live()[0], paused_is_fine=True)
        words = " ".join(f"{axis.upper()}{distance:.3f}" for axis, distance in wanted.items())
        name = "_farm_jog"  # or the move would leave relative mode to whatever comes next
        move = f"G1 {words} F{speed * 60:.0f}"
        self._script([f"SAVE_GCODE_STATE NAME={name}", "G91", move, f"RESTORE_GCODE_STATE NAME={name}"])

    def emergency_stop(self) -> None:
        self._command("/printer/emergency_stop")

    def firmware_restart(self) -> None:
        """FIRMWARE_RESTART, never RESTART: after a shutdown that ends in an error that nothing announces."""
        refuse_while_printing(self._live()[0])
        self._command("/printer/firmware_restart", timeout=BLOCKING_TIMEOUT)

    # -- exchanges

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self._checked(self._door.read(path, params=params))

    def _command(self, path: str, body: object = None, timeout: tuple[float, float] = TIMEOUT) -> None:
        """A command that Moonraker answers with "ok" when Klipper has carried it out."""
        answer = self._door.write("POST", path, body, timeout=timeout)
        result = self._checked(answer, write=True)
        if result != "ok":
            raise Unclear(f"What answers at {self._door.place} is not Moonraker.")

    def _checked(self, answer: Answer, *, write: bool = False) -> Any:
        """The result of a success (an upload's is not wrapped); raises what the answer means otherwise."""
        fault = fault_of(answer, write=write, text=self._door.masked(error_text(answer)))
        if fault is not None:
            raise fault
        body = answer.json()
        return body["result"] if isinstance(body, dict) and "result" in body else body


def _newest(rpc: _Rpc) -> Mapping[str, Any] | None:
    """The newest print of the history."""
    jobs = rpc.call("server.history.list", {"limit": 1, "order": "desc"})["jobs"]
    return jobs[0] if jobs else None


def _remote_file(entry: Mapping[str, Any]) -> RemoteFile:
    return RemoteFile(path=entry["path"], size=entry.get("size"), modified=entry.get("modified"))


def _uploaded_path(answer: Any) -> str:
    try:
        return str(answer["item"]["path"])
    except (KeyError, TypeError):
        raise Unclear("Moonraker did not say where it put the file.") from None
