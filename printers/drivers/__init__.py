"""How the farm talks to printers: one driver per vendor behind :class:`printers.drivers.base.PrinterDriver`."""

from __future__ import annotations

from collections.abc import Callable

from printers.drivers.base import PrinterDriver
from printers.drivers.moonraker import MoonrakerDriver
from printers.drivers.octoprint import OctoPrintDriver

DRIVERS: dict[str, type[PrinterDriver]] = {
    "octoprint": OctoPrintDriver,
    "moonraker": MoonrakerDriver,
}


def driver_for(
    kind: str, url: str, api_key: str, check_address: Callable[[str], str | None] | None = None
) -> PrinterDriver:
    """The driver of a printer; connects to nothing until it is used. Raises KeyError for a kind that is none."""
    return DRIVERS[kind](url, api_key, check_address)
