"""The wall in a real Chromium: found, ordered, selected, dropped on; and a screen that hangs in the lab."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.flows import browsing
from tests.flows.browsing import facts, furnish, needs_axe, needs_chromium, stumbles
from tests.flows.client import Client
from tests.flows.farm import RunningFarm
from tests.peers import SimulatorPeer
from tests.shapes import box, stl_file

pytestmark = [*needs_chromium, needs_axe, pytest.mark.usefixtures("quiet_consoles")]


class Lab(browsing.Lab):
    """Anvil and Bellows are idle with beds that are not clear, Crucible does not answer. Olivia operates them but only
    looks at Crucible, Sam prints."""

    def __init__(self, farm: RunningFarm, browser: Browser, anvil: SimulatorPeer, bellows: SimulatorPeer) -> None:
        super().__init__(farm, browser)
        self.ids = furnish(
            farm,
            {
                "olivia": {"Anvil": 3, "Bellows": 3, "Crucible": 1},
                "sam": {"Anvil": 2, "Bellows": 2, "Crucible": 1},
            },
            Anvil=facts(anvil, place="Hall", bed_clear=False),
            Bellows=facts(bellows, place="Cellar", bed_clear=False),
            Crucible=facts(place="Hall", bed_clear=False),
        )
        self.ada = Client(farm.url, "ada", browsing.PASSWORD)


@pytest.fixture(scope="module")
def lab(plain_farm: RunningFarm, browser: Browser) -> Iterator[Lab]:
    with SimulatorPeer("octoprint") as anvil, SimulatorPeer("octoprint") as bellows:
        yield Lab(plain_farm, browser, anvil, bellows)


def test_a_wall_is_filtered_searched_ordered_and_linked(lab: Lab) -> None:
    page = lab.page("sam")
    expect(page.locator(".card:visible h2")).to_have_text(["Anvil", "Bellows", "Crucible"])
    assert page.locator("[data-pick]").count() == 0
    assert page.get_by_role("button", name="Select").count() == 0
    page.get_by_role("link", name=re.compile("^Printing")).click()
    expect(page.get_by_text("No printer is like that now.")).to_be_visible()
    page.get_by_role("link", name=re.compile("^All 3")).click()
    page.evaluate("document.querySelector('#find').hidden = false")  # three are found without it
    page.get_by_role("searchbox").fill("hall")
    expect(page.locator(".card:visible h2")).to_have_text(["Anvil", "Crucible"])
    assert page.url.endswith("/?find=hall")
    page.get_by_role("searchbox").fill("")

    page.get_by_text("View").click()
    page.get_by_label("Group by place").check()
    expect(page.locator(".wall > :visible")).to_have_text(
        [re.compile(word) for word in ("^Cellar$", "Bellows", "^Hall$", "Anvil", "Crucible")]
    )
    page.get_by_label("Compact").check(force=True)
    again = lab.page("sam", "/?show=attention&places=1")
    expect(again.locator(".place-head")).to_have_text(["Cellar", "Hall"])
    expect(again.locator("html")).to_have_attribute("data-cards", "compact")
    expect(again.get_by_role("link", name=re.compile("^Needs attention"))).to_have_attribute("aria-current", "true")


def soil_unheard(lab: Lab, printer: str) -> None:
    """Something came upon its bed, and no page has heard of it yet."""
    with closing(sqlite3.connect(lab.farm.folder / "farm.sqlite3")) as database, database:
        database.execute("UPDATE printers_printer SET bed = bed + 1 WHERE name = ?", [printer])


def test_many_are_done_at_once_and_who_is_refused_is_named(lab: Lab) -> None:
    page = lab.page("olivia")
    expect(page.locator(".card .badge")).to_have_text(["Bed not clear", "Bed not clear", "Offline"])
    page.get_by_role("button", name="Select", exact=True).click()
    expect(page.get_by_role("checkbox", name=re.compile("^Select "))).to_have_count(2)
    page.get_by_role("checkbox", name="Select Anvil").check()
    page.get_by_role("checkbox", name="Select Bellows").click(modifiers=["Shift"])
    expect(page.get_by_text("2 selected")).to_be_visible()
    assert stumbles(page) == []
    page.get_by_role("button", name="Clear beds 2").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Are the beds empty of 2 printers?")
    expect(dialog.get_by_role("listitem")).to_have_text(["Anvil", "Bellows"])
    soil_unheard(lab, "Anvil")
    dialog.get_by_role("button", name="Yes, they are empty").click()
    expect(page.get_by_text("1 printer cleared.")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("Anvil The bed has changed since you looked.")
    expect(page.locator(".card", has_text="Bellows").locator(".badge")).to_have_text("Ready")
    expect(page.get_by_text("1 selected")).to_be_visible()
    expect(page.get_by_role("checkbox", name="Select Anvil")).to_be_checked()
    page.keyboard.press("Escape")
    expect(page.get_by_text("1 selected")).to_be_hidden()


def test_maintenance_of_many_asks_for_the_reason(lab: Lab) -> None:
    page = lab.page("ada")
    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("button", name="Select all shown").click()
    page.get_by_role("button", name="Begin maintenance 3").click()
    page.get_by_label("Why may nothing be printed on them?").fill("Cleaning")
    page.get_by_role("dialog").get_by_role("button", name="Begin").click()
    expect(page.get_by_text("3 printers in maintenance.")).to_be_visible()
    expect(page.locator(".card").get_by_text("Maintenance: Cleaning")).to_have_count(3)
    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("button", name="Select all shown").click()
    page.get_by_role("button", name="End maintenance 3").click()
    page.get_by_role("dialog").get_by_role("button", name="End it").click()
    expect(page.get_by_text("3 printers back in service.")).to_be_visible()


def drop(page: Page, on: str, file: Path) -> None:
    given = page.evaluate_handle(
        "([bytes, name]) => { const given = new DataTransfer();"
        " given.items.add(new File([new Uint8Array(bytes)], name)); return given; }",
        [list(file.read_bytes()), file.name],
    )
    card = page.locator(".card", has_text=on)
    for event in ("dragover", "drop"):
        card.dispatch_event(event, {"dataTransfer": given})


def test_a_file_is_dropped_on_the_printer_that_shall_print_it(lab: Lab, tmp_path: Path) -> None:
    part = stl_file(box(20, 20, 10), tmp_path / "peg.stl")
    page = lab.page("sam")
    drop(page, "Crucible", part)
    expect(page.locator(".card .drop-here:visible")).to_have_count(0)
    drop(page, "Bellows", part)
    expect(page.get_by_role("heading", name="peg.stl")).to_be_visible()
    assert page.url.endswith(f"?printer={lab.ids['Bellows']}")
    expect(page.get_by_role("radio", name="Bellows")).to_be_checked()


def test_a_screen_shows_the_lab_lives_and_goes_dark_when_its_link_is_revoked(lab: Lab) -> None:
    staff = lab.page("ada", "/tv/")
    staff.get_by_label("Where the screen hangs").fill("Entrance hall")
    staff.get_by_role("button", name="Make a link").click()
    address = staff.get_by_label("Address for Entrance hall").input_value().removeprefix(lab.farm.url)

    screen = lab.page("", address)
    expect(screen.locator(".tv-waiting li", has_text="Crucible")).to_contain_text("Offline")
    expect(screen.locator("[data-clock]")).to_have_text(re.compile(r"\d\d:\d\d"))
    lab.ada.call("patch", f"printers/{lab.ids['Bellows']}/", json={"maintenance": "Cleaning"})
    expect(screen.locator(".tv-cell", has_text="Bellows")).to_contain_text("Maintenance")
    lab.ada.call("patch", f"printers/{lab.ids['Bellows']}/", json={"maintenance": ""})

    staff.get_by_role("button", name="Revoke").click()
    staff.get_by_role("button", name="Revoke it").click()
    expect(staff.get_by_text("Revoked")).to_be_visible()
    expect(screen.get_by_role("heading", name="This screen is closed")).to_be_visible()
    assert "Bellows" not in screen.content()
    lab.forgive(r"\b404\b")
