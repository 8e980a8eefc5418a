"""How the simulated Moonraker is asked and answers: REST and JSON-RPC are two doors to the same methods."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from printers.simulators.klippy import Session
from printers.simulators.web import Request, Response, WebSocket

USER = "_API_KEY_USER_"
#: A reason that fits into a status line; what does not is shown as "Unknown" by REST
_REASON = re.compile(r"^[^<\n\r]*$")

Params = dict[str, Any]


class ApiError(Exception):
    """``phrase`` hides the text behind the status' own words, as uploads, deletes and downloads do."""

    def __init__(self, status: int, text: str, *, phrase: bool = False) -> None:
        super().__init__(text)
        self.status, self.text, self.phrase = status, text, phrase

    def response(self) -> Response:
        words = HTTPStatus(self.status).phrase
        shown = self.text if _REASON.match(self.text) else "Unknown"
        reason = f"HTTP {self.status}: {words} ({self.text})" if self.phrase else f"HTTP {self.status}: {self.text}"
        traceback = f"Traceback (most recent call last):\n\ntornado.web.HTTPError: {reason}\n"
        error = {"code": self.status, "message": words if self.phrase else shown, "traceback": traceback}
        return Response.of({"error": error}, self.status)

    @property
    def rpc(self) -> dict[str, Any]:
        codes = {404: -32601, 401: -32602}
        return {"code": codes.get(self.status, self.status), "message": self.text}


@dataclass(eq=False)
class Client:
    """One WebSocket."""

    socket: WebSocket
    authorised: bool
    name: dict[str, Any] | None = None
    session: Session | None = None
    number: int = field(default_factory=lambda: secrets.randbits(47))

    def notify(self, method: str, *params: Any) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        self.socket.send({**message, "params": list(params)} if params else message)

    def pass_on(self, message: dict[str, Any]) -> None:
        """Changes that Klippy told this client's session."""
        params = message["params"]
        self.notify("notify_status_update", params["status"], params["eventtime"])


@dataclass(frozen=True)
class Call:
    """What a method is asked, by either door. ``client`` is None for REST."""

    params: Params
    client: Client | None = None

    def need(self, name: str) -> Any:
        if name not in self.params:
            raise ApiError(400, f"No data for argument: {name}")
        return self.params[name]

    def number(self, name: str, default: int) -> int:
        return int(self.params.get(name, default))


Method = Callable[[Call], Awaitable[Any]]
#: HTTP method ("" if only JSON-RPC has it), path, JSON-RPC name ("" if only REST has it), method
Table = list[tuple[str, str, str, Method]]


def rpc_error(number: Any, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": text}, "id": number}


def params_of(request: Request) -> Params:
    """Arguments of a REST call: the query, a form and a JSON body, in that order."""
    params: Params = {name: value for name, value in request.query.items() if name != "token"}
    if request.path.startswith("/printer/objects/") and request.method == "GET":
        return {"objects": {name: fields.split(",") if fields else None for name, fields in params.items()}}
    if request.content_type == "application/json" and request.body:
        with contextlib.suppress(ValueError):  # what is not JSON is not looked at
            body = request.json()
            params |= body if isinstance(body, dict) else {}
    elif request.content_type == "application/x-www-form-urlencoded":
        params |= dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    if request.path == "/printer/objects/query":
        params.setdefault("objects", {})
    return params
