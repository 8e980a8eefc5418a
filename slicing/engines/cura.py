"""CuraEngine 4, the program behind Cura, without Cura."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

from slicing.engines.base import Machine, SliceSettings, SlicingError
from slicing.engines.curadefs import FILES, resolved, table
from slicing.engines.external import BEGIN, END, MODEL, OUT, ExternalEngine, Written, between_marks, filament_area
from slicing.presets import LINE_OVER_NOZZLE

_PROGRESS = re.compile(r"^Progress:\S+\s+([\d.]+)%")  # it says "%" and means 0..1
_VOLUME = re.compile(r"Filament \(mm\^3\): (\d+)")
_Z = re.compile(rb"^G[01] [^\n;]*Z([\d.]+)", re.MULTILINE)
_PRINTS = re.compile(rb"^G1 [^\n;]*[XY][^\n;]*E\d", re.MULTILINE)
_ABSOLUTE = re.compile(rb"^M82[^\n]*\n", re.MULTILINE)
_TYPE = re.compile(rb"^;TYPE:([A-Z-]+)$", re.MULTILINE)
#: its words for lines -> as viewers know them
_TYPES = {
    b"SKIRT": b"Skirt/Brim",
    b"WALL-OUTER": b"External perimeter",
    b"WALL-INNER": b"Perimeter",
    b"SKIN": b"Solid infill",
    b"FILL": b"Internal infill",
    b"SUPPORT": b"Support material",
    b"SUPPORT-INTERFACE": b"Support material interface",
}
_PATTERNS = {"rectilinear": "lines"}
_SEAMS = {"rear": "back", "aligned": "sharpest_corner", "nearest": "shortest", "random": "random"}
#: what it does with 100 % infill: every layer is skin
EVERY_LAYER = 999_999


class Cura(ExternalEngine):
    name = "cura"
    heats = False  # it would begin somewhere in the first layer, and switch the bed off before our end code

    def prepare(self, folder: Path, machine: Machine, settings: SliceSettings) -> list[str]:
        """It works nothing out by itself: it gets every one of its settings, for the machine and for its extruder."""
        definitions = self.site.definitions()
        if definitions is None:
            raise SlicingError("CuraEngine's definitions are not on this machine.")
        for name in FILES:
            shutil.copyfile(definitions / name, folder / name)
        values = resolved(table(definitions, self.site.data), config(machine, settings))
        said = [word for key, value in values.items() for word in ("-s", f"{key}={value}")]
        program = self.site.program(self.name)
        return [program, "slice", "-v", "-p", "-j", FILES[0], "-o", OUT, *said, "-e0", *said, "-l", MODEL]

    def progress_of(self, line: str) -> float | None:
        match = _PROGRESS.match(line)
        return min(float(match[1]), 1.0) if match else None

    def written(self, text: bytes, said: str, machine: Machine) -> Written:
        """The header of its file is not filled in: only what it says while it works is true."""
        volumes = _VOLUME.findall(said)
        body = _as_viewers_know(between_marks(text))
        return Written(body, float(volumes[-1]) / filament_area(machine) if volumes else None)

    def complaint(self, said: str) -> str:
        if "No mesh" in said or "failed to load" in said.lower():
            return "CuraEngine finds no body in this model: its triangles do not meet. Repair it."
        return ""


def _as_viewers_know(body: bytes) -> bytes:
    """Its comments as those of the other engines: ``;LAYER_CHANGE``, ``;Z:``, ``;TYPE:``."""
    body = _ABSOLUTE.sub(b"", body)  # it says so, and takes it back in the next line
    body = _TYPE.sub(lambda match: b";TYPE:" + _TYPES.get(match[1], match[1]), body)
    before, *layers = re.split(rb"^;LAYER:-?\d+\n", body, flags=re.MULTILINE)
    lines = [line for line in before.splitlines(keepends=True) if not line.startswith((b";", b"M105"))]
    parts, top, height = [b"".join(lines)], 0.0, 0.0
    for layer in layers:
        z = _height(layer, height)
        parts += [b";LAYER_CHANGE\n;Z:%.6g\n;HEIGHT:%.6g\n" % (z, z - top), layer]
        top, height = z, float((_Z.findall(layer) or [height])[-1])
    return b"".join(parts)


def _height(layer: bytes, before: float) -> float:
    """Where it prints: it may have gone up at the end of the layer before, and may come down from a hop only now."""
    first = _PRINTS.search(layer)
    named = _Z.findall(layer, 0, first.end() if first else len(layer))
    return float(named[-1]) if named else before


def config(machine: Machine, settings: SliceSettings) -> dict[str, Any]:
    """The settings that ours decide; all others follow from them or are Cura's defaults."""
    return {
        **_machine(machine),
        **_layers(settings),
        **_lines(machine, settings),
        **_speeds(machine, settings),
        **_filament(settings),
        **_supports(settings),
        **_walls(machine, settings),
    }


def _machine(machine: Machine) -> dict[str, Any]:
    (x0, y0), (width, depth, height) = machine.origin, machine.size
    centred = abs(x0 + width / 2) < 1e-6 and abs(y0 + depth / 2) < 1e-6
    if not centred and (x0, y0) != (0.0, 0.0):
        raise SlicingError("CuraEngine knows only beds that begin at 0, 0 or have it in their middle.")
    return {
        "machine_width": width,
        "machine_depth": depth,
        "machine_height": height,
        "machine_center_is_zero": centred,
        # the model lies where it belongs already: take back what it would add
        "center_object": False,
        "mesh_position_x": 0.0 if centred else -width / 2,
        "mesh_position_y": 0.0 if centred else -depth / 2,
        "machine_nozzle_size": machine.nozzle_diameter,
        "machine_gcode_flavor": "RepRap (Marlin/Sprinter)",
        "relative_extrusion": True,
        "machine_start_gcode": f";{BEGIN}",
        "machine_end_gcode": f";{END}",
        "material_print_temp_prepend": False,
        "material_print_temp_wait": False,
        "material_bed_temp_prepend": False,
        "material_bed_temp_wait": False,
        "machine_nozzle_temp_enabled": False,  # our start code heats
        "machine_heated_bed": False,
        "acceleration_enabled": False,
        "jerk_enabled": False,
        "prime_blob_enable": False,
    }


def _layers(settings: SliceSettings) -> dict[str, Any]:
    solid, vase = settings.infill_density >= 100, settings.spiral_vase
    top, bottom = (0, EVERY_LAYER) if solid else (settings.top_layers, settings.bottom_layers)
    return {
        "layer_height": settings.layer_height,
        "layer_height_0": settings.first_layer_height,
        "slicing_tolerance": "middle",
        "top_layers": 0 if vase else top,
        "bottom_layers": settings.bottom_layers if vase else bottom,
        "initial_bottom_layers": settings.bottom_layers if vase else bottom,
        "infill_sparse_density": 0.0 if vase else settings.infill_density,
        "infill_pattern": _PATTERNS.get(settings.infill_pattern, settings.infill_pattern),
        "infill_overlap": settings.infill_overlap,
        "min_infill_area": settings.solid_below_area,
        "infill_before_walls": False,
        "xy_offset_layer_0": -settings.elephant_foot,
        "magic_spiralize": vase,
        "smooth_spiralized_contours": vase,
    }


def _lines(machine: Machine, settings: SliceSettings) -> dict[str, Any]:
    width = settings.line_width or LINE_OVER_NOZZLE * machine.nozzle_diameter
    kinds = ("", "wall_", "skin_", "infill_", "skirt_brim_", "support_", "support_interface_", "support_roof_")
    return {
        **{f"{kind}line_width": width for kind in kinds},
        "wall_line_width_0": width,
        "wall_line_width_x": width,
        "initial_layer_line_width_factor": 100.0,
    }


def _speeds(machine: Machine, settings: SliceSettings) -> dict[str, Any]:
    speed = settings.print_speed
    half = (settings.line_width or LINE_OVER_NOZZLE * machine.nozzle_diameter) / 2
    same = ("print", "infill", "wall", "wall_x", "topbottom", "roofing", "support", "support_infill")
    return {
        **{f"speed_{kind}": speed for kind in same},
        "speed_support_interface": speed,
        "speed_wall_0": settings.outer_wall_speed or speed,
        "speed_layer_0": settings.first_layer_speed,
        "speed_print_layer_0": settings.first_layer_speed,
        "skirt_brim_speed": settings.first_layer_speed,
        "speed_slowdown_layers": 1,
        "speed_travel": settings.travel_speed,
        "speed_travel_layer_0": settings.travel_speed,
        "wall_overhang_angle": math.degrees(math.atan(half / settings.layer_height)),  # half a line hangs over
        "wall_overhang_speed_factor": min(100.0, max(1.0, 100.0 * settings.overhang_speed / speed)),
        "bridge_settings_enabled": True,
        "bridge_wall_speed": settings.bridge_speed,
        "bridge_skin_speed": settings.bridge_speed,
        "bridge_wall_material_flow": 100.0 * settings.bridge_flow,
        "bridge_skin_material_flow": 100.0 * settings.bridge_flow,
        "bridge_fan_speed": settings.bridge_fan_speed,
        "bridge_enable_more_layers": False,
    }


def _filament(settings: SliceSettings) -> dict[str, Any]:
    return {
        "material_diameter": settings.filament_diameter,
        "material_flow": 100.0 * settings.extrusion_multiplier,
        "material_print_temperature": settings.nozzle_temperature,
        "material_bed_temperature": settings.bed_temperature,
        "material_print_temperature_layer_0": settings.first_heat.nozzle,
        "material_bed_temperature_layer_0": settings.first_heat.bed,
        "retraction_enable": settings.retract_length > 0,
        "retraction_amount": settings.retract_length,
        "retraction_speed": settings.retract_speed,
        "retraction_min_travel": settings.retract_min_travel,
        "retraction_hop_enabled": settings.z_hop > 0,
        "retraction_hop": settings.z_hop,
        "cool_fan_enabled": settings.fan_speed > 0,
        "cool_fan_speed": settings.fan_speed,
        "cool_fan_speed_min": settings.fan_speed,
        "cool_fan_speed_max": settings.fan_speed,
        "cool_fan_speed_0": 0.0,
        "cool_fan_full_layer": 2,
        "cool_min_layer_time": settings.min_layer_time,
        "cool_min_speed": settings.min_print_speed,
    }


def _supports(settings: SliceSettings) -> dict[str, Any]:
    return {
        "support_enable": settings.supports != "none" and not settings.spiral_vase,
        "support_type": "buildplate" if settings.supports == "bed" else "everywhere",
        "support_angle": settings.support_angle,
        "support_infill_rate": settings.support_density,
        "support_z_distance": settings.support_gap,
        "support_xy_distance": settings.support_distance,
        "support_interface_enable": False,
        "support_roof_enable": settings.support_roof_layers > 0,
        "support_roof_height": settings.support_roof_layers * settings.layer_height,
        "support_bottom_enable": False,
    }


def _walls(machine: Machine, settings: SliceSettings) -> dict[str, Any]:
    adhesion = "brim" if settings.brim_width else "skirt" if settings.skirt_loops else "none"
    return {
        "wall_line_count": 1 if settings.spiral_vase else settings.walls,
        "outer_inset_first": settings.outer_wall_first,
        "fill_outline_gaps": True,
        "z_seam_type": _SEAMS[settings.seam],
        "z_seam_x": machine.origin[0] + machine.size[0] / 2,
        "z_seam_y": machine.origin[1] + machine.size[1] * 3,  # far behind the bed
        "z_seam_relative": False,
        "retraction_combing": "all" if settings.combing else "off",
        "adhesion_type": adhesion,
        "skirt_line_count": settings.skirt_loops,
        "skirt_gap": settings.skirt_distance,
        "skirt_brim_minimal_length": 0.0,
        "brim_width": settings.brim_width,
    }
