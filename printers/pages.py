"""One printer: its page and what is asked of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from farm.errors import Invalid
from farm.pages import by_htmx, number, person, target, whole
from printers import access, parts, services
from printers.api import commandable
from printers.commands import request_command
from printers.drivers import DRIVERS
from printers.looks import (
    OUTCOMES,
    command_title,
    looks_for_script,
    outcome_word,
)
from printers.models import COMMAND_OPEN, Command, CommandKind, Printer, Role
from printers.wall import cards

#: outcomes shown on a printer's page: at first, and at most
LATEST, MOST = 6, 200
#: mm
JOG_STEPS = (0.1, 1, 10, 50)
#: mm/s
JOG_SPEEDS = ((10, "slow"), (50, "normal"), (120, "fast"))


@require_GET
def printer(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = access.get(person(request), pk, Role.VIEW)
    return render(request, "printers/printer.html", _page(request, row))


def _page(request: HttpRequest, row: Printer) -> dict[str, Any]:
    role = access.role_on(person(request), row)
    card = cards(person(request), [row])[0]
    return {
        "tab": "printers",
        "printer": row,
        "card": card,
        "may_submit": role >= Role.SUBMIT,
        "profile": row.profile,
        "capabilities": {capability.value for capability in DRIVERS[row.kind].capabilities},
        "heaters": parts.heaters(row, card["state"]),
        "looks": looks_for_script(),
        **(_hands(row, card["state"]) if role >= Role.OPERATE else {}),
        **_commands(request, row),
    }


def _hands(row: Printer, state: dict[str, Any]) -> dict[str, Any]:
    """What who operates a machine can do to it."""
    doing = parts.doing(state)
    return {
        "warmths": parts.warmths(row),
        "steps": JOG_STEPS,
        "speeds": JOG_SPEEDS,
        "still": parts.STILL.get(doing, ""),
        "mute": parts.MUTE.get(doing, ""),
        "reachable": doing not in ("", "offline", "connecting", "error"),
        "reasons": {"still": parts.STILL, "mute": parts.MUTE},
        "console": parts.said(row),
    }


@require_POST
def clear_bed(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = access.get(person(request), pk, Role.OPERATE)
    services.clear_bed(row, whole(request.POST.get("bed", ""), "bed"), by=person(request))
    if not by_htmx(request):
        return redirect("printer", pk=row.pk)
    row.refresh_from_db()
    on_wall = target(request).startswith("card-")
    return render(request, f"printers/{'card' if on_wall else 'state'}.html", _page(request, row))


@require_POST
def maintenance(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = access.get(person(request), pk, Role.OPERATE)
    on = request.POST.get("on") == "yes"
    reason = request.POST.get("reason", "").strip()
    if on and not 0 < len(reason) <= 200:
        raise Invalid("Say in a few words why nothing may be printed on it.", field="reason")
    services.change_printer(row, maintenance=reason if on else "")
    said = "is in maintenance: nothing new starts on it" if on else "is back: prints may start on it again"
    messages.success(request, f"{row.name} {said}.")
    return redirect("printer", pk=row.pk)


# -- commands
@require_http_methods(["GET", "POST"])
def commands(request: HttpRequest, pk: UUID) -> HttpResponse:
    """GET: what became of the latest. POST: one more."""
    if request.method != "POST":
        row = access.get(person(request), pk, Role.VIEW)
        return render(request, "printers/commands.html", _commands(request, row))
    row = commandable(person(request), pk, request.POST)
    kind = request.POST.get("command", "")
    print_id = UUID(request.POST["print"]) if _is_uuid(request.POST.get("print", "")) else None
    request_command(row, kind, _arguments(kind, request.POST), by=person(request), print_id=print_id)
    if not by_htmx(request):
        return redirect("printer", pk=row.pk)
    return render(request, "printers/commands.html", _commands(request, row))


def _commands(request: HttpRequest, row: Printer) -> dict[str, Any]:
    """The latest commands: everybody's for who operates it, else the own ones."""
    found, rows = row.commands.select_related("by"), _rows(request)
    if access.role_on(person(request), row) < Role.OPERATE:
        found = found.filter(by=person(request))
    latest = list(found[: rows + 1])
    return {
        "printer": row,
        "outcomes": [_outcome(command) for command in latest[:rows]],
        "waiting": any(command.status in COMMAND_OPEN for command in latest[:rows]),
        "rows": rows if rows > LATEST else None,
        "more": min(rows + 4 * LATEST, MOST) if len(latest) > rows < MOST else None,
    }


def _rows(request: HttpRequest) -> int:
    """How many commands somebody wants to see."""
    asked = request.GET.get("rows", "")
    return max(LATEST, min(int(asked), MOST)) if asked.isascii() and asked.isdigit() and len(asked) < 4 else LATEST


def _outcome(command: Command) -> dict[str, Any]:
    _, tone, icon = OUTCOMES[command.status]
    shown = {"title": command_title(command), "word": outcome_word(command), "tone": tone, "icon": icon}
    return {**shown, "command": command}


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _arguments(kind: str, form: Any) -> dict[str, Any]:
    """A command's arguments from a form's fields; printers.commands.check_args judges them."""
    if kind == CommandKind.HOME:
        return {"axes": form.getlist("axes")}
    if kind == CommandKind.JOG:
        axis, direction = (form.get("move", "") + "??")[:2]
        distance = number(form.get("distance", ""), "distance") * (-1 if direction == "-" else 1)
        return {axis: distance, "speed": number(form.get("speed", "50"), "speed")}
    if kind == CommandKind.SET_TEMPERATURE:
        return {"heater": form.get("heater", ""), "target": number(form.get("target", ""), "target")}
    if kind == CommandKind.GCODE:
        return {"lines": [line.strip() for line in form.get("lines", "").splitlines() if line.strip()]}
    return {}
