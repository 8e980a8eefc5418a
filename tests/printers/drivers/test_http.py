"""The only door to printers' servers, against servers that misbehave."""

from __future__ import annotations

import io
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, cast

import pytest

from printers.drivers import http
from printers.drivers.base import Garbled, Refused, Unauthorised, Unclear, Unreachable
from printers.drivers.http import Door, Multipart, allowed_address, is_plain_path
from tests.peers import free_port
from tests.printers.drivers.raw import (
    Behaviour,
    Raw,
    answering,
    certificate,
    dripping,
    hanging_up,
    serving,
    silent,
    swallowing,
)

KEY = "SECRETKEY0123456789"
SHORT = (4.0, 0.3)  # (connect, read) seconds, for an answer that certainly never comes
PRIVATE = [ipaddress.ip_network(network) for network in ("10.0.0.0/8", "192.168.0.0/16", "127.0.0.0/8", "fd00::/8")]


def write(door: Door, timeout: tuple[float, float] = http.TIMEOUT) -> http.Answer:
    return door.write("POST", "/api/job", {"command": "cancel"}, timeout=timeout)


# -- what went wrong, by what the caller must do


def test_an_answer_is_an_answer_whatever_its_status() -> None:
    with serving(answering("409 Conflict", b'{"error": "busy"}')) as raw:
        answer = Door(raw.url, KEY).read("/api/job")
    assert (answer.status, answer.json()) == (409, {"error": "busy"})
    assert f"X-Api-Key: {KEY}" in raw.heads[0]


def test_nothing_there_is_unreachable_even_for_a_write() -> None:
    door = Door(f"http://127.0.0.1:{free_port()}", KEY)
    for attempt in (door.knock, lambda: door.read("/"), lambda: write(door), lambda: door.connect("/ws")):
        with pytest.raises(Unreachable, match="Nothing answers at 127.0.0.1"):
            attempt()


@pytest.mark.parametrize("behaviour", [silent, hanging_up, dripping])
def test_a_write_without_an_answer_is_unclear_and_a_read_unreachable(behaviour: Behaviour) -> None:
    with serving(behaviour) as raw:
        with pytest.raises(Unclear):
            write(Door(raw.url, KEY), SHORT)
        with pytest.raises(Unreachable):
            Door(raw.url, KEY).read("/", timeout=SHORT)
    assert len(raw.heads) == 2, "something was sent twice"


def test_a_redirect_is_not_followed_and_takes_no_key_along() -> None:
    port = free_port()
    with serving(answering("302 Found", b"", f"Location: http://127.0.0.1:{port}/")) as raw:
        door = Door(raw.url, KEY)
        for attempt in (lambda: door.read("/api/version"), lambda: door.ask("/api/login", {})):
            with pytest.raises(Garbled, match="another address"):
                attempt()
        with pytest.raises(Refused, match="another address"):
            write(door)
        with pytest.raises(Garbled):
            door.connect("/websocket")
    assert len(raw.heads) == 4


def test_an_answer_that_is_too_big_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 1000)
    with serving(answering("200 OK", b"x" * 1_000_000)) as raw, pytest.raises(Unreachable, match="too much"):
        Door(raw.url).read("/")


def test_an_answer_that_would_unfold_is_not_read() -> None:
    with serving(answering("200 OK", b"\x1f\x8b", "Content-Encoding: gzip")) as raw, pytest.raises(Unreachable):
        Door(raw.url).read("/")
    assert "Accept-Encoding: identity" in raw.heads[0]


def test_an_answer_that_is_not_json_is_garbled() -> None:
    with serving(answering("200 OK", b"<html>")) as raw, pytest.raises(Garbled):
        Door(raw.url).read("/").json()


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answering("200 OK")) as proxy, serving(answering("200 OK")) as raw:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert Door(raw.url, KEY).read("/").status == 200
        with pytest.raises(Garbled):
            Door(raw.url, KEY).connect("/")
    assert proxy.heads == []


def test_the_key_is_in_no_message_and_no_repr() -> None:
    door = Door(f"http://127.0.0.1:{free_port()}", KEY)
    assert KEY not in repr(door)
    assert door.masked(f"your key\n{KEY} is wrong") == "your key *** is wrong"


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "a\0", "clé"])
def test_a_key_that_no_key_can_be_is_not_sent(key: str) -> None:
    with serving(answering("200 OK")) as raw:
        for attempt in (lambda: Door(raw.url, key).read("/"), lambda: Door(raw.url, key).connect("/")):
            with pytest.raises(Unauthorised):
                attempt()
    assert raw.heads == []


@pytest.mark.parametrize(
    "url",
    ["", "printer", "ftp://printer", "http://", "http://user:password@printer", "http://printer:99999",
     "http://printer:0", "http://[::1", "http://printer/?a=b", "http://printer/#x", "file:///etc/passwd"],
)  # fmt: skip
def test_an_address_that_is_none_is_unreachable(url: str) -> None:
    for attempt in (lambda: Door(url, KEY).read("/"), lambda: Door(url, KEY).connect("/")):
        with pytest.raises(Unreachable) as refused:
            attempt()
        assert "password" not in refused.value.message


# -- where a connection goes


@pytest.mark.parametrize(
    ("found", "allowed"),
    [
        (["10.1.2.3"], "10.1.2.3"),
        (["8.8.8.8"], None),
        (["8.8.8.8", "192.168.1.5"], "192.168.1.5"),  # only the allowed one is ever connected to
        (["fd00::5", "10.0.0.1"], "10.0.0.1"),
        (["fd00::5"], "fd00::5"),
        (["::ffff:10.0.0.1"], "10.0.0.1"),
        (["::ffff:169.254.169.254"], None),
        (["169.254.169.254"], None),
        (["fe80::1"], None),
        (["224.0.0.1"], None),
        (["0.0.0.0"], None),
        (["::"], None),
    ],
)
def test_only_allowed_networks_are_connected_to(
    monkeypatch: pytest.MonkeyPatch, found: list[str], allowed: str | None
) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    assert allowed_address("printer", PRIVATE) == allowed


def test_dangerous_addresses_are_refused_even_if_every_network_is_allowed() -> None:
    everything = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    for address in ("169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::"):
        assert allowed_address(address, everything) is None


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300])
def test_a_name_without_an_address_is_unreachable(host: str) -> None:
    with pytest.raises(Unreachable, match="No machine"):
        allowed_address(host, PRIVATE)


def test_it_connects_to_the_very_address_that_was_checked() -> None:
    with serving(answering("200 OK")) as raw:
        door = Door(f"http://printer.invalid:{raw.port}", KEY, lambda host: "127.0.0.1")
        assert door.read("/api/version").status == 200
        with pytest.raises(Garbled):
            door.connect("/websocket")
    assert len(raw.heads) == 2
    assert all(f"Host: printer.invalid:{raw.port}\r\n" in head for head in raw.heads)


def test_an_address_outside_the_networks_is_not_connected_to() -> None:
    with serving(answering("200 OK")) as raw:
        door = Door(raw.url, KEY, lambda host: None)
        for attempt in (lambda: door.read("/"), lambda: write(door), lambda: door.connect("/")):
            with pytest.raises(Unreachable, match="not in the networks"):
                attempt()
    assert raw.heads == []


def tls(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize(("name", "trusted"), [("printer.example", True), ("somebody.example", False)])
def test_a_certificate_is_held_against_the_name_not_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, trusted: bool
) -> None:
    known = certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(known))
    context = tls(known)
    with serving(answering("200 OK"), lambda link: context.wrap_socket(link, server_side=True)) as raw:
        door = Door(f"https://printer.example:{raw.port}", KEY, lambda host: "127.0.0.1")
        if trusted:
            assert door.read("/").status == 200
            with pytest.raises(Garbled):  # through TLS, and then no WebSocket
                door.connect("/")
            return
        for attempt in (lambda: door.read("/"), lambda: write(door), lambda: door.connect("/")):
            with pytest.raises(Unreachable, match="certificate"):
                attempt()
    assert not any("X-Api-Key" in head for head in raw.heads)


# -- uploads


def test_a_multipart_body_is_as_long_as_it_says() -> None:
    data = bytes(range(256)) * 1000
    parts = Multipart({"print": "false", "path": "é"}, 'a"b\r\n.gcode', io.BytesIO(data), len(data))
    body = b"".join(iter(lambda: parts.read(16_384), b""))
    assert len(body) == len(parts)
    assert b'filename="a%22b%0D%0A.gcode"' in body
    assert data in body


def test_an_upload_has_a_length_and_is_never_chunked() -> None:
    def behave(link: socket.socket, raw: Raw) -> None:
        length = int(raw.heads[0].split("Content-Length: ")[1].split("\r\n")[0])
        while length > 0:
            length -= len(link.recv(65_536))
        answering("201 Created")(link, raw)

    sent: list[int] = []
    size = 3_000_000
    with serving(behave) as raw:
        parts = Multipart({"print": "false"}, "a.gcode", io.BytesIO(b"x" * size), size, sent.append)
        assert Door(raw.url, KEY).upload("/api/files/local", parts).status == 201
    assert "Transfer-Encoding" not in raw.heads[0]
    assert sent[-1] == size
    assert max(after - before for before, after in zip(sent, sent[1:], strict=False)) <= 65_536


class Endless(io.RawIOBase):
    """More than any buffer between here and the printer takes. ``on_read`` is called for every block."""

    size = 2**40

    def __init__(self, on_read: Callable[[], None] = lambda: None) -> None:
        self.blocks = 0
        self._on_read = on_read

    def read(self, size: int = -1) -> bytes:
        self.blocks += 1
        self._on_read()
        return bytes(size)

    def parts(self) -> Multipart:
        return Multipart({}, "a.gcode", cast("BinaryIO", self), self.size)


def test_an_upload_that_crawls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: SimpleNamespace = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(http, "time", clock)
    monkeypatch.setattr(Endless, "size", 50 * 65_536)

    def half_a_minute_passes() -> None:
        clock.now += 30  # for 64 KiB: a tenth of the slowest speed that is waited for

    source = Endless(half_a_minute_passes)
    with serving(swallowing) as raw, pytest.raises(Unclear, match="slow"):
        Door(raw.url).upload("/", source.parts())
    allowed = http.UPLOAD_TIMEOUT[1] + Endless.size / http.SLOWEST_UPLOAD
    assert source.blocks == allowed // 30 + 1


def test_an_upload_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "UPLOAD_TIMEOUT", (0.3, 0.3))
    source = Endless()
    with serving(silent) as raw, pytest.raises(Unclear, match="did not answer"):
        Door(raw.url).upload("/", source.parts())
    assert 0 < source.blocks * 65_536 < 2**30, "it stopped in the middle"


# -- paths


@pytest.mark.parametrize("path", ["a.gcode", "folder/a b & c.gcode", "été/日本.gcode", "..hidden.gcode"])
def test_ordinary_paths_are_plain(path: str) -> None:
    assert is_plain_path(path)


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/../b", "a/.", "..", "a\nb", "a/"])
def test_a_path_that_would_leave_its_folder_is_not(path: str) -> None:
    assert not is_plain_path(path)
