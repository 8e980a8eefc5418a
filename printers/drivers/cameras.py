"""Where a printer's server says that its camera is, and looking through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from printers.drivers.base import Camera, Garbled, Unreachable
from printers.drivers.flow import Flow
from printers.drivers.frames import MAX_PICTURE, Parts, Picture, picture, plain_type
from printers.drivers.http import Door

#: s for a head, and for each picture
PICTURE_S = 10.0
MAX_ADDRESS = 300
#: ports of Moonraker itself; the pages and the camera of such a host are at the usual port of the web
_MOONRAKER_PORTS = {7125, 7130}
#: what in Moonraker's list is a stream of pictures, and no WebRTC, HLS or page
_MJPEG_SERVICES = {"mjpegstreamer", "mjpegstreamer-adaptive", "uv4l-mjpeg"}


# -- what servers say
def octoprint_camera(settings: Mapping[str, Any], base_url: str) -> Camera | None:
    """Of the answer to GET /api/settings: the default camera of `webcams` (since 1.9), else the older keys."""
    webcam = settings.get("webcam") or {}
    if webcam.get("webcamEnabled") is False:
        return None
    cameras = {str(row.get("name")): row for row in webcam.get("webcams") or ()}
    row = cameras.get(str(webcam.get("defaultWebcam"))) or next(iter(cameras.values()), webcam)
    compat = row.get("compat") or {}
    return _camera(
        absolute(compat.get("snapshot") or webcam.get("snapshotUrl"), base_url),
        absolute(compat.get("stream") or webcam.get("streamUrl"), base_url),
        flips=(bool(row.get("flipH")), bool(row.get("flipV"))),
        rotation=270 if row.get("rotate90") else 0,  # OctoPrint turns counter-clockwise
    )


def moonraker_camera(rows: Sequence[Mapping[str, Any]], base_url: str) -> Camera | None:
    """Of the rows of server.webcams.list: the first that is switched on. Addresses are relative to the pages of the
    printer, not to Moonraker. Its clients turn first and mirror then; turned by a quarter, that is the other mirror."""
    page = _page_of_moonraker(base_url)
    for row in rows:
        mjpeg = str(row.get("service") or "mjpegstreamer") in _MJPEG_SERVICES
        rotation = int(row.get("rotation") or 0) % 360
        flips = (bool(row.get("flip_horizontal")), bool(row.get("flip_vertical")))
        found = _camera(
            absolute(row.get("snapshot_url"), page),
            absolute(row.get("stream_url"), page) if mjpeg else "",
            flips=flips[::-1] if rotation in (90, 270) else flips,
            rotation=rotation if rotation in (90, 180, 270) else 0,
        )
        if row.get("enabled", True) and found is not None:
            return found
    return None


def _page_of_moonraker(base_url: str) -> str:
    parts = urlsplit(base_url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}/" if parts.port in _MOONRAKER_PORTS else base_url


def _camera(snapshot: str, stream: str, flips: tuple[bool, bool], rotation: int) -> Camera | None:
    if not snapshot and not stream:
        return None
    return Camera(snapshot=snapshot, stream=stream, flip_h=flips[0], flip_v=flips[1], rotation=rotation)


def absolute(said: object, page: str) -> str:
    """``said`` by a server, as an address that can be asked for: relative ones on ``page``, localhost as its host.
    "" for everything that is no plain http(s) address."""
    if not isinstance(said, str) or not said.strip() or len(said) > MAX_ADDRESS:
        return ""
    text = said.strip()
    if not (text.isascii() and text.isprintable()) or " " in text:
        return ""
    try:
        parts = urlsplit(urljoin(page.rstrip("/") + "/", text))
        port, own = parts.port, urlsplit(page).hostname or ""
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or port == 0:
        return ""
    host = own if _is_loopback(parts.hostname) else parts.hostname
    return on_host(parts, host)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")  # noqa: S104 - compared, not bound


def on_host(parts: SplitResult, host: str) -> str:
    """The same address on another host."""
    bracketed = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, f"{bracketed}{port}", parts.path or "/", parts.query, ""))


# -- looking
class Lens:
    """One look at one address of a camera. No key of the farm goes there."""

    def __init__(self, address: str, check_address: Callable[[str], str | None]) -> None:
        self._address, self._check_address = address, check_address
        self._flow: Flow | None = None
        self._stopped = False
        #: it gave one picture, and no stream
        self.single = False

    def pictures(self) -> Iterator[Picture]:
        """One picture, or those of a stream for as long as it lasts. Raises Unreachable and Garbled."""
        parts = urlsplit(self._address)
        flow = self._flow = Door(f"{parts.scheme}://{parts.netloc}", "", self._check_address).dial()
        try:
            if not self._stopped:
                yield from self._pictures(flow, urlunsplit(("", "", parts.path or "/", parts.query, "")))
        finally:
            flow.close()

    def _pictures(self, flow: Flow, target: str) -> Iterator[Picture]:
        status = flow.get(target, within=PICTURE_S)
        if status != 200:  # a redirect is not followed: it may lead anywhere
            raise Garbled(f"The camera answers with status {status}.")
        if plain_type(flow.content_type) == "multipart/x-mixed-replace":
            yield from _parts(flow)
        else:
            self.single = True
            yield picture(flow.content_type, _whole(flow))

    def stop(self) -> None:
        """From any thread: :meth:`pictures` ends or raises Unreachable at once."""
        self._stopped = True
        if self._flow is not None:
            self._flow.stop()


def _parts(flow: Flow) -> Iterator[Picture]:
    parts, deadline = Parts(), time.monotonic() + PICTURE_S
    while not parts.ended and (block := flow.read(deadline)):
        for found in parts.feed(block):
            yield found
            deadline = time.monotonic() + PICTURE_S


def _whole(flow: Flow) -> bytes:
    body, deadline = bytearray(), time.monotonic() + PICTURE_S
    while block := flow.read(deadline):
        body += block
        if len(body) > MAX_PICTURE:
            raise Garbled(f"The camera sends pictures of more than {MAX_PICTURE // 2**20} MB.")
    if not body:
        raise Unreachable("The camera sends nothing.")
    return bytes(body)
