"""OctoPrint (1.9 to 1.11; measured with 1.11.8): REST under /api, a JSON WebSocket at /sockjs/websocket.

Protocol: https://docs.octoprint.org/en/master/api/ ; what the code relies on beyond that was observed on 1.11.8:

* Samples (``current`` messages, 1.5 to 2 Hz) hide short states; events do not. Edges come from events here.
* Its socket takes an API key silently and then says nothing. It wants ``name:session`` of a passive login.
* It keeps counts and the newest result per file, but not whether a failed print was cancelled, and nothing at all
  of a print during which the server itself was killed, nor of prints from the printer's own SD card.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from printers.drivers.base import (
    WORKING,
    Busy,
    Capability,
    DriverError,
    Ended,
    Garbled,
    Identity,
    LiveJob,
    Missing,
    Outcome,
    PrinterDriver,
    PrinterState,
    PrinterStatus,
    PrintMarker,
    Refused,
    RemoteFile,
    Temperature,
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
from printers.drivers.http import ALIVE, Answer, Door, Multipart, Socket, is_plain_path

#: What the farm's key must be allowed to do (names of OctoPrint's permissions).
NEEDED_PERMISSIONS = frozenset(
    {"STATUS", "CONTROL", "PRINT", "FILES_LIST", "FILES_UPLOAD", "FILES_SELECT", "FILES_DELETE"}
)
EVENTS = ("PrinterStateChanged", "PrintStarted", "PrintDone", "PrintCancelled", "PrintFailed", "Error")
#: Without an answer to the login on the socket within this time, the login was not accepted.
LOGIN_S = 5.0
#: OctoPrint starts sending a file it has to read first, and asks the printer before it pauses or cancels.
COMMAND_TIMEOUT = (4.0, 20.0)

UNKNOWN_FAILURE = "It was cancelled or it failed: OctoPrint's record does not say which."
CONNECTION_LOST = "The connection to the printer ended during the print."
NOT_CONNECTED = "OctoPrint runs, but is not connected to the printer."


# -- pure: OctoPrint's words -> the farm's


def status_from(state: Mapping[str, Any]) -> PrinterStatus:
    """The ``state`` object (``text``, ``flags``, ``error``) of /api/printer or a ``current`` message.

    ``flags.printing`` is true while starting, pausing, cancelling and finishing as well; ``flags.error`` stays false
    after a firmware error, because OctoPrint disconnects then: only ``closedOrError`` and a text remain.
    """
    flags, text = state.get("flags") or {}, str(state.get("text") or "")
    if flags.get("closedOrError") or flags.get("error"):
        broken = flags.get("error") or state.get("error") or "error" in text.lower()
        return PrinterStatus.ERROR if broken else PrinterStatus.CONNECTING
    if any(flags.get(flag) for flag in ("cancelling", "pausing", "resuming", "finishing")):
        return PrinterStatus.BUSY
    if flags.get("paused"):
        return PrinterStatus.PAUSED
    if flags.get("printing"):
        return PrinterStatus.PRINTING
    if flags.get("ready"):
        return PrinterStatus.IDLE
    return PrinterStatus.BUSY if flags.get("operational") else PrinterStatus.CONNECTING


#: ``state_id`` of the event PrinterStateChanged. OFFLINE is left out: whether that is an error, `current` tells.
#: STARTING too: the event PrintStarted follows at once and names the file.
STATUS_OF_STATE_ID = {
    "OPEN_SERIAL": PrinterStatus.CONNECTING,
    "DETECT_SERIAL": PrinterStatus.CONNECTING,
    "DETECT_BAUDRATE": PrinterStatus.CONNECTING,
    "CONNECTING": PrinterStatus.CONNECTING,
    "OPERATIONAL": PrinterStatus.IDLE,
    "PRINTING": PrinterStatus.PRINTING,
    "PAUSING": PrinterStatus.BUSY,
    "PAUSED": PrinterStatus.PAUSED,
    "RESUMING": PrinterStatus.BUSY,
    "CANCELLING": PrinterStatus.BUSY,
    "FINISHING": PrinterStatus.BUSY,
    "TRANSFERING_FILE": PrinterStatus.BUSY,
    "ERROR": PrinterStatus.ERROR,
    "CLOSED_WITH_ERROR": PrinterStatus.ERROR,
}


def message_from(status: PrinterStatus, text: str, error: str) -> str:
    """One sentence for people about a machine that is not ready, else nothing."""
    if status is PrinterStatus.ERROR:
        return one_line(error or text)
    if status is PrinterStatus.CONNECTING:
        return NOT_CONNECTED if text in ("Offline", "Closed", "") else one_line(f"OctoPrint: {text}.")
    return ""


def temperatures_from(sample: Mapping[str, Any]) -> dict[str, Temperature]:
    """One temperature sample: heater -> {actual, target}. An absent chamber has null in both."""
    return {
        heater: Temperature(actual=values.get("actual"), target=float(values.get("target") or 0))
        for heater, values in sample.items()
        if isinstance(values, dict) and not (values.get("actual") is None and values.get("target") is None)
    }


def job_from(job: Mapping[str, Any], progress: Mapping[str, Any]) -> LiveJob | None:
    """The loaded file as a job; every ``progress`` value may be null. ``completion`` is in per cent."""
    path = (job.get("file") or {}).get("path")
    if not path:
        return None
    done = min(max(float(progress.get("completion") or 0) / 100, 0.0), 1.0)
    return LiveJob(file=path, progress=done, elapsed_s=progress.get("printTime"), left_s=progress.get("printTimeLeft"))


def files_from(tree: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The G-code files of a ``recursive=true`` listing, folders opened."""
    for entry in tree:
        if entry.get("type") == "folder":
            yield from files_from(entry.get("children") or ())
        elif entry.get("type") == "machinecode":
            yield entry


def remote_file_from(entry: Mapping[str, Any], location: str = "local") -> RemoteFile:
    return RemoteFile(path=entry["path"], size=entry.get("size"), location=location, modified=entry.get("date"))


def prints_of(entry: Mapping[str, Any]) -> int:
    """How many prints of this file OctoPrint has a record of."""
    prints = entry.get("prints") or {}
    return int(prints.get("success") or 0) + int(prints.get("failure") or 0)


def ended_from_record(entry: Mapping[str, Any]) -> Ended | None:
    """The newest print of a file by OctoPrint's own record. The mark is how many prints the file has seen."""
    last = (entry.get("prints") or {}).get("last")
    if not last:
        return None
    done = bool(last.get("success"))
    return Ended(
        file=entry["path"],
        outcome=Outcome.COMPLETED if done else Outcome.FAILED,
        reason="" if done else UNKNOWN_FAILURE,
        mark=str(prints_of(entry)),
        duration_s=last.get("printTime"),
    )


def marker_from(files: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """path -> [prints, time of the newest]: the time tells a file that was deleted, sent again and printed."""
    return {
        entry["path"]: [prints_of(entry), float((entry["prints"].get("last") or {}).get("date") or 0)]
        for entry in files
        if prints_of(entry)
    }


def has_printed(before: PrintMarker, now: Mapping[str, list[float]]) -> bool:
    """Whether a record is in ``now`` that was not in ``before``. Deleted files are no print."""
    known = before.get("files")
    if not isinstance(known, dict):
        return True
    return any(list(known.get(path) or ()) != record for path, record in now.items())


class OctoPrintReducer:
    """Socket messages in, the whole state out. No I/O, so recorded captures replay through it."""

    def __init__(self) -> None:
        self._status = PrinterStatus.CONNECTING
        self._message = ""
        self._temperatures: dict[str, Temperature] = {}
        self._job: LiveJob | None = None
        self._ended: Ended | None = None
        self._prints: dict[str, int] = {}
        self._run: str | None = None  # the file of a print whose end has not been told
        self._over: str | None = None  # the file of the print that ended last, until the next starts
        self._fresh = True
        self._doubted = False

    @property
    def state(self) -> PrinterState:
        return PrinterState(
            status=self._status,
            message=self._message,
            temperatures=self._temperatures,
            job=self._job,
            ended=self._ended,
        )

    def reconcile(self, files: Sequence[Mapping[str, Any]]) -> None:
        """What ended while nobody listened, by OctoPrint's own records: the newest of all files."""
        self._prints = {entry["path"]: prints_of(entry) for entry in files if prints_of(entry)}
        printed = [entry for entry in files if (entry.get("prints") or {}).get("last")]
        newest = max(printed, key=lambda entry: entry["prints"]["last"].get("date") or 0, default=None)
        self._ended = ended_from_record(newest) if newest else None

    def feed(self, message: Mapping[str, Any]) -> bool:
        """Take one message in; whether it said anything about the machine."""
        sample = message.get("current") or message.get("history")
        if sample:
            self._sample(sample)
            return True
        event = message.get("event")
        if event:
            self._event(str(event.get("type")), event.get("payload") or {})
            return True
        return False

    def _sample(self, sample: Mapping[str, Any]) -> None:
        state = sample.get("state") or {}
        status, error = status_from(state), str(state.get("error") or "")
        job = job_from(sample.get("job") or {}, sample.get("progress") or {})
        if self._fresh and job is not None and status in (PrinterStatus.PRINTING, PrinterStatus.PAUSED):
            self._run = job.file
        self._fresh = False
        if not self._contradicted(status, error):
            self._become(status, str(state.get("text") or ""), error)
        if status in WORKING:
            self._job = job
        temps = sample.get("temps") or ()  # a list of new samples, empty in two of three messages
        if temps and self._status is not PrinterStatus.ERROR:
            self._temperatures = temperatures_from(temps[-1])

    def _contradicted(self, status: PrinterStatus, error: str) -> bool:
        """Whether a print that is known to be on makes this sample's status hard to believe.

        OctoPrint tells no end and keeps no record of a print that was not in its state "Printing" when the
        connection to the printer ended (starting, paused): the closed connection is all there is. A sample that says
        "ready" may be older than the start of the print; two in a row are not.
        """
        if self._run is None or status in WORKING:
            self._doubted = False
        elif status is PrinterStatus.IDLE and not self._doubted:
            self._doubted = True
            return True
        else:
            self._end({"path": self._run}, Outcome.FAILED, one_line(error) or CONNECTION_LOST)
        return False

    def _become(self, status: PrinterStatus, text: str = "", error: str = "") -> None:
        self._status = status
        self._message = message_from(status, text, error)
        if status not in WORKING:
            self._job = None
        if status in (PrinterStatus.CONNECTING, PrinterStatus.ERROR):
            self._temperatures = {}  # nobody reads the sensors of a closed connection

    def _event(self, kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "PrinterStateChanged":
            status = STATUS_OF_STATE_ID.get(str(payload.get("state_id")))
            if status is not None and not (status is PrinterStatus.IDLE and self._run is not None):
                self._become(status, str(payload.get("state_string") or ""))
        elif kind == "Error":
            self._become(PrinterStatus.ERROR, "Error", str(payload.get("error") or ""))
        elif kind == "PrintStarted":
            self._become(PrinterStatus.PRINTING)
            self._job = job_from({"file": payload}, {})
            self._run, self._over = str(payload.get("path")), None
        elif kind == "PrintDone":
            self._end(payload, Outcome.COMPLETED)
        elif kind == "PrintCancelled":
            self._end(payload, Outcome.CANCELLED)
        elif kind == "PrintFailed":
            self._failed(payload)

    def _failed(self, payload: Mapping[str, Any]) -> None:
        """PrintFailed also follows every PrintCancelled (reason "cancelled"), and may follow a sample that has shown
        the closed connection already: that is the same end."""
        cancelled = payload.get("reason") == "cancelled"
        reason = "" if cancelled else one_line(payload.get("error")) or CONNECTION_LOST
        if self._over != str(payload.get("path")) or self._ended is None:
            self._end(payload, Outcome.CANCELLED if cancelled else Outcome.FAILED, reason)
        elif not cancelled:
            self._ended = replace(self._ended, reason=reason, duration_s=payload.get("time"))

    def _end(self, payload: Mapping[str, Any], outcome: Outcome, reason: str = "") -> None:
        if self._status is PrinterStatus.PRINTING:
            self._become(PrinterStatus.BUSY)  # winding up; OctoPrint says OPERATIONAL or OFFLINE when it is done
        path = str(payload.get("path"))
        self._run, self._over = None, path
        self._prints[path] = self._prints.get(path, 0) + 1
        self._ended = Ended(
            file=path, outcome=outcome, reason=reason, mark=str(self._prints[path]), duration_s=payload.get("time")
        )


def error_text(answer: Answer) -> str:
    """OctoPrint's own words: ``{"error": ...}``; HTML answers have none."""
    if not answer.is_json:
        return ""
    body = answer.json()
    return str(body.get("error") or "") if isinstance(body, dict) else ""


def fault_of(answer: Answer, *, write: bool, text: str) -> DriverError | None:
    """What the caller must do about an answer; None if it is a success."""
    status = answer.status
    if status < 300:
        return None
    if status in (401, 403) or (status == 400 and "CSRF" in text):  # a wrong key on a POST is a CSRF error
        return Unauthorised("OctoPrint does not accept the API key for this.")
    if status == 404:
        # while it starts, a small server without an API holds the port
        return Missing("OctoPrint has no such file.") if answer.is_json else Unreachable("OctoPrint is starting.")
    if status == 409:
        return Busy(text or "OctoPrint is busy.")
    if status >= 500:
        if write:
            return Unclear(f"OctoPrint failed inside ({status}); nobody knows whether the command was carried out.")
        return (
            Unreachable("OctoPrint does not answer behind its proxy.")
            if status > 500
            else Garbled("OctoPrint failed inside.")
        )
    return Refused(text or f"OctoPrint refused ({status}).")


# -- I/O


class OctoPrintDriver(PrinterDriver):
    kind: ClassVar[str] = "octoprint"
    label: ClassVar[str] = "OctoPrint"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {Capability.OBJECTS}

    def __init__(self, base_url: str, api_key: str, check_address: Callable[[str], str | None] | None = None) -> None:
        super().__init__(base_url, api_key, check_address)
        self._door = Door(base_url, api_key, check_address)

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
            reducer.reconcile(self._files())
            yield reducer.state
            for message in link.messages(stop):
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

    @understood()
    def printed_since(self, marker: PrintMarker | None) -> bool:
        if marker is None or self.read_state().working:
            return True
        return has_printed(marker, marker_from(self._files()))

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

    def gcode(self, lines: Sequence[str]) -> None:
        self._command("/api/printer/command", {"commands": checked_lines(lines)})

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
