"""The wall of printers: its cards, and what is done with many of them at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from farm.pages import person
from printers import access, many
from printers.looks import (
    GROUPS,
    LOOKS,
    job_title,
    kind_of,
    layer_words,
    looks_for_script,
    next_words,
    possible,
    urgency,
    waited,
)
from printers.models import Printer, Role
from printers.views import state_views

#: of cards: value, word, icon
SIZES = (("compact", "Compact", "small"), ("normal", "Normal", "medium"), ("large", "Large", "large"))


def cards(user: Any, printers: Iterable[Printer]) -> list[dict[str, Any]]:
    """What the templates show of each printer, in the wall's order."""
    rows = list(printers)
    states, roles, now = state_views(user, rows), access.roles(user, rows), time.time()
    made = (card(row, states[row.pk], roles.get(row.pk, 0), now) for row in rows)
    return sorted(made, key=lambda card: card["urgency"])


def card(printer: Printer, state: dict[str, Any], role: int, now: float) -> dict[str, Any]:
    """One printer's state in words, and what this person may do there. ``now``: s since 1970."""
    kind, job = kind_of(state), state["job"]
    left = job["left_s"] if job and state["status"] == "printing" else None
    return {
        "pk": printer.pk,
        "target": f"card-{printer.pk}",
        "state": state,
        "kind": kind,
        "look": LOOKS[kind],
        "urgency": urgency(state, kind, now),
        "waited": waited(state, now) if LOOKS[kind].group == "attention" else None,
        "title": job_title(job) if job else "",
        "ends": timezone.now() + timedelta(seconds=left) if left is not None else None,
        "since": now - waited(state, now),
        "next": next_words(state),
        "layer": layer_words(job),
        "can": possible(state),
        "operates": role >= Role.OPERATE,
        "submits": role >= Role.SUBMIT,
    }


@require_GET
def wall(request: HttpRequest) -> HttpResponse:
    """Filter and order are the browser's: all cards are there, so that nothing is asked for a click."""
    shown = cards(person(request), access.visible(person(request)))
    counts = Counter(card["look"].group for card in shown)
    group = request.GET.get("show", "")
    context = {
        "tab": "printers",
        "cards": shown,
        "show": group if group in GROUPS else "",
        "find": request.GET.get("find", "")[:80],
        "groups": [(group, word, counts[group]) for group, word in GROUPS.items()],
        "operates": any(card["operates"] for card in shown),
        "deeds": many.DEEDS,
        "most": settings.FARM_MAX_UPLOAD,
        "sizes": SIZES,
        "now": time.time(),
        "looks": looks_for_script(),
    }
    return render(request, "printers/wall.html", context)


@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """One deed on many printers; answers with what became of each."""
    form = request.POST
    wishes = [many.wish(text) for text in form.getlist("printer")]
    deed = form.get("deed", "")
    outcomes = many.act(person(request), deed, wishes, reason=form.get("reason", ""))
    done = sum(outcome.done for outcome in outcomes)
    context = {"deed": many.DEEDS[deed], "done": done, "refused": [row for row in outcomes if not row.done]}
    return render(request, "printers/outcomes.html", context)
