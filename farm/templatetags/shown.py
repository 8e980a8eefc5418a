"""How pages write numbers and draw icons. ``web/words.js`` writes the same numbers in the same words."""

from __future__ import annotations

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

#: what a template has where there is nothing: ``None``, or "" for a field of nothing
Maybe = float | str | None


@register.filter
def duration(seconds: Maybe) -> str:
    """Seconds in words: 45 s, 12 min, 1 h 05 min, 2 d 3 h."""
    if not isinstance(seconds, int | float):
        return ""
    if seconds < 60:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60:02d} min" if not days else f"{days} d {hours % 24} h"


@register.filter
def percent(fraction: Maybe) -> str:
    """0..1 as whole per cent; never 100 before the end."""
    return f"{int(float(fraction or 0) * 100)} %"


@register.filter
def degrees(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


@register.filter
def number(value: Maybe) -> str:
    """At most two decimals, none without need."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, int | float) else ""


@register.filter
def size(values: list[float]) -> str:
    """[x, y, z] in mm."""
    return " × ".join(f"{value:.1f}".removesuffix(".0") for value in values) + " mm"


@register.filter
def metres(millimetres: Maybe) -> str:
    return f"{millimetres / 1000:.2f} m" if isinstance(millimetres, int | float) else ""


@register.filter
def grams(value: Maybe) -> str:
    """As a kitchen scale shows it."""
    return "" if not isinstance(value, int | float) else f"{value:.1f} g" if value < 10 else f"{value:.0f} g"


@register.filter
def engine(text: str) -> str:
    """A slicing engine and its version, as slicing.models.Gcode keeps them: "planar 3" is ours."""
    return text.replace("planar", "the farm's own engine,") if text.startswith("planar") else text


@register.simple_tag
def farm_name() -> str:
    """What this lab calls its farm."""
    return str(settings.FARM_NAME)


@register.simple_tag
def icon(name: str) -> SafeString:
    """One of static/icons.svg. For the eye only: words stand beside it or in the button's label."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("icons.svg"), name)


@register.filter
def heater(name: str) -> str:
    """tool0 -> Nozzle, tool1 -> Nozzle 2, bed -> Bed."""
    if name.startswith("tool"):
        index = int(name[4:] or 0)
        return f"Nozzle {index + 1}" if index else "Nozzle"
    return name.capitalize()


@register.filter
def thousands(value: int) -> str:
    """12345 as 12 345, with a narrow space that does not break."""
    return f"{value:,}".replace(",", "\u202f")


@register.filter
def cubic_cm(cubic_mm: float) -> str:
    return f"{cubic_mm / 1000:.1f} cm³"
