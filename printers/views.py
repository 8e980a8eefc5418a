"""What may be known of printers' states: one rule for the API, the pages and the live socket.

A state has a *base*, the same for everyone who may see the printer, and an *overlay*: whose print it is and what, for
its owner and those who operate the printer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from farm.models import User
from printers import access, telemetry
from printers.drivers.base import LiveJob, PrinterStatus
from printers.models import Printer, Role
from printers.services import clear_beds
from printers.signals import Occupant, Upcoming, occupants, upcoming
from slicing.layering import layer_at, layers_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the database says of a printer: its row, whether its bed is clear, the farm's own print on it, who waits
    for it."""

    printer: Printer
    clear: bool
    occupant: Occupant | None
    upcoming: Upcoming | None = None


def read_facts(printers: Iterable[Printer]) -> dict[UUID, Facts]:
    """A few queries for any number of printers."""
    rows = list(printers)
    ids = [printer.pk for printer in rows]
    clears, live, waiting = clear_beds(ids), occupants(ids), upcoming(ids)
    # read last: with the end of a print its bed becomes another one, and the number must not be older than the end
    beds = {bed[0]: bed for bed in Printer.objects.filter(pk__in=ids).values_list("pk", "bed", "bed_since")}
    for printer in rows:
        if printer.pk in beds:
            _, printer.bed, printer.bed_since = beds[printer.pk]
    return {
        row.pk: Facts(printer=row, clear=row.pk in clears, occupant=live.get(row.pk), upcoming=waiting.get(row.pk))
        for row in rows
    }


def state_views(user: User, printers: Iterable[Printer]) -> dict[UUID, dict[str, Any]]:
    """The state of each, as this person may see it."""
    rows = list(printers)
    snapshots, roles = telemetry.read([row.pk for row in rows]), access.roles(user, rows)
    return {
        pk: state_view(facts, snapshots.get(pk), user.pk, roles.get(pk, 0)) for pk, facts in read_facts(rows).items()
    }


def state_view(facts: Facts, snapshot: telemetry.Snapshot | None, user_id: UUID | None, role: int) -> dict[str, Any]:
    """Base and overlay of one printer in one."""
    base = base_view(facts, snapshot)
    base["age"] = round(snapshot.age, 1) if snapshot is not None and facts.printer.enabled else None
    own = overlay(facts, snapshot, user_id, role)
    if base["job"] is not None:
        base["job"] = {**base["job"], **own.get("job", {})}
    return {**base, "next": own.get("next")}


def base_view(facts: Facts, snapshot: telemetry.Snapshot | None) -> dict[str, Any]:
    """What everyone is told who may see the printer. Pure."""
    printer = facts.printer
    heard = snapshot if printer.enabled else None
    return {
        "name": printer.name,
        "place": printer.place,
        "enabled": printer.enabled,
        "maintenance": printer.maintenance,
        "bed": printer.bed,
        "bed_clear": facts.clear,
        "status": heard.state.status.value if heard else PrinterStatus.OFFLINE.value,
        "stale": heard.stale if heard else True,
        "message": heard.state.message if heard else _why_unheard(printer),
        "temperatures": {
            name: {"actual": heat.actual, "target": heat.target}
            for name, heat in (heard.state.temperatures if heard else {}).items()
        },
        "since": _since(facts, heard),
        "waiting": facts.upcoming.count if facts.upcoming else 0,
        "job": _job(heard.state.job if heard else None, facts.occupant),
    }


def _since(facts: Facts, heard: telemetry.Snapshot | None) -> int:
    """When it came to be as it is, s since 1970 by the database's clock: on an idle machine when what lies on its bed
    was done, else when it first said what it says. (Of one that says nothing its age tells.)"""
    idle = heard is not None and heard.state.status == PrinterStatus.IDLE and facts.occupant is None
    printer = facts.printer
    return round((printer.bed_since if idle and not facts.clear else printer.said_since).timestamp())


def overlay(facts: Facts, snapshot: telemetry.Snapshot | None, user_id: UUID | None, role: int) -> dict[str, Any]:
    """What only some are told, its owner and those who operate the printer: of the live print, and of the next that
    waits for this printer, whose and what it is. Pure."""
    told = {"job": _named(facts, snapshot, user_id, role), "next": None}
    after = facts.upcoming
    if after is not None and (role >= Role.OPERATE or after.owner_id == user_id):
        told["next"] = {"id": str(after.job_id), "file": after.file, "person": after.person}
    return {key: value for key, value in told.items() if value}


def _named(facts: Facts, snapshot: telemetry.Snapshot | None, user_id: UUID | None, role: int) -> dict[str, Any] | None:
    live = snapshot.state.job if snapshot is not None and facts.printer.enabled else None
    occupant = facts.occupant
    if occupant is not None and _is_ours(live, occupant):
        if role < Role.OPERATE and occupant.owner_id != user_id:
            return None
        named = {"id": str(occupant.job_id), "print": str(occupant.print_id)}
        return {**named, "file": occupant.file, "person": occupant.person}
    if live is not None and role >= Role.OPERATE:
        return {"id": None, "print": None, "file": live.file, "person": None}
    return None


def _job(live: LiveJob | None, occupant: Occupant | None) -> dict[str, Any] | None:
    """The live print: how far."""
    if live is None and occupant is None:
        return None
    done = live.progress if live else (occupant.progress if occupant else 0.0)
    ours = occupant if occupant is not None and _is_ours(live, occupant) else None
    return {
        "progress": done,
        "elapsed_s": live.elapsed_s if live else None,
        **_left(live, ours),
        "status": ours.status if ours else "external",
        "material": ours.material if ours else "",
        **_layer(live, ours),
    }


def _left(live: LiveJob | None, ours: Occupant | None) -> dict[str, Any]:
    """How long it still takes: as the machine says, and until it does, about what the farm expects of it."""
    said = live.left_s if live else None
    if said is not None or ours is None or ours.expected_s is None:
        return {"left_s": said}
    gone = live.elapsed_s if live and live.elapsed_s else 0.0
    return {"left_s": round(max(0.0, ours.expected_s - gone)), "about": True}


def _layer(live: LiveJob | None, ours: Occupant | None) -> dict[str, int | None]:
    """Which layer of how many; 0 before the first. Unknown for files of others and those from before it was noted."""
    begins = ours.layer_begins if ours else b""
    if live is None or not begins:
        return {"layer": None, "layers": None}
    read = live.progress if live.read is None else live.read
    return {"layer": layer_at(begins, read), "layers": layers_in(begins)}


def _is_ours(live: LiveJob | None, occupant: Occupant) -> bool:
    return live is None or live.file == occupant.remote_path


def _why_unheard(printer: Printer) -> str:
    return "Nothing has been heard from it yet." if printer.enabled else "Switched off in the farm."
