"""Cameras through the farm: where they are, who may look, what reaches a browser, and how often a camera is asked."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.models import Session
from django.test import Client

from farm.models import User
from printers import services, webcam, webcam_views
from printers.drivers.base import Camera, Unreachable
from printers.models import Grant, Printer
from printers.webcam import Viewing, camera_of, picture_of
from tests.api import api, ok, refused
from tests.cast import Cast, as_
from tests.machines import Machines, away
from tests.peers import wait_for
from tests.printers.drivers.raw import Behaviour, Raw, serving

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b\r\nSet-Cookie: camera=1\r\n\r\n"
#: s; every wait ends when what it waits for is there
PATIENCE = 60.0


def jpeg(number: int) -> bytes:
    return b"\xff\xd8\xff" + str(number).encode()


def single(body: bytes, kind: str = "image/jpeg") -> bytes:
    more = "Set-Cookie: camera=1\r\nX-Powered-By: mjpg\r\nAccess-Control-Allow-Origin: *\r\n"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


class FakeCamera:
    """Behaves as mjpg-streamer does: numbered pictures, one by one or as a stream at ``beat`` s."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.streams = 0
        self.beat = 0.005
        self.broken = False

    def __call__(self, link: socket.socket, raw: Raw) -> None:
        if self.broken:
            return
        if "stream" not in raw.heads[-1].split("\r\n")[0]:
            link.sendall(single(jpeg(next(self.numbers))))
            return
        self.streams += 1
        try:
            link.sendall(HEAD)
            while not raw.over.wait(self.beat):
                picture = jpeg(next(self.numbers))
                link.sendall(b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + picture + b"\r\n")
        finally:
            self.streams -= 1


@pytest.fixture
def fake() -> FakeCamera:
    return FakeCamera()


@pytest.fixture
def raw(fake: FakeCamera) -> Iterator[Raw]:
    with serving(fake) as raw:
        yield raw
    wait_for("nobody looks any more", lambda: not len(webcam._sources), PATIENCE)


def both(raw: Raw, **more: Any) -> Camera:
    return Camera(snapshot=f"{raw.url}/snapshot", stream=f"{raw.url}/stream", **more)


def own(printer: Printer, snapshot: str = "", stream: str = "", **more: Any) -> None:
    """Staff say where the camera is."""
    services.change_printer(printer, camera="own", camera_snapshot_url=snapshot, camera_stream_url=stream, **more)


@contextmanager
def camera_of_anvil(cast: Cast, behave: Behaviour) -> Iterator[Raw]:
    with serving(behave) as raw:
        own(cast.anvil, f"{raw.url}/snapshot", f"{raw.url}/stream")
        yield raw


# -- where it is
def test_the_printers_server_is_asked_once_in_a_while(cast: Cast, machines: Machines) -> None:
    machines[cast.anvil].camera = Camera(snapshot="http://127.0.0.1:8080/a", rotation=90)
    found = {camera_of(cast.anvil) for _ in range(5)}
    assert found == {Camera(snapshot="http://127.0.0.1:8080/a", rotation=90)}
    assert machines[cast.anvil].calls == [("camera",)]
    assert machines[cast.anvil].open_drivers == 0


def test_a_printers_server_must_not_lead_the_farm_to_other_hosts(cast: Cast, machines: Machines) -> None:
    machines[cast.anvil].camera = Camera(snapshot="http://127.0.0.2:80/", stream="http://169.254.169.254/latest/")
    assert camera_of(cast.anvil) is None


def test_another_name_of_the_printers_own_host_is_that_host(cast: Cast, machines: Machines) -> None:
    machines[cast.anvil].camera = Camera(snapshot="http://10.9.9.9/a", stream="http://localhost:8080/b?c=d")
    assert camera_of(cast.anvil) == Camera(stream="http://127.0.0.1:8080/b?c=d")


def test_staff_may_name_a_camera_on_another_host_or_none(cast: Cast, machines: Machines) -> None:
    own(cast.anvil, "http://127.0.0.7/snapshot")
    assert camera_of(cast.anvil) == Camera(snapshot="http://127.0.0.7/snapshot")
    services.change_printer(cast.anvil, camera="off")
    assert camera_of(cast.anvil) is None
    services.change_printer(cast.anvil, camera="server", enabled=False)
    assert camera_of(cast.anvil) is None
    assert machines[cast.anvil].calls == []


def test_staff_may_turn_the_picture_otherwise(cast: Cast, machines: Machines) -> None:
    machines[cast.anvil].camera = Camera(snapshot="http://127.0.0.1/a", rotation=90, flip_h=True)
    services.change_printer(cast.anvil, camera_rotation=0, camera_flip_v=True)
    assert camera_of(cast.anvil) == Camera(snapshot="http://127.0.0.1/a", rotation=0, flip_v=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://8.8.8.8/camera.jpg",
        "http://[::ffff:169.254.169.254]/",
        "http://user:secret@127.0.0.1/",
        "rtsp://127.0.0.1/stream",
        "file:///etc/passwd",
        "http://127.0.0.1:0/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX-Evil: 1",
        "127.0.0.1/camera",
    ],
)
def test_staff_cannot_name_what_is_no_camera_of_the_lab(cast: Cast, url: str) -> None:
    for name in ("camera_snapshot_url", "camera_stream_url"):
        refused(api(cast.ada).patch(f"/api/printers/{cast.anvil.pk}/", {"camera": "own", name: url}), 422)


def test_an_own_camera_needs_an_address(cast: Cast) -> None:
    refused(api(cast.ada).patch(f"/api/printers/{cast.anvil.pk}/", {"camera": "own"}), 422)
    changes = {"camera": "own", "camera_stream_url": " http://127.0.0.1:8080/?action=stream ", "camera_rotation": 180}
    row = ok(api(cast.ada).patch(f"/api/printers/{cast.anvil.pk}/", changes))
    assert (row["camera_stream_url"], row["camera_rotation"]) == ("http://127.0.0.1:8080/?action=stream", 180)
    refused(api(cast.ada).patch(f"/api/printers/{cast.anvil.pk}/", {"camera_stream_url": ""}), 422)


# -- one picture
def test_two_hundred_viewers_are_one_question_to_the_camera(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam._pictures, "_kept_s", PATIENCE)
    with ThreadPoolExecutor(40) as pool:
        shown = list(pool.map(lambda _: picture_of(both(raw)).data, range(200)))
    assert set(shown) == {jpeg(1)}
    assert len(raw.heads) == 1


def test_a_picture_is_not_kept_for_long(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam._pictures, "_kept_s", 0.0)
    assert [picture_of(both(raw)).data for _ in range(3)] == [jpeg(1), jpeg(2), jpeg(3)]


def test_a_camera_that_fails_is_left_alone_for_a_moment(raw: Raw, fake: FakeCamera, monkeypatch: Any) -> None:
    monkeypatch.setattr(webcam, "FAULT_KEPT_S", PATIENCE)
    fake.broken = True
    for _ in range(5):
        with pytest.raises(Unreachable):
            picture_of(Camera(snapshot=f"{raw.url}/snapshot"))
    assert len(raw.heads) == 1


def test_without_an_address_for_single_pictures_the_streams_first_one_is_shown(raw: Raw, fake: FakeCamera) -> None:
    assert picture_of(Camera(stream=f"{raw.url}/stream")).data == jpeg(1)
    beside = Camera(snapshot="http://127.0.0.1:9/only-for-itself", stream=f"{raw.url}/stream")
    assert picture_of(beside).data.startswith(jpeg(2)[:3])
    wait_for("the stream is let go", lambda: fake.streams == 0, PATIENCE)


# -- live
async def numbers(viewing: Viewing) -> AsyncIterator[int]:
    while True:
        picture = await viewing.next(PATIENCE)
        if picture is not None:
            yield int(picture.data[3:])


def test_twenty_viewers_have_one_connection_which_ends_with_the_last(raw: Raw, fake: FakeCamera) -> None:
    async def look() -> None:
        viewings = [Viewing(both(raw)) for _ in range(20)]
        each = [numbers(viewing) for viewing in viewings]
        for _ in range(3):
            assert all(await asyncio.gather(*(anext(one) for one in each)))
        assert (fake.streams, len(raw.heads)) == (1, 1)
        for viewing in viewings[1:]:
            viewing.close()
        assert await anext(each[0])
        assert fake.streams == 1
        assert int(picture_of(both(raw)).data[3:]) > 0  # from the stream that is there anyway
        assert len(raw.heads) == 1
        viewings[0].close()

    asyncio.run(look())
    wait_for("the camera is let go", lambda: fake.streams == 0, PATIENCE)


def test_a_slow_viewer_skips_and_gets_the_newest(raw: Raw) -> None:
    async def look() -> None:
        quick, slow = Viewing(both(raw)), Viewing(both(raw))
        at_first = await anext(numbers(slow))
        seen = [await anext(one) for one in [numbers(quick)] for _ in range(30)]
        assert seen == sorted(set(seen))
        assert await anext(numbers(slow)) >= seen[-1] > at_first + 1
        quick.close()
        slow.close()

    asyncio.run(look())


def test_a_camera_without_a_stream_is_live_picture_by_picture(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam, "SINGLE_EVERY_S", 0.01)

    async def look(camera: Camera) -> list[int]:
        viewing = Viewing(camera)
        found = [await anext(one) for one in [numbers(viewing)] for _ in range(3)]
        viewing.close()
        return found

    alone = asyncio.run(look(Camera(snapshot=f"{raw.url}/snapshot")))
    beside = asyncio.run(look(Camera(snapshot=f"{raw.url}/snapshot", stream="http://127.0.0.1:9/gone")))
    called_stream = asyncio.run(look(Camera(stream=f"{raw.url}/snapshot")))
    assert alone == sorted(alone)
    assert alone[-1] < beside[0] <= beside[-1] < called_stream[0]


def test_a_camera_that_breaks_off_ends_every_viewing(raw: Raw, fake: FakeCamera) -> None:
    async def look() -> None:
        viewings = [Viewing(both(raw)) for _ in range(3)]
        for viewing in viewings:
            await anext(numbers(viewing))
        raw.over.set()
        for viewing in viewings:
            with pytest.raises(Unreachable):
                async for _ in numbers(viewing):
                    pass

    asyncio.run(look())


def test_a_viewing_that_nobody_has_any_more_lets_the_camera_go(raw: Raw, fake: FakeCamera) -> None:
    viewing = Viewing(both(raw))
    viewing.wait_for_first()
    assert fake.streams == 1
    del viewing
    gc.collect()
    wait_for("the camera is let go", lambda: fake.streams == 0, PATIENCE)


def test_only_so_many_cameras_are_live_at_a_time(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam, "MOST_LIVE", 2)
    viewings = [Viewing(both(raw, rotation=turn)) for turn in (0, 90)]
    with pytest.raises(Unreachable, match="Too many"):
        Viewing(both(raw, rotation=180))
    viewings.append(Viewing(both(raw)))
    for viewing in viewings:
        viewing.close()


# -- who may look, and what they get
def at(printer: Printer) -> str:
    return f"/printers/{printer.pk}/camera"


#: what a picture comes with, and nothing else
HEADERS = {
    "Content-Type", "Content-Length", "Cache-Control", "Content-Security-Policy", "X-Content-Type-Options",
    "X-Camera-Rotation", "X-Camera-Flip", "Vary", "X-Frame-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy",
}  # fmt: skip


def test_a_picture_comes_with_headers_of_the_farm_alone(cast: Cast, raw: Raw) -> None:
    own(cast.anvil, f"{raw.url}/snapshot", camera_rotation=90, camera_flip_h=True)
    for path in (f"{at(cast.anvil)}.jpg", f"/api/printers/{cast.anvil.pk}/camera/picture/"):
        answer = as_(cast.sam).get(path)
        assert (answer.status_code, answer.content[:3]) == (200, jpeg(1)[:3])
        assert set(answer.headers) - HEADERS <= {"Allow"}
        assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == ("image/jpeg", "nosniff")
        assert (answer["X-Camera-Rotation"], answer["X-Camera-Flip"]) == ("90", "h")
        assert "sandbox" in answer["Content-Security-Policy"]
        assert not answer.cookies


def test_where_the_camera_is_stays_in_the_farm(cast: Cast, raw: Raw) -> None:
    own(cast.anvil, f"{raw.url}/snapshot", f"{raw.url}/stream", camera_rotation=270)
    facts = ok(api(cast.sam).get(f"/api/printers/{cast.anvil.pk}/camera/"))
    where = f"/api/printers/{cast.anvil.pk}/camera"
    assert facts == {
        "picture": f"{where}/picture/", "live": f"{where}/live/", "stream": True,
        "rotation": 270, "flip_h": False, "flip_v": False,
    }  # fmt: skip


def test_a_printer_without_a_camera_says_so(cast: Cast, machines: Machines) -> None:
    for path in (f"{at(cast.anvil)}.jpg", at(cast.anvil)):
        assert refused(as_(cast.sam).get(path), 404, "no_camera")["message"] == "Anvil has no camera."
    facts = ok(api(cast.sam).get(f"/api/printers/{cast.anvil.pk}/camera/"))
    assert (facts["picture"], facts["live"], facts["stream"]) == (None, None, False)


def test_a_printer_that_is_off_is_told_without_its_address(cast: Cast, machines: Machines) -> None:
    machines[cast.anvil].faults["camera"] = away()
    for path in (f"{at(cast.anvil)}.jpg", at(cast.anvil), f"/api/printers/{cast.anvil.pk}/camera/"):
        answer = as_(cast.sam).get(path)
        refused(answer, 503, "camera")
        assert "127.0.0.1" not in answer.content.decode() + str(answer.headers)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        single(b"<html><script>alert(1)</script></html>"),
        single(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=["silence", "a page", "svg", "redirect away", "redirect", "password", "500 headers", "a huge header"],
)
def test_a_camera_that_misbehaves_is_one_that_does_not_answer(cast: Cast, wire: bytes) -> None:
    with camera_of_anvil(cast, lambda link, raw: link.sendall(wire)) as raw:
        for path in (f"{at(cast.anvil)}.jpg", at(cast.anvil)):
            answer = as_(cast.sam).get(path)
            body = refused(answer, 503, "camera")
            assert body["message"] == "The camera of Anvil does not answer."
            assert str(raw.port) not in answer.content.decode() + str(answer.headers)
        assert all(head.startswith(("GET /snapshot ", "GET /stream ")) for head in raw.heads)


def test_a_stranger_and_nobody_see_no_camera(cast: Cast, raw: Raw) -> None:
    own(cast.anvil, f"{raw.url}/snapshot", f"{raw.url}/stream")
    for path in (f"{at(cast.anvil)}.jpg", at(cast.anvil)):
        refused(as_(cast.mallory).get(path), 404, "not_found")
        assert Client().get(path).status_code == 302
        assert as_(cast.sam).post(path).status_code == 405
    assert raw.heads == []


def parts(answer: Any, most: int = 1000) -> list[bytes]:
    """What a viewer is sent, until it has enough or the farm ends it; in this thread, which has the database."""

    async def read() -> list[bytes]:
        found = []
        async for part in answer:
            found.append(part)
            if len(found) == most:
                break
        return found

    try:
        return async_to_sync(read)()
    finally:
        answer.close()


def test_live_is_picture_after_picture_each_with_its_end(cast: Cast, raw: Raw, fake: FakeCamera) -> None:
    own(cast.anvil, stream=f"{raw.url}/stream")
    for path in (at(cast.anvil), f"/api/printers/{cast.anvil.pk}/camera/live/"):
        answer = as_(cast.sam).get(path)
        assert answer["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        assert set(answer.headers) - HEADERS <= {"X-Accel-Buffering", "Allow"}
        first, second = parts(answer, 2)
        assert first.startswith(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: ")
        assert second.startswith(b"Content-Type: image/jpeg\r\n")
        assert first.endswith(b"\r\n--frame\r\n")
        wait_for("the camera is let go", lambda: fake.streams == 0, PATIENCE)


def test_one_person_has_four_live_cameras_and_no_more(cast: Cast, raw: Raw) -> None:
    own(cast.anvil, stream=f"{raw.url}/stream")
    sam = as_(cast.sam)
    open_now = [sam.get(at(cast.anvil)) for _ in range(4)]
    assert "4 live cameras" in refused(sam.get(at(cast.anvil)), 429, "too_many")["message"]
    open_now.append(as_(cast.tina).get(at(cast.anvil)))
    open_now.pop(0).close()
    open_now.append(sam.get(at(cast.anvil)))
    assert [answer.status_code for answer in open_now] == [200] * 5
    for answer in open_now:
        answer.close()


def test_a_camera_that_does_not_begin_takes_no_place(cast: Cast, raw: Raw, fake: FakeCamera) -> None:
    own(cast.anvil, stream=f"{raw.url}/stream")
    fake.broken = True
    for _ in range(6):
        refused(as_(cast.sam).get(at(cast.anvil)), 503)
    fake.broken = False
    parts(as_(cast.sam).get(at(cast.anvil)), 1)


ENDINGS: dict[str, Callable[[Cast], Any]] = {
    "the grant is taken away": lambda cast: Grant.objects.filter(user=cast.sam).delete(),
    "the person is switched off": lambda cast: User.objects.filter(pk=cast.sam.pk).update(is_active=False),
    "the person logs out": lambda cast: Session.objects.all().delete(),
    "the camera is switched off": lambda cast: services.change_printer(cast.anvil, camera="off"),
    "the printer is switched off": lambda cast: services.change_printer(cast.anvil, enabled=False),
    "the printer is removed": lambda cast: services.remove_printer(cast.anvil),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_who_may_no_longer_look_sees_no_more(
    cast: Cast, raw: Raw, fake: FakeCamera, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(webcam_views, "RECHECK_S", 0.0)
    own(cast.anvil, stream=f"{raw.url}/stream")
    answer = as_(cast.sam).get(at(cast.anvil))
    ENDINGS[ending](cast)
    assert parts(answer) == []
    wait_for("the camera is let go", lambda: fake.streams == 0, PATIENCE)


def test_a_stream_has_an_end_in_time_and_bytes(cast: Cast, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    own(cast.anvil, stream=f"{raw.url}/stream")
    monkeypatch.setattr(webcam_views, "MOST_SENT", 1)
    assert len(parts(as_(cast.sam).get(at(cast.anvil)))) == 1
    monkeypatch.setattr(webcam_views, "MOST_SENT", 10**9)
    monkeypatch.setattr(webcam_views, "MOST_S", 0.0)
    assert parts(as_(cast.sam).get(at(cast.anvil))) == []


def test_a_token_shows_the_camera_until_it_ends(cast: Cast, raw: Raw) -> None:
    own(cast.anvil, stream=f"{raw.url}/stream")
    ended = webcam_views.Viewer(user_id=cast.sam.pk, until=1.0)
    assert parts(webcam_views.live_response(cast.sam, cast.anvil.pk, ended)) == []


def test_a_fault_of_ours_is_told_to_all_who_wait_and_kept_from_nobody() -> None:
    shared: webcam.Shared[str, int] = webcam.Shared(PATIENCE)
    asked, may_fail = threading.Barrier(2), threading.Event()

    def fail() -> int:
        asked.wait(PATIENCE)
        may_fail.wait(PATIENCE)
        raise RuntimeError("a bug")

    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(shared.get, "key", fail) for _ in range(5)]
        asked.wait(PATIENCE)
        may_fail.set()
        for answer in waiting:
            with pytest.raises((RuntimeError, threading.BrokenBarrierError)):
                answer.result(PATIENCE)
    assert shared.get("key", lambda: 7) == 7
