"""Where the optional engines are on a machine, and what they may use. Imports no engine."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NAMES = {"planar": "the built-in slicer", "prusaslicer": "PrusaSlicer", "cura": "CuraEngine"}
#: what they are called on the path
PROGRAMS = {"prusaslicer": ("prusa-slicer", "PrusaSlicer"), "cura": ("CuraEngine",)}
#: that ask them for their version, and where it is in what they say
_ASK = {"prusaslicer": "--help", "cura": "help"}
_VERSION = re.compile(r"PrusaSlicer-(\d[\w.]*)|version (\d[\w.]*)")
#: where Cura's desktop program has its definitions, on Debian and in an unpacked package of it
DEFINITIONS = ("/usr/share/cura/resources/definitions", ".venvs/cura/usr/share/cura/resources/definitions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a machine has. Programs by engine; "" = look on the path."""

    programs: Mapping[str, str] = field(default_factory=dict)
    #: folder with fdmprinter.def.json; "" = look in the usual places
    cura_definitions: str = ""
    #: the farm's data: an engine's process does not see it; None: there is none
    data: Path | None = None
    memory: int = 4 << 30  # bytes of address space
    seconds: float = 900.0  # wall clock

    def program(self, engine: str) -> str:
        """Path of the engine's program; "" when it is not here."""
        said = self.programs.get(engine, "")
        return next((found for name in ([said] if said else PROGRAMS[engine]) if (found := shutil.which(name))), "")

    def definitions(self) -> Path | None:
        """Folder of Cura's definitions."""
        said = [self.cura_definitions] if self.cura_definitions else DEFINITIONS
        root = Path(__file__).resolve().parents[2]
        folders = [root / folder for folder in said]
        return next((folder for folder in folders if (folder / "fdmprinter.def.json").is_file()), None)


def missing(engine: str, site: Site) -> str:
    """Why an engine cannot be used here, as a sentence; "" when it can."""
    if engine == "planar":
        return ""
    label = NAMES[engine]
    if not site.program(engine):
        return f"{label} is not installed on the machine that slices. Ask the people who run the lab."
    if engine == "cura" and site.definitions() is None:
        return "CuraEngine's definitions (fdmprinter.def.json) are not on the machine that slices."
    return ""


def program_version(engine: str, site: Site) -> str:
    """What the installed program says of itself; "none" when it is missing, "unknown" when it says nothing."""
    program = site.program(engine)
    if not program:
        return "none"
    return _asked(program, _ASK[engine], os.stat(program).st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _asked(program: str, question: str, changed: int) -> str:
    """Once for every program that was ``changed`` at that time."""
    try:
        done = subprocess.run(
            [program, question], capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = _VERSION.search((done.stdout + done.stderr)[:4000].decode(errors="replace"))
    return next(filter(None, found.groups()), "unknown") if found else "unknown"
