"""The real OctoPrint and the real Moonraker, started for tests. Plain Python: flows, drivers and the bench use it.

Each server lives in a virtual environment of its own (``make peers``), by default under ``.venvs/`` of the
repository, elsewhere if FARM_PEERS_DIR says so. A pristine data folder is built once beside it and copied for every
start, so no test sees what another one printed.

Klipper is on no package index, so behind the real Moonraker stands the project's own Klippy socket.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from farm.management.processes import die_with_parent

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "tests" / "data" / "peers"
OCTOPRINT_KEY = "FARMTESTKEY0123456789ABCDEF01234"
#: Deadlines are for machines that are many times slower than usual; nothing waits for one that is well.
START_S = 120.0
STOP_S = 30.0
ANSWER_S = 60.0
PORT_TRIES = 5


class PeerError(RuntimeError):
    """A peer did not start, or not in time. The message carries the end of its log."""


def peers_dir() -> Path:
    return Path(os.environ.get("FARM_PEERS_DIR") or ROOT / ".venvs")


def octoprint_missing() -> str | None:
    """Why no OctoPrint can be started here; None when it can."""
    program = peers_dir() / "octoprint" / "bin" / "octoprint"
    return None if program.exists() else f"the real OctoPrint is not installed ({program.name}; run: make peers)"


def moonraker_missing() -> str | None:
    """Why no Moonraker can be started here; None when it can."""
    program = peers_dir() / "moonraker" / "bin" / "moonraker"
    if not program.exists():
        return f"the real Moonraker is not installed ({program.name}; run: make peers)"
    if ctypes.util.find_library("sodium") is None:
        return "libsodium is not installed, the real Moonraker needs it (Debian: libsodium23)"
    return None


def free_port() -> int:
    """A port that was free a moment ago. Somebody may take it before the server does, so starts are retried."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(what: str, ready: Callable[[], bool], deadline_s: float = 60.0, every_s: float = 0.05) -> None:
    """Poll until ``ready()``; raises PeerError after ``deadline_s``."""
    end = time.monotonic() + deadline_s
    while not ready():
        if time.monotonic() > end:
            raise PeerError(f"{what}: still not so after {deadline_s:.0f} s")
        time.sleep(every_s)


class Peer:
    """One server process with a data folder of its own, on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        # Short, because a Unix socket's path may have no more than 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="farm-peer-"))
        self.port = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Terminate, wait, and remove the data folder."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """As when the power fails. The data folder stays: see :meth:`restart`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Terminate if it runs, and start again on the same port with the same data."""
        self._end(signal.SIGTERM)
        self._launch()
        self._await_ready()

    def _launch(self) -> None:
        raise NotImplementedError

    def _await_ready(self) -> None:
        raise NotImplementedError

    def _start(self, configure: Callable[[], None]) -> None:
        """Start on a free port, on another one if that was taken meanwhile."""
        for attempt in range(PORT_TRIES):
            self.port = free_port()
            configure()
            self._launch()
            try:
                return self._await_ready()
            except PeerError:
                self._end(signal.SIGKILL)
                if attempt == PORT_TRIES - 1 or "ddress already in use" not in self.log():
                    self.stop()
                    raise
        return None

    def _run(self, name: str, *command: str | Path) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                preexec_fn=die_with_parent(os.getpid()),
            )
        self._processes.append(process)
        return process

    def _end(self, how: signal.Signals) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(how)
        for process in self._processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _until(self, what: str, ready: Callable[[], bool]) -> None:
        def alive_and_ready() -> bool:
            if any(process.poll() is not None for process in self._processes):
                raise PeerError(f"{what}: the server ended by itself\n{self.log()}")
            return ready()

        try:
            wait_for(what, alive_and_ready, START_S)
        except PeerError as fault:
            raise PeerError(f"{fault}\n{self.log()}") from None

    def log(self) -> str:
        """The last 4,000 characters of each of its logs."""
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in sorted(self.folder.glob("*.log")))


class OctoPrintPeer(Peer):
    """The real OctoPrint with its virtual printer connected. Heaters 10 C/s; print time is set by F."""

    api_key = OCTOPRINT_KEY

    def __init__(self) -> None:
        super().__init__()
        shutil.copytree(_octoprint_data(), self.folder / "base")
        self._start(self._configure)

    def _configure(self) -> None:
        text = (TEMPLATES / "octoprint.yaml").read_text()
        text = text.replace("PORT", str(self.port)).replace("KEY", self.api_key)
        (self.folder / "base" / "config.yaml").write_text(text)

    def _launch(self) -> None:
        program = peers_dir() / "octoprint" / "bin" / "octoprint"
        self._run("octoprint", program, "--basedir", self.folder / "base", "serve", "--iknowwhatimdoing")

    def _await_ready(self) -> None:
        self._until(
            "OctoPrint", lambda: _json(f"{self.url}/api/connection", self.api_key, "current", "state") == "Operational"
        )


class MoonrakerPeer(Peer):
    """The real Moonraker with the project's Klippy socket behind it. ``speed`` is how much faster than real time;
    ``trusting`` servers want no API key from this machine."""

    def __init__(self, speed: float = 20.0, *, trusting: bool = False) -> None:
        super().__init__()
        self.speed = speed
        self._trusting = trusting
        self.api_key = ""
        self._klippy: subprocess.Popen[bytes] | None = None
        for name in ("config", "gcodes", "comms", "logs"):
            (self.folder / "data" / name).mkdir(parents=True)
        self._start(self._configure)

    @property
    def gcodes(self) -> Path:
        return self.folder / "data" / "gcodes"

    @property
    def _socket(self) -> Path:
        return self.folder / "data" / "comms" / "klippy.sock"

    def _configure(self) -> None:
        text = (TEMPLATES / "moonraker.conf").read_text()
        text = text.replace("PORT", str(self.port)).replace("SOCKET", str(self._socket))
        if self._trusting:
            text = text.replace("trusted_clients:", "trusted_clients:\n  127.0.0.1")
        (self.folder / "data" / "config" / "moonraker.conf").write_text(text)

    def _launch(self) -> None:
        self.start_klippy()
        self._run("moonraker", peers_dir() / "moonraker" / "bin" / "moonraker", "-d", self.folder / "data")

    def start_klippy(self) -> None:
        """The machine's own process comes (back) up."""
        self._klippy = self._run(
            "klippy", sys.executable, "-m", "printers.simulators.klippy",
            "--socket", self._socket, "--gcodes", self.gcodes, "--speed", str(self.speed),
        )  # fmt: skip

    def set_speed(self, factor: float) -> None:
        """At once, whatever the machine is busy with."""
        with _dialled(self._socket) as link:
            _ask(link, "simulate/speed", {"factor": factor})

    def kill_klippy(self) -> None:
        """The machine's own process dies; Moonraker stays."""
        assert self._klippy is not None
        self._klippy.kill()
        self._klippy.wait(STOP_S)
        self._processes.remove(self._klippy)

    def restart_moonraker(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Only Moonraker goes down and comes back; the machine prints on."""
        server = next(process for process in self._processes if process is not self._klippy)
        server.send_signal(how)
        server.wait(STOP_S)
        self._processes.remove(server)
        self._run("moonraker", peers_dir() / "moonraker" / "bin" / "moonraker", "-d", self.folder / "data")
        self._await_ready()

    def _await_ready(self) -> None:
        self._until("Moonraker", self._has_key)
        self._until(
            "Klippy", lambda: _json(f"{self.url}/server/info", self.api_key, "result", "klippy_state") == "ready"
        )

    def _has_key(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            self.api_key = _moonraker_key(self.folder / "data" / "comms" / "moonraker.sock")
        return bool(self.api_key)


class SimulatorPeer(Peer):
    """One of the farm's own simulators (kind "octoprint" or "moonraker"), as a process like the real servers."""

    def __init__(self, kind: str, speed: float = 20.0) -> None:
        super().__init__()
        self.kind = kind
        self.speed = speed
        self.api_key = "SIMULATED0123456789ABCDEF0123456"
        self._start(lambda: None)

    def _launch(self) -> None:
        self._run(
            "simulator", sys.executable, "-m", f"printers.simulators.{self.kind}", "--port", str(self.port),
            "--api-key", self.api_key, "--speed", str(self.speed), "--data-dir", self.folder / "data",
        )  # fmt: skip

    def _await_ready(self) -> None:
        self._until(f"simulated {self.kind}", self._answers)

    def _answers(self) -> bool:
        return _json(f"{self.url}/simulator/", self.api_key, "printing") is False

    def fault(self, name: str, **details: object) -> None:
        """Order one of the faults that :mod:`printers.simulators.control` names."""
        requests.post(
            f"{self.url}/simulator/",
            json={"fault": name, **details},
            headers={"X-Api-Key": self.api_key},
            timeout=ANSWER_S,
        ).raise_for_status()

    def happened(self) -> dict[str, Any]:
        """What really happened at the machine: starts, commands, uploads, filament_mm; whether it is at_rest."""
        answer = requests.get(f"{self.url}/simulator/", headers={"X-Api-Key": self.api_key}, timeout=ANSWER_S)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


class FleetPeer:
    """Many simulated OctoPrints that print, in one process; see :mod:`printers.simulators.fleet`. ``printers`` are
    their names, addresses and keys."""

    def __init__(self, count: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "printers.simulators.fleet", "--count", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for whoever started it
        )
        self.printers: list[dict[str, str]] = self._heard()["printers"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        """It ends with its input."""
        try:
            self.process.communicate(timeout=STOP_S)
        finally:
            self.process.kill()

    def change_state(self, per_second: float) -> None:
        self._say({"changes_per_s": per_second})

    def report(self) -> dict[str, Any]:
        """What happened since the last one."""
        self._say({"report": True})
        return self._heard()

    def _say(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise PeerError("The fleet of simulated printers ended.")
        heard: dict[str, Any] = json.loads(line)
        return heard


def _octoprint_data() -> Path:
    """The pristine data folder: one user, because without one OctoPrint starts its set-up wizard."""
    template = (TEMPLATES / "octoprint.yaml").read_bytes()
    pristine = peers_dir() / "octoprint-data" / hashlib.sha256(template).hexdigest()[:12]
    pristine.parent.mkdir(parents=True, exist_ok=True)
    with (pristine.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may come first
        if not pristine.exists():
            building = Path(tempfile.mkdtemp(dir=pristine.parent))
            (building / "config.yaml").write_bytes(
                template.replace(b"PORT", b"0").replace(b"KEY", OCTOPRINT_KEY.encode())
            )
            program = peers_dir() / "octoprint" / "bin" / "octoprint"
            command = [str(program), "--basedir", str(building), "user", "add", "--password", "farm", "--admin", "farm"]
            subprocess.run(command, check=True, capture_output=True, timeout=START_S)
            building.rename(pristine)
    return pristine


def _json(url: str, api_key: str, *keys: str) -> Any:
    """A value out of a JSON answer; None while the server does not answer so."""
    with contextlib.suppress(requests.RequestException, ValueError, KeyError, TypeError):
        found = requests.get(url, headers={"X-Api-Key": api_key}, timeout=5).json()
        for key in keys:
            found = found[key]
        return found
    return None


def _moonraker_key(path: Path) -> str:
    """Moonraker gives its API key over its own Unix socket without a login (JSON-RPC, messages end with 0x03)."""
    with _dialled(path) as link:
        return str(_ask(link, "access.get_api_key"))


@contextlib.contextmanager
def _dialled(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(ANSWER_S)
        link.connect(str(path))
        yield link


def _ask(link: socket.socket, method: str, params: dict[str, object] | None = None) -> object:
    """What one JSON-RPC request over an open Unix socket comes to. Raises OSError if it ends before that."""
    request = {"jsonrpc": "2.0", "method": method, "params": params or {}, "id": 1}
    link.sendall(json.dumps(request).encode() + b"\x03")
    for message in _messages(link):
        if message.get("id") == 1:
            return message["result"]
    raise ConnectionResetError(f"no answer to {method}")


def _messages(link: socket.socket) -> Iterator[dict[str, Any]]:
    buffer = b""
    while block := link.recv(65_536):
        *whole, buffer = (buffer + block).split(b"\x03")
        yield from map(json.loads, whole)
