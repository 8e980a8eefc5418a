"""PrusaSlicer (2.4 and later), run without a display."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from slicing.engines.base import Machine, SliceSettings
from slicing.engines.external import BEGIN, END, MODEL, OUT, ExternalEngine, Written, between_marks
from slicing.engines.planar import STANDS_ON_NOTHING
from slicing.presets import LINE_OVER_NOZZLE

CONFIG = "settings.ini"
_PROGRESS = re.compile(r"^(\d{1,3}) => ")
_FILAMENT = re.compile(rb"^; filament used \[mm\] = ([\d.]+)", re.MULTILINE)
#: what it says -> what its owner is told
_COMPLAINTS = (
    ("no extrusions in the first layer", STANDS_ON_NOTHING),
    ("could not fit", "PrusaSlicer finds that the print does not fit on the bed."),
    ("outside of the print volume", "PrusaSlicer finds that the print does not fit on the bed."),
    ("No layers were detected", "PrusaSlicer finds no layers in this model. Repair it, or make it larger."),
    (
        "Loading of a model file failed",
        "PrusaSlicer finds no body in this model: its triangles do not meet. Repair it.",
    ),
    ("print is empty", "PrusaSlicer finds nothing to print in this model: it is thinner than a line."),
)
#: at 100 % it knows only these
_SOLID_PATTERNS = ("rectilinear", "concentric")


class PrusaSlicer(ExternalEngine):
    name = "prusaslicer"
    heats = True

    def prepare(self, folder: Path, machine: Machine, settings: SliceSettings) -> list[str]:
        """Everything goes through the ini: the command line understands some values differently (100 % infill)."""
        lines = [f"{key} = {value}\n" for key, value in config(machine, settings).items()]
        (folder / CONFIG).write_text("".join(lines))
        program = self.site.program(self.name)
        return [program, "--load", CONFIG, "--export-gcode", "--dont-arrange", "--datadir", ".", "-o", OUT, MODEL]

    def progress_of(self, line: str) -> float | None:
        match = _PROGRESS.match(line)
        return min(int(match[1]) / 100, 1.0) if match else None

    def written(self, text: bytes, said: str, machine: Machine) -> Written:
        found = _FILAMENT.search(text)
        body = between_marks(text).replace(b"\nG92 E0\n", b"\n")  # E is relative: it would only count
        return Written(body, float(found[1]) if found else None)

    def complaint(self, said: str) -> str:
        return next((sentence for words, sentence in _COMPLAINTS if words in said), "")


def config(machine: Machine, settings: SliceSettings) -> dict[str, Any]:
    """The ini, key by key: numbers and words of ours only."""
    return {
        **_machine(machine),
        **_layers(settings),
        **_lines(machine, settings),
        **_speeds(settings),
        **_filament(settings),
        **_supports(machine, settings),
        **_walls(settings),
    }


def _machine(machine: Machine) -> dict[str, Any]:
    (x0, y0), (width, depth, height) = machine.origin, machine.size
    corners = ((x0, y0), (x0 + width, y0), (x0 + width, y0 + depth), (x0, y0 + depth))
    return {
        "printer_technology": "FFF",
        "gcode_flavor": "marlin",  # Klipper takes the same moves; neither gets limits or accelerations in the file
        "machine_limits_usage": "time_estimate_only",
        "bed_shape": ",".join(f"{x:g}x{y:g}" for x, y in corners),
        "max_print_height": f"{height:g}",
        "nozzle_diameter": f"{machine.nozzle_diameter:g}",
        "use_relative_e_distances": 1,
        "layer_gcode": "G92 E0",  # without it, it refuses relative distances
        # with heating in it, so that it adds none of its own
        "start_gcode": f"M140 S0\\nM190 S0\\nM104 S0\\nM109 S0\\n;{BEGIN}",
        "end_gcode": f";{END}",
        **{f"machine_max_feedrate_{axis}": f"{v:g}" for axis, v in zip("xyze", machine.max_speed, strict=True)},
        **{
            f"machine_max_acceleration_{axis}": f"{v:g}"
            for axis, v in zip("xyze", machine.max_acceleration, strict=True)
        },
        **{f"machine_max_jerk_{axis}": f"{v:g}" for axis, v in zip("xyze", machine.jerk, strict=True)},
        "machine_max_acceleration_extruding": f"{machine.acceleration:g}",
        "machine_max_acceleration_travel": f"{machine.acceleration:g}",
        "machine_max_acceleration_retracting": f"{machine.max_acceleration[3]:g}",
    }


def _layers(settings: SliceSettings) -> dict[str, Any]:
    vase = settings.spiral_vase
    solid = settings.infill_density >= 100
    pattern = settings.infill_pattern
    return {
        "layer_height": f"{settings.layer_height:g}",
        "first_layer_height": f"{settings.first_layer_height:g}",
        "top_solid_layers": 0 if vase else settings.top_layers,
        "bottom_solid_layers": settings.bottom_layers,
        "top_solid_min_thickness": 0,
        "bottom_solid_min_thickness": 0,
        "fill_density": f"{0 if vase else settings.infill_density:g}%",
        "fill_pattern": "rectilinear" if solid and pattern not in _SOLID_PATTERNS else pattern,
        "infill_overlap": f"{settings.infill_overlap:g}%",
        "solid_infill_below_area": f"{settings.solid_below_area:g}",
        "elefant_foot_compensation": f"{settings.elephant_foot:g}",
        "spiral_vase": int(vase),
        "resolution": 0.0125,
    }


def _lines(machine: Machine, settings: SliceSettings) -> dict[str, Any]:
    width = settings.line_width or LINE_OVER_NOZZLE * machine.nozzle_diameter
    kinds = ("", "first_layer_", "perimeter_", "external_perimeter_", "infill_", "solid_infill_", "top_infill_")
    return {f"{kind}extrusion_width": f"{width:.4g}" for kind in kinds}


def _speeds(settings: SliceSettings) -> dict[str, Any]:
    speed = f"{settings.print_speed:g}"
    same = ("perimeter", "small_perimeter", "infill", "solid_infill", "top_solid_infill", "support_material")
    return {
        **{f"{kind}_speed": speed for kind in same},
        "support_material_interface_speed": "100%",
        "gap_fill_speed": speed,
        "external_perimeter_speed": f"{settings.outer_wall_speed or settings.print_speed:g}",
        "first_layer_speed": f"{settings.first_layer_speed:g}",
        "bridge_speed": f"{settings.bridge_speed:g}",
        "travel_speed": f"{settings.travel_speed:g}",
        "max_volumetric_speed": f"{settings.max_flow:g}",
        "default_acceleration": 0,
    }


def _filament(settings: SliceSettings) -> dict[str, Any]:
    fan = f"{settings.fan_speed:.0f}"
    return {
        "filament_diameter": f"{settings.filament_diameter:g}",
        "filament_density": f"{settings.filament_density:g}",
        "extrusion_multiplier": f"{settings.extrusion_multiplier:g}",
        "temperature": f"{settings.nozzle_temperature:.0f}",
        "first_layer_temperature": f"{settings.first_heat.nozzle:.0f}",
        "bed_temperature": f"{settings.bed_temperature:.0f}",
        "first_layer_bed_temperature": f"{settings.first_heat.bed:.0f}",
        "retract_length": f"{settings.retract_length:g}",
        "retract_speed": f"{settings.retract_speed:g}",
        "retract_before_travel": f"{settings.retract_min_travel:g}",
        "retract_lift": f"{settings.z_hop:g}",
        "wipe": int(settings.wipe > 0),
        "cooling": 1,
        "fan_always_on": int(settings.fan_speed > 0),
        "min_fan_speed": fan,
        "max_fan_speed": fan,
        "bridge_fan_speed": f"{settings.bridge_fan_speed:.0f}",
        "disable_fan_first_layers": 1,
        "fan_below_layer_time": 0,
        "slowdown_below_layer_time": f"{settings.min_layer_time:.0f}",
        "min_print_speed": f"{settings.min_print_speed:g}",
    }


def _supports(machine: Machine, settings: SliceSettings) -> dict[str, Any]:
    wanted = settings.supports != "none" and not settings.spiral_vase
    width = settings.line_width or LINE_OVER_NOZZLE * machine.nozzle_diameter
    return {
        "support_material": int(wanted),
        "support_material_auto": 1,
        "support_material_buildplate_only": int(settings.supports == "bed"),
        "support_material_threshold": f"{max(1.0, 90.0 - settings.support_angle):.0f}",  # from the horizontal there
        "support_material_spacing": f"{width * (100.0 / settings.support_density - 1.0):.3f}",
        "support_material_contact_distance": f"{settings.support_gap:g}",
        "support_material_xy_spacing": f"{settings.support_distance:g}",
        "support_material_interface_layers": settings.support_roof_layers,
    }


def _walls(settings: SliceSettings) -> dict[str, Any]:
    vase = settings.spiral_vase
    return {
        "perimeters": 1 if vase else settings.walls,
        "extra_perimeters": 0 if vase else 1,
        "ensure_vertical_shell_thickness": 0 if vase else 1,
        "external_perimeters_first": int(settings.outer_wall_first),
        "seam_position": settings.seam,
        "avoid_crossing_perimeters": int(settings.combing),
        "bridge_flow_ratio": f"{settings.bridge_flow:g}",
        "skirts": settings.skirt_loops,
        "skirt_distance": f"{settings.skirt_distance:g}",
        "brim_type": "outer_only" if settings.brim_width else "no_brim",
        "brim_width": f"{settings.brim_width:g}",
    }
