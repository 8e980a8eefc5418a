"""A Moonraker that prints on a machine made of arithmetic: ``python -m printers.simulators.moonraker``.

REST and JSON-RPC over WebSocket speak as Moonraker 0.11.0 does, on the same :class:`Klippy` that stands in for Klipper
behind the real one, down to its odd answers: a shutdown is 400 with the message ``Unknown``, job control says ok
whatever happens, a handshake with a wrong key succeeds, and pause waits behind a heat-up.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from printers.simulators import camera
from printers.simulators.control import Fault, Simulator, main, same_secret
from printers.simulators.klippy import Session
from printers.simulators.klippy_core import BEAT_SECONDS, GONE, Klippy, KlippyError
from printers.simulators.machine import Machine
from printers.simulators.moonraker_calls import (
    USER,
    ApiError,
    Call,
    Client,
    Method,
    Params,
    Table,
    params_of,
    rpc_error,
)
from printers.simulators.moonraker_files import FileDoors, Files
from printers.simulators.moonraker_history import History, Job
from printers.simulators.web import NoAnswer, Request, Response, WebSocket

VERSION = "0.11.0"
_ONESHOT_SECONDS = 5.0
_PING_SECONDS = 10.0
#: Asked of Klippy, so unknown (404) until Klippy was there for the first time
_FROM_KLIPPY = ("/printer/info", "/printer/objects", "/printer/gcode", "/printer/emergency_stop", "/printer/query")


class Moonraker(Simulator):
    socket_path = "/websocket"

    def __init__(self, *, api_key: str, data_dir: Path, speed: float = 1.0, name: str = "Moonraker") -> None:
        self.klippy = Klippy(data_dir / "gcodes")
        super().__init__(api_key=api_key, data_dir=data_dir, speed=speed, name=name)
        self.klippy.began = self.began
        self.web.refuse_socket = self._refuse_foreign_page
        self.files = Files(data_dir / "gcodes")
        self.clients: list[Client] = []
        self.history = History(data_dir, self.files, self._tell_history)
        self.doors = FileDoors(
            self,
            self.files,
            self.history,
            ready=lambda: self.klippy_state == "ready",
            print_uploaded=self._print_uploaded,
            announce=lambda change: self._broadcast("notify_filelist_changed", change),
        )
        self.oneshots: dict[str, float] = {}
        self._by_path, self._by_name = self._methods()
        self._forget()

    def _forget(self) -> None:
        self.klippy_state = "disconnected"
        self.klippy_was_there = False
        self._session: Session | None = None
        self._next_statistics = 0.0
        self._next_ping = 0.0

    @property
    def machine(self) -> Machine:
        return self.klippy.machine

    @property
    def speed(self) -> float:
        return self.klippy.speed

    @speed.setter
    def speed(self, factor: float) -> None:
        self.klippy.speed = factor

    # -- life
    def power_on(self) -> None:
        self._forget()
        self.history.forget_state()
        self.klippy.watch = self._notice_klippy
        self.klippy.boot()

    def power_off(self) -> None:
        self.klippy.watch = lambda online: None
        self.klippy.stop()
        self.klippy.crash()

    async def stop(self) -> None:
        self.klippy.stop()
        await super().stop()

    def advance(self, seconds: float) -> None:
        self.klippy.advance(seconds)
        now = time.monotonic()
        if now >= self._next_statistics:
            self._next_statistics = now + 1.0
            self._broadcast("notify_proc_stat_update", self._statistics())
        if now >= self._next_ping:
            self._next_ping = now + _PING_SECONDS
            for client in self.clients:
                client.socket.ping()

    def fail_print(self, message: str) -> None:
        self.klippy.fail_print(message)

    def start_locally(self, file: str) -> None:
        """From the printer's own screen."""
        if self.klippy.state != "ready" or self.klippy.sd.active or not self.files.is_file(file):
            raise ValueError(f"{file} cannot be started now")
        self.machine.run([_print_command(file)])

    def faults(self) -> dict[str, Fault]:
        """And: ``shutdown`` (message) by the micro-controller, ``klippy_crash`` (seconds 1), ``restart`` of Moonraker
        alone (seconds 1), during which Klippy prints on."""
        return {
            **super().faults(),
            "shutdown": lambda details: self.klippy.shutdown(details.get("message", "MCU 'mcu' shutdown: Simulated")),
            "klippy_crash": lambda details: self.spawn(self._crash_klippy(float(details.get("seconds", 1)))),
            "restart": lambda details: self.spawn(self._restart(float(details.get("seconds", 1)))),
        }

    async def _crash_klippy(self, seconds: float) -> None:
        self.klippy.crash()
        await asyncio.sleep(seconds)
        self.klippy.boot()

    async def _restart(self, seconds: float) -> None:
        await asyncio.sleep(BEAT_SECONDS / 5)  # let the answer to whoever ordered this get out
        self.history.finish("server_exit")
        self.klippy.watch = lambda online: None
        if self._session is not None:
            self._session.close()
        self.web.vanish()
        await asyncio.sleep(seconds)
        self._forget()
        self.history.forget_state()
        self.klippy.watch = self._notice_klippy
        if self.klippy.online:
            self._klippy_changed(True)
        await self.web.listen()

    @property
    def at_rest(self) -> bool:
        return super().at_rest and self.klippy_state == "ready" and self.klippy.at_rest

    # -- Klippy
    def _notice_klippy(self, online: bool) -> None:
        # later: what Klippy said last comes before that it went
        asyncio.get_running_loop().call_soon(self._klippy_changed, online)

    def _klippy_changed(self, online: bool) -> None:
        if online:
            self.klippy_was_there, self.klippy_state = True, "startup"
            self._session = Session(self.klippy, self._hear_klippy, lambda: None)
            self.spawn(self._meet_klippy(self._session))
        else:
            self._session, self.klippy_state = None, "disconnected"
            for client in self.clients:
                client.session = None  # whoever wants updates must subscribe again
            self._broadcast("notify_klippy_disconnected")
            self.history.lose_klippy()

    async def _meet_klippy(self, session: Session) -> None:
        """Ask until it is ready, then listen. An error after a restart is shown but not announced."""
        await session.call("gcode/subscribe_output", {"response_template": {"method": "output"}})
        while self.klippy.state == "startup" and self._session is session:
            await asyncio.sleep(BEAT_SECONDS)
        if self._session is not session:
            return
        self.klippy_state = self.klippy.state
        try:
            answer = await session.call("objects/subscribe", {"objects": {"webhooks": None, "print_stats": None}})
        except KlippyError:
            return
        if self.klippy_state == "ready":
            self.history.begin_watching(answer["status"]["print_stats"])
            self._broadcast("notify_klippy_ready")

    def _hear_klippy(self, message: dict[str, Any]) -> None:
        # later: clients get the values of this beat first, then what Moonraker makes of them
        asyncio.get_running_loop().call_soon(self._understand_klippy, message)

    def _understand_klippy(self, message: dict[str, Any]) -> None:
        params = message["params"]
        if "response" in params:
            self._broadcast("notify_gcode_response", params["response"])
            return
        state = params["status"].get("webhooks", {}).get("state")
        if state == "shutdown" and self.klippy_state != "shutdown":
            self.klippy_state = "shutdown"
            self._broadcast("notify_klippy_shutdown")
            self.history.finish("klippy_shutdown")
        if "print_stats" in params["status"]:
            self.history.see(params["status"]["print_stats"])

    async def _ask(self, method: str, params: Params, session: Session | None = None) -> Any:
        if self._session is None:
            raise ApiError(503, "Klippy Host not connected")
        try:
            answer = await (session or self._session).call(method, params)
        except KlippyError as error:
            raise ApiError(503 if str(error) == GONE else 400, str(error)) from error
        return answer or "ok"

    # -- WebSocket
    def _broadcast(self, method: str, *params: Any) -> None:
        for client in list(self.clients):
            if client.authorised:
                client.notify(method, *params)

    def _tell_history(self, action: str, job: Job) -> None:
        self._broadcast("notify_history_changed", {"action": action, "job": job})

    def _refuse_foreign_page(self, request: Request) -> Response | None:
        origin = urlsplit(request.headers.get("origin", "")).netloc
        return ApiError(403, "Forbidden").response() if origin not in ("", request.headers.get("host")) else None

    async def serve_socket(self, socket: WebSocket) -> None:
        client = Client(socket, self.authorised(socket.request))
        self.clients.append(client)
        try:
            while (text := await socket.receive()) is not None:
                # a script may take minutes; other calls are answered meanwhile
                self.spawn(self._reply(client, text))
        finally:
            self.clients.remove(client)
            if client.session is not None:
                client.session.close()

    async def _reply(self, client: Client, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            client.socket.send(rpc_error(None, -32700, "Parse error"))
            return
        if isinstance(message, list):
            answers = [await self._call(client, one) for one in message]
            answers = [answer for answer in answers if answer is not None]
            if answers:
                client.socket.send(answers)
        elif (answer := await self._call(client, message)) is not None:
            client.socket.send(answer)

    async def _call(self, client: Client, message: Any) -> dict[str, Any] | None:
        """The answer; None for a notification or a start that is never answered."""
        if not isinstance(message, dict):
            return None
        number = message.get("id")
        if message.get("jsonrpc") != "2.0":
            return rpc_error(number, -32600, "Invalid Request")
        if "method" not in message:
            return None
        try:
            result = await self._call_by_name(client, message["method"], message.get("params") or {})
        except ApiError as error:
            return None if number is None else {"jsonrpc": "2.0", "error": error.rpc, "id": number}
        except NoAnswer:
            return None
        return None if number is None else {"jsonrpc": "2.0", "result": result, "id": number}

    async def _call_by_name(self, client: Client, name: str, params: Params) -> Any:
        open_to_all = ("server.connection.identify", "access.info", "access.login")
        if not client.authorised and name not in open_to_all:
            raise ApiError(401, "Unauthorized")
        method, path = self._by_name.get(name, (None, ""))
        if method is None or not self._is_known(path):
            raise ApiError(404, "Method not found")
        return await method(Call(params, client))

    # -- REST
    def authorised(self, request: Request) -> bool:
        if "x-api-key" in request.headers:
            return same_secret(request.headers["x-api-key"], self.api_key)
        token = request.query.get("token")
        return token is not None and self.oneshots.pop(token, 0.0) > time.monotonic()

    async def answer(self, request: Request) -> Response:
        try:
            self._check_key(request)
            if request.path == "/server/files/upload" and request.method == "POST":
                return Response.of(await self.doors.upload(request), 201)
            if request.path.startswith("/server/files/gcodes/"):
                return self.doors.serve(request, request.path.removeprefix("/server/files/gcodes/"))
            method = self._by_path.get((request.method, request.path))
            if method is None or not self._is_known(request.path):
                known = any(path == request.path for _, path in self._by_path)
                raise ApiError(405, "Method Not Allowed") if known else ApiError(404, "Not Found")
            return Response.of({"result": await method(Call(params_of(request)))})
        except ApiError as error:
            return error.response()

    def _check_key(self, request: Request) -> None:
        if request.headers.get("authorization", "").startswith("Bearer "):
            raise ApiError(401, "JWT Decode Error", phrase=True)  # an API key is not a bearer token here
        key, token = "x-api-key" in request.headers, "token" in request.query
        if not self.authorised(request) and (key or token or request.path != "/access/info"):
            raise ApiError(401, "Invalid API Key" if key else "Unauthorized", phrase=True)

    def _is_known(self, path: str) -> bool:
        return self.klippy_was_there or not path.startswith(_FROM_KLIPPY)

    # -- methods
    def _methods(self) -> tuple[dict[tuple[str, str], Method], dict[str, tuple[Method, str]]]:
        """By (HTTP method, path) and by JSON-RPC name (with the path that it belongs to)."""
        table: Table = [
            ("GET", "/server/info", "server.info", self._server_info),
            ("GET", "/access/info", "access.info", self._access_info),
            ("GET", "/access/api_key", "access.get_api_key", self._api_key),
            ("GET", "/access/user", "access.get_user", self._user),
            ("GET", "/access/oneshot_token", "access.oneshot_token", self._oneshot),
            ("GET", "/printer/info", "printer.info", self._forward("info")),
            ("GET", "/printer/objects/list", "printer.objects.list", self._forward("objects/list")),
            ("GET", "/printer/objects/query", "printer.objects.query", self._query),
            ("POST", "/printer/objects/query", "", self._query),
            ("POST", "/printer/objects/subscribe", "printer.objects.subscribe", self._subscribe),
            ("GET", "/printer/objects/subscribe", "", self._subscribe),
            ("POST", "/printer/gcode/script", "printer.gcode.script", self._script),
            ("GET", "/printer/gcode/script", "", self._script),
            ("GET", "/printer/gcode/help", "printer.gcode.help", self._forward("gcode/help")),
            ("GET", "/printer/query_endstops/status", "printer.query_endstops.status", self._endstops),
            ("POST", "/printer/emergency_stop", "printer.emergency_stop", self._emergency_stop),
            ("POST", "/printer/print/start", "printer.print.start", self._start),
            ("POST", "/printer/print/pause", "printer.print.pause", self._job_control("pause_resume/pause")),
            ("POST", "/printer/print/resume", "printer.print.resume", self._job_control("pause_resume/resume")),
            ("POST", "/printer/print/cancel", "printer.print.cancel", self._job_control("pause_resume/cancel")),
            ("POST", "/printer/restart", "printer.restart", self._restart_klippy("RESTART")),
            ("POST", "/printer/firmware_restart", "printer.firmware_restart", self._restart_klippy("FIRMWARE_RESTART")),
            *self.doors.methods(),
            *self.history.methods(),
            ("GET", "/server/job_queue/status", "server.job_queue.status", self._job_queue),
            ("GET", "/server/webcams/list", "server.webcams.list", self._webcams),
            ("GET", "/machine/proc_stats", "machine.proc_stats", self._proc_stats),
            ("", "", "server.connection.identify", self._identify),
            ("", "", "server.websocket.id", self._socket_id),
        ]
        by_path = {(verb, path): method for verb, path, _, method in table if path}
        by_name = {name: (method, path) for _, path, name, method in table if name}
        return by_path, by_name

    def _forward(self, method: str) -> Method:
        async def ask(call: Call) -> Any:
            return await self._ask(method, {})

        return ask

    def _job_control(self, method: str) -> Method:
        async def ask(call: Call) -> Any:
            self.commands.append(method.rpartition("/")[2])
            return await self._ask(method, {})

        return ask

    def _restart_klippy(self, command: str) -> Method:
        async def ask(call: Call) -> Any:
            self.commands.append(command)
            return await self._ask("gcode/script", {"script": command})

        return ask

    async def _server_info(self, call: Call) -> Any:
        return {
            "klippy_connected": self._session is not None,
            "klippy_state": self.klippy_state,
            "components": ["klippy_connection", "file_manager", "authorization", "job_state", "history"],
            "failed_components": [],
            "registered_directories": ["config", "logs", "gcodes"],
            "warnings": [],
            "websocket_count": len(self.clients),
            "moonraker_version": VERSION,
            "missing_klippy_requirements": [],
            "api_version": [1, 5, 0],
            "api_version_string": "1.5.0",
        }

    async def _access_info(self, call: Call) -> Any:
        sources = {"default_source": "moonraker", "available_sources": ["moonraker"]}
        return {**sources, "login_required": False, "trusted": False}

    async def _api_key(self, call: Call) -> Any:
        return self.api_key

    async def _user(self, call: Call) -> Any:
        return {"username": USER, "source": "moonraker", "created_on": 0.0}

    async def _oneshot(self, call: Call) -> Any:
        token = secrets.token_hex(16).upper()
        self.oneshots[token] = time.monotonic() + _ONESHOT_SECONDS
        return token

    async def _identify(self, call: Call) -> Any:
        client = call.client
        if client is None:
            raise ApiError(404, "Not Found")
        given = call.params.get("api_key")
        if not client.authorised and not same_secret(given, self.api_key):
            raise ApiError(401, "Unauthorized" if given is None else "Invalid API Key")
        told = {name: call.params.get(name) for name in ("version", "type", "url")}
        if client.name is not None:
            raise ApiError(400, f"Connection already identified: {client.name}")
        client.authorised, client.name = True, {"name": call.need("client_name"), **told}
        return {"connection_id": client.number}

    async def _socket_id(self, call: Call) -> Any:
        return {"websocket_id": call.client.number if call.client is not None else 0}

    async def _query(self, call: Call) -> Any:
        return await self._ask("objects/query", call.params)

    async def _subscribe(self, call: Call) -> Any:
        """The newest subscription of a client replaces the one before."""
        client = call.client
        if client is None:
            raise ApiError(400, "No connection associated with subscription request")
        if self._session is None:
            raise ApiError(503, "Klippy Host not connected")
        if client.session is not None:
            client.session.close()
        session = Session(self.klippy, client.pass_on, lambda: None)
        client.session = session
        return await self._ask("objects/subscribe", {"objects": {}, **call.params}, session)

    async def _script(self, call: Call) -> Any:
        if "script" in call.params:
            self.commands += str(call.params["script"]).split("\n")
        return await self._ask("gcode/script", call.params)

    async def _endstops(self, call: Call) -> Any:
        return await self._ask("query_endstops/status", {})

    async def _emergency_stop(self, call: Call) -> Any:
        self.commands.append("emergency_stop")
        return await self._ask("emergency_stop", {})

    async def _start(self, call: Call) -> Any:
        return await self._print(str(call.need("filename")))

    async def _print(self, file: str) -> Any:
        if self._session is None:
            raise ApiError(503, "Klippy Host not connected")
        reason = await self.before_start()
        if reason is not None:
            raise ApiError(400, reason)
        self.commands.append("start")
        answer = await self._ask("gcode/script", {"script": _print_command(file)})
        self.history.asked_by(USER)
        await self.after_start()
        return answer

    # -- files
    async def _print_uploaded(self, path: str) -> bool:
        """Whether the print began; a refusal is not an error of the upload."""
        if self.klippy_state == "ready" and self.history.loaded_file is not None:
            return False
        try:
            await self._print(path)
        except ApiError:
            return False
        return True

    # -- history and the rest
    async def _job_queue(self, call: Call) -> Any:
        return {"queued_jobs": [], "queue_state": "paused"}

    async def _webcams(self, call: Call) -> Any:
        row = {
            "name": "Bed", "enabled": True, "icon": "mdiWebcam", "aspect_ratio": "4:3", "target_fps": 5,
            "target_fps_idle": 5, "location": "printer", "service": "mjpegstreamer", "stream_url": camera.STREAM,
            "snapshot_url": camera.SNAPSHOT, "flip_horizontal": False, "flip_vertical": False, "rotation": 0,
            "source": "config", "extra_data": {}, "uid": "4b5ef2b7-0b0f-5b6a-8a5e-3b0b5a5f4b11",
        }  # fmt: skip
        return {"webcams": [row]}

    async def _proc_stats(self, call: Call) -> Any:
        now = self._statistics()
        rest = {"throttled_state": None, "system_uptime": time.monotonic()}
        return {**now, "moonraker_stats": [now["moonraker_stats"]], **rest}

    def _statistics(self) -> dict[str, Any]:
        """About as long as the real one: it is the heartbeat that the bench counts."""
        kinds = "rx_bytes tx_bytes rx_packets tx_packets rx_errs tx_errs rx_drop tx_drop bandwidth"
        counters = {name: dict.fromkeys(kinds.split(), 0) for name in ("lo", "eth0")}
        own = {"time": time.time(), "cpu_usage": 0.5, "memory": 52_000, "mem_units": "kB"}
        return {
            "moonraker_stats": own,
            "cpu_temp": None,
            "network": counters,
            "system_cpu_usage": {"cpu": 5.0, **{f"cpu{n}": 5.0 for n in range(os.cpu_count() or 1)}},
            "system_memory": {"total": 4_000_000, "available": 3_000_000, "used": 1_000_000},
            "websocket_connections": len(self.clients),
        }


def _print_command(file: str) -> str:
    escaped = file.lstrip("/").replace('"', '\\"')
    return f'SDCARD_PRINT_FILE FILENAME="{escaped}"'


if __name__ == "__main__":
    main(Moonraker, "A Moonraker with a simulated printer")
