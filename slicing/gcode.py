"""Facts of a G-code file that somebody else's slicer wrote, and whether a machine may run it. Pure.

``python -m slicing.gcode FILE --machine JSON`` prints one line of JSON, the facts (exit 0) or ``{"error": sentence}``
(exit 2): uploads are read in a child process.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from slicing.engines.base import Machine, SlicingError
from slicing.engines.replay import check_bed, check_temperatures, parse

#: g/cm3; PLA, when a file does not say what it was made for
DENSITY = 1.24


def facts(path: Path, machine: Machine) -> dict[str, Any]:
    """Time (s), filament (mm, g), layers, bounds (mm) and temperatures (C). Raises SlicingError with a sentence when
    the machine should not run it."""
    data = path.read_bytes()
    if b"\0" in data[:4096]:
        raise SlicingError("This is not G-code text.")
    replay = parse(data)
    if not replay.extruding.any():
        raise SlicingError("This G-code prints nothing: is it really a print file?")
    check_temperatures(replay, machine)
    check_bed(replay.position, replay.extruding, machine)
    printed = replay.position[replay.extruding]
    edges = (printed.min(axis=0).tolist(), printed.max(axis=0).tolist())
    filament = replay.filament_mm
    return {
        "time_s": round(replay.seconds(machine), 1),
        "filament_mm": round(filament, 2),
        "filament_g": round(filament * math.pi * (machine.filament_diameter / 2) ** 2 / 1000 * DENSITY, 2),
        "layers": int(len(np.unique(np.round(printed[:, 2], 3)))),
        "bounds": [[round(v, 3) for v in edge] for edge in edges],
        "nozzle_temperature": max(replay.nozzle, default=None),
        "bed_temperature": max(replay.bed, default=None),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slicing.gcode", description="Facts of one G-code file, as JSON.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--machine", default="{}", help="JSON of slicing.engines.base.Machine")
    options = parser.parse_args(argv)
    try:
        found = facts(options.file, machine_from(json.loads(options.machine)))
    except SlicingError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": "The file needs more memory than one upload may use."}
    sys.stdout.write(json.dumps(found) + "\n")
    return 2 if "error" in found else 0


def machine_from(values: dict[str, Any]) -> Machine:
    """The inverse of ``dataclasses.asdict`` through JSON, which knows no tuples."""
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return Machine(**plain)


if __name__ == "__main__":
    sys.exit(main())
