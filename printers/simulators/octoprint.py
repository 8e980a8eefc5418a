"""An OctoPrint that prints on a machine made of arithmetic: ``python -m printers.simulators.octoprint``.

REST and WebSocket speak as OctoPrint 1.11.8 with its virtual printer does, down to its odd answers: a start with no
file is 204 and does nothing, a wrong key is 403 to a GET and 400 to a POST, an upload with ``print`` while printing is
201 and only stored, and a socket that logs in with an API key is never told that this was wrong.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from printers.simulators.control import Simulator, main, same_secret
from printers.simulators.machine import Machine
from printers.simulators.octoprint_files import BadName, BadType, Storage, refs
from printers.simulators.octoprint_host import Host
from printers.simulators.web import NoAnswer, Part, Request, Response, WebSocket, multipart

VERSION = "1.11.8"
USER = "_api"  # whoever uses the global API key
#: An update at most this often; OctoPrint's ``throttle`` multiplies it.
UPDATE_SECONDS = 0.5
_SESSION_SECONDS = 15 * 60

_FORBIDDEN = (
    "You don't have the permission to access the requested resource. "
    "It is either read-protected or not readable by the server."
)
_NOT_FOUND = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
_NOT_JSON = "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
_BROKEN_JSON = "The browser (or proxy) sent a request that this server could not understand."
_CRASHED = (
    "The server encountered an internal error and was unable to complete your request. "
    "Either the server is overloaded or there is an error in the application."
)
_BAUDRATES = [250000, 230400, 115200, 57600, 38400, 19200, 9600]
_AXES = {"x": 6000, "y": 6000, "z": 200, "e": 300}
_PERMISSIONS = [
    "ADMIN", "STATUS", "CONNECTION", "WEBCAM", "SYSTEM", "FILES_LIST", "FILES_UPLOAD", "FILES_DOWNLOAD", "FILES_DELETE",
    "FILES_SELECT", "PRINT", "GCODE_VIEWER", "MONITOR_TERMINAL", "CONTROL", "SLICE", "TIMELAPSE_LIST",
    "TIMELAPSE_DOWNLOAD", "TIMELAPSE_DELETE", "TIMELAPSE_ADMIN", "SETTINGS_READ", "SETTINGS",
]  # fmt: skip

Body = dict[str, Any]


class Refusal(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, message: str, *, html: bool = False) -> None:
        super().__init__(message)
        self.response = Response.of({"error": message}, status)
        if html:
            self.response = Response(status, message.encode(), "text/html; charset=utf-8")


NO_CONTENT = Response(204, b"", "text/plain")


@dataclass
class Viewer:
    """One WebSocket and what it still has to be told."""

    socket: WebSocket
    authorised: bool = False
    throttle: int = 1
    #: what of ``state`` it wants: everything unless it subscribed
    state: bool = True
    with_logs: bool = True
    events: frozenset[str] | None = None  # None: all of them
    sent_at: float = 0.0
    changed: bool = False
    temps: list[Body] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    def hear(self, kind: str, details: Any) -> None:
        if kind == "event":
            if self.events is None or details["type"] in self.events:
                self.socket.send({"event": details})
        elif kind == "temps":
            self.temps.append(details)
        elif kind == "log":
            self.logs.append(details)
        self.changed = True

    def subscribe(self, wish: Body) -> None:
        """``{"state": bool | {"logs": bool, ...}, "events": bool | [names], "plugins": ...}``"""
        state, events = wish.get("state", False), wish.get("events", False)
        self.state = bool(state)
        self.with_logs = state.get("logs", False) not in (False, None) if isinstance(state, dict) else bool(state)
        self.events = None if events is True else frozenset(events or [])


class OctoPrint(Simulator):
    socket_path = "/sockjs/websocket"

    def __init__(self, *, api_key: str, data_dir: Path, speed: float = 1.0, name: str = "OctoPrint") -> None:
        super().__init__(api_key=api_key, data_dir=data_dir, speed=speed, name=name)
        self.storage = Storage(data_dir)
        self.viewers: list[Viewer] = []
        self.host = Host(self.storage, self._tell)
        self.sessions: dict[str, float] = {}

    @property
    def machine(self) -> Machine:
        return self.host.machine

    # -- life
    def power_on(self) -> None:
        self.sessions.clear()
        self.viewers.clear()
        self.host.boot()
        self.host.connect()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.host.tick()
        now = time.monotonic()
        for viewer in self.viewers:
            if viewer.changed and viewer.authorised and viewer.state:
                self._update(viewer, now)

    def fail_print(self, message: str) -> None:
        self.host.fatal_error(message)

    def start_locally(self, file: str) -> None:
        """From OctoPrint's own page, by its own user."""
        self.host.select(file, "admin")
        if self.host.start("admin"):
            self.starts[file] += 1

    def faults(self) -> dict[str, Callable[[Body], None]]:
        return {**super().faults(), "disconnect": lambda details: self.host.disconnect()}

    # -- WebSocket
    def _tell(self, kind: str, details: Any) -> None:
        for viewer in self.viewers:
            if viewer.authorised:
                viewer.hear(kind, details)

    async def serve_socket(self, socket: WebSocket) -> None:
        viewer = Viewer(socket)
        self.viewers.append(viewer)
        socket.send({"connected": self._greeting()})
        try:
            while (text := await socket.receive()) is not None:
                if not self._understand(viewer, text):
                    socket.close()
                    return
        finally:
            if viewer in self.viewers:
                self.viewers.remove(viewer)

    def _understand(self, viewer: Viewer, text: str) -> bool:
        """Whether the connection may stay: OctoPrint ignores what is not JSON and hangs up on what is no object."""
        try:
            message = json.loads(text)
        except ValueError:
            return True
        if not isinstance(message, dict):
            return False
        if "auth" in message:
            self._authorise(viewer, str(message["auth"]))
        elif isinstance(message.get("throttle"), int) and message["throttle"] >= 1:
            viewer.throttle = message["throttle"]
        elif isinstance(message.get("subscribe"), dict):
            viewer.subscribe(message["subscribe"])
            if viewer.authorised:
                self._send_history(viewer)
        return True

    def _authorise(self, viewer: Viewer, login: str) -> None:
        user, colon, session = login.partition(":")
        if not colon:
            return  # an API key, say: OctoPrint says nothing, now or ever
        if user != USER or self.sessions.get(session, 0.0) < time.monotonic():
            viewer.socket.send({"reauthRequired": {"reason": "stale"}})
            return
        viewer.authorised = True
        self._send_history(viewer)
        viewer.socket.send({"timelapse": None})
        viewer.hear("event", {"type": "ClientAuthed", "payload": {"username": USER, "remoteAddress": "127.0.0.1"}})

    def _send_history(self, viewer: Viewer) -> None:
        if not viewer.state:
            return
        logs = list(self.host.logs) if viewer.with_logs else []
        snapshot = {**self._snapshot(), "temps": list(self.host.temps), "logs": logs, "messages": []}
        del snapshot["busyFiles"]
        viewer.socket.send({"history": snapshot})
        viewer.temps.clear()
        viewer.logs.clear()
        viewer.changed, viewer.sent_at = False, time.monotonic()

    def _update(self, viewer: Viewer, now: float) -> None:
        if now - viewer.sent_at < UPDATE_SECONDS * viewer.throttle:
            return
        current = {**self._snapshot(), "temps": viewer.temps, "logs": [], "messages": []}
        if viewer.with_logs:
            current["logs"] = viewer.logs + self.host.recent_lines()
            current["messages"] = [text.removeprefix("Recv: ") for text in viewer.logs if text.startswith("Recv: ")]
        viewer.socket.send({"current": current})
        viewer.temps, viewer.logs, viewer.sent_at = [], [], now
        viewer.changed = self.host.printing

    def _snapshot(self) -> Body:
        host = self.host
        busy = [{"origin": "local", "path": host.file}] if host.active else []
        return {
            "state": host.state_info(),
            "job": host.job_info(),
            "currentZ": host.current_z,
            "progress": host.progress_info(),
            "offsets": host.offsets,
            "resends": {"count": 0, "transmitted": host.transmitted, "ratio": 0},
            "serverTime": time.time(),
            "busyFiles": busy,
            "markings": host.markings,
        }

    def _greeting(self) -> Body:
        permissions = [{"key": name, "name": name.title(), "dangerous": False} for name in _PERMISSIONS]
        return {
            "version": VERSION,
            "display_version": VERSION,
            "branch": "HEAD",
            "python_version": "3.11",
            "plugin_hash": "0" * 32,
            "config_hash": "0" * 32,
            "debug": False,
            "safe_mode": None,
            "online": True,
            "permissions": permissions,
        }

    # -- REST
    def authorised(self, request: Request) -> bool:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = request.headers.get("x-api-key") or bearer or request.query.get("apikey")
        return same_secret(given, self.api_key)

    async def answer(self, request: Request) -> Response:
        try:
            return await self._route(request)
        except Refusal as refusal:
            return refusal.response

    async def _route(self, request: Request) -> Response:
        files = request.path == "/api/files" or request.path.startswith("/api/files/")
        download = request.path.startswith("/downloads/files/local/")
        handler = self._routes().get((request.method, request.path))
        if handler is None and not files and not download:
            raise Refusal(404, _NOT_FOUND)
        if not self.authorised(request):
            if download:
                raise Refusal(403, _page("403: Forbidden"), html=True)
            raise Refusal(403, _FORBIDDEN) if request.method == "GET" else Refusal(400, "CSRF validation failed")
        if files:
            return await self._files(request)
        if handler is None:
            return self._download(request.path.removeprefix("/downloads/files/local/"))
        answer = handler(request)
        return answer if isinstance(answer, Response) else await answer

    def _routes(self) -> dict[tuple[str, str], Callable[[Request], Any]]:
        return {
            ("GET", "/api/version"): lambda r: Response.of(
                {"api": "0.1", "server": VERSION, "text": f"OctoPrint {VERSION}"}
            ),
            ("GET", "/api/server"): lambda r: Response.of({"version": VERSION, "safemode": None}),
            ("GET", "/api/settings"): self._settings,
            ("GET", "/api/currentuser"): lambda r: Response.of(
                {"name": USER, "groups": ["admins", "users"], "permissions": _PERMISSIONS}
            ),
            ("POST", "/api/login"): self._login,
            ("POST", "/api/logout"): lambda r: Response.of({"needs": {"group": ["guests"]}}),
            ("GET", "/api/printerprofiles"): lambda r: Response.of({"profiles": {"_default": self._profile(r)}}),
            ("GET", "/api/connection"): lambda r: Response.of(self._connection()),
            ("POST", "/api/connection"): self._connect,
            ("GET", "/api/printer"): self._printer,
            ("GET", "/api/printer/tool"): lambda r: self._heaters("tool"),
            ("GET", "/api/printer/bed"): lambda r: self._heaters("bed"),
            ("GET", "/api/printer/chamber"): self._no_chamber,
            ("GET", "/api/printer/sd"): self._no_sd,
            ("GET", "/api/printer/error"): lambda r: Response.of(self.host.error_info),
            ("POST", "/api/printer/tool"): self._tool,
            ("POST", "/api/printer/bed"): self._bed,
            ("POST", "/api/printer/chamber"): self._no_chamber,
            ("POST", "/api/printer/printhead"): self._printhead,
            ("POST", "/api/printer/command"): self._command,
            ("POST", "/api/printer/sd"): self._no_sd,
            ("GET", "/api/job"): lambda r: Response.of(self._job()),
            ("POST", "/api/job"): self._control_job,
        }

    # -- reading
    def _settings(self, request: Request) -> Response:
        webcam = {"webcamEnabled": True, "streamUrl": "", "snapshotUrl": "", "webcams": []}
        feature = {"sdSupport": False, "temperatureGraph": True}
        profiles = [{"name": "ABS", "extruder": 210, "bed": 100}, {"name": "PLA", "extruder": 180, "bed": 60}]
        return Response.of(
            {
                "api": {"key": None, "allowCrossOrigin": False},
                "appearance": {"name": self.name, "color": "default"},
                "feature": feature,
                "temperature": {"profiles": profiles, "cutoff": 30},
                "webcam": webcam,
                "plugins": {},
            }
        )

    def _profile(self, request: Request) -> Body:
        width, depth, height = self.machine.volume
        box = {"formFactor": "rectangular", "origin": "lowerleft", "width": width, "depth": depth, "height": height}
        return {
            "id": "_default",
            "name": "Default",
            "model": "Simulated printer",
            "current": True,
            "default": True,
            "heatedBed": True,
            "heatedChamber": False,
            "axes": {axis: {"inverted": False, "speed": speed} for axis, speed in _AXES.items()},
            "color": "default",
            "extruder": {
                "count": self.machine.tools,
                "nozzleDiameter": 0.4,
                "sharedNozzle": False,
                "defaultExtrusionLength": 5,
                "offsets": [[0.0, 0.0]] * self.machine.tools,
            },
            "volume": {**box, "custom_box": False},
            "resource": f"{request.origin}/api/printerprofiles/_default",
        }

    def _connection(self) -> Body:
        state = self.host.state_info()["text"]
        closed = state.startswith("Offline")
        current = {
            "state": "Closed" if closed else state,
            "port": None if closed else "VIRTUAL",
            "baudrate": None if closed else 115200,
            "printerProfile": "_default",
        }
        options = {
            "ports": ["VIRTUAL"],
            "baudrates": _BAUDRATES,
            "printerProfiles": [{"id": "_default", "name": "Default"}],
            "portPreference": "VIRTUAL",
            "baudratePreference": 0,
            "printerProfilePreference": "_default",
        }
        return {"current": current, "options": options}

    def _printer(self, request: Request) -> Response:
        self._need_operational()
        left_out = request.query.get("exclude", "").split(",")
        answer: Body = {"state": self.host.state_info(), "temperature": self.host.temperatures()}
        if request.query.get("history") == "true":
            newest = list(self.host.temps)[-int(request.query.get("limit", 300)) :]
            answer["temperature"]["history"] = [
                {name: value for name, value in sample.items() if name != "chamber"} for sample in newest
            ]
        return Response.of({name: value for name, value in answer.items() if name not in left_out})

    def _heaters(self, prefix: str) -> Response:
        self._need_operational()
        return Response.of({name: value for name, value in self.host.temperatures().items() if name.startswith(prefix)})

    def _no_chamber(self, request: Request) -> Response:
        raise Refusal(409, "Printer does not have a heated chamber")

    def _no_sd(self, request: Request) -> Response:
        raise Refusal(404, "SD support is disabled")

    def _job(self) -> Body:
        state = self.host.state_info()
        answer = {"job": self.host.job_info(), "progress": self.host.progress_info(), "state": state["text"]}
        return {**answer, "error": state["error"]} if state["error"] else answer

    def _need_operational(self) -> None:
        if not self.host.connected:
            raise Refusal(409, "Printer is not operational")

    # -- commands
    def _login(self, request: Request) -> Response:
        body = request.json() if request.content_type == "application/json" else None
        if not isinstance(body, dict) or not body.get("passive"):
            raise Refusal(400, "Neither user and pass attributes nor passive flag present")
        session = secrets.token_hex(32)
        self.sessions[session] = time.monotonic() + _SESSION_SECONDS
        return Response.of(
            {
                "name": USER,
                "session": session,
                "active": True,
                "admin": True,
                "user": True,
                "apikey": None,
                "groups": ["admins", "users"],
                "permissions": [],
                "needs": {"group": ["users", "admins"], "role": [name.lower() for name in _PERMISSIONS]},
                "roles": ["user", "admin"],
                "settings": {},
                "_credentials_seen": datetime.now(UTC).isoformat(timespec="seconds"),
                "_is_external_client": False,
                "_login_mechanism": "apikey",
            }
        )

    def _command_of(self, request: Request, **known: tuple[str, ...]) -> tuple[str, Body]:
        """The JSON body and its command, if that is one of ``known`` (name -> fields that it must have)."""
        if request.content_type != "application/json":
            raise Refusal(415, _NOT_JSON)
        try:
            body = request.json()
        except ValueError:
            raise Refusal(400, _BROKEN_JSON) from None
        name = body.get("command") if isinstance(body, dict) else None
        if name not in known:
            raise Refusal(400, "command is invalid")
        if any(field not in body for field in known[name]):
            raise Refusal(400, "Mandatory parameters missing")
        return name, body

    def _connect(self, request: Request) -> Response:
        name, body = self._command_of(request, connect=(), disconnect=(), fake_ack=(), repair=())
        if name == "disconnect":
            self.host.disconnect()
        elif name == "connect":
            self._check_choice(body, "port", ["VIRTUAL", "AUTO"])
            self._check_choice(body, "baudrate", [0, *_BAUDRATES])
            self._check_choice(body, "printerProfile", ["_default"])
            self.host.connect()
        return NO_CONTENT

    def _check_choice(self, body: Body, name: str, choices: list[Any]) -> None:
        if body.get(name, choices[0]) not in choices:
            raise Refusal(400, f"{name} is invalid")

    def _printhead(self, request: Request) -> Response:
        name, body = self._command_of(request, jog=(), home=("axes",), feedrate=("factor",))
        if not self.host.connected or (self.host.printing and name != "feedrate"):
            raise Refusal(409, "Printer is not operational or currently printing")
        if name == "feedrate":
            factor = self._number(body["factor"], "factor is invalid")
            self._send([f"M220 S{factor if factor > 10 else factor * 100:g}"])
        elif name == "home":
            if any(axis not in ("x", "y", "z") for axis in body["axes"]):
                raise Refusal(400, "axis is invalid")
            self._send(["G91", "G28 " + " ".join(f"{axis.upper()}0" for axis in body["axes"]), "G90"])
        else:
            self._jog(body)
        return NO_CONTENT

    def _jog(self, body: Body) -> None:
        moves = {axis: self._number(body[axis], "axis value is invalid") for axis in "xyz" if axis in body}
        if not moves:
            raise Refusal(500, _CRASHED)
        words = " ".join(f"{axis.upper()}{value:g}" for axis, value in moves.items())
        feed = self._number(body.get("speed") or 6000, "speed is invalid")
        move = f"G1 {words} F{feed:g}"
        self._send([move] if body.get("absolute") is True else ["G91", move, "G90"])

    def _number(self, value: Any, otherwise: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refusal(400, otherwise)
        return value

    def _tool(self, request: Request) -> Response:
        self._need_operational()
        name, body = self._command_of(
            request,
            select=("tool",),
            target=("targets",),
            offset=("offsets",),
            flowrate=("factor",),
            extrude=("amount",),
        )
        if name == "target":
            self._set_targets(body["targets"])
        elif name == "offset":
            self._set_offsets(body["offsets"])
        elif name == "select":
            self._send([f"T{self._tool_number(body['tool'], 'tool is invalid')}"])
        elif name == "flowrate":
            factor = self._number(body["factor"], "factor is invalid")
            self._send([f"M221 S{factor if factor > 10 else factor * 100:g}"])
        else:
            self._extrude(body)
        return NO_CONTENT

    def _tool_number(self, name: str, otherwise: str) -> int:
        if not name.startswith("tool") or not name[4:].isdigit():
            raise Refusal(400, otherwise)
        return int(name[4:])

    def _set_targets(self, targets: Any) -> None:
        if not isinstance(targets, dict):
            raise Refusal(500, _CRASHED)
        for name, value in targets.items():
            self._tool_number(name, "targets contains invalid tool")
            if self._number(value, "targets contains invalid value") < 0:
                raise Refusal(500, _CRASHED)
        self._send([f"M104 T{name[4:]} S{value:g}" for name, value in targets.items()])

    def _set_offsets(self, offsets: Body) -> None:
        for name, value in offsets.items():
            self._tool_number(name, "offsets contains invalid tool")
            if not -50 <= self._number(value, "offsets contains invalid value") <= 50:
                raise Refusal(400, "offsets contains invalid value")
        self.host.offsets.update(offsets)

    def _extrude(self, body: Body) -> None:
        if self.host.printing:
            raise Refusal(409, "Printer is currently printing")
        amount = self._number(body["amount"], "amount is invalid")
        self._send(["G91", f"M83\nG1 E{amount:g} F{body.get('speed') or 300:g}", "M82", "G90"])

    def _bed(self, request: Request) -> Response:
        self._need_operational()
        name, body = self._command_of(request, target=("target",), offset=("offset",))
        value = self._number(body[name], f"{name} is invalid")
        if name == "target":
            self._send([f"M140 S{value:g}"])
        else:
            self.host.offsets["bed"] = value
        return NO_CONTENT

    def _command(self, request: Request) -> Response:
        if request.content_type != "application/json":
            raise Refusal(415, _NOT_JSON)
        self._need_operational()
        body = request.json()
        if "script" in body:
            raise Refusal(404, "Unknown script")
        if "command" in body and "commands" in body:
            raise Refusal(400, "'command' and 'commands' are mutually exclusive")
        if "command" not in body and "commands" not in body:
            raise Refusal(400, "Need one of 'command', 'commands' or 'script'")
        lines = [body["command"]] if "command" in body else body["commands"]
        if parameters := body.get("parameters"):
            lines = [line % parameters for line in lines]
        self._send([piece for line in lines for piece in str(line).split("\n")])
        return NO_CONTENT

    def _send(self, lines: list[str]) -> None:
        lines = [piece for line in lines for piece in line.split("\n")]
        self.commands += lines
        self.host.transmitted += len(lines)
        for line in lines:
            self.host.log(f"Send: {line}")
        if "M112" in lines:  # an emergency command overtakes whatever the machine does
            self.machine.commands["M112"](None)  # type: ignore[arg-type]
        elif not any(self._debug(line) for line in lines):
            self.machine.run(lines)

    def _debug(self, line: str) -> bool:
        """What OctoPrint's virtual printer does when it is asked to misbehave."""
        if line == "!!DEBUG:trigger_fatal_error_marlin":
            self.host.fatal_error("Thermal Runaway, system stopped! Heater_ID: bed - Printer halted. kill() called!")
        elif line == "!!DEBUG:drop_connection":
            self.host.break_off("SerialTimeoutException: ")
        elif line == "!!DEBUG:send //action:pause":
            self.host.pause()
        elif line == "!!DEBUG:send //action:cancel":
            self.host.cancel(by_machine=True)
        return line.startswith("!!DEBUG")

    async def _control_job(self, request: Request) -> Response:
        self._need_operational()
        name, body = self._command_of(request, start=(), restart=(), pause=(), cancel=())
        host = self.host
        if name == "start":
            if host.active:
                raise Refusal(409, "Printer already has an active print job, did you mean 'restart'?")
            await self._start()
        elif name == "restart":
            if not host.paused:
                raise Refusal(409, "Printer does not have an active print job or is not paused")
            await self._start()
        elif not host.active:
            raise Refusal(409, f"Printer is neither printing nor paused, '{name}' command cannot be performed")
        elif name == "cancel":
            self.commands.append("cancel")
            host.cancel()
        else:
            self._pause(body.get("action", "toggle"))
        return NO_CONTENT

    def _pause(self, action: str) -> None:
        if action not in ("pause", "resume", "toggle"):
            raise Refusal(400, "Unknown action")
        resume = self.host.paused if action == "toggle" else action == "resume"
        self.commands.append("resume" if resume else "pause")
        if resume:
            self.host.resume()
        else:
            self.host.pause()

    async def _start(self) -> bool:
        file = self.host.file
        reason = await self.before_start()
        if reason is not None:
            raise Refusal(409, reason)
        self.commands.append("start")
        if not self.host.start(USER) or file is None:
            return False
        await self.after_start(file)
        return True

    # -- files
    async def _files(self, request: Request) -> Response:
        place = request.path.removeprefix("/api/files").removeprefix("/")
        if request.method == "GET" and place in ("", "local"):
            return self._list_files(request)
        if request.method == "GET" and place == "sdcard":
            return Response.of({"files": []})
        if request.method == "POST" and place == "local":
            return await self._upload(request)
        origin, _, path = place.partition("/")
        if origin != "local" or not path or path.endswith("/") or self.storage.on_disk(path) is None:
            raise Refusal(404, _NOT_FOUND)
        if request.method == "GET":
            recursive = request.query.get("recursive") == "true"
            return Response.of(self.storage.entry(path, request.origin, recursive=recursive))
        if request.method == "DELETE":
            return self._delete(path)
        return await self._file_command(request, path)

    def _list_files(self, request: Request) -> Response:
        recursive = request.query.get("recursive") == "true"
        disk = shutil.disk_usage(self.storage.folder)
        files = self.storage.children("", request.origin, recursive=recursive)
        return Response.of({"files": files, "free": disk.free, "total": disk.total})

    def _download(self, path: str) -> Response:
        if not self.storage.is_file(path):
            raise Refusal(404, _NOT_FOUND)
        return Response(200, self.storage.read(path), "text/plain")

    def _delete(self, path: str) -> Response:
        host = self.host
        if host.active and host.file is not None and (host.file + "/").startswith(path + "/"):
            raise Refusal(409, "Trying to delete a file that is currently in use")
        if host.file == path:
            host.unselect()
        self.storage.delete(path)
        removed = {"storage": "local", "path": path, "name": path.rsplit("/", 1)[-1]}
        host.event("FileRemoved", {**removed, "type": ["machinecode", "gcode"], "operation": "remove"})
        host.event("UpdatedFiles", {"type": "printables"})
        return NO_CONTENT

    async def _file_command(self, request: Request, path: str) -> Response:
        name, body = self._command_of(request, select=(), unselect=())
        host = self.host
        if not self.storage.is_file(path):
            raise Refusal(404, _NOT_FOUND)
        if name == "unselect":
            self._unselect()
            return NO_CONTENT
        if host.active or not host.connected:  # the message is as misleading as the real one
            raise Refusal(409, "Printer is already printing, cannot select a new file")
        host.select(path, USER)
        if body.get("print") is True:
            await self._start()
        return NO_CONTENT

    def _unselect(self) -> None:
        if self.host.active:
            raise Refusal(409, "Printer is already printing, cannot unselect current file", html=True)
        if self.host.file is None:
            raise Refusal(409, "Cannot unselect current file when there is no file selected", html=True)
        self.host.unselect()

    async def _upload(self, request: Request) -> Response:
        if request.chunked or "content-length" not in request.headers:
            raise Refusal(411, _page("411: Length Required"), html=True)
        parts = {part.name: part for part in _form(request)}
        if "file" in parts and parts["file"].filename:
            return await self._take_file(request, parts)
        if "foldername" in parts:
            return self._take_folder(request, parts)
        raise Refusal(400, "No file to upload and no folder to create")

    def _take_folder(self, request: Request, parts: dict[str, Part]) -> Response:
        path = self._full_path(parts, parts["foldername"].text)
        self.storage.make_folder(path)
        resource = refs(request.origin, path)["resource"]
        folder = {"name": path.rsplit("/", 1)[-1], "origin": "local", "path": path, "refs": {"resource": resource}}
        return Response.of({"done": True, "folder": folder}, 201, location=resource)

    def _full_path(self, parts: dict[str, Part], name: str) -> str:
        folder = parts["path"].text.strip("/") if "path" in parts else ""
        try:
            return self.storage.clean(f"{folder}/{name}" if folder else name)
        except BadName:
            raise Refusal(400, "Can not upload file, invalid file name") from None

    async def _take_file(self, request: Request, parts: dict[str, Part]) -> Response:
        path = self._full_path(parts, parts["file"].filename or "")
        if self.orders.take("reject_upload") is not None:
            raise Refusal(500, _CRASHED)
        self._check_overwrite(parts, path)
        self._store(path, self.received(parts["file"].data), self._userdata(parts))
        idle = self.host.connected and not self.host.active
        wants = {name: name in parts and parts[name].text == "true" for name in ("select", "print")}
        if idle and any(wants.values()):
            self.host.select(path, USER)
        unanswered, printed = False, False
        if idle and wants["print"]:
            try:
                printed = await self._start()
            except NoAnswer:
                unanswered, printed = True, self.host.active
        self._announce(path, wants, idle, printed)
        if unanswered:
            raise NoAnswer
        return self._uploaded(request, path, select=idle and wants["select"], printed=printed)

    def _check_overwrite(self, parts: dict[str, Part], path: str) -> None:
        if self.host.active and self.host.file == path:
            raise Refusal(409, "Trying to overwrite file that is currently being printed")
        forbidden = "noOverwrite" in parts and parts["noOverwrite"].text == "true"
        if forbidden and self.storage.is_file(path):
            raise Refusal(409, "File already exists and noOverwrite was set")

    def _userdata(self, parts: dict[str, Part]) -> Any:
        try:
            return json.loads(parts["userdata"].text) if "userdata" in parts else None
        except ValueError:
            raise Refusal(400, "userdata contains invalid JSON") from None

    def _store(self, path: str, data: bytes, userdata: Any) -> None:
        try:
            self.storage.save(path, data, USER, userdata)
        except BadType:
            raise Refusal(415, "Could not upload file, invalid type") from None
        self.uploads.append(path)
        added = {"storage": "local", "path": path, "name": path.rsplit("/", 1)[-1]}
        self.host.event("FileAdded", {**added, "type": ["machinecode", "gcode"], "operation": "add"})
        self.host.event("UpdatedFiles", {"type": "printables"})
        self.host.analyse_later(path)

    def _announce(self, path: str, wants: dict[str, bool], idle: bool, printed: bool) -> None:
        effective = {"effective_select": idle and wants["select"], "effective_print": printed}
        upload = {"name": path.rsplit("/", 1)[-1], "path": path, "target": "local", **wants, **effective}
        self.host.event("Upload", upload)

    def _uploaded(self, request: Request, path: str, *, select: bool, printed: bool) -> Response:
        links = refs(request.origin, path)
        stored = {"name": path.rsplit("/", 1)[-1], "origin": "local", "path": path, "refs": links}
        answer = {"done": True, "effectivePrint": printed, "effectiveSelect": select, "files": {"local": stored}}
        return Response.of(answer, 201, location=links["resource"])


def _form(request: Request) -> list[Part]:
    """Fields of an upload: multipart, or a plain form that makes a folder."""
    if request.content_type == "application/x-www-form-urlencoded":
        pairs = parse_qsl(request.body.decode("utf-8", "replace"))
        return [Part(name, None, value.encode()) for name, value in pairs]
    try:
        return multipart(request)
    except ValueError:
        return []


def _page(title: str) -> str:
    return f"<html><title>{title}</title><body>{title}</body></html>"


if __name__ == "__main__":
    main(OctoPrint, "An OctoPrint with a simulated printer")
