"""Links for screens in the lab."""

from __future__ import annotations

import pytest
from django.db import connection

from farm.errors import NotFound
from printers import screens
from printers.models import Pool, Printer, Role, TvLink
from tests.cast import Cast

pytestmark = pytest.mark.django_db


def opens(secret: str) -> bool:
    try:
        screens.open_link(secret)
    except NotFound:
        return False
    return True


def test_a_link_opens_until_it_is_revoked(cast: Cast) -> None:
    link, secret = screens.make_link(cast.ada, "Hall")
    assert screens.open_link(secret) == link
    assert screens.revoke_link(link, by=cast.ada)
    assert not opens(secret)
    assert not screens.revoke_link(link, by=cast.ada), "twice is harmless"


def test_the_secret_is_long_different_each_time_and_stored_nowhere(cast: Cast) -> None:
    made = [screens.make_link(cast.ada, "Hall")[1] for _ in range(20)]
    assert len(set(made)) == 20
    assert {len(secret) for secret in made} == {screens.SECRET_LENGTH}
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM printers_tvlink")
        stored = str(cursor.fetchall())
    assert not [secret for secret in made if secret in stored]


def test_guesses_open_nothing(cast: Cast) -> None:
    link, secret = screens.make_link(cast.ada, "Hall")
    guesses = ("", " ", "x" * screens.SECRET_LENGTH, secret[:-1], secret + "A", secret.swapcase(), link.secret_hash)
    assert [guess for guess in (*guesses, str(link.pk), "é" * screens.SECRET_LENGTH) if opens(guess)] == []


def test_it_shows_all_printers_or_those_of_its_pool_but_none_that_is_switched_off(cast: Cast) -> None:
    pool = Pool.objects.create(name="Cellar")
    pool.printers.add(cast.cellar)
    everything, _ = screens.make_link(cast.ada, "Hall")
    cellar, _ = screens.make_link(cast.ada, "Stairs", pool)
    assert set(screens.printers_of(everything)) == {cast.anvil, cast.cellar}
    assert set(screens.printers_of(cellar)) == {cast.cellar}
    Printer.objects.filter(pk=cast.cellar.pk).update(enabled=False)
    assert set(screens.printers_of(everything)) == {cast.anvil}
    assert not screens.printers_of(cellar)


def test_names_are_for_a_screen_only_if_staff_said_so(cast: Cast) -> None:
    shy, _ = screens.make_link(cast.ada, "Hall")
    open_hearted, _ = screens.make_link(cast.ada, "Staff room", show_names=True)
    assert set(screens.roles_of(shy).values()) == {Role.VIEW}
    assert set(screens.roles_of(open_hearted).values()) == {Role.OPERATE}


def test_staff_see_when_a_screen_last_asked(cast: Cast) -> None:
    link, secret = screens.make_link(cast.ada, "Hall")
    screens.open_link(secret)
    link.refresh_from_db()
    assert link.seen_at is not None
    before = link.seen_at
    screens.open_link(secret)
    assert TvLink.objects.get().seen_at == before, "once a minute is enough"
