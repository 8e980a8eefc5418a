"""``manage.py slice MODEL... -o OUT.gcode``: what the farm does with an upload, for files on this machine."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from farm.errors import FarmError
from slicing import presets, profiles
from slicing.engines.base import SliceResult, SliceSettings, SlicingError
from slicing.making import Work, make
from slicing.models import Material, PrinterProfile, Profile, Quality
from slicing.services import make_settings
from slicing.stance import UPRIGHT, stance

AnyProfile = TypeVar("AnyProfile", bound=Profile)

BAR = 40  # characters
TRUE, FALSE = ("yes", "true", "1", "on"), ("no", "false", "0", "off")


class Command(BaseCommand):
    help = "Slices model files (.stl, .obj, .3mf) with the farm's profiles, several of them side by side on one bed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
        parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.gcode")
        parser.add_argument("--engine", choices=[str(name) for name in PrinterProfile.SlicedBy.values],
                            help="default: the printer profile's")  # fmt: skip
        parser.add_argument("--printer", default="", help="name of a printer profile, or the beginning of it")
        parser.add_argument("--material", default="", help="name of a material")
        parser.add_argument("--quality", default="", help="name of a quality")
        parser.add_argument("--copies", type=int, default=1, help="of each model, side by side on the bed")
        parser.add_argument("--scale", type=float, default=1.0, metavar="FACTOR", help="of every model")
        parser.add_argument("--rotate", type=angles, default=UPRIGHT, metavar="X,Y,Z", help="degrees, in this order")
        parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides",
                            help="one setting, over all of these; see /api/settings/")  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        bar = Bar(sys.stderr)
        begin = time.monotonic()
        try:
            wanted = chosen(options)
            work = Work(
                models=[(path, path.name) for path in options["models"]],
                profile=wanted.printer,
                settings=wanted.settings,
                material=wanted.material,
                out=options["out"],
                copies=options["copies"],
                stance=stance({"scale": [options["scale"]] * 3, "rotation": options["rotate"]}),
            )
            result = make(work, bar).result
        except (FarmError, SlicingError) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from error
        finally:
            bar.close()
        for warning in result.facts.get("warnings", []):
            self.stderr.write(f"Note: {warning}")
        for line in summary(options["out"], wanted, result, time.monotonic() - begin):
            self.stdout.write(line)


def angles(text: str) -> tuple[float, ...]:
    """Raises ValueError."""
    return tuple(float(word) for word in text.split(","))


@dataclass(frozen=True, slots=True)
class Chosen:
    printer: PrinterProfile
    material: str
    quality: str
    settings: SliceSettings


def chosen(options: dict[str, Any]) -> Chosen:
    """The profiles that were named, the defaults where none was. Raises CommandError, Invalid."""
    try:
        printer = named(PrinterProfile, options["printer"]) or profiles.default_profile()
        material, quality = named(Material, options["material"]), named(Quality, options["quality"])
    except DatabaseError as error:
        raise CommandError(f"The farm has no data here yet: run `manage.py migrate` first ({error}).") from error
    printer.engine = options["engine"] or printer.engine
    settings = make_settings(
        printer,
        overrides(options["overrides"]),
        profiles.latest(material) if material else None,
        profiles.latest(quality) if quality else None,
    )
    return Chosen(printer, material.name if material else "", quality.name if quality else "", settings)


def named(model: type[AnyProfile], name: str) -> AnyProfile | None:
    """The default when no name is given. Raises CommandError that lists what there is."""
    rows = model._default_manager.all()
    if not name:
        return rows.filter(is_default=True).first()
    exact = rows.filter(name__iexact=name)
    found = list(exact or rows.filter(name__istartswith=name))
    if len(found) == 1:
        return found[0]
    there = "; ".join(row.name for row in found or rows)
    word = profiles.WORDS[model.kind]
    raise CommandError(f"{'More than one' if found else 'No'} {word} is called {name!r}. There are: {there}.")


def overrides(said: list[str]) -> dict[str, Any]:
    """From NAME=VALUE to values of the kind that each setting has."""
    values = {}
    for word in said:
        name, equals, text = word.partition("=")
        if not equals or name not in presets.SETTINGS:
            raise CommandError(f"{word!r}: say NAME=VALUE with one of {', '.join(presets.SETTINGS)}.")
        values[name] = value_of(name, text)
    return values


def value_of(name: str, text: str) -> Any:
    default: Any = presets.SETTINGS[name].default
    try:
        if isinstance(default, bool):
            return {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}[text.lower()]
        return type(default)(text)
    except (ValueError, KeyError):
        what = {bool: "yes or no", int: "a whole number", float: "a number"}[type(default)]
        raise CommandError(f"{name} must be {what}, not {text!r}.") from None


class Bar:
    """How far it is, on a terminal; nothing elsewhere."""

    def __init__(self, out: Any) -> None:
        self._out, self._shown, self._live = out, -1, out.isatty()

    def __call__(self, share: float) -> None:
        percent = round(100 * share)
        if self._live and percent != self._shown:
            self._shown = percent
            done = "#" * round(BAR * share)
            self._out.write(f"\r[{done:<{BAR}}] {percent:3d} %")
            self._out.flush()

    def close(self) -> None:
        if self._shown >= 0:
            self._out.write("\r" + " " * (BAR + 10) + "\r")


def summary(out: Path, wanted: Chosen, result: SliceResult, seconds: float) -> list[str]:
    hours, minutes = divmod(round(result.time_s / 60), 60)
    (x0, y0, _), (x1, y1, top) = result.bounds
    profile = ", ".join(filter(None, (wanted.printer.name, wanted.material, wanted.quality)))
    return [
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, {result.layers} layers, sliced in {seconds:.1f} s "
        f"by {wanted.printer.get_engine_display()}",
        f"  for       {profile}",
        f"  prints    {hours} h {minutes:02d} min",
        f"  takes     {result.filament_mm / 1000:.2f} m of filament, {result.filament_g:.1f} g",
        f"  lies in   X {x0:.1f} to {x1:.1f}, Y {y0:.1f} to {y1:.1f}, up to {top:.1f} mm",
    ]
