"""From profiles to the settings of one slice. Pure: no Django, no database.

Settings come in layers, each over the one before::

    the engine's defaults <- what is usual on the printer <- quality <- material <- the printer's limits <- the person

A layer is a plain mapping of names of SliceSettings. What a person asks for is refused when the printer cannot do it;
what a quality or a material would like to be faster is slowed down to what the printer can. Who asks for a temperature
without naming the first layer's means all layers: what the material says of the first one goes with its own heat.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, fields
from typing import Any

from slicing.engines.base import Machine, SliceSettings, SlicingError, check

Values = Mapping[str, Any]

SETTINGS = {field.name: field for field in fields(SliceSettings)}
DEFAULTS = {name: field.default for name, field in SETTINGS.items()}
#: what a spool of filament decides
MATERIAL_FIELDS = (
    "nozzle_temperature",
    "bed_temperature",
    "first_layer_nozzle_temperature",
    "first_layer_bed_temperature",
    "filament_diameter",
    "filament_density",
    "extrusion_multiplier",
    "max_flow",
    "fan_speed",
    "bridge_fan_speed",
    "min_layer_time",
    "min_print_speed",
    "retract_length",
    "retract_speed",
)
#: what is usual on a kind of machine: how its extruder pulls back, how fast it is driven
PRINTER_FIELDS = (
    "retract_length",
    "retract_speed",
    "retract_min_travel",
    "wipe",
    "z_hop",
    "print_speed",
    "outer_wall_speed",
    "first_layer_speed",
    "travel_speed",
    "overhang_speed",
    "bridge_speed",
    "elephant_foot",
)
#: everything that is not the filament's; naming a nozzle limits a quality to machines that have it
QUALITY_FIELDS = tuple(name for name in SETTINGS if name not in MATERIAL_FIELDS)
SPEEDS = ("print_speed", "outer_wall_speed", "first_layer_speed", "travel_speed", "overhang_speed", "bridge_speed")
#: of a line, where settings say 0
LINE_OVER_NOZZLE = 1.125
SAME = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How something is to be printed, beside the machine: the values of a quality and a material (of one revision
    each), and what the person changed."""

    quality: Values
    material: Values
    overrides: Values


NOTHING_SPECIAL = Recipe(quality={}, material={}, overrides={})


def checked(values: Values, allowed: Container[str]) -> dict[str, Any]:
    """``values``. Raises SlicingError for a name that is not in ``allowed`` and for a value out of range."""
    unknown = sorted(name for name in values if name not in allowed)
    if unknown:
        raise SlicingError(f"Unknown settings: {', '.join(name[:40] for name in unknown)}.")
    for name, value in values.items():
        check(name, value, SETTINGS[name].default, SETTINGS[name].metadata)
    return dict(values)


def resolve(machine: Machine, usual: Values, recipe: Recipe) -> SliceSettings:
    """The settings of one slice on ``machine``, where ``usual`` is what its profile says of PRINTER_FIELDS.

    Raises SlicingError for an unknown name, a value out of range, and what this machine cannot do: another nozzle or
    filament, more heat, layers higher than its nozzle.
    """
    fixed = {"nozzle_diameter": machine.nozzle_diameter, "filament_diameter": machine.filament_diameter}
    wished = checked({**usual, **recipe.quality, **recipe.material}, SETTINGS)
    asked = checked(recipe.overrides, SETTINGS)
    for layer in (wished, asked):
        _same_parts(machine, layer, fixed)
    settings = {**DEFAULTS, **wished, **_same_heat(asked), **asked, **fixed}
    settings |= slowed(machine, settings, asked)
    _check_limits(machine, settings)
    return SliceSettings(**settings)


def _same_heat(asked: Values) -> dict[str, float]:
    return {f"first_layer_{name}": 0.0 for name in ("nozzle_temperature", "bed_temperature") if name in asked}


def _same_parts(machine: Machine, wanted: Values, fixed: Values) -> None:
    for key, value in fixed.items():
        if key in wanted and abs(wanted[key] - value) > SAME:
            raise SlicingError(f"{key} must be {value:g}: {machine.name} has no other.")


def slowed(machine: Machine, settings: Values, asked: Values) -> dict[str, float]:
    """The speeds that the machine, or the melting of the filament (``max_flow``), cannot reach, as they can be.

    What somebody ``asked`` for by name is left as it is."""
    fastest = min(machine.max_speed[:2])
    printing = min(fastest, _melts(settings))
    limited = {}
    for name in SPEEDS:
        most = fastest if name == "travel_speed" else printing
        if name not in asked and settings[name] > most:
            limited[name] = max(SETTINGS[name].metadata["low"], round(most, 1))
    if "retract_speed" not in asked and settings["retract_speed"] > machine.max_speed[3]:
        limited["retract_speed"] = machine.max_speed[3]
    return limited


def _melts(settings: Values) -> float:
    """mm/s at which lines use up what the hotend melts per second."""
    if not settings["max_flow"]:
        return float("inf")
    width = settings["line_width"] or LINE_OVER_NOZZLE * settings["nozzle_diameter"]
    height = max(settings["layer_height"], settings["first_layer_height"])
    return float(settings["max_flow"] / (width * height))


def _check_limits(machine: Machine, settings: Values) -> None:
    for part, limit in (("nozzle", machine.max_nozzle_temperature), ("bed", machine.max_bed_temperature)):
        for name in (f"{part}_temperature", f"first_layer_{part}_temperature"):
            if settings[name] > limit:
                raise SlicingError(f"{name} {settings[name]:g} C is above {machine.name}'s {limit:g} C.")
    if max(settings["layer_height"], settings["first_layer_height"]) > machine.nozzle_diameter + SAME:
        raise SlicingError(f"Layers cannot be higher than {machine.name}'s nozzle of {machine.nozzle_diameter:g} mm.")


def described() -> list[dict[str, Any]]:
    """Every setting with its default, unit, range, options and meaning: for forms and for people who ask."""
    return [
        {
            "name": field.name,
            "default": field.default,
            "whole": isinstance(field.default, int) and not isinstance(field.default, bool),
            "options": list(field.metadata.get("options", ())),
            **{key: field.metadata[key] for key in ("meaning", "unit", "low", "high")},
            "part": _part(field.name),
        }
        for field in SETTINGS.values()
    ]


def _part(name: str) -> str:
    return "material" if name in MATERIAL_FIELDS else "quality"
