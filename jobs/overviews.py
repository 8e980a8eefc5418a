"""The queue and the history, and the part of a printer's page that shows both."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from farm.models import User
from farm.pages import person, whole
from jobs import access, history
from jobs.looks import job_look, print_look
from jobs.models import Print
from jobs.queues import ended_unprinted, queue_of, waiting_for
from jobs.states import JOB_TERMINAL, PRINT_LIVE
from printers import access as printer_access
from printers.looks import looks_for_script
from printers.models import Role

ROWS = 30
#: prints in the history on a printer's page: at first, and at most
RECENT, RECENT_MOST = 8, 200
#: more changes than that: all rows are asked for anew
_MOST_CHANGED = 100


def changed_of(request: HttpRequest) -> set[UUID] | None:
    """The jobs whose rows a page that is open asks for anew (see web/rows.js); None: all."""
    asked = request.GET.get("changed")
    if asked is None:
        return None
    try:
        ids = {UUID(part) for part in asked.split(",") if part}
    except ValueError:
        return None
    return ids if len(ids) <= _MOST_CHANGED else None


# -- the queue
@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    mine, number = request.GET.get("who") == "me", request.GET.get("page", 1)
    rows = queue_of(person(request), number=number, mine=mine, changed=changed_of(request))
    address = "?" + urlencode({"who": "me"} if mine else {})
    context = {"tab": "queue", "mine": mine, "address": address, **rows, "looks": looks_for_script()}
    return render(request, "jobs/queue_rows.html" if "changed" in request.GET else "jobs/queue.html", context)


@require_GET
def printer_jobs(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What waits for one printer and what was printed on it: a part of its page."""
    user = person(request)
    printer = printer_access.get(user, pk, Role.VIEW)
    operates = printer_access.role_on(user, printer) >= Role.OPERATE
    recent = printer.prints.exclude(status__in=PRINT_LIVE).select_related("job__owner", "job__gcode", "job__model")
    waiting, more = waiting_for(user, printer)
    rows = min(RECENT_MOST, max(RECENT, whole(request.GET.get("prints") or "0", "prints")))
    shown = list(recent[: rows + 1]) if operates else []
    context = {
        "printer": printer,
        "waiting": waiting,
        "more": more,
        "recent": [{"print": row, "look": print_look(row.status)} for row in shown[:rows]],
        "older": min(rows + 4 * RECENT, RECENT_MOST) if len(shown) > rows < RECENT_MOST else None,
    }
    return render(request, "jobs/printer_jobs.html", context)


# -- the history
@require_GET
def prints(request: HttpRequest) -> HttpResponse:
    """One row per attempt; staff may see everybody's."""
    user = person(request)
    everybody = user.is_staff and request.GET.get("who") == "all"
    wish = history.wish_of(request.GET)
    of_whom = access.visible_prints(user) if everybody else Print.objects.filter(job__owner=user)
    rows = history.found(of_whom, wish)
    page = Paginator(rows.select_related("job__owner", "job__gcode", "job__model", "gcode"), ROWS).get_page(
        request.GET.get("page")
    )
    context = {
        "tab": "prints",
        "everybody": everybody,
        "wish": wish,
        "chips": _chips(wish, everybody),
        "address": _address(wish, everybody),
        "page": page,
        "totals": history.totals(rows),
        "rows": [_row(attempt, user) for attempt in page],
        "unprinted": [] if everybody or wish.words or wish.outcome or page.number > 1 else _unprinted(user),
    }
    return render(request, "jobs/prints.html", context)


def _row(attempt: Print, user: User) -> dict[str, Any]:
    source = attempt.job.model or attempt.job.gcode
    return {
        "print": attempt,
        "look": print_look(attempt.status),
        "live": attempt.status in PRINT_LIVE,
        "grams": history.grams_of(attempt),
        "again": attempt.job.status in JOB_TERMINAL and source is not None and source.owner_id == user.pk,
    }


def _unprinted(user: User) -> list[dict[str, Any]]:
    return [{"job": row, "look": job_look(row, row.status)} for row in ended_unprinted(user)]


def _chips(wish: history.Wish, everybody: bool) -> list[dict[str, Any]]:
    """One for each outcome; what was searched for stays."""
    return [
        {"word": word, "address": _address(history.Wish(outcome, wish.words), everybody), "on": outcome == wish.outcome}
        for outcome, (word, _) in history.OUTCOMES.items()
    ]


def _address(wish: history.Wish, everybody: bool) -> str:
    """Of this page with these wishes; more may be appended."""
    asked = {"who": "all" if everybody else "", "outcome": wish.outcome, "q": wish.words}
    return "?" + urlencode({name: value for name, value in asked.items() if value})
