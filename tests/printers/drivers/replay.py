"""Recorded sockets of real servers, fed to the reducers. Excerpts: most samples in which nothing changed are left out.

OctoPrint 1.11.8 with its virtual printer; Moonraker 0.11.0 with a real Klipper v0.13 and two extruders.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from printers.drivers.base import PrinterState
from printers.drivers.moonraker_words import MoonrakerReducer
from printers.drivers.octoprint_words import OctoPrintReducer

CAPTURES = Path(__file__).resolve().parents[2] / "data" / "captures"


def rows(vendor: str, name: str) -> Iterator[dict[str, Any]]:
    for line in (CAPTURES / vendor / f"{name}.jsonl").read_bytes().splitlines():
        yield orjson.loads(line)


def octoprint_states(name: str) -> list[PrinterState]:
    reducer = OctoPrintReducer()
    return [reducer.state for row in rows("octoprint", name) if reducer.feed(row["msg"])]


def moonraker_states(name: str) -> list[PrinterState]:
    reducer, states = MoonrakerReducer(), []
    for row in rows("moonraker", name):
        if answer := row.get("subscribed"):
            reducer.attach(answer["objects"], answer["status"])
        elif not reducer.feed(row["msg"]):
            continue
        states.append(reducer.state)
    return states


def story(states: list[PrinterState]) -> list[str]:
    """The states without repetition, as people would tell them: "printing a.gcode", "idle after completed"."""
    return [line for line, _ in groupby(map(_told, states))]


def _told(state: PrinterState) -> str:
    doing = f"{state.status} {state.job.file}" if state.job else str(state.status)
    return f"{doing} after {state.ended.outcome}" if state.ended else doing
