"""Klipper's and Moonraker's words become the farm's: raw message in, state, record or fault out. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.client import responses
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
    Temperature,
    Unauthorised,
    Unclear,
    Unreachable,
    one_line,
)
from printers.drivers.http import Answer

NO_KLIPPER = "Moonraker runs, but Klipper does not answer it."
#: Moonraker ended while Klipper printed: its record stops there, the print may not have.
ORPHANED = frozenset({"server_exit", "interrupted"})
OUTCOMES = {"completed": Outcome.COMPLETED, "complete": Outcome.COMPLETED, "cancelled": Outcome.CANCELLED}
REASONS = {
    "klippy_shutdown": "Klipper shut the machine down.",
    "klippy_disconnect": "Klipper ended during the print.",
    "error": "Klipper stopped the print with an error.",
}
UNKNOWN_END = "Moonraker was not running when the print ended, so how it ended is not known."

Objects = Mapping[str, Mapping[str, Any]]


def status_from(objects: Objects) -> PrinterStatus:
    """``webhooks`` and ``print_stats`` of printer.objects; no ``webhooks`` means no Klipper."""
    klipper = (objects.get("webhooks") or {}).get("state")
    if klipper in (None, "startup"):
        return PrinterStatus.CONNECTING
    if klipper != "ready":
        return PrinterStatus.ERROR
    job = (objects.get("print_stats") or {}).get("state")
    return {"printing": PrinterStatus.PRINTING, "paused": PrinterStatus.PAUSED}.get(str(job), PrinterStatus.IDLE)


def first_line(text: object) -> str:
    """Klipper's messages are a useful line and advice on how to restart it; some begin with an empty line."""
    return next((one_line(line) for line in str(text or "").splitlines() if line.strip()), "")


def message_from(objects: Objects) -> str:
    webhooks = objects.get("webhooks")
    if not webhooks:
        return NO_KLIPPER
    return "" if webhooks.get("state") == "ready" else first_line(webhooks.get("state_message")) or NO_KLIPPER


def heaters_from(names: Sequence[str]) -> dict[str, str]:
    """The farm's heater names -> Klipper's objects, out of printer.objects.list. There is no ``extruder0``."""
    heaters = {}
    for name in names:
        if match := re.fullmatch(r"extruder(\d*)", name):
            heaters[f"tool{match[1] or 0}"] = name
        elif name == "heater_bed":
            heaters["bed"] = name
    kinds = ("heater_generic ", "temperature_fan ", "temperature_sensor ")
    chambers = [name for kind in kinds for name in names if name.startswith(kind) and "chamber" in name.lower()]
    return heaters | ({"chamber": chambers[0]} if chambers else {})


def temperatures_from(objects: Objects, heaters: Mapping[str, str]) -> dict[str, Temperature]:
    return {
        heater: Temperature(actual=values.get("temperature"), target=float(values.get("target") or 0))
        for heater, name in heaters.items()
        if (values := objects.get(name))
    }


def job_from(objects: Objects, estimate_s: float | None = None) -> LiveJob | None:
    """What is being printed. ``display_status.progress`` is the slicer's own (M73) if it gave one, else the part of
    the file that was read; ``print_duration`` stays 0 until the first extrusion."""
    stats = objects.get("print_stats") or {}
    if not stats.get("filename"):
        return None
    done = _share(objects.get("display_status") or objects.get("virtual_sdcard"))
    read = _share(objects.get("virtual_sdcard")) if objects.get("virtual_sdcard") else done
    printed_s = float(stats.get("print_duration") or 0)
    left_s = max(estimate_s - printed_s, 0.0) if estimate_s else None
    if printed_s > 0 and done > 0.02:  # noqa: PLR2004 - below two per cent a projection says nothing
        left_s = printed_s * (1 - done) / done
    return LiveJob(
        file=stats["filename"],
        progress=done,
        read=read if read != done else None,
        elapsed_s=stats.get("total_duration"),
        left_s=left_s,
    )


def _share(found: Mapping[str, Any] | None) -> float:
    return min(max(float((found or {}).get("progress") or 0), 0.0), 1.0)


def ended_from_job(job: Mapping[str, Any], objects: Objects) -> Ended | None:
    """How a print of the history ended; ``objects`` (what Klipper says now) adds the reason. None while it is on."""
    status = str(job.get("status"))
    if status == "in_progress":
        return None
    if status in ORPHANED:
        return _ended_orphan(job, objects)
    return _ended(job, status, _reason(job, status, objects))


def _ended_orphan(job: Mapping[str, Any], objects: Objects) -> Ended | None:
    """Moonraker restarted during this print and will never finish its record: Klipper's own state tells the rest."""
    if not objects.get("webhooks"):
        return None  # Klipper is not back, nobody knows
    stats = objects.get("print_stats") or {}
    if stats.get("filename") != job.get("filename"):
        return _ended(job, "error", UNKNOWN_END)
    if status_from(objects) in WORKING:
        return None
    if stats.get("state") in ("complete", "cancelled", "error"):
        status = str(stats["state"])
        return _ended(job, status, _reason(job, status, objects))
    return _ended(job, "klippy_shutdown", message_from(objects) or UNKNOWN_END)


def _reason(job: Mapping[str, Any], status: str, objects: Objects) -> str:
    if status in OUTCOMES:
        return ""
    stats = objects.get("print_stats") or {}
    said = ""
    if status == "error" and stats.get("filename") == job.get("filename"):
        said = first_line(stats.get("message"))
    elif status == "klippy_shutdown" and objects.get("webhooks"):
        said = message_from(objects)
    return said or REASONS.get(status, f"Moonraker's record says: {status}.")


def _ended(job: Mapping[str, Any], status: str, reason: str) -> Ended:
    return Ended(
        file=str(job.get("filename") or ""),
        outcome=OUTCOMES.get(status, Outcome.FAILED),
        reason=reason,
        mark=mark_of(job),
        filament_mm=job.get("filament_used"),
        duration_s=job.get("total_duration"),
    )


def mark_of(job: Mapping[str, Any]) -> str:
    """Job ids start anew when the whole history is deleted, so the start time is part of it."""
    return f"{job.get('job_id')}-{float(job.get('start_time') or 0):.0f}"


def ended_unrecorded(stats: Mapping[str, Any], objects: Objects) -> Ended:
    """A print that Klipper has done and the history knows nothing of (it was begun while Moonraker was down, or
    Moonraker died before it wrote it down). ``stats`` are the ``print_stats`` of that print."""
    status = str(stats.get("state"))
    if status not in OUTCOMES and status != "error":
        status = "klippy_shutdown" if objects.get("webhooks") else "klippy_disconnect"
    job = {"filename": stats.get("filename"), "job_id": "unrecorded", "start_time": stats.get("total_duration")}
    ended = _ended(job, status, _reason(job, status, objects))
    return replace(ended, filament_mm=stats.get("filament_used"), duration_s=stats.get("total_duration"))


def marker_from(newest: Mapping[str, Any] | None, totals: Mapping[str, Any], file: str | None) -> dict[str, Any]:
    """The newest print of the history (id, start), how many prints have ended since that count was reset, and the
    file that Klipper last printed ("" none, None unknown): it may have printed without Moonraker."""
    marker = {"job": 0, "start": 0.0, "count": int(totals.get("total_jobs") or 0), "file": file}
    if newest is None:
        return marker
    return marker | {"job": int(str(newest["job_id"]), 16), "start": float(newest["start_time"])}


def has_printed(before: PrintMarker, now: PrintMarker) -> bool:
    """Whether anything was printed between two markers. Deleted entries are no print; True when it cannot be told
    (entries deleted *and* the count reset)."""
    if not {"job", "start", "count", "file"} <= before.keys() or now["count"] > before["count"]:
        return True
    if now["file"] and now["file"] != before["file"]:
        return True
    if (now["job"], now["start"]) == (before["job"], before["start"]):
        return False
    newer = now["job"] > before["job"] or now["start"] > before["start"]
    return newer or now["count"] < before["count"]


class MoonrakerReducer:
    """Subscription answers, notifications and history in, the whole state out. No I/O: captures replay through it."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Any]] = {}
        self._heaters: dict[str, str] = {}
        self._job: Mapping[str, Any] | None = None  # the newest of the history
        self._ended: Ended | None = None
        self._told = ""  # the mark of the newest print of the history whose end was told
        self._run: dict[str, Any] = {}  # print_stats of the print that is on
        self._recorded = False  # whether the history knows of that print

    @property
    def attached(self) -> bool:
        """Whether there is a Klipper whose objects come in."""
        return bool(self._objects)

    @property
    def unsettled(self) -> bool:
        """Klipper is done with a print and the history has not said so yet (a few milliseconds, normally)."""
        return (self._job or {}).get("status") == "in_progress" and status_from(self._objects) is PrinterStatus.IDLE

    @property
    def state(self) -> PrinterState:
        status = PrinterStatus.BUSY if self.unsettled else status_from(self._objects)
        estimate = ((self._job or {}).get("metadata") or {}).get("estimated_time")
        return PrinterState(
            status=status,
            message=message_from(self._objects),
            temperatures=temperatures_from(self._objects, self._heaters),
            job=job_from(self._objects, estimate) if status in WORKING else None,
            ended=self._ended,
        )

    def attach(self, names: Sequence[str], status: Objects) -> None:
        """A new subscription: its answer is the whole state, nothing of the old one is true any more."""
        self._heaters = heaters_from(names)
        self._objects = {name: dict(values) for name, values in status.items()}
        self._follow_run()
        self._settle()

    def detach(self) -> None:
        """Klipper is gone, and with it every subscription."""
        self._objects = {}
        self._follow_run()

    def record(self, job: Mapping[str, Any] | None) -> None:
        """The newest print of the history."""
        self._job = job
        self._follow_run()
        self._settle()

    def give_up_waiting(self) -> None:
        """The history will not say how this print ended: Klipper's own state must do."""
        if self._job is not None and self.unsettled:
            self.record({**self._job, "status": "interrupted"})

    def feed(self, message: Mapping[str, Any]) -> bool:
        """Take one notification in; whether it said anything about the machine (a heartbeat does)."""
        method: object = message.get("method")
        params: Sequence[Any] = message.get("params") or ()
        if method == "notify_status_update":
            self._merge(params[0])
        elif method == "notify_history_changed":
            self.record(params[0]["job"])
        elif method == "notify_klippy_disconnected":
            self.detach()
        else:
            return method == "notify_proc_stat_update"
        return True

    def _merge(self, delta: Objects) -> None:
        for name, values in delta.items():
            self._objects.setdefault(name, {}).update(values)
        self._follow_run()
        if (self._job or {}).get("status") in ORPHANED:
            self._settle()

    def _follow_run(self) -> None:
        """The history tells how a print ended, unless it does not know of it: then Klipper's own state does."""
        stats = self._objects.get("print_stats") or {}
        if status_from(self._objects) in WORKING:
            if stats.get("filename") != self._run.get("filename"):
                self._recorded = False
            self._run = dict(stats)
            self._recorded = self._recorded or self._is_of_history(stats)
        elif self._run:
            ended = stats if stats.get("filename") == self._run.get("filename") else self._run
            if not self._recorded:
                self._ended = ended_unrecorded(ended, self._objects)
            self._run = {}

    def _is_of_history(self, stats: Mapping[str, Any]) -> bool:
        job = self._job or {}
        return job.get("filename") == stats.get("filename") and job.get("status") in ORPHANED | {"in_progress"}

    def _settle(self) -> None:
        """The first sentence on how a print ended stays: later Klipper has forgotten why."""
        if self._job is None or self._told == mark_of(self._job):
            return
        ended = ended_from_job(self._job, self._objects)
        if ended is not None:
            self._ended, self._told = ended, ended.mark


def error_text(answer: Answer) -> str:
    """The useful line of an error. Its ``message`` is often "Unknown" or the name of the status; the real text is at
    the end of ``traceback``: ``tornado.web.HTTPError: HTTP 400: Bad Request (the text)``."""
    if not answer.is_json:
        return ""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ""
    match = re.search(r"HTTP \d{3}: (.*)\Z", str(error.get("traceback") or ""), re.DOTALL)
    text = match[1].strip() if match else str(error.get("message") or "")
    head = f"{responses.get(answer.status)} ("
    return first_line(text[len(head) : -1] if text.startswith(head) else text)


def fault_of(answer: Answer, *, write: bool, text: str) -> DriverError | None:
    """What the caller must do about an answer; None if it is a success."""
    status = answer.status
    if status < 300:
        return None
    if status == 401:
        return Unauthorised("Moonraker does not accept the API key.")
    if status == 404 and not write:
        return Missing("Moonraker has no such thing.")
    if status == 404 or (status == 503 and answer.is_json):  # until Klipper has come once, its routes are missing
        return Refused(NO_KLIPPER)
    if status >= 500:
        if write:
            return Unclear(f"Moonraker failed inside ({status}); nobody knows whether the command was carried out.")
        proxy = status > 500
        return (
            Unreachable("Moonraker does not answer behind its proxy.") if proxy else Garbled("Moonraker failed inside.")
        )
    if status == 403 or "SD busy" in text:
        return Busy(text or "The file is in use.")
    if "Unable to open file" in text:
        return Missing("There is no such file on the printer.")
    return Refused(text or f"Moonraker refused ({status}).")
