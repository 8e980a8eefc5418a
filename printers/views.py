"""What one person may know of printers' states: one rule for the API, the pages and the live socket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from farm.models import User
from printers import access, telemetry
from printers.drivers.base import PrinterStatus
from printers.models import Printer, Role
from printers.services import clear_beds
from printers.signals import Occupant, occupants


def state_views(user: User, printers: Iterable[Printer]) -> dict[UUID, dict[str, Any]]:
    """The state of each, as this person may see it; a few queries for any number of printers."""
    rows = list(printers)
    ids = [printer.pk for printer in rows]
    snapshots, clears, live, roles = telemetry.read(ids), clear_beds(ids), occupants(ids), access.roles(user, rows)
    # read last: with the end of a print its bed becomes another one, and the number must not be older than the end
    beds = dict(Printer.objects.filter(pk__in=ids).values_list("pk", "bed"))
    for printer in rows:
        printer.bed = beds.get(printer.pk, printer.bed)
    return {
        printer.pk: {
            **settings_view(printer, printer.pk in clears),
            **telemetry_view(printer, snapshots.get(printer.pk), live.get(printer.pk), user, roles.get(printer.pk, 0)),
        }
        for printer in rows
    }


def settings_view(printer: Printer, clear: bool) -> dict[str, Any]:
    """What the database says."""
    return {
        "name": printer.name,
        "place": printer.place,
        "enabled": printer.enabled,
        "maintenance": printer.maintenance,
        "bed": printer.bed,
        "bed_clear": clear,
    }


def telemetry_view(
    printer: Printer, snapshot: telemetry.Snapshot | None, occupant: Occupant | None, user: User, role: int
) -> dict[str, Any]:
    """What the printer says, and what the farm has on it."""
    if snapshot is None or not printer.enabled:
        message = "Switched off in the farm." if not printer.enabled else "Nothing has been heard from it yet."
        return {
            "status": PrinterStatus.OFFLINE.value,
            "stale": True,
            "age": None,
            "message": message,
            "temperatures": {},
            "job": _job(None, occupant, user, role),
        }
    state = telemetry.to_json(snapshot.state)
    return {
        "status": state["status"],
        "stale": snapshot.stale,
        "age": round(snapshot.age, 1),
        "message": state["message"],
        "temperatures": state["temperatures"],
        "job": _job(state["job"], occupant, user, role),
    }


def _job(live: dict[str, Any] | None, occupant: Occupant | None, user: User, role: int) -> dict[str, Any] | None:
    """The live print: how far for everyone, whose and what only for its owner and those who operate the printer."""
    if live is None and occupant is None:
        return None
    ours = occupant is not None and (live is None or live["file"] == occupant.remote_path)
    told = role >= Role.OPERATE or (ours and occupant is not None and occupant.owner_id == user.pk)
    job: dict[str, Any] = {
        "progress": live["progress"] if live else (occupant.progress if occupant else 0.0),
        "elapsed_s": live["elapsed_s"] if live else None,
        "left_s": live["left_s"] if live else None,
        "status": occupant.status if occupant is not None and ours else "external",
    }
    if told and ours and occupant is not None:
        job |= {
            "id": str(occupant.job_id),
            "print": str(occupant.print_id),
            "file": occupant.file,
            "person": occupant.person,
        }
    elif told and live is not None:
        job |= {"id": None, "print": None, "file": live["file"], "person": None}
    return job
