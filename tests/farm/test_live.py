"""The live socket: who is let in, what they are told, and when it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.test import Client
from pytest_django import Settings
from rest_framework_simplejwt.tokens import AccessToken

from farm import live
from farm.asgi import application
from farm.events import PrinterSpoke, printer_group
from farm.live import LiveConsumer
from farm.models import User
from jobs import services as jobs
from printers import telemetry
from printers.drivers.base import PrinterState, PrinterStatus, Temperature
from printers.models import Grant, Printer, Role
from printers.services import change_printer, clear_bed
from tests.api import api, ok
from tests.cast import Cast, as_, attempt, grant, job
from tests.work import committed

pytestmark = pytest.mark.django_db

#: s until something that must happen is missed
PATIENCE = 30
Headers = list[tuple[bytes, bytes]]


@pytest.fixture(autouse=True)
def _briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)


class Viewer:
    """One open socket. Reads, and answers as it is asked to, unless it is told to be lazy."""

    def __init__(self, socket: WebsocketCommunicator) -> None:
        self.socket = socket
        self.printers: dict[str, dict[str, Any]] = {}

    async def hear(self, ack: bool = True) -> dict[str, Any]:
        message: dict[str, Any] = await self.socket.receive_json_from(timeout=PATIENCE)
        for printer, fields in message.get("printers", {}).items():
            self.printers.setdefault(printer, {}).update(fields)
        for printer in message.get("gone", ()):
            del self.printers[printer]
        if ack and "seq" in message:
            await self.ack(message["seq"])
        return message

    async def ack(self, seq: Any) -> None:
        await self.socket.send_to(text_data=json.dumps({"ack": seq}))

    async def until(self, seen: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first message that is so; a sign of life between is not."""
        async with asyncio.timeout(PATIENCE):
            while not seen(message := await self.hear()):
                pass
        return message

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


def browser(user: User | None, origin: str = "http://localhost:8000", host: str = "localhost:8000") -> Headers:
    headers = [(b"host", host.encode()), (b"origin", origin.encode())]
    return [*headers, (b"cookie", cookies(user))] if user else headers


def program(user: User) -> Headers:
    return [(b"host", b"localhost:8000"), (b"authorization", f"Bearer {AccessToken.for_user(user)}".encode())]


@asynccontextmanager
async def opened(headers: Headers) -> AsyncIterator[WebsocketCommunicator]:
    socket = WebsocketCommunicator(application, "/ws/live/", headers=headers)
    try:
        yield socket
    finally:
        await socket.disconnect(timeout=PATIENCE)


@asynccontextmanager
async def viewing(headers: Headers) -> AsyncIterator[Viewer]:
    """An open socket and its first snapshot."""
    async with opened(headers) as socket:
        assert (await socket.connect(timeout=PATIENCE))[0]
        viewer = Viewer(socket)
        assert (await viewer.hear())["type"] == "snapshot"
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


async def speaks(printer: Printer, **fields: Any) -> None:
    """As the bridge publishes it."""
    state = PrinterState(**{"status": PrinterStatus.IDLE, **fields})
    event = PrinterSpoke(printer_id=str(printer.pk), state=telemetry.to_json(state))
    layer = get_channel_layer()
    assert layer is not None
    await layer.group_send(printer_group(printer.pk), event.message())


def heat(target: float) -> dict[str, Any]:
    return {"temperatures": {"tool0": Temperature(actual=20.0, target=target)}}


# -- who is let in
SHUT = "no handshake"


def refusal(headers: Headers) -> int | str:
    """The code with which the socket was closed, or that it was never opened (HTTP 403)."""
    found: list[int | str] = []

    async def story() -> None:
        async with opened(headers) as socket:
            accepted, _ = await socket.connect(timeout=PATIENCE)
            found.append(await Viewer(socket).closed() if accepted else SHUT)

    play(story)
    return found[0]


def test_who_did_not_log_in_is_told_so_and_nothing_else(cast: Cast) -> None:
    assert refusal(browser(None)) == 4401
    assert refusal([(b"host", b"localhost:8000")]) == 4401


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
    headers = browser(cast.sam, "https://farm.example", "127.0.0.1:8000")

    async def story() -> None:
        async with viewing(headers):
            pass

    play(story)


def test_a_cookie_without_an_origin_is_not_looked_at(cast: Cast) -> None:
    assert refusal([(b"host", b"localhost:8000"), (b"cookie", cookies(cast.ada))]) == 4401


@pytest.mark.parametrize("origin", [b"http://localhost:8000", b"http://elsewhere.example"])
def test_a_program_may_send_an_origin_and_its_cookies_are_not_looked_at(cast: Cast, origin: bytes) -> None:
    headers = [*program(cast.sam), (b"origin", origin), (b"cookie", cookies(cast.ada))]

    async def story() -> None:
        async with viewing(headers):
            pass

    play(story)
    refused = [(b"host", b"localhost:8000"), (b"authorization", b"Bearer x"), *headers[2:]]
    assert refusal(refused) == 4401


def test_a_bad_token_is_told_so(cast: Cast) -> None:
    expired = AccessToken.for_user(cast.sam)
    expired.set_exp(lifetime=-timedelta(minutes=5))
    for token in ("garbage", str(expired), ""):
        assert refusal([(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())]) == 4401
    assert refusal([(b"host", b"localhost"), (b"authorization", b"Bearer \xff")]) == 4401


@pytest.mark.parametrize("comes", [browser, program])
def test_people_and_programs_see_their_printers_and_no_others(cast: Cast, comes: Any) -> None:
    seen: dict[str, set[str]] = {}
    headers = {user.username: comes(user) for user in (cast.sam, cast.ada, cast.mallory)}

    async def story() -> None:
        for name, known in headers.items():
            async with viewing(known) as viewer:
                seen[name] = set(viewer.printers)

    play(story)
    anvil, cellar = str(cast.anvil.pk), str(cast.cellar.pk)
    assert seen == {"sam": {anvil}, "ada": {anvil, cellar}, "mallory": set()}


# -- what they are told
def test_the_snapshot_says_what_the_state_says(cast: Cast) -> None:
    attempt(job(cast.sam), cast.anvil)
    state = ok(api(cast.sam).get(f"/api/printers/{cast.anvil.pk}/state/"))
    headers = program(cast.sam)

    async def story() -> None:
        async with viewing(headers) as viewer:
            told = viewer.printers[str(cast.anvil.pk)]
            assert {**told, "age": None} == {**state, "age": None}

    play(story)


def test_of_a_change_only_what_changed_is_told(cast: Cast) -> None:
    headers = program(cast.sam)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await speaks(cast.anvil, status=PrinterStatus.BUSY, message="Homing.", **heat(210.0))
            message = await viewer.until(lambda m: m["type"] == "changes" and "status" in m["printers"].popitem()[1])
            assert set(message) == {"type", "seq", "printers"}
        await speaks(cast.cellar, status=PrinterStatus.BUSY)

    play(story)


def test_fields_that_stay_are_not_told_again(cast: Cast) -> None:
    headers, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await speaks(cast.anvil, **heat(210.0))
            await viewer.until(lambda m: "temperatures" in m["printers"][anvil])
            await speaks(cast.anvil, message="Heating.", **heat(210.0))
            message = await viewer.until(lambda m: "message" in m["printers"][anvil])
            assert set(message["printers"][anvil]) <= {"message", "age"}

    play(story)


def test_nobody_is_told_of_a_printer_that_they_may_not_see(cast: Cast) -> None:
    headers, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await speaks(cast.cellar, message="A secret.")
            await speaks(cast.anvil, message="Hello.")
            message = await viewer.until(lambda m: "message" in m["printers"].get(anvil, {}))
            assert set(message["printers"]) == {anvil}

    play(story)


def test_whose_print_it_is_is_told_to_the_owner_and_operators(cast: Cast) -> None:
    live_print = attempt(job(cast.sam, name="gift.stl"), cast.anvil)
    shown: dict[str, Any] = {}
    headers = {user.username: program(user) for user in (cast.sam, cast.olivia, cast.tina)}

    async def story() -> None:
        for name, known in headers.items():
            async with viewing(known) as viewer:
                shown[name] = viewer.printers[str(cast.anvil.pk)]["job"]

    play(story)
    assert shown["sam"]["file"] == shown["olivia"]["file"] == "gift.stl"
    assert shown["sam"]["print"] == str(live_print.pk)
    assert set(shown["tina"]) == {"progress", "elapsed_s", "left_s", "status"}


def test_what_the_database_says_is_told_when_it_changes(cast: Cast) -> None:
    headers, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await meanwhile(clear_bed, cast.anvil, 1, by=cast.olivia)
            await viewer.until(lambda m: m["printers"][anvil].get("bed_clear") is True)
            await meanwhile(change_printer, cast.anvil, maintenance="Nozzle is worn")
            await viewer.until(lambda m: m["printers"][anvil].get("maintenance") == "Nozzle is worn")

    play(story)


def test_a_printer_that_falls_silent_becomes_stale(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    later = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later[0])
    monkeypatch.setattr(live, "time", clock)
    headers, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(headers) as viewer:
            assert viewer.printers[anvil]["stale"] is False
            later[0] += 16  # less than what makes it look again
            await viewer.until(lambda m: m["printers"][anvil].get("stale") is True)
            await speaks(cast.anvil)
            await viewer.until(lambda m: m["printers"][anvil].get("stale") is False)
            later[0] += 16
            await viewer.until(lambda m: m["printers"][anvil].get("stale") is True)

    play(story)


def test_jobs_are_told_to_their_owner_and_to_staff(cast: Cast) -> None:
    mine, hers = job(cast.sam), job(cast.tina)
    wanted = {cast.sam: {mine}, cast.ada: {mine, hers}, cast.olivia: set()}
    last = {user: job(user) for user in wanted}
    headers = {user: program(user) for user in wanted}

    async def story(user: User) -> None:
        async with viewing(headers[user]) as viewer:
            told: set[str] = set()

            def all_told(message: dict[str, Any]) -> bool:
                told.update([message["id"]] if message["type"] == "job" else [])
                return {str(row.pk) for row in (*wanted[user], last[user])} <= told

            for row in (hers, mine, last[user]):
                await meanwhile(jobs.announce, row)
            await viewer.until(all_told)
            assert len(told) == len(wanted[user]) + 1

    for user in wanted:
        async_to_sync(story)(user)


def test_a_job_that_changed_is_told(cast: Cast) -> None:
    mine, headers = job(cast.sam), program(cast.sam)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await meanwhile(jobs.cancel, mine, by=cast.sam)
            message = await viewer.until(lambda m: m["type"] == "job")
            assert message == {"type": "job", "id": str(mine.pk), "status": "cancelled"}

    play(story)


# -- those who do not read
@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Awaitable[None]]:
    """Wait until the farm has thought of what to tell so many times."""
    done, real = [0], LiveConsumer._flush

    async def counted(self: LiveConsumer) -> None:
        await real(self)
        done[0] += 1

    async def wait(count: int) -> None:
        end = done[0] + count
        async with asyncio.timeout(PATIENCE):
            while done[0] < end:
                await asyncio.sleep(0.005)

    monkeypatch.setattr(LiveConsumer, "_flush", counted)
    return wait


def test_who_does_not_answer_gets_only_the_newest_later(cast: Cast, rounds: Any) -> None:
    headers, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(headers) as viewer:
            last = 1
            for n in range(live.WINDOW):
                await speaks(cast.anvil, message=f"Word {n}.")
                last = (await viewer.hear(ack=False))["seq"]
            for n in range(50):
                await speaks(cast.anvil, message=f"Unheard {n}.")
            await meanwhile(jobs.announce, await sync_to_async(job)(cast.sam))
            await rounds(5)
            assert viewer.socket.output_queue.empty()
            await viewer.ack(last)
            message = await viewer.hear()
            assert message["printers"][anvil]["message"] == "Unheard 49."
            assert message["seq"] == last + 1
            await viewer.until(lambda m: m["type"] == "job")

    play(story)


def test_who_does_not_answer_for_a_minute_is_closed(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLOSE_AFTER", 0.0)
    headers = program(cast.sam)

    async def story() -> None:
        async with viewing(headers) as viewer:
            for n in range(live.WINDOW):
                await speaks(cast.anvil, message=f"Word {n}.")
                await viewer.hear(ack=False)
            assert await viewer.closed() == 4408

    play(story)


@pytest.mark.parametrize(
    "said", ["", "{", "[]", "7", "null", '{"ack": "1"}', '{"ack": -1}', '{"ack": 99}', '{"command": "start"}']
)
def test_nothing_else_may_be_said_here(cast: Cast, said: str) -> None:
    headers, anvil = program(cast.ada), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await viewer.socket.send_input({"type": "websocket.receive", "text": said})
            await viewer.socket.send_input({"type": "websocket.receive", "bytes": said.encode()})
            await speaks(cast.anvil, message="Still here.")
            await viewer.until(lambda m: m["printers"].get(anvil, {}).get("message") == "Still here.")

    play(story)


# -- when rights end
def taken_away(cast: Cast, user: User) -> None:
    """As staff do it."""
    row = Grant.objects.get(user=user, printer=cast.anvil)
    assert as_(cast.ada).post(f"/admin/printers/grant/{row.pk}/delete/", {"post": "yes"}).status_code == 302


def test_a_printer_that_was_taken_away_is_gone_at_once(cast: Cast) -> None:
    headers, anvil = program(cast.sam), str(cast.anvil.pk)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await meanwhile(taken_away, cast, cast.sam)
            message = await viewer.until(lambda m: "gone" in m)
            assert (message["gone"], viewer.printers) == ([anvil], {})
            await speaks(cast.anvil, message="A secret.")
            await meanwhile(grant, cast.sam, cast.anvil, Role.VIEW)

    play(story)


def test_what_a_taken_away_printer_says_is_not_told(cast: Cast) -> None:
    """Cellar is Olivia's too, so that something is told afterwards."""
    grant(cast.olivia, cast.cellar, Role.VIEW)
    headers, cellar = program(cast.olivia), str(cast.cellar.pk)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await meanwhile(taken_away, cast, cast.olivia)
            await viewer.until(lambda m: "gone" in m)
            await speaks(cast.anvil, message="A secret.")
            await speaks(cast.cellar, message="Hello.")
            message = await viewer.until(lambda m: "message" in m["printers"].get(cellar, {}))
            assert set(message["printers"]) == {cellar}

    play(story)


def test_a_printer_that_was_given_appears_whole(cast: Cast) -> None:
    headers, cellar = program(cast.sam), str(cast.cellar.pk)

    def given() -> None:
        form = {"user": str(cast.sam.pk), "printer": cellar, "role": Role.VIEW.value}
        assert as_(cast.ada).post("/admin/printers/grant/add/", form).status_code == 302

    async def story() -> None:
        async with viewing(headers) as viewer:
            whole = set(viewer.printers[str(cast.anvil.pk)])
            await meanwhile(given)
            message = await viewer.until(lambda m: cellar in m["printers"])
            assert set(message["printers"][cellar]) == whole

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
    monkeypatch.setattr(live, "RECHECK", 0.0)
    headers = comes(cast.sam)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await speaks(cast.anvil, message="Still here.")
            await viewer.until(lambda m: "message" in m["printers"].get(str(cast.anvil.pk), {}))
            await meanwhile(ends, cast.sam)
            assert await viewer.closed() == 4401

    play(story)


def test_the_socket_ends_with_its_token(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    from rest_framework_simplejwt import tokens

    monkeypatch.setattr(live, "RECHECK", 0.0)
    now, headers = tokens.aware_utcnow, program(cast.sam)

    async def story() -> None:
        async with viewing(headers) as viewer:
            with monkeypatch.context() as later:
                later.setattr(tokens, "aware_utcnow", lambda: now() + timedelta(hours=1))
                assert await viewer.closed() == 4401

    play(story)


def test_somebody_who_leaves_the_staff_is_no_longer_told_of_others(cast: Cast) -> None:
    headers, hers = program(cast.ada), job(cast.tina)

    def demoted() -> None:
        from farm.events import EVERYONE_GROUP, AccessTouched, publish

        User.objects.filter(pk=cast.ada.pk).update(is_staff=False)
        grant(cast.ada, cast.anvil, Role.VIEW)
        publish(AccessTouched(), EVERYONE_GROUP)

    async def story() -> None:
        async with viewing(headers) as viewer:
            await meanwhile(demoted)
            message = await viewer.until(lambda m: "gone" in m)
            assert message["gone"] == [str(cast.cellar.pk)]
            await meanwhile(jobs.announce, hers)
            await meanwhile(jobs.announce, await sync_to_async(job)(cast.ada))
            message = await viewer.until(lambda m: m["type"] == "job")
            assert message["id"] != str(hers.pk)

    play(story)
