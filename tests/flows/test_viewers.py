"""Viewers of a real farm, through faults of what lies between them and the printers."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pytest
import websocket

from farm.hub import TOO_SLOW
from farm.viewing import MOST_OPEN
from tests.flows.client import Client, Live
from tests.flows.conftest import Lab, Machine

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def printer(lab: Lab) -> Machine:
    return lab.machine("simulated-octoprint")


@pytest.fixture
def says(lab: Lab, printer: Machine) -> Iterator[Says]:
    yield Says(lab.staff, printer)
    Says(lab.staff, printer)("")


class Says:
    """Changes what everyone is told of a printer."""

    def __init__(self, staff: Client, printer: Machine) -> None:
        self._staff, self._printer = staff, printer

    def __call__(self, word: str) -> str:
        self._staff.call("PATCH", f"printers/{self._printer.id}/", json={"maintenance": word})
        return word


def reads(live: Live, printer: Machine, word: str) -> None:
    live.until(lambda told: told.printers[printer.id]["maintenance"] == word, f"{word!r} is told")


def test_a_viewer_stays_through_a_loss_of_redis(lab: Lab, sam: Client, printer: Machine, says: Says) -> None:
    with sam.live() as live:
        live.until(lambda told: printer.id in told.printers, "the printer is there")
        dead = lab.farm.kill_child("redis")
        lab.farm.wait_for_child("redis", other_than=dead)
        reads(live, printer, says("after Redis"))
        live.until(lambda told: not told.printers[printer.id]["stale"], "the printer is heard again")


def test_a_viewer_comes_back_when_the_web_process_was_killed(
    lab: Lab, sam: Client, printer: Machine, says: Says
) -> None:
    with sam.live() as live:
        live.until(lambda told: printer.id in told.printers, "the printer is there")
        dead = lab.farm.kill_child("web")
        with pytest.raises((websocket.WebSocketException, OSError)):
            live.until(lambda _: False, "it is told that the web process is gone")
    lab.farm.wait_for_child("web", other_than=dead)
    with sam.live_again() as live:
        reads(live, printer, says("after the web"))


def test_a_viewer_that_never_reads_is_told_little_and_closed(sam: Client, printer: Machine, says: Says) -> None:
    ticket = sam.post("ws-ticket/")["ticket"]
    address = f"ws{sam.url.removeprefix('http')}/ws/live/"
    lazy = websocket.create_connection(address, 90, subprotocols=["farm.ticket", ticket], suppress_origin=True)
    with sam.live() as brisk:
        for n in range(20):
            reads(brisk, printer, says(f"word {n}"))
        frames: list[dict[str, object]] = []
        while True:  # only now it reads: what was sent before, and the end
            opcode, data = lazy.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                break
            frames.append(json.loads(data))
    assert struct.unpack("!H", data[:2]) == (TOO_SLOW,)
    assert 2 <= len(frames) <= MOST_OPEN + 1
    lazy.close()
