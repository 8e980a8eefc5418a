"""Every page as everybody sees it: for screen readers and keyboards, on a phone and a desk, dark and light. And lists
that stay true while they are looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import shapes
from tests.flows import browsing
from tests.flows.browsing import assert_fits_and_reads_well, facts, furnish, needs_axe, needs_chromium, stumbles
from tests.flows.client import Client
from tests.flows.farm import RunningFarm, wait_until
from tests.peers import SimulatorPeer

#: of the simulated printers: hours become seconds
SPEED = 300

pytestmark = [*needs_chromium, needs_axe, pytest.mark.usefixtures("quiet_consoles")]


class Lab(browsing.Lab):
    """A farm in the middle of a day: Anvil prints Sam's gear, Bellows holds Tina's part that is done, Crucible is off;
    one job waits, one is held, one awaits approval. Olivia operates the printers, Sam and Tina print."""

    #: what a busy farm or a machine that is off may fail to give at the moment, pages say themselves
    forgiven = re.compile(r"status of 503 .*/(layers|toolpaths|shape|camera)")

    def __init__(self, farm: RunningFarm, browser: Browser, folder: Path, *peers: SimulatorPeer) -> None:
        super().__init__(farm, browser)
        self.folder = folder
        self.anvil, bellows = peers
        self.ids = furnish(
            farm,
            {"olivia": 3, "sam": 2, "tina": 2},
            Anvil=facts(self.anvil, place="Bench"),
            Bellows=facts(bellows, place="Bench"),
            Crucible=facts(kind="moonraker", place="Bench"),
        )
        self.ada, self.sam, self.tina = (Client(farm.url, who, browsing.PASSWORD) for who in ("ada", "sam", "tina"))
        self._begin_the_day()

    def _begin_the_day(self) -> None:
        self.done = self.submit(self.tina, shapes.box(8, 8, 4), "peg.stl", "Bellows")
        self.live = self.submit(self.sam, shapes.gear(24, 20, 12), "gear.stl", "Anvil")
        self.waiting = self.submit(self.sam, shapes.box(12, 12, 4), "hinge.stl", "Anvil")
        self.held = self.submit(self.sam, shapes.box(9, 9, 4), "held.stl", "Anvil", hold=True)
        self.asked = self.submit(self.sam, shapes.box(20, 20, 4), "lid.stl")
        self.approve(self.done, self.live)
        self.ada.wait_for_state(
            self.ids["Anvil"], lambda now: now["job"] and now["job"]["progress"] > 0.05, "prints the gear"
        )
        self.anvil.fault("speed", speed=1)  # hours, so that it does not end meanwhile
        self.approve(self.waiting, self.held)
        self.model = self.sam.upload_shape(self.folder, shapes.box(30, 30, 8), "tray.stl")
        self.sam.wait_for_job(self.asked, "awaiting_approval")
        self.ada.wait_for_job(self.done, "completed")

    def submit(self, who: Client, shape: shapes.Triangles, name: str, printer: str | None = None, **wanted: Any) -> str:
        """The new job's id."""
        model = who.upload_shape(self.folder, shape, name)
        return who.submit(model, self.ids[printer] if printer else None, settings={}, **wanted)

    def approve(self, *jobs: str) -> None:
        """Ada lets them into the queue."""
        for job in jobs:
            self.ada.wait_for_job(job, "awaiting_approval")
            self.ada.post(f"jobs/{job}/approve/")

    def path(self, template: str) -> str:
        printers = {name.lower(): printer for name, printer in self.ids.items()}
        jobs = {"live": self.live, "done": self.done, "waiting": self.waiting, "asked": self.asked}
        return template.format(**printers, **jobs, model=self.model)


@pytest.fixture(scope="module")
def environment() -> dict[str, str | None]:
    return {"FARM_APPROVAL": "true"}


@pytest.fixture(scope="module")
def lab(plain_farm: RunningFarm, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with SimulatorPeer("octoprint", SPEED) as anvil, SimulatorPeer("moonraker", SPEED) as bellows:
        yield Lab(plain_farm, browser, tmp_path_factory.mktemp("files"), anvil, bellows)


def quiet(page: Page) -> bool:
    """Everything is loaded, and nothing that was asked for afterwards is on its way. (A network is never idle here:
    cameras are looked at, and the farm talks.)"""
    there = "document.readyState === 'complete' && !document.querySelector('.htmx-request')"
    return bool(page.evaluate(there))


def settled(page: Page, what: str) -> bool:
    """A page asks once more when it is connected, for what happened meanwhile: that is answered."""
    asked = """what => performance.getEntriesByType('resource').some(
      (one) => ['fetch', 'xmlhttprequest'].includes(one.initiatorType) && one.name.includes(what) && one.duration)"""
    return bool(page.evaluate(asked, what))


# -- what every page must be
def assert_well_made(page: Page) -> None:
    """One heading, a title, landmarks; on a phone and a desk, dark and light."""
    assert page.title().strip()
    assert page.locator("h1").count() == 1, page.url
    assert page.locator("main").count() == 1, page.url
    assert_fits_and_reads_well(page)


#: what everybody opens
COMMON = (
    "/", "/printers/{anvil}/", "/printers/{bellows}/", "/printers/{crucible}/", "/submit/", "/queue/", "/prints/",
)  # fmt: skip
PAGES = {
    "sam": (*COMMON, "/submit/{model}/", "/jobs/{live}/", "/jobs/{waiting}/", "/jobs/{asked}/", "/queue/?who=me"),
    "olivia": (*COMMON, "/jobs/{live}/"),
    "ada": (*COMMON, "/jobs/{done}/", "/jobs/{asked}/", "/prints/?who=all", "/prints/?who=all&q=nothing", "/tv/"),
}
OPERATORS_ONLY = re.compile("Pause|Resume|Clear bed|Emergency|Home|Send to the printer|Console", re.IGNORECASE)
STAFF_ONLY = {
    "sam": re.compile("Approve|Reject|Admin|Everybody's|Maintenance|Look at it", re.IGNORECASE),
    "olivia": re.compile("Approve|Reject|Admin|Everybody's"),
}


def offers(page: Page, words: re.Pattern[str]) -> list[str]:
    """The names of buttons and links that match."""
    found = [row for role in ("button", "link") for row in page.get_by_role(role, name=words).all()]
    return [row.inner_text() or row.get_attribute("aria-label") or "" for row in found if row.is_visible()]


@pytest.mark.parametrize(("who", "template"), [(who, template) for who, pages in PAGES.items() for template in pages])
def test_a_page_is_well_made_and_offers_nobody_what_only_staff_may(lab: Lab, who: str, template: str) -> None:
    page = lab.page(who, lab.path(template))
    wait_until(partial(quiet, page), "the page is there", 60)
    if template == "/printers/{bellows}/":
        expect(page.locator(".chart canvas")).to_be_visible()
    if who in STAFF_ONLY:
        assert offers(page, STAFF_ONLY[who]) == []
    assert_well_made(page)
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


def test_the_login_and_errors_are_well_made(lab: Lab) -> None:
    for who, path in (("", "/login/"), ("sam", "/nowhere/")):
        page = lab.page(who, path)
        assert_well_made(page)
    lab.forgive(r"\b404\b")


def test_a_screen_in_the_lab_is_well_made(lab: Lab) -> None:
    page = lab.page("ada", "/tv/")
    page.get_by_label("Where the screen hangs").fill("Entrance hall")
    page.get_by_role("button", name="Make a link").click()
    address = page.get_by_label("Address for Entrance hall").input_value()
    screen = lab.page("", address.removeprefix(lab.farm.url))
    expect(screen.get_by_text("Anvil").first).to_be_visible()
    assert_well_made(screen)


def test_the_admin_is_well_made(lab: Lab) -> None:
    for path in ("/admin/", "/admin/printers/printer/", "/admin/jobs/job/"):
        page = lab.page("ada", path)
        wait_until(partial(quiet, page), "the page is there", 60)
        assert page.title().strip()
        assert stumbles(page) == [], path


# -- by keyboard
FOCUSED = """() => {
  const at = document.activeElement, box = at.getBoundingClientRect();
  const shown = (el) => getComputedStyle(el).outlineStyle !== "none" && getComputedStyle(el).outlineWidth !== "0px";
  const frame = at.closest("label, .option, .card") || at;
  return {
    name: (at.getAttribute("aria-label") || at.innerText || at.name || at.id || at.tagName).trim().slice(0, 60),
    on: at !== document.body, seen: box.width > 0 && box.height > 0, ring: shown(at) || shown(frame),
  };
}"""


def walk(page: Page, most: int = 80) -> list[str]:
    """Tab through a page: what is reached, in order. All of it can be seen and shows that it is reached."""
    reached: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if not at["on"]:
            break
        assert at["seen"], f"{page.url}: {at['name']} is reached, and not to be seen"
        assert at["ring"], f"{page.url}: nothing shows that {at['name']} is reached"
        reached.append(at["name"])
    return reached


@pytest.mark.parametrize(
    ("who", "template", "deeds"),
    [
        (
            "sam",
            "/queue/",
            ["Print a model", "hinge.stl", "Put hinge.stl on hold", "Cancel hinge.stl", "Start held.stl"],
        ),
        ("sam", "/prints/", ["Completed", "Search by file or printer", "gear.stl"]),
        ("sam", "/jobs/{live}/", ["G-code", "Cancel", "Watch it on Anvil"]),
        ("ada", "/queue/", ["Look at it: lid.stl", "Approve lid.stl"]),
        ("ada", "/jobs/{asked}/", ["Approve", "why", "Reject"]),
        ("sam", "/submit/", ["file"]),
        ("olivia", "/", ["Bellows", "Anvil"]),
    ],
)
def test_whatever_can_be_done_is_reached_by_keyboard_in_the_order_of_the_page(
    lab: Lab, who: str, template: str, deeds: list[str]
) -> None:
    page = lab.page(who, lab.path(template))
    wait_until(partial(quiet, page), "the page is there", 60)
    reached = walk(page)
    assert reached[0] == "Skip to the page"
    places = [next((n for n, name in enumerate(reached) if name == deed), None) for deed in deeds]
    assert None not in places, f"{deeds} of {reached}"
    assert places == sorted(places, key=lambda place: place or 0)


def test_what_is_asked_for_anew_keeps_the_keyboard_and_what_was_written(lab: Lab) -> None:
    page = lab.page("ada", f"/jobs/{lab.asked}/")
    wait_until(lambda: settled(page, lab.asked), "nothing more is asked for", 60)
    why = page.get_by_label("Or say why not")
    why.fill("The lid has no hinge")
    page.evaluate("document.querySelector('#job').wasHere = true")
    page.evaluate("htmx.trigger('#job', 'farm-look')")
    wait_until(lambda: page.evaluate("!document.querySelector('#job').wasHere"), "it is another element", 60)
    expect(why).to_be_focused()
    expect(why).to_have_value("The lid has no hinge")


def test_the_frame_of_a_page_can_be_skipped(lab: Lab) -> None:
    page = lab.page("sam", "/queue/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Print a model")).to_be_focused()


def test_a_question_keeps_the_keyboard_and_gives_it_back(lab: Lab) -> None:
    page = lab.page("sam", f"/jobs/{lab.waiting}/")
    wait_until(lambda: settled(page, lab.waiting), "nothing more is asked for", 60)
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    cancel.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Cancel hinge.stl?")).to_be_visible()
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()  # what does no harm
    assert stumbles(page) == []
    page.keyboard.press("Escape")
    expect(cancel).to_be_focused()
    assert lab.sam.job(lab.waiting)["status"] == "ready"


# -- who may do what
def test_who_prints_is_offered_no_machine(lab: Lab) -> None:
    """Beyond pausing and cancelling what is printed of their own: so not Sam, but Tina."""
    page = lab.page("tina")
    for template in COMMON:
        page.goto(lab.farm.url + lab.path(template))
        assert offers(page, OPERATORS_ONLY) == [], template


def test_an_operator_is_offered_the_machine(lab: Lab) -> None:
    page = lab.page("olivia", lab.path("/printers/{anvil}/"))
    expect(page.get_by_role("button", name="Pause").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Emergency")).first).to_be_visible()


def test_staff_are_offered_everything(lab: Lab) -> None:
    page = lab.page("ada", "/queue/")
    expect(page.get_by_role("button", name="Approve lid.stl")).to_be_visible()
    expect(page.get_by_role("link", name="Admin").first).to_be_visible()
    page.goto(lab.farm.url + "/prints/?who=all")
    expect(page.get_by_role("row").filter(has_text="peg.stl")).to_contain_text("Tina")


# -- lists that stay true
def test_a_queue_that_is_looked_at_follows_what_happens_and_asks_only_for_what_changed(lab: Lab) -> None:
    page = lab.page("sam", "/queue/")
    wait_until(partial(quiet, page), "the page is there", 60)
    page.evaluate("window.loaded = 'once'")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    job = lab.submit(lab.sam, shapes.box(11, 11, 4), "new.stl", "Anvil")
    lab.approve(job)
    new = page.get_by_role("listitem").filter(has_text="new.stl")
    expect(new).to_contain_text("Anvil is printing another job")
    lab.sam.post(f"jobs/{job}/hold/")
    expect(new.get_by_text("On hold", exact=True)).to_be_visible()
    lab.sam.post(f"jobs/{job}/cancel/")
    expect(new).to_have_count(0)
    assert page.evaluate("window.loaded") == "once"
    assert any(f"changed={job}" in url for url in asked), asked


def test_rows_that_did_not_change_stay_the_elements_they_are(lab: Lab) -> None:
    page = lab.page("ada", "/queue/")
    wait_until(partial(quiet, page), "the page is there", 60)
    row = page.get_by_role("listitem").filter(has_text="hinge.stl")
    cancel = row.get_by_role("button", name="Cancel hinge.stl")
    wait_until(lambda: settled(page, "/queue/"), "nothing more is asked for", 60)
    row.evaluate("element => { element.wasHere = true; }")
    cancel.focus()
    lab.sam.post(f"jobs/{lab.held}/start/")
    expect(page.get_by_role("listitem").filter(has_text="held.stl")).to_contain_text("Anvil is printing another job")
    assert row.evaluate("element => element.wasHere") is True
    expect(cancel).to_be_focused()
    lab.sam.post(f"jobs/{lab.held}/hold/")
    expect(page.get_by_role("button", name="Start held.stl")).to_be_visible()


def test_a_bar_moves_without_asking_the_farm(lab: Lab) -> None:
    page = lab.page("sam", "/queue/")
    bar = page.get_by_role("progressbar", name="Progress of gear.stl on Anvil")
    wait_until(lambda: settled(page, "/queue/"), "nothing more is asked for", 60)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    before = bar.evaluate("bar => bar.value")
    lab.anvil.fault("speed", speed=20)
    wait_until(lambda: bar.evaluate("bar => bar.value") > before, "the bar moves", 60)
    lab.anvil.fault("speed", speed=1)
    assert not [url for url in asked if "changed=" in url]


def test_a_print_is_found_in_the_history_and_printed_again(lab: Lab) -> None:
    page = lab.page("tina", "/prints/")
    page.get_by_role("searchbox").fill("peg")
    page.get_by_role("searchbox").press("Enter")
    row = page.get_by_role("row").filter(has_text="peg.stl")
    expect(row).to_contain_text("Completed")
    expect(row).to_contain_text("0.08 m")
    row.get_by_role("button", name="Print peg.stl again").click()
    page.get_by_role("button", name="Print it").click()
    expect(page.get_by_role("heading", name="peg.stl")).to_be_visible()
    expect(page.locator("#job-status")).to_have_text("Awaits approval")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#job-status")).to_have_text("Cancelled")
