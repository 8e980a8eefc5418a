"""An OctoPrint that prints on a machine made of arithmetic: ``python -m printers.simulators.octoprint``.

REST and WebSocket speak as OctoPrint 1.11.8 with its virtual printer does, down to its odd answers: a start with no
file is 204 and does nothing, a wrong key is 403 to a GET and 400 to a POST, an upload with ``print`` while printing is
201 and only stored, and a socket that logs in with an API key is never told that this was wrong.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from printers.simulators import camera
from printers.simulators.control import Simulator, main, same_secret
from printers.simulators.machine import Machine
from printers.simulators.octoprint_controls import CRASHED, NO_CONTENT, Controls, Refusal, command_of, need_operational
from printers.simulators.octoprint_files import BadName, BadType, Storage, refs
from printers.simulators.octoprint_host import Host
from printers.simulators.octoprint_push import PERMISSIONS, USER, VERSION, Push
from printers.simulators.web import NoAnswer, Part, Request, Response, WebSocket, multipart

_FORBIDDEN = (
    "You don't have the permission to access the requested resource. "
    "It is either read-protected or not readable by the server."
)
_NOT_FOUND = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
_AXES = {"x": 6000, "y": 6000, "z": 200, "e": 300}

Body = dict[str, Any]


class OctoPrint(Simulator):
    socket_path = "/sockjs/websocket"
    host_kind: type[Host] = Host
    push_kind: type[Push] = Push

    def __init__(self, *, api_key: str, data_dir: Path, speed: float = 1.0, name: str = "OctoPrint") -> None:
        super().__init__(api_key=api_key, data_dir=data_dir, speed=speed, name=name)
        self.storage = Storage(data_dir)
        self.push = self.push_kind()
        self.host = self.push.host = self.host_kind(self.storage, self.push.hear)
        self.host.began = self.began
        self.controls = Controls(self.host, self.commands)

    @property
    def machine(self) -> Machine:
        return self.host.machine

    # -- life
    def power_on(self) -> None:
        self.push.forget()
        self.host.boot()
        self.host.connect()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.host.tick()
        self.push.tick()

    async def serve_socket(self, socket: WebSocket) -> None:
        await self.push.serve(socket)

    def fail_print(self, message: str) -> None:
        self.host.fatal_error(message)

    def start_locally(self, file: str) -> None:
        """From OctoPrint's own page, by its own user."""
        if self.host.active or not self.host.connected or not self.storage.is_file(file):
            raise ValueError(f"{file} cannot be started now")
        self.host.select(file, "admin")
        self.host.start("admin")

    def faults(self) -> dict[str, Callable[[Body], None]]:
        return {**super().faults(), "disconnect": lambda details: self.host.disconnect()}

    @property
    def at_rest(self) -> bool:
        return super().at_rest and self.host.state == "OPERATIONAL"

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
                {"name": USER, "groups": ["admins", "users"], "permissions": PERMISSIONS}
            ),
            ("POST", "/api/login"): self._login,
            ("POST", "/api/logout"): lambda r: Response.of({"needs": {"group": ["guests"]}}),
            ("GET", "/api/printerprofiles"): lambda r: Response.of({"profiles": {"_default": self._profile(r)}}),
            ("GET", "/api/job"): lambda r: Response.of(self._job()),
            ("POST", "/api/job"): self._control_job,
            **self.controls.routes(),
        }

    # -- reading
    def _settings(self, request: Request) -> Response:
        feature = {"sdSupport": False, "temperatureGraph": True}
        profiles = [{"name": "ABS", "extruder": 210, "bed": 100}, {"name": "PLA", "extruder": 180, "bed": 60}]
        return Response.of(
            {
                "api": {"key": None, "allowCrossOrigin": False},
                "appearance": {"name": self.name, "color": "default"},
                "feature": feature,
                "temperature": {"profiles": profiles, "cutoff": 30},
                "webcam": _webcam(request.origin),
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

    def _job(self) -> Body:
        state = self.host.state_info()
        answer = {"job": self.host.job_info(), "progress": self.host.progress_info(), "state": state["text"]}
        return {**answer, "error": state["error"]} if state["error"] else answer

    # -- commands
    def _login(self, request: Request) -> Response:
        body = request.json() if request.content_type == "application/json" else None
        if not isinstance(body, dict) or not body.get("passive"):
            raise Refusal(400, "Neither user and pass attributes nor passive flag present")
        return Response.of(
            {
                "name": USER,
                "session": self.push.open_session(),
                "active": True,
                "admin": True,
                "user": True,
                "apikey": None,
                "groups": ["admins", "users"],
                "permissions": [],
                "needs": {"group": ["users", "admins"], "role": [name.lower() for name in PERMISSIONS]},
                "roles": ["user", "admin"],
                "settings": {},
                "_credentials_seen": datetime.now(UTC).isoformat(timespec="seconds"),
                "_is_external_client": False,
                "_login_mechanism": "apikey",
            }
        )

    async def _control_job(self, request: Request) -> Response:
        need_operational(self.host)
        name, body = command_of(request, start=(), restart=(), pause=(), cancel=())
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
        reason = await self.before_start()
        if reason is not None:
            raise Refusal(409, reason)
        self.commands.append("start")
        begun = self.host.start(USER)
        if begun:
            await self.after_start()
        return begun

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
        name, body = command_of(request, select=(), unselect=())
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
            raise Refusal(500, CRASHED)
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


def _webcam(origin: str) -> Body:
    """One camera. As on OctoPi, its stream is named for browsers, its pictures for OctoPrint itself."""
    snapshot = f"{origin}{camera.SNAPSHOT}"
    rest = {"streamRatio": "4:3", "streamTimeout": 5, "streamWebrtcIceServers": [], "cacheBuster": False}
    turned = {"flipH": False, "flipV": False, "rotate90": False}
    more = {"snapshot": snapshot, "snapshotTimeout": 5, "snapshotSslValidation": True}
    row = {
        "name": "classic",
        "displayName": "Classic Webcam",
        "provider": "classicwebcam",
        "canSnapshot": True,
        "snapshotDisplay": snapshot,
        "compat": {"stream": camera.STREAM, **rest, **more},
        "extras": {"stream": camera.STREAM, **rest},
        **turned,
    }
    return {
        "webcamEnabled": True,
        "timelapseEnabled": True,
        "streamUrl": camera.STREAM,
        "snapshotUrl": snapshot,
        "snapshotTimeout": 5,
        "snapshotSslValidation": True,
        "defaultWebcam": "classic",
        "snapshotWebcam": "classic",
        "webcams": [row],
        **rest,
        **turned,
    }


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
