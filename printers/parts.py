"""Parts of one printer's page that are asked for on their own: heat, console, files."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from farm.errors import FarmError, Invalid
from farm.pages import by_htmx, person
from farm.templatetags.shown import heater
from printers import access, answers, files
from printers.commands import request_command
from printers.console import heater_limit
from printers.looks import OUTCOMES, outcome_word
from printers.models import COMMAND_OPEN, CommandKind, Printer, Role
from printers.views import state_views
from slicing.engines.base import SliceSettings
from slicing.models import Material

#: commands from the console shown on a printer's page
CONSOLE_LINES = 30
#: files on one page
FILES = 20
#: why a machine cannot be moved now, by what it does; "" for one that was not heard from. For the script, too.
STILL = {
    "": "It has not been heard from.",
    "offline": "It is offline.",
    "connecting": "It is not connected yet.",
    "printing": "It is printing: that would ruin the print.",
    "busy": "It is busy.",
    "error": "It has stopped. Restart the firmware when you have looked at it.",
}
#: and why nothing may be typed at its console
MUTE = {**STILL, "paused": "A print is paused on it: that would ruin the print."}


def doing(state: dict[str, Any]) -> str:
    """Pure: the key of STILL and MUTE."""
    return "" if state["stale"] else str(state["status"])


# -- heat
def heaters(row: Printer, state: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, label, temperatures and limit (degrees C) of each that the machine reports; of one that was never heard,
    those that every printer has."""
    found = state["temperatures"] or dict.fromkeys(("tool0", "bed"), {"actual": None, "target": 0})
    machine = row.profile.machine
    return [
        {"name": name, "label": heater(name), "limit": heater_limit(name, machine), **heat}
        for name, heat in found.items()
    ]


def warmths(row: Printer) -> list[dict[str, Any]]:
    """What the lab's materials want of the nozzle and the bed, degrees C, if this machine can do it."""
    machine = row.profile.machine
    found = [(material, *_warmth(material)) for material in Material.objects.all()]
    return [
        {"pk": material.pk, "name": material.name, "nozzle": nozzle, "bed": bed}
        for material, nozzle, bed in found
        if nozzle <= machine.max_nozzle_temperature and bed <= machine.max_bed_temperature
    ]


def _warmth(material: Material) -> tuple[float, float]:
    usual = SliceSettings()
    values = {"nozzle_temperature": usual.nozzle_temperature, "bed_temperature": usual.bed_temperature}
    values |= material.values
    return values["nozzle_temperature"], values["bed_temperature"]


@require_POST
def heat(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Nozzle and bed as a material wants them, or every heater off."""
    row, asked = access.get(person(request), pk, Role.OPERATE), request.POST.get("material", "")
    targets = _off(request, row) if asked == "off" else _as_wanted_by(asked)
    with transaction.atomic():  # all or none
        for name, target in targets.items():
            args = {"heater": name, "target": target}
            request_command(row, CommandKind.SET_TEMPERATURE, args, by=person(request))
    return redirect("printer-commands" if by_htmx(request) else "printer", pk=row.pk)


def _off(request: HttpRequest, row: Printer) -> dict[str, float]:
    state = state_views(person(request), [row])[row.pk]
    return {each["name"]: 0.0 for each in heaters(row, state)}


def _as_wanted_by(asked: str) -> dict[str, float]:
    try:
        material = Material.objects.get(pk=asked)
    except (Material.DoesNotExist, ValidationError):
        raise Invalid("There is no such material. Look again.", field="material") from None
    nozzle, bed = _warmth(material)
    return {"bed": bed, "tool0": nozzle}


# -- the console
@require_http_methods(["GET", "POST"])
def console(request: HttpRequest, pk: UUID) -> HttpResponse:
    """GET: what was typed and answered of late. POST: more."""
    row = access.get(person(request), pk, Role.OPERATE)
    if request.method == "POST":
        lines = [line.strip() for line in request.POST.get("lines", "").splitlines() if line.strip()]
        request_command(row, CommandKind.GCODE, {"lines": lines}, by=person(request))
        if not by_htmx(request):
            return redirect("printer", pk=row.pk)
    return render(request, "printers/console_log.html", {"printer": row, "console": said(row)})


def said(row: Printer) -> dict[str, Any]:
    """What was typed at a machine's console, oldest first, with what became of it and what the machine answered."""
    typed = row.commands.filter(kind=CommandKind.GCODE).select_related("by")[:CONSOLE_LINES]
    latest = list(reversed(typed))
    heard = answers.read([command.pk for command in latest])
    return {
        "entries": [
            {
                "command": command,
                "answer": heard[command.pk],
                "tone": OUTCOMES[command.status][1],
                "word": outcome_word(command),
                "open": command.status in COMMAND_OPEN,
            }
            for command in latest
        ],
        "waiting": any(command.status in COMMAND_OPEN for command in latest),
    }


# -- files
@require_GET
def files_on(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What lies on the printer: asked of it now, which takes a moment."""
    row = access.get(person(request), pk, Role.OPERATE)
    return render(request, "printers/files.html", _files(row, request.GET.get("page", "")))


def _files(row: Printer, number: str) -> dict[str, Any]:
    """That a printer does not answer is said in the list's place."""
    try:
        page, room = Paginator(files.on_printer(row), FILES).get_page(number), files.room_on(row)
    except FarmError as error:
        return {"printer": row, "fault": error.message}
    return {"printer": row, "page": page, "room": room, "found": files.known(row, list(page.object_list))}


@require_POST
def delete_file(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = access.get(person(request), pk, Role.OPERATE)
    files.delete(row, request.POST.get("path", ""))
    if not by_htmx(request):
        return redirect("printer", pk=row.pk)
    return render(request, "printers/files.html", _files(row, request.POST.get("page", "")))
