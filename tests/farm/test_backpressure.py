"""A stream is sent only as fast as it is read: what the flow tests show of a whole farm, here step by step."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from twisted.web.http import Request
from twisted.web.test.requesthelper import DummyChannel

from farm import backpressure
from farm.backpressure import with_backpressure

START = {"type": "http.response.start", "status": 200, "headers": []}
PART = {"type": "http.response.body", "body": b"part", "more_body": True}
LAST = {"type": "http.response.body"}


class Connection:
    """Daphne's side of one request. With ``full``, every part fills the buffer underneath."""

    def __init__(self, *, full: bool = False) -> None:
        channel: Any = DummyChannel()
        self.request: Any = Request(channel)
        channel.forceAbortClient = lambda: setattr(self, "aborted", True)
        self.full = full
        self.aborted = False
        self.sent: list[dict[str, Any]] = []
        self.something_sent = asyncio.Event()

    async def handle_reply(self, request: Request, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.something_sent.set()
        if self.full and request.producer is not None:
            request.producer.pauseProducing()

    async def has_sent(self, number: int) -> None:
        while len(self.sent) < number:
            self.something_sent.clear()
            await asyncio.wait_for(self.something_sent.wait(), 60)

    def answer(self, *messages: dict[str, Any]) -> asyncio.Task[None]:
        """An application that sends these, as fast as it may."""

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            for message in messages:
                await send(message)

        send = functools.partial(self.handle_reply, self.request)
        return asyncio.create_task(with_backpressure(app)({}, None, send))


def test_a_stream_waits_until_what_was_sent_is_read() -> None:
    async def story() -> None:
        connection = Connection(full=True)
        task = connection.answer(START, PART, PART, LAST)
        for number in (2, 3):
            await connection.has_sent(number)
            for _ in range(50):  # it could go on now, if anything let it
                await asyncio.sleep(0)
            assert connection.sent == [START, PART, PART][:number]
            connection.request.producer.resumeProducing()
        await task
        assert connection.sent == [START, PART, PART, LAST]
        assert connection.request.producer is None

    asyncio.run(story())


def test_who_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "STUCK_S", 0.01)

    async def story() -> None:
        connection = Connection(full=True)
        await connection.answer(START, PART)
        assert connection.aborted
        assert connection.request.producer is None

    asyncio.run(story())


def test_an_application_that_is_cancelled_leaves_nothing_behind() -> None:
    async def story() -> None:
        connection = Connection(full=True)
        task = connection.answer(START, PART, PART)
        await connection.has_sent(2)
        assert connection.request.producer is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.request.producer is None

    asyncio.run(story())


def test_an_answer_in_one_part_is_sent_as_ever() -> None:
    async def story() -> None:
        connection = Connection(full=True)
        await connection.answer(START, LAST)
        assert connection.sent == [START, LAST]

    asyncio.run(story())


def test_who_has_gone_already_is_no_reason_to_wait_or_fail() -> None:
    async def story() -> None:
        connection = Connection(full=True)
        connection.request.channel = None
        await connection.answer(START, PART, LAST)
        assert connection.sent == [START, PART, LAST]

    asyncio.run(story())


def test_under_another_server_nothing_changes() -> None:
    given: list[Any] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        given.append(send)

    async def send(message: dict[str, Any]) -> None: ...

    asyncio.run(with_backpressure(app)({}, None, send))
    assert given == [send]
