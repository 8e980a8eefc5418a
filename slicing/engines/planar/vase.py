"""Vase mode: one wall that rises all the time, so that no layer shows where it begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slicing.engines.base import SliceSettings as Settings
from slicing.engines.base import SlicingError
from slicing.engines.planar.cut import Layers
from slicing.engines.planar.paths import OUTER_WALL, Toolpaths

NEVER = 1 << 30


def effective(settings: Settings) -> Settings:
    """The settings that a vase is printed with; others as they are."""
    if not settings.spiral_vase:
        return settings
    return replace(settings, walls=1, top_layers=0, infill_density=0.0, supports="none", seam="nearest", z_hop=0.0)


def begins(settings: Settings) -> int:
    """The first layer that rises."""
    return max(1, settings.bottom_layers) if settings.spiral_vase else NEVER


def only_wall(paths: Toolpaths, layers: Layers, settings: Settings) -> Toolpaths:
    """Above the bottom the outer wall only. Raises SlicingError where that is not one single line."""
    first = begins(settings)
    if first >= len(layers):
        return paths
    rising = paths.layer >= first
    wall = rising & (paths.kind == OUTER_WALL)
    count = np.bincount(paths.layer[wall], minlength=len(layers))[first:]
    if (count != 1).any():
        layer = first + int(np.argmax(count != 1))
        raise SlicingError(
            f"Vase mode needs one closed outline in every layer; at a height of {layers.tops[layer]:.1f} mm there are "
            f"{count[layer - first]}."
        )
    keep = np.flatnonzero(~rising | wall)
    return paths.arranged(keep, np.zeros(len(keep), bool), np.zeros(len(keep), np.int64))
