"""Screens: the wall at four metres, for whoever has its link, and the page where staff make and revoke links."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from farm.errors import Forbidden, Invalid, NotFound
from farm.pages import by_htmx, person
from printers import screens, telemetry
from printers.looks import GROUPS, looks_for_script
from printers.models import Pool, TvLink
from printers.views import read_facts, state_view
from printers.wall import card

#: of those that need a person, shown by name; the others are counted
LISTED = 8


@require_GET
@never_cache
@login_not_required
def tv(request: HttpRequest, secret: str) -> HttpResponse:
    """The whole page, or by htmx what moves on it. Says nothing of who looks: a screen is not a person."""
    try:
        link = screens.open_link(secret)
    except NotFound as error:
        # 200 for htmx: the page that is open must show it
        answer = render(request, "printers/tv_closed.html", {"message": error.message})
        answer.status_code = 200 if by_htmx(request) else 404
    else:
        context = {"link": link, "secret": secret, "looks": looks_for_script(), **shown(link)}
        answer = render(request, "printers/tv.html", context)
    answer["Referrer-Policy"] = "no-referrer"  # the address is the key
    answer["X-Robots-Tag"] = "noindex"
    return answer


def shown(link: TvLink) -> dict[str, Any]:
    """In the wall's order: who needs a person, by name, and the cards of all others; counts by group; how many of all
    print."""
    rows, roles = list(screens.printers_of(link)), screens.roles_of(link)
    snapshots, facts = telemetry.read([row.pk for row in rows]), read_facts(rows)
    views = {row.pk: state_view(facts[row.pk], snapshots.get(row.pk), None, roles.get(row.pk, 0)) for row in rows}
    now = time.time()
    cards = sorted((card(row, views[row.pk], 0, now) for row in rows), key=lambda card: card["urgency"])
    counts = Counter(card["look"].group for card in cards)
    waiting = [card for card in cards if card["look"].group == "attention"]
    return {
        "cards": [card for card in cards if card not in waiting[:LISTED]],
        "groups": [(group, word, counts[group]) for group, word in GROUPS.items()],
        "utilisation": counts["printing"] / len(cards) if cards else 0.0,
        "waiting": waiting[:LISTED],
        "more": len(waiting) - LISTED,
        "now": now,
    }


# -- for staff
def _require_staff(request: HttpRequest) -> None:
    if not person(request).is_staff:
        raise Forbidden("Only staff make links for screens.")


@require_http_methods(["GET", "POST"])
@never_cache
def links(request: HttpRequest) -> HttpResponse:
    """All links; a new one is shown with its address in the answer that made it, and never again."""
    _require_staff(request)
    made = _make(request) if request.method == "POST" else {}
    context = {
        "links": TvLink.objects.select_related("pool", "created_by"),
        "pools": Pool.objects.all(),
        **made,
    }
    return render(request, "printers/tv_links.html", context)


def _make(request: HttpRequest) -> dict[str, Any]:
    name, chosen = request.POST.get("name", "").strip(), request.POST.get("pool", "")
    if not 0 < len(name) <= 80 or not name.isprintable():
        raise Invalid("Say where the screen hangs, in a few words.", field="name")
    pool = next((pool for pool in Pool.objects.all() if str(pool.pk) == chosen), None)
    if chosen and pool is None:
        raise NotFound("There is no such pool.")
    names = request.POST.get("show_names") == "yes"
    link, secret = screens.make_link(person(request), name, pool, show_names=names)
    return {"made": link, "address": request.build_absolute_uri(reverse("tv", args=[secret]))}


@require_POST
def revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    _require_staff(request)
    link = TvLink.objects.filter(pk=pk).first()
    if link is None:
        raise NotFound("There is no such link.")
    screens.revoke_link(link, by=person(request))
    return redirect("tv-links")
