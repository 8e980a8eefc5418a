"""Send files. Under ASGI a synchronous file response is read whole into memory first; this one is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header

CHUNK = 256 * 1024


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def download(path: Path, name: str) -> StreamingHttpResponse:
    """``path`` as an attachment called ``name``: never shown by the browser as a page of ours."""
    response = StreamingHttpResponse(_chunks(path), content_type="application/octet-stream")
    response["Content-Length"] = path.stat().st_size
    response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def picture(request: HttpRequest, path: Path, version: str) -> HttpResponse:
    """A PNG of ours, small enough to be read at once, to be shown in pages. ``version`` changes with its content; a
    browser asks again whether it has, because the right to see it may end."""
    return _shown(request, path, version, "image/png")


def view(request: HttpRequest, path: Path, version: str) -> HttpResponse:
    """Likewise numbers of ours for a script that draws them."""
    return _shown(request, path, version, "application/octet-stream")


def _shown(request: HttpRequest, path: Path, version: str, kind: str) -> HttpResponse:
    etag = f'"{version}"'
    response = get_conditional_response(request, etag=etag) or HttpResponse(path.read_bytes())
    response["Content-Type"] = kind
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
