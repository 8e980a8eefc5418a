"""What may be typed at a machine's console. Pure: lines in, a refusal or nothing out.

Until there is a full G-code policy this holds the invariants: only dispatch starts prints, temperatures stay within
the machine's limits, and nothing that outlives the session (EEPROM, firmware, SD files) is touched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from slicing.engines.base import Machine

#: M20-M34 and M928 SD card (M23/M24/M32 start prints), M92 M201-M206 M301-M304 M851 calibration, M302 cold extrusion,
#: M500-M504 EEPROM, M997 firmware, M999 restart, M112 emergency (a command of its own), M42 M43 bare pins (heaters too)
_MARLIN_DENIED = frozenset(
    [f"M{n}" for n in (*range(20, 35), 42, 43, 80, 81, 92, 112, 118, *range(201, 207), 211, 218, *range(301, 305))]
    + [f"M{n}" for n in (*range(500, 505), 851, 928, 997, 999)]
)
#: Klipper's own commands that only read, move or heat
_KLIPPER_ALLOWED = frozenset(
    {
        "BED_MESH_CALIBRATE",
        "BED_MESH_CLEAR",
        "BED_MESH_OUTPUT",
        "CLEAR_PAUSE",
        "GET_POSITION",
        "PROBE",
        "PROBE_ACCURACY",
        "QUERY_ENDSTOPS",
        "QUERY_PROBE",
        "QUAD_GANTRY_LEVEL",
        "SET_DISPLAY_TEXT",
        "SET_GCODE_OFFSET",
        "SET_HEATER_TEMPERATURE",
        "SET_PRESSURE_ADVANCE",
        "STATUS",
        "TEMPERATURE_WAIT",
        "TURN_OFF_HEATERS",
        "Z_TILT_ADJUST",
    }
)
_WORD = re.compile(r"^(?:N\d+\s*)?([A-Z][A-Z0-9_.]*)", re.ASCII)
_CODE = re.compile(r"^([GMT])0*(\d+)")
_HEATING = {"M104": "nozzle", "M109": "nozzle", "M140": "bed", "M190": "bed", "M141": "chamber", "M191": "chamber"}
_KLIPPER_HEATING = frozenset({"SET_HEATER_TEMPERATURE", "TEMPERATURE_WAIT"})
#: S and R are targets, B the upper end of Marlin's automatic temperature
_MARLIN_VALUE = re.compile(r"[SRB]\s*([^A-Z\s]*)")
_KLIPPER_VALUE = re.compile(r"(?:TARGET|MINIMUM|MAXIMUM)\s*=\s*(\S*)")
#: a move with an E in it, a recovered retraction, loading and changing filament
_EXTRUDES = re.compile(r"(?:N\d+\s*)?(?:G0*[0-35](?!\d).*E|G0*11(?!\d)|M60[03](?!\d)|M70[12](?!\d))", re.ASCII)
_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)


def refusal(lines: Sequence[str], machine: Machine) -> str | None:
    """Why these lines may not be sent, as one sentence; None if they may."""
    if not lines or len(lines) > 50:
        return "Send between 1 and 50 lines."
    for line in lines:
        reason = _line_refusal(line, machine)
        if reason:
            return reason
    return None


def _line_refusal(line: str, machine: Machine) -> str | None:
    if len(line) > 200 or not line.isprintable():
        return "A line has at most 200 characters and no control characters."
    code = line.split(";")[0].strip().upper()
    if not code:
        return None
    word = _WORD.match(code)
    if word is None:
        return f"{line.strip()!r} is not a G-code line."
    number = _CODE.fullmatch(word[1]) or _CODE.match(word[1])
    name = f"{number[1]}{number[2]}" if number else word[1]
    if name in _MARLIN_DENIED or (number is None and name not in _KLIPPER_ALLOWED):
        return f"{name} may not be sent from the console."
    return _too_hot(name, code, machine)


def _too_hot(name: str, code: str, machine: Machine) -> str | None:
    klipper = name in _KLIPPER_HEATING
    heater = ("bed" if "HEATER_BED" in code else "nozzle") if klipper else _HEATING.get(name)
    if heater is None:
        return None
    if klipper and set(code) & set("\"'\\"):
        return f"{name} is sent without quotes."  # Klipper takes quotes away: what we read is not what it would read
    limit = heater_limit(heater, machine)
    for value in (_KLIPPER_VALUE if klipper else _MARLIN_VALUE).findall(code):
        if not _PLAIN_NUMBER.fullmatch(value):
            return f"A temperature is a plain number, not {value!r}."  # "+400" and "1e3" are numbers to firmware
        if not 0 <= float(value) <= limit:
            return f"{float(value):g} C is outside this printer's 0 to {limit:g} C for the {heater}."
    return None


def may_extrude(lines: Sequence[str]) -> bool:
    """Whether these lines may bring filament out of the nozzle; the console keeps no account of E, so any E counts."""
    return any(_EXTRUDES.match(line.split(";")[0].strip().upper()) for line in lines)


def heater_limit(heater: str, machine: Machine) -> float:
    """Degrees C. A chamber is never hotter than the bed can be."""
    return machine.max_bed_temperature if heater in ("bed", "chamber") else machine.max_nozzle_temperature
