"""Screens in the lab: what they show, to whom, and who makes their links."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from printers import screens
from printers.drivers.base import PrinterStatus
from printers.models import Pool, TvLink
from tests.cast import KEY, Cast, as_, attempt, htmx, job, printer, says

pytestmark = pytest.mark.django_db


@pytest.fixture
def screen(cast: Cast) -> str:
    """The address of one that shows all printers."""
    return f"/tv/{screens.make_link(cast.ada, 'Hall')[1]}/"


def shown(address: str) -> str:
    """To a browser that knows nobody."""
    answer = Client().get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_screen_shows_how_it_goes_without_a_login(cast: Cast, screen: str) -> None:
    attempt(job(cast.sam), cast.anvil)
    told = shown(screen)
    for word in ("Anvil", "Printing", "42 %", "45 min", "50 %", "Needs attention", "Cellar", "Bed not clear"):
        assert word in told
    for word in ("Log in", "/logout/", "csrf", "<form", "/printers/", KEY, cast.anvil.url):
        assert word not in told


def test_a_screen_names_neither_people_nor_files_unless_staff_said_so(cast: Cast, screen: str) -> None:
    live = attempt(job(cast.sam, name="gift.stl"), cast.anvil)
    job(cast.tina, name="present.stl", printer=cast.anvil)
    for secret in ("gift", "Sam", "present", "Tina", live.remote_path, str(live.pk), str(live.job_id)):
        assert secret not in shown(screen)
    told = shown(f"/tv/{screens.make_link(cast.ada, 'Staff room', show_names=True)[1]}/")
    assert "gift.stl" in told
    assert "Sam" in told


def test_a_screen_says_the_same_to_whoever_is_logged_in_there(cast: Cast, screen: str) -> None:
    attempt(job(cast.sam, name="gift.stl"), cast.anvil)
    told = as_(cast.ada).get(screen).content.decode()
    assert "gift" not in told
    assert "Ada" not in told


def test_those_that_need_a_person_are_listed_the_most_urgent_first(cast: Cast, screen: str) -> None:
    says(cast.anvil, PrinterStatus.ERROR)
    told = shown(screen)
    told = told[told.index("<ol>") : told.index("</ol>")]
    assert told.index("Cellar") < told.index("Anvil")
    for n in range(10):
        printer(f"More {n}", by=cast.ada)
    assert "and 4 more" in shown(screen)


def test_a_screen_of_a_pool_shows_no_other_printer(cast: Cast) -> None:
    pool = Pool.objects.create(name="Basement")
    pool.printers.add(cast.cellar)
    told = shown(f"/tv/{screens.make_link(cast.ada, 'Stairs', pool)[1]}/")
    assert "Cellar" in told
    assert "Anvil" not in told


def test_a_revoked_screen_says_so_when_it_asks_next(cast: Cast, screen: str) -> None:
    screens.revoke_link(TvLink.objects.get(), by=cast.ada)
    answer = Client().get(screen, headers=htmx())
    assert answer.status_code == 200, "htmx shows no error pages"
    told = answer.content.decode()
    assert 'id="tv"' in told
    assert "This screen is closed" in told
    assert "Anvil" not in told
    assert Client().get(screen).status_code == 404


def test_a_guess_looks_like_a_revoked_link(cast: Cast, screen: str) -> None:
    screens.revoke_link(TvLink.objects.get(), by=cast.ada)
    revoked = Client().get(screen)
    for guess in ("x" * screens.SECRET_LENGTH, "1", "..", "%00", str(TvLink.objects.get().pk)):
        answer = Client().get(f"/tv/{guess}/")
        assert (answer.status_code, answer.content) == (404, revoked.content), guess


def test_the_address_is_a_key_and_goes_nowhere(cast: Cast, screen: str) -> None:
    answer = Client().get(screen)
    assert answer["Referrer-Policy"] == "no-referrer"
    assert answer["X-Robots-Tag"] == "noindex"
    assert "no-store" in answer["Cache-Control"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert not answer.cookies
    told = answer.content.decode()
    assert " style=" not in told
    assert "<script>" not in told


def test_a_screen_costs_the_same_for_many_printers(cast: Cast, screen: str) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            shown(screen)
        return len(seen)

    shown(screen)  # notes that it was looked at
    few = queries()
    for n in range(6):
        printer(f"More {n}", by=cast.ada)
    assert queries() == few


# -- for staff
def make(client: Client, **form: Any) -> Any:
    return client.post("/tv/", {"name": "Hall", **form})


def test_staff_make_a_link_and_see_its_address_once(cast: Cast) -> None:
    client = as_(cast.ada)
    told = make(client, show_names="yes").content.decode()
    address = told[told.index("http://testserver/tv/") :].split('"')[0].removeprefix("http://testserver")
    assert "Anvil" in shown(address)
    assert TvLink.objects.get().show_names
    again = client.get("/tv/").content.decode()
    assert "Hall" in again
    assert address not in again


def test_staff_revoke_a_link_and_the_screen_goes_dark(cast: Cast, screen: str) -> None:
    link = TvLink.objects.get()
    assert as_(cast.ada).post(f"/tv/{link.pk}/revoke/").status_code == 302
    assert Client().get(screen).status_code == 404
    assert "Revoked" in as_(cast.ada).get("/tv/").content.decode()


def test_a_link_needs_a_place_and_a_pool_that_there_is(cast: Cast) -> None:
    for form, status in (
        ({"name": " "}, 422),
        ({"name": "x" * 81}, 422),
        ({"name": "a\nb"}, 422),
        ({"pool": "7"}, 404),
    ):
        assert make(as_(cast.ada), **form).status_code == status
    assert not TvLink.objects.exists()


def test_nobody_but_staff_makes_lists_or_revokes_links(cast: Cast, screen: str) -> None:
    link = TvLink.objects.get()
    for user in (cast.sam, cast.olivia, cast.mallory):
        client = as_(user)
        assert client.get("/tv/").status_code == 403
        assert make(client).status_code == 403
        assert client.post(f"/tv/{link.pk}/revoke/").status_code == 403
    assert Client().get("/tv/").status_code == 302
    assert make(Client()).status_code == 302
    assert Client().post(f"/tv/{link.pk}/revoke/").status_code == 302
    assert as_(cast.ada).get(f"/tv/{link.pk}/revoke/").status_code == 405
    assert TvLink.objects.filter(revoked_at=None).count() == 1
    assert "Anvil" in shown(screen)


def test_only_staff_are_led_to_it(cast: Cast) -> None:
    assert 'href="/tv/"' in as_(cast.ada).get("/").content.decode()
    assert 'href="/tv/"' not in as_(cast.olivia).get("/").content.decode()
