"""The simulators' camera, through the drivers and as a browser would decode it."""

from __future__ import annotations

import io
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
from PIL import Image, ImageChops

from printers.drivers import driver_for
from printers.drivers.cameras import Lens
from printers.simulators.camera import picture
from printers.simulators.machine import Job, Machine
from tests.peers import SimulatorPeer


@pytest.mark.parametrize("kind", ["octoprint", "moonraker"])
def test_a_simulated_printer_has_a_camera_that_is_live(kind: str) -> None:
    with SimulatorPeer(kind) as peer:
        found = driver_for(kind, peer.url, peer.api_key).camera()
        assert found is not None
        single = list(Lens(found.snapshot, lambda host: host).pictures())
        with closing(Lens(found.stream, lambda host: host).pictures()) as stream:  # type: ignore[type-var]
            first, second = islice(stream, 2)
    assert [shown.media_type for shown in (*single, first, second)] == ["image/jpeg"] * 3
    assert decoded(single[0].data).size == (640, 480)
    assert first.data != second.data  # the time in it goes on


def test_the_print_grows_in_the_picture() -> None:
    machine = Machine()
    empty = decoded(picture(machine, "Anvil"))
    machine.job = Job(b"x" * 100, position=50)
    half = decoded(picture(machine, "Anvil"))
    machine.job.position = 100
    whole = decoded(picture(machine, "Anvil"))
    orange = [plastic(image) for image in (empty, half, whole)]
    assert orange[0] == 0 < orange[1] < orange[2]
    assert ImageChops.difference(half, whole).getbbox() is not None


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def plastic(image: Image.Image) -> int:
    """How many pixels are about as orange as the print."""
    pixels = np.asarray(image)
    red, green, blue = (pixels[..., n] for n in range(3))
    return int(((red > 200) & (green > 90) & (green < 190) & (blue < 120)).sum())
