"""The ``local`` storage of the simulated OctoPrint: G-code files and what it remembers of each.

Shapes are those of OctoPrint 1.11's /api/files. What is remembered survives a restart, as in OctoPrint's
``.metadata.json``.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from printers.simulators.control import write_whole
from printers.simulators.machine import estimate

_EXTENSIONS = (".gcode", ".gco", ".g")
#: OctoPrint takes these out of names without saying so, hence "use the path it returned".
_STRIPPED = re.compile(r'[&:*?"<>|\x00-\x1f]')
#: Larger files are not analysed, so that an upload does not stop the simulated world.
_ANALYSIS_LIMIT = 2_000_000

Entry = dict[str, Any]


class BadName(Exception):
    """The name leads out of the storage."""


class BadType(Exception):
    """Not a file that OctoPrint takes."""


class Storage:
    """Paths are relative to the storage, with slashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "uploads"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._record = folder / "metadata.json"
        self.known: dict[str, Entry] = json.loads(self._record.read_text()) if self._record.exists() else {}

    # -- names
    def clean(self, path: str) -> str:
        """The path that a file of this name gets. Raises BadName."""
        parts = [_STRIPPED.sub("", part).removeprefix(".") for part in path.strip("/").split("/")]
        if not parts[-1] or "" in parts or ".." in path.split("/") or "\\" in path:
            raise BadName
        return "/".join(parts)

    def on_disk(self, path: str) -> Path | None:
        """The file or folder, or None if there is none of that name."""
        place = (self.folder / path).resolve()
        return place if place.is_relative_to(self.folder.resolve()) and place.exists() else None

    def is_file(self, path: str) -> bool:
        place = self.on_disk(path)
        return place is not None and place.is_file()

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    # -- changes
    def save(self, path: str, data: bytes, user: str, userdata: Any = None) -> None:
        """Raises BadType. What was known is kept only if the content is the same."""
        if not path.lower().endswith(_EXTENSIONS):
            raise BadType
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        before = self.known.get(path, {})
        kept = before if before.get("hash") == digest else {}
        self.known[path] = {**kept, "user": user, "hash": digest}
        if userdata is not None:
            self.known[path]["userdata"] = userdata
        self._save()

    def make_folder(self, path: str) -> None:
        (self.folder / path).mkdir(parents=True, exist_ok=True)

    def delete(self, path: str) -> None:
        place = self.folder / path
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
        self.known = {name: entry for name, entry in self.known.items() if not (name + "/").startswith(path + "/")}
        self._save()

    def analyse(self, path: str) -> Entry | None:
        """What OctoPrint's own analysis finds out; None when the file went away or is too large."""
        place = self.on_disk(path)
        if place is None or place.stat().st_size > _ANALYSIS_LIMIT or path not in self.known:
            return None
        found = estimate(place.read_bytes())
        lowest = zip(("minX", "minY", "minZ"), found.low, strict=True)
        highest = zip(("maxX", "maxY", "maxZ"), found.high, strict=True)
        box = dict([*lowest, *highest])
        sides = zip(("width", "depth", "height"), found.low, found.high, strict=True)
        size = {name: high - low for name, low, high in sides}
        analysis = {
            "dimensions": size,
            "estimatedPrintTime": found.seconds,
            "filament": {"tool0": {"length": found.filament_mm, "volume": 0.0}},
            "printingArea": box,
            "travelArea": box,
            "travelDimensions": size,
        }
        self.known[path]["gcodeAnalysis"] = analysis
        self._save()
        return analysis

    def record_print(self, path: str, seconds: float, success: bool) -> None:
        """One more print in the file's own record."""
        entry = self.known.get(path)
        if entry is None:
            return
        prints = entry.setdefault("prints", {"failure": 0, "success": 0})
        prints["success" if success else "failure"] += 1
        prints["last"] = {"date": time.time(), "success": success}
        statistics = entry.setdefault("statistics", {"averagePrintTime": {}, "lastPrintTime": {}})
        if success:
            prints["last"]["printTime"] = seconds
            average = statistics["averagePrintTime"].get("_default", 0.0)
            count = prints["success"]
            statistics["averagePrintTime"]["_default"] = average + (seconds - average) / count
            statistics["lastPrintTime"]["_default"] = seconds
        self._save()

    def _save(self) -> None:
        write_whole(self._record, json.dumps(self.known))

    # -- listings
    def entry(self, path: str, origin: str, *, recursive: bool, depth: int = 1) -> Entry:
        place = self.folder / path
        if place.is_dir():
            return self._folder_entry(path, origin, recursive=recursive, depth=depth)
        status = place.stat()
        name = place.name
        return {
            "date": int(status.st_mtime),
            "display": name,
            "name": name,
            "origin": "local",
            "path": path,
            "refs": refs(origin, path),
            "size": status.st_size,
            "type": "machinecode",
            "typePath": ["machinecode", "gcode"],
            **self.known.get(path, {}),
        }

    def _folder_entry(self, path: str, origin: str, *, recursive: bool, depth: int) -> Entry:
        place = self.folder / path
        inside = [file for file in place.rglob("*") if file.is_file()]
        children = self.children(path, origin, recursive=recursive, depth=depth - 1) if depth > 0 or recursive else []
        return {
            "children": children,
            "date": int(place.stat().st_mtime),
            "display": place.name,
            "name": place.name,
            "origin": "local",
            "path": path,
            "prints": {"failure": 0, "success": 0},
            "refs": {"resource": refs(origin, path)["resource"]},
            "size": sum(file.stat().st_size for file in inside),
            "type": "folder",
            "typePath": ["folder"],
        }

    def children(self, path: str, origin: str, *, recursive: bool, depth: int = 0) -> list[Entry]:
        """Entries of a folder; without ``recursive`` the folders in it look empty."""
        names = sorted(child.name for child in (self.folder / path).iterdir())
        return [self.entry(f"{path}/{name}".lstrip("/"), origin, recursive=recursive, depth=depth) for name in names]


def refs(origin: str, path: str) -> dict[str, str]:
    """OctoPrint quotes the two addresses of one file differently."""
    return {
        "download": f"{origin}/downloads/files/local/" + quote(path),
        "resource": f"{origin}/api/files/local/" + quote(path, safe="/+()'!*,:@"),
    }
