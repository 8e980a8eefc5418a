"""The history of jobs of the simulated Moonraker, told from what print_stats shows four times a second.

Held against Moonraker 0.11.0, with its habits: a print that is over between two looks at ``complete`` is not seen, a
job under way when the server is killed becomes ``interrupted``, a job's user is forgotten once it has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from printers.simulators.control import write_whole
from printers.simulators.moonraker_calls import ApiError, Call, Table

Job = dict[str, Any]
_IDLE = frozenset({"standby", "complete", "cancelled", "error"})
_FROM_STATS = ("filename", "print_duration", "total_duration", "filament_used")


class Files(Protocol):
    def is_file(self, path: str) -> bool: ...

    def metadata(self, path: str) -> dict[str, Any]: ...


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

    # -- doors
    def methods(self) -> Table:
        return [
            ("GET", "/server/history/list", "server.history.list", self._history_list),
            ("GET", "/server/history/totals", "server.history.totals", self._history_totals),
            ("GET", "/server/history/job", "server.history.get_job", self._history_job),
            ("DELETE", "/server/history/job", "server.history.delete_job", self._history_delete),
        ]

    async def _history_list(self, call: Call) -> Any:
        order = str(call.params.get("order", "desc")).lower()
        if order not in ("asc", "desc"):
            raise ApiError(400, f"Invalid `order` value: {order.upper()}")
        jobs = self.page(limit=call.number("limit", 50), start=call.number("start", 0), order=order)
        return {"count": len(jobs), "jobs": jobs}

    async def _history_totals(self, call: Call) -> Any:
        return {"job_totals": self.totals(), "auxiliary_totals": []}

    async def _history_job(self, call: Call) -> Any:
        job = self.find(str(call.need("uid")))
        if job is None:
            raise ApiError(404, f"Invalid job uid: {call.params['uid']}")
        return {"job": job}

    async def _history_delete(self, call: Call) -> Any:
        uid = str(call.need("uid"))
        if not self.delete(uid):
            raise ApiError(404, f"Invalid job uid: {uid}")
        return {"deleted_jobs": [uid]}
