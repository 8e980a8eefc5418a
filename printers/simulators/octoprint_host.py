"""What OctoPrint knows between its doors and the machine: connection, loaded file, progress, events, temperatures.

Behaviour, texts and the order of events were held against OctoPrint 1.11.8 with its virtual printer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from printers.simulators.machine import Machine, MachineError
from printers.simulators.octoprint_files import Storage

#: state id -> what people and /api/job see
TEXTS = {
    "OFFLINE": "Offline",
    "CLOSED_WITH_ERROR": "Offline after error",
    "DETECT_SERIAL": "Detecting serial connection",
    "OPERATIONAL": "Operational",
    "STARTING": "Starting",
    "PRINTING": "Printing",
    "PAUSING": "Pausing",
    "PAUSED": "Paused",
    "RESUMING": "Resuming",
    "CANCELLING": "Cancelling",
    "FINISHING": "Finishing",
    "ERROR": "Error",
}
_CLOSED = frozenset({"OFFLINE", "CLOSED_WITH_ERROR"})
_AT_WORK = frozenset({"STARTING", "PRINTING", "PAUSING", "RESUMING", "CANCELLING", "FINISHING"})

#: seconds that the real one needs to open its virtual printer
CONNECT_SECONDS = 0.1
FINISHING_SECONDS = 0.05
ANALYSIS_SECONDS = 0.3
TEMPERATURE_SECONDS = 2.0
#: the script that OctoPrint sends after a cancelled print
_AFTER_CANCEL = ["M84", "M104 T0 S0", "M140 S0", "M106 S0"]
#: how far apart elapsed time and progress may be before OctoPrint stops believing its analysis
_BELIEF = 0.15
_LINEAR_FROM = 0.3

Listener = Callable[[str, Any], None]


class Host:
    """``listen`` is called with ("event", {...}) at once, ("log", text) and ("temps", sample)."""

    def __init__(self, storage: Storage, listen: Listener) -> None:
        self.storage, self.listen = storage, listen
        self.began: Callable[[str], None] = lambda file: None
        self.machine = Machine(self._machine_says)
        self.machine.commands["M112"] = lambda command: self.emergency_stop()
        self.boot()

    def boot(self) -> None:
        """As after a start of the server: nothing loaded, then the serial connection opens by itself."""
        self.machine.reset()
        self.state = "OFFLINE"
        self.error = ""
        self.error_info: dict[str, Any] = {"error": "", "reason": ""}
        self.file: str | None = None
        self.ever_selected = False
        self.user: str | None = None
        self.finished = False
        self.current_z: float | None = None
        self.transmitted = 0
        self.offsets: dict[str, float] = {}
        self.temps: deque[dict[str, Any]] = deque(maxlen=900)
        self.logs: deque[str] = deque(maxlen=300)
        self.markings: list[dict[str, Any]] = []
        self._loaded = b""
        self._elapsed = 0.0
        self._counting_since: float | None = None
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._next_temperatures = 0.0
        self._next_note = 0.0
        self._to_analyse: list[tuple[float, str]] = []

    # -- time
    def tick(self) -> None:
        now = time.monotonic()
        due = [action for moment, action in self._later if moment <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for action in due:
            action()
        if self.connected:
            self._poll_machine(now)
        self._analyse(now)

    def _poll_machine(self, now: float) -> None:
        """OctoPrint asks for temperatures every 2 s and for an SD print every second."""
        if now >= self._next_temperatures:
            self._next_temperatures = now + TEMPERATURE_SECONDS
            self.sample_temperatures()
        if now >= self._next_note:
            self._next_note = now + 1.0
            self.log("Recv: Not SD printing")

    def sample_temperatures(self) -> None:
        heaters = {
            name: {"actual": round(heater.actual, 2), "target": heater.target}
            for name, heater in self.machine.heaters.items()
        }
        sample = {"time": int(time.time()), **heaters, "chamber": {"actual": None, "target": None}}
        self.temps.append(sample)
        self.listen("temps", sample)
        self.log(f"Recv: {self._heat()}")

    def _heat(self) -> str:
        tool, bed = self.machine.heaters["tool0"], self.machine.heaters["bed"]
        return f"T:{tool.actual:.2f}/ {tool.target:.2f} B:{bed.actual:.2f}/ {bed.target:.2f} @:64"

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def log(self, text: str) -> None:
        self.logs.append(text)
        self.listen("log", text)

    def event(self, kind: str, payload: Any = None) -> None:
        self.listen("event", {"type": kind, "payload": payload})

    def _mark(self, kind: str, label: str) -> None:
        self.markings.append({"type": kind, "label": label, "time": time.time()})
        if kind != "connected":
            self.event("ChartMarked", {"type": kind, "label": label})

    def _become(self, state: str, *, quiet: bool = False) -> None:
        self.log(f'Changing monitoring state from "{TEXTS[self.state]}" to "{TEXTS[state]}"')
        self.state = state
        if not quiet:
            self.event("PrinterStateChanged", {"state_id": state, "state_string": TEXTS[state]})

    # -- connection
    @property
    def connected(self) -> bool:
        return self.state not in _CLOSED and self.state not in ("DETECT_SERIAL", "ERROR")

    @property
    def printing(self) -> bool:
        """As OctoPrint means it: also while it starts, pauses, resumes, cancels or finishes."""
        return self.state in _AT_WORK

    @property
    def paused(self) -> bool:
        return self.state == "PAUSED"

    @property
    def active(self) -> bool:
        return self.printing or self.paused

    def connect(self) -> None:
        if self.state not in _CLOSED:
            return
        self.error, self.error_info = "", {"error": "", "reason": ""}
        self.event("Connecting")
        self._become("DETECT_SERIAL")
        self._after(CONNECT_SECONDS, self._opened)

    def _opened(self) -> None:
        if self.state != "DETECT_SERIAL":
            return
        self.machine.reset()
        self._become("OPERATIONAL")
        self._mark("connected", "Connected")
        self.event("Connected", {"port": "VIRTUAL", "baudrate": 0})
        self._next_temperatures = self._next_note = time.monotonic()

    def disconnect(self) -> None:
        """Asked for by somebody; a print that is under way fails by it."""
        self.event("Disconnecting")
        if self.state in _CLOSED:
            self.event("Disconnected")
        else:
            tell_failure = self._failure("")
            self._close("OFFLINE", "")
            tell_failure()

    def break_off(self, error: str, *, info: dict[str, Any] | None = None, estop: bool = False) -> None:
        """The firmware or the line gave up; with ``info`` the firmware said why."""
        self.error_info = {"error": "", "reason": ""}
        tell_failure = self._failure(error)
        if info is not None:
            self._become("ERROR")
            self.error_info = {**info, "logs": list(self.logs)[-20:]}
            self.event("Error", self.error_info)
            tell_failure()
            self.event("EStop")
            self._close("CLOSED_WITH_ERROR", error)
            return
        self._close("CLOSED_WITH_ERROR", error)
        if estop:
            self.event("EStop")
        tell_failure()

    def _failure(self, error: str) -> Callable[[], None]:
        """What will tell of the print that is now under way that it failed. A paused print is forgotten without a
        word: no event, no record (seen in 1.11.8)."""
        file, seconds = self.file, self.print_seconds
        if file is None or not self.printing:
            return lambda: None
        details = {"time": seconds, "reason": "error", "error": error, "progress": self.progress()}
        payload = {**self._payload(user=False), **details}

        def tell() -> None:
            self._record(file, seconds, success=False)
            self.event("PrintFailed", payload)

        return tell

    def _close(self, state: str, error: str) -> None:
        self.machine.halt(error)
        self._deselect()
        self.error = error
        self.event("Disconnected")
        self.log(f'Changing monitoring state from "{TEXTS[self.state]}" to "{TEXTS[state]}"')
        self.state = state
        self.event("PrinterStateChanged", {"state_id": "OFFLINE", "state_string": "Offline"})

    def fatal_error(self, error: str) -> None:
        """The firmware says Error: and halts."""
        info = {"error": error, "reason": "firmware", "consequence": "emergency", "faq": "firmware-thermal-runaway"}
        self.break_off(error, info=info)

    def emergency_stop(self) -> float:
        self.break_off("Closing serial port due to emergency stop M112.", estop=True)
        return 0.0

    # -- the loaded file
    def select(self, path: str, user: str) -> None:
        self.file, self.user, self.ever_selected, self.finished = path, user, True, False
        self._elapsed, self._counting_since = 0.0, None
        self.event("FileSelected", self._payload(size=False))

    def unselect(self) -> None:
        self._deselect()

    def _deselect(self) -> None:
        if self.file is not None:
            self.file, self.finished = None, False
            self.event("FileDeselected")

    def _payload(self, *, size: bool = True, user: bool = True) -> dict[str, Any]:
        """``user`` is left out of what the machine did by itself."""
        path = self.file or ""
        payload = {"name": path.rsplit("/", 1)[-1], "path": path, "origin": "local"}
        length = len(self.machine.job.data) if self.machine.job is not None else self._file_size()
        whole = {**payload, "size": length if size else None, "owner": self.user}
        return {**whole, "user": self.user} if user else whole

    def _file_size(self) -> int | None:
        place = self.storage.on_disk(self.file) if self.file else None
        return place.stat().st_size if place is not None else None

    # -- the print
    @property
    def print_seconds(self) -> float:
        running = time.monotonic() - self._counting_since if self._counting_since is not None else 0.0
        return self._elapsed + running

    def _stop_counting(self) -> None:
        self._elapsed, self._counting_since = self.print_seconds, None

    def progress(self) -> float:
        return self.machine.job.progress if self.machine.job is not None else 0.0

    def start(self, user: str) -> bool:
        """Begin the loaded file, or begin it again while it is paused. False when none is loaded: OctoPrint then
        does nothing and does not say so."""
        if self.file is None or not self.storage.is_file(self.file):
            return False
        self.machine.drop_job()
        self.user, self.finished = user, False
        self._elapsed, self._counting_since = 0.0, time.monotonic()
        self._become("STARTING")
        self.event("PrintStarted", self._payload())
        self._mark("print", "Start")
        self._loaded = self.storage.read(self.file)
        self._after(0.0, self._begin)
        self.began(self.file)
        return True

    def _begin(self) -> None:
        if self.state == "STARTING":
            self.machine.start(self._loaded)
            self._become("PRINTING")

    def pause(self) -> None:
        self._begin()
        if self.state != "PRINTING":
            return
        self._become("PAUSING")
        self._stop_counting()
        self.machine.hold()

    def resume(self) -> None:
        if not self.paused:
            return
        self._become("RESUMING")
        self.event("PrintResumed", self._payload())
        self._mark("resume", "Resume")
        self._counting_since = time.monotonic()
        self.machine.release()
        self._become("PRINTING")

    def cancel(self, *, by_machine: bool = False) -> None:
        if not self.active:
            return
        self._stop_counting()
        payload = self._payload(user=not by_machine)
        nowhere = dict.fromkeys("xyzetf")
        position = self.machine.job.position if self.machine.job is not None else 0
        progress, seconds = int(self.progress() * 100), self.print_seconds
        ended = {**payload, "position": nowhere, "fileposition": position, "progress": progress, "time": seconds}
        self.event("PrintCancelling", payload)
        self._become("CANCELLING")
        self.machine.drop_job(interrupt=True)
        self.machine.run(list(_AFTER_CANCEL))
        self.event("PrintCancelled", ended)
        self._mark("cancel", "Cancel")
        if self.file is not None:
            self._record(self.file, seconds, success=False)
        self.event("PrintFailed", {**ended, "reason": "cancelled"})
        self._become("OPERATIONAL")
        self.current_z = None

    def carry_out(self, lines: list[str]) -> None:
        """Send lines to the machine, each when it has said "ok" to the one before."""
        code = lines[0].split(";")[0].strip() if lines else ""
        if not code:
            return self.carry_out(lines[1:]) if lines else None

        def done(error: MachineError | None) -> None:
            if self.machine.halted is not None:
                return  # it says nothing more
            self.log(f"Recv: {self._acknowledgement(code, error)}")
            self.carry_out(lines[1:])

        self.log(f"Send: {code}")
        if code.startswith("M115"):
            self.log("Recv: FIRMWARE_NAME:Simulated Marlin PROTOCOL_VERSION:1.0")
        return self.machine.run([code], done)

    def _acknowledgement(self, code: str, error: MachineError | None) -> str:
        """The "ok" of a machine whose answer to some lines stands behind it, as its virtual printer's does."""
        if error is not None:
            return f"Error:{error}"
        if code.startswith("M114"):
            return "ok X:{:.1f} Y:{:.1f} Z:{:.1f} E:{:.1f} Count: A:0 B:0 C:0".format(*self.machine.position)
        return f"ok {self._heat()}" if code.startswith("M105") else "ok"

    def _machine_says(self, kind: str, details: dict[str, Any]) -> None:
        if kind == "job_done":
            self._done()
        elif kind == "job_held":
            self._held()
        elif kind == "job_failed":
            self.fatal_error(details["message"])
        elif kind == "z_change":
            self.event("ZChange", {"new": details["new"], "old": self.current_z})
            self.current_z = details["new"]
        elif kind == "home":
            self.event("Home")
        elif kind == "tool_change":
            self.event("ToolChange", details)
        elif kind == "target":  # OctoPrint reads targets from what it sends, and does not wait for the next poll
            self.sample_temperatures()
        elif kind == "unknown":
            self.log(f'Recv: echo:Unknown command: "{details["line"]}"')

    def _done(self) -> None:
        self._stop_counting()
        self.finished = True
        self._become("FINISHING")
        self._mark("done", "Done")
        self.event("PrintDone", {**self._payload(user=False), "time": self.print_seconds})
        if self.file is not None:
            self._record(self.file, self.print_seconds, success=True)
        self._after(FINISHING_SECONDS, lambda: self._become("OPERATIONAL") if self.state == "FINISHING" else None)

    def _record(self, path: str, seconds: float, *, success: bool) -> None:
        self.storage.record_print(path, seconds, success)
        self.event("MetadataStatisticsUpdated", {"storage": "local", "path": path})

    def _held(self) -> None:
        if self.state != "PAUSING":
            return
        x, y, z, e = self.machine.position
        where = {"x": x, "y": y, "z": z, "e": e, "t": self.machine.tool, "f": self.machine.feed}
        job = self.machine.job
        details = {
            "position": where,
            "fileposition": job.position if job else 0,
            "progress": int(self.progress() * 100),
        }
        self.event("PrintPaused", {**self._payload(), **details})
        self._mark("pause", "Pause")
        self.event("PositionUpdate", {"reason": "pause", **where})
        self._become("PAUSED")

    # -- analysis
    def analyse_later(self, path: str) -> None:
        """OctoPrint reads a new file in the background, never while it prints."""
        self.event("MetadataAnalysisStarted", {"name": path, "path": path, "origin": "local", "type": "gcode"})
        self._to_analyse.append((time.monotonic() + ANALYSIS_SECONDS, path))

    def _analyse(self, now: float) -> None:
        if not self._to_analyse or self.printing or self._to_analyse[0][0] > now:
            return
        _, path = self._to_analyse.pop(0)
        self._to_analyse = [(max(moment, now + ANALYSIS_SECONDS), name) for moment, name in self._to_analyse]
        result = self.storage.analyse(path)
        if result is not None:
            payload = {"name": path, "path": path, "origin": "local", "result": result}
            self.event("MetadataAnalysisFinished", payload)

    # -- what the doors show
    def state_info(self) -> dict[str, Any]:
        flags = {
            "operational": self.connected,
            "printing": self.printing,
            "cancelling": self.state == "CANCELLING",
            "pausing": self.state == "PAUSING",
            "resuming": self.state == "RESUMING",
            "finishing": self.state == "FINISHING",
            "closedOrError": self.state in _CLOSED or self.state == "ERROR",
            "error": self.state == "ERROR",
            "paused": self.paused,
            "ready": self.state == "OPERATIONAL",
            "sdReady": False,
        }
        return {"text": TEXTS[self.state], "flags": flags, "error": self.error}

    def job_info(self) -> dict[str, Any]:
        nothing = {"name": None, "path": None, "size": None, "origin": None, "date": None}
        if not self.ever_selected:
            filament = {"length": None, "volume": None}
            rest = {"estimatedPrintTime": None, "lastPrintTime": None, "filament": filament, "user": None}
            return {"file": nothing, **rest}
        if self.file is None:
            unknown = dict.fromkeys(("estimatedPrintTime", "averagePrintTime", "lastPrintTime", "filament", "user"))
            return {"file": {**nothing, "display": None}, **unknown}
        return self._loaded_job_info(self.file)

    def _loaded_job_info(self, path: str) -> dict[str, Any]:
        known = self.storage.known.get(path, {})
        analysis, statistics = known.get("gcodeAnalysis", {}), known.get("statistics", {})
        place, name = self.storage.on_disk(path), path.rsplit("/", 1)[-1]
        date = int(place.stat().st_mtime) if place is not None else None
        size = len(self.machine.job.data) if self.machine.job is not None else self._file_size()
        return {
            "file": {"name": name, "path": path, "display": name, "origin": "local", "size": size, "date": date},
            "estimatedPrintTime": analysis.get("estimatedPrintTime"),
            "averagePrintTime": statistics.get("averagePrintTime", {}).get("_default"),
            "lastPrintTime": statistics.get("lastPrintTime", {}).get("_default"),
            "filament": analysis.get("filament"),
            "user": self.user,
        }

    def progress_info(self) -> dict[str, Any]:
        names = ("completion", "filepos", "printTime", "printTimeLeft", "printTimeLeftOrigin")
        if self.file is None or not (self.active or self.finished):
            return dict.fromkeys(names)
        if self.finished:
            return dict(zip(names, (100.0, self._file_size(), int(self.print_seconds), 0, None), strict=True))
        left, origin = self._time_left()
        position = self.machine.job.position if self.machine.job is not None else 0
        values = (self.progress() * 100, position, int(self.print_seconds), left, origin)
        return dict(zip(names, values, strict=True))

    def _time_left(self) -> tuple[int | None, str | None]:
        """OctoPrint's estimate: its analysis while that fits what is seen, else a straight line."""
        done, elapsed = self.progress(), self.print_seconds
        if not done:
            return None, None
        straight = elapsed / done - elapsed
        info = self._loaded_job_info(self.file or "")
        total, origin = info["averagePrintTime"], "average"
        if total is None:
            total, origin = info["estimatedPrintTime"], "analysis"
        if total:
            believable = abs(elapsed / total - done) <= _BELIEF and total > elapsed
            return (int(total - elapsed), origin) if believable else (int(straight), "linear")
        return (int(straight) if done > _LINEAR_FROM else None), "linear"

    def temperatures(self) -> dict[str, Any]:
        """/api/printer's; empty until the first sample, as just after a connect."""
        if not self.temps:
            return {}
        return {
            name: {"actual": round(heater.actual, 2), "target": heater.target, "offset": self.offsets.get(name, 0)}
            for name, heater in self.machine.heaters.items()
        }

    def recent_lines(self) -> list[str]:
        """The newest lines of the file, as the terminal of OctoPrint shows them."""
        job = self.machine.job
        if job is None or job.held:
            return []
        lines = job.data[max(0, job.position - 240) : job.position].decode("utf-8", "replace").splitlines()[1:]
        return [text for line in lines[-6:] for text in ("Recv: ok", f"Send: {line}")]
