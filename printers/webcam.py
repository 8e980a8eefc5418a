"""Cameras of printers: where they are, one picture, and pictures as they come.

Whatever the number of viewers, this process asks a camera once: single pictures are kept for a second, and a live
camera has one connection, opened with the first viewer and closed with the last, read by a thread of its own. Each
viewer gets the newest picture when it is ready for one; nothing queues up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from threading import Condition, Event, RLock, Thread
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import structlog

from printers import services
from printers.drivers.base import Camera, DriverError, Unreachable
from printers.drivers.cameras import Lens, on_host
from printers.drivers.frames import Picture
from printers.models import CameraSource, Printer

log = structlog.get_logger(__name__)

#: s that an answer is kept
PICTURE_KEPT_S, WHERE_KEPT_S, FAULT_KEPT_S = 1.0, 60.0, 5.0
#: s between two pictures of a camera that only gives single ones
SINGLE_EVERY_S = 0.5
#: at most so many pictures and bytes a second are taken from a camera
MOST_PICTURES, MOST_BYTES = 30, 8_000_000
#: cameras that are live at a time; each has a thread
MOST_LIVE = 64
#: s for the first picture; a connection and a fallback each have their own limits below it
FIRST_S = 20.0

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Answers that many ask for at once: one asks, the others wait for it; then it is kept for a moment, and so is a
    DriverError."""

    def __init__(self, kept_s: float) -> None:
        self._kept_s = kept_s
        self._lock = RLock()
        self._answers: dict[K, Future[V]] = {}
        self._until: dict[K, float] = {}

    def get(self, key: K, ask: Callable[[], V]) -> V:
        """Raises what ``ask`` raises."""
        with self._lock:
            self._forget_old()
            known = self._answers.get(key)
            answer = self._answers.setdefault(key, Future())
        if known is None:
            self._ask(key, answer, ask)
        try:
            return answer.result()
        except DriverError as fault:
            raise type(fault)(fault.message) from None  # each thread its own traceback

    def _ask(self, key: K, answer: Future[V], ask: Callable[[], V]) -> None:
        kept_s = self._kept_s
        try:
            answer.set_result(ask())
        except BaseException as fault:  # noqa: BLE001 - those who wait must learn of any fault
            kept_s = FAULT_KEPT_S if isinstance(fault, DriverError) else 0.0
            answer.set_exception(fault)
        with self._lock:
            self._until[key] = time.monotonic() + kept_s

    def _forget_old(self) -> None:
        now = time.monotonic()
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key], self._answers[key]


# -- where
_where: Shared[Any, Camera | None] = Shared(WHERE_KEPT_S)


def camera_of(printer: Printer) -> Camera | None:
    """Where the camera is, as staff or else the printer's server say. Raises Unreachable and the other DriverErrors
    when its server is asked and does not answer as it should."""
    if printer.camera == CameraSource.OFF or not printer.enabled:
        return None
    if printer.camera == CameraSource.OWN:
        snapshot, stream = printer.camera_snapshot_url, printer.camera_stream_url
        found = Camera(snapshot=snapshot, stream=stream) if snapshot or stream else None
    else:
        key = (printer.pk, printer.kind, printer.url, printer.sealed_key)
        found = _where.get(key, lambda: _on_its_host(_asked(printer), printer.url))
    if found is None or printer.camera_rotation is None:
        return found
    flip_h, flip_v = printer.camera_flip_h, printer.camera_flip_v
    return replace(found, rotation=printer.camera_rotation, flip_h=flip_h, flip_v=flip_v)


def _asked(printer: Printer) -> Camera | None:
    driver = services.open_driver(printer)
    try:
        return driver.camera()
    finally:
        driver.close()


def _on_its_host(camera: Camera | None, url: str) -> Camera | None:
    """Only what is on the printer's own host: its server must not lead the farm to others. Staff may."""
    if camera is None:
        return None
    own = urlsplit(url).hostname or ""
    snapshot, stream = (_moved(address, own) for address in (camera.snapshot, camera.stream))
    return replace(camera, snapshot=snapshot, stream=stream) if snapshot or stream else None


def _moved(address: str, own: str) -> str:
    """The address under the name that the printer's host has here, "" if it is on another host."""
    parts = urlsplit(address)
    return on_host(parts, own) if address and _same_host(parts.hostname or "", own) else ""


def _same_host(host: str, own: str) -> bool:
    if host == own:
        return True
    try:
        address = services.address(host)
        return address is not None and address == services.address(own)
    except Unreachable:
        return False


# -- one picture
_pictures: Shared[Camera, Picture] = Shared(PICTURE_KEPT_S)


def picture_of(camera: Camera) -> Picture:
    """At most about a second old. Raises Unreachable and Garbled."""
    return _sources.newest(camera) or _pictures.get(camera, lambda: _look(camera))


def _look(camera: Camera) -> Picture:
    """From the address for single pictures, else the first one of the stream: many servers name an address for single
    pictures that only they themselves reach."""
    fault: DriverError = Unreachable("There is no camera.")
    for address in filter(None, (camera.snapshot, camera.stream)):
        try:
            return _first(Lens(address, services.address))
        except DriverError as why:
            fault = why
            log.info("camera_failed", address=address, error=why.message)
    raise fault


def _first(lens: Lens) -> Picture:
    with contextlib.closing(lens.pictures()) as pictures:  # type: ignore[type-var]
        for picture in pictures:
            return picture
    raise Unreachable("The camera sends nothing.")


# -- pictures as they come
class _Bell:
    """Wakes one viewer, from another thread, in the loop where it waits."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()

    def listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # (wait_for may lose the news that the viewer has left)
                await self._event.wait()

    def ring(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                self._loop.call_soon_threadsafe(self._event.set)


class _Source:
    """A camera that is live: one connection, one thread."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.bells: set[_Bell] = set()
        self.newest: Picture | None = None
        self.number = 0
        self.at = 0.0
        self.fault: DriverError | None = None
        self._changed = Condition()
        self._stop = Event()
        self._lens: Lens | None = None

    def wait_for_first(self) -> None:
        """Raises the DriverError that came instead."""
        with self._changed:
            self._changed.wait_for(lambda: self.number or self.fault, FIRST_S)
        if not self.number:
            raise self.fault or Unreachable("The camera sends nothing.")

    def run(self) -> None:
        fault: DriverError = Unreachable("The camera has stopped.")
        try:
            for picture in self._pictures():
                began = time.monotonic()
                self._tell(picture, None)
                least = max(1 / MOST_PICTURES, len(picture.data) / MOST_BYTES)
                if self._stop.wait(max(0.0, least - (time.monotonic() - began))):
                    return
        except DriverError as why:
            fault = why
            log.info("camera_failed", address=self.camera.stream or self.camera.snapshot, error=why.message)
        finally:
            _sources.forget(self)
            self._tell(None, fault)

    def _tell(self, picture: Picture | None, fault: DriverError | None) -> None:
        with self._changed:
            self.fault = fault
            if picture is not None:
                self.newest, self.number, self.at = picture, self.number + 1, time.monotonic()
            self._changed.notify_all()
        for bell in list(self.bells):
            bell.ring()

    def _pictures(self) -> Iterator[Picture]:
        """The stream; single pictures where there is none, or where it does not begin."""
        if self.camera.stream:
            begun = False
            lens = self._open(self.camera.stream)
            try:
                for picture in lens.pictures():
                    begun = True
                    yield picture
            except DriverError:
                if begun or not self.camera.snapshot:
                    raise
            if begun and not lens.single:
                return
        while not self._stop.is_set():
            yield _first(self._open(self.camera.snapshot or self.camera.stream))
            self._stop.wait(SINGLE_EVERY_S)

    def _open(self, address: str) -> Lens:
        self._lens = lens = Lens(address, services.address)
        if self._stop.is_set():
            lens.stop()
        return lens

    def stop(self) -> None:
        self._stop.set()
        if self._lens is not None:
            self._lens.stop()


class _Sources:
    """The live cameras of this process."""

    def __init__(self) -> None:
        # re-entrant: a viewing that is collected as garbage leaves in whatever thread that happens
        self._lock = RLock()
        self._sources: dict[Camera, _Source] = {}

    def join(self, camera: Camera, bell: _Bell) -> _Source:
        """Raises Unreachable when too many are live."""
        with self._lock:
            source = self._sources.get(camera)
            if source is not None:
                source.bells.add(bell)
                return source
            if len(self._sources) >= MOST_LIVE:
                raise Unreachable("Too many cameras are live.")
            source = self._sources[camera] = _Source(camera)
            source.bells.add(bell)
        Thread(target=source.run, name="camera", daemon=True).start()
        return source

    def leave(self, source: _Source, bell: _Bell) -> None:
        with self._lock:
            source.bells.discard(bell)
            if not source.bells:
                self.forget(source)
                source.stop()

    def forget(self, source: _Source) -> None:
        with self._lock:
            if self._sources.get(source.camera) is source:
                del self._sources[source.camera]

    def newest(self, camera: Camera) -> Picture | None:
        """The last picture of a camera that is live and well."""
        with self._lock:
            source = self._sources.get(camera)
            return source.newest if source and time.monotonic() - source.at < 2 * PICTURE_KEPT_S else None

    def __len__(self) -> int:
        return len(self._sources)


_sources = _Sources()


class Viewing:
    """One viewer of a live camera: it keeps the camera live until :meth:`close`, or until nobody has it any more (the
    request may be gone before its answer is made)."""

    def __init__(self, camera: Camera) -> None:
        """Raises Unreachable."""
        bell = self._bell = _Bell()
        source = self._source = _sources.join(camera, bell)
        self._seen = 0
        self._leave = weakref.finalize(self, _sources.leave, source, bell)
        self._leave.atexit = False

    def wait_for_first(self) -> None:
        """Blocks until there is a picture. Raises Unreachable and Garbled."""
        self._source.wait_for_first()

    async def next(self, seconds: float) -> Picture | None:
        """The newest picture that was not given yet; None when none comes within ``seconds``. Raises DriverError when
        no more will come."""
        self._bell.listen()
        if self._source.number == self._seen and self._source.fault is None:
            await self._bell.wait(seconds)
        if self._source.number > self._seen:
            self._seen = self._source.number
            return self._source.newest
        if self._source.fault is not None:
            raise type(self._source.fault)(self._source.fault.message)
        return None

    def close(self) -> None:
        self._leave()
