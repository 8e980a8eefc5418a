"""Cameras through a whole farm, in a real web process: how many connections there are, and what a viewer costs who
leaves or does not read."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.flows import browsing
from tests.flows.browsing import PASSWORD, PHONE, facts, furnish, needs_chromium
from tests.flows.client import PATIENCE, Client
from tests.flows.farm import RunningFarm, wait_until
from tests.peers import SimulatorPeer
from tests.printers.drivers.raw import Raw, serving

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

PICTURE = b"\xff\xd8\xff" + bytes(500_000)


@dataclass
class Streamer:
    """A camera: as many pictures as the other end takes, at most a hundred a second."""

    picture: bytes = PICTURE
    broken: bool = False
    streams: int = 0
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, link: socket.socket, raw: Raw) -> None:
        if self.broken:
            return
        kind, picture = "Content-Type: multipart/x-mixed-replace; boundary=x", self.picture
        self._count(1)
        try:
            link.sendall(f"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n{kind}\r\n\r\n".encode())
            while not raw.over.wait(0.01):
                link.sendall(f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode())
                link.sendall(picture + b"\r\n")
                self.sent += 1
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self.lock:
            self.streams += change


@dataclass
class Lab:
    farm: RunningFarm
    camera: Streamer
    raw: Raw
    printer: str
    ada: Client
    _sessions: dict[str, requests.Session] = field(default_factory=dict)

    def change(self, **settings: Any) -> None:
        """What staff set for the printer."""
        self.ada.call("PATCH", f"printers/{self.printer}/", json=settings)

    def session(self, who: str) -> requests.Session:
        """Logged in as people are: with a cookie. Once, because a password takes its time."""
        if who in self._sessions:
            return self._sessions[who]
        session = self._sessions[who] = requests.Session()
        page = session.get(f"{self.farm.url}/login/", timeout=60)
        token = session.cookies["farm_csrf"]
        form = {"username": who, "password": PASSWORD, "csrfmiddlewaretoken": token}
        page = session.post(f"{self.farm.url}/login/", data=form, headers={"Referer": self.farm.url}, timeout=60)
        assert page.status_code == 200, page.text
        return session

    @property
    def live(self) -> str:
        return f"{self.farm.url}/printers/{self.printer}/camera"

    def look(self, session: requests.Session) -> Any:
        return session.get(self.live, stream=True, timeout=60, allow_redirects=False)

    def nobody_looks(self) -> None:
        wait_until(lambda: self.camera.streams == 0, "the camera is let go", PATIENCE)


@pytest.fixture(scope="module")
def lab(plain_farm: RunningFarm) -> Iterator[Lab]:
    camera = Streamer()
    people: dict[str, int | dict[str, int]] = {"mallory": {}, **{f"viewer{n}": 1 for n in range(8)}}
    with serving(camera) as raw, SimulatorPeer("octoprint") as peer:
        anvil = facts(peer, camera="own", camera_stream_url=f"{raw.url}/stream")
        printer = furnish(plain_farm, people, Anvil=anvil)["Anvil"]
        yield Lab(plain_farm, camera, raw, printer, Client(plain_farm.url, "ada", PASSWORD))


def first_picture(answer: Any) -> bytes:
    """As a browser reads it: the delimiter, the head with a length, the picture."""
    assert answer.status_code == 200, answer.text
    lines = [answer.raw.readline() for _ in range(4)]
    assert lines[0] == b"--frame\r\n", lines  # otherwise it is not the first of the stream
    length = int(lines[2].partition(b":")[2])
    assert lines[3] == b"\r\n"
    data: bytes = answer.raw.read(length)
    assert answer.raw.read(11) == b"\r\n--frame\r\n"
    return data


def test_twenty_viewers_are_one_connection_to_the_camera(lab: Lab) -> None:
    lab.nobody_looks()
    before = len(lab.raw.heads)
    sessions = [lab.session(f"viewer{n}") for n in range(5)]
    with ExitStack() as stack:
        answers = [stack.enter_context(closing(lab.look(session))) for session in sessions for _ in range(4)]
        assert {first_picture(answer) for answer in answers} == {PICTURE}
        assert (lab.camera.streams, len(lab.raw.heads) - before) == (1, 1)
        for answer in answers:
            assert "Set-Cookie" not in answer.headers
            assert str(lab.raw.port) not in str(answer.headers)
    lab.nobody_looks()


def test_a_picture_is_asked_for_once_for_all(lab: Lab) -> None:
    lab.nobody_looks()
    sessions = [lab.session(f"viewer{n}") for n in range(8)]
    with ExitStack() as stack:
        live = stack.enter_context(closing(lab.look(sessions[0])))
        first_picture(live)
        before = len(lab.raw.heads)
        for session in sessions:
            shown = session.get(f"{lab.live}.jpg", timeout=60)
            assert (shown.status_code, shown.headers["Content-Type"], shown.content) == (200, "image/jpeg", PICTURE)
        assert len(lab.raw.heads) == before
    lab.nobody_looks()


def test_a_fifth_live_picture_is_refused_until_one_is_closed(lab: Lab) -> None:
    session = lab.session("viewer6")
    with ExitStack() as stack:
        answers = [stack.enter_context(closing(lab.look(session))) for _ in range(4)]
        with closing(lab.look(session)) as refused:
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many")
        answers[0].close()
        wait_until(lambda: _is_let_in(lab, session), "the place is free", PATIENCE)
    lab.nobody_looks()


def _is_let_in(lab: Lab, session: requests.Session) -> bool:
    with closing(lab.look(session)) as answer:
        return bool(answer.status_code == 200)


def test_a_stranger_and_nobody_see_nothing(lab: Lab) -> None:
    stranger = lab.session("mallory")
    for path in (lab.live, f"{lab.live}.jpg"):
        answer = stranger.get(path, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert requests.get(path, timeout=60, allow_redirects=False).status_code == 302


def test_who_does_not_read_fills_no_memory_and_keeps_nobody_waiting(lab: Lab) -> None:
    """Daphne alone would keep every picture for them: here 150 of half a megabyte for each of the four."""
    lab.nobody_looks()
    web = lab.farm.child("web")
    assert web is not None
    stuck_one, reader = lab.session("viewer5"), lab.session("viewer4")
    with ExitStack() as stack:
        live = stack.enter_context(closing(lab.look(reader)))
        first_picture(live)
        stuck = [stack.enter_context(closing(not_reading(lab, stuck_one))) for _ in range(4)]
        before, sent = web.memory_info().rss, lab.camera.sent
        wait_until(lambda: drain(live) and lab.camera.sent > sent + 150, "pictures go by", PATIENCE)
        assert web.memory_info().rss - before < 30_000_000
        assert len(stuck) == 4
    lab.nobody_looks()


def drain(answer: Any) -> bool:
    return bool(answer.raw.read(1_000_000))


def not_reading(lab: Lab, session: requests.Session) -> socket.socket:
    """Asks for the live picture and takes only the beginning of it."""
    url = urlsplit(lab.live)
    link = socket.create_connection((url.hostname, url.port), timeout=60)
    cookie = f"farm_session={session.cookies['farm_session']}"
    link.sendall(f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nCookie: {cookie}\r\n\r\n".encode())
    assert link.recv(12) == b"HTTP/1.1 200"
    return link


def test_a_simulated_printers_own_camera_is_shown_to_programs(lab: Lab) -> None:
    token = lab.ada.post("token/", username="ada", password=PASSWORD)["access"]
    by_token = {"Authorization": f"Bearer {token}"}
    with SimulatorPeer("moonraker") as peer:
        bellows = lab.ada.post("printers/", name="Bellows", **facts(peer))["id"]
        told = lab.ada.get(f"printers/{bellows}/camera/")
        assert (told["stream"], told["rotation"]) == (True, 0)
        shown = requests.get(lab.farm.url + told["picture"], headers=by_token, timeout=60)
        assert (shown.headers["Content-Type"], shown.content[:3]) == ("image/jpeg", b"\xff\xd8\xff")
        with closing(requests.get(lab.farm.url + told["live"], headers=by_token, stream=True, timeout=60)) as live:
            assert first_picture(live)[:3] == b"\xff\xd8\xff"
        lab.ada.call("PATCH", f"printers/{bellows}/", json={"enabled": False})


# -- the page
class Visited(browsing.Lab):
    """By somebody with a phone."""

    forgiven = re.compile("status of 503 .*/camera")  # pages say in words that it does not answer

    def screen(self, who: str) -> dict[str, Any]:
        return {"viewport": PHONE}


@pytest.fixture(scope="module")
def visited(lab: Lab, browser: Browser) -> Visited:
    return Visited(lab.farm, browser)


@pytest.fixture
def page(lab: Lab, visited: Visited) -> Iterator[Page]:
    """In the browser of somebody who may only look; the camera shows red on the left, blue on the right."""
    lab.camera.picture, lab.camera.broken = drawn(), False
    lab.change(camera="own", camera_rotation=None)
    with visited.quietly():
        yield visited.context("viewer7").new_page()
    lab.camera.picture, lab.camera.broken = PICTURE, False
    lab.nobody_looks()


def drawn() -> bytes:
    image = Image.new("RGB", (64, 32), "blue")
    image.paste("red", (0, 0, 32, 32))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def opened(lab: Lab, page: Page) -> Locator:
    page.goto(f"{lab.farm.url}/printers/{lab.printer}/")
    camera = page.locator(".camera")
    camera.scroll_into_view_if_needed()
    return camera


def colours(camera: Locator) -> tuple[list[int], list[int]]:
    """Width and height, and red and blue in the middle of the canvas's upper quarter."""
    size, pixel = camera.locator("canvas").evaluate(
        "c => [[c.width, c.height], [...c.getContext('2d').getImageData(c.width / 2, c.height / 4, 1, 1).data]]"
    )
    return size, [pixel[0], pixel[2]]


class TestPage:
    pytestmark = needs_chromium

    def test_a_picture_comes_by_itself_and_live_on_a_click(self, lab: Lab, page: Page) -> None:
        camera = opened(lab, page)
        expect(camera.locator("canvas")).to_be_visible()
        expect(camera.get_by_text("Picture of")).to_be_visible()
        lab.nobody_looks()
        camera.get_by_role("button", name="Watch live").click()
        expect(camera.get_by_text("Live", exact=True)).to_be_visible()
        assert lab.camera.streams == 1
        camera.get_by_role("button", name="Stop").click()
        expect(camera.get_by_text("Picture of")).to_be_visible()
        lab.nobody_looks()

    def test_live_rests_while_nobody_sees_it(self, lab: Lab, page: Page) -> None:
        camera = opened(lab, page)
        camera.get_by_role("button", name="Watch live").click()
        expect(camera.get_by_text("Live", exact=True)).to_be_visible()
        camera.evaluate("element => { element.style.marginTop = '200vh'; window.scrollTo(0, 0); }")
        lab.nobody_looks()
        camera.scroll_into_view_if_needed()
        wait_until(lambda: lab.camera.streams == 1, "it is live again", PATIENCE)
        page.goto("about:blank")
        lab.nobody_looks()

    def test_a_picture_is_turned_as_staff_say(self, lab: Lab, page: Page) -> None:
        lab.change(camera_rotation=90, camera_flip_h=False)
        camera = opened(lab, page)
        expect(camera.locator("canvas")).to_be_visible()
        size, (red, blue) = colours(camera)
        assert (size, red > blue) == ([32, 64], True)  # what was on the left is on top now
        lab.change(camera_flip_h=True)
        camera = opened(lab, page)
        expect(camera.locator("canvas")).to_be_visible()
        size, (red, blue) = colours(camera)
        assert (size, blue > red) == ([32, 64], True)

    def test_a_camera_that_does_not_answer_is_told_in_words(self, lab: Lab, page: Page) -> None:
        lab.camera.broken = True
        lab.change(camera_rotation=180)  # another address or turn is another camera: nothing is remembered of it
        camera = opened(lab, page)
        expect(camera.get_by_role("status")).to_have_text("The camera of Anvil does not answer.")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def test_without_a_camera_the_page_has_none(self, lab: Lab, page: Page) -> None:
        lab.change(camera="server")
        lab.change(camera="off")
        page.goto(f"{lab.farm.url}/printers/{lab.printer}/")
        expect(page.get_by_role("heading", name="Anvil")).to_be_visible()
        assert page.locator(".camera").count() == 0


def test_whoever_left_was_let_go_by_itself(lab: Lab) -> None:
    """Daphne throws out what does not end within ten seconds, and says so."""
    lab.nobody_looks()
    assert "took too long to shut down" not in lab.farm.log
