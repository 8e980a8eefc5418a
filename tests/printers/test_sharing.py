"""How several bridges share the printers: pure shares first, then with the database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from printers import sharing
from printers.models import LiveBridge
from printers.sharing import announce, share, surplus, withdraw

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("printers", "most", "shares"),
    [
        (10, {"a": 250}, {"a": 10}),
        (10, {"a": 250, "b": 250}, {"a": 5, "b": 5}),
        (1000, {"a": 1000, "b": 100}, {"a": 900, "b": 100}),
        (11, {"a": 250, "b": 250, "c": 250}, {"a": 4, "b": 4, "c": 3}),
        (1, {"a": 250, "b": 250}, {"a": 1, "b": 0}),
        (0, {"a": 250}, {"a": 0}),
        (1000, {"a": 250, "b": 250}, {"a": 250, "b": 250}),  # more than they can hold
    ],
)
def test_each_aims_at_an_equal_share(printers: int, most: dict[str, int], shares: dict[str, int]) -> None:
    assert {holder: share(printers, most, holder) for holder in most} == shares


@given(st.integers(0, 3000), st.dictionaries(st.text(min_size=1), st.integers(0, 1000), min_size=1, max_size=8))
def test_together_they_hold_all_if_they_can_and_nobody_more_than_it_can(printers: int, most: dict[str, int]) -> None:
    shares = {holder: share(printers, most, holder) for holder in most}
    assert sum(shares.values()) == min(printers, sum(most.values()))
    assert all(shares[holder] <= most[holder] for holder in most)
    unfilled = [shares[holder] for holder in most if shares[holder] < most[holder]]
    assert not unfilled or max(unfilled) - min(unfilled) <= 1


def test_one_that_does_not_live_has_no_share() -> None:
    assert share(10, {"a": 250}, "another") == 0


@pytest.mark.parametrize(
    ("held", "aim", "back"),
    [(5, 5, 0), (6, 5, 1), (20, 19, 1), (21, 20, 0), (0, 5, 0), (525, 500, 0), (526, 500, 26), (999, 500, 499)],
)
def test_a_little_more_than_its_share_is_kept(held: int, aim: int, back: int) -> None:
    assert surplus(held, aim) == back


@given(st.integers(1, 1000), st.integers(1, 6), st.integers(1, 6))
def test_it_settles_after_bridges_came_or_went_and_nothing_goes_to_and_fro(
    printers: int, before: int, now: int
) -> None:
    """Rounds of: give back, then take what is free, in any order of bridges."""
    names = [f"bridge {n}" for n in range(max(before, now))]
    held = {name: share(printers, dict.fromkeys(names[:before], 1000), name) for name in names[:before]}
    live = dict.fromkeys(names[:now], 1000)
    held = {name: held.get(name, 0) for name in live}
    moves = []
    for _ in range(5):
        free = printers - sum(held.values())
        moved = 0
        for name in live:
            back = surplus(held[name], share(printers, live, name))
            held[name], free, moved = held[name] - back, free + back, moved + back
        for name in live:
            taken = min(free, max(0, share(printers, live, name) - held[name]))
            held[name], free = held[name] + taken, free - taken
        moves.append(moved)
    assert sum(held.values()) == printers
    assert not any(moves[1:])
    aims = {name: share(printers, live, name) for name in live}
    slack = int(max(aims.values()) * sharing.SLACK)
    assert all(held[name] <= aims[name] + slack for name in live)
    assert all(held[name] >= aims[name] - slack * (now - 1) for name in live)


@pytest.mark.django_db
def test_bridges_know_of_each_other_by_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert announce("one", 10, MINUTE) == {"one": 10}
    monkeypatch.setattr(timezone, "now", lambda: None)  # theirs may be wrong
    assert announce("two", 20, MINUTE) == {"one": 10, "two": 20}
    withdraw("one")
    assert announce("two", 30, MINUTE) == {"two": 30}


@pytest.mark.django_db
def test_one_that_died_is_counted_no_longer() -> None:
    announce("dead", 10, MINUTE)
    LiveBridge.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert announce("two", 20, MINUTE) == {"two": 20}
    LiveBridge.objects.update(expires_at=timezone.now() - timedelta(days=1))
    assert announce("three", 30, MINUTE) == {"three": 30}
    assert LiveBridge.objects.count() == 1, "nobody needs to know of it for ever"
    assert announce("two", 20, MINUTE) == {"two": 20, "three": 30}
