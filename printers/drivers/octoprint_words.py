"""OctoPrint's words become the farm's: raw message in, state, record or fault out. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from printers.drivers.base import (
    WORKING,
    Busy,
    DriverError,
    Ended,
    Garbled,
    LiveJob,
    Missing,
    Outcome,
    PrinterState,
    PrinterStatus,
    PrintMarker,
    Refused,
    RemoteFile,
    Temperature,
    Unauthorised,
    Unclear,
    Unreachable,
    one_line,
)
from printers.drivers.http import Answer

UNKNOWN_FAILURE = "It was cancelled or it failed: OctoPrint's record does not say which."
CONNECTION_LOST = "The connection to the printer ended during the print."
NOT_CONNECTED = "OctoPrint runs, but is not connected to the printer."


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


class Answers:
    """What a machine answers to our lines, out of OctoPrint's log of the serial line ("Send: ...", "Recv: ...").

    Everything up to and including the ``ok`` belongs to the line before it. OctoPrint itself asks for temperatures
    between ours, and some machines report them unasked: that is no answer.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self._waiting = [code for line in lines if (code := _code(line))]
        self._open = ""

    @property
    def complete(self) -> bool:
        return not self._waiting and not self._open

    def feed(self, logs: Sequence[object]) -> Iterator[str]:
        for entry in map(str, logs):
            if entry.startswith("Send: "):
                self._sent(_code(entry[6:]))
            elif entry.startswith("Recv: ") and self._open:
                yield from self._received(entry[6:])

    def _sent(self, code: str) -> None:
        """A line that OctoPrint or one of its plugins swallowed has no answer."""
        self._open = ""
        if code in self._waiting:
            self._open = code
            del self._waiting[: self._waiting.index(code) + 1]

    def _received(self, said: str) -> Iterator[str]:
        asked = self._open.startswith(_ASKS_FOR_HEAT)
        if said.startswith("ok"):
            self._open = ""
        elif not asked and _UNASKED.match(said):
            return
        yield said


#: with line number and checksum, as it goes over the line
_SENT = re.compile(r"(?:N\d+\s+)?(.*?)(?:\*\d+)?")
_UNASKED = re.compile(r"\s*(?:T\d?:|Not SD printing)")
_ASKS_FOR_HEAT = ("M105", "M109", "M190", "M191")


def _code(line: str) -> str:
    """A line to compare by: without comment, number and checksum."""
    match = _SENT.fullmatch(line.split(";")[0].strip())
    return match[1].strip().upper() if match else ""


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
