"""OctoPrint (1.9 to 1.11; measured with 1.11.8): REST under /api, a JSON WebSocket at /sockjs/websocket.

Protocol: https://docs.octoprint.org/en/master/api/ ; what the code relies on beyond that was observed on 1.11.8:

* Samples (``current`` messages, 1.5 to 2 Hz) hide short states; events do not. Edges come from events here.
* Its socket takes an API key silently and then says nothing. It wants ``name:session`` of a passive login.
* It keeps counts and the newest result per file, but not whether a failed print was cancelled, and nothing at all
  of a print during which the server itself was killed, nor of prints from the printer's own SD card.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from printers.drivers.base import (
    WORKING,
    Camera,
    Capability,
    DriverError,
    Ended,
    Garbled,
    Heard,
    Identity,
    Missing,
    PrinterDriver,
    PrinterState,
    PrintMarker,
    Refused,
    RemoteFile,
    Unauthorised,
    Unclear,
    Unsupported,
    checked_axes,
    checked_lines,
    checked_moves,
    checked_target,
    refuse_unless_idle,
    refuse_unless_printing,
    refuse_while_printing,
    understood,
)
from printers.drivers.cameras import octoprint_camera
from printers.drivers.http import Answer, Door, Multipart, is_plain_path
from printers.drivers.octoprint_words import (
    Answers,
    OctoPrintReducer,
    ended_from_record,
    error_text,
    fault_of,
    files_from,
    has_printed,
    job_from,
    marker_from,
    message_from,
    remote_file_from,
    status_from,
    temperatures_from,
)
from printers.drivers.sockets import ALIVE, Socket

#: What the farm's key must be allowed to do (names of OctoPrint's permissions).
NEEDED_PERMISSIONS = frozenset(
    {"STATUS", "CONTROL", "PRINT", "FILES_LIST", "FILES_UPLOAD", "FILES_SELECT", "FILES_DELETE"}
)
EVENTS = ("PrinterStateChanged", "PrintStarted", "PrintDone", "PrintCancelled", "PrintFailed", "Error")
#: Without an answer to the login on the socket within this time, the login was not accepted.
LOGIN_S = 5.0
#: OctoPrint starts sending a file it has to read first, and asks the printer before it pauses or cancels.
COMMAND_TIMEOUT = (4.0, 20.0)
#: How long a machine's answers to G-code are listened for. Heating takes longer, and says so in that time.
LISTEN_S = 12.0
AT_WORK = "… (it is still at work; what it says later is not heard)"


class OctoPrintDriver(PrinterDriver):
    kind: ClassVar[str] = "octoprint"
    label: ClassVar[str] = "OctoPrint"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {Capability.OBJECTS}

    def __init__(self, base_url: str, api_key: str, check_address: Callable[[str], str | None] | None = None) -> None:
        super().__init__(base_url, api_key, check_address)
        self._door = Door(base_url, api_key, check_address)
        self._first_marker: PrintMarker | None = None

    def knock(self) -> None:
        self._door.knock()

    # -- reading

    @understood()
    def identify(self) -> Identity:
        version = self._get("/api/version")
        software = str(version.get("text") or "") if isinstance(version, dict) else ""
        if not software.startswith("OctoPrint") or "Moonraker" in software:
            raise Garbled(f"This is not OctoPrint but {self._door.masked(software) or 'something else'}.")
        self._check_permissions()
        state = self.read_state()
        capabilities = self.capabilities if self._has_sdcard() else self.capabilities - {Capability.SDCARD}
        return Identity(
            software=software,
            name=self._name(),
            status=state.status,
            message=state.message,
            capabilities=capabilities,
        )

    def _check_permissions(self) -> None:
        granted = set(self._get("/api/currentuser").get("permissions") or ())
        lacking = NEEDED_PERMISSIONS - granted
        if lacking and "ADMIN" not in granted:
            raise Unauthorised(f"This API key lacks OctoPrint permissions: {', '.join(sorted(lacking))}.")

    def _name(self) -> str:
        answer = self._door.read("/api/settings")  # a reader may lack the permission for it
        if answer.status != 200:
            return ""
        return str(answer.json().get("appearance", {}).get("name") or "")

    @understood()
    def camera(self) -> Camera | None:
        answer = self._door.read("/api/settings")  # a reader may lack the permission for it
        return octoprint_camera(answer.json(), self.base_url) if answer.status == 200 else None

    def _has_sdcard(self) -> bool:
        return self._door.read("/api/printer/sd").status != 404

    @understood()
    def read_state(self) -> PrinterState:
        job = self._get("/api/job")
        answer = self._door.read("/api/printer")
        if answer.status == 409:  # not operational: /api/job has the text and the cause
            flags = {"closedOrError": str(job.get("state") or "").startswith(("Offline", "Error", "Closed"))}
            state = {"text": job.get("state"), "flags": flags, "error": job.get("error")}
            temperatures = {}
        else:
            body = self._checked(answer)
            state, temperatures = body["state"], temperatures_from(body.get("temperature") or {})
        status = status_from(state)
        return PrinterState(
            status=status,
            message=message_from(status, str(state.get("text") or ""), str(state.get("error") or "")),
            temperatures=temperatures,
            job=job_from(job.get("job") or {}, job.get("progress") or {}) if status in WORKING else None,
        )

    def stream(self, stop: Event) -> Iterator[PrinterState]:
        login = self._login()
        reducer = OctoPrintReducer()
        with self._door.connect("/sockjs/websocket") as link, understood():
            # before the login, or OctoPrint sends its history twice
            link.send({"subscribe": {"state": {"logs": False, "messages": False}, "events": EVENTS, "plugins": False}})
            link.send({"auth": login})
            if not self._await_history(link, reducer, stop):
                return
            files = self._files()
            self._first_marker = {"files": marker_from(files)}
            reducer.reconcile(files)
            yield reducer.state
            for message in link.messages(stop, calm=True):
                if message is None:
                    continue
                if "reauthRequired" in message:  # the session ended; if the key is gone too, the login says so
                    link.send({"auth": self._login()})
                elif message == ALIVE or reducer.feed(message):
                    yield reducer.state

    @understood()
    def _login(self) -> str:
        """``name:session`` for the socket. Sessions die with the server, so this is done on every connect."""
        answer = self._checked(self._door.ask("/api/login", {"passive": True}))
        name, session = answer.get("name"), answer.get("session")
        if not name or not session:
            raise Unauthorised("OctoPrint does not know whom this API key belongs to.")
        return f"{name}:{session}"

    def _await_history(self, link: Socket, reducer: OctoPrintReducer, stop: Event) -> bool:
        """``history`` is the only sign that the socket's login was accepted. False when told to stop."""
        deadline = time.monotonic() + LOGIN_S
        for message in link.messages(stop):
            if message is not None:
                if "reauthRequired" in message:
                    raise Unauthorised("OctoPrint does not accept its own login on the live connection.")
                reducer.feed(message)
                if "history" in message:
                    return True
            if time.monotonic() > deadline:
                raise Unauthorised("OctoPrint does not show the printer to this API key.")
        return False

    @understood()
    def list_files(self, location: Literal["local", "sdcard"] = "local") -> list[RemoteFile]:
        if location == "sdcard" and not self._has_sdcard():
            raise Unsupported("OctoPrint has no access to this printer's SD card.")
        tree = self._get(f"/api/files/{location}", {"recursive": "true"}).get("files") or []
        return [remote_file_from(entry, location) for entry in files_from(tree)]

    @understood()
    def free_space(self) -> int | None:
        free = self._get("/api/files/local").get("free")
        return int(free) if free is not None else None

    @understood()
    def find_file(self, path: str) -> RemoteFile | None:
        entry = self._entry(path)
        return remote_file_from(entry) if entry else None

    @understood()
    def _entry(self, path: str) -> Mapping[str, Any] | None:
        if not is_plain_path(path):
            return None
        try:
            entry: Mapping[str, Any] = self._get(_file_url(path))
        except Missing:
            return None
        except Garbled:  # a folder that does not exist is an internal error of OctoPrint: only the list is sure
            return next((entry for entry in self._files() if entry.get("path") == path), None)
        return entry if entry.get("type") == "machinecode" else None

    @understood()
    def find_ended(self, path: str) -> Ended | None:
        state = self.read_state()
        if state.job is not None and state.job.file == path:
            return None  # the newest print of it is not over
        entry = self._entry(path)
        return ended_from_record(entry) if entry else None

    def _files(self) -> list[Mapping[str, Any]]:
        return list(files_from(self._get("/api/files/local", {"recursive": "true"}).get("files") or []))

    @understood()
    def marker(self) -> PrintMarker | None:
        return {"files": marker_from(self._files())}

    def first_marker(self) -> PrintMarker | None:
        return self._first_marker

    def printed_between(self, before: PrintMarker | None, now: PrintMarker | None) -> bool:
        return before is None or now is None or has_printed(before, now["files"])

    def objects(self, names: Sequence[str] = ()) -> dict[str, Any]:
        raise Unsupported("OctoPrint has no objects to query.")

    # -- files

    def upload(self, local: Path, name: str, progress: Callable[[int], None] | None = None) -> RemoteFile:
        folder, _, base = name.rpartition("/")
        with local.open("rb") as source:
            sha1 = hashlib.file_digest(source, "sha1").hexdigest()
            size = source.seek(0, 2)
            source.seek(0)
            parts = Multipart({"path": folder, "print": "false"}, base, source, size, progress)
            answer = self._checked(self._door.upload("/api/files/local", parts), write=True)
        path = _uploaded_path(answer)
        entry = self._entry(path)
        if entry is None or entry.get("size") != size or not _same_hash(entry.get("hash"), sha1):
            self.delete_file(path)
            raise Refused("The file that arrived at the printer differs from the one that was sent.")
        return remote_file_from(entry)

    def delete_file(self, path: str, location: Literal["local", "sdcard"] = "local") -> None:
        if not is_plain_path(path):
            return
        answer = self._door.write("DELETE", _file_url(path, location))
        if answer.status in (404, 500) and answer.is_json and location == "local" and self._entry(path) is None:
            return
        self._checked(answer, write=True)

    # -- printing

    def select(self, path: str) -> None:
        refuse_unless_idle(self.read_state())
        self._command(self._known(path), {"command": "select"})

    def start(self, path: str, last_look: Callable[[], None] = lambda: None) -> None:
        url = self._known(path)
        refuse_unless_idle(self.read_state())
        last_look()
        # selects exactly this file; POST /api/job {"command": "start"} would print whatever is selected, or nothing
        self._command(url, {"command": "select", "print": True})

    def _known(self, path: str) -> str:
        if self._entry(path) is None:
            raise Missing("There is no such file on the printer.")
        return _file_url(path)

    def pause(self) -> None:
        self._job_command({"command": "pause", "action": "pause"})

    def resume(self) -> None:
        self._job_command({"command": "pause", "action": "resume"})

    def cancel(self) -> None:
        self._job_command({"command": "cancel"})

    def _job_command(self, body: Mapping[str, str]) -> None:
        refuse_unless_printing(self.read_state())
        self._command("/api/job", body)

    # -- the machine

    def gcode(self, lines: Sequence[str], heard: Heard | None = None) -> None:
        wanted = checked_lines(lines)
        if heard is None:
            return self._send_lines(wanted)
        with self._overhearing() as link:
            self._send_lines(wanted)
            with contextlib.suppress(DriverError):  # what is sent is sent, whether we hear more of it or not
                self._hear(link, Answers(wanted), heard)
        return None

    def _send_lines(self, lines: Sequence[str]) -> None:
        self._command("/api/printer/command", {"commands": lines})

    @contextlib.contextmanager
    def _overhearing(self) -> Iterator[Socket]:
        """A live connection of its own, with what goes over the serial line: the bridge's has enough to read."""
        login = self._login()
        with self._door.connect("/sockjs/websocket") as link, understood():
            link.send({"subscribe": {"state": {"logs": True, "messages": False}, "events": False, "plugins": False}})
            link.send({"auth": login})
            self._await_history(link, OctoPrintReducer(), Event())
            yield link

    def _hear(self, link: Socket, answers: Answers, heard: Heard) -> None:
        deadline = time.monotonic() + LISTEN_S
        while not answers.complete and time.monotonic() < deadline:
            sample = (link.receive() or {}).get("current") or {}
            for said in answers.feed(sample.get("logs") or ()):
                heard(self._door.masked(said))
        if not answers.complete:
            heard(AT_WORK)

    def set_temperature(self, heater: str, target: float) -> None:
        checked_target(heater, target)
        known = self.read_state().temperatures
        if "tool0" in known and heater not in known:  # OctoPrint says yes to tools that do not exist
            raise Unsupported(f"This printer has no heater called {heater}.")
        if heater.startswith("tool"):
            self._command("/api/printer/tool", {"command": "target", "targets": {heater: target}})
        else:
            self._command(f"/api/printer/{heater}", {"command": "target", "target": target})

    def home(self, axes: Sequence[str]) -> None:
        wanted = checked_axes(axes)
        refuse_while_printing(self.read_state())
        self._command("/api/printer/printhead", {"command": "home", "axes": wanted})

    def jog(self, moves: Mapping[str, float], speed: float) -> None:
        wanted = checked_moves(moves, speed)
        refuse_while_printing(self.read_state(), paused_is_fine=True)
        self._command("/api/printer/printhead", {"command": "jog", **wanted, "speed": speed * 60})  # mm/min

    def emergency_stop(self) -> None:
        """M112, which OctoPrint sends ahead of everything else; it closes the connection to the printer then."""
        self._command("/api/printer/command", {"command": "M112"})

    def firmware_restart(self) -> None:
        """Close and open the connection to the printer: after an M112 OctoPrint has closed it anyway, and opening a
        serial port resets most boards. One that does not has to be switched off and on by a person."""
        refuse_while_printing(self.read_state())
        self._command("/api/connection", {"command": "disconnect"})
        self._command("/api/connection", {"command": "connect"})

    # -- exchanges

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self._checked(self._door.read(path, params=params))

    def _command(self, path: str, body: Mapping[str, object]) -> None:
        """A command that OctoPrint answers with 204 and nothing else."""
        answer = self._door.write("POST", path, body, timeout=COMMAND_TIMEOUT)
        self._checked(answer, write=True)
        if answer.status != 204:
            raise Unclear(f"What answers at {self._door.place} is not OctoPrint.")

    def _checked(self, answer: Answer, *, write: bool = False) -> Any:
        """The decoded body (None if empty) of a success; raises what the answer means otherwise."""
        fault = fault_of(answer, write=write, text=self._door.masked(error_text(answer)))
        if fault is not None:
            raise fault
        return answer.json() if answer.body else None


def _file_url(path: str, location: str = "local") -> str:
    return f"/api/files/{location}/{quote(path)}"


def _uploaded_path(answer: Any) -> str:
    """What OctoPrint calls the file: not always the name that was sent (it drops some characters)."""
    try:
        return str(answer["files"]["local"]["path"])
    except (KeyError, TypeError):
        raise Unclear("OctoPrint did not say where it put the file.") from None


def _same_hash(theirs: object, ours: str) -> bool:
    """OctoPrint gives a SHA-1; a version that gives none or another kind is believed by size alone."""
    return not (isinstance(theirs, str) and re.fullmatch(r"[0-9a-f]{40}", theirs)) or theirs == ours
