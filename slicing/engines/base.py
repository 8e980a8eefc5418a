"""What a slicing engine takes and gives. Pure: no Django, no network.

Lengths in mm, speeds in mm/s, temperatures in degrees C, volumes in mm3, masses in g, times in s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from slicing.mesh import Mesh

#: Called with 0..1 now and then; raising from it stops the slice.
Progress = Callable[[float], None]


class SlicingError(Exception):
    """The model cannot be printed like this; the message is one sentence for its owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a G-code file must know of the printer: the values of one printer profile revision."""

    name: str = "Generic 220"
    size: tuple[float, float, float] = (220.0, 220.0, 250.0)  # printable volume x, y, z
    origin: tuple[float, float] = (0.0, 0.0)  # bed coordinates of the front left corner of that volume
    nozzle_diameter: float = 0.4
    filament_diameter: float = 1.75
    flavour: str = "marlin"  # "marlin" | "klipper"
    max_nozzle_temperature: float = 285.0
    max_bed_temperature: float = 110.0
    max_speed: tuple[float, float, float, float] = (300.0, 300.0, 12.0, 60.0)  # x, y, z, e
    max_acceleration: tuple[float, float, float, float] = (1500.0, 1500.0, 200.0, 5000.0)  # mm/s2
    acceleration: float = 1000.0  # mm/s2
    jerk: tuple[float, float, float, float] = (8.0, 8.0, 0.4, 2.5)
    start_gcode: str = ""  # templates with {variables}, see slicing.engines.templates
    end_gcode: str = ""


class Setting(Protocol):
    """Metadata of one field, see :func:`setting`."""


def setting(default: Any, meaning: str, unit: str = "", low: float | None = None, high: float | None = None) -> Any:
    """A field of SliceSettings with what a person must know of it."""
    return field(default=default, metadata={"meaning": meaning, "unit": unit, "low": low, "high": high})


def choice(default: Any, meaning: str, *options: Any) -> Any:
    """A field of SliceSettings that is one of a few words, or yes or no."""
    metadata = {"meaning": meaning, "unit": "", "low": None, "high": None, "options": options}
    return field(default=default, metadata=metadata)


class Heating(NamedTuple):
    """Degrees C."""

    nozzle: float
    bed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSettings:
    """How to print. Names and units are the API's public contract."""

    layer_height: float = setting(0.2, "Height of a layer", "mm", 0.04, 1.2)
    first_layer_height: float = setting(0.2, "Height of the first layer", "mm", 0.04, 1.2)
    nozzle_diameter: float = setting(0.4, "Must equal the printer profile's", "mm", 0.1, 2.0)
    filament_diameter: float = setting(1.75, "Must equal the printer profile's", "mm", 1.0, 3.5)
    extrusion_multiplier: float = setting(1.0, "Flow factor", "", 0.5, 1.5)
    print_speed: float = setting(50.0, "Speed of printing moves", "mm/s", 5.0, 500.0)
    first_layer_speed: float = setting(20.0, "Speed of the first layer", "mm/s", 2.0, 200.0)
    travel_speed: float = setting(130.0, "Speed of moves without printing", "mm/s", 10.0, 1000.0)
    retract_length: float = setting(0.8, "Filament pulled back before a travel", "mm", 0.0, 15.0)
    retract_speed: float = setting(35.0, "Speed of that", "mm/s", 5.0, 120.0)
    bed_temperature: float = setting(60.0, "Bed", "C", 0.0, 150.0)
    nozzle_temperature: float = setting(210.0, "Nozzle", "C", 0.0, 450.0)
    first_layer_bed_temperature: float = setting(
        0.0, "Bed while the first layer is printed; 0 = like bed_temperature", "C", 0.0, 150.0
    )
    first_layer_nozzle_temperature: float = setting(
        0.0, "Nozzle while the first layer is printed; 0 = like nozzle_temperature", "C", 0.0, 450.0
    )
    walls: int = setting(2, "Perimeters around each layer", "", 1, 20)
    top_layers: int = setting(4, "Solid layers at the top", "", 0, 100)
    bottom_layers: int = setting(4, "Solid layers at the bottom", "", 0, 100)
    infill_density: float = setting(15.0, "Infill", "%", 0.0, 100.0)
    infill_pattern: str = choice("rectilinear", "How it runs", "rectilinear", "grid", "gyroid", "concentric")
    infill_overlap: float = setting(15.0, "How far infill reaches into the innermost wall", "% of a line", 0.0, 50.0)
    solid_below_area: float = setting(10.0, "Smaller areas are filled solid", "mm2", 0.0, 1000.0)
    line_width: float = setting(0.0, "Width of a line; 0 = 1.125 times the nozzle", "mm", 0.0, 4.0)
    outer_wall_speed: float = setting(0.0, "Speed of the outermost wall; 0 = like print_speed", "mm/s", 0.0, 500.0)
    outer_wall_first: bool = choice(False, "Print the outermost wall before the inner ones", False, True)
    seam: str = choice("rear", "Where walls begin and end", "rear", "aligned", "nearest", "random")
    elephant_foot: float = setting(0.0, "How much smaller the first layer is made on each side", "mm", 0.0, 1.0)
    overhang_speed: float = setting(25.0, "Speed of walls that less than half a line is below of", "mm/s", 2.0, 500.0)
    bridge_speed: float = setting(40.0, "Speed of lines over air", "mm/s", 2.0, 500.0)
    bridge_flow: float = setting(1.0, "Flow factor of lines over air", "", 0.3, 2.0)
    bridge_fan_speed: float = setting(100.0, "Fan while printing over air", "%", 0.0, 100.0)
    skirt_loops: int = setting(1, "Lines drawn around the part first, to get the filament flowing", "", 0, 20)
    skirt_distance: float = setting(3.0, "Distance of these from the part", "mm", 0.0, 30.0)
    brim_width: float = setting(0.0, "Brim that helps the part stick; takes the skirt's place", "mm", 0.0, 30.0)
    spiral_vase: bool = choice(False, "One wall that rises without a seam, on a solid bottom; hollow", False, True)
    supports: str = choice("none", "What holds up parts that hang over air", "none", "bed", "everywhere")
    support_angle: float = setting(50.0, "Walls that lean out further than this are supported", "degrees", 0.0, 89.0)
    support_density: float = setting(15.0, "Support", "%", 5.0, 60.0)
    support_gap: float = setting(0.2, "Air between a support and what it holds", "mm", 0.0, 1.0)
    support_distance: float = setting(0.6, "Distance of supports from walls beside them", "mm", 0.1, 5.0)
    support_roof_layers: int = setting(2, "Dense layers on top of a support", "", 0, 20)
    retract_min_travel: float = setting(2.0, "Shorter travels do not retract", "mm", 0.0, 50.0)
    combing: bool = choice(True, "Travel around holes rather than across walls", False, True)
    wipe: float = setting(0.0, "Way the nozzle goes back along the line while it retracts", "mm", 0.0, 10.0)
    z_hop: float = setting(0.0, "Lift of the nozzle on travels that retract", "mm", 0.0, 5.0)
    fan_speed: float = setting(100.0, "Part cooling fan, from the second layer on", "%", 0.0, 100.0)
    min_layer_time: float = setting(6.0, "A layer that takes less is printed more slowly", "s", 0.0, 120.0)
    min_print_speed: float = setting(10.0, "But not more slowly than this", "mm/s", 1.0, 100.0)
    max_flow: float = setting(0.0, "What the hotend melts in a second; 0 = no limit", "mm3/s", 0.0, 100.0)
    filament_density: float = setting(1.24, "Density: PLA 1.24, PETG 1.27, ABS 1.04", "g/cm3", 0.5, 10.0)

    def __post_init__(self) -> None:
        for f in fields(self):
            check(f.name, getattr(self, f.name), f.default, f.metadata)

    @property
    def first_heat(self) -> Heating:
        """While the first layer is printed."""
        return Heating(
            self.first_layer_nozzle_temperature or self.nozzle_temperature,
            self.first_layer_bed_temperature or self.bed_temperature,
        )

    @property
    def later_heat(self) -> Heating:
        """From the second layer on."""
        return Heating(self.nozzle_temperature, self.bed_temperature)


def check(name: str, value: Any, default: Any, meta: Mapping[str, Any]) -> None:
    """Raises SlicingError with the range or the options of a setting."""
    options = meta.get("options")
    if options:
        if not any(value is o if isinstance(o, bool) else value == o for o in options):
            raise SlicingError(f"{name} must be one of {', '.join(map(str, options))}.")
        return
    whole = isinstance(default, int)
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not meta["low"] <= value <= meta["high"]:
        kind = "a whole number " if whole else ""
        raise SlicingError(
            f"{name} must be {kind}between {meta['low']:g} and {meta['high']:g} {meta['unit']}".rstrip() + "."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceResult:
    """What came out, beside the file itself."""

    time_s: float
    filament_mm: float
    filament_g: float
    layers: int
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]]  # of extruding moves: min, max
    facts: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """One slicer."""

    name: str
    version: str

    def slice(
        self, mesh: Mesh, machine: Machine, settings: SliceSettings, out: Path, progress: Progress | None = None
    ) -> SliceResult:
        """Write G-code for ``mesh`` (standing where it is in its own file, to be centred on the bed with its lowest
        point at z = 0) to ``out``. Raises SlicingError with a sentence for the owner."""
        ...
