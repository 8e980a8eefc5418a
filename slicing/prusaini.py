"""Read PrusaSlicer's settings as our profiles: config bundles (``[printer:..]``, ``[filament:..]``, ``[print:..]``),
flat ini files (``--save``), and the config at the end of a G-code file. Pure.

What has no counterpart here is listed, not guessed. Start and end code is text with {variables} from a fixed list and
is never run as a template of theirs: a variable that we do not have is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slicing import presets
from slicing.engines import templates
from slicing.engines.base import SlicingError

MOST = 200  # profiles in one file
DEPTH = 20  # of inheritance
KINDS = {"printer": "printer", "filament": "material", "print": "quality"}
_SECTION = re.compile(r"^\[(\w+):(.*)\]$")
_PLAIN_SECTION = re.compile(r"^\[\w+\]$")
_PLACEHOLDER = re.compile(r"\[([a-z_0-9]+)\]|\{([^{}\n]*)\}")
#: their placeholders -> ours; an index in brackets behind them names an extruder, except for the bounds
_VARIABLES = {
    "first_layer_temperature": "first_layer_nozzle_temperature",
    "temperature": "nozzle_temperature",
    "first_layer_bed_temperature": "first_layer_bed_temperature",
    "bed_temperature": "bed_temperature",
    "layer_height": "layer_height",
    "first_layer_height": "first_layer_height",
    "nozzle_diameter": "nozzle_diameter",
    "filament_diameter": "filament_diameter",
    "retract_length": "retract_length",
    "max_print_height": "bed_height",
    "max_layer_z": "max_z",
    "total_layer_count": "layers",
    "first_layer_print_min[0]": "min_x",
    "first_layer_print_min[1]": "min_y",
    "first_layer_print_max[0]": "max_x",
    "first_layer_print_max[1]": "max_y",
}
_FLAVOURS = {"marlin": "marlin", "marlin2": "marlin", "klipper": "klipper"}
_PATTERNS = {
    "rectilinear": "rectilinear",
    "alignedrectilinear": "rectilinear",
    "line": "rectilinear",
    "monotonic": "rectilinear",
    "grid": "grid",
    "gyroid": "gyroid",
    "concentric": "concentric",
}


@dataclass(slots=True)
class Draft:
    """A profile as it would be made. ``values`` are columns of a printer profile; ``settings`` as in presets."""

    kind: str  # printer, material, quality
    name: str
    values: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Unknown(Exception):
    """A value that has no counterpart here."""


# -- the file
def read(text: str, with_code: bool = False) -> tuple[list[Draft], list[str]]:
    """All profiles of a file, and a sentence for each that is refused. ``with_code``: start and end code, too.

    Raises SlicingError when it has none at all.
    """
    sections = _sections(_config_of(text).splitlines())
    if not sections:
        raise SlicingError("This is not a config of PrusaSlicer: it has no settings.")
    wanted = [key for key in sections if not key[1].startswith("*")]
    if len(wanted) > MOST:
        raise SlicingError(f"This bundle has {len(wanted)} profiles; at most {MOST} are taken at once.")
    drafts, refused = [], []
    for kind, name in wanted:
        try:
            drafts.append(_draft(kind, name, sections, with_code))
        except SlicingError as error:
            refused.append(f"{name[:80]}: {error}")
    return drafts, refused


def _config_of(text: str) -> str:
    """Of a G-code file, the block of comments at its end."""
    begin, end = text.rfind("; prusaslicer_config = begin"), text.rfind("; prusaslicer_config = end")
    if 0 <= begin < end:
        return re.sub(r"^; ?", "", text[begin:end].partition("\n")[2], flags=re.MULTILINE)
    return text


_Sections = dict[tuple[str, str], dict[str, str]]


def _sections(lines: list[str]) -> _Sections:
    """By (printer | filament | print, name). A flat file has one of each, with the same keys."""
    found: _Sections = {}
    flat: dict[str, str] = {}
    current: dict[str, str] | None = flat
    for line in lines:
        if match := _SECTION.match(line.strip()):
            current = found.setdefault((match[1], match[2].strip()), {}) if match[1] in KINDS else None
        elif _PLAIN_SECTION.match(line.strip()):
            current = None  # of the program itself
        elif current is not None and " = " in f"{line} " and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            current[key.strip()] = value.strip()
    return found or _flat(flat)


def _flat(values: dict[str, str]) -> _Sections:
    found: _Sections = {}
    for kind in KINDS:
        name = _words(values.get(f"{kind}_settings_id", ""))[0] or "Imported"
        mine = {key: value for key, value in values.items() if key in _TABLES[kind] or key in _SPECIAL[kind]}
        if mine:
            found[kind, name] = mine
    rest = sorted(set(values) - {key for mine in found.values() for key in mine})
    for mine in list(found.values())[:1]:
        mine.update({key: values[key] for key in rest})  # listed once as ignored
    return found


def _inherited(key: tuple[str, str], sections: _Sections, notes: list[str], depth: int = 0) -> dict[str, str]:
    """A section over those it inherits from."""
    own = dict(sections[key])
    parents = [name.strip() for name in own.pop("inherits", "").strip('"').split(";") if name.strip()]
    if depth > DEPTH:
        raise SlicingError(f"The profile {key[1]} inherits from itself.")
    values: dict[str, str] = {}
    for parent in parents:
        if (key[0], parent) in sections:
            values |= _inherited((key[0], parent), sections, notes, depth + 1)
        else:
            notes.append(f"It builds on {parent}, which is not in the file: what that says is missing here.")
    return values | own


# -- one profile
def _draft(kind: str, name: str, sections: _Sections, with_code: bool) -> Draft:
    draft = Draft(KINDS[kind], re.sub(r"[^\x20-\x7e\xa0-\u1fff]", "", name)[:80].strip() or "Imported")
    values = _inherited((kind, name), sections, draft.notes)
    for key in sorted(values):
        convert = _TABLES[kind].get(key)
        if convert is None:
            if key not in _SPECIAL[kind]:
                draft.ignored.append(key)
            continue
        try:
            ours, value = convert(values[key], values)
            _put(draft, ours, value)
        except (_Unknown, ValueError, ZeroDivisionError, IndexError):
            draft.ignored.append(key)
        except SlicingError as error:
            draft.ignored.append(key)
            draft.notes.append(f"{key}: {error}")
    _SPECIALS[kind](draft, values, with_code)
    return draft


def _put(draft: Draft, ours: str, value: Any) -> None:
    if ours in presets.SETTINGS and not (draft.kind == "printer" and ours == "nozzle_diameter"):
        draft.settings |= presets.checked({ours: value}, presets.SETTINGS)
    else:
        draft.values[ours] = value


def _printer(draft: Draft, values: Mapping[str, str], with_code: bool) -> None:
    if "bed_shape" in values:
        draft.values |= _bed(values["bed_shape"])
    flavour = values.get("gcode_flavor", "marlin")
    if flavour not in _FLAVOURS:
        raise SlicingError(f"It speaks {flavour[:40]}; only Marlin and Klipper are known here.")
    draft.values["flavour"] = _FLAVOURS[flavour]
    for key in ("start_gcode", "end_gcode"):
        if not with_code:
            draft.ignored += [key] if values.get(key) else []
        else:
            draft.values[key] = code(values.get(key, ""))


def _bed(shape: str) -> dict[str, float]:
    """Of corners like 0x0,250x0,250x210,0x210."""
    try:
        corners = [tuple(map(float, corner.split("x"))) for corner in shape.split(",")]
        xs, ys = sorted({x for x, _ in corners}), sorted({y for _, y in corners})
    except ValueError:
        xs = ys = []
    if len(xs) != 2 or len(ys) != 2:
        raise SlicingError("Only printers with a rectangular bed can be taken over.")
    return {"origin_x": xs[0], "origin_y": ys[0], "width": xs[1] - xs[0], "depth": ys[1] - ys[0]}


def _filament(draft: Draft, values: Mapping[str, str], with_code: bool) -> None:
    """Without cooling there is no fan, whatever its speed."""
    if _first(values.get("cooling", "1")) == "0" and _first(values.get("fan_always_on", "0")) == "0":
        draft.settings["fan_speed"] = 0.0
    for key in ("start_filament_gcode", "end_filament_gcode"):
        draft.ignored += [key] if values.get(key, '""') not in ("", '""') else []


def _print(draft: Draft, values: Mapping[str, str], with_code: bool) -> None:
    if values.get("support_material") == "1":
        bed_only = values.get("support_material_buildplate_only") == "1"
        draft.settings["supports"] = "bed" if bed_only else "everywhere"
    for key in ("post_process", "layer_gcode", "before_layer_gcode"):
        draft.ignored += [key] if values.get(key) else []


def code(text: str) -> str:
    """Start or end code with our variables in place of theirs. Raises SlicingError with the name of an unknown one."""
    plain = text.strip('"').replace("\\\\", "\0").replace("\\n", "\n").replace('\\"', '"').replace("\0", "\\")

    def ours(match: re.Match[str]) -> str:
        name = (match[1] or match[2] or "").strip()
        known = _VARIABLES.get(name) or _VARIABLES.get(re.sub(r"(\[[^\]]*\]|_\d+)$", "", name))
        if known is None:
            raise SlicingError(f"The start or end code uses {name[:60]!r}, which is not a variable here.")
        return f"{{{known}}}"

    result = _PLACEHOLDER.sub(ours, plain)
    templates.check(result)
    return result


# -- values
def _words(value: str) -> list[str]:
    return [word.strip().strip('"') for word in re.split(r"[;,]", value)] or [""]


def _first(value: str) -> str:
    """Of one value for each extruder, or for normal and silent mode."""
    return _words(value)[0]


_Convert = Callable[[str, Mapping[str, str]], tuple[str, Any]]


def _number(ours: str) -> _Convert:
    def convert(value: str, _: Mapping[str, str]) -> tuple[str, Any]:
        if _first(value) in ("nil", ""):
            raise _Unknown
        return ours, float(_first(value).removesuffix("%"))

    return convert


def _whole(ours: str) -> _Convert:
    return lambda value, _: (ours, int(float(_first(value))))


def _yes(ours: str) -> _Convert:
    return lambda value, _: (ours, _first(value) == "1")


def _word(ours: str, known: Mapping[str, str]) -> _Convert:
    def convert(value: str, _: Mapping[str, str]) -> tuple[str, Any]:
        if value not in known:
            raise _Unknown
        return ours, known[value]

    return convert


def _of(ours: str, base: str) -> _Convert:
    """A number, or a share of another setting in per cent."""

    def convert(value: str, values: Mapping[str, str]) -> tuple[str, Any]:
        number = float(value.removesuffix("%"))
        return ours, number / 100 * float(_first(values[base]).removesuffix("%")) if value.endswith("%") else number

    return convert


def _threshold(value: str, _: Mapping[str, str]) -> tuple[str, Any]:
    """They count from the bed, 0 = by itself; we from the wall."""
    if float(value) == 0:
        raise _Unknown
    return "support_angle", 90.0 - float(value)


_SPECIAL = {
    "printer": {"bed_shape", "gcode_flavor", "start_gcode", "end_gcode", "printer_settings_id"},
    "filament": {"cooling", "fan_always_on", "start_filament_gcode", "end_filament_gcode", "filament_settings_id"},
    "print": {
        *("support_material", "support_material_buildplate_only", "print_settings_id"),
        *("post_process", "layer_gcode", "before_layer_gcode"),
    },
}
_SPECIALS: dict[str, Callable[[Draft, Mapping[str, str], bool], None]] = {
    "printer": _printer,
    "filament": _filament,
    "print": _print,
}
_TABLES: dict[str, dict[str, _Convert]] = {
    "printer": {
        "max_print_height": _number("height"),
        "nozzle_diameter": _number("nozzle_diameter"),
        **{
            f"machine_max_{theirs}_{axis}": _number(f"{ours}_{axis}")
            for theirs, ours in (("feedrate", "max_speed"), ("acceleration", "max_acceleration"), ("jerk", "jerk"))
            for axis in "xyze"
        },
        "machine_max_acceleration_extruding": _number("acceleration"),
        "retract_length": _number("retract_length"),
        "retract_speed": _number("retract_speed"),
        "retract_before_travel": _number("retract_min_travel"),
        "retract_lift": _number("z_hop"),
    },
    "filament": {
        "filament_diameter": _number("filament_diameter"),
        "filament_density": _number("filament_density"),
        "extrusion_multiplier": _number("extrusion_multiplier"),
        "temperature": _number("nozzle_temperature"),
        "bed_temperature": _number("bed_temperature"),
        "first_layer_temperature": _number("first_layer_nozzle_temperature"),
        "first_layer_bed_temperature": _number("first_layer_bed_temperature"),
        "filament_max_volumetric_speed": _number("max_flow"),
        "max_fan_speed": _number("fan_speed"),
        "bridge_fan_speed": _number("bridge_fan_speed"),
        "slowdown_below_layer_time": _number("min_layer_time"),
        "min_print_speed": _number("min_print_speed"),
        "filament_retract_length": _number("retract_length"),
        "filament_retract_speed": _number("retract_speed"),
    },
    "print": {
        "layer_height": _number("layer_height"),
        "first_layer_height": _of("first_layer_height", "layer_height"),
        "perimeters": _whole("walls"),
        "top_solid_layers": _whole("top_layers"),
        "bottom_solid_layers": _whole("bottom_layers"),
        "fill_density": _number("infill_density"),
        "fill_pattern": _word("infill_pattern", _PATTERNS),
        "infill_overlap": _number("infill_overlap"),
        "solid_infill_below_area": _number("solid_below_area"),
        "extrusion_width": _of("line_width", "layer_height"),
        "perimeter_speed": _number("print_speed"),
        "external_perimeter_speed": _of("outer_wall_speed", "perimeter_speed"),
        "first_layer_speed": _of("first_layer_speed", "perimeter_speed"),
        "travel_speed": _number("travel_speed"),
        "bridge_speed": _number("bridge_speed"),
        "bridge_flow_ratio": _number("bridge_flow"),
        "external_perimeters_first": _yes("outer_wall_first"),
        "seam_position": _word("seam", {word: word for word in ("aligned", "nearest", "random", "rear")}),
        "elefant_foot_compensation": _number("elephant_foot"),
        "skirts": _whole("skirt_loops"),
        "skirt_distance": _number("skirt_distance"),
        "brim_width": _number("brim_width"),
        "spiral_vase": _yes("spiral_vase"),
        "avoid_crossing_perimeters": _yes("combing"),
        "support_material_threshold": _threshold,
        "support_material_contact_distance": _number("support_gap"),
        "support_material_interface_layers": _whole("support_roof_layers"),
    },
}
