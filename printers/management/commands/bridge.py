"""``manage.py bridge``: talk to printers until told to stop."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from printers.bridge import Bridge

#: bytes for each thread instead of 8 MB: little of it is ever used, but a thousand of those are more than some systems
#: promise to a process
STACK = 2**20


class Command(BaseCommand):
    requires_system_checks = ()  # `up` and the image have looked: a bridge that was killed must be back at once
    help = "Holds the printers nobody else holds: reads their states, carries out their commands."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--most", type=int, help="printers this bridge holds at most (FARM_BRIDGE_PRINTERS)")

    def handle(self, *args: Any, **options: Any) -> None:
        threading.stack_size(STACK)
        bridge = Bridge(options["most"])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: bridge.stop())
        bridge.run()
