from __future__ import annotations

from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as RedisAway

from printers import answers, telemetry
from printers.answers import CUT, KEPT, MOST, WIDEST, Recording


def test_answers_are_kept_by_command_in_their_order() -> None:
    one, other, silent = uuid4(), uuid4(), uuid4()
    for said in ("T:21.3 /0.0", "ok"):
        Recording(one)(said)
    Recording(other)("ok")
    assert answers.read([silent, other, one]) == {silent: [], other: ["ok"], one: ["T:21.3 /0.0", "ok"]}
    assert answers.read([]) == {}


def test_a_machine_that_talks_without_end_fills_nothing() -> None:
    command = uuid4()
    heard = Recording(command)
    for number in range(3 * MOST):
        heard(f"{number} " + "x" * 10 * WIDEST)
    kept = answers.read([command])[command]
    assert len(kept) == MOST
    assert kept[-1] == CUT
    assert max(map(len, kept)) <= WIDEST
    assert 0 < telemetry.client().ttl(f"farm:answer:{command}") <= KEPT


def test_control_characters_are_taken_out() -> None:
    command = uuid4()
    Recording(command)("\x1b]0;title\x07 red\x00\r\nalert\u202e")
    assert all(line.isprintable() for line in answers.read([command])[command])


def test_without_redis_the_command_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise RedisAway("away")

    monkeypatch.setattr(telemetry, "client", away)
    Recording(uuid4())("ok")
