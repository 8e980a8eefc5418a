"""Submit, and one job. (The queue and the history: jobs/overviews.py.)"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings as django_settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from farm.errors import Forbidden, Invalid, NotFound
from farm.models import User
from farm.pages import by_htmx, person, whole
from jobs import access, estimates, expected, services
from jobs.looks import job_look, print_look
from jobs.matching import fits
from jobs.models import Job, JobEvent, Print
from jobs.queues import place_in_queue
from jobs.stages import stages_of, tells, what_happened
from jobs.states import JOB_TERMINAL, PRINT_LIVE, JobStatus, PrintStatus
from jobs.wishes import described, offered, placed, placement_words, shown, ways_to_stand, wished
from printers import access as printer_access
from printers.looks import LOOKS, kind_of, looks_for_script
from printers.models import Printer, Role
from printers.views import state_views
from slicing import presets
from slicing.api import own_models
from slicing.models import Model3D, PrinterProfile
from slicing.services import MODEL_KINDS, accept_model, standing

#: offered to be printed again
MODELS = 6


# -- submit
@require_http_methods(["GET", "POST"])
def submit(request: HttpRequest) -> HttpResponse:
    """First step: give a model. The second is `options`."""
    user = person(request)
    asked = request.GET.get("printer", "")
    if request.method != "POST":
        context = {
            "tab": "submit",
            "kinds": ",".join(f".{kind}" for kind in MODEL_KINDS),
            "most": django_settings.FARM_MAX_UPLOAD,
            "models": _latest_models(user),
            "asked": asked,
            "may_print": printer_access.visible(user, Role.SUBMIT).exists(),
        }
        return render(request, "jobs/submit.html", context)
    upload = request.FILES.get("file")
    if upload is None:
        raise Invalid("Choose a file first.", field="file")
    model = accept_model(user, upload)
    where = redirect("submit-options", pk=model.pk).url + (f"?printer={asked}" if asked else "")
    return HttpResponseClientRedirect(where) if by_htmx(request) else redirect(where)


def _latest_models(user: Any) -> list[Model3D]:
    """The newest of each, however often it was given."""
    newest: dict[str, Model3D] = {}
    for model in Model3D.objects.filter(owner=user).order_by("-created_at")[:50]:
        newest.setdefault(model.sha256, model)
    return list(newest.values())[:MODELS]


@require_http_methods(["GET", "POST"])
def options(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Second step: where and how."""
    user = person(request)
    model = own_models(user).filter(pk=pk).first()
    if model is None:
        raise NotFound("There is no such model, or you may not see it.")
    if request.method != "POST":
        return render(request, "jobs/options.html", _options(request, model))
    job = services.submit(user, model=model, **_wanted(request))
    where = redirect("job", pk=job.pk).url
    return HttpResponseClientRedirect(where) if by_htmx(request) else redirect(where)


@require_GET
def stands(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ways to put the model down, a part of `options`: to find them takes a second or two."""
    model = own_models(person(request)).filter(pk=pk).first()
    if model is None:
        raise NotFound("There is no such model, or you may not see it.")
    return render(request, "jobs/stands.html", {"stands": ways_to_stand(standing(model, {})["stands"])})


@require_http_methods(["GET", "POST"])
def estimate(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What it would take, a part of `options`: POST asks for it with the form as it is, GET says how far it is."""
    user = person(request)
    model = own_models(user).filter(pk=pk).first()
    if model is None:
        raise NotFound("There is no such model, or you may not see it.")
    try:
        posted = request.method == "POST"
        found = estimates.ask(user, model, **_wanted(request)) if posted else estimates.of(user, model)
        context = {"estimate": found, **_estimated(user, model, found)}
    except (Invalid, Forbidden, NotFound) as error:  # no reason to disturb: it is said again when it is sent
        context = {"estimate": {"status": estimates.FAILED, "message": error.message}}
    return render(request, "jobs/estimate.html", {"model": model, **context})


def _estimated(user: User, model: Model3D, found: estimates.Estimate | None) -> dict[str, Any]:
    if found is None or not found.gcode:
        return {}
    gcode = estimates.gcode_of(found)
    row = estimates.as_job(user, model, found, gcode)
    return {
        "gcode": gcode,
        "takes": expected.of_jobs([row]).get(row.pk),
        "middle": gcode.layers,
        "layers_bed": _bed_words(gcode.profile),
    }


def _options(request: HttpRequest, model: Model3D) -> dict[str, Any]:
    choices = _choices(person(request), model)
    asked = request.GET.get("printer", "")
    possible = {str(choice["printer"].pk): choice["printer"] for choice in choices if not choice["reason"]}
    chosen = possible.get(asked)
    return {
        "tab": "submit",
        "model": model,
        "choices": choices,
        "possible": len(possible),
        "may_print": any(choice["may"] for choice in choices),
        "chosen": chosen.pk if chosen else None,
        **offered(person(request), chosen.profile if chosen else None),
        "printers": {pk: printer.profile.settings for pk, printer in possible.items()},
        "beds": [_bed(choice["printer"]) for choice in choices if choice["may"]],
    }


def _bed_words(profile: PrinterProfile) -> str:
    """The same for views of layers, as web/layers.js reads it."""
    return " ".join(
        f"{value:g}" for value in (profile.width, profile.depth, profile.height, profile.origin_x, profile.origin_y)
    )


def _bed(printer: Printer) -> dict[str, Any]:
    """For the script that shows the model on it: mm, and where its front left corner is."""
    profile = printer.profile
    return {
        "id": str(printer.pk),
        "name": printer.name,
        "width": profile.width,
        "depth": profile.depth,
        "height": profile.height,
        "x": profile.origin_x,
        "y": profile.origin_y,
    }


def _choices(user: Any, model: Model3D) -> list[dict[str, Any]]:
    """Every printer this person sees, with what it does now, or why this part cannot be printed there (as it is: it
    may be chosen all the same, as the part may be scaled or turned)."""
    printers = list(printer_access.visible(user).select_related("profile"))
    states, roles = state_views(user, printers), printer_access.roles(user, printers)
    return [
        {
            "printer": printer,
            "look": LOOKS[kind_of(states[printer.pk])],
            "maintenance": printer.maintenance,
            "may": roles.get(printer.pk, 0) >= Role.SUBMIT,
            "reason": _misfit(printer, roles.get(printer.pk, 0), model),
        }
        for printer in printers
    ]


def _misfit(printer: Printer, role: int, model: Model3D) -> str:
    if role < Role.SUBMIT:
        return "You may look at it, not print on it"
    size = printer.profile.machine.size
    if not fits((model.size_x, model.size_y, model.size_z), size):
        return f"Too small for it as it is: up to {size[0]:g} × {size[1]:g} × {size[2]:g} mm"
    return ""


def _wanted(request: HttpRequest) -> dict[str, Any]:
    """The arguments of services.submit from the form. Raises Invalid, NotFound, Forbidden."""
    form, asked = request.POST, request.POST.get("printer", "")
    return {
        "printer": printer_access.get(person(request), asked, Role.SUBMIT) if asked else None,
        "copies": whole(form.get("copies", "1"), "copies"),
        "hold": form.get("hold") == "yes",
        "material": form.get("material"),
        "quality": form.get("quality"),
        "settings": wished(form.dict()),
        "placement": placed(form.dict()),
    }


# -- one job
@require_GET
def job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """For its owner, staff, and who operates a printer that it is on or asks for."""
    row = (
        access.queue(person(request))
        .select_related("owner", "model", "printer", "gcode__profile", "material", "quality")
        .filter(pk=pk)
        .first()
    )
    if row is None:
        raise NotFound("There is no such job, or you may not see it.")
    return render(request, "jobs/job.html", _job(request, row))


@require_GET
def layers(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The layers of a job that is printed, a part of the page of its printer (``?printer=``), whose live layer it
    follows. For those who may see the job; empty while there are none."""
    row = access.queue(person(request)).select_related("gcode__profile").filter(pk=pk).first()
    if row is None:
        raise NotFound("There is no such job, or you may not see it.")
    if row.gcode is None or not row.gcode.layers:
        return HttpResponse()
    following = printer_access.get(person(request), request.GET.get("printer", ""), Role.VIEW)
    context = {"job": row, "following": following.pk, "middle": 1, "layers_bed": _bed_words(row.gcode.profile)}
    return render(request, "jobs/layers.html", context)


def _job(request: HttpRequest, row: Job) -> dict[str, Any]:
    user = person(request)
    prints = list(row.prints.select_related("printer", "gcode").order_by("created_at"))
    live = [attempt for attempt in prints if attempt.status in PRINT_LIVE]
    printers = [attempt.printer for attempt in live if attempt.printer]
    states = state_views(user, printer_access.visible(user).filter(pk__in=[printer.pk for printer in printers]))
    status, events = services.shown_status(row, prints), list(row.events.select_related("actor", "print"))
    look = job_look(row, status)
    own = row.owner_id == user.pk
    mine = own or user.is_staff
    return {
        "tab": "prints",
        "job": row,
        "look": look,
        "message": _message(row, live),
        "prints": [_shown(attempt, states) for attempt in prints],
        "completed": sum(attempt.status == PrintStatus.COMPLETED for attempt in prints),
        "events": [_event(event) for event in events if tells(event, row.copies)],
        "stages": stages_of(row, prints, status, {event.new for event in events if event.print_id is None}),
        "place": place_in_queue(user, row),
        "placement": placement_words(row.placement),
        "size": row.size_mm,
        "settings": _settings(row),
        "takes": expected.of_jobs([row]).get(row.pk),
        "middle": (row.gcode.layers + 1) // 2 if row.gcode else 0,
        "layers_bed": _bed_words(row.gcode.profile) if row.gcode else "",
        "show_prints": _tells_more(row, prints),
        "own": own,
        "can": {
            "download": mine and row.gcode is not None,
            "cancel": mine and row.status not in JOB_TERMINAL and not row.cancel_requested,
            "start": mine and row.hold and row.status not in JOB_TERMINAL,
            "approve": user.is_staff and row.status == JobStatus.AWAITING_APPROVAL,
            "hold": mine and not row.hold and row.status in (JobStatus.PREPARING, JobStatus.READY),
            "again": _source_is_of(row, user) and row.status in JOB_TERMINAL,
        },
        "looks": looks_for_script(),
    }


def _source_is_of(row: Job, user: User) -> bool:
    source = row.model or row.gcode
    return source is not None and source.owner_id == user.pk


def _tells_more(row: Job, prints: list[Print]) -> bool:
    """Whether a list of the prints says what the job's own state does not."""
    going = all(attempt.status in PRINT_LIVE and attempt.status != PrintStatus.UNKNOWN for attempt in prints)
    return bool(prints) and (row.copies > 1 or len(prints) > 1 or not going)


def _message(row: Job, live: list[Print]) -> str:
    """What there is to say now: of the one live print, else of the job."""
    if row.cancel_requested and row.status not in JOB_TERMINAL:
        return "It is being cancelled."
    if row.copies == 1 and live:
        return live[0].message
    return row.message


def _shown(attempt: Print, states: dict[UUID, dict[str, Any]]) -> dict[str, Any]:
    live = attempt.status in PRINT_LIVE
    state = states.get(attempt.printer_id) if attempt.printer_id and live else None
    return {"print": attempt, "look": print_look(attempt.status), "live": live, "state": state}


def _event(event: JobEvent) -> dict[str, Any]:
    look = print_look(event.new) if event.print else job_look(None, event.new)
    where = event.print.printer_name if event.print else ""
    return {
        "event": event,
        "word": what_happened(event) or look.word,
        "tone": look.tone,
        "where": where,
        "message": "" if event.message == where else event.message,
    }


def _settings(row: Job) -> list[dict[str, Any]]:
    """What was asked for beside material and quality."""
    known = [(described(name), value) for name, value in row.settings.items() if name in presets.SETTINGS]
    return [
        {"label": setting["label"], "shown": f"{shown(value)} {setting['unit']}".rstrip()} for setting, value in known
    ]


@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    services.cancel(access.get(person(request), pk), by=person(request))
    return _back(request, pk)


def _back(request: HttpRequest, pk: UUID) -> HttpResponse:
    """To where the button was."""
    return redirect("queue") if request.POST.get("from") == "queue" else redirect("job", pk=pk)


@require_POST
def again(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The very same once more."""
    made = services.again(access.get(person(request), pk), by=person(request))
    return redirect("job", pk=made.pk)


@require_POST
def start(request: HttpRequest, pk: UUID) -> HttpResponse:
    services.release(access.get(person(request), pk), by=person(request))
    return _back(request, pk)


@require_POST
def hold(request: HttpRequest, pk: UUID) -> HttpResponse:
    services.hold(access.get(person(request), pk), by=person(request))
    return _back(request, pk)


@require_POST
def approve(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = access.get(person(request), pk)
    services.approve(row, by=person(request))
    messages.success(request, f"{row.name} is in the queue.")
    return redirect("queue")


@require_POST
def reject(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = access.get(person(request), pk)
    services.reject(row, by=person(request), why=request.POST.get("why", "").strip()[:300])
    messages.success(request, f"{row.name} will not be printed. {row.owner.shown_name} sees why.")
    return redirect("queue")


@require_POST
def decide(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Staff looked at the machine and say how a print ended."""
    access.require_staff(person(request))
    attempt = access.get_print(person(request), pk)
    services.decide(attempt, request.POST.get("outcome", ""), by=person(request))
    return redirect("job", pk=attempt.job_id)
