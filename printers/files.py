"""Files on a printer itself: asked of it each time, never kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from farm.errors import Conflict, Invalid
from printers import services, telemetry
from printers.drivers.base import RemoteFile
from printers.models import Command, CommandKind, Printer
from printers.signals import occupants


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file, and what the farm knows of it."""

    file: RemoteFile
    #: by the printer's clock
    at: datetime | None
    #: a print of the farm began with it once
    ours: bool
    #: why it may not be deleted now; "" if it may
    needed: str


def checked_location(location: str) -> str:
    """Raises Invalid."""
    if location not in ("local", "sdcard"):
        raise Invalid("location: local or sdcard.", field="location")
    return location


def on_printer(printer: Printer, location: str = "local") -> list[RemoteFile]:
    """Newest first. Raises Unavailable, Conflict, Invalid."""
    files: list[RemoteFile] = services.asking(printer, lambda driver: driver.list_files(location))
    return sorted(files, key=lambda file: (-(file.modified or 0), file.path))


def room_on(printer: Printer) -> int | None:
    """Bytes left for files there; None when it does not say."""
    free: int | None = services.asking(printer, lambda driver: driver.free_space())
    return free


def known(printer: Printer, files: Sequence[RemoteFile]) -> list[Found]:
    """What the farm knows of each."""
    paths, needed = [file.path for file in files], _needed(printer)
    starts = Command.objects.filter(printer=printer, kind=CommandKind.START, args__path__in=paths)
    ours = set(starts.values_list("args__path", flat=True))
    return [
        Found(file=file, at=_moment(file.modified), ours=file.path in ours, needed=needed.get(file.path, ""))
        for file in files
    ]


def _moment(seconds: float | None) -> datetime | None:
    """None, too, for a time that no calendar has: a printer's clock may say anything."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (OverflowError, ValueError, OSError):
        return None


def _needed(printer: Printer) -> dict[str, str]:
    """path -> why it must stay"""
    live, snapshot = occupants([printer.pk]).get(printer.pk), telemetry.read([printer.pk]).get(printer.pk)
    job = snapshot.state.job if snapshot else None
    printed = {job.file: "It is being printed."} if job else {}
    return printed | ({live.remote_path: "A print of the farm needs this file."} if live and live.remote_path else {})


def delete(printer: Printer, path: str, location: str = "local") -> None:
    """Raises Conflict while it is being printed or the farm is about to, Invalid, Unavailable."""
    if not path:
        raise Invalid("path: which file, as the list shows it.", field="path")
    needed = _needed(printer).get(path)
    if needed:
        raise Conflict(needed, code="in_use")
    services.asking(printer, lambda driver: driver.delete_file(path, location))
