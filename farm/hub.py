"""One per web process: hears what printers say and what changes in the database, and tells every viewer.

What everybody may see of a printer (its *base*) is worked out and encoded once for all viewers; who sees the same set
of printers shares the very same frames. Only the *overlay* (whose print it is) differs from viewer to viewer.

Frames, each with a ``seq`` that grows (with gaps), which the viewer answers with ``{"type": "ack", "seq": n}``:

- ``snapshot``: ``printers``, {id: base}, whole; ``all`` is true when there are no others.
- ``changes``: ``printers``, {id: JSON merge patch (RFC 7396) of the base}; ``gone``, ids that may no longer be seen.
- ``overlay``: ``printers``, {id: what is laid over the base for this viewer, or null}.
- ``versions``, every 5 s: ``printers``, {id: [fence, n, revision, age in s]}. A base carries the first three as ``v``;
  where they differ a frame was lost, and ``{"type": "resync", "printers": [ids]}`` asks for it.
- ``jobs``: ``jobs``, {id: status}, of own jobs; for staff of all.

A change of state is told at once, numbers at most twice a second. Daphne has no back-pressure: who leaves more than
three frames unanswered is told nothing more until they are answered, then only the newest; after 30 s it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import orjson
import structlog
from channels.db import database_sync_to_async
from django.conf import settings
from django.utils import timezone
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from farm.events import EVENTS
from farm.viewing import Known, Viewer
from printers import telemetry
from printers.models import Printer
from printers.views import Facts, overlay, read_facts

log = structlog.get_logger(__name__)

#: s: a batching window; between two frames of numbers; between two frames of versions; between two looks at rights
WINDOW, NUMBERS_EVERY, VERSIONS_EVERY, RECHECK = 0.005, 0.5, 5.0, 60.0
#: s: what changes in the database comes in several events, and is read once
READ_WINDOW = 0.02
#: s without any viewer until the hub rests; s of silence until Redis is asked, and again until it is given up
REST_AFTER, REDIS_SILENT = 30.0, 10.0
#: close codes, as in HTTP
UNAUTHORISED, TOO_SLOW = 4401, 4408


class Hub:
    """Everything that one web process tells. Belongs to one event loop."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.viewers: dict[Viewer, frozenset[str]] = {}  # and its audience
        self.seq = 0
        self._news: set[str] = set()
        self._numbers: set[str] = set()
        self._numbers_at = self._versions_at = self._looked_at = 0.0
        self._unread: set[str] = set()  # the database changed
        self._lost: set[str] = set()  # a newer state is in Redis
        self._jobs: dict[str, tuple[str, str]] = {}  # job id -> owner, status
        self._everything = False
        self._touched = asyncio.Event()  # who may see what may have changed
        self._wake = asyncio.Event()
        self._starting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._alone_since: float | None = None

    # -- viewers
    async def join(self, viewer: Viewer) -> bool:
        """Tell it everything, and from now on every change. False when it may not be here."""
        async with self._starting:
            if not self._tasks:
                await self._start()
        return await self._look_again(viewer)

    def leave(self, viewer: Viewer) -> None:
        viewer.left = True
        self.viewers.pop(viewer, None)
        self._alone_since = time.monotonic() if not self.viewers else None

    async def acked(self, viewer: Viewer, seq: int) -> None:
        waited = viewer.waits
        viewer.acked(seq)
        if waited and not viewer.waits and viewer in self.viewers:
            missed, viewer.missed = viewer.missed, set()
            jobs, viewer.missed_jobs = viewer.missed_jobs, {}
            await self._tell_whole(viewer, missed)
            await self._tell_jobs(viewer, jobs)

    async def resync(self, viewer: Viewer, printer_ids: Iterable[str]) -> None:
        await self._tell_whole(viewer, printer_ids)

    async def _look_again(self, viewer: Viewer) -> bool:
        """Ask anew who this is and what they may see. False, and closed, when they may no longer be here."""
        viewer.recheck_at = time.monotonic() + RECHECK * (0.5 + random.random())  # noqa: S311 - to spread the work
        rights = await viewer.ask_rights()
        if viewer.left:
            return False
        if rights is None:
            self.leave(viewer)
            await viewer.close(UNAUTHORISED)
            return False
        first, before = viewer not in self.viewers, self.viewers.get(viewer, frozenset())
        audience = frozenset(rights.roles.keys() & self.known.keys())
        viewer.rights = rights
        self.viewers[viewer], self._alone_since = audience, None
        if gone := sorted(before - audience):
            for key in gone:
                viewer.overlays.pop(key, None)
            viewer.missed.difference_update(gone)
            await self._frame([viewer], b'"type":"changes","printers":{},"gone":' + orjson.dumps(gone))
        if first or audience - before:
            await self._tell_whole(viewer, audience - before, first=first)
        await self._tell_overlays(viewer, audience)
        return True

    # -- what is told
    async def _frame(self, viewers: Iterable[Viewer], body: bytes) -> None:
        """One frame, encoded once, to all of these."""
        self.seq += 1
        frame, now = (b'{"seq":%d,' % self.seq + body + b"}").decode(), time.monotonic()
        for viewer in viewers:
            try:
                await viewer.send(self.seq, frame, now)
            except Exception as error:  # noqa: BLE001 - its socket is gone: it must not stop the others
                log.info("viewer_lost", error=str(error))
                self.leave(viewer)

    async def _tell_whole(self, viewer: Viewer, printer_ids: Iterable[str], *, first: bool = False) -> None:
        keys = [key for key in printer_ids if key in self.viewers.get(viewer, ()) and key in self.known]
        if not keys and not first:
            return
        if viewer.waits:
            viewer.missed.update(keys)
            return
        for key in keys:
            if not self.known[key].base:
                self.known[key].renew(time.monotonic(), timezone.now())
            viewer.overlays.pop(key, None)
        bases = b",".join(b'"%s":%s' % (key.encode(), self.known[key].whole) for key in keys)
        everything = b"true" if first else b"false"
        await self._frame([viewer], b'"type":"snapshot","all":' + everything + b',"printers":{' + bases + b"}")
        await self._frame([viewer], self._versions(keys))
        await self._tell_overlays(viewer, keys, waits=False)  # they belong to this snapshot

    async def _tell_overlays(self, viewer: Viewer, printer_ids: Iterable[str], *, waits: bool | None = None) -> None:
        """What is laid over these for this viewer, where it is no longer what it was told."""
        changed: dict[str, dict[str, Any]] = {}
        for key in printer_ids:
            known = self.known.get(key)
            if known is None:
                continue
            role = viewer.rights.roles.get(key, 0)
            now = overlay(known.facts, known.snapshot, viewer.rights.user_id, role)
            if now != viewer.overlays.get(key, {}):
                changed[key] = now
        if viewer.waits if waits is None else waits:
            viewer.missed |= changed.keys()
        elif changed:
            viewer.overlays |= changed
            told = {key: now or None for key, now in changed.items()}
            await self._frame([viewer], b'"type":"overlay","printers":' + orjson.dumps(told))

    async def _tell_jobs(self, viewer: Viewer, jobs: dict[str, str]) -> None:
        if viewer.waits:
            viewer.missed_jobs.update(jobs)
        elif jobs:
            await self._frame([viewer], b'"type":"jobs","jobs":' + orjson.dumps(jobs))

    def _versions(self, printer_ids: Iterable[str]) -> bytes:
        now, versions = time.monotonic(), {}
        for key in printer_ids:
            known = self.known[key]
            age = known.age(now)
            versions[key] = [*known.base.get("v", (0, 0, 0)), None if age is None else round(age, 1)]
        return b'"type":"versions","printers":' + orjson.dumps(versions)

    def _audiences(self) -> dict[frozenset[str], list[Viewer]]:
        """Who sees the same printers, without those who wait."""
        found: dict[frozenset[str], list[Viewer]] = {}
        for viewer, audience in self.viewers.items():
            if not viewer.waits:
                found.setdefault(audience, []).append(viewer)
        return found

    async def _tell_changes(self, due: set[str], news: set[str]) -> None:
        """The patches of all that are ``due``; overlays only of ``news``: no number moves them."""
        now, at = time.monotonic(), timezone.now()
        patches = {key: patch for key in due if key in self.known and (patch := self.known[key].renew(now, at))}
        encoded = {key: b'"%s":%s' % (key.encode(), orjson.dumps(patch)) for key, patch in patches.items()}
        for viewer, audience in self.viewers.items():
            if viewer.waits:
                viewer.missed |= audience & patches.keys()
        for audience, viewers in self._audiences().items():
            if parts := [encoded[key] for key in audience & encoded.keys()]:
                await self._frame(viewers, b'"type":"changes","printers":{' + b",".join(parts) + b"}")
        for viewer, audience in list(self.viewers.items()):
            await self._tell_overlays(viewer, audience & news)

    # -- the loop
    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_due()):
                    await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(WINDOW)
            try:
                await self._turn()
            except Exception:
                # e.g. the database is away: nothing is forgotten, and told when it is back
                log.exception("viewers_not_told")
                await asyncio.sleep(1)
                self._wake.set()

    def _until_due(self) -> float:
        """s until numbers may be told, a second at most."""
        due = self._numbers_at + NUMBERS_EVERY - time.monotonic()
        return min(1.0, max(0.0, due)) if self._numbers else 1.0

    async def _turn(self) -> None:
        now = time.monotonic()
        await self._tell_due(now)  # first: what printers say needs no look into the database
        await self._read()
        if now - self._looked_at >= 1.0:
            await self._look_after(now)
        await self._tell_due(now)
        await self._tell_all_jobs()

    async def _tell_due(self, now: float) -> None:
        news, self._news = self._news, set()
        due = set(news)
        if self._numbers and now - self._numbers_at >= NUMBERS_EVERY:
            due |= self._numbers
            self._numbers, self._numbers_at = set(), now
        if due:
            await self._tell_changes(due, news)

    async def _tell_all_jobs(self) -> None:
        jobs, self._jobs = self._jobs, {}
        for viewer in list(self.viewers) if jobs else ():
            mine = {
                job: status
                for job, (owner, status) in jobs.items()
                if viewer.rights.staff or owner == str(viewer.rights.user_id)
            }
            await self._tell_jobs(viewer, mine)

    async def _recheck_for_ever(self) -> None:
        """Beside the loop that tells: rights are read for one viewer after the other, and nobody waits for that."""
        while True:
            self._touched.clear()
            now = time.monotonic()
            try:
                for viewer in [viewer for viewer in self.viewers if viewer.recheck_at <= now]:
                    await self._look_again(viewer)
            except Exception:
                log.exception("rights_not_read")  # e.g. the database is away
                for viewer in self.viewers:
                    viewer.recheck_at = 0.0
                await asyncio.sleep(1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._touched.wait()

    async def _look_after(self, now: float) -> None:
        """Once a second: who fell silent, who does not read, whether versions are due, whether anybody is here."""
        self._looked_at = now
        self._news |= {key for key, known in self.known.items() if known.falls_silent(now)}
        for viewer in [viewer for viewer in self.viewers if viewer.too_slow(now)]:
            self.leave(viewer)
            await viewer.close(TOO_SLOW)
        if now - self._versions_at >= VERSIONS_EVERY:
            self._versions_at = now
            for audience, viewers in self._audiences().items():
                if known := audience & self.known.keys():
                    await self._frame(viewers, self._versions(known))
        if self._alone_since is not None and now - self._alone_since > REST_AFTER:
            self._rest()

    # -- what is known
    async def _read(self) -> None:
        """What the database and Redis say of what changed there. What changes meanwhile is read the next time."""
        if self._everything:
            await self._read_everything()
            for viewer in self.viewers:
                viewer.recheck_at = 0.0
            self._touched.set()
        unread, lost = self._unread & self.known.keys(), self._lost & self.known.keys()
        self._unread, self._lost = set(), set()
        if not (unread or lost):
            return
        try:
            facts, snapshots = await _read_printers(unread, lost)
        except Exception:
            self._unread |= unread
            self._lost |= lost
            raise
        for key, fresh in facts.items():
            self.known[key].learn(fresh)
        for key, snapshot in snapshots.items():
            self._take(key, snapshot)
        self._news |= facts.keys() | snapshots.keys()

    async def _read_everything(self) -> None:
        self._everything = False
        try:
            facts, snapshots = await _read_printers(None, None)
        except Exception:
            self._everything = True
            raise
        for key in self.known.keys() - facts.keys():
            del self.known[key]
        for key, fresh in facts.items():
            if key in self.known:
                self.known[key].learn(fresh)
            else:
                self.known[key] = Known(fresh)
        for key, snapshot in snapshots.items():
            self._take(key, snapshot)
        self._news |= self.known.keys()

    def _take(self, key: str, snapshot: telemetry.Snapshot) -> None:
        if key in self.known:
            self.known[key].take(snapshot, time.monotonic())

    def _hear_states(self, states: dict[str, Any]) -> None:
        now = time.monotonic()
        for key, said in states.items():
            known = self.known.get(key)
            if known is None or (said["fence"], said["n"]) <= known.version:
                continue
            state = telemetry.from_json(said["state"])
            fresh = telemetry.Snapshot(state=state, age=0.0, fence=said["fence"], n=said["n"])
            (self._news if known.take(fresh, now) else self._numbers).add(key)

    def _hear_versions(self, heard: dict[str, Any]) -> None:
        now = time.monotonic()
        for key, (fence, n, age) in heard.items():
            known = self.known.get(key)
            if known is None:
                continue
            if (fence, n) > known.version:
                self._lost.add(key)
            known.heard_at = max(known.heard_at or 0.0, now - age)
            if known.base.get("stale", True) and known.snapshot is not None:
                self._news.add(key)

    def _hear_event(self, event: dict[str, Any]) -> None:
        wait = 0.0
        if event["type"] == "printer":
            self._unread.add(event["printer_id"])
            wait = READ_WINDOW
        elif event["type"] == "job":
            self._jobs[event["job_id"]] = (event["owner_id"], event["status"])
        elif event["type"] == "access":
            self._everything = True
        asyncio.get_running_loop().call_later(wait, self._wake.set)

    def _hear(self, channel: str, data: bytes) -> None:
        said = orjson.loads(data)
        if channel == EVENTS:
            self._hear_event(said)
        else:
            self._hear_states(said.get("states", {}))
            self._hear_versions(said.get("heard", {}))
            self._wake.set()

    # -- Redis
    async def _start(self) -> None:
        channel = await _subscribed()
        self._everything = True
        try:
            await self._read()
        except BaseException:
            await _close(channel)
            raise
        forever = (self._listen(channel), self._run(), self._recheck_for_ever())
        self._tasks = [asyncio.create_task(task) for task in forever]

    def _rest(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._alone_since = None

    async def _listen(self, channel: PubSub | None) -> None:
        """For ever: after a break everything is read anew, as nobody knows what was said meanwhile."""
        while True:
            try:
                if channel is None:
                    channel = await _subscribed()
                    self._everything = True
                    self._wake.set()
                await self._listen_to(channel)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("hub_without_redis", error=str(error))
                await asyncio.sleep(0.5)
            finally:
                if channel is not None:
                    await _close(channel)
                channel = None

    async def _listen_to(self, channel: PubSub) -> None:
        asked = False
        while True:
            message = await channel.get_message(timeout=REDIS_SILENT)
            if message is not None:
                asked = False
                if message["type"] == "message":
                    self._hear(message["channel"].decode(), message["data"])
            elif asked:
                raise TimeoutError("Redis says nothing.")
            else:
                await channel.ping()
                asked = True


@database_sync_to_async
def _read_printers(
    unread: Collection[str] | None, lost: Collection[str] | None
) -> tuple[dict[str, Facts], dict[str, telemetry.Snapshot]]:
    """What the database says of some printers and Redis of some; None: of all."""
    rows = Printer.objects.select_related("profile")
    found = list(rows if unread is None else rows.filter(pk__in=[UUID(key) for key in unread]) if unread else ())
    facts = read_facts(found) if found else {}
    snapshots = telemetry.read([row.pk for row in found] if lost is None else [UUID(key) for key in lost])
    return {str(pk): row for pk, row in facts.items()}, {str(pk): row for pk, row in snapshots.items()}


async def _subscribed() -> PubSub:
    """Both channels. A broken connection must be noticed, not mended in silence: hence no retries."""
    redis = Redis.from_url(settings.REDIS_URL, socket_connect_timeout=3, retry=Retry(NoBackoff(), 0))
    channel = redis.pubsub()
    await channel.subscribe(EVENTS, telemetry.LIVE)
    return channel


async def _close(channel: PubSub) -> None:
    await channel.aclose()
    await channel.connection_pool.disconnect()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """This event loop's."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
