"""One printer's page in a real Chromium: its heat, its console, its pad, its files, and the stop that stays."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from printers.drivers import driver_for
from tests.flows.client import Client
from tests.flows.farm import RunningFarm
from tests.peers import SimulatorPeer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PASSWORD = "warm-bed-42"
#: ms
PATIENCE = 60_000
#: Ada runs the lab, Olivia operates its printers, Sam prints
PEOPLE = f"""
from farm.models import User
from printers.models import Grant, Pool
lab = Pool.objects.create(name="Lab")
User.objects.create_superuser("ada", "", {PASSWORD!r}, first_name="Ada")
for name, role in (("olivia", 3), ("sam", 2)):
    user = User.objects.create_user(name, "", {PASSWORD!r}, first_name=name.capitalize())
    Grant.objects.create(user=user, pool=lab, role=role)
"""
INTO_THE_POOL = "from printers.models import *; Pool.objects.get(name='Lab').printers.set(Printer.objects.all())"
DESK, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)

pytestmark = [
    pytest.mark.flow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
]
expect.set_options(timeout=PATIENCE)


@dataclass
class Lab:
    """A farm with Anvil (OctoPrint) and Bellows (Moonraker), both idle. ``complaints``: what no page may give a browser
    reason for."""

    farm: RunningFarm
    browser: Browser
    peers: dict[str, SimulatorPeer]
    ids: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    contexts: dict[str, BrowserContext] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.farm.manage("shell", "-c", PEOPLE)
        self.ada = Client(self.farm.url, "ada", PASSWORD)
        for name, peer in self.peers.items():
            facts = {"name": name, "kind": peer.kind, "url": peer.url, "api_key": peer.api_key, "bed_clear": True}
            self.ids[name] = self.ada.post("printers/", **facts)["id"]
        self.farm.manage("shell", "-c", INTO_THE_POOL)
        for name in self.peers:
            self.ada.wait_for_state(self.ids[name], lambda now: now["status"] == "idle", "is idle")

    def page(self, who: str, printer: str, size: ViewportSize = DESK) -> Page:
        page = self._context(who).new_page()
        page.set_viewport_size(size)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{self.farm.url}/printers/{self.ids[printer]}/")
        return page

    def _context(self, who: str) -> BrowserContext:
        if who not in self.contexts:
            made = self.browser.new_context(timezone_id="UTC", locale="en-GB", viewport=DESK, reduced_motion="reduce")
            made.set_default_timeout(PATIENCE)
            page = made.new_page()
            page.goto(self.farm.url)
            page.get_by_label("Name").fill(who)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
            page.close()
            self.contexts[who] = made
        return self.contexts[who]

    def _said(self, message: ConsoleMessage) -> None:
        a_command_ended_a_look = message.text.startswith(("htmx:sendAbort", "htmx:afterRequest"))
        if message.type == "error" and not a_command_ended_a_look:
            self.complaints.append(f"{message.text} {message.location.get('url')}")

    @contextmanager
    def by_hand(self, printer: str) -> Iterator[Any]:
        """What somebody does at the machine itself, past the farm."""
        peer = self.peers[printer]
        driver = driver_for(peer.kind, peer.url, peer.api_key)
        yield driver
        driver.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    farm = RunningFarm(tmp_path_factory.mktemp("farm"), environment={"FARM_STATIC_PLAIN": "true"})
    with sync_playwright() as playwright, SimulatorPeer("octoprint") as anvil, SimulatorPeer("moonraker") as bellows:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield Lab(farm, browser, {"Anvil": anvil, "Bellows": bellows})
        browser.close()
    farm.stop()


@pytest.fixture(autouse=True)
def quiet_consoles(lab: Lab) -> Iterator[None]:
    """No script, style or policy of the page complains."""
    lab.complaints.clear()
    yield
    for page in [page for context in lab.contexts.values() for page in context.pages]:
        page.close()
    assert not lab.complaints


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An hour's work, if nobody ends it."""
    path = tmp_path / "by-hand.gcode"
    path.write_text("G90\nM82\nG28\n" + "".join(f"G1 X{10 + 30 * (n % 2)} F60\n" for n in range(20_000)))
    return path


def test_a_material_warms_the_machine_and_the_chart_follows(lab: Lab) -> None:
    page = lab.page("olivia", "Anvil")
    nozzle = page.locator('[data-heater="tool0"]')
    expect(nozzle.locator("[data-now]")).to_have_text("21")
    expect(page.locator(".chart canvas")).to_be_visible()
    page.get_by_role("button", name="PLA").click()
    expect(page.locator("#commands")).to_contain_text("Nozzle to 210 °C: confirmed by the printer")
    expect(nozzle.locator("[data-target]")).to_have_text("210")
    expect(nozzle.locator("[data-now]")).to_have_text("210")
    expect(page.locator("[data-chart-says]")).to_contain_text("Nozzle 210 °C, to be 210 °C")
    page.get_by_label("Nozzle to, °C").fill("40")
    page.get_by_role("button", name="Set Nozzle").click()
    expect(nozzle.locator("[data-target]")).to_have_text("40")
    page.get_by_role("button", name="All off").click()
    expect(nozzle.locator("[data-aim]")).to_be_hidden()


def test_a_chart_opens_with_what_was_before(lab: Lab) -> None:
    """Of what nobody looked at: this page is new, and a student's."""
    path = f"printers/{lab.ids['Bellows']}/temperatures/"
    lab.ada.wait_for_state(lab.ids["Bellows"], lambda now: len(lab.ada.get(path)["times"]) >= 2, "was noted twice")
    page = lab.page("sam", "Bellows")
    expect(page.locator("[data-chart-says]")).to_contain_text(
        "Nozzle 21 °C; in the last half hour between 21 and 21 °C"
    )
    expect(page.locator("[data-heater]")).to_have_count(2)


@pytest.mark.parametrize(
    ("printer", "answer"), [("Anvil", "FIRMWARE_NAME:Simulated Marlin"), ("Bellows", "FIRMWARE_NAME:Klipper")]
)
def test_the_console_shows_what_the_machine_answers(lab: Lab, printer: str, answer: str) -> None:
    page = lab.page("olivia", printer)
    line = page.get_by_label(f"G-code for {printer}")
    line.fill("M115")
    line.press("Enter")
    newest = page.locator("#console-log li").last
    expect(newest).to_contain_text(answer)
    expect(newest).to_contain_text("Olivia")
    expect(line).to_have_value("")
    line.fill("M105")
    line.press("Enter")
    expect(newest).to_contain_text(re.compile(r"T0?:[0-9.]+ */"))
    line.press("ArrowUp")
    line.press("ArrowUp")
    expect(line).to_have_value("M115")
    line.press("ArrowDown")
    expect(line).to_have_value("M105")


def test_the_pad_obeys_the_keyboard(lab: Lab) -> None:
    page = lab.page("olivia", "Bellows")
    page.get_by_role("button", name="All axes").click()
    expect(page.locator("#commands")).to_contain_text("Home x, y, z: done")
    page.get_by_role("group", name="Pad").focus()
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#commands")).to_contain_text("Move x by +1 mm: done")
    page.keyboard.press("3")
    page.keyboard.press("PageUp")
    expect(page.locator("#commands")).to_contain_text("Move z by +10 mm: done")


@pytest.mark.parametrize("printer", ["Anvil", "Bellows"])
def test_files_on_the_machine_are_listed_and_deleted_after_a_question(lab: Lab, printer: str, file: Path) -> None:
    with lab.by_hand(printer) as driver:
        driver.upload(file, "old-part.gcode")
        page = lab.page("olivia", printer)
        page.get_by_text("Files on it").click()
        row = page.locator("#files-list li").filter(has_text="old-part.gcode")
        expect(row).to_contain_text("KB")
        row.get_by_role("button", name="Delete old-part.gcode").click()
        page.get_by_role("button", name="Keep it").click()
        expect(row).to_be_visible()
        row.get_by_role("button", name="Delete old-part.gcode").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(row).to_have_count(0)
        assert driver.find_file("old-part.gcode") is None


def test_a_machine_that_prints_says_why_it_cannot_be_moved_and_can_be_stopped_on_a_phone(lab: Lab, file: Path) -> None:
    page = lab.page("olivia", "Anvil", PHONE)
    expect(page.get_by_role("button", name="X right")).to_be_enabled()
    with lab.by_hand("Anvil") as driver:
        driver.start(driver.upload(file, "by-hand.gcode").path)
        expect(page.locator("#machine")).to_contain_text("It is printing: that would ruin the print.")
        expect(page.get_by_role("button", name="X right")).to_be_disabled()
        expect(page.get_by_role("button", name="PLA")).to_be_disabled()
        expect(page.get_by_label("Nozzle to, °C")).to_be_enabled()
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        stop = page.get_by_role("button", name="Emergency stop")
        expect(stop).to_be_in_viewport()
        stop.click()
        page.get_by_role("dialog").get_by_role("button", name="Emergency stop").click()
        expect(page.locator("#state .badge")).to_have_text("Error")
        page.get_by_role("button", name="Restart firmware").click()
        page.get_by_role("dialog").get_by_role("button", name="Restart").click()
        expect(page.get_by_role("button", name="X right")).to_be_enabled()


def test_what_became_of_a_press_is_said_where_the_list_is_out_of_sight(lab: Lab) -> None:
    page = lab.page("olivia", "Bellows", PHONE)
    page.get_by_role("button", name="All axes").click()
    became = page.locator("#became")
    expect(became).to_have_text(re.compile("Home x, y, z: done"))
    expect(became).to_be_in_viewport()
    expect(became).to_be_hidden()


def test_the_stop_stays_on_a_desk_too(lab: Lab) -> None:
    page = lab.page("olivia", "Bellows")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.get_by_role("button", name="Emergency stop")).to_be_in_viewport()


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (make dev)")
@pytest.mark.parametrize("who", ["sam", "olivia", "ada"])
def test_nobody_stumbles_over_the_page(lab: Lab, who: str) -> None:
    page = lab.page(who, "Bellows")
    expect(page.locator(".chart canvas")).to_be_visible()
    for size, scheme in ((DESK, "light"), (PHONE, "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [(rule["id"], rule["nodes"]) for rule in found if rule["impact"] in ("serious", "critical")] == []
