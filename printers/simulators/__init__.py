"""Printers that exist only as programs: an OctoPrint, a Moonraker, and a Klipper for the real Moonraker.

They speak the real protocols, on a machine that heats, moves and runs G-code (:mod:`machine`), as much faster than real
time as they are told. Each also has a door of its own for tests (:mod:`control`), by which it can be told to fail.
"""
