"""The ``gcodes`` root of the simulated Moonraker: what is stored, and its doors."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from printers.simulators.control import Simulator
from printers.simulators.moonraker_calls import ApiError, Call, Table
from printers.simulators.moonraker_history import History
from printers.simulators.web import Part, Request, Response, multipart


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


class FileDoors:
    """``ready`` tells whether Klippy is, ``print_uploaded`` begins a file and says whether that worked, ``announce``
    tells every client of a change."""

    def __init__(
        self,
        simulator: Simulator,
        store: Files,
        history: History,
        *,
        ready: Callable[[], bool],
        print_uploaded: Callable[[str], Awaitable[bool]],
        announce: Callable[[dict[str, Any]], None],
    ) -> None:
        self.simulator, self.store, self.history = simulator, store, history
        self.ready, self._print, self._announce = ready, print_uploaded, announce

    def methods(self) -> Table:
        return [
            ("GET", "/server/files/list", "server.files.list", self._list_files),
            ("GET", "/server/files/roots", "server.files.roots", self._roots),
            ("GET", "/server/files/metadata", "server.files.metadata", self._metadata),
            ("GET", "/server/files/directory", "server.files.get_directory", self._directory),
            ("", "", "server.files.delete_file", self._delete_by_name),
        ]

    async def _list_files(self, call: Call) -> Any:
        root = call.params.get("root", "gcodes")
        if root not in ("gcodes", "config", "logs"):
            raise ApiError(400, f"Failed to build file list, invalid path: {root}: None")
        return self.store.listing() if root == "gcodes" else []

    async def _roots(self, call: Call) -> Any:
        return [{"name": "gcodes", "path": str(self.store.folder), "permissions": "rw"}]

    async def _metadata(self, call: Call) -> Any:
        name = str(call.need("filename"))
        found = self.store.metadata(name)
        if not found:
            raise ApiError(404, f"Metadata not available for <{name}>")
        newest = next((job for job in reversed(self.history.jobs) if job["filename"] == name), None)
        printed = {"print_start_time": newest["start_time"], "job_id": newest["job_id"]} if newest is not None else {}
        return {**found, "print_start_time": None, "job_id": None, **printed, "filename": name}

    async def _directory(self, call: Call) -> Any:
        path = str(call.params.get("path", "gcodes")).removeprefix("gcodes").strip("/")
        folder = self.store.place(path)
        if folder is None or not folder.is_dir():
            raise ApiError(400, f"Directory does not exist ({path})")
        disk = shutil.disk_usage(folder)
        usage = {"total": disk.total, "used": disk.used, "free": disk.free}
        root = {"name": "gcodes", "permissions": "rw"}
        return {**self.store.inside(folder), "disk_usage": usage, "root_info": root}

    def serve(self, request: Request, path: str) -> Response:
        if request.method == "DELETE":
            return Response.of({"result": self._delete(path)})
        if not self.store.is_file(path):
            raise ApiError(404, "Not Found")
        return Response(200, (self.store.folder / path).read_bytes(), "text/plain")

    async def _delete_by_name(self, call: Call) -> Any:
        return self._delete(str(call.need("path")).removeprefix("gcodes/"))

    def _delete(self, path: str) -> Any:
        if not self.store.is_file(path):
            raise ApiError(400, f"Invalid file path: gcodes/{path}", phrase=True)
        if self._is_loaded(path):
            raise ApiError(403, "File currently in use", phrase=True)
        (self.store.folder / path).unlink()
        item = {"modified": 0, "size": 0, "permissions": "", "path": path, "root": "gcodes"}
        change = {"action": "delete_file", "item": item}
        self._announce_file(change)
        return change

    def _announce_file(self, change: dict[str, Any]) -> None:
        # after what Klippy said when it opened that file
        asyncio.get_running_loop().call_soon(self._announce, change)

    def _is_loaded(self, path: str) -> bool:
        return self.ready() and self.history.loaded_file == path

    async def upload(self, request: Request) -> Any:
        try:
            parts = {part.name: part for part in multipart(request)}
        except ValueError:
            raise ApiError(500, "Content-Type is not multipart/form-data", phrase=True) from None
        path = self._destination(parts)
        if self.simulator.orders.take("reject_upload") is not None:
            raise ApiError(500, "Unable to save file", phrase=True)
        self._check_upload(parts, path)
        self.store.save(path, self.simulator.received(parts["file"].data))
        self.simulator.uploads.append(path)
        change = {"action": "create_file", "item": self.store.item(path)}
        if not is_gcode(path):
            self._announce_file(change)
            return change
        started = await self._print(path) if _text(parts, "print") == "true" else False
        self._announce_file(change)
        return {**change, "print_started": started, "print_queued": False}

    def _destination(self, parts: dict[str, Part]) -> str:
        root = _text(parts, "root") or "gcodes"
        if root == "logs":
            raise ApiError(400, f"Invalid root request: {root}", phrase=True)
        if root != "gcodes":
            raise ApiError(400, f"Root {root} not available", phrase=True)
        name = parts["file"].filename if "file" in parts else None
        if not name:
            raise ApiError(400, "Multipart filename omitted", phrase=True)
        folder = _text(parts, "path").strip("/")
        path = f"{folder}/{name.strip().lstrip('/')}" if folder else name.strip().lstrip("/")
        place = self.store.place(path)
        if place is None:
            raise ApiError(400, f"Cannot write to path: {path}", phrase=True)
        if "/" in name.strip().lstrip("/") and not place.parent.is_dir():
            raise ApiError(500, "Unable to save file", phrase=True)
        return path

    def _check_upload(self, parts: dict[str, Part], path: str) -> None:
        if self._is_loaded(path):
            raise ApiError(403, "File is loaded, upload not permitted", phrase=True)
        expected, found = _text(parts, "checksum"), hashlib.sha256(parts["file"].data).hexdigest()
        if expected and expected.lower() != found:
            raise ApiError(422, f"File checksum mismatch: expected {expected}, calculated {found}", phrase=True)


def _text(parts: dict[str, Part], name: str) -> str:
    return parts[name].text if name in parts else ""
