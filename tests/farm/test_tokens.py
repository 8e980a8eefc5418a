"""How people and programs come in: passwords, access and refresh tokens, sessions."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.conf import settings as farm_settings
from pytest_django import Settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from farm.models import User
from tests.api import api, ok, refused
from tests.cast import Cast

pytestmark = pytest.mark.django_db
PASSWORD = "a horse made of glass"


@pytest.fixture
def sam(cast: Cast) -> User:
    cast.sam.set_password(PASSWORD)
    cast.sam.save()
    return cast.sam


def log_in(user: User, password: str = PASSWORD) -> Any:
    return api().post("/api/token/", {"username": user.username, "password": password})


def refresh(token: str) -> Any:
    return api().post("/api/token/refresh/", {"refresh": token})


def calling(access: Any, path: str = "/api/jobs/", method: str = "get", **options: Any) -> Any:
    return getattr(api(), method)(path, headers={"authorization": f"Bearer {access}"}, **options)


# -- in
def test_a_name_and_a_password_give_a_pair_of_tokens(sam: User) -> None:
    answer = log_in(sam)
    pair = ok(answer)
    assert set(pair) == {"access", "refresh"}
    assert "no-store" in answer["Cache-Control"]
    assert ok(calling(pair["access"]))["results"] == []
    sam.refresh_from_db()
    assert sam.last_login is not None


def test_wrong_and_unknown_are_refused_in_the_same_words(sam: User) -> None:
    wrong = log_in(sam, "guess")
    unknown = api().post("/api/token/", {"username": "nobody", "password": "guess"})
    assert refused(wrong, 401, "no_active_account") == refused(unknown, 401, "no_active_account")
    assert wrong["WWW-Authenticate"].startswith("Bearer")


def test_a_person_who_was_switched_off_does_not_come_in(sam: User) -> None:
    sam.is_active = False
    sam.save()
    refused(log_in(sam), 401, "no_active_account")


def test_missing_fields_are_named(sam: User) -> None:
    body = refused(api().post("/api/token/", {"username": "sam"}), 422, "invalid")
    assert set(body["extra"]["fields"]) == {"password"}


def test_after_five_wrong_passwords_the_right_one_has_to_wait(sam: User, cast: Cast) -> None:
    for _ in range(4):
        refused(log_in(sam, "guess"), 401)
    refused(log_in(sam, "guess"), 429, "locked_out")
    refused(log_in(sam), 429, "locked_out")
    cast.tina.set_password(PASSWORD)
    cast.tina.save()
    ok(log_in(cast.tina))  # from the same address
    ok(api().post("/api/token/", {"username": "sam", "password": PASSWORD}, REMOTE_ADDR="10.0.0.7"))


def test_behind_a_proxy_nobody_is_locked_out_for_anothers_guesses(sam: User, settings: Settings) -> None:
    """All come from the proxy's address; the one that the proxy adds tells them apart."""
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}

    def try_in(password: str, address: str) -> Any:
        body = {"username": "sam", "password": password}
        return api().post("/api/token/", body, headers={"x-forwarded-for": f"1.2.3.4, {address}"})

    for _ in range(5):
        answer = try_in("guess", "10.0.0.66")
    refused(answer, 429, "locked_out")
    ok(try_in(PASSWORD, "10.0.0.7"))


def test_a_guesser_does_not_escape_by_making_up_addresses(sam: User) -> None:
    for n in range(5):
        answer = api().post(
            "/api/token/", {"username": "sam", "password": "guess"}, headers={"x-forwarded-for": f"10.0.0.{n}"}
        )
    refused(answer, 429, "locked_out")


# -- without, and with a bad one
@pytest.mark.parametrize("method", ["get", "post"])
def test_without_credentials_one_is_told_what_to_bring(cast: Cast, method: str) -> None:
    answer = getattr(api(), method)("/api/jobs/")
    refused(answer, 401, "not_authenticated")
    assert answer["WWW-Authenticate"] == 'Bearer realm="api"'


def encoded(**changes: Any) -> str:
    """A token like ours, but for ``changes``."""
    claims = AccessToken.for_user(changes.pop("user")).payload
    key = changes.pop("key", farm_settings.SIMPLE_JWT["SIGNING_KEY"])
    return jwt.encode({**claims, **changes}, key, algorithm="HS256")


def unsigned(user: User) -> str:
    parts = [{"alg": "none", "typ": "JWT"}, AccessToken.for_user(user).payload]
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."


def expired(user: User) -> str:
    token = AccessToken.for_user(user)
    token.set_exp(lifetime=-timedelta(minutes=5))
    return str(token)


@pytest.mark.parametrize(
    "make",
    [
        lambda user: "garbage",
        lambda user: "a.b.c",
        lambda user: "\xff\xfe",
        lambda user: "",
        expired,
        unsigned,
        lambda user: encoded(user=user, key="another key, which is long enough for the algorithm"),
        lambda user: encoded(user=user, key=farm_settings.SECRET_KEY),
        lambda user: encoded(user=user, aud="another-farm"),
        lambda user: encoded(user=user, iss="another-farm"),
        lambda user: str(RefreshToken.for_user(user)),
        lambda user: encoded(user=user, user_id="00000000-0000-0000-0000-000000000000"),
        lambda user: encoded(user=user, user_id="' or 1=1"),
    ],
    ids=[
        "garbage", "no base64", "no ASCII", "empty", "expired", "unsigned", "another key", "Django's key",
        "another audience", "another issuer", "a refresh token", "nobody's", "a strange id",
    ],
)  # fmt: skip
def test_a_bad_token_is_401_and_never_403_or_500(sam: User, make: Any) -> None:
    answer = calling(make(sam))
    refused(answer, 401)
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_bad_token_is_not_made_good_by_a_session(sam: User) -> None:
    refused(api(sam).get("/api/jobs/", headers={"authorization": "Bearer old"}), 401, "token_not_valid")


def test_a_token_ends_with_its_owners_right_to_come_in(sam: User) -> None:
    access = ok(log_in(sam))["access"]
    sam.is_active = False
    sam.save()
    refused(calling(access), 401, "user_inactive")


def test_a_new_password_ends_every_token(sam: User) -> None:
    pair = ok(log_in(sam))
    sam.set_password("another horse")
    sam.save()
    refused(calling(pair["access"]), 401, "password_changed")
    refused(refresh(pair["refresh"]), 401, "token_not_valid")


# -- the next pair
def test_a_refresh_token_gives_the_next_pair_once(sam: User) -> None:
    first = ok(log_in(sam))
    second = ok(refresh(first["refresh"]))
    assert set(second) == {"access", "refresh"}
    assert second["refresh"] != first["refresh"]
    ok(calling(second["access"]))
    refused(refresh(first["refresh"]), 401, "token_not_valid")


def test_when_a_used_token_comes_back_its_whole_family_ends(sam: User) -> None:
    """Somebody copied it: either the thief has the newest one, or the owner."""
    other_device = ok(log_in(sam))["refresh"]
    first = ok(log_in(sam))["refresh"]
    second = ok(refresh(first))["refresh"]
    third = ok(refresh(second))["refresh"]
    refused(refresh(first), 401)
    refused(refresh(third), 401)
    ok(refresh(other_device))


def test_an_access_token_is_no_refresh_token_and_ends_no_family(sam: User) -> None:
    pair = ok(log_in(sam))
    refused(refresh(pair["access"]), 401, "token_not_valid")
    ok(refresh(pair["refresh"]))


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "\ud7ff"])
def test_what_is_no_refresh_token_is_refused(sam: User, token: str) -> None:
    refused(refresh(token), 401, "token_not_valid")


def test_the_refresh_token_of_somebody_who_is_gone_is_refused(cast: Cast) -> None:
    token = str(RefreshToken.for_user(cast.mallory))
    cast.mallory.delete()
    refused(refresh(token), 401, "token_not_valid")


# -- browsers
def test_a_session_reads_but_writes_only_with_its_csrf_token(sam: User) -> None:
    client = api(sam, enforce_csrf_checks=True)
    ok(client.get("/api/jobs/"))
    refused(client.post("/api/jobs/", {}), 403, "csrf")
    client.get("/submit/")  # a page with a form
    token = client.cookies["farm_csrf"].value
    refused(client.post("/api/jobs/", {}, headers={"x-csrftoken": token}), 422)
    refused(client.post("/api/jobs/", {}, headers={"x-csrftoken": token[::-1]}), 403, "csrf")


def test_a_token_needs_no_csrf_token_because_browsers_do_not_send_it_by_themselves(sam: User) -> None:
    client = api(enforce_csrf_checks=True)
    access = AccessToken.for_user(sam)
    refused(client.post("/api/jobs/", {}, headers={"authorization": f"Bearer {access}"}), 422)


def test_a_session_ends_when_its_person_is_switched_off(sam: User) -> None:
    client = api(sam)
    ok(client.get("/api/jobs/"))
    sam.is_active = False
    sam.save()
    refused(client.get("/api/jobs/"), 401, "not_authenticated")


def test_cookies_are_kept_from_scripts_and_other_sites(sam: User) -> None:
    client = api()
    client.post("/login/", {"username": "sam", "password": PASSWORD}, format="multipart")
    session = client.cookies["farm_session"]
    assert session["httponly"]
    assert session["samesite"] == "Lax"
