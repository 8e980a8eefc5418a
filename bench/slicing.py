"""What slicing costs, against PrusaSlicer and CuraEngine at equal settings.

    python bench/slicing.py [MODEL_OR_FOLDER ...] [--only WORD] [--repeat 3] [--without cura]

Without models: generated ones, from 12 to a million triangles. Ours is measured in a warm worker (and once cold, import
included); the others as the processes that they are. CPU is user time; ratios are ours divided by theirs.

PrusaSlicer draws walls of even width here (perimeter_generator=classic), as we do: its default, Arachne, takes it up to
three times as long. This process itself stays small, because Linux counts what a parent used for its children's peak:
whatever needs memory happens in children.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from slicing.engines.base import Machine, SliceSettings  # noqa: E402

MACHINE = Machine()
#: what all three do alike
SETTINGS = SliceSettings(first_layer_speed=20.0, print_speed=50.0, infill_density=15.0)

MODELS: dict[str, Callable[[Any], Any]] = {
    "box, 12 triangles": lambda shapes: shapes.box(20, 20, 20),
    "thin tray": lambda shapes: shapes.frame(100, 0.9, 120),
    "gear": lambda shapes: shapes.gear(40, 30, 10),
    "screw": lambda shapes: shapes.cylinder(3, 12, 256),
    "plate with 320 holes": lambda shapes: shapes.plate(100, 80, 4, 20, 16, 1.5),
    "terrain 10k": lambda shapes: shapes.terrain(50),
    "bust 60k": lambda shapes: shapes.bumpy_sphere(30, 150, 200),
    "terrain 160k": lambda shapes: shapes.terrain(200),
    "bust 240k": lambda shapes: shapes.bumpy_sphere(30, 300, 400),
    "bust 1M": lambda shapes: shapes.bumpy_sphere(40, 600, 800),
    "terrain 1M": lambda shapes: shapes.terrain(500),
}


@dataclass
class Run:
    """What one run cost and made."""

    cpu: float
    wall: float
    peak_mb: float
    filament: float = float("nan")
    seconds: float = float("nan")


def measured(command: list[str], out: Path, cwd: Path) -> Run | None:
    """Run a program to its end; None if it fails."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not out.exists():
        return None
    run = Run(usage.ru_utime, time.perf_counter() - begin, usage.ru_maxrss / 1024)
    run.filament, run.seconds = child("facts", str(out))
    return run


def child(*task: str) -> Any:
    """What a task of this file, run in a process of its own, answers."""
    done = subprocess.run([sys.executable, __file__, TASK, *task], stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def facts(path: str) -> tuple[float, float]:
    """(mm of filament, seconds) of a G-code file."""
    from slicing.engines.replay import parse

    replay = parse(Path(path).read_bytes())
    return float(replay.delta[replay.extruding, 3].sum()), replay.seconds(MACHINE)


def make(model: str, stl: str) -> int:
    """Write a generated model, or one from a file, as STL; its number of triangles."""
    from slicing.mesh import read_mesh, write_stl
    from tests import shapes

    mesh = shapes.mesh(MODELS[model](shapes)) if model in MODELS else read_mesh(Path(model))
    write_stl(mesh, Path(stl))
    return len(mesh.triangles)


# --- ours ------------------------------------------------------------------------------------------------------------


def ours(stl: Path, folder: Path, settings: SliceSettings, warm: bool) -> Run | None:
    """In a process of its own; ``warm`` slices a small box first and counts only what comes after."""
    out = folder / "ours.gcode"
    found = child("work", str(stl), str(out), json.dumps(asdict(settings)), "warm" if warm else "cold")
    if not found:
        return None
    run = Run(**found)
    run.filament, run.seconds = child("facts", str(out))
    return run


def work(stl: str, out: str, settings: str, warm: str) -> dict[str, float]:
    chosen = SliceSettings(**json.loads(settings))
    if warm == "warm":
        _slice(chosen, None, out)
    before = _used() if warm == "warm" else 0.0
    begin = time.perf_counter()
    _slice(chosen, stl, out)
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"cpu": _used() - before, "wall": time.perf_counter() - begin, "peak_mb": peak / 1024}


def _slice(settings: SliceSettings, stl: str | None, out: str) -> None:
    from slicing.engines import engine
    from slicing.mesh import read_mesh
    from tests import shapes

    mesh = read_mesh(Path(stl)) if stl else shapes.mesh(shapes.box(12, 12, 3))
    engine("planar").slice(mesh, MACHINE, settings, Path(out))


def _used() -> float:
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


# --- theirs ----------------------------------------------------------------------------------------------------------

#: PrusaSlicer does these by itself and we do not: more walls on slopes, walls of uneven width (Arachne)
ALIKE = {"extra_perimeters": "0", "ensure_vertical_shell_thickness": "0", "perimeter_generator": "classic"}


def theirs(name: str, stl: Path, folder: Path, settings: SliceSettings) -> Run | None:
    """None where the program is not installed, or refuses the model."""
    prepared = child("prepare", name, str(stl), str(folder), json.dumps(asdict(settings)))
    return measured(prepared["command"], folder / prepared["out"], folder) if prepared else None


def prepare(name: str, stl: str, folder: str, settings: str) -> dict[str, Any] | None:
    """What the farm would run, at settings that mean the same."""
    from slicing.engines import engine
    from slicing.engines.external import MODEL, OUT, ExternalEngine, on_bed
    from slicing.engines.prusaslicer import CONFIG
    from slicing.engines.site import Site, missing
    from slicing.mesh import read_mesh, write_stl

    if missing(name, Site()):
        return None
    slicer = engine(name, Site(data=Path(folder)))
    assert isinstance(slicer, ExternalEngine)
    command = slicer.prepare(Path(folder), MACHINE, SliceSettings(**json.loads(settings)))
    write_stl(on_bed(read_mesh(Path(stl)), MACHINE), Path(folder) / MODEL)
    ini = Path(folder) / CONFIG
    if name == "prusaslicer":
        lines = [line for line in ini.read_text().splitlines() if line.partition(" = ")[0] not in ALIKE]
        ini.write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in ALIKE.items())]) + "\n")
    return {"command": command, "out": OUT}


def text(count: str) -> dict[str, float]:
    """Nanoseconds of user time per line of G-code: ours, and formatting one line after the other from plain lists."""
    import numpy as np

    from slicing.engines.planar.text import E, Lines, X, Y, encode

    n, random = int(count), np.random.default_rng(1)
    x, y, e = random.integers(10_000, 210_000, n), random.integers(10_000, 210_000, n), random.integers(0, 99_999, n)
    none = np.zeros(n, np.int64)
    lines = Lines(x, y, none, e, none, none + (X | Y | E), none - 1, ())
    begin = _used()
    made = b"".join(encode(lines, []))
    middle = _used()
    triples = zip((x / 1000).tolist(), (y / 1000).tolist(), (e / 100_000).tolist(), strict=True)
    plain = "".join([f"G1 X{a:.3f} Y{b:.3f} E{c:.5f}\n" for a, b, c in triples])
    end = _used()
    assert made.decode() == plain
    return {"ours": (middle - begin) / n * 1e9, "f-strings": (end - middle) / n * 1e9}


# --- the table -------------------------------------------------------------------------------------------------------


def best(make: Callable[[], Run | None], repeat: int) -> Run | None:
    runs = [run for run in (make() for _ in range(repeat)) if run]
    return min(runs, key=lambda run: run.cpu) if runs else None


def models(given: list[Path], only: str) -> Iterator[tuple[str, str]]:
    """(name, what ``make`` makes of it)."""
    for path in given:
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".stl", ".obj", ".3mf"))
        yield from ((f.name, str(f)) for f in ([path] if path.is_file() else files))
    if not given:
        yield from ((name, name) for name in MODELS if only in name)


def row(name: str, model: str, options: argparse.Namespace, settings: SliceSettings) -> str:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        stl = folder / "model.stl"
        triangles = child("make", model, str(stl))
        warm = best(lambda: ours(stl, folder, settings, True), options.repeat)
        cold = best(lambda: ours(stl, folder, settings, False), 1)
        others = []
        for program in ("prusaslicer", "cura"):
            place = folder / program
            place.mkdir()
            task = partial(theirs, program, stl, place, settings)
            others.append(None if program in options.without else best(task, options.repeat))
        other, third = others
        if options.keep:
            for file in folder.rglob("*.gcode"):
                plain = re.sub("[^a-z0-9]+", "-", name.lower())
                shutil.copy(
                    file, options.keep / f"{plain}-{file.parent.name if file.parent != folder else 'ours'}.gcode"
                )
    cells = [name, f"{triangles:,}"]
    for run in (warm, cold, other, third):
        cells.append(f"{run.cpu:.2f} / {run.wall:.2f}" if run else "-")
    for peer in (other, third):
        cells.append(f"{warm.cpu / peer.cpu:.2f}" if warm and peer else "-")
    for run in (warm, other, third):
        cells.append(f"{run.peak_mb:.0f}" if run else "-")
    for run in (warm, other, third):
        cells.append(f"{run.filament:.0f} / {run.seconds:.0f}" if run else "-")
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| model | triangles | ours warm CPU / wall s | ours cold | PrusaSlicer | CuraEngine | CPU : Prusa | CPU : Cura "
    "| MB ours | MB Prusa | MB Cura | filament mm / time s ours | Prusa | Cura |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--only", default="", help="part of a generated model's name")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs")
    parser.add_argument("--without", action="append", default=[], help="prusaslicer or cura")
    parser.add_argument("--keep", type=Path, help="folder to keep the G-code in")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of ours")
    options = parser.parse_args()
    defaults = asdict(SETTINGS)
    chosen = {key: type(defaults[key])(value) for key, _, value in (pair.partition("=") for pair in options.set)}
    settings = replace(SETTINGS, **chosen)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n\n{HEAD}")
    print("|---" * HEAD.count(" | ") + "|---|", flush=True)
    for name, model in models(options.models, options.only):
        print(row(name, model, options, settings), flush=True)
    if not options.models:
        cost = child("text", "1000000")
        times = cost["f-strings"] / cost["ours"]
        print(f"\nG-code text: {cost['ours']:.0f} ns a line, f-strings {cost['f-strings']:.0f} ns: {times:.1f} times.")


TASK = "--task"
TASKS: dict[str, Callable[..., Any]] = {"facts": facts, "make": make, "prepare": prepare, "text": text, "work": work}

if __name__ == "__main__":
    if sys.argv[1:2] == [TASK]:
        sys.stdout.write(json.dumps(TASKS[sys.argv[2]](*sys.argv[3:])))
    else:
        main()
