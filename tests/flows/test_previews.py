"""What people see before they print: the model on its bed in 3D, what it would take, its layers; in a real Chromium,
with and without WebGL."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, Playwright, expect

from tests import shapes
from tests.flows.browsing import PASSWORD, Lab, chromium, facts, furnish, needs_chromium
from tests.flows.client import Client
from tests.flows.farm import RunningFarm, wait_until

LARGE = {"width": 400, "depth": 400, "height": 400, "origin_x": -200, "origin_y": -200}

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def furnished(farm: RunningFarm) -> RunningFarm:
    """With a usual printer and a large one, both off: what is seen before a print asks none."""
    ids = furnish(farm, {"sam": 2}, Anvil=facts(), Forge=facts())
    ada = Client(farm.url, "ada", PASSWORD)
    large = ada.post("profiles/", name="Large", **LARGE)
    ada.call("PATCH", f"printers/{ids['Forge']}/", json={"profile": large["id"]})
    return farm


def sams_page(farm: RunningFarm, playwright: Playwright, *options: str) -> Iterator[Page]:
    """To give a model, in a browser with these options."""
    with chromium(playwright, *options) as browser:
        lab = Lab(farm, browser)
        with lab.quietly():
            page = lab.page("sam")
            page.get_by_role("navigation", name="Pages").get_by_role("link", name="Print", exact=True).click()
            yield page


@pytest.fixture
def with_webgl(furnished: RunningFarm, playwright: Playwright) -> Iterator[Page]:
    """Drawn in software: not every machine has a graphics card."""
    yield from sams_page(
        furnished, playwright, "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"
    )


@pytest.fixture
def without_webgl(furnished: RunningFarm, playwright: Playwright) -> Iterator[Page]:
    yield from sams_page(furnished, playwright, "--disable-3d-apis")


def give(page: Page, folder: Path) -> None:
    gear = shapes.stl_file(shapes.gear(12, 20, 3), folder / "gear.stl")
    page.get_by_label("Drop a model here").set_input_files(gear)
    page.wait_for_url(re.compile(r"/submit/[0-9a-f-]{36}/"))


def pixels(canvas: Locator) -> NDArray[np.int64]:
    """(n, 3) colours."""
    image = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
    return np.asarray(image).reshape(-1, 3).astype(int)


def share(canvas: Locator, most: int, least: int) -> float:
    """Of pixels in which one of red, green, blue (0, 1, 2) outshines another by far."""
    found = pixels(canvas)
    return float((found[:, most] - found[:, least] > 60).mean())


def test_a_model_is_seen_on_its_bed_and_what_it_takes_is_known_before_it_is_sent(
    with_webgl: Page, tmp_path: Path
) -> None:
    page = with_webgl
    give(page, tmp_path)

    model, says = page.locator("#model-view canvas"), page.locator("#model-says")
    expect(says).to_have_text("On the bed of Anvil.")
    wait_until(lambda: share(model, 2, 0) > 0.02, "the blue model is drawn", 60)
    assert pixels(model).std() > 10, "and a bed below it"
    page.get_by_role("radio", name="Anvil").check()
    page.get_by_label("Size", exact=True).fill("900")
    expect(page.get_by_text("Too large: it is")).to_contain_text("Anvil prints at most 220 × 220 × 250 mm")
    wait_until(lambda: share(model, 0, 2) > 0.02, "it is drawn red", 60)
    page.get_by_role("radio", name="Forge").check()
    expect(says).to_have_text("On the bed of Forge.")
    expect(page.get_by_text("Too large: it is")).to_be_hidden()
    wait_until(lambda: share(model, 2, 0) > 0.02, "it is drawn blue again", 60)

    page.get_by_label("Size", exact=True).fill("60")
    known = page.locator("[data-estimated]")
    expect(known).to_contain_text("to print")
    expect(known).to_contain_text("g of filament")
    layers = int(known.locator("strong").last.inner_text())
    assert layers >= 5
    page.get_by_role("button", name="Layers").click()
    seen = page.locator("#looked-at-layers")
    expect(seen.locator("[data-layer-says]")).to_contain_text(f"Layer {layers} of {layers} · ")
    wait_until(lambda: share(seen.locator("canvas"), 0, 2) > 0.005, "its walls are drawn", 60)
    seen.get_by_role("button", name="One layer down").click()
    expect(seen.locator("[data-layer-says]")).to_contain_text(f"Layer {layers - 1} of {layers} · ")

    page.get_by_role("button", name="Print it").click()
    page.wait_for_url(re.compile("/jobs/"))
    expect(page.locator("#layers [data-layer-says]")).to_contain_text(f"Layer {layers} of {layers} · ")
    wait_until(lambda: share(page.locator("#layers canvas"), 0, 2) > 0.005, "the job's layers are drawn", 60)


def test_without_webgl_there_are_pictures_and_a_word_why(without_webgl: Page, tmp_path: Path) -> None:
    page = without_webgl
    give(page, tmp_path)
    expect(page.locator("#model-says")).to_contain_text("WebGL is off")
    expect(page.get_by_alt_text("gear.stl as it will stand on the bed")).to_be_visible()
    assert page.locator("#model-view canvas").count() == 0
    expect(page.locator("[data-estimated]")).to_contain_text("layers")
    page.get_by_role("button", name="Print it").click()
    page.wait_for_url(re.compile("/jobs/"))
    picture = page.get_by_alt_text("The lines of one layer")
    expect(picture).to_have_attribute("src", re.compile("/layers/8/picture/"))
    expect(page.locator("#layers [data-layer-says]")).to_contain_text("WebGL is off")
    page.get_by_role("button", name="One layer up").click()
    expect(picture).to_have_attribute("src", re.compile("/layers/9/picture/"))
