"""A printer's live connection, against servers that fall silent, drip, or say too much."""

from __future__ import annotations

import socket
import threading

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
    frame,
    hanging_up,
    saying,
    serving,
    silent,
    speaking,
)

KEY = "SECRETKEY0123456789"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SILENCE_S", 0.6)
    monkeypatch.setattr(sockets, "PING_S", 0.2)
    monkeypatch.setattr(sockets, "SLICE_S", 0.05)
    monkeypatch.setattr(http, "TIMEOUT", (0.5, 0.5))


def listened(behave: Behaviour, until: float = 5.0) -> list[object]:
    """All that comes before the socket fails; the last is the failure."""
    heard: list[object] = []
    stop = threading.Event()
    alarm = threading.Timer(until, stop.set)
    alarm.start()
    with serving(speaking(behave)) as raw:
        try:
            with Door(raw.url, KEY).connect("/websocket") as link:
                heard.extend(message for message in link.messages(stop) if message is not None)
        except DriverError as fault:
            heard.append(fault)
    alarm.cancel()
    return heard


@pytest.mark.usefixtures("impatient")
def test_a_socket_that_falls_silent_is_dead() -> None:
    message, fault = listened(saying(frame(b'{"a": 1}')))
    assert message == {"a": 1}
    assert isinstance(fault, Unreachable)
    assert "says nothing" in fault.message


@pytest.mark.usefixtures("impatient")
def test_a_message_that_drips_in_is_silence() -> None:
    def behave(link: socket.socket, raw: Raw) -> None:
        link.sendall(frame(b"", announced=100))
        while not raw.over.wait(0.02):
            link.sendall(b" ")

    (fault,) = listened(behave)
    assert isinstance(fault, Unreachable)


@pytest.mark.usefixtures("impatient")
def test_a_socket_that_has_nothing_to_say_but_answers_pings_lives() -> None:
    heard = listened(answering_pings, until=1.5)
    assert len(heard) >= 3
    assert all(message == ALIVE for message in heard)


@pytest.mark.usefixtures("impatient")
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


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("said", [b"hello", b"[1]", b"5", b"\xff\xfe"])
def test_what_is_not_an_object_is_garbled(said: bytes) -> None:
    (fault,) = listened(saying(frame(said)))
    assert isinstance(fault, Garbled)


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_breaks_is_unreachable() -> None:
    (fault,) = listened(hanging_up)
    assert isinstance(fault, Unreachable)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (answering("200 OK"), Garbled),
        (answering("404 Not Found"), Garbled),
        (hanging_up, Garbled),
        (silent, Unreachable),
    ],
)
def test_a_server_without_a_socket_is_named(behaviour: Behaviour, expected: type[DriverError]) -> None:
    with serving(behaviour) as raw, pytest.raises(expected):
        Door(raw.url, KEY).connect("/websocket")
