"""What the simulated OctoPrint sends over its WebSocket, and to whom.

Plain JSON at ``/sockjs/websocket``. Nothing but ``connected`` comes before a right ``{"auth": "name:session"}``, and a
wrong one is answered with ``reauthRequired`` or, if it is an API key, with nothing at all.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from printers.simulators.octoprint_host import Host
from printers.simulators.web import WebSocket

VERSION = "1.11.8"
USER = "_api"  # whoever uses the global API key
PERMISSIONS = [
    "ADMIN", "STATUS", "CONNECTION", "WEBCAM", "SYSTEM", "FILES_LIST", "FILES_UPLOAD", "FILES_DOWNLOAD", "FILES_DELETE",
    "FILES_SELECT", "PRINT", "GCODE_VIEWER", "MONITOR_TERMINAL", "CONTROL", "SLICE", "TIMELAPSE_LIST",
    "TIMELAPSE_DOWNLOAD", "TIMELAPSE_DELETE", "TIMELAPSE_ADMIN", "SETTINGS_READ", "SETTINGS",
]  # fmt: skip
#: An update at most this often; OctoPrint's ``throttle`` multiplies it.
UPDATE_SECONDS = 0.5
_SESSION_SECONDS = 15 * 60

Body = dict[str, Any]


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
        if not self.authorised:
            return
        if kind == "event":
            if self.events is None or details["type"] in self.events:
                self.socket.send({"event": details})
        elif kind == "temps" and self.state:
            self.temps.append(details)
        elif kind == "log" and self.state and self.with_logs:
            self.logs.append(details)
        self.changed = True

    def subscribe(self, wish: Body) -> None:
        """``{"state": bool | {"logs": bool, ...}, "events": bool | [names], "plugins": ...}``"""
        state, events = wish.get("state", False), wish.get("events", False)
        self.state = bool(state)
        self.with_logs = state.get("logs", False) not in (False, None) if isinstance(state, dict) else bool(state)
        self.events = None if events is True else frozenset(events or [])


class Push:
    """All viewers of one OctoPrint, and the sessions that let them in."""

    def __init__(self) -> None:
        self.host: Host  # set by whoever makes both, as each needs the other
        self._viewers: list[Viewer] = []
        self._sessions: dict[str, float] = {}

    def forget(self) -> None:
        """The server starts anew: sessions are gone, and so are the sockets."""
        self._viewers.clear()
        self._sessions.clear()

    def open_session(self) -> str:
        session = secrets.token_hex(32)
        self._sessions[session] = time.monotonic() + _SESSION_SECONDS
        return session

    def tick(self) -> None:
        now = time.monotonic()
        for viewer in self._viewers:
            if viewer.changed and viewer.authorised and viewer.state:
                self._update(viewer, now)

    def hear(self, kind: str, details: Any) -> None:
        for viewer in self._viewers:
            viewer.hear(kind, details)

    async def serve(self, socket: WebSocket) -> None:
        viewer = Viewer(socket)
        self._viewers.append(viewer)
        socket.send({"connected": self._greeting()})
        try:
            while (text := await socket.receive()) is not None:
                if not self._understand(viewer, text):
                    socket.close()
                    return
        finally:
            if viewer in self._viewers:
                self._viewers.remove(viewer)

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
        if user != USER or self._sessions.get(session, 0.0) < time.monotonic():
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
        logs = viewer.logs + self.host.recent_lines() if viewer.with_logs else []
        messages = [text.removeprefix("Recv: ") for text in viewer.logs if text.startswith("Recv: ")]
        viewer.socket.send({"current": {**self._snapshot(), "temps": viewer.temps, "logs": logs, "messages": messages}})
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
        permissions = [{"key": name, "name": name.title(), "dangerous": False} for name in PERMISSIONS]
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
