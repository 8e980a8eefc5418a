"""The doors of the simulated OctoPrint that move the machine: /api/connection and /api/printer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from printers.simulators.octoprint_host import Host
from printers.simulators.web import Request, Response

CRASHED = (
    "The server encountered an internal error and was unable to complete your request. "
    "Either the server is overloaded or there is an error in the application."
)
_NOT_JSON = "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
_BROKEN_JSON = "The browser (or proxy) sent a request that this server could not understand."
_BAUDRATES = [250000, 230400, 115200, 57600, 38400, 19200, 9600]

Body = dict[str, Any]
Route = Callable[[Request], Any]


class Refusal(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, message: str, *, html: bool = False) -> None:
        super().__init__(message)
        self.response = Response.of({"error": message}, status)
        if html:
            self.response = Response(status, message.encode(), "text/html; charset=utf-8")


NO_CONTENT = Response(204, b"", "text/plain")


def command_of(request: Request, **known: tuple[str, ...]) -> tuple[str, Body]:
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


def need_operational(host: Host) -> None:
    if not host.connected:
        raise Refusal(409, "Printer is not operational")


def number(value: Any, otherwise: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal(400, otherwise)
    return value


class Controls:
    """``sent`` collects every line that somebody had sent to the machine."""

    def __init__(self, host: Host, sent: list[str]) -> None:
        self.host, self.sent = host, sent

    def routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("GET", "/api/connection"): lambda request: Response.of(self._connection()),
            ("POST", "/api/connection"): self._connect,
            ("GET", "/api/printer"): self._printer,
            ("GET", "/api/printer/tool"): lambda request: self._heaters("tool"),
            ("GET", "/api/printer/bed"): lambda request: self._heaters("bed"),
            ("GET", "/api/printer/chamber"): self._no_chamber,
            ("GET", "/api/printer/sd"): self._no_sd,
            ("GET", "/api/printer/error"): lambda request: Response.of(self.host.error_info),
            ("POST", "/api/printer/tool"): self._tool,
            ("POST", "/api/printer/bed"): self._bed,
            ("POST", "/api/printer/chamber"): self._no_chamber,
            ("POST", "/api/printer/printhead"): self._printhead,
            ("POST", "/api/printer/command"): self._command,
            ("POST", "/api/printer/sd"): self._no_sd,
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
        need_operational(self.host)
        left_out = request.query.get("exclude", "").split(",")
        answer: Body = {"state": self.host.state_info(), "temperature": self.host.temperatures()}
        if request.query.get("history") == "true":
            newest = list(self.host.temps)[-int(request.query.get("limit", 300)) :]
            answer["temperature"]["history"] = [
                {name: value for name, value in sample.items() if name != "chamber"} for sample in newest
            ]
        return Response.of({name: value for name, value in answer.items() if name not in left_out})

    def _heaters(self, prefix: str) -> Response:
        need_operational(self.host)
        return Response.of({name: value for name, value in self.host.temperatures().items() if name.startswith(prefix)})

    def _no_chamber(self, request: Request) -> Response:
        raise Refusal(409, "Printer does not have a heated chamber")

    def _no_sd(self, request: Request) -> Response:
        raise Refusal(404, "SD support is disabled")

    def _connect(self, request: Request) -> Response:
        name, body = command_of(request, connect=(), disconnect=(), fake_ack=(), repair=())
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
        name, body = command_of(request, jog=(), home=("axes",), feedrate=("factor",))
        if not self.host.connected or (self.host.printing and name != "feedrate"):
            raise Refusal(409, "Printer is not operational or currently printing")
        if name == "feedrate":
            factor = number(body["factor"], "factor is invalid")
            self._send([f"M220 S{factor if factor > 10 else factor * 100:g}"])
        elif name == "home":
            if any(axis not in ("x", "y", "z") for axis in body["axes"]):
                raise Refusal(400, "axis is invalid")
            self._send(["G91", "G28 " + " ".join(f"{axis.upper()}0" for axis in body["axes"]), "G90"])
        else:
            self._jog(body)
        return NO_CONTENT

    def _jog(self, body: Body) -> None:
        moves = {axis: number(body[axis], "axis value is invalid") for axis in "xyz" if axis in body}
        if not moves:
            raise Refusal(500, CRASHED)
        words = " ".join(f"{axis.upper()}{value:g}" for axis, value in moves.items())
        feed = number(body.get("speed") or 6000, "speed is invalid")
        move = f"G1 {words} F{feed:g}"
        self._send([move] if body.get("absolute") is True else ["G91", move, "G90"])

    def _tool(self, request: Request) -> Response:
        need_operational(self.host)
        name, body = command_of(
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
            factor = number(body["factor"], "factor is invalid")
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
            raise Refusal(500, CRASHED)
        for name, value in targets.items():
            self._tool_number(name, "targets contains invalid tool")
            if number(value, "targets contains invalid value") < 0:
                raise Refusal(500, CRASHED)
        self._send([f"M104 T{name[4:]} S{value:g}" for name, value in targets.items()])

    def _set_offsets(self, offsets: Body) -> None:
        for name, value in offsets.items():
            self._tool_number(name, "offsets contains invalid tool")
            if not -50 <= number(value, "offsets contains invalid value") <= 50:
                raise Refusal(400, "offsets contains invalid value")
        self.host.offsets.update(offsets)

    def _extrude(self, body: Body) -> None:
        if self.host.printing:
            raise Refusal(409, "Printer is currently printing")
        amount = number(body["amount"], "amount is invalid")
        self._send(["G91", f"M83\nG1 E{amount:g} F{body.get('speed') or 300:g}", "M82", "G90"])

    def _bed(self, request: Request) -> Response:
        need_operational(self.host)
        name, body = command_of(request, target=("target",), offset=("offset",))
        value = number(body[name], f"{name} is invalid")
        if name == "target":
            self._send([f"M140 S{value:g}"])
        else:
            self.host.offsets["bed"] = value
        return NO_CONTENT

    def _command(self, request: Request) -> Response:
        if request.content_type != "application/json":
            raise Refusal(415, _NOT_JSON)
        need_operational(self.host)
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
        self.sent += lines
        self.host.transmitted += len(lines)
        if "M112" in lines:  # an emergency command overtakes whatever the machine does
            self.host.log("Send: M112")
            self.host.emergency_stop()
        elif not any(self._debug(line) for line in lines):
            self.host.carry_out(lines)

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
