"""Start and end G-code: text with {variables} from a fixed list. No expressions, no code.

VARIABLES names them all with their meaning; anything else in braces is an error that names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from slicing.engines.base import Machine, SliceSettings, SlicingError

VARIABLES: dict[str, str] = {
    "bed_temperature": "from the second layer on, C",
    "nozzle_temperature": "from the second layer on, C",
    "first_layer_bed_temperature": "what to begin with, C",
    "first_layer_nozzle_temperature": "what to begin with, C",
    "nozzle_diameter": "mm",
    "filament_diameter": "mm",
    "layer_height": "mm",
    "first_layer_height": "mm",
    "retract_length": "mm",
    "retract_feed": "speed of retraction, mm/min",
    "travel_feed": "speed of travel, mm/min",
    "bed_width": "printable x, mm",
    "bed_depth": "printable y, mm",
    "bed_height": "printable z, mm",
    "origin_x": "front left corner of the bed, mm",
    "origin_y": "front left corner of the bed, mm",
    "min_x": "lowest x of the print, mm",
    "min_y": "lowest y of the print, mm",
    "max_x": "highest x of the print, mm",
    "max_y": "highest y of the print, mm",
    "max_z": "height of the print, mm",
    "lift_z": "a height clear of the print, mm",
    "park_x": "where the nozzle may rest, mm",
    "park_y": "where the nozzle may rest, mm",
    "layers": "number of layers",
    "prime_line": "lines of G-code that draw a line at the edge of the bed where the print is not; needs G90 and M83",
}

HEAT = """\
M140 S{first_layer_bed_temperature}
M104 S{first_layer_nozzle_temperature}
"""
HEATED = """\
M190 S{first_layer_bed_temperature}
M109 S{first_layer_nozzle_temperature}
"""
DEFAULT_START: dict[str, str] = {
    "marlin": HEAT
    + """\
M107
G21
G90
M83
G28 ; home
"""
    + HEATED
    + """\
G92 E0
{prime_line}
""",
    "klipper": HEAT
    + """\
M107
G90
M83
G28 ; home
"""
    + HEATED
    + """\
G92 E0
{prime_line}
""",
}
_END = """\
M107
M104 S0
M140 S0
G1 E-{retract_length} F{retract_feed}
G1 Z{lift_z} F600
G1 X{park_x} Y{park_y} F{travel_feed}
M84
"""
DEFAULT_END: dict[str, str] = {"marlin": _END, "klipper": _END}
CLEARANCE = 3.0  # mm between the prime line and the print
EDGE = 2.0  # mm between the prime line and the edge of the bed
PRIME_LENGTH = 60.0
PRIME_AREA = 0.3  # mm2 of cross-section: a fat line

_VARIABLE = re.compile(r"\{([^{}\n]*)\}")


@dataclass(frozen=True, slots=True)
class Place:
    """What the templates must know of the print: bounds on the bed in mm."""

    low: tuple[float, float]
    high: tuple[float, float]
    top: float
    layers: int


def start_gcode(machine: Machine, settings: SliceSettings, place: Place) -> str:
    """The start code, filled in. A profile's own code that heats nothing gets the heating put before it."""
    template = machine.start_gcode.strip() or _for(machine, DEFAULT_START)
    if not re.search(r"M104|M109|\{(first_layer_)?nozzle_temperature\}", template):
        template = HEAT + HEATED + template
    return fill_in(template, values(machine, settings, place))


def end_gcode(machine: Machine, settings: SliceSettings, place: Place) -> str:
    return fill_in(machine.end_gcode.strip() or _for(machine, DEFAULT_END), values(machine, settings, place))


def after_first_layer(settings: SliceSettings) -> bytes:
    """The heating of all other layers, where it is another one. Nobody waits for it: the nozzle would stand still on
    the print."""
    lines = [
        b"%s S%s\n" % (code, f"{round(later, 3):.10g}".encode())
        for code, first, later in zip((b"M104", b"M140"), settings.first_heat, settings.later_heat, strict=True)
        if first != later
    ]
    return b"".join(lines)


def _for(machine: Machine, defaults: dict[str, str]) -> str:
    if machine.flavour not in defaults:
        raise SlicingError(f"The G-code flavour {machine.flavour!r} is not known; there are: {', '.join(defaults)}.")
    return defaults[machine.flavour]


def fill_in(template: str, known: dict[str, str]) -> str:
    """Replace {variables}. Raises SlicingError for one that is not in VARIABLES, and for a brace left alone."""

    def value(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name not in known:
            raise SlicingError(
                f"The printer profile's start or end code uses {{{name[:40]}}}, which is not a variable."
            )
        return known[name]

    text = _VARIABLE.sub(value, template.replace("\r\n", "\n").replace("\r", "\n"))
    if "{" in text or "}" in text:
        raise SlicingError("The printer profile's start or end code has a brace without its partner.")
    return text.strip() + "\n"


def check(template: str) -> None:
    """Raises SlicingError for what fill_in would refuse: people are told when they save a profile, not when a job
    of somebody else fails."""
    fill_in(template, dict.fromkeys(VARIABLES, "0"))


def values(machine: Machine, settings: SliceSettings, place: Place) -> dict[str, str]:
    """Text of every variable."""
    numbers = {
        "bed_temperature": settings.bed_temperature,
        "nozzle_temperature": settings.nozzle_temperature,
        "first_layer_bed_temperature": settings.first_heat.bed,
        "first_layer_nozzle_temperature": settings.first_heat.nozzle,
        "nozzle_diameter": machine.nozzle_diameter,
        "filament_diameter": machine.filament_diameter,
        "layer_height": settings.layer_height,
        "first_layer_height": settings.first_layer_height,
        "retract_length": settings.retract_length,
        "retract_feed": 60 * settings.retract_speed,
        "travel_feed": 60 * settings.travel_speed,
        "bed_width": machine.size[0],
        "bed_depth": machine.size[1],
        "bed_height": machine.size[2],
        "origin_x": machine.origin[0],
        "origin_y": machine.origin[1],
        "min_x": place.low[0],
        "min_y": place.low[1],
        "max_x": place.high[0],
        "max_y": place.high[1],
        "max_z": place.top,
        "lift_z": min(place.top + 10.0, machine.size[2]),
        "park_x": machine.origin[0] + EDGE,
        "park_y": machine.origin[1] + machine.size[1] - EDGE,
        "layers": place.layers,
    }
    text = {name: f"{round(number, 3):.10g}" for name, number in numbers.items()}
    return text | {"prime_line": prime_line(machine, settings, place)}


def prime_line(machine: Machine, settings: SliceSettings, place: Place) -> str:
    """A fat line along an edge of the bed that the print leaves free: front, left, back or right."""
    (x0, y0), (w, d, _) = machine.origin, machine.size
    x1, y1 = x0 + w, y0 + d
    along_x, along_y = min(PRIME_LENGTH, w - 4 * EDGE), min(PRIME_LENGTH, d - 4 * EDGE)
    need = EDGE + CLEARANCE
    if place.low[1] - y0 >= need:
        begin, end = (x0 + 2 * EDGE, y0 + EDGE), (x0 + 2 * EDGE + along_x, y0 + EDGE)
    elif place.low[0] - x0 >= need:
        begin, end = (x0 + EDGE, y0 + 2 * EDGE), (x0 + EDGE, y0 + 2 * EDGE + along_y)
    elif y1 - place.high[1] >= need:
        begin, end = (x0 + 2 * EDGE, y1 - EDGE), (x0 + 2 * EDGE + along_x, y1 - EDGE)
    elif x1 - place.high[0] >= need:
        begin, end = (x1 - EDGE, y0 + 2 * EDGE), (x1 - EDGE, y0 + 2 * EDGE + along_y)
    else:
        return "; no room for a prime line"
    length = abs(end[0] - begin[0]) + abs(end[1] - begin[1])
    filament = PRIME_AREA * length / (3.141592653589793 * machine.filament_diameter**2 / 4)
    travel = f"F{60 * settings.travel_speed:.0f}"
    return "\n".join(
        [
            f"G1 Z{min(5.0, machine.size[2]):g} F600",
            f"G1 X{begin[0]:.3f} Y{begin[1]:.3f} {travel}",
            f"G1 Z{settings.first_layer_height:g} F600",
            f"G1 X{end[0]:.3f} Y{end[1]:.3f} E{filament:.5f} F{60 * settings.first_layer_speed:.0f}",
        ]
    )
