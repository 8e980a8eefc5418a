"""One printer's page in a real Chromium: its heat, its console, its pad, its files, and the stop that stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.flows import browsing
from tests.flows.browsing import DESK, PHONE, assert_fits_and_reads_well, facts, furnish, needs_axe, needs_chromium
from tests.flows.client import Client
from tests.flows.conftest import Machine
from tests.flows.farm import RunningFarm
from tests.peers import SimulatorPeer

pytestmark = [*needs_chromium, pytest.mark.usefixtures("quiet_consoles")]


class Lab(browsing.Lab):
    """A farm with Anvil (OctoPrint) and Bellows (Moonraker), both idle. Olivia operates them, Sam prints."""

    forgiven = re.compile("^htmx:(sendAbort|afterRequest)")  # a command ended a look

    def __init__(self, farm: RunningFarm, browser: Browser, **peers: SimulatorPeer) -> None:
        super().__init__(farm, browser)
        ids = furnish(farm, {"olivia": 3, "sam": 2}, **{name: facts(peer) for name, peer in peers.items()})
        self.machines = {name: Machine(ids[name], name, peer.kind, peer) for name, peer in peers.items()}
        self.ada = Client(farm.url, "ada", browsing.PASSWORD)

    def printer(self, who: str, name: str, size: ViewportSize = DESK) -> Page:
        """The page of that printer in their browser."""
        return self.page(who, f"/printers/{self.machines[name].id}/", size)


@pytest.fixture(scope="module")
def lab(plain_farm: RunningFarm, browser: Browser) -> Iterator[Lab]:
    with SimulatorPeer("octoprint") as anvil, SimulatorPeer("moonraker") as bellows:
        yield Lab(plain_farm, browser, Anvil=anvil, Bellows=bellows)


def test_a_material_warms_the_machine_and_the_chart_follows(lab: Lab) -> None:
    page = lab.printer("olivia", "Anvil")
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
    path = f"printers/{lab.machines['Bellows'].id}/temperatures/"
    lab.ada.wait_for_state(
        lab.machines["Bellows"].id, lambda now: len(lab.ada.get(path)["times"]) >= 2, "was noted twice"
    )
    page = lab.printer("sam", "Bellows")
    expect(page.locator("[data-chart-says]")).to_contain_text(
        "Nozzle 21 °C; in the last half hour between 21 and 21 °C"
    )
    expect(page.locator("[data-heater]")).to_have_count(2)


@pytest.mark.parametrize(
    ("printer", "answer"), [("Anvil", "FIRMWARE_NAME:Simulated Marlin"), ("Bellows", "FIRMWARE_NAME:Klipper")]
)
def test_the_console_shows_what_the_machine_answers(lab: Lab, printer: str, answer: str) -> None:
    page = lab.printer("olivia", printer)
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
    page = lab.printer("olivia", "Bellows")
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
def test_files_on_the_machine_are_listed_and_deleted_after_a_question(lab: Lab, printer: str, tmp_path: Path) -> None:
    file = tmp_path / "old-part.gcode"
    file.write_text("G1 X10\n" * 1000)
    with lab.machines[printer].by_hand() as driver:
        driver.upload(file, file.name)
        page = lab.printer("olivia", printer)
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


def test_a_machine_that_prints_says_why_it_cannot_be_moved_and_can_be_stopped_on_a_phone(
    lab: Lab, tmp_path: Path
) -> None:
    page = lab.printer("olivia", "Anvil", PHONE)
    expect(page.get_by_role("button", name="X right")).to_be_enabled()
    with lab.machines["Anvil"].by_hand() as driver:
        Machine.print_by_hand(driver, tmp_path)
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
    page = lab.printer("olivia", "Bellows", PHONE)
    page.get_by_role("button", name="All axes").click()
    became = page.locator("#became")
    expect(became).to_have_text(re.compile("Home x, y, z: done"))
    expect(became).to_be_in_viewport()
    expect(became).to_be_hidden()


def test_the_stop_stays_on_a_desk_too(lab: Lab) -> None:
    page = lab.printer("olivia", "Bellows")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.get_by_role("button", name="Emergency stop")).to_be_in_viewport()


@needs_axe
def test_nobody_stumbles_over_a_page_on_which_something_was_done(lab: Lab) -> None:
    """The page as it opens is in test_pages."""
    page = lab.printer("olivia", "Bellows")
    expect(page.locator(".chart canvas")).to_be_visible()
    page.get_by_label("G-code for Bellows").fill("M115")
    page.get_by_label("G-code for Bellows").press("Enter")
    expect(page.locator("#console-log li").last).to_contain_text("Klipper")
    page.get_by_role("button", name="All axes").click()
    expect(page.locator("#commands")).to_contain_text("Home x, y, z: done")
    assert_fits_and_reads_well(page)
