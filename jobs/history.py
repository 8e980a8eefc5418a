"""What was printed: filtered, searched, added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, NullIf

from jobs.models import Print
from jobs.states import PRINT_LIVE, PrintStatus

#: how it went -> (what people choose, statuses)
OUTCOMES: dict[str, tuple[str, tuple[PrintStatus, ...]]] = {
    "": ("All", ()),
    "completed": ("Completed", (PrintStatus.COMPLETED,)),
    "failed": ("Failed", (PrintStatus.FAILED,)),
    "cancelled": ("Cancelled", (PrintStatus.CANCELLED,)),
    "live": ("Under way", PRINT_LIVE),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody looks for in a history; ``outcome`` is one of OUTCOMES."""

    outcome: str = ""
    words: str = ""


def wish_of(query: Any) -> Wish:
    """From a page's address; what makes no sense is no wish."""
    outcome = query.get("outcome", "")
    return Wish(outcome if outcome in OUTCOMES else "", query.get("q", "").replace("\x00", "").strip()[:100])


def found(prints: QuerySet[Print], wish: Wish) -> QuerySet[Print]:
    """Every word must be in the file's name or the printer's."""
    for word in wish.words.split():
        prints = prints.filter(Q(job__name__icontains=word) | Q(printer_name__icontains=word))
    statuses = OUTCOMES[wish.outcome][1]
    return prints.filter(status__in=statuses) if statuses else prints


def totals(prints: QuerySet[Print]) -> dict[str, Any]:
    """``count``, ``completed``, ``seconds``, ``mm`` and ``grams`` (where the material's density is known) of what these
    took; ``estimated``: some of it is worked out, not measured."""
    grams = F("filament_mm") * F("gcode__filament_g") / NullIf("gcode__filament_mm", Value(0.0))
    return prints.order_by().aggregate(
        count=Count("pk"),
        completed=Count("pk", filter=Q(status=PrintStatus.COMPLETED)),
        seconds=Coalesce(Sum("duration_s"), 0.0),
        mm=Coalesce(Sum("filament_mm"), 0.0),
        grams=Sum(grams),
        estimated=Count("pk", filter=Q(filament_estimated=True)),
    )


def grams_of(attempt: Print) -> float | None:
    """What the filament of a print weighs, by the density that its G-code reckons with."""
    gcode = attempt.gcode
    if attempt.filament_mm is None or gcode is None or not gcode.filament_g or not gcode.filament_mm:
        return None
    return attempt.filament_mm * gcode.filament_g / gcode.filament_mm
