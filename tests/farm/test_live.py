"""The live socket: who is let in, what they are told, and when it ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.testing import WebsocketCommunicator
from django.test import Client
from pytest_django import Settings

from farm import hub, live, tickets
from farm.asgi import application
from farm.events import AccessTouched, publish
from farm.models import User
from farm.viewing import CLOSE_AFTER, MOST_OPEN
from jobs import services as jobs
from printers import telemetry
from printers.drivers.base import PrinterState, PrinterStatus, Temperature
from printers.models import Grant, Printer, Role
from printers.screens import make_link, revoke_link
from printers.services import change_printer, clear_bed, remove_printer
from tests.api import api, ok
from tests.cast import Cast, as_, attempt, grant, job
from tests.told import Told, patched
from tests.work import committed

pytestmark = pytest.mark.django_db

#: s until something that must happen is missed
PATIENCE = 30
#: a fence greater than any that a bridge of these tests had
FENCE = 1000
_n = itertools.count(1)


@dataclass
class Comes:
    """How somebody opens the socket."""

    headers: list[tuple[bytes, bytes]]
    subprotocols: list[str] = field(default_factory=list)


@pytest.fixture(autouse=True)
def _briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "NUMBERS_EVERY", 0.01)


class Viewer(Told):
    """One open socket. Reads, and answers as it is asked to, unless it is told to be lazy."""

    def __init__(self, socket: WebsocketCommunicator) -> None:
        super().__init__()
        self.socket = socket

    async def next(self, ack: bool = True) -> dict[str, Any]:
        frame: dict[str, Any] = await self.socket.receive_json_from(timeout=PATIENCE)
        self.hear(frame)
        if ack:
            await self.ack(frame["seq"])
        return frame

    async def ack(self, seq: Any) -> None:
        await self.socket.send_to(text_data=json.dumps({"type": "ack", "seq": seq}))

    async def until(self, seen: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first frame that is so."""
        async with asyncio.timeout(PATIENCE):
            while not seen(frame := await self.next()):
                pass
        return frame

    async def knows(self, printer: Printer, **fields: Any) -> dict[str, Any]:
        """The frame with which this is known."""
        key = str(printer.pk)
        return await self.until(lambda _: all(self.printers[key].get(name) == value for name, value in fields.items()))

    async def closed(self) -> int:
        """The code with which it ends, whatever is said before."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await self.socket.receive_output(PATIENCE)
                if message["type"] == "websocket.close":
                    return int(message["code"])


def cookies(user: User) -> bytes:
    client = Client()
    client.force_login(user)
    return f"farm_session={client.cookies['farm_session'].value}".encode()


def browser(user: User | None, origin: str = "http://localhost:8000", host: str = "localhost:8000") -> Comes:
    headers = [(b"host", host.encode()), (b"origin", origin.encode())]
    return Comes([*headers, (b"cookie", cookies(user))] if user else headers)


def program(user: User) -> Comes:
    ticket = ok(api(user).post("/api/ws-ticket/"), 201)["ticket"]
    return Comes([(b"host", b"localhost:8000")], ["farm.ticket", ticket])


@asynccontextmanager
async def opened(comes: Comes) -> AsyncIterator[WebsocketCommunicator]:
    socket = WebsocketCommunicator(application, "/ws/live/", comes.headers, comes.subprotocols)
    try:
        yield socket
    finally:
        await socket.disconnect(timeout=PATIENCE)


@asynccontextmanager
async def viewing(comes: Comes) -> AsyncIterator[Viewer]:
    """An open socket that has heard everything there is."""
    async with opened(comes) as socket:
        accepted, protocol = await socket.connect(timeout=PATIENCE)
        assert (accepted, protocol) == (True, comes.subprotocols[0] if comes.subprotocols else None)
        viewer = Viewer(socket)
        first = await viewer.next()
        assert (first["type"], first["all"]) == ("snapshot", True)
        await viewer.until(lambda frame: frame["type"] == "versions")
        yield viewer


def play(story: Callable[[], Awaitable[None]]) -> None:
    """In one event loop, with the database of this thread."""
    async_to_sync(story)()


def meanwhile(act: Callable[..., Any], *args: Any, **options: Any) -> Awaitable[Any]:
    """What happens in the farm, and its events."""

    def happen() -> Any:
        with committed():
            return act(*args, **options)

    return sync_to_async(happen)()


async def speaks(printer: Printer, fence: int = FENCE, n: int | None = None, **fields: Any) -> int:
    """As the bridge tells it; the state's n."""
    state = telemetry.to_json(PrinterState(**{"status": PrinterStatus.IDLE, **fields}))
    n = n or next(_n)
    await says(states={str(printer.pk): {"fence": fence, "n": n, "state": state}})
    return n


async def says(**message: Any) -> None:
    await sync_to_async(telemetry.client().publish)(telemetry.LIVE, json.dumps(message))


def heat(target: float) -> dict[str, Any]:
    return {"temperatures": {"tool0": Temperature(actual=20.0, target=target)}}


# -- who is let in
SHUT = "no handshake"


def refusal(comes: Comes) -> int | str:
    """The code with which the socket was closed, or that it was never opened (HTTP 403)."""
    found: list[int | str] = []

    async def story() -> None:
        async with opened(comes) as socket:
            accepted, _ = await socket.connect(timeout=PATIENCE)
            found.append(await Viewer(socket).closed() if accepted else SHUT)

    play(story)
    return found[0]


def test_who_did_not_log_in_is_told_so_and_nothing_else(cast: Cast) -> None:
    assert refusal(browser(None)) == 4401
    assert refusal(Comes([(b"host", b"localhost:8000")])) == 4401


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:8001",
        "https://localhost:8000",
        "http://localhost",
        "http://localhost:8000.evil.example",
        "http://evil.example/http://localhost:8000",
        "http://user@localhost:8000",
        "null",
        "",
    ],
)
def test_a_page_of_another_origin_is_not_let_in_with_its_visitors_cookie(cast: Cast, origin: str) -> None:
    assert refusal(browser(cast.ada, origin)) == SHUT


def test_a_page_that_calls_itself_by_a_host_that_is_not_ours_is_not_let_in(cast: Cast) -> None:
    """As a name does that was made to lead to us."""
    assert refusal(browser(cast.ada, "http://rebound.example:8000", "rebound.example:8000")) == SHUT


def test_an_origin_that_the_lab_trusts_is_let_in(cast: Cast, settings: Settings) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://farm.example"]
    known = browser(cast.sam, "https://farm.example", "127.0.0.1:8000")

    async def story() -> None:
        async with viewing(known):
            pass

    play(story)


def test_a_cookie_without_an_origin_is_not_looked_at(cast: Cast) -> None:
    assert refusal(Comes([(b"host", b"localhost:8000"), (b"cookie", cookies(cast.ada))])) == 4401


@pytest.mark.parametrize("origin", [b"http://localhost:8000", b"http://elsewhere.example"])
def test_a_program_may_send_an_origin_and_its_cookies_are_not_looked_at(cast: Cast, origin: bytes) -> None:
    known = program(cast.sam)
    known.headers += [(b"origin", origin), (b"cookie", cookies(cast.ada))]
    told: list[set[str]] = []

    async def story() -> None:
        async with viewing(known) as viewer:
            told.append(set(viewer.printers))

    play(story)
    assert told == [{str(cast.anvil.pk)}]
    assert refusal(Comes(known.headers, ["farm.ticket", "guessed"])) == 4401


def test_a_ticket_is_good_once(cast: Cast) -> None:
    known = program(cast.sam)

    async def story() -> None:
        async with viewing(known):
            pass

    play(story)
    assert refusal(known) == 4401


def test_a_ticket_that_was_not_used_in_time_is_no_longer_good(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    known = program(cast.sam)
    keys: Any = telemetry.client().keys("farm:ticket:*")
    (key,) = keys
    assert 0 < telemetry.client().ttl(key) <= tickets.GOOD_FOR == 30
    telemetry.client().pexpire(key, 0)
    assert refusal(known) == 4401


def test_only_a_tickets_hash_is_kept(cast: Cast) -> None:
    ticket = program(cast.sam).subprotocols[1]
    keys: Any = telemetry.client().keys("farm:ticket:*")
    (key,) = keys
    kept: Any = telemetry.client().get(key)
    assert ticket.encode() not in key + kept


def screen(secret: str) -> Comes:
    return Comes([(b"host", b"localhost:8000"), (b"origin", b"http://localhost:8000")], ["farm.tv", secret])


def test_a_screen_shows_its_printers_and_no_names_until_its_link_is_revoked(cast: Cast) -> None:
    attempt(job(cast.sam, name="gift.stl"), cast.anvil)
    link, secret = make_link(cast.ada, "Hall")

    async def story() -> None:
        async with viewing(screen(secret)) as viewer:
            assert set(viewer.printers) == {str(cast.anvil.pk), str(cast.cellar.pk)}
            await speaks(cast.anvil, message="Hello.")
            await viewer.knows(cast.anvil, message="Hello.")
            assert "gift.stl" not in json.dumps([viewer.bases, viewer.overlays])
            await meanwhile(revoke_link, link, cast.ada)
            assert await viewer.closed() == 4401

    play(story)
    assert refusal(screen(secret)) == refusal(screen("x" * 43)) == refusal(screen("")) == 4401


def test_a_screen_for_which_staff_chose_so_shows_names(cast: Cast) -> None:
    attempt(job(cast.sam, name="gift.stl"), cast.anvil)
    _, secret = make_link(cast.ada, "Staff room", show_names=True)

    async def story() -> None:
        async with viewing(screen(secret)) as viewer:
            await viewer.until(lambda _: viewer.printers[str(cast.anvil.pk)]["job"].get("file") == "gift.stl")

    play(story)


def test_who_did_not_log_in_gets_no_ticket(cast: Cast, client: Client) -> None:
    assert client.post("/api/ws-ticket/").status_code == 401
    assert refusal(Comes([(b"host", b"localhost:8000")], ["farm.ticket"])) == 4401
    assert refusal(Comes([(b"host", b"localhost:8000")], ["farm.ticket", "farm.ticket"])) == 4401


def test_a_token_in_the_url_or_a_header_opens_nothing(cast: Cast) -> None:
    from rest_framework_simplejwt.tokens import AccessToken

    header = (b"authorization", f"Bearer {AccessToken.for_user(cast.sam)}".encode())
    assert refusal(Comes([(b"host", b"localhost:8000"), header])) == 4401


@pytest.mark.parametrize("comes", [browser, program])
def test_people_and_programs_see_their_printers_and_no_others(cast: Cast, comes: Any) -> None:
    seen: dict[str, set[str]] = {}
    known_by = {user.username: comes(user) for user in (cast.sam, cast.ada, cast.mallory)}

    async def story() -> None:
        for name, known in known_by.items():
            async with viewing(known) as viewer:
                seen[name] = set(viewer.printers)

    play(story)
    anvil, cellar = str(cast.anvil.pk), str(cast.cellar.pk)
    assert seen == {"sam": {anvil}, "ada": {anvil, cellar}, "mallory": set()}


# -- what they are told
def test_a_viewer_knows_what_the_state_says(cast: Cast) -> None:
    attempt(job(cast.sam), cast.anvil)
    state = ok(api(cast.sam).get(f"/api/printers/{cast.anvil.pk}/state/"))
    known, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            await viewer.until(lambda frame: frame["type"] == "overlay")
            age = state.pop("age")
            # what is None is not said
            assert patched({}, viewer.printers[anvil]) == patched({}, state)
            assert viewer.ages[anvil] is not None
            assert viewer.ages[anvil] == pytest.approx(age, abs=PATIENCE)

    play(story)


def test_of_a_change_only_what_changed_is_told(cast: Cast) -> None:
    known, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            await speaks(cast.anvil, **heat(210.0))
            await viewer.knows(cast.anvil, temperatures={"tool0": {"actual": 20.0, "target": 210.0}})
            n = await speaks(cast.anvil, message="Heating.", **heat(215.0))
            frame = await viewer.knows(cast.anvil, message="Heating.")
            assert set(frame) == {"type", "seq", "printers"}
            assert frame["printers"] == {
                anvil: {"message": "Heating.", "temperatures": {"tool0": {"target": 215.0}}, "v": [FENCE, n, 0]}
            }

    play(story)


def test_a_number_that_nobody_sees_move_is_not_told(cast: Cast) -> None:
    known = program(cast.sam)

    async def story() -> None:
        async with viewing(known) as viewer:
            await speaks(cast.anvil, temperatures={"tool0": Temperature(actual=20.01, target=0.0)})
            await viewer.knows(cast.anvil, temperatures={"tool0": {"actual": 20.0, "target": 0.0}})
            await speaks(cast.anvil, temperatures={"tool0": Temperature(actual=20.02, target=0.0)})
            await speaks(cast.anvil, message="Hello.", temperatures={"tool0": Temperature(actual=20.03, target=0.0)})
            frame = await viewer.until(lambda frame: frame["type"] == "changes")
            assert set(frame["printers"][str(cast.anvil.pk)]) == {"message", "v"}

    play(story)


def test_numbers_are_told_at_most_twice_a_second_and_a_change_of_state_at_once(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "NUMBERS_EVERY", 3600.0)
    known, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            await speaks(cast.anvil, **heat(210.0))  # the first numbers of this hour
            await viewer.knows(cast.anvil, temperatures={"tool0": {"actual": 20.0, "target": 210.0}})
            await speaks(cast.anvil, **heat(211.0))
            await speaks(cast.anvil, status=PrinterStatus.BUSY, **heat(212.0))
            frame = await viewer.until(lambda frame: frame["type"] == "changes")
            assert frame["printers"][anvil]["status"] == "busy"
            assert frame["printers"][anvil]["temperatures"] == {"tool0": {"target": 212.0}}

    play(story)


def test_who_sees_the_same_printers_gets_the_very_same_frame(cast: Cast) -> None:
    comes = [program(cast.ada) for _ in range(2)]

    async def story() -> None:
        async with viewing(comes[0]) as one, viewing(comes[1]) as other:
            await speaks(cast.anvil, message="Hello.")
            frames = [await viewer.knows(cast.anvil, message="Hello.") for viewer in (one, other)]
            assert frames[0] == frames[1]

    play(story)


def test_nobody_is_told_of_a_printer_that_they_may_not_see(cast: Cast) -> None:
    known, anvil, cellar = program(cast.sam), str(cast.anvil.pk), str(cast.cellar.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            await viewer.socket.send_input(
                {"type": "websocket.receive", "text": json.dumps({"type": "resync", "printers": [cellar, anvil]})}
            )
            frame = await viewer.until(lambda frame: frame["type"] == "snapshot")
            assert set(frame["printers"]) == {anvil}
            await speaks(cast.cellar, message="A secret.")
            await speaks(cast.anvil, message="Hello.")
            frame = await viewer.knows(cast.anvil, message="Hello.")
            assert set(frame["printers"]) == {anvil}

    play(story)


def test_whose_print_it_is_is_told_to_the_owner_and_operators(cast: Cast) -> None:
    live_print = attempt(job(cast.sam, name="gift.stl"), cast.anvil)
    shown: dict[str, Any] = {}
    comes = {user.username: program(user) for user in (cast.sam, cast.olivia, cast.tina)}

    async def story() -> None:
        for name, known in comes.items():
            async with viewing(known) as viewer:
                await speaks(cast.anvil, message=f"For {name}.")
                await viewer.knows(cast.anvil, message=f"For {name}.")
                shown[name] = viewer.printers[str(cast.anvil.pk)]["job"]

    play(story)
    assert shown["sam"]["file"] == shown["olivia"]["file"] == "gift.stl"
    assert shown["sam"]["print"] == str(live_print.pk)
    assert {"file", "person", "id", "print"}.isdisjoint(shown["tina"])


def test_an_operator_who_becomes_a_viewer_is_no_longer_told_whose_it_is(cast: Cast) -> None:
    attempt(job(cast.sam, name="gift.stl"), cast.anvil)
    known, anvil = program(cast.olivia), str(cast.anvil.pk)

    def demoted() -> None:
        Grant.objects.filter(user=cast.olivia, printer=cast.anvil).update(role=Role.VIEW)
        publish(AccessTouched())

    async def story() -> None:
        async with viewing(known) as viewer:
            await viewer.until(lambda _: viewer.printers[anvil]["job"].get("file") == "gift.stl")
            await meanwhile(demoted)
            frame = await viewer.until(lambda _: "file" not in viewer.printers[anvil]["job"])
            assert (frame["type"], frame["printers"]) == ("overlay", {anvil: None})

    play(story)


def test_what_the_database_says_is_told_when_it_changes(cast: Cast) -> None:
    known, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            versions = [viewer.bases[anvil]["v"]]
            await meanwhile(clear_bed, cast.anvil, 1, by=cast.olivia)
            await viewer.knows(cast.anvil, bed_clear=True)
            versions.append(viewer.bases[anvil]["v"])
            await meanwhile(change_printer, cast.anvil, maintenance="Nozzle is worn")
            await viewer.knows(cast.anvil, maintenance="Nozzle is worn")
            versions.append(viewer.bases[anvil]["v"])
            assert [said[2] for said in versions] == [0, 1, 2]
            assert len({tuple(said[:2]) for said in versions}) == 1

    play(story)


def test_a_printer_that_falls_silent_becomes_stale(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    later = [0.0]
    monkeypatch.setattr(hub, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later[0]))
    known, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            assert viewer.printers[anvil]["stale"] is False
            later[0] += 16  # less than what makes it look again, or rest
            await viewer.knows(cast.anvil, stale=True)
            n = await speaks(cast.anvil)
            await viewer.knows(cast.anvil, stale=False)
            later[0] += 16
            await viewer.knows(cast.anvil, stale=True)
            # it says nothing new, and lives
            await says(heard={anvil: [FENCE, n, 0.1]})
            await viewer.knows(cast.anvil, stale=False)

    play(story)


def test_jobs_are_told_to_their_owner_and_to_staff(cast: Cast) -> None:
    mine, hers = job(cast.sam), job(cast.tina)
    wanted = {cast.sam: {mine}, cast.ada: {mine, hers}, cast.olivia: set()}
    last = {user: job(user) for user in wanted}
    comes = {user: program(user) for user in wanted}

    async def story(user: User) -> None:
        async with viewing(comes[user]) as viewer:
            for row in (hers, mine, last[user]):
                await meanwhile(jobs.announce, row)
            await viewer.until(lambda _: str(last[user].pk) in dict(viewer.jobs))
            assert set(dict(viewer.jobs)) == {str(row.pk) for row in (*wanted[user], last[user])}

    for user in wanted:
        async_to_sync(story)(user)


def test_a_job_that_changed_is_told(cast: Cast) -> None:
    mine, known = job(cast.sam), program(cast.sam)

    async def story() -> None:
        async with viewing(known) as viewer:
            await meanwhile(jobs.cancel, mine, by=cast.sam)
            frame = await viewer.until(lambda frame: frame["type"] == "jobs")
            assert frame["jobs"] == {str(mine.pk): "cancelled"}

    play(story)


# -- frames that were lost
def test_a_state_that_was_lost_on_its_way_is_read_again(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge stored it and Redis did not deliver it: the bridge's versions tell."""
    known, anvil = program(cast.sam), str(cast.anvil.pk)
    state = PrinterState(status=PrinterStatus.BUSY, message="Unheard.")

    async def story() -> None:
        async with viewing(known) as viewer:
            with monkeypatch.context() as deaf:
                deaf.setattr(telemetry, "LIVE", "nobody listens here")
                await sync_to_async(telemetry.put)(cast.anvil.pk, FENCE, 5, state)
            await says(heard={anvil: [FENCE, 5, 0.0]})
            await viewer.knows(cast.anvil, message="Unheard.", status="busy")

    play(story)


def test_an_older_state_that_comes_late_is_not_told(cast: Cast) -> None:
    known = program(cast.sam)

    async def story() -> None:
        async with viewing(known) as viewer:
            await speaks(cast.anvil, FENCE, 50, message="New.")
            await viewer.knows(cast.anvil, message="New.")
            await speaks(cast.anvil, FENCE, 49, message="Old.")
            await speaks(cast.anvil, FENCE - 1, 70, message="Of a bridge that lost its lease.")
            await speaks(cast.anvil, FENCE, 51, message="Newer.")
            frame = await viewer.until(lambda frame: frame["type"] == "changes")
            assert frame["printers"][str(cast.anvil.pk)]["message"] == "Newer."

    play(story)


def test_versions_tell_a_viewer_what_it_missed_and_it_gets_that_whole(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "VERSIONS_EVERY", 0.0)
    known, anvil, cellar = program(cast.ada), str(cast.anvil.pk), str(cast.cellar.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            await speaks(cast.anvil, message="Missed.")
            unheard = await viewer.socket.receive_json_from(timeout=PATIENCE)
            while "message" not in unheard["printers"].get(anvil, {}):
                await viewer.ack(unheard["seq"])
                unheard = await viewer.socket.receive_json_from(timeout=PATIENCE)
            await viewer.ack(unheard["seq"])
            versions = await viewer.until(lambda frame: frame["type"] == "versions" and cellar in frame["printers"])
            assert viewer.hear(versions) == [anvil]
            resync = json.dumps({"type": "resync", "printers": [anvil]})
            await viewer.socket.send_input({"type": "websocket.receive", "text": resync})
            frame = await viewer.until(lambda frame: frame["type"] == "snapshot")
            assert (set(frame["printers"]), frame["all"]) == ({anvil}, False)
            assert viewer.printers[anvil]["message"] == "Missed."
            assert viewer.hear(versions) == []

    play(story)


def test_when_redis_was_away_everything_is_read_anew(cast: Cast) -> None:
    known = program(cast.sam)

    async def story() -> None:
        async with viewing(known) as viewer:
            await sync_to_async(telemetry.client().client_kill_filter)(_type="pubsub")
            await sync_to_async(telemetry.put)(
                cast.anvil.pk, FENCE, 7, PrinterState(status=PrinterStatus.BUSY, message="Meanwhile.")
            )
            await viewer.knows(cast.anvil, message="Meanwhile.")
            await speaks(cast.anvil, FENCE, 8, message="Afterwards.")
            await viewer.knows(cast.anvil, message="Afterwards.")

    play(story)


# -- those who do not read
async def _left_unread(viewer: Viewer, cast: Cast) -> int:
    """As many frames as may be open, and one more; the last one's seq."""
    last = 0
    for n in range(MOST_OPEN + 1):
        await speaks(cast.anvil, message=f"Word {n}.")
        last = (await viewer.next(ack=False))["seq"]
    return last


def test_who_does_not_answer_gets_only_the_newest_later(cast: Cast) -> None:
    lazy, brisk, anvil = program(cast.sam), program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(lazy) as viewer, viewing(brisk) as other:
            last = await _left_unread(viewer, cast)
            for n in range(50):
                await speaks(cast.anvil, message=f"Unheard {n}.")
            mine = await sync_to_async(job)(cast.sam)
            await meanwhile(jobs.announce, mine)
            await other.until(
                lambda _: other.printers[anvil]["message"] == "Unheard 49." and str(mine.pk) in dict(other.jobs)
            )
            assert viewer.socket.output_queue.empty()
            await viewer.ack(last)
            frame = await viewer.next()
            assert frame["type"] == "snapshot"
            assert frame["printers"][anvil]["message"] == "Unheard 49."
            await viewer.until(lambda _: str(mine.pk) in dict(viewer.jobs))

    play(story)


def test_who_does_not_answer_for_half_a_minute_is_closed(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    later = [0.0]
    monkeypatch.setattr(hub, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later[0]))
    lazy, brisk = program(cast.sam), program(cast.sam)

    async def story() -> None:
        async with viewing(lazy) as viewer, viewing(brisk) as other:
            await _left_unread(viewer, cast)
            await other.knows(cast.anvil, message=f"Word {MOST_OPEN}.")
            # so that only the lazy one has left something unread
            async with asyncio.timeout(PATIENCE):
                while sum(bool(known.open) for known in hub.hub().viewers) > 1:
                    await asyncio.sleep(0.01)
            later[0] += CLOSE_AFTER + 1
            assert await viewer.closed() == 4408
            await speaks(cast.anvil, message="Still here.")
            await other.knows(cast.anvil, message="Still here.")

    play(story)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "[" * 100_000,
        '{"type": "ack"}',
        '{"type": "ack", "seq": "1"}',
        '{"type": "ack", "seq": true}',
        '{"type": "ack", "seq": -1}',
        '{"type": "ack", "seq": 1e999}',
        '{"type": "resync"}',
        '{"type": "resync", "printers": {}}',
        '{"type": "resync", "printers": [7, null, "", "no id", {}]}',
        '{"type": "command", "command": "start"}',
    ],
)
def test_nothing_else_may_be_said_here(cast: Cast, said: str) -> None:
    known = program(cast.ada)

    async def story() -> None:
        async with viewing(known) as viewer:
            await viewer.socket.send_input({"type": "websocket.receive", "text": said})
            await viewer.socket.send_input({"type": "websocket.receive", "bytes": said.encode()})
            await speaks(cast.anvil, message="Still here.")
            await viewer.knows(cast.anvil, message="Still here.")

    play(story)


# -- when rights end
def taken_away(cast: Cast, user: User) -> None:
    """As staff do it."""
    row = Grant.objects.get(user=user, printer=cast.anvil)
    assert as_(cast.ada).post(f"/admin/printers/grant/{row.pk}/delete/", {"post": "yes"}).status_code == 302


def test_a_printer_that_was_taken_away_is_gone_at_once(cast: Cast) -> None:
    known, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            await meanwhile(taken_away, cast, cast.sam)
            frame = await viewer.until(lambda frame: "gone" in frame)
            assert (frame["gone"], viewer.printers) == ([anvil], {})
            await speaks(cast.anvil, message="A secret.")
            await meanwhile(grant, cast.sam, cast.anvil, Role.VIEW)

    play(story)


def test_what_a_taken_away_printer_says_is_not_told(cast: Cast) -> None:
    """Cellar is Olivia's too, so that something is told afterwards."""
    grant(cast.olivia, cast.cellar, Role.VIEW)
    known, cellar = program(cast.olivia), str(cast.cellar.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            await meanwhile(taken_away, cast, cast.olivia)
            await viewer.until(lambda frame: "gone" in frame)
            await speaks(cast.anvil, message="A secret.")
            await speaks(cast.cellar, message="Hello.")
            frame = await viewer.knows(cast.cellar, message="Hello.")
            assert set(frame["printers"]) == {cellar}

    play(story)


def test_a_printer_that_was_given_appears_whole(cast: Cast) -> None:
    known, cellar = program(cast.sam), str(cast.cellar.pk)

    def given() -> None:
        form = {"user": str(cast.sam.pk), "printer": cellar, "role": Role.VIEW.value}
        assert as_(cast.ada).post("/admin/printers/grant/add/", form).status_code == 302

    async def story() -> None:
        async with viewing(known) as viewer:
            whole = set(viewer.printers[str(cast.anvil.pk)])
            await meanwhile(given)
            await viewer.until(lambda _: cellar in viewer.printers)
            assert set(viewer.printers[cellar]) == whole

    play(story)


def switched_off(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def other_password(user: User) -> None:
    user.set_password("another horse")
    user.save()


def logged_out(user: User) -> None:
    from django.contrib.sessions.models import Session

    Session.objects.all().delete()


@pytest.mark.parametrize(
    ("comes", "ends"),
    [
        (browser, switched_off),
        (browser, other_password),
        (browser, logged_out),
        (program, switched_off),
        (program, other_password),
    ],
)
def test_the_socket_ends_with_the_right_to_come_in(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, comes: Any, ends: Any
) -> None:
    monkeypatch.setattr(hub, "RECHECK", 0.0)
    known = comes(cast.sam)

    async def story() -> None:
        async with viewing(known) as viewer:
            await speaks(cast.anvil, message="Still here.")
            await viewer.knows(cast.anvil, message="Still here.")
            await meanwhile(ends, cast.sam)
            assert await viewer.closed() == 4401

    play(story)


def test_a_programs_socket_ends_after_an_hour(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "RECHECK", 0.0)
    later, known = [0.0], program(cast.sam)
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later[0]))

    async def story() -> None:
        async with viewing(known) as viewer:
            later[0] = live.TICKET_LIFE - 60
            await speaks(cast.anvil, message="Still here.")
            await viewer.knows(cast.anvil, message="Still here.")
            later[0] = live.TICKET_LIFE + 1
            assert await viewer.closed() == 4401

    play(story)


def test_a_printer_that_was_removed_is_gone(cast: Cast) -> None:
    known, cellar = program(cast.ada), str(cast.cellar.pk)

    async def story() -> None:
        async with viewing(known) as viewer:
            await meanwhile(remove_printer, cast.cellar)
            frame = await viewer.until(lambda frame: "gone" in frame)
            assert frame["gone"] == [cellar]
            await speaks(cast.anvil, message="Still here.")
            await viewer.knows(cast.anvil, message="Still here.")

    play(story)


def test_somebody_who_leaves_the_staff_is_no_longer_told_of_others(cast: Cast) -> None:
    known, hers = program(cast.ada), job(cast.tina)

    def demoted() -> None:
        User.objects.filter(pk=cast.ada.pk).update(is_staff=False)
        grant(cast.ada, cast.anvil, Role.VIEW)
        publish(AccessTouched())

    async def story() -> None:
        async with viewing(known) as viewer:
            await meanwhile(demoted)
            frame = await viewer.until(lambda frame: "gone" in frame)
            assert frame["gone"] == [str(cast.cellar.pk)]
            await meanwhile(jobs.announce, hers)
            await meanwhile(jobs.announce, await sync_to_async(job)(cast.ada))
            frame = await viewer.until(lambda frame: frame["type"] == "jobs")
            assert str(hers.pk) not in frame["jobs"]

    play(story)
