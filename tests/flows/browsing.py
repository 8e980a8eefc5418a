"""What all tests in a browser share: Chromium, a lab with people and printers, a browser for each of its people with
an ear at every console, and what every page must be."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    ViewportSize,
    expect,
)

from tests.flows.client import Client
from tests.flows.farm import RunningFarm
from tests.peers import SimulatorPeer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: finds what people with a screen reader or little sight stumble over; installed by npm, see package.json
AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PASSWORD = "first-layer-42"
#: ms; how long a page may take to show what it must
PATIENCE = 60_000
DESK, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=360, height=740)
#: nobody answers there
NOWHERE = "http://127.0.0.1:9"

needs_chromium = [
    pytest.mark.flow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
]
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (make dev)")
expect.set_options(timeout=PATIENCE)


@contextmanager
def chromium(playwright: Playwright, *options: str) -> Iterator[Browser]:
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", *options]
    )
    yield browser
    browser.close()


# -- a lab
#: all in one and with one hash, because every start of Django takes seconds, and every hash half of one
FURNISH = """
import json
from django.contrib.auth.hashers import make_password
from farm.models import User
from printers.models import Grant, Pool
from printers.services import add_printer
hashed = make_password(password)
ada = User.objects.create(username="ada", password=hashed, first_name="Ada", is_staff=True, is_superuser=True)
pool = Pool.objects.create(name="Lab")
made = {name: add_printer(by=ada, name=name, **facts) for name, facts in printers.items()}
pool.printers.set(made.values())
for name, role in people.items():
    user = User.objects.create(username=name, password=hashed, first_name=name.capitalize())
    if isinstance(role, int):
        Grant.objects.create(user=user, pool=pool, role=role)
    else:
        for printer, of_it in role.items():
            Grant.objects.create(user=user, printer=made[printer], role=of_it)
print(json.dumps({name: str(printer.pk) for name, printer in made.items()}))
"""


def furnish(
    farm: RunningFarm, people: Mapping[str, int | dict[str, int]], **printers: dict[str, Any]
) -> dict[str, str]:
    """Ada, who runs it, printers in one pool, and people with a role on all of it or on some of them; the printers'
    ids, once those that are somewhere are idle."""
    names = {"password": PASSWORD, "people": people, "printers": printers}
    script = "".join(f"{name} = {value!r}\n" for name, value in names.items()) + FURNISH
    ids: dict[str, str] = json.loads(farm.manage("shell", "-c", script).splitlines()[-1])
    ada = Client(farm.url, "ada", PASSWORD)
    for name, facts in printers.items():
        if facts["url"] != NOWHERE:
            ada.wait_until_idle(ids[name])
    return ids


def facts(peer: SimulatorPeer | None = None, **more: Any) -> dict[str, Any]:
    """What staff say of a printer, with a clear bed; one without a peer is off."""
    off = {"kind": "octoprint", "url": NOWHERE}
    where = {"kind": peer.kind, "url": peer.url, "api_key": peer.api_key} if peer else off
    return {**where, "bed_clear": True, **more}


class Lab:
    """A farm whose pages people open, each in a browser of their own. ``complaints``: what no page may give a browser
    reason for."""

    #: what a console may say in this lab
    forgiven = re.compile("(?!)")

    def __init__(self, farm: RunningFarm, browser: Browser) -> None:
        self.farm, self.browser = farm, browser
        self.complaints: list[str] = []
        self._contexts: dict[str, BrowserContext] = {}

    def screen(self, who: str) -> dict[str, Any]:
        """What somebody looks at the pages with."""
        return {"viewport": DESK, "reduced_motion": "reduce"}

    def context(self, who: str) -> BrowserContext:
        """This person's browser, logged in; nobody's for ""."""
        if who not in self._contexts:
            context = self.browser.new_context(timezone_id="UTC", locale="en-GB", **self.screen(who))
            context.set_default_timeout(PATIENCE)
            context.on("console", self._said)
            context.on("weberror", lambda fault: self.complaints.append(str(fault.error)))
            context.on("request", self._asked)
            if who:
                log_in(context.new_page(), self.farm.url, who)
            self._contexts[who] = context
        return self._contexts[who]

    def page(self, who: str, path: str = "/", size: ViewportSize | None = None) -> Page:
        """A new tab of theirs."""
        page = self.context(who).new_page()
        if size:
            page.set_viewport_size(size)
        page.goto(self.farm.url + path)
        return page

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """No script, style or policy of any page complains meanwhile, and no page asks anybody but the farm."""
        self.complaints.clear()
        yield
        for context in self._contexts.values():
            for page in context.pages:
                page.close()
        assert not self.complaints, self.complaints

    def forgive(self, words: str) -> None:
        """What a browser itself says about something that was done to it on purpose."""
        self.complaints[:] = [text for text in self.complaints if not re.search(words, text)]

    def _said(self, message: ConsoleMessage) -> None:
        text = f"{message.text} {message.location.get('url')}"
        if message.type == "error" and not self.forgiven.search(text):
            self.complaints.append(f"{message.page and message.page.url}: {text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.farm.url, "data:", "blob:")):
            self.complaints.append(f"{request.url} is asked")


def log_in(page: Page, url: str, who: str) -> None:
    """In this tab, which is closed then."""
    page.goto(url)
    page.get_by_label("Name").fill(who)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    page.close()


# -- what every page must be
def stumbles(page: Page) -> list[str]:
    """What is serious or critical for somebody, with where it is."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {rule['help']}: {node['target']} {node['html'][:160]} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def assert_fits_and_reads_well(page: Page) -> None:
    """On a desk and a phone, light and dark."""
    for size, scheme in ((DESK, "light"), (PHONE, "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"], f"{page.url} must be scrolled sideways: {wide} px of {size['width']}"
        found = stumbles(page)
        assert not found, f"{page.url} at {size['width']} px, {scheme}: {found}"
