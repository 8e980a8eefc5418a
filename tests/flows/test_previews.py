"""What people see before they print: the model on its bed in 3D, what it would take, its layers; in a real Chromium,
with and without WebGL."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Playwright, ViewportSize, expect, sync_playwright

from tests import shapes
from tests.flows.farm import RunningFarm, wait_until
from tests.slicing.test_mesh import stl

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PASSWORD = "turn-it-in-3d"
#: ms; a machine without a graphics card draws slowly
PATIENCE = 60_000
SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
#: nobody answers behind these printers: what is seen before a print asks none
PEOPLE_AND_PRINTERS = f"""
from farm.models import User
from printers.models import Grant, Role
from printers.services import add_printer
from slicing.models import PrinterProfile
ada = User.objects.create_superuser("ada", "", {PASSWORD!r})
sam = User.objects.create_user("sam", "", {PASSWORD!r})
large = PrinterProfile.objects.create(name="Large", width=400, depth=400, height=400, origin_x=-200, origin_y=-200)
for name, more in (("Anvil", {{}}), ("Forge", {{"profile": large}})):
    made = add_printer(by=ada, name=name, kind="octoprint", url="http://127.0.0.1:9", api_key="k", **more)
    Grant.objects.create(user=sam, printer=made, role=Role.SUBMIT)
"""

pytestmark = [
    pytest.mark.flow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
]
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def url(farm: RunningFarm) -> str:
    farm.manage("shell", "-c", PEOPLE_AND_PRINTERS)
    return farm.url


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as run:
        yield run


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """Of any page's scripts and policies: there are none."""
    said: list[str] = []
    yield said
    assert not said


def opened(browser: Browser, url: str, complaints: list[str]) -> Page:
    """Sam's page to give a model."""
    size = ViewportSize(width=1280, height=900)
    page = browser.new_context(viewport=size, reduced_motion="reduce", locale="en-GB").new_page()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    page.get_by_label("Name").fill("sam")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Print", exact=True).click()
    return page


def give(page: Page, folder: Path) -> None:
    file = folder / "gear.stl"
    file.write_bytes(stl(shapes.gear(12, 20, 3)))
    page.get_by_label("Drop a model here").set_input_files(file)
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
    url: str, playwright: Playwright, complaints: list[str], tmp_path: Path
) -> None:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *SOFTWARE])
    page = opened(browser, url, complaints)
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
    browser.close()


def test_without_webgl_there_are_pictures_and_a_word_why(
    url: str, playwright: Playwright, complaints: list[str], tmp_path: Path
) -> None:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-3d-apis"])
    page = opened(browser, url, complaints)
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
    browser.close()
