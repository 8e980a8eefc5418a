"""One person at the farm's doors. Speaks only HTTP and WebSocket, as any program of theirs would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests
import websocket

from slicing.mesh import write_stl
from tests import shapes
from tests.flows.farm import wait_until
from tests.told import Told

TERMINAL = ("completed", "failed", "cancelled")
#: s; generous, because every wait ends as soon as what it waits for is there
PATIENCE = 120.0

#: cold and hasty: a small part takes a second on OctoPrint's virtual printer, which heats by 10 degrees a second and
#: moves ten times as fast as it is told
HASTY = {
    "nozzle_temperature": 25,
    "bed_temperature": 25,
    "print_speed": 500,
    "first_layer_speed": 200,
    "travel_speed": 1000,
    "min_layer_time": 0,
    "walls": 1,
    "infill_density": 0,
    "skirt_loops": 0,
}
#: a minute or so on the same printers, if nobody ends it sooner
SLOW = {**HASTY, "print_speed": 12, "first_layer_speed": 12, "walls": 3, "infill_density": 30}


class Refused(Exception):
    """The farm said no: ``{code, message, extra}`` with a status."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}")
        self.status = answer.status_code
        body = answer.json()
        self.code: str = body["code"]
        self.message: str = body["message"]
        self.extra: Any = body["extra"]


class Client:
    """Logs in when it must; answers are decoded, refusals raised."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url, self.username, self._password = url, username, password
        self._session = requests.Session()
        self.login()

    def login(self) -> None:
        tokens = self.call("POST", "token/", json={"username": self.username, "password": self._password})
        self._session.headers["Authorization"] = f"Bearer {tokens['access']}"

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._session.request(method, f"{self.url}/api/{path}", timeout=60, **options)
        if answer.status_code == 401 and path != "token/":  # it lives for five minutes only
            self.login()
            answer = self._session.request(method, f"{self.url}/api/{path}", timeout=60, **options)
        if not answer.ok:
            raise Refused(answer)
        return answer.json() if answer.content else None

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params=params)

    def post(self, path: str, **body: Any) -> Any:
        return self.call("POST", path, json=body)

    def every(self, path: str, **params: Any) -> list[Any]:
        """All rows of a list, page after page."""
        page = self.get(path, **params)
        rows: list[Any] = page["results"]
        while page["next"]:
            page = self.call("GET", page["next"].partition("/api/")[2])
            rows += page["results"]
        return rows

    # -- models and jobs
    def upload(self, folder: Path, size: tuple[float, float, float], name: str = "part.stl") -> str:
        """A box of that size in mm as a new model; its id."""
        return self.upload_shape(folder, shapes.box(*size), name)

    def upload_shape(self, folder: Path, shape: shapes.Triangles, name: str) -> str:
        file = folder / name
        write_stl(shapes.mesh(shape), file)
        content = (name, file.read_bytes())  # not a stream: it may be sent twice
        model: str = self.call("POST", "models/", files={"file": content})["id"]
        return model

    def submit(self, model: str, printer: str | None = None, **options: Any) -> str:
        """The new job's id. Printed hastily unless ``settings`` says otherwise."""
        job: str = self.post("jobs/", **{"model": model, "printer": printer, "settings": HASTY, **options})["id"]
        return job

    def job(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"jobs/{job}/")
        return found

    def gcode(self, job: str) -> str:
        """What a job was sliced to, as it is downloaded."""
        answer = self._session.get(f"{self.url}/api/jobs/{job}/gcode/", timeout=60)
        answer.raise_for_status()
        return answer.text

    def wait_for_job(self, job: str, *wanted: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The job once its status is one of ``wanted``; fails at once when it has ended otherwise."""

        def reached() -> dict[str, Any] | None:
            now = self.job(job)
            if now["status"] in wanted:
                return now
            assert now["status"] not in TERMINAL, self.story(job)
            return None

        found: dict[str, Any] = wait_until(reached, lambda: f"it is {' or '.join(wanted)}: {self.story(job)}", seconds)
        return found

    def wait_for_reason(self, job: str, words: str, seconds: float = PATIENCE) -> str:
        """Until the job waits in the queue and its owner is told so in these words."""

        def said() -> str:
            now = self.job(job)
            message: str = now["message"]
            return message if now["status"] == "ready" and words in message else ""

        reason: str = wait_until(said, lambda: f"somebody says {words!r}: {self.story(job)}", seconds)
        return reason

    def story(self, job: str) -> str:
        """Everything that happened to a job, for people who ask why a test failed."""
        now = self.job(job)
        lines = [f"job {now['name']} is {now['status']}: {now['message']}"]
        lines += [f"{e['at']} {e['old']} -> {e['new']} ({e['cause']}) {e['message']}" for e in self.events(job)]
        return "\n  ".join(lines)

    def events(self, job: str) -> list[dict[str, Any]]:
        return self.every(f"jobs/{job}/events/")

    def ways(self, job: str) -> list[str]:
        """The statuses that the last print of a job went through, in order. (On a machine that is very slow a start
        may come too late; then it is given up before it is sent, and there is another print.)"""
        events = [event for event in self.events(job) if event["print"]]
        return [event["new"] for event in events if event["print"] == events[-1]["print"]]

    # -- printers
    def state(self, printer: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"printers/{printer}/state/")
        return found

    def wait_for_state(
        self, printer: str, wanted: Callable[[dict[str, Any]], Any], what: str, seconds: float = PATIENCE
    ) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []

        def reached() -> bool:
            seen[:] = [self.state(printer)]
            return bool(wanted(seen[0]))

        wait_until(reached, lambda: f"the printer {what}: {seen[0]}", seconds)
        return seen[0]

    def wait_until_idle(self, printer: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Heard, and nothing on it: neither the machine's own work nor a print of the farm."""
        return self.wait_for_state(
            printer, lambda now: now["status"] == "idle" and not now["stale"] and not now["job"], "is idle", seconds
        )

    def clear_bed(self, printer: str) -> None:
        """What a person does: wait until it is idle, look at the bed, say which one is empty."""
        seen = self.wait_until_idle(printer)
        if not seen["bed_clear"]:
            self.clear(printer, seen["bed"])

    def clear(self, printer: str, bed: int) -> None:
        self.post(f"printers/{printer}/clear-bed/", bed=bed)

    def command(self, printer: str, kind: str, **details: Any) -> str:
        """Ask for it; the command's id."""
        command: str = self.post(f"printers/{printer}/commands/", command=kind, **details)["id"]
        return command

    def outcome(self, printer: str, command: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The command once it has ended, whatever came of it."""
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.get(f"printers/{printer}/commands/{command}/"))
            return found["status"] not in ("queued", "sent")

        wait_until(ended, lambda: f"the command ends: {found}", seconds)
        return found

    def done(self, printer: str, kind: str, **details: Any) -> None:
        """Command it and see that it was done."""
        ended = self.outcome(printer, self.command(printer, kind, **details))
        assert ended["status"] == "done", ended

    def starts(self, printer: str) -> list[dict[str, Any]]:
        """Every start that the farm ever sent to a printer: without those that came too late to be sent."""
        return [row for row in self.every(f"printers/{printer}/commands/", kind="start") if row["status"] != "expired"]

    # -- the live socket
    @contextmanager
    def live(self) -> Iterator[Live]:
        """As programs do it: by a ticket."""
        ticket = self.post("ws-ticket/")["ticket"]
        address = f"ws{self.url.removeprefix('http')}/ws/live/"
        socket = websocket.create_connection(address, 20, subprotocols=["farm.ticket", ticket], suppress_origin=True)
        try:
            yield Live(socket)
        finally:
            socket.close()

    @contextmanager
    def live_again(self) -> Iterator[Live]:
        """As web/live.js does: again and again, until it is let in and told something."""
        with ExitStack() as stack:

            def connect() -> Live | None:
                try:
                    return stack.enter_context(self.live())
                except (websocket.WebSocketException, requests.RequestException, Refused, ValueError, OSError):
                    return None

            yield wait_until(connect, "a viewer is told something", 60)


class Live(Told):
    """What /ws/live/ tells: ``said`` is all of it."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        super().__init__()
        self._socket = socket
        self.said: list[dict[str, Any]] = []
        self._read()

    def _read(self) -> None:
        frame = json.loads(self._socket.recv())
        self.said.append(frame)
        lacking = self.hear(frame)
        self._socket.send(json.dumps({"type": "ack", "seq": frame["seq"]}))
        if lacking:
            self._socket.send(json.dumps({"type": "resync", "printers": lacking}))

    def until(self, seen: Callable[[Live], Any], what: str, seconds: float = PATIENCE) -> None:
        """Read on until what was told says so."""
        deadline = time.monotonic() + seconds
        while not seen(self):
            assert time.monotonic() < deadline, f"Not told in {seconds:g} s that {what}: {self.printers}, {self.jobs}"
            self._read()
