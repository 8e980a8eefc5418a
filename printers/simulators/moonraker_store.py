"""What the simulated Moonraker keeps on its disk: G-code files and the history of jobs.

Held against Moonraker 0.11.0, with its habits: a job that is sampled from ``complete`` to ``complete`` is not seen, a
job under way when the server is killed becomes ``interrupted``, a job's user is forgotten once it has ended.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from printers.simulators.control import write_whole

Job = dict[str, Any]
_IDLE = frozenset({"standby", "complete", "cancelled", "error"})
_FROM_STATS = ("filename", "print_duration", "total_duration", "filament_used")


def is_gcode(path: str) -> bool:
    return path.lower().endswith((".gcode", ".g", ".gco", ".nc"))


def _facts(place: Path) -> dict[str, Any]:
    status = place.stat()
    return {"modified": status.st_mtime, "size": status.st_size, "permissions": "rw"}


class Files:
    """The ``gcodes`` root. Paths are relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._uuids: dict[str, str] = {}

    def place(self, path: str) -> Path | None:
        """Where a file of that path is or would be; None if that is outside the root."""
        place = (self.folder / path).resolve()
        return place if place.is_relative_to(self.folder) else None

    def is_file(self, path: str) -> bool:
        place = self.place(path)
        return place is not None and place.is_file()

    def save(self, path: str, data: bytes) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        self._uuids[path] = str(uuid.uuid4())

    def item(self, path: str) -> dict[str, Any]:
        return {**_facts(self.folder / path), "path": path, "root": "gcodes"}

    def listing(self) -> list[dict[str, Any]]:
        """Every G-code file, however deep; others are stored but not listed."""
        files = sorted(file for file in self.folder.rglob("*") if file.is_file() and is_gcode(file.name))
        return [{"path": str(file.relative_to(self.folder)), **_facts(file)} for file in files]

    def inside(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """What is directly in a folder."""
        entries = sorted(folder.iterdir())
        return {
            "dirs": [{"dirname": entry.name, **_facts(entry)} for entry in entries if entry.is_dir()],
            "files": [{"filename": entry.name, **_facts(entry)} for entry in entries if entry.is_file()],
        }

    def metadata(self, path: str) -> dict[str, Any]:
        """What Moonraker finds in a file of a slicer that it does not know."""
        if not self.is_file(path) or not is_gcode(path):
            return {}
        item = self.item(path)
        span = {"gcode_start_byte": 0, "gcode_end_byte": item["size"]} if item["size"] else {}
        return {
            "size": item["size"],
            "modified": item["modified"],
            "uuid": self._uuids.setdefault(path, str(uuid.uuid4())),
            "file_processors": [],
            "slicer": "Unknown",
            "slicer_version": "?",
            **span,
        }


class History:
    """Jobs as Moonraker tells them, from what print_stats shows four times a second."""

    def __init__(self, folder: Path, files: Files, announce: Callable[[str, Job], None]) -> None:
        self._record, self.files, self._announce = folder / "history.json", files, announce
        self.jobs: list[Job] = json.loads(self._record.read_text()) if self._record.exists() else []
        self.forget_state()

    def forget_state(self) -> None:
        """The server starts: whatever was under way is only a record now."""
        self._stats: dict[str, Any] = {}
        self._current: Job | None = None
        self._user = "No User"
        for job in self.jobs:
            if job["status"] == "in_progress":
                job["status"] = "interrupted"
        self._save()

    # -- from print_stats
    def begin_watching(self, stats: dict[str, Any]) -> None:
        self._stats = dict(stats)

    def see(self, change: dict[str, Any]) -> None:
        """Some fields of print_stats changed."""
        before, after = dict(self._stats), {**self._stats, **change}
        self._stats = after
        old, new = before.get("state", "standby"), after.get("state", "standby")
        if "state" not in change or new == old:
            return
        inferred = old in _IDLE and new != "standby"  # too short to be seen printing, perhaps
        if inferred or (new == "printing" and not self._is_resumed(before, after)):
            self._start(after)
        if new == "complete":
            self.finish("completed")
        elif new == "error":
            self.finish("error")
        elif new in ("cancelled", "standby"):
            self.finish("cancelled", stats=before)

    def _is_resumed(self, before: dict[str, Any], after: dict[str, Any]) -> bool:
        same = before["filename"] == after["filename"]
        return before["state"] == "paused" and same and before["total_duration"] < after["total_duration"]

    @property
    def loaded_file(self) -> str | None:
        """The file that may not be overwritten or deleted now."""
        return self._stats.get("filename") if self._stats.get("state") in ("printing", "paused") else None

    def asked_by(self, user: str) -> None:
        """A start was accepted from this user."""
        self._user = user
        if self._current is not None:
            self._current["user"] = user

    def _start(self, stats: dict[str, Any]) -> None:
        if self._current is not None:
            self.finish("cancelled", stats={})
        number = int(self.jobs[-1]["job_id"], 16) + 1 if self.jobs else 1
        self._current = {
            "job_id": f"{number:06X}",
            "user": self._user,
            "status": "in_progress",
            "start_time": time.time(),
            "end_time": None,
            "metadata": self.files.metadata(stats["filename"]),
            "auxiliary_data": [],
            **{name: stats[name] for name in _FROM_STATS},
        }
        self.jobs.append(self._current)
        self._save()
        self._announce("added", self.shown(self._current))

    def finish(self, status: str, stats: dict[str, Any] | None = None) -> None:
        """The current job, if there is one, has ended; by default with the newest print_stats."""
        job, self._current = self._current, None
        if job is not None:
            stats = self._stats if stats is None else stats
            fits = stats.get("filename") == job["filename"] and stats["total_duration"] >= job["total_duration"]
            if fits:
                job.update({name: stats[name] for name in _FROM_STATS})
            job.update(status=status, end_time=time.time(), user=self._user)
            self._save()
            self._announce("finished", self.shown(job))
        self._user = "No User"

    def lose_klippy(self) -> None:
        """The connection to Klippy broke."""
        if self._stats.get("state") in ("printing", "paused"):
            self._stats["state"] = "error"
        self.finish("klippy_disconnect")

    # -- asked
    def shown(self, job: Job) -> Job:
        return {**job, "exists": self.files.is_file(job["filename"])}

    def page(self, *, limit: int, start: int, order: str) -> list[Job]:
        jobs = self.jobs if order == "asc" else self.jobs[::-1]
        return [self.shown(job) for job in (jobs[start : start + limit] if limit > 0 else jobs)]

    def find(self, job_id: str) -> Job | None:
        return next((self.shown(job) for job in self.jobs if job["job_id"] == job_id), None)

    def delete(self, job_id: str) -> bool:
        kept = [job for job in self.jobs if job["job_id"] != job_id]
        found, self.jobs = len(kept) < len(self.jobs), kept
        self._save()
        return found

    def totals(self) -> dict[str, float]:
        ended = [job for job in self.jobs if job["end_time"] is not None]
        total = [job["total_duration"] for job in ended]
        printing = [job["print_duration"] for job in ended]
        return {
            "total_jobs": float(len(ended)),
            "total_time": sum(total),
            "total_print_time": sum(printing),
            "total_filament_used": sum(job["filament_used"] for job in ended),
            "longest_job": max(total, default=0.0),
            "longest_print": max(printing, default=0.0),
        }

    def _save(self) -> None:
        write_whole(self._record, json.dumps(self.jobs))
