"""``manage.py engines``: what slices on this machine, and how well programs are cut off."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from slicing.making import engines, site


class Command(BaseCommand):
    help = "Says which slicing engines there are on this machine, and how they are cut off from network and data."

    def handle(self, *args: Any, **options: Any) -> None:
        for engine in engines():
            state = engine["missing"] or f"version {engine['version']}"
            self.stdout.write(f"{engine['name']:<12} {state}")
        self.stdout.write(engines()[-1]["isolation"])
        self.stdout.write(f"One slice may use {site().memory >> 20} MB of memory and {site().seconds:.0f} s.")
