"""What slicing costs, against PrusaSlicer and CuraEngine at equal settings.

    python bench/slicing.py [MODEL_OR_FOLDER ...] [--only WORD] [--repeat 3] [--cura-definitions DIR]

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


def prusa(stl: Path, folder: Path, s: SliceSettings) -> Run | None:
    ini, out = folder / "p.ini", folder / "prusa.gcode"
    keys = {
        "layer_height": s.layer_height,
        "first_layer_height": s.first_layer_height,
        "nozzle_diameter": s.nozzle_diameter,
        "filament_diameter": s.filament_diameter,
        **dict.fromkeys(
            [f"{k}extrusion_width" for k in ("", "perimeter_", "external_perimeter_", "infill_")]
            + [f"{k}extrusion_width" for k in ("solid_infill_", "top_infill_", "first_layer_", "support_material_")],
            1.125 * s.nozzle_diameter,
        ),
        "perimeters": s.walls,
        "top_solid_layers": s.top_layers,
        "bottom_solid_layers": s.bottom_layers,
        "fill_density": f"{s.infill_density:g}%",
        "fill_pattern": s.infill_pattern,
        **dict.fromkeys(
            [
                "perimeter_speed",
                "external_perimeter_speed",
                "infill_speed",
                "solid_infill_speed",
                "top_solid_infill_speed",
            ],
            s.print_speed,
        ),
        "small_perimeter_speed": s.print_speed,
        "first_layer_speed": s.first_layer_speed,
        "travel_speed": s.travel_speed,
        "temperature": s.nozzle_temperature,
        "first_layer_temperature": s.nozzle_temperature,
        "bed_temperature": s.bed_temperature,
        "first_layer_bed_temperature": s.bed_temperature,
        "retract_length": s.retract_length,
        "retract_speed": s.retract_speed,
        "retract_before_travel": s.retract_min_travel,
        "only_retract_when_crossing_perimeters": 1,
        "bed_shape": "0x0,{0:g}x0,{0:g}x{1:g},0x{1:g}".format(*MACHINE.size),
        "max_print_height": MACHINE.size[2],
        "seam_position": "rear",
        "perimeter_generator": "classic",
        "extra_perimeters": 0,
        "infill_overlap": f"{s.infill_overlap:g}%",
        "solid_infill_below_area": s.solid_below_area,
        "slowdown_below_layer_time": s.min_layer_time,
        "bridge_speed": s.bridge_speed,
        "skirts": s.skirt_loops,
        "skirt_distance": s.skirt_distance,
        "use_relative_e_distances": 1,
        "layer_gcode": "G92 E0",
        "start_gcode": "G28",
        "end_gcode": "M84",
        "filament_density": s.filament_density,
        "gcode_comments": 0,
    }
    ini.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
    command = ["prusa-slicer", "--load", str(ini), "--export-gcode", "-o", str(out), str(stl)]
    return measured(command, out, folder)


def cura(stl: Path, folder: Path, s: SliceSettings, definitions: Path) -> Run | None:
    out = folder / "cura.gcode"
    width = 1.125 * s.nozzle_diameter
    keys = {
        "machine_width": MACHINE.size[0],
        "machine_depth": MACHINE.size[1],
        "machine_height": MACHINE.size[2],
        "machine_center_is_zero": "false",
        "machine_nozzle_size": s.nozzle_diameter,
        "material_diameter": s.filament_diameter,
        "layer_height": s.layer_height,
        "layer_height_0": s.first_layer_height,
        **dict.fromkeys(
            ["line_width", "wall_line_width", "wall_line_width_0", "wall_line_width_x", "infill_line_width"]
            + ["skin_line_width", "skirt_brim_line_width"],
            width,
        ),
        "wall_line_count": s.walls,
        "top_layers": s.top_layers,
        "bottom_layers": s.bottom_layers,
        "initial_bottom_layers": s.bottom_layers,
        "infill_pattern": "lines",
        "infill_line_distance": width * 100 / s.infill_density if s.infill_density else 0,
        **dict.fromkeys(
            ["speed_print", "speed_wall", "speed_wall_0", "speed_wall_x", "speed_infill", "speed_topbottom"],
            s.print_speed,
        ),
        "speed_layer_0": s.first_layer_speed,
        "speed_print_layer_0": s.first_layer_speed,
        "speed_travel": s.travel_speed,
        "material_print_temperature": s.nozzle_temperature,
        "material_print_temperature_layer_0": s.nozzle_temperature,
        "material_bed_temperature": s.bed_temperature,
        "retraction_enable": "true",
        "retraction_amount": s.retract_length,
        "retraction_speed": s.retract_speed,
        "retraction_min_travel": s.retract_min_travel,
        "z_seam_type": "back",
        "adhesion_type": "skirt",
        "skirt_line_count": s.skirt_loops,
        "skirt_gap": s.skirt_distance,
        "support_enable": "false",
        "mesh_position_x": 0,
        "mesh_position_y": 0,
        "center_object": "true",
        "machine_start_gcode": "G28",
        "machine_end_gcode": "M84",
        "cool_min_layer_time": 5,
        "fill_perimeter_gaps": "everywhere",
        "travel_compensate_overlapping_walls_enabled": "true",
    }
    pairs = [part for key, value in keys.items() for part in ("-s", f"{key}={value}")]
    command = ["CuraEngine", "slice", "-m2", "-j", str(definitions / "fdmprinter.def.json"), "-o", str(out)]
    return measured([*command, *pairs, "-e0", *pairs, "-l", str(stl)], out, folder)


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
        other = best(lambda: prusa(stl, folder, settings), options.repeat) if shutil.which("prusa-slicer") else None
        third = None
        if shutil.which("CuraEngine") and options.cura_definitions:
            definitions = options.cura_definitions.resolve()
            third = best(lambda: cura(stl, folder, settings, definitions), options.repeat)
        if options.keep:
            for file in folder.glob("*.gcode"):
                shutil.copy(file, options.keep / f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{file.name}")
    cells = [name, f"{triangles:,}"]
    for run in (warm, cold, other, third):
        cells.append(f"{run.cpu:.2f} / {run.wall:.2f}" if run else "-")
    for theirs in (other, third):
        cells.append(f"{warm.cpu / theirs.cpu:.2f}" if warm and theirs else "-")
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
    parser.add_argument(
        "--cura-definitions", type=Path, help="folder with fdmprinter.def.json and fdmextruder.def.json"
    )
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


TASK = "--task"
TASKS: dict[str, Callable[..., Any]] = {"facts": facts, "make": make, "work": work}

if __name__ == "__main__":
    if sys.argv[1:2] == [TASK]:
        sys.stdout.write(json.dumps(TASKS[sys.argv[2]](*sys.argv[3:])))
    else:
        main()
