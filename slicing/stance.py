"""How a model is to stand, as people say it: ``{"scale": [x, y, z], "rotation": [x, y, z]}``. Pure, and without numpy:
web processes look at it. The arithmetic of it is slicing.placement's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicing.engines.base import SlicingError

Three = tuple[float, float, float]
UNSCALED: Three = (1.0, 1.0, 1.0)
UPRIGHT: Three = (0.0, 0.0, 0.0)
SMALLEST, LARGEST = 0.01, 100.0  # times


@dataclass(frozen=True, slots=True, kw_only=True)
class Stance:
    """Scaled along its own axes, then turned by degrees about the fixed axes x, y and z, in that order."""

    scale: Three = UNSCALED
    rotation: Three = UPRIGHT

    @property
    def as_it_is(self) -> bool:
        return (self.scale, self.rotation) == (UNSCALED, UPRIGHT)

    @property
    def values(self) -> dict[str, list[float]]:
        """JSON; empty when it stands as it is."""
        return {} if self.as_it_is else {"scale": list(self.scale), "rotation": list(self.rotation)}


def stance(said: Mapping[str, Any]) -> Stance:
    """Raises SlicingError for what cannot be meant."""
    if unknown := sorted(set(said) - {"scale", "rotation"}):
        raise SlicingError(f"A placement has a scale and a rotation, not {', '.join(unknown)[:80]}.")
    scale = _three(said.get("scale", UNSCALED), "scale")
    rotation = _three(said.get("rotation", UPRIGHT), "rotation")
    if not all(SMALLEST <= factor <= LARGEST for factor in scale):
        raise SlicingError(f"scale must be between {SMALLEST:g} and {LARGEST:g}.")
    if not all(-360 <= angle <= 360 for angle in rotation):
        raise SlicingError("rotation must be between -360 and 360 degrees.")
    return Stance(scale=scale, rotation=tuple(math.fmod(angle, 360) + 0.0 for angle in rotation))  # type: ignore[arg-type]


def _three(value: Any, name: str) -> Three:
    numbers = list(value) if isinstance(value, list | tuple) else []
    real = all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
    if len(numbers) != 3 or not real:
        raise SlicingError(f"{name} must be three numbers, for x, y and z.")
    x, y, z = map(float, numbers)
    return x, y, z
