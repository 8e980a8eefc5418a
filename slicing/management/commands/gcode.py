"""``manage.py gcode FILE``: what the farm reads in a G-code file of any slicer."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from slicing.engines.base import Machine, SlicingError
from slicing.finishing import duration
from slicing.gcode import facts
from slicing.layers import index, picture
from slicing.models import PrinterProfile


class Command(BaseCommand):
    help = "Prints the facts of G-code files (.gcode or .bgcode), and draws their layers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--json", action="store_true", help="one line of JSON per file")
        parser.add_argument("--printer", default="", metavar="NAME",
                            help="a printer profile: may its printers run the file?")  # fmt: skip
        parser.add_argument("--layer", type=int, metavar="N", help="draw this layer (the lowest is 1) of one file")
        parser.add_argument("--travels", action="store_true", help="with the moves that print nothing")
        parser.add_argument("-o", "--out", type=Path, metavar="PNG", help="where to draw it")

    def handle(self, *args: Any, **options: Any) -> None:
        machine = _machine(options["printer"])
        if (options["layer"] is None) != (options["out"] is None) or (options["out"] and len(options["files"]) > 1):
            raise CommandError("To draw a layer, say which of one file (--layer N) and where to (-o PNG).")
        for path in options["files"]:
            try:
                found = facts(path, machine)
                if options["out"]:
                    options["out"].write_bytes(picture(path, index(path), options["layer"] - 1, options["travels"]))
            except (SlicingError, OSError) as error:
                raise CommandError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
            if options["json"]:
                self.stdout.write(json.dumps({"file": str(path), **found}))
            else:
                self.stdout.write("\n".join([str(path), *lines(found), ""]))


def _machine(name: str) -> Machine | None:
    if not name:
        return None
    profile = PrinterProfile.objects.filter(name=name).first()
    if profile is None:
        known = ", ".join(PrinterProfile.objects.values_list("name", flat=True))
        raise CommandError(f"There is no printer profile {name!r}; there are: {known}.")
    return profile.machine


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Facts for people; only what is known."""
    low, high = found["bounds"]
    size = f"{high[0] - low[0]:.1f} x {high[1] - low[1]:.1f} x {found['height']:.1f}"
    said = found["slicer_time_s"]
    slicer = f"{found['slicer']} {found['slicer_version']}".strip()
    yield _line("slicer", slicer or "not said")
    yield _line("time", duration(found["time_s"]) + (f" (its slicer says {duration(said)})" if said else ""))
    for tool in found["tools"]:
        kind = f" of {tool['filament_type']}" if tool["filament_type"] else ""
        used = f"{tool['filament_mm'] / 1000:.2f} m, {tool['filament_cm3']:.2f} cm3, {tool['filament_g']:.2f} g{kind}"
        yield _line("filament" if len(found["tools"]) == 1 else f"tool {tool['tool']}", used)
    height = f" of {found['layer_height']:g} mm" if found["layer_height"] else ""
    yield _line("layers", f"{found['layers']}{height}, the first of {found['first_layer_height']:g} mm")
    yield _line("size", f"{size} mm, from X{low[0]:g} Y{low[1]:g} to X{high[0]:g} Y{high[1]:g}")
    heat = [f"{part} {found[f'{part}_temperature']:g} C" for part in ("nozzle", "bed") if found[f"{part}_temperature"]]
    yield _line("heat", ", ".join(heat) or "none")
    if found["thumbnails"]:
        yield _line("pictures", ", ".join(f"{one['width']}x{one['height']}" for one in found["thumbnails"]))


def _line(name: str, value: str) -> str:
    return f"  {name:<10}{value}"
