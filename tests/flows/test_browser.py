"""The farm through its pages only, in a real Chromium, on simulated printers that speak the real protocols."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect

from tests.flows import browsing
from tests.flows.browsing import DESK, PASSWORD, PATIENCE, PHONE, needs_chromium
from tests.flows.client import Client
from tests.flows.farm import RunningFarm, wait_until
from tests.peers import SimulatorPeer
from tests.shapes import box, stl_file

#: of the simulated printers: hours become a minute
SPEED = 200

pytestmark = [*needs_chromium, pytest.mark.usefixtures("quiet_consoles")]


class Lab(browsing.Lab):
    """Set up in the admin, as a lab does on its first day: two printers, Sam who prints, Olivia who operates them from
    her phone."""

    forgiven = re.compile("^htmx:(sendAbort|afterRequest)")  # a command ended a look

    def __init__(self, farm: RunningFarm, browser: Browser, anvil: SimulatorPeer, bellows: SimulatorPeer) -> None:
        super().__init__(farm, browser)
        self.anvil, self.bellows = anvil, bellows
        farm.environment["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
        farm.manage("createsuperuser", "--no-input", "--username", "ada", "--email", "ada@example.org")
        admin = self.page("ada", "/admin/")
        for name in ("sam", "olivia"):
            add_person(admin, farm.url, name)
        for name, peer in (("Anvil", anvil), ("Bellows", bellows)):
            add_printer(admin, farm.url, name, peer)
            for person, role in (("sam", "submit"), ("olivia", "operate")):
                add_grant(admin, farm.url, name, person, role)
        assert not self.complaints

    def screen(self, who: str) -> dict[str, Any]:
        return {"viewport": PHONE if who == "olivia" else DESK}


@pytest.fixture(scope="module")
def lab(farm: RunningFarm, browser: Browser) -> Iterator[Lab]:
    with SimulatorPeer("octoprint", SPEED) as anvil, SimulatorPeer("moonraker", SPEED) as bellows:
        yield Lab(farm, browser, anvil, bellows)


def add_person(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}/admin/farm/user/add/")
    page.fill("[name=username]", name)
    page.fill("[name=password1]", PASSWORD)
    page.fill("[name=password2]", PASSWORD)
    save(page)


def add_printer(page: Page, url: str, name: str, peer: SimulatorPeer) -> None:
    page.goto(f"{url}/admin/printers/printer/add/")
    page.fill("[name=name]", name)
    page.select_option("[name=kind]", peer.kind)
    page.fill("[name=url]", peer.url)
    page.fill("[name=api_key]", peer.api_key)
    page.check("[name=bed_clear]")
    save(page)


def add_grant(page: Page, url: str, printer: str, person: str, role: str) -> None:
    page.goto(f"{url}/admin/printers/grant/add/")
    page.select_option("[name=user]", label=person)
    page.select_option("[name=printer]", label=printer)
    page.select_option("[name=role]", label=role)
    save(page)


def save(page: Page) -> None:
    page.locator("[name=_save]").click()
    expect(page.get_by_text("was added successfully")).to_be_visible()


def card(page: Page, printer: str) -> Any:
    return page.locator("article.card").filter(has=page.get_by_role("heading", name=printer, exact=True))


def submit(page: Page, model: Path, printer: str) -> None:
    page.get_by_role("link", name="Print", exact=True).click()
    page.get_by_label("Drop a model here").set_input_files(model)
    expect(page.get_by_role("heading", name=model.name)).to_be_visible()
    page.get_by_role("radio", name=printer).check()
    page.get_by_role("radio", name="Draft").check()
    page.get_by_role("button", name="Print it").click()
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()


def clear_bed(wall: Page, printer: str, then: str = "") -> None:
    """``then``: what the card says next, unless another print begins at once."""
    card(wall, printer).get_by_role("button", name="Clear bed").click()
    wall.get_by_role("button", name="Yes, it is empty").click()
    if then:
        expect(card(wall, printer).locator(".badge")).to_have_text(then)


def percent(text: str | None) -> int:
    return int((text or "0").removesuffix(" %"))


# -- stories
def test_a_model_becomes_a_print_and_everybody_sees_it_move(lab: Lab, tmp_path: Path) -> None:
    sam, wall, operator = lab.page("sam"), lab.page("sam"), lab.page("olivia")
    wall.evaluate("window.loaded = 'once'")
    submit(sam, stl_file(box(60, 60, 40), tmp_path / "hook.stl"), "Anvil")
    expect(sam.locator("#job-status")).to_have_text("Printing")

    live = card(wall, "Anvil")
    expect(live.locator(".badge")).to_have_text("Printing")
    expect(live.get_by_text("hook.stl")).to_be_visible()
    expect(live.get_by_text("done")).to_be_visible()
    seen: set[tuple[int, float]] = set()

    def moved() -> bool:
        shown = live.locator("[data-f=percent]").text_content()
        seen.add((percent(shown), live.locator("[data-f=progress]").evaluate("bar => bar.value")))
        return len({words for words, _ in seen}) >= 3 and len({bar for _, bar in seen}) >= 3

    wait_until(moved, "the card moves", 120)
    expect(live.locator("[data-heater=tool0]")).to_contain_text("210 / 210 °C")

    # the next one waits, and is told for what
    second = lab.page("sam")
    submit(second, stl_file(box(8, 8, 4), tmp_path / "peg.stl"), "Anvil")
    second.get_by_role("link", name="Queue", exact=True).click()
    waiting = second.get_by_role("listitem").filter(has_text="peg.stl")
    expect(waiting).to_contain_text("Anvil is printing another job")

    lab.anvil.fault("speed", speed=5000)
    expect(sam.locator("#job-status")).to_have_text("Completed")
    expect(live.locator(".badge")).to_have_text("Bed not clear")
    expect(waiting).to_contain_text("Anvil waits for somebody to clear its bed")
    assert not live.get_by_role("button", name="Clear bed").count()
    clear_bed(operator, "Anvil")

    second.get_by_role("link", name="My prints").first.click()
    row = second.get_by_role("row").filter(has_text="peg.stl")
    expect(row).to_contain_text("Completed")
    expect(second.get_by_role("row").filter(has_text="hook.stl")).to_contain_text("Completed")
    expect(row).to_contain_text("Anvil")
    assert wall.evaluate("window.loaded") == "once"
    expect(live.locator(".badge")).to_have_text("Bed not clear")
    clear_bed(operator, "Anvil", then="Ready")
    lab.anvil.fault("speed", speed=SPEED)


@contextmanager
def slow_look_at_commands(page: Page) -> Iterator[None]:
    """The page asks for the newest commands, and is answered only afterwards."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.method == "GET":
            held.append(route)
        else:
            route.continue_()

    wait_until(lambda: page.evaluate("Boolean(window.htmx)"), "the page has its scripts", 60)
    page.route("**/commands/", hold)
    with page.expect_request("**/commands/"):
        page.evaluate("htmx.trigger('#commands', 'farm-look')")
    yield
    for route in held:
        route.continue_()
    page.unroute("**/commands/", hold)


def test_an_operator_pauses_resumes_and_cancels_and_is_told_what_became_of_it(lab: Lab, tmp_path: Path) -> None:
    sam = lab.page("sam")
    submit(sam, stl_file(box(60, 60, 40), tmp_path / "block.stl"), "Bellows")
    expect(sam.locator("#job-status")).to_have_text("Printing")
    lab.bellows.fault("speed", speed=1)  # it takes hours now, so it cannot end before it is cancelled
    page = lab.page("olivia")
    card(page, "Bellows").get_by_role("link").click()
    badge, outcomes = page.locator("#state .badge"), page.locator("#commands")

    with slow_look_at_commands(page):
        page.get_by_role("button", name="Pause").click()
    expect(outcomes).to_contain_text("Pause: confirmed by the printer")
    expect(badge).to_have_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(outcomes).to_contain_text("Resume: confirmed by the printer")
    expect(badge).to_have_text("Printing")

    page.get_by_role("button", name="Cancel print").click()
    page.get_by_role("button", name="Keep printing").click()
    expect(badge).to_have_text("Printing")
    page.get_by_role("button", name="Cancel print").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the print").click()
    expect(outcomes).to_contain_text("Cancel the print: confirmed by the printer")
    expect(sam.locator("#job-status")).to_have_text("Cancelled")
    expect(badge).to_have_text("Bed not clear")

    page.goto(lab.farm.url)
    clear_bed(page, "Bellows", then="Ready")
    lab.bellows.fault("speed", speed=SPEED)


def test_experts_see_what_every_setting_will_be_and_leaf_through_the_layers(lab: Lab, tmp_path: Path) -> None:
    page = lab.page("sam", "/submit/")
    page.get_by_label("Drop a model here").set_input_files(stl_file(box(30, 30, 8), tmp_path / "bracket.stl"))
    page.get_by_text("All settings").click()
    walls, heat = page.get_by_label("Walls", exact=True), page.get_by_label("Nozzle temperature", exact=True)
    expect(walls).to_have_attribute("placeholder", "2")
    page.get_by_role("radio", name="Strong").check()
    expect(walls).to_have_attribute("placeholder", "4")
    page.get_by_role("radio", name="PETG").check()
    expect(heat).to_have_attribute("placeholder", "240")
    page.get_by_label("Seam").select_option(label="Random")
    expect(page.get_by_text("1 changed")).to_be_visible()
    page.get_by_text("How it stands").click()
    page.get_by_role("radio", name="9.0 cm² on the bed").check()
    page.get_by_label("Hold it").check()
    page.get_by_role("button", name="Print it").click()

    layers = page.locator("#layers")
    expect(layers.get_by_text("Layer 40 of 40 · 8.00 mm")).to_be_visible(timeout=2 * PATIENCE)
    layers.get_by_role("button", name="One layer down").click()
    expect(layers.get_by_text("Layer 39 of 40 · 7.80 mm")).to_be_visible()
    expect(layers.locator("canvas")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#job-status")).to_have_text("Cancelled")


def reads_the_same(printer: str, painted: Page, served: Page) -> bool:
    served.reload()  # temperatures breathe
    said: str = card(painted, printer).inner_text()
    return said == card(served, printer).inner_text()


def test_what_the_server_writes_is_what_the_script_paints(lab: Lab) -> None:
    """Words and numbers are decided in two languages: printers/looks.py and web/words.js."""
    plain = lab.browser.new_context(java_script_enabled=False, storage_state=lab.context("ada").storage_state())
    served = plain.new_page()
    served.goto(lab.farm.url)
    painted = lab.page("ada")
    changed = "document.querySelectorAll('[data-f=word], [data-f=temps]').forEach((el) => el.replaceChildren('?'))"
    painted.evaluate(changed)  # so that whatever stands there then is the script's
    ada = Client(lab.farm.url, "ada", PASSWORD)
    for row in ada.every("printers/"):
        ada.call("PATCH", f"printers/{row['id']}/", json={"place": "Attic"})  # everybody is told
    for printer in ("Anvil", "Bellows"):
        expect(card(painted, printer).locator("[data-f=place]")).to_have_text("Attic")
        expect(card(painted, printer).locator(".badge")).not_to_have_text("?")
        wait_until(partial(reads_the_same, printer, painted, served), f"{printer} reads the same", 60)
    plain.close()


class Line:
    """A tab's way to the live socket, which can be cut."""

    def __init__(self, page: Page) -> None:
        self._open: list[WebSocketRoute] = []
        self.is_cut = False
        page.route_web_socket("**/ws/live/", self._begins)

    def _begins(self, socket: WebSocketRoute) -> None:
        if self.is_cut:
            socket.close()
        else:
            socket.connect_to_server()
            self._open.append(socket)

    def cut(self) -> None:
        self.is_cut = True
        for socket in self._open:
            socket.close()


def test_a_page_says_when_it_lost_the_farm_and_finds_it_again(lab: Lab) -> None:
    page = lab.page("sam")
    line = Line(page)
    page.reload()
    lost = page.get_by_text("Connection lost, showing the last known state")
    expect(lost).to_be_hidden()
    line.cut()
    expect(lost).to_be_visible()
    lab.farm.kill_child("web")
    line.is_cut = False
    expect(lost).to_be_hidden()
    expect(card(page, "Anvil").locator(".badge")).to_have_text("Ready")
    lab.forgive("WebSocket")


def test_a_refusal_is_said_where_the_reader_looks(lab: Lab, tmp_path: Path) -> None:
    page = lab.page("sam", "/submit/")
    torn = tmp_path / "torn.stl"
    torn.write_bytes(b"solid nothing")
    page.get_by_label("Drop a model here").set_input_files(torn)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Drop a model here")).to_be_enabled()
    lab.forgive(r"\b422\b")
    assert page.url.endswith("/submit/")


def test_the_admin_works_under_its_policy(lab: Lab) -> None:
    page = lab.page("ada", "/admin/printers/printer/")
    page.get_by_role("row").filter(has_text="Anvil").get_by_role("checkbox").check()
    page.locator("[name=action]").first.select_option("test_connection")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Anvil: OctoPrint 1.11.8 answers, idle.")).to_be_visible()
    for path in ("farm/user", "printers/grant", "printers/command", "jobs/job", "jobs/print", "slicing/printerprofile"):
        page.goto(f"{lab.farm.url}/admin/{path}/")
        expect(page.locator("#changelist")).to_be_visible()
