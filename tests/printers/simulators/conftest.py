"""The simulators as processes, and ways to listen to them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import pytest
import requests
import websocket

from tests.peers import SimulatorPeer, wait_for

DEADLINE_S = 60.0
KINDS = ("octoprint", "moonraker")


class Ask:
    """HTTP to one server with its key."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url, self.api_key = url, api_key

    def __call__(
        self, method: str, path: str, *, key: str | None = "", timeout: float = DEADLINE_S, **options: Any
    ) -> Any:
        """``key`` None sends none, "" the right one."""
        headers = {} if key is None else {"X-Api-Key": key or self.api_key}
        headers.update(options.pop("headers", {}))
        return requests.request(method, self.url + path, headers=headers, timeout=timeout, **options)

    def json(self, path: str) -> Any:
        return self("GET", path).json()


class Ear:
    """A WebSocket whose messages are collected in a thread."""

    def __init__(self, peer: Any, path: str, *first: Any) -> None:
        self.heard: list[Any] = []
        self.gone = threading.Event()
        self.clean_end = False
        self._changed = threading.Condition()
        url = peer.url.replace("http", "ws") + path
        self._socket = websocket.create_connection(url, timeout=DEADLINE_S, header={"X-Api-Key": peer.api_key})
        for message in first:
            self.say(message)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close(timeout=1)
        self._thread.join(DEADLINE_S)
        self._socket.shutdown()

    def say(self, message: Any) -> None:
        self._socket.send(message if isinstance(message, str) else json.dumps(message))

    def _listen(self) -> None:
        try:
            while text := self._socket.recv():
                with self._changed:
                    self.heard.append(json.loads(text))
                    self._changed.notify_all()
            self.clean_end = True  # websocket-client returns "" after a close frame
        except (websocket.WebSocketException, OSError):
            pass
        self.gone.set()

    def until(self, fits: Callable[[Any], bool]) -> Any:
        """The first message that fits, of those heard and to come."""
        with self._changed:
            found = self._changed.wait_for(lambda: [m for m in self.heard if fits(m)], DEADLINE_S)
        assert found, f"not heard; the last were {self.heard[-3:]}"
        return found[0]

    def forget(self) -> None:
        with self._changed:
            self.heard.clear()


def octoprint_ear(peer: SimulatorPeer, *first: Any) -> Ear:
    """A logged-in listener, after OctoPrint's own rule: a session, never the key."""
    login = Ask(peer.url, peer.api_key)("POST", "/api/login", json={"passive": True}).json()
    return Ear(peer, "/sockjs/websocket", *first, {"auth": f"{login['name']}:{login['session']}"})


def moonraker_ear(peer: SimulatorPeer) -> Ear:
    names = ("webhooks", "print_stats", "virtual_sdcard", "display_status", "extruder", "heater_bed", "pause_resume")
    subscribe = {"objects": dict.fromkeys(names)}
    call = {"jsonrpc": "2.0", "id": 1, "method": "printer.objects.subscribe", "params": subscribe}
    ear = Ear(peer, "/websocket", call)
    ear.until(lambda m: m.get("id") == 1)  # what happens from now on comes as a change
    return ear


def gcode(lines: int, *, start: str = "G28\n", end: str = "") -> str:
    """Moves of 30 mm at 50 mm/s: 0.6 s each at speed 1."""
    return start + "".join(f"G1 X{40 if n % 2 else 10} E{n * 0.1:.2f} F3000\n" for n in range(lines)) + end


def upload(peer: SimulatorPeer, name: str, text: str, *, begin: bool = False, **options: Any) -> Any:
    path = "/api/files/local" if peer.kind == "octoprint" else "/server/files/upload"
    form = {"print": "true"} if begin else {}
    return Ask(peer.url, peer.api_key)("POST", path, files={"file": (name, text)}, data=form, **options)


def begin(peer: SimulatorPeer, name: str, **options: Any) -> Any:
    """Start a file that is there, in the vendor's way."""
    ask = Ask(peer.url, peer.api_key)
    if peer.kind == "octoprint":
        ask("POST", f"/api/files/local/{name}", json={"command": "select"})
        return ask("POST", "/api/job", json={"command": "start"}, **options)
    return ask("POST", "/printer/print/start", json={"filename": name}, **options)


def await_ready(peer: SimulatorPeer) -> None:
    ask = Ask(peer.url, peer.api_key)
    if peer.kind == "octoprint":
        wait_for("OctoPrint", lambda: ask.json("/api/connection")["current"]["state"] == "Operational", DEADLINE_S)
    else:
        wait_for("Klippy", lambda: ask.json("/server/info")["result"]["klippy_state"] == "ready", DEADLINE_S)
        for _ in range(2):  # Moonraker itself listens to Klippy only a beat later; each query takes one
            ask.json("/printer/objects/query?webhooks")


def await_print(peer: SimulatorPeer, printing: bool) -> None:
    wait_for("the print", lambda: peer.happened()["printing"] is printing, DEADLINE_S)


@pytest.fixture(scope="module")
def shared_octoprint() -> Iterator[SimulatorPeer]:
    with SimulatorPeer("octoprint") as peer:
        yield peer


@pytest.fixture(scope="module")
def shared_moonraker() -> Iterator[SimulatorPeer]:
    with SimulatorPeer("moonraker") as peer:
        yield peer


@pytest.fixture
def octoprint(shared_octoprint: SimulatorPeer) -> SimulatorPeer:
    return rested(shared_octoprint)


@pytest.fixture
def moonraker(shared_moonraker: SimulatorPeer) -> SimulatorPeer:
    return rested(shared_moonraker)


def rested(peer: SimulatorPeer) -> SimulatorPeer:
    """The same simulator with nothing left of the test before, however that one ended; only its files stay."""
    await_ready(peer)
    if not peer.happened()["at_rest"]:
        peer.restart()
        await_ready(peer)
        assert peer.happened()["at_rest"]
    return peer


@pytest.fixture(params=KINDS)
def simulator(request: pytest.FixtureRequest) -> Iterator[SimulatorPeer]:
    """One of each kind, fresh for a test that hurts it."""
    with SimulatorPeer(request.param) as peer:
        await_ready(peer)
        yield peer


def kind_of(value: Any) -> Any:
    """A message without its values: names and kinds, of lists the first entry; null fits every kind."""
    if isinstance(value, dict):
        return {name: kind_of(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [kind_of(value[0])] if value else []
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def differences(ours: Any, real: Any, at: str = "") -> list[str]:
    """Where a simulator's message is not built like the real one's."""
    if isinstance(ours, dict) and isinstance(real, dict):
        odd = [f"{at}: only one has {name}" for name in ours.keys() ^ real.keys()]
        both = ours.keys() & real.keys()
        return odd + [fault for name in both for fault in differences(ours[name], real[name], f"{at}.{name}")]
    if isinstance(ours, list) and isinstance(real, list):
        return differences(ours[0], real[0], f"{at}[]") if ours and real else []
    if ours is None or real is None or kind_of(ours) == kind_of(real):
        return []
    return [f"{at}: {kind_of(ours)} is not {kind_of(real)}"]
