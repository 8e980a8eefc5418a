"""Klipper's printer objects, as ``objects/query`` shows them, and the two of them that remember something."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from printers.simulators.machine import Machine

Status = dict[str, dict[str, Any]]
Wanted = dict[str, list[str] | None]


@dataclass
class PrintStats:
    """Klipper's print_stats. Some of its habits matter to whoever watches: print_duration stays 0 until filament
    flows, and a shutdown leaves ``paused`` behind with total_duration still growing."""

    extruded: Callable[[], float]
    clock: Callable[[], float] = time.monotonic
    filename: str = ""
    state: str = "standby"
    message: str = ""
    info: dict[str, int | None] = field(default_factory=lambda: {"total_layer": None, "current_layer": None})

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.filename, self.state, self.message = "", "standby", ""
        self.info = {"total_layer": None, "current_layer": None}
        self._started: float | None = None
        self._paused_at: float | None = None
        self._paused = self._before_filament = self._total = self._filament = 0.0
        self._extruded_before = self.extruded()

    def load(self, filename: str) -> None:
        self.reset()
        self.filename = filename

    def start(self) -> None:
        now = self.clock()
        if self._started is None:
            self._started = now
        elif self._paused_at is not None:
            self._paused += now - self._paused_at
        self._paused_at, self.state, self.message = None, "printing", ""

    def pause(self) -> None:
        if self._paused_at is None:
            self._paused_at = self.clock()
        if self.state != "error":
            self.state = "paused"

    def finish(self, state: str, message: str = "") -> None:
        """``complete``, ``cancelled`` or ``error``; nothing if no print was under way."""
        if self._started is None:
            return
        self._measure()
        if self._paused_at is not None:
            self._paused += self.clock() - self._paused_at
        self.state, self.message = state, message
        self._started = self._paused_at = None

    def set_layers(self, total: int | None, current: int | None) -> None:
        if total is not None:
            self.info = {"total_layer": total or None, "current_layer": self.info["current_layer"] or 0}
        if current is not None and self.info["total_layer"]:
            self.info = {**self.info, "current_layer": min(current, self.info["total_layer"])}

    def _measure(self) -> float:
        """Bring the totals up to date; the seconds spent paused."""
        paused = self._paused
        if self._started is not None:
            now = self.clock()
            paused += now - self._paused_at if self._paused_at is not None else 0.0
            self._filament = self.extruded() - self._extruded_before
            self._total = now - self._started
            if self._filament < 1e-7:
                self._before_filament = self._total - paused
        return paused

    def status(self) -> dict[str, Any]:
        paused = self._measure()
        return {
            "filename": self.filename,
            "total_duration": self._total,
            "print_duration": max(0.0, self._total - self._before_filament - paused),
            "filament_used": self._filament,
            "state": self.state,
            "message": self.message,
            "info": self.info,
        }


@dataclass
class SdCard:
    """Klipper's virtual_sdcard: the loaded file, and whether it is being worked on."""

    path: Path | None = None
    size: int = 0
    position: int = 0
    active: bool = False


class Source(Protocol):
    """What the objects are read from: Klippy."""

    machine: Machine
    print_stats: PrintStats
    sd: SdCard
    is_paused: bool
    heaters: dict[str, str]
    gcodes: Path
    state: str
    message: str

    def remember_position(self) -> None: ...


class Objects:
    """Reads of all printer objects, by name."""

    def __init__(self, klippy: Source) -> None:
        self.klippy = klippy

    def names(self) -> list[str]:
        return list(self._all())

    def pick(self, wanted: Wanted) -> Status:
        """Unknown objects are empty and unknown fields null, never an error. Raises TypeError for fields that are
        not a list."""
        everything = self._all()
        picked: Status = {}
        for name, fields in wanted.items():
            if fields is not None and not isinstance(fields, list):
                raise TypeError("Invalid argument")
            values = everything[name]() if name in everything else {}
            picked[name] = values if fields is None else {field: values.get(field) for field in fields}
        return picked

    def _all(self) -> dict[str, Callable[[], dict[str, Any]]]:
        heaters = {name: (lambda name=name: self._heater_status(name)) for name in self.klippy.heaters}
        return {
            "webhooks": lambda: {"state": self.klippy.state, "state_message": self.klippy.message},
            "configfile": self._config_status,
            "mcu": lambda: {"mcu_version": "simulated", "mcu_constants": {}, "last_stats": {}},
            "heaters": self._heaters_status,
            "fan": lambda: {"speed": self.klippy.machine.fan, "rpm": None},
            "gcode_move": self._gcode_move_status,
            "print_stats": lambda: self.klippy.print_stats.status(),
            "virtual_sdcard": self._sd_status,
            "pause_resume": lambda: {"is_paused": self.klippy.is_paused},
            "display_status": self._display_status,
            "exclude_object": lambda: {"objects": [], "excluded_objects": [], "current_object": None},
            "idle_timeout": self._idle_status,
            "query_endstops": lambda: {"last_query": {}},
            "toolhead": self._toolhead_status,
            "system_stats": lambda: {"sysload": 0.1, "cputime": 1.0, "memavail": 1_000_000},
            **heaters,
        }

    def _config_status(self) -> dict[str, Any]:
        sections = {"virtual_sdcard": {"path": str(self.klippy.gcodes)}, "pause_resume": {}, "display_status": {}}
        pending = {"save_config_pending": False, "save_config_pending_items": {}}
        return {"config": sections, "settings": sections, "warnings": [], **pending}

    def _heaters_status(self) -> dict[str, Any]:
        names = sorted(self.klippy.heaters, key=lambda name: (name != "heater_bed", name))
        return {"available_heaters": names, "available_sensors": names, "available_monitors": []}

    def _heater_status(self, name: str) -> dict[str, Any]:
        heater = self.klippy.machine.heaters[self.klippy.heaters[name]]
        power = 1.0 if heater.target > heater.actual else 0.0
        status = {"temperature": round(heater.actual, 2), "target": heater.target, "power": power}
        if name == "heater_bed":
            return status
        return {**status, "can_extrude": True, "pressure_advance": 0.0, "smooth_time": 0.04, "motion_queue": None}

    def _gcode_move_status(self) -> dict[str, Any]:
        machine = self.klippy.machine
        return {
            "speed_factor": machine.speed_factor,
            "speed": machine.feed,
            "extrude_factor": machine.flow_factor,
            "absolute_coordinates": machine.absolute,
            "absolute_extrude": machine.absolute_extrusion,
            "homing_origin": [0.0, 0.0, 0.0, 0.0],
            "position": list(machine.position),
            "gcode_position": list(machine.position),
        }

    def _sd_status(self) -> dict[str, Any]:
        self.klippy.remember_position()
        sd = self.klippy.sd
        return {
            "file_path": str(sd.path) if sd.path is not None else None,
            "progress": sd.position / sd.size if sd.size else 0.0,
            "is_active": sd.active,
            "file_position": sd.position,
            "file_size": sd.size,
        }

    def _display_status(self) -> dict[str, Any]:
        shown = self.klippy.machine.shown_progress
        progress = self._sd_status()["progress"] if shown is None else shown
        return {"progress": progress, "message": self.klippy.machine.message}

    def _idle_status(self) -> dict[str, Any]:
        state = "Printing" if self.klippy.sd.active or self.klippy.machine.busy else "Ready"
        return {"state": state, "printing_time": 0.0, "idle_timeout": 3600.0}

    def _toolhead_status(self) -> dict[str, Any]:
        return {
            "homed_axes": "".join(axis for axis in "xyz" if axis in self.klippy.machine.homed),
            "axis_minimum": [0.0, 0.0, 0.0, 0.0],
            "axis_maximum": [*self.klippy.machine.volume, 0.0],
            "print_time": self.klippy.machine.moved_seconds,
            "estimated_print_time": self.klippy.machine.moved_seconds,
            "stalls": 0,
            "extruder": "extruder" if self.klippy.machine.tool == 0 else f"extruder{self.klippy.machine.tool}",
            "position": list(self.klippy.machine.position),
            "max_velocity": 500.0,
            "max_accel": 3000.0,
        }
