"""What the submit page offers beside printers, and what a person wished there. Every setting of a slice is described
by its own metadata (see slicing.engines.base); here are only the words that this page adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.errors import Invalid
from farm.models import User
from farm.pages import number, whole
from slicing import presets, profiles
from slicing.models import Material, Preset, PrinterProfile, Quality

#: per cent, what it means
INFILLS = ((10, "Light"), (20, "Sturdy"), (40, "Strong"), (100, "Solid"))
SUPPORTS = (
    ("none", "None"),
    ("bed", "Only where they can stand on the bed"),
    ("everywhere", "Everywhere"),
)
#: a side is suggested that is at least this part of the largest
WORTH_A_TRY = 0.1
#: heading -> settings, in the order of the form; `nozzle_diameter` and `filament_diameter` are the printer's
GROUPS: dict[str, tuple[str, ...]] = {
    "Layers and walls": (
        "layer_height", "first_layer_height", "walls", "top_layers", "bottom_layers", "line_width", "outer_wall_first",
        "seam", "spiral_vase", "elephant_foot",
    ),
    "Infill": ("infill_density", "infill_pattern", "infill_overlap", "solid_below_area"),
    "Supports": (
        "supports", "support_angle", "support_density", "support_gap", "support_distance", "support_roof_layers",
    ),
    "Holding on to the bed": ("skirt_loops", "skirt_distance", "brim_width"),
    "Heat and filament": (
        "nozzle_temperature", "bed_temperature", "first_layer_nozzle_temperature", "first_layer_bed_temperature",
        "extrusion_multiplier", "max_flow", "filament_density",
    ),
    "Cooling": ("fan_speed", "bridge_fan_speed", "min_layer_time", "min_print_speed"),
    "Speed": (
        "print_speed", "outer_wall_speed", "first_layer_speed", "travel_speed", "overhang_speed", "bridge_speed",
        "bridge_flow",
    ),
    "Moves without printing": (
        "retract_length", "retract_speed", "retract_min_travel", "combing", "wipe", "z_hop",
    ),
}  # fmt: skip
_DESCRIBED: dict[str, dict[str, Any]] = {setting["name"]: setting for setting in presets.described()}


def offered(user: User, asked: PrinterProfile | None) -> dict[str, Any]:
    """For the template: ``materials`` and ``qualities`` (rows with ``chosen``), ``groups`` of settings as they are when
    nothing else is chosen, and what a script needs to show them when something is (``usual``)."""
    materials, qualities = presets_of(user, Material), presets_of(user, Quality)
    values = _shown(asked, *(next((row.settings for row in rows if row.chosen), {}) for rows in (qualities, materials)))
    return {
        "materials": materials,
        "qualities": qualities,
        "infills": INFILLS,
        "supports": SUPPORTS,
        "groups": [(title, [{**described(name), "usual": values[name]} for name in GROUPS[title]]) for title in GROUPS],
        "usual": {
            "engine": {name: setting["default"] for name, setting in _DESCRIBED.items()},
            "rows": {str(row.pk): row.settings for row in (*materials, *qualities)},
        },
    }


def presets_of(user: User, model: type[Preset]) -> list[Any]:
    """What this person may choose from, with ``chosen`` on what is chosen at first."""
    rows = list(profiles.visible(user, model))
    first: Any = next((row for row in rows if row.is_default), None)
    for row in rows:
        row.chosen = row is first  # type: ignore[attr-defined]
    return rows


def _shown(asked: PrinterProfile | None, quality: Mapping[str, Any], material: Mapping[str, Any]) -> dict[str, Any]:
    """As presets.resolve lays them over each other, but for the limits of printers."""
    usual = asked.settings if asked else {}
    return {name: setting["default"] for name, setting in _DESCRIBED.items()} | usual | dict(quality) | dict(material)


def described(name: str) -> dict[str, Any]:
    """Of one setting: name, label, unit, low, high, whole, meaning, options (value, word)."""
    setting = _DESCRIBED[name]
    return {
        **setting,
        "label": name.replace("_", " ").capitalize(),
        "unit": {"C": "°C", "mm2": "mm²", "mm3/s": "mm³/s", "g/cm3": "g/cm³"}.get(setting["unit"], setting["unit"]),
        "options": [(str(option), word(option)) for option in setting["options"]],
    }


def shown(value: Any) -> str:
    """Of a setting, as people write it."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else word(value)


def word(option: Any) -> str:
    return {True: "Yes", False: "No"}[option] if isinstance(option, bool) else str(option).capitalize()


def wished(form: Mapping[str, str]) -> dict[str, Any]:
    """The settings that were filled in: `infill` and `support` of the short form, then those of the long one, which
    win. Raises Invalid; the ranges are checked by whoever slices."""
    found: dict[str, Any] = {}
    if form.get("infill"):
        found["infill_density"] = number(form["infill"], "infill")
    if form.get("support"):
        found["supports"] = _read("supports", form["support"])
    for names in GROUPS.values():
        for name in names:
            if text := form.get(name, "").strip():
                found[name] = _read(name, text)
    return found


def placed(form: Mapping[str, str]) -> dict[str, Any]:
    """How the model is to stand, from `size` (per cent) and `stand` (degrees about x, y, z); empty: as in its file.

    Raises Invalid.
    """
    found: dict[str, Any] = {}
    if form.get("size", "").strip() not in ("", "100"):
        found["scale"] = [number(form["size"], "size") / 100] * 3
    if form.get("stand"):
        found["rotation"] = [number(angle, "stand") for angle in form["stand"].split(",")]
    return found


def ways_to_stand(found: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Of services.standing, for the form: value, title, and what speaks for it. Only sides that something stands on,
    other than the one it has in its file."""
    least = max((way["contact_mm2"] for way in found), default=0.0) * WORTH_A_TRY
    return [
        {
            "value": ",".join(f"{angle:g}" for angle in way["rotation"]),
            "title": _turned(way["rotation"]),
            "facts": f"{way['contact_mm2'] / 100:.1f} cm² on the bed, {way['height_mm']:.0f} mm high, "
            + (f"{way['overhang_mm2'] / 100:.1f} cm² over air" if way["overhang_mm2"] >= 1 else "nothing over air"),
        }
        for way in found
        if any(way["rotation"]) and way["contact_mm2"] >= least
    ]


def placement_words(placement: Mapping[str, Any]) -> str:
    """150 %, turned by 90° about x; empty when it stands as in its file."""
    scale, rotation = placement.get("scale", [1, 1, 1]), placement.get("rotation", [0, 0, 0])
    percents = " × ".join(dict.fromkeys(f"{factor * 100:g} %" for factor in scale))
    return ", ".join(filter(None, [percents if percents != "100 %" else "", _turned(rotation).lower()]))


def _turned(rotation: list[float]) -> str:
    turns = [
        f"{angle:.0f}° about {axis}".replace("-", "−")
        for angle, axis in zip(rotation, "xyz", strict=True)
        if round(angle)
    ]
    return f"Turned by {', '.join(turns)}" if turns else ""


def _read(name: str, text: str) -> Any:
    setting, label = _DESCRIBED[name], described(name)["label"]
    if not setting["options"]:
        return (whole if setting["whole"] else number)(text, label)
    for option in setting["options"]:
        if str(option) == text:
            return option
    raise Invalid(f"{label} must be one of {', '.join(map(word, setting['options']))}.", field=name)
