"""The web process: HTTP by Django, /ws/live/ by Channels."""

from __future__ import annotations

import json
import os
from typing import Any, cast
from urllib.parse import urlsplit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "farm.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import path

from farm.backpressure import with_backpressure
from farm.live import key_of, live

sockets: Any = URLRouter([path("ws/live/", cast(Any, live))])

#: bytes of multipart framing around an upload
_FRAMING = 100_000
_UPLOADS = ("/api/models/", "/api/gcodes/", "/submit/")


def limit_body(app: Any) -> Any:
    """Refuse by Content-Length, before anything is parsed. Without a length it is refused too: nobody who uploads a
    model sends it chunked."""

    async def limited(scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        most = (
            settings.FARM_MAX_UPLOAD + _FRAMING if scope["path"] in _UPLOADS else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        )
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers:
            await _refuse(send, 411, "length_required", "Send a Content-Length.")
        elif not length.isdigit() or int(length) > most:
            await _refuse(send, 413, "too_large", f"The farm takes at most {most // 1_000_000} MB here.")
        else:
            await app(scope, receive, send)

    return limited


async def _refuse(send: Any, status: int, code: str, message: str) -> None:
    body = json.dumps({"code": code, "message": message, "extra": {}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


def same_origin(origin: str, host: str) -> bool:
    """Whether a page from ``origin`` is ours: it came from the very host and port that it now calls, or is trusted."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    parts, (domain, _) = urlsplit(origin), split_domain_port(host)
    scheme = "https" if settings.FARM_TLS else "http"
    return parts.scheme == scheme and parts.netloc == host and validate_host(domain, settings.ALLOWED_HOSTS)


def guard_origin(app: Any) -> Any:
    """A browser (it sends Origin) must come from one of our pages and is known by its session. A program (it sends no
    Origin) or who brings a key is known by that key only: cookies are not looked at."""
    browser, denied = AuthMiddlewareStack(app), WebsocketDenier.as_asgi()

    async def guarded(scope: dict[str, Any], receive: Any, send: Any) -> Any:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        if origin is None or key_of(scope)[0]:  # some libraries send an Origin unasked
            return await app(scope, receive, send)
        ours = same_origin(origin, headers.get(b"host", ""))
        return await (browser if ours else denied)(scope, receive, send)

    return guarded


application = ProtocolTypeRouter({"http": limit_body(with_backpressure(http)), "websocket": guard_origin(sockets)})
