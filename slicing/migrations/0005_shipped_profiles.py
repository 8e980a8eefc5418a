"""Common machines, materials and qualities to begin with. Values are the makers' own, or those of the profiles that
come with PrusaSlicer, rounded to the careful side."""

from django.db import migrations

FAST = {"print_speed": 100.0, "outer_wall_speed": 60.0, "first_layer_speed": 30.0, "travel_speed": 250.0}
BED, BED_READY = (f"{code} S{{first_layer_bed_temperature}}" for code in ("M140", "M190"))
NOZZLE, NOZZLE_READY = (f"{code} S{{first_layer_nozzle_temperature}}" for code in ("M104", "M109"))
BEGIN = "G90\nM83\nG92 E0\n{prime_line}"
KLIPPER = {"flavour": "klipper", "jerk_x": 5, "jerk_y": 5, "jerk_z": 5, "jerk_e": 5}


def axes(name, x, z, e):
    """x stands for y too."""
    return {f"{name}_x": x, f"{name}_y": x, f"{name}_z": z, f"{name}_e": e}


def voron(name, side, height):
    return {
        "name": name, "width": side, "depth": side, "height": height, "max_nozzle_temperature": 290, **KLIPPER,
        **axes("max_speed", 300, 15, 60), **axes("max_acceleration", 3000, 350, 5000), "acceleration": 3000,
        "start_gcode": f"{BED}\nG28\n{BED_READY}\nQUAD_GANTRY_LEVEL\nG28 Z\n{NOZZLE_READY}\n{BEGIN}",
        "settings": {**FAST, "retract_length": 0.6, "retract_speed": 30.0},
    }  # fmt: skip


def core_xy(name, side):
    return {
        "name": name, "width": side, "depth": side, "height": side, "max_nozzle_temperature": 295, **KLIPPER,
        **axes("max_speed", 500, 20, 30), **axes("max_acceleration", 10_000, 500, 5000), "acceleration": 5000,
        "note": "The size of Bambu Lab's machines, driven by Klipper",
        "settings": {**FAST, "print_speed": 150.0, "retract_length": 0.8, "retract_speed": 30.0},
    }  # fmt: skip


PRINTERS = [
    {
        "name": "Creality Ender-3, 0.4 mm", "max_nozzle_temperature": 255, "max_bed_temperature": 100,
        "note": "Also its many relatives of 220 x 220 mm with a Bowden tube",
        **axes("max_speed", 500, 10, 60), **axes("max_acceleration", 500, 100, 5000), "acceleration": 500,
        "jerk_x": 8, "jerk_y": 8, "jerk_z": 0.4, "jerk_e": 5,
        "settings": {"retract_length": 5.0, "retract_speed": 45.0, "travel_speed": 150.0},
    },
    {
        "name": "Prusa MK3S, 0.4 mm", "width": 250, "depth": 210, "height": 210, "max_nozzle_temperature": 290,
        **axes("max_speed", 200, 12, 120), **axes("max_acceleration", 1250, 200, 1250), "acceleration": 1250,
        "jerk_x": 8, "jerk_y": 8, "jerk_z": 0.4, "jerk_e": 1.5,
        "start_gcode": f"{BED}\n{NOZZLE}\n{BED_READY}\n{NOZZLE_READY}\nG28 W ; home\nG80 ; level\n{BEGIN}",
        "settings": {"travel_speed": 180.0},
    },
    {
        "name": "Prusa MK4, 0.4 mm", "width": 250, "depth": 210, "height": 220, "max_nozzle_temperature": 290,
        **axes("max_speed", 300, 40, 100), **axes("max_acceleration", 4000, 1000, 5000), "acceleration": 2500,
        "jerk_x": 8, "jerk_y": 8, "jerk_z": 2, "jerk_e": 10,
        "start_gcode": f"{BED}\nM104 S170 ; level without oozing\n{BED_READY}\nM109 R170\n"
        f"G28\nG29 P1\nG29 P3.2\nG29 P3.13\nG29 A\n{NOZZLE_READY}\n{BEGIN}",
        "settings": {**FAST, "retract_length": 0.7, "retract_speed": 35.0},
    },
    {
        "name": "Prusa MINI, 0.4 mm", "width": 180, "depth": 180, "height": 180, "max_nozzle_temperature": 275,
        "max_bed_temperature": 100, **axes("max_speed", 180, 12, 80), **axes("max_acceleration", 1250, 400, 4000),
        "acceleration": 1250, "jerk_x": 8, "jerk_y": 8, "jerk_z": 2, "jerk_e": 10,
        "start_gcode": f"{BED}\nM104 S170 ; level without oozing\n{BED_READY}\nM109 R170\n"
        f"G28\nG29\n{NOZZLE_READY}\n{BEGIN}",
        "settings": {"retract_length": 3.2, "retract_speed": 70.0, "travel_speed": 150.0},
    },
    core_xy("CoreXY 256 x 256 x 256, Klipper, 0.4 mm", 256),
    core_xy("180 x 180 x 180, Klipper, 0.4 mm", 180),
    voron("Voron 2.4 300, 0.4 mm", 300, 275),
    voron("Voron 2.4 350, 0.4 mm", 350, 325),
]  # fmt: skip

MATERIALS = [
    ("PLA", "Easy, stiff; softens in a hot car", {
        "first_layer_nozzle_temperature": 215.0, "nozzle_temperature": 210.0, "bed_temperature": 60.0,
        "filament_density": 1.24, "fan_speed": 100.0,
        "max_flow": 15.0,
    }),
    ("PETG", "Tough, takes a little heat", {
        "first_layer_nozzle_temperature": 230.0, "first_layer_bed_temperature": 85.0,
        "nozzle_temperature": 240.0, "bed_temperature": 90.0, "filament_density": 1.27, "fan_speed": 50.0,
        "max_flow": 8.0, "min_layer_time": 10.0,
    }),
    ("ABS", "Takes heat; wants a closed, ventilated machine", {
        "first_layer_nozzle_temperature": 255.0, "nozzle_temperature": 250.0, "bed_temperature": 100.0,
        "filament_density": 1.04, "fan_speed": 15.0,
        "bridge_fan_speed": 40.0, "max_flow": 11.0, "min_layer_time": 15.0,
    }),
    ("ASA", "Like ABS, for outdoors", {
        "nozzle_temperature": 255.0, "bed_temperature": 100.0, "filament_density": 1.07, "fan_speed": 15.0,
        "bridge_fan_speed": 40.0, "max_flow": 11.0, "min_layer_time": 15.0,
    }),
    ("TPU 95A", "Rubber: slow", {
        "nozzle_temperature": 225.0, "bed_temperature": 50.0, "filament_density": 1.21, "fan_speed": 60.0,
        "max_flow": 3.0, "retract_speed": 20.0, "min_layer_time": 10.0,
    }),
]  # fmt: skip

QUALITIES = [
    ("Draft", "Quick, with visible layers", {"layer_height": 0.28, "first_layer_height": 0.28}),
    ("Standard", "Good for most parts", {"layer_height": 0.2}),
    ("Fine", "Smooth and slow", {"layer_height": 0.12, "top_layers": 7, "bottom_layers": 5, "outer_wall_speed": 30.0}),
    ("Strong", "Thick walls and much inside, for parts that carry something", {
        "layer_height": 0.2, "walls": 4, "top_layers": 5, "bottom_layers": 5, "infill_density": 40.0,
        "infill_pattern": "gyroid",
    }),
]  # fmt: skip

LABELS = {"id", "name", "revision", "is_default", "groups", "note", "engine", "created_at"}


def ship(apps, schema_editor):
    model = {name: apps.get_model("slicing", name) for name in ("PrinterProfile", "Material", "Quality")}
    for values in PRINTERS:
        model["PrinterProfile"].objects.get_or_create(name=values["name"], defaults=values)
    for kind, rows, default in (("Material", MATERIALS, "PLA"), ("Quality", QUALITIES, "Standard")):
        for place, (name, note, values) in enumerate(rows):
            model[kind].objects.create(
                name=name, note=note, settings=values, order=10 * place, is_default=name == default
            )
    for kind, name in (("printer", "PrinterProfile"), ("material", "Material"), ("quality", "Quality")):
        for row in model[name].objects.all():
            freeze(apps.get_model("slicing", "ProfileRevision"), kind, row)


def freeze(revisions, kind, row):
    """What every profile is now, also those that were there before: the first that is kept of each."""
    if kind == "printer":
        values = {f.name: getattr(row, f.name) for f in row._meta.concrete_fields if f.name not in LABELS}
    else:
        values = row.settings
    revisions.objects.create(kind=kind, profile_id=row.pk, number=row.revision, name=row.name, values=values)


class Migration(migrations.Migration):
    dependencies = [("slicing", "0004_profiles")]

    operations = [migrations.RunPython(ship, migrations.RunPython.noop)]
