"""The wall in a real Chromium: found, ordered, selected, dropped on; and a screen that hangs in the lab."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.flows.client import Client
from tests.flows.farm import RunningFarm
from tests.flows.test_browser import stl
from tests.flows.test_pages import AXE, DESK, PHONE, stumbles
from tests.peers import SimulatorPeer
from tests.shapes import box

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PASSWORD = "wide-wall-42"
#: ms
PATIENCE = 60_000
#: Ada runs the lab, Olivia operates its printers but only looks at Crucible, Sam prints
PEOPLE = f"""
from farm.models import User
User.objects.create_superuser("ada", "", {PASSWORD!r}, first_name="Ada")
for name in ("olivia", "sam"):
    User.objects.create_user(name, "", {PASSWORD!r}, first_name=name.capitalize())
"""
GRANTS = """
from farm.models import User
from printers.models import Grant, Printer
for name, on, role in (("olivia", "Anvil", 3), ("olivia", "Bellows", 3), ("olivia", "Crucible", 1),
                       ("sam", "Anvil", 2), ("sam", "Bellows", 2), ("sam", "Crucible", 1)):
    Grant.objects.create(user=User.objects.get(username=name), printer=Printer.objects.get(name=on), role=role)
"""
#: something came upon Anvil's bed, and no page has heard of it yet
SOILED_UNHEARD = """
from django.db.models import F
from printers.models import Printer
Printer.objects.filter(name="Anvil").update(bed=F("bed") + 1)
"""

pytestmark = [
    pytest.mark.flow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
    pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (make dev)"),
]
expect.set_options(timeout=PATIENCE)


@dataclass
class Lab:
    """Anvil and Bellows are idle with beds that are not clear, Crucible does not answer. ``complaints``: what no page
    may give a browser reason for."""

    farm: RunningFarm
    browser: Browser
    peers: dict[str, SimulatorPeer]
    ids: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    contexts: dict[str, BrowserContext] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.farm.manage("shell", "-c", PEOPLE)
        self.ada = Client(self.farm.url, "ada", PASSWORD)
        for name, place in (("Anvil", "Hall"), ("Bellows", "Cellar"), ("Crucible", "Hall")):
            peer = self.peers.get(name)
            server = {"url": peer.url, "api_key": peer.api_key} if peer else {"url": "http://127.0.0.1:9"}
            made = self.ada.post("printers/", name=name, kind="octoprint", place=place, **server)
            self.ids[name] = made["id"]
        self.farm.manage("shell", "-c", GRANTS)
        for name in self.peers:
            self.ada.wait_for_state(self.ids[name], lambda now: now["status"] == "idle", "is idle")

    def page(self, who: str, path: str = "/") -> Page:
        """In this person's browser; "" is nobody's."""
        if who not in self.contexts:
            made = self.browser.new_context(timezone_id="UTC", locale="en-GB", viewport=DESK, reduced_motion="reduce")
            made.set_default_timeout(PATIENCE)
            self.contexts[who] = made
            if who:
                log_in(made.new_page(), self.farm.url, who)
        page = self.contexts[who].new_page()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(self.farm.url + path)
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location.get('url')}")


def log_in(page: Page, url: str, who: str) -> None:
    page.goto(url)
    page.get_by_label("Name").fill(who)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    page.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    farm = RunningFarm(tmp_path_factory.mktemp("farm"), environment={"FARM_STATIC_PLAIN": "true"})
    with sync_playwright() as playwright, SimulatorPeer("octoprint") as anvil, SimulatorPeer("octoprint") as bellows:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield Lab(farm, browser, {"Anvil": anvil, "Bellows": bellows})
        browser.close()
    farm.stop()


@pytest.fixture(autouse=True)
def quiet_consoles(lab: Lab) -> Iterator[None]:
    """No script, style or policy of any page complains."""
    lab.complaints.clear()
    yield
    for page in [page for context in lab.contexts.values() for page in context.pages]:
        page.close()
    assert not lab.complaints


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
    lab.farm.manage("shell", "-c", SOILED_UNHEARD)
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
    part = stl(box(20, 20, 10), tmp_path / "peg.stl")
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
    for size in (DESK, PHONE):
        screen.set_viewport_size(size)
        assert stumbles(screen) == []
    lab.ada.call("patch", f"printers/{lab.ids['Bellows']}/", json={"maintenance": "Cleaning"})
    expect(screen.locator(".tv-cell", has_text="Bellows")).to_contain_text("Maintenance")
    lab.ada.call("patch", f"printers/{lab.ids['Bellows']}/", json={"maintenance": ""})

    staff.get_by_role("button", name="Revoke").click()
    staff.get_by_role("button", name="Revoke it").click()
    expect(staff.get_by_text("Revoked")).to_be_visible()
    expect(screen.get_by_role("heading", name="This screen is closed")).to_be_visible()
    assert "Bellows" not in screen.content()
    lab.complaints[:] = [text for text in lab.complaints if "404" not in text]  # the browser's own word for it
