"""What other slicers have in common: they get a plain STL that we wrote and settings that we made from ours, and of
their G-code only the part between our marks is taken, put between our own start and end code and checked like ours.

Nothing that a person uploaded reaches them: neither a 3MF nor a config (a 3MF's config may name commands that
PrusaSlicer runs, CVE-2023-47268), nor any text of a name or a template.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import stat
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from slicing.engines import replay, site, templates
from slicing.engines.base import Machine, Progress, SliceResult, SliceSettings, SlicingError
from slicing.engines.heading import header
from slicing.engines.isolation import Failed, Limits, run
from slicing.engines.planar import STANDS_ON_NOTHING, check_settings, check_size
from slicing.mending import mended
from slicing.mesh import Mesh, write_stl

#: put around what the engine writes
BEGIN, END = "FARM_BEGINS_HERE", "FARM_ENDS_HERE"
MODEL, OUT = "model.stl", "out.gcode"
#: of the whole: what the program itself takes; the rest is reading its file
SHARE = 0.9
FILAMENT_TOLERANCE = 0.005
_LAYER = re.compile(rb"^;LAYER_CHANGE\n(?:;[^\n]*\n)*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Written:
    """What an engine wrote: the moves (relative E, absolute position, comments as viewers know them), and the
    filament in mm that it says they take; None when it does not say."""

    body: bytes
    filament_mm: float | None


class ExternalEngine(ABC):
    """One program. Subclasses say how it is called and how its file is read."""

    name: ClassVar[str]
    #: whether its file sets other temperatures behind the first layer; if not, we put them there
    heats: ClassVar[bool]

    def __init__(self, where: site.Site) -> None:
        self.site = where

    @property
    def label(self) -> str:
        return site.NAMES[self.name]

    @abstractmethod
    def prepare(self, folder: Path, machine: Machine, settings: SliceSettings) -> list[str]:
        """Write what it needs into ``folder`` (where MODEL is) and return the command that makes OUT there."""

    @abstractmethod
    def progress_of(self, line: str) -> float | None:
        """0..1 when this line of its output tells how far it is."""

    @abstractmethod
    def written(self, text: bytes, said: str, machine: Machine) -> Written:
        """From its file and the last it said."""

    @abstractmethod
    def complaint(self, said: str) -> str:
        """What it said went wrong, in a few words; "" if nothing can be made of it."""

    def slice(
        self, mesh: Mesh, machine: Machine, settings: SliceSettings, out: Path, progress: Progress | None = None
    ) -> SliceResult:
        """See Engine.slice."""
        report = progress or (lambda share: None)
        if reason := site.missing(self.name, self.site):
            raise SlicingError(reason)
        check_settings(machine, settings)
        check_size(mesh, machine)
        report(0.0)
        with tempfile.TemporaryDirectory(prefix="farm-slice-") as name:
            folder = Path(name)
            write_stl(on_bed(mended(mesh), machine), folder / MODEL)
            said = self._run(self.prepare(folder, machine, settings), folder, report)
            written = self.written(read_output(folder / OUT), said, machine)
        result = self._finish(written, machine, settings, out)
        report(1.0)
        return result

    def _run(self, command: list[str], folder: Path, report: Progress) -> str:
        limits = Limits(
            memory=self.site.memory,
            seconds=self.site.seconds,
            cpu_s=math.ceil(self.site.seconds * (os.cpu_count() or 1)),
        )
        done = 0.0

        def heard(line: str) -> None:
            nonlocal done
            done = max(done, self.progress_of(line) or 0.0)
            report(SHARE * done)

        try:
            return run(command, folder, limits, self.site.data, heard)
        except Failed as error:
            raise SlicingError(self._why(error)) from error

    def _why(self, error: Failed) -> str:
        complaint = self.complaint(error.said)
        if complaint:
            return complaint
        signalled = error.code < 0 or error.code > 128  # the latter from shells and unshare
        if signalled or "bad_alloc" in error.said or "Memory" in error.said:
            return f"{self.label} crashed on this model, or it needs more memory or time than one slice may use."
        return f"{self.label} could not slice this model."

    def _finish(self, written: Written, machine: Machine, settings: SliceSettings, out: Path) -> SliceResult:
        """Put our start and end around it, and say what the whole is."""
        printed = replay.parse(written.body, relative_e=True)
        body = written.body if self.heats else heated(written.body, settings)
        place = place_of(printed, body.count(b";LAYER_CHANGE"), machine)
        start = templates.start_gcode(machine, settings, place).encode()
        end = templates.end_gcode(machine, settings, place).encode()
        program = start + b"G90\nM83\n" + body + b"G90\nM83\n" + end
        self._agree(printed.filament_mm, written.filament_mm)
        filament = replay.parse(start, relative_e=True).filament_mm + printed.filament_mm
        volume = filament * filament_area(machine) / 1000
        low, high = edges(printed)
        result = SliceResult(
            time_s=replay.parse(program).seconds(machine),
            filament_mm=filament,
            filament_g=volume * settings.filament_density,
            layers=place.layers,
            bounds=((low[0], low[1], low[2]), (high[0], high[1], high[2])),
            facts={"filament_cm3": volume, "lines": body.count(b"\n"), "warnings": []},
        )
        made_by = f"{self.label} {site.program_version(self.name, self.site)}"
        out.write_bytes(header(result, settings, machine, made_by).encode() + program)
        return result

    def _agree(self, found: float, said: float | None) -> None:
        """Its own word for the filament must be what its file takes: else one of both is not what we think."""
        if said is not None and abs(found - said) > FILAMENT_TOLERANCE * max(found, said) + 1.0:
            raise SlicingError(
                f"{self.label} says that it takes {said:.0f} mm of filament, but its file takes {found:.0f} mm."
            )


def filament_area(machine: Machine) -> float:
    """mm2"""
    return math.pi * (machine.filament_diameter / 2) ** 2


def heated(body: bytes, settings: SliceSettings) -> bytes:
    """With the heating of all other layers where the second one begins."""
    begins = [match.end() for match in itertools.islice(_LAYER.finditer(body), 2)]
    if len(begins) < 2:
        return body
    return body[: begins[1]] + templates.after_first_layer(settings) + body[begins[1] :]


def on_bed(mesh: Mesh, machine: Machine) -> Mesh:
    """In the middle of the bed, its lowest point at z = 0, on whole um."""
    size = np.array(mesh.size_mm)
    middle = np.array([*machine.origin, 0.0]) + np.array([*machine.size[:2], 0.0]) / 2
    shift = np.round(middle - size * np.array([0.5, 0.5, 0.0]), 3) - mesh.bounds[0]
    return Mesh(mesh.triangles + shift, mesh.name)


def read_output(path: Path) -> bytes:
    """The file that a program left, which may not be what it seems: never through a link. Raises SlicingError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise SlicingError("The slicer ended without writing G-code.") from None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise SlicingError("The slicer wrote something that is not a file.")
        return file.read()


def between_marks(text: bytes) -> bytes:
    """What stands between the lines of BEGIN and END. Raises SlicingError when one is missing."""
    begin = text.find(f";{BEGIN}\n".encode())
    end = text.find(f"\n;{END}".encode(), begin)
    if begin < 0 or end < 0:
        raise SlicingError("The slicer's G-code is cut off.")
    return text[begin + len(BEGIN) + 2 : end + 1]


def edges(moves: replay.Replay) -> tuple[list[float], list[float]]:
    """Lowest and highest corner of the middle lines of what is printed. Raises SlicingError when nothing is."""
    extruding = moves.extruding
    if not extruding.any():
        raise SlicingError(STANDS_ON_NOTHING)
    ends = moves.position[extruding]
    both = np.concatenate([ends, ends - moves.delta[extruding, :3]])
    return both.min(axis=0).tolist(), both.max(axis=0).tolist()


def place_of(moves: replay.Replay, layers: int, machine: Machine) -> templates.Place:
    """What the templates must know: bounds with half a line around them."""
    low, high = edges(moves)
    half = machine.nozzle_diameter / 2
    return templates.Place((low[0] - half, low[1] - half), (high[0] + half, high[1] + half), high[2], layers)
