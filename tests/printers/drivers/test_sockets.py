"""A printer's live connection, against servers that fall silent, drip, or say too much."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from printers.drivers import http, sockets
from printers.drivers.base import DriverError, Garbled, Unreachable
from printers.drivers.http import Door
from printers.drivers.sockets import ALIVE
from tests.printers.drivers.raw import (
    TEXT,
    Behaviour,
    Raw,
    answering,
    answering_pings,
    certificate,
    frame,
    hanging_up,
    saying,
    serving,
    silent,
    speaking,
)

KEY = "SECRETKEY0123456789"


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sockets, "time", clock)
    monkeypatch.setattr(sockets, "SLICE_S", 0.02)
    return clock


Message = dict[str, object] | None


def listened(
    behave: Behaviour, after_each: Callable[[Message, threading.Event], None] = lambda *_: None
) -> list[object]:
    """All that comes until the socket fails or ``after_each(message, stop)`` sets ``stop``; a failure comes last.
    None, that nothing came for a while, is not kept."""
    heard: list[object] = []
    stop = threading.Event()
    with serving(behave) as raw:
        try:
            with Door(raw.url, KEY).connect("/websocket") as link:
                for message in link.messages(stop):
                    if message is not None:
                        heard.append(message)
                    after_each(message, stop)
        except DriverError as fault:
            heard.append(fault)
    return heard


def test_a_socket_that_falls_silent_is_dead(clock: Clock) -> None:
    def a_second_passes(message: Message, stop: threading.Event) -> None:
        clock.now += 1 if message is None else 0

    message, fault = listened(saying(frame(b'{"a": 1}')), a_second_passes)
    assert message == {"a": 1}
    assert isinstance(fault, Unreachable)
    assert "says nothing" in fault.message
    assert clock.now == 1000 + sockets.SILENCE_S + 1


def test_a_message_that_drips_in_is_silence(clock: Clock) -> None:
    def drip(link: socket.socket, raw: Raw) -> None:
        link.sendall(frame(b"", announced=1_000_000))
        while not raw.over.wait(0.02):
            clock.now += 1
            link.sendall(b" ")

    (fault,) = listened(speaking(drip))
    assert isinstance(fault, Unreachable)


def test_a_socket_that_has_nothing_to_say_but_answers_pings_lives(clock: Clock) -> None:
    signs: list[Message] = []

    def a_while_passes_after_each_sign(message: Message, stop: threading.Event) -> None:
        if message is not None or not signs:
            signs.append(message)
            clock.now += sockets.SILENCE_S - 1
        if len(signs) > 4:
            stop.set()

    heard = listened(speaking(answering_pings), a_while_passes_after_each_sign)
    assert heard == [ALIVE] * 4


@pytest.mark.parametrize(
    "wire",
    [
        frame(b"", announced=sockets.MAX_MESSAGE + 1),
        frame(b"", announced=2**62),
        b"".join([frame(b"x" * 2**20, TEXT if n == 0 else 0, last=False) for n in range(5)]),
    ],
    ids=["a little", "absurdly", "in pieces"],
)
def test_a_message_that_is_too_big_is_not_taken(wire: bytes) -> None:
    (fault,) = listened(saying(wire))
    assert isinstance(fault, Garbled)


@pytest.mark.parametrize("said", [b"hello", b"[1]", b"5", b"\xff\xfe"])
def test_what_is_not_an_object_is_garbled(said: bytes) -> None:
    (fault,) = listened(saying(frame(said)))
    assert isinstance(fault, Garbled)


def test_a_connection_that_breaks_is_unreachable() -> None:
    (fault,) = listened(speaking(hanging_up))
    assert isinstance(fault, Unreachable)


@pytest.mark.parametrize("behaviour", [answering("200 OK"), answering("404 Not Found"), hanging_up])
def test_a_server_without_a_socket_is_named(behaviour: Behaviour) -> None:
    with serving(behaviour) as raw, pytest.raises(Garbled):
        Door(raw.url, KEY).connect("/websocket")


def test_a_server_that_never_answers_the_handshake_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", (0.3, 0.3))
    with serving(silent) as raw, pytest.raises(Unreachable):
        Door(raw.url, KEY).connect("/websocket")


def test_messages_that_come_together_or_in_pieces_are_read_one_by_one() -> None:
    """What was read with one message is the beginning of the next."""
    together = b"".join(frame(b'{"n": %d, "pad": "%s"}' % (n, b"x" * (n * 97 % 500))) for n in range(200))

    def enough(message: Message, stop: threading.Event) -> None:
        if message is not None and message.get("n") == 199:
            stop.set()

    for pieces in (1, 7, 1000):
        step = len(together) // pieces + 1

        def speak(link: socket.socket, raw: Raw, step: int = step) -> None:
            for at in range(0, len(together), step):
                link.sendall(together[at : at + step])
            raw.over.wait(60)

        heard = listened(speaking(speak), enough)
        assert [message["n"] for message in heard] == list(range(200))  # type: ignore[index]


def test_those_who_wait_calmly_hear_what_comes_and_are_woken_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(sockets.Socket, "_wait_for", lambda self, seconds: waits.append(seconds))
    stop = threading.Event()
    with serving(saying(frame(b'{"a": 1}'))) as raw, Door(raw.url, KEY).connect("/websocket") as link:
        assert next(link.messages(stop, calm=True)) == {"a": 1}
    assert waits == [sockets.SLICE_S, sockets.CALM_SLICE_S]


def test_it_speaks_and_waits_through_tls_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = certificate(tmp_path, "printer.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(known))
    monkeypatch.setattr(sockets, "SLICE_S", 0.05)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(known)

    def talk(link: socket.socket, raw: Raw) -> None:
        link.sendall(frame(b'{"first": 1}'))
        link.recv(65_536)  # whatever is said
        link.sendall(frame(b'{"second": 2}'))
        silent(link, raw)

    with (
        serving(speaking(talk), lambda link: context.wrap_socket(link, server_side=True)) as raw,
        Door(f"https://printer.example:{raw.port}", KEY, lambda _: "127.0.0.1").connect("/websocket") as link,
    ):
        assert link.receive() == {"first": 1}
        assert link.receive() is None
        link.send({"subscribe": True})
        assert link.receive() == {"second": 2}


def test_a_server_that_takes_nothing_any_longer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SLICE_S", 0.05)

    def say_more_than_all_buffers_hold() -> None:
        with Door(raw.url, KEY).connect("/websocket") as link:
            for _ in range(10_000):
                link.send({"a": "x" * 65_536})

    with serving(speaking(silent)) as raw, pytest.raises(Unreachable, match="broke"):
        say_more_than_all_buffers_hold()
