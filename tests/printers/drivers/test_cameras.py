"""Where servers say that their cameras are, and cameras that do not behave."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from printers.drivers import cameras, driver_for
from printers.drivers.base import Camera, DriverError, Garbled, Unreachable
from printers.drivers.cameras import Lens, absolute, moonraker_camera, octoprint_camera
from printers.drivers.frames import MAX_PICTURE, Parts, Picture, picture
from printers.drivers.http import allowed_address
from tests.peers import MoonrakerPeer, OctoPrintPeer
from tests.printers.drivers.raw import Behaviour, Raw, answering, hanging_up, serving, silent

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4
PNG = b"\x89PNG\r\n\x1a\n" + b"p" * 50
WEBP = b"RIFF\x00\x01\x00\x00WEBPVP8 " + b"w" * 50
BOUNDARY = "boundarydonotcross"
HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary={BOUNDARY}\r\n\r\n".encode()


def part(data: bytes = JPEG, kind: str = "image/jpeg", *, length: bool = True, boundary: str = BOUNDARY) -> bytes:
    counted = f"Content-Length: {len(data)}\r\n" if length else ""
    return f"--{boundary}\r\nContent-Type: {kind}\r\n{counted}X-Timestamp: 1.5\r\n\r\n".encode() + data + b"\r\n"


def typed(kind: str, body: bytes, *headers: str) -> Behaviour:
    """One answer of that type."""
    head = [f"HTTP/1.1 200 OK\r\nContent-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    wire = "\r\n".join(head).encode() + b"\r\n\r\n" + body
    return lambda link, raw: link.sendall(wire)


def said(wire: bytes) -> Behaviour:
    """These bytes, then nothing more until the other end has enough."""

    def behave(link: socket.socket, raw: Raw) -> None:
        link.sendall(wire)
        silent(link, raw)

    return behave


def for_ever(first: bytes, again: bytes) -> Behaviour:
    def behave(link: socket.socket, raw: Raw) -> None:
        link.sendall(first)
        while not raw.over.is_set():
            link.sendall(again)

    return behave


def look(behave: Behaviour, most: int = 1, path: str = "/?action=x") -> list[Picture]:
    """The first pictures of a camera that behaves so."""
    with serving(behave) as raw:
        found = []
        for shown in Lens(raw.url + path, lambda host: host).pictures():
            found.append(shown)
            if len(found) == most:
                break
        return found


# -- pictures
@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("image/jpeg", JPEG, "image/jpeg"),
        ("image/jpg", JPEG, "image/jpeg"),
        ("IMAGE/JPEG; charset=x", JPEG, "image/jpeg"),
        ("image/png", PNG, "image/png"),
        ("image/webp", WEBP, "image/webp"),
    ],
)
def test_a_picture_is_what_it_is_called(kind: str, data: bytes, shown: str) -> None:
    assert look(typed(kind, data)) == [Picture(shown, data)]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image/jpeg", b"<html><script>alert(1)</script>"),
        ("image/jpeg", PNG),
        ("image/webp", b"RIFF\x00\x00\x00\x00WAVEfmt "),
        ("text/html", JPEG),
        ("image/svg+xml", b"<svg onload='alert(1)'/>"),
        ("application/octet-stream", JPEG),
        ("", JPEG),
        ("image/jpeg", b""),
    ],
)
def test_what_is_no_picture_is_refused(kind: str, data: bytes) -> None:
    with pytest.raises((Garbled, Unreachable)):
        look(typed(kind, data))
    with pytest.raises((Garbled, Unreachable)):
        look(lambda link, raw: link.sendall(HEAD + part(data, kind)))


def test_the_key_of_the_printer_goes_to_no_camera() -> None:
    with serving(typed("image/jpeg", JPEG)) as raw:
        list(Lens(f"{raw.url}/snap?action=snapshot", lambda host: host).pictures())
        head = raw.heads[0].lower()
    assert head.startswith("get /snap?action=snapshot http/1.1")
    assert f"host: 127.0.0.1:{raw.port}" in head
    assert not any(name in head for name in ("x-api-key", "cookie", "authorization"))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
@pytest.mark.parametrize("where", ["http://169.254.169.254/latest/meta-data/", "/other", "http://127.0.0.1:1/"])
def test_no_redirect_is_followed(status: str, where: str) -> None:
    with serving(answering(status, b"", f"Location: {where}")) as raw:
        with pytest.raises(Garbled, match="status 30"):
            list(Lens(f"{raw.url}/", lambda host: host).pictures())
        assert len(raw.heads) == 1


def test_the_address_that_was_checked_is_the_one_that_is_called() -> None:
    """The name resolves to nothing here: only the checked address can be reached."""
    with serving(typed("image/jpeg", JPEG)) as raw:
        asked: list[str] = []
        lens = Lens(f"http://camera.invalid:{raw.port}/", lambda host: asked.append(host) or "127.0.0.1")  # type: ignore[func-returns-value]
        assert next(lens.pictures()).data == JPEG
        assert asked == ["camera.invalid"]
        assert "camera.invalid" in raw.heads[0]


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "0.0.0.0", "8.8.8.8"])
def test_a_camera_outside_the_networks_is_not_called(host: str) -> None:
    lens = Lens(f"http://{host}/", lambda name: allowed_address(name, []))
    with pytest.raises(Unreachable, match="not in the networks"):
        list(lens.pictures())


# -- streams
@pytest.mark.parametrize("length", [True, False], ids=["with lengths", "without"])
def test_a_stream_is_picture_after_picture(length: bool) -> None:
    wire = HEAD + part(length=length) + part(PNG, "image/png", length=length) + part(length=length)
    assert [shown.data for shown in look(said(wire + b"--"), most=2)] == [JPEG, PNG]


def test_a_stream_may_end() -> None:
    wire = HEAD + part() + part() + f"--{BOUNDARY}--\r\n".encode()
    assert len(look(said(wire), most=9)) == 2


def test_another_boundary_than_the_announced_one_is_understood() -> None:
    assert len(look(said(HEAD + part(boundary="x") + part(boundary="x")), most=2)) == 2


def test_a_chunked_stream_is_understood() -> None:
    body = part() + part()
    head = HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire = head + b"".join(
        f"{len(body[n : n + 100]):x}\r\n".encode() + body[n : n + 100] + b"\r\n" for n in range(0, len(body), 100)
    )
    assert len(look(said(wire), most=2)) == 2


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(1, 400), min_size=1), length=st.booleans(), blank=st.sampled_from([b"", b"\r\n"]))
def test_it_does_not_matter_where_the_network_cuts_a_stream(cuts: list[int], length: bool, blank: bytes) -> None:
    wire = b"".join(
        blank + part(data, kind, length=length) for data, kind in ((JPEG, "image/jpeg"), (PNG, "image/png")) * 3
    )
    wire += f"--{BOUNDARY}".encode()
    parts, found, at, turn = Parts(), [], 0, 0
    while at < len(wire):
        size = cuts[turn % len(cuts)]
        found += parts.feed(wire[at : at + size])
        at, turn = at + size, turn + 1
    # without a length nobody can tell an empty line from the picture's end
    assert [shown.data.rstrip(b"\r\n") for shown in found] == [JPEG, PNG] * 3


@given(noise=st.binary(max_size=2000), at=st.integers(0, 1200))
def test_noise_is_refused_or_skipped_and_never_a_crash_or_a_wrong_type(noise: bytes, at: int) -> None:
    wire = part() + part()
    parts = Parts()
    try:
        for shown in parts.feed(wire[:at] + noise + wire[at:]):
            assert picture(shown.media_type, shown.data) == shown
    except Garbled:
        pass


def test_a_picture_that_never_ends_is_given_up() -> None:
    begun = HEAD + part(length=False)[:100]
    for behave in (for_ever(begun, b"x" * 65_536), for_ever(HEAD, b"--x\r\n"), for_ever(HEAD, b"x" * 1000)):
        with pytest.raises(Garbled):
            look(behave)
    huge = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {MAX_PICTURE + 1}\r\n\r\n".encode()
    with pytest.raises(Garbled, match="4 MB"):
        look(said(HEAD + huge))
    single = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff"
    with pytest.raises(Garbled, match="4 MB"):
        look(for_ever(single, b"x" * 65_536))


@pytest.mark.parametrize(
    ("first", "again"),
    [(b"", b"H"), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), (HEAD, b"-"), (HEAD + part() + part()[:90], b"x")],
    ids=["the status", "headers", "a delimiter", "a picture"],
)
def test_a_camera_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch, first: bytes, again: bytes) -> None:
    monkeypatch.setattr(cameras, "PICTURE_S", 0.5)

    def drip(link: socket.socket, raw: Raw) -> None:
        link.sendall(first)
        while not raw.over.wait(0.02):
            link.sendall(again)

    with pytest.raises(DriverError):
        look(drip, most=2)


@pytest.mark.parametrize(
    "behave", [hanging_up, for_ever(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 70_000 + b"\r\n"), said(b"SSH-2.0\r\n")]
)
def test_what_is_no_http_is_a_camera_that_does_not_answer(behave: Behaviour) -> None:
    with pytest.raises(Unreachable):
        look(behave)


@pytest.mark.parametrize("behave", [silent, said(HEAD), said(HEAD + part() + part()[:99])])
def test_a_look_can_be_ended_from_another_thread(behave: Behaviour) -> None:
    with serving(behave) as raw:
        lens = Lens(f"{raw.url}/", lambda host: host)
        ended = threading.Event()

        def watch() -> None:
            with contextlib.suppress(Unreachable):
                for _ in lens.pictures():
                    pass
            ended.set()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        while not ended.wait(0.05) and thread.is_alive():
            lens.stop()
        thread.join(30)
        assert ended.is_set()


def test_a_look_that_was_ended_before_it_began_asks_nothing() -> None:
    with serving(for_ever(HEAD, part())) as raw:
        lens = Lens(f"{raw.url}/", lambda host: host)
        lens.stop()
        assert list(lens.pictures()) == []


# -- where
@pytest.mark.parametrize(
    ("told", "page", "found"),
    [
        ("/webcam/?action=stream", "http://pi.local", "http://pi.local/webcam/?action=stream"),
        ("webcam/?action=stream", "https://pi.local:8443/", "https://pi.local:8443/webcam/?action=stream"),
        ("http://127.0.0.1:8080/?action=snapshot", "http://10.0.0.5:5000", "http://10.0.0.5:8080/?action=snapshot"),
        ("http://localhost:8080/x", "http://[fd00::5]", "http://[fd00::5]:8080/x"),
        ("//10.0.0.9/x", "https://10.0.0.5", "https://10.0.0.9/x"),
        ("http://elsewhere.example/x", "http://10.0.0.5", "http://elsewhere.example/x"),
        ("rtsp://10.0.0.5/x", "http://10.0.0.5", ""),
        ("webrtc://10.0.0.5/x", "http://10.0.0.5", ""),
        ("file:///etc/passwd", "http://10.0.0.5", ""),
        ("http://user:secret@10.0.0.5/x", "http://10.0.0.5", ""),
        ("http://10.0.0.5:0/x", "http://10.0.0.5", ""),
        ("http://10.0.0.5:99999/x", "http://10.0.0.5", ""),
        ("http://10.0.0.5/a b\r\nX: y", "http://10.0.0.5", ""),
        ("http://[::1/x", "http://10.0.0.5", ""),
        ("", "http://10.0.0.5", ""),
        (None, "http://10.0.0.5", ""),
        (7, "http://10.0.0.5", ""),
        ("/" + "x" * 400, "http://10.0.0.5", ""),
    ],
)
def test_an_address_is_made_absolute_or_dropped(told: Any, page: str, found: str) -> None:
    assert absolute(told, page) == found


def octoprint_settings(**webcam: Any) -> dict[str, Any]:
    row = {
        "name": "classic", "flipH": True, "flipV": False, "rotate90": True,
        "compat": {"stream": "/webcam/?action=stream", "snapshot": "http://127.0.0.1:8080/?action=snapshot"},
    }  # fmt: skip
    return {"webcam": {"webcamEnabled": True, "defaultWebcam": "classic", "webcams": [row], **webcam}}


def test_octoprint_tells_its_default_camera_turned_counter_clockwise() -> None:
    assert octoprint_camera(octoprint_settings(), "http://pi:5000") == Camera(
        snapshot="http://pi:8080/?action=snapshot",
        stream="http://pi:5000/webcam/?action=stream",
        flip_h=True,
        rotation=270,
    )


def test_octoprint_without_a_camera_has_none() -> None:
    assert octoprint_camera(octoprint_settings(webcamEnabled=False), "http://pi") is None
    assert octoprint_camera({}, "http://pi") is None
    assert octoprint_camera({"webcam": {"streamUrl": "", "snapshotUrl": "", "webcams": []}}, "http://pi") is None


def test_an_older_octoprint_has_one_camera_in_other_words() -> None:
    webcam = {"streamUrl": "/webcam/?action=stream", "snapshotUrl": "", "flipV": True, "rotate90": False}
    found = octoprint_camera({"webcam": webcam}, "http://pi")
    assert found == Camera(stream="http://pi/webcam/?action=stream", flip_v=True)


def moonraker_row(**changed: Any) -> dict[str, Any]:
    row = {
        "name": "Bed", "enabled": True, "service": "mjpegstreamer", "stream_url": "/webcam/?action=stream",
        "snapshot_url": "/webcam/?action=snapshot", "flip_horizontal": True, "flip_vertical": False, "rotation": 0,
    }  # fmt: skip
    return {**row, **changed}


def test_moonraker_tells_the_first_camera_that_is_on_beside_its_pages() -> None:
    rows = [moonraker_row(enabled=False), moonraker_row(), moonraker_row(name="Second", snapshot_url="/two")]
    stream = "http://pi/webcam/?action=stream"
    expected = Camera(snapshot="http://pi/webcam/?action=snapshot", stream=stream, flip_h=True)
    assert moonraker_camera(rows, "http://pi:7125") == expected
    other = moonraker_camera(rows, "http://pi:4408")
    assert other is not None
    assert other.stream == "http://pi:4408/webcam/?action=stream"


@pytest.mark.parametrize(("rotation", "flip_h", "flip_v"), [(90, False, True), (180, True, False), (270, False, True)])
def test_moonraker_turns_first_and_mirrors_then(rotation: int, flip_h: bool, flip_v: bool) -> None:
    found = moonraker_camera([moonraker_row(rotation=rotation)], "http://pi")
    assert found is not None
    assert (found.rotation, found.flip_h, found.flip_v) == (rotation, flip_h, flip_v)


def test_of_moonrakers_camera_that_is_no_stream_of_pictures_only_single_ones_are_taken() -> None:
    row = moonraker_row(service="webrtc-camerastreamer", stream_url="/webcam/webrtc")
    found = moonraker_camera([row], "http://pi")
    assert found is not None
    assert (found.snapshot, found.stream) == ("http://pi/webcam/?action=snapshot", "")
    assert moonraker_camera([{**row, "snapshot_url": ""}], "http://pi") is None
    assert moonraker_camera([], "http://pi") is None


@pytest.mark.parametrize("body", [b"[]", b'{"webcam": 7}', b'{"webcam": {"webcams": [7]}}', b"<html>"])
def test_settings_of_another_shape_are_garbled(body: bytes) -> None:
    with serving(answering("200 OK", body)) as raw, pytest.raises(Garbled):
        driver_for("octoprint", raw.url, "key").camera()


def test_who_may_not_read_octoprints_settings_is_told_of_no_camera() -> None:
    with serving(answering("403 FORBIDDEN", b"{}")) as raw:
        assert driver_for("octoprint", raw.url, "key").camera() is None


@pytest.mark.octoprint
def test_the_real_octoprint_tells_where_its_camera_is(octoprint: OctoPrintPeer) -> None:
    driver = driver_for("octoprint", octoprint.url, octoprint.api_key)
    assert driver.camera() is None
    webcam = {"stream": "/webcam/?action=stream", "snapshot": "http://127.0.0.1:8080/?action=snapshot"}
    try:
        _set_webcam(octoprint, {**webcam, "flipH": True, "rotate90": True})
        assert driver.camera() == Camera(
            snapshot="http://127.0.0.1:8080/?action=snapshot",
            stream=f"{octoprint.url}/webcam/?action=stream",
            flip_h=True,
            rotation=270,
        )
    finally:
        _set_webcam(octoprint, {"stream": "", "snapshot": "", "flipH": False, "rotate90": False})


def _set_webcam(peer: OctoPrintPeer, changes: dict[str, Any]) -> None:
    """In the plugin that brings the usual camera: OctoPrint's own keys are only for reading."""
    requests.post(
        f"{peer.url}/api/settings",
        json={"plugins": {"classicwebcam": changes}},
        headers={"X-Api-Key": peer.api_key},
        timeout=60,
    ).raise_for_status()


@pytest.mark.moonraker
def test_the_real_moonraker_tells_where_its_camera_is(moonraker: MoonrakerPeer) -> None:
    driver = driver_for("moonraker", moonraker.url, moonraker.api_key)
    assert driver.camera() is None
    headers = {"X-Api-Key": moonraker.api_key}
    item = f"{moonraker.url}/server/webcams/item"
    row = moonraker_row(rotation=90)
    requests.post(item, json=row, headers=headers, timeout=60).raise_for_status()
    try:
        assert driver.camera() == Camera(
            snapshot=f"{moonraker.url}/webcam/?action=snapshot",
            stream=f"{moonraker.url}/webcam/?action=stream",
            flip_v=True,
            rotation=90,
        )
    finally:
        requests.delete(item, params={"name": row["name"]}, headers=headers, timeout=60).raise_for_status()
