"""What all doors of the API have in common: one shape of errors, tokens and sessions, repeats, throttles, pages, the
document that describes it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from channels.testing import HttpCommunicator
from django.conf import settings as farm_settings
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import call_command
from django.db import OperationalError
from django.http import Http404
from django.test import Client
from pytest_django import Settings
from redis.exceptions import RedisError

from farm.asgi import application
from farm.errors import BadRequest, Conflict, FarmError, Forbidden, Invalid, NotFound, TooLarge, Unavailable
from farm.models import IdempotencyKey
from jobs.models import Job
from tests import cast as actors
from tests.api import api, ok, refused
from tests.cast import Cast
from tests.machines import Machines

pytestmark = pytest.mark.django_db


# -- one shape for every error
@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize("path", ["/api/", "/api/nothing/", "/api/printers/not-an-id/", "/api/jobs", "/api/a/b/c"])
def test_an_address_that_does_not_exist_is_an_error_like_any_other(cast: Cast, method: str, path: str) -> None:
    for user in (None, cast.ada):
        client = api(user, enforce_csrf_checks=True)
        refused(getattr(client, method)(path), 404, "not_found")


def test_an_address_without_its_last_slash_is_not_redirected_because_a_post_would_lose_its_body(cast: Cast) -> None:
    refused(api(cast.sam).post("/api/jobs", {}), 404, "not_found")


def test_a_method_that_is_not_there_says_which_are(cast: Cast) -> None:
    answer = api(cast.ada).put("/api/printers/", {})
    refused(answer, 405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer["Allow"].split(", "))


def test_options_tell_nothing(cast: Cast) -> None:
    refused(api(cast.sam).options(f"/api/printers/{cast.cellar.pk}/"), 405, "method_not_allowed")
    refused(api().options("/api/printers/"), 401, "not_authenticated")


def test_who_wants_another_form_of_answer_than_json_is_told_in_json(cast: Cast) -> None:
    refused(api(cast.sam).get("/api/jobs/", headers={"accept": "text/csv"}), 406, "not_acceptable")


def test_a_body_of_another_type_is_refused(cast: Cast) -> None:
    client = api(cast.sam)
    refused(client.post("/api/jobs/", "a=b", content_type="text/plain"), 415, "unsupported_media_type")
    refused(client.post("/api/models/", {"file": "solid"}, format="json"), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[" * 100_000, b'{"copies": NaN}', b'{"a": "\xff"}', b'{"settings": {"\\ud800": 1}}', b"\x00"],
    ids=["cut off", "nested", "NaN", "not UTF-8", "half a surrogate pair", "NUL"],
)
def test_what_is_not_json_is_a_bad_request(cast: Cast, body: bytes) -> None:
    answer = api(cast.sam).post("/api/jobs/", body, content_type="application/json")
    refused(answer, 400, "bad_request")


def test_a_broken_multipart_body_is_a_bad_request(cast: Cast) -> None:
    client = api(cast.sam)
    refused(client.post("/api/models/", b"x", content_type="multipart/form-data"), 400, "bad_request")
    many = {f"field{n}": "x" for n in range(2000)}
    refused(client.post("/api/models/", many, format="multipart"), 400, "bad_request")


def test_wrong_fields_are_named(cast: Cast) -> None:
    body = refused(api(cast.sam).post("/api/jobs/", {"copies": 0, "hold": "perhaps"}), 422, "invalid")
    assert set(body["extra"]["fields"]) == {"copies", "hold"}
    assert body["message"].startswith("copies: ")


@pytest.mark.parametrize("body", [[], "word", 7, None, True])
def test_a_body_that_is_no_object_is_refused(cast: Cast, body: Any) -> None:
    answer = api(cast.ada).post("/api/jobs/", json.dumps(body), content_type="application/json")
    refused(answer, 422, "invalid")


def test_a_filter_that_makes_no_sense_is_refused(cast: Cast) -> None:
    body = refused(api(cast.sam).get("/api/jobs/?printer=somewhere&status=melted"), 422, "invalid")
    assert set(body["extra"]["fields"]) == {"printer", "status"}
    refused(api(cast.sam).get("/api/models/?name=%00"), 422, "invalid")


def test_a_filter_does_not_tell_what_exists_elsewhere(cast: Cast) -> None:
    """Mallory sees no printer: the one that is there and the one that is not are the same to her."""
    for printer in (cast.cellar.pk, uuid4()):
        assert ok(api(cast.mallory).get(f"/api/jobs/?printer={printer}"))["results"] == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadRequest("Say it otherwise."), 400, "bad_request"),
        (Forbidden(), 403, "forbidden"),
        (NotFound(), 404, "not_found"),
        (Conflict("Look again.", code="bed_changed"), 409, "bed_changed"),
        (TooLarge(), 413, "too_large"),
        (Invalid("No.", field="name"), 422, "invalid"),
        (Unavailable(), 503, "unavailable"),
        (FarmError(), 500, "error"),
        (Http404("secret"), 404, "not_found"),
        (PermissionDenied(), 403, "forbidden"),
        (ValidationError("Not so."), 422, "invalid"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_whatever_is_raised_inside_has_its_status(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("printers.api.access.get", fail)
    body = refused(api(cast.sam).get(f"/api/printers/{cast.anvil.pk}/"), status, code)
    assert body["extra"] == getattr(error, "extra", {})
    assert "secret" not in body["message"]


def test_a_bug_of_ours_is_an_error_without_its_details(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("printers.api.access.get", fail)
    answer = api(cast.sam, raise_request_exception=False).get(f"/api/printers/{cast.anvil.pk}/")
    refused(answer, 500, "error")
    assert "swordfish" not in answer.content.decode()
    assert "Traceback" not in answer.content.decode()


@pytest.mark.parametrize("fault", [RedisError("Connection refused."), OperationalError("database is locked")])
def test_a_farm_without_its_redis_or_database_says_that_it_will_be_back(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr("printers.views.telemetry.read", fail)
    refused(api(cast.sam).get(f"/api/printers/{cast.anvil.pk}/state/"), 503, "unavailable")
    page = actors.as_(cast.sam).get(f"/printers/{cast.anvil.pk}/")
    assert page.status_code == 503
    assert "Try again in a moment" in page.content.decode()


def test_a_farm_without_redis_lets_people_in_uncounted(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RedisError("Connection refused.")

    monkeypatch.setattr("farm.throttles._count", fail)
    ok(api(cast.sam).get("/api/jobs/"))


def test_a_request_for_another_host_is_refused(cast: Cast) -> None:
    refused(api(cast.sam).get("/api/jobs/", headers={"host": "evil.example"}), 400, "bad_request")


# -- size, by what the web process is told before anything is read
def spoken(path: str, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> dict[str, Any]:
    """The answer of the whole web process."""

    async def talk() -> dict[str, Any]:
        told = [(b"host", b"localhost"), *headers]
        answer: dict[str, Any] = await HttpCommunicator(application, "POST", path, body, told).get_response(timeout=60)
        return answer

    answer = async_to_sync(talk)()
    return {**answer, "json": json.loads(answer["body"])}


@pytest.mark.parametrize(
    ("path", "length"),
    [
        ("/api/jobs/", b"2500001"),
        ("/api/models/", str(farm_settings.FARM_MAX_UPLOAD + 200_000).encode()),
        ("/api/models/", b"9" * 30),
        ("/api/models/", b"-1"),
        ("/api/models/", b"0x10"),
    ],
)
def test_too_much_is_refused_by_its_length_alone(db: None, path: str, length: bytes) -> None:
    answer = spoken(path, [(b"content-length", length)])
    assert (answer["status"], answer["json"]["code"]) == (413, "too_large")
    assert list(answer["json"]) == ["code", "message", "extra"]


def test_a_body_of_unknown_length_is_refused(db: None) -> None:
    answer = spoken("/api/models/", [(b"transfer-encoding", b"chunked")])
    assert (answer["status"], answer["json"]["code"]) == (411, "length_required")


def test_what_is_small_enough_comes_through(db: None) -> None:
    answer = spoken("/api/jobs/", [(b"content-length", b"2"), (b"content-type", b"application/json")], b"{}")
    assert (answer["status"], answer["json"]["code"]) == (401, "not_authenticated")


# -- repeats
def twice(cast: Cast, first: dict[str, Any], second: dict[str, Any] | None = None) -> tuple[Any, Any]:
    client, key = api(cast.sam), {"Idempotency-Key": "monday-1"}
    return (
        client.post("/api/jobs/", first, headers=key),
        client.post("/api/jobs/", first if second is None else second, headers=key),
    )


def test_a_repeat_with_the_same_key_gets_the_first_answer_and_does_nothing(cast: Cast) -> None:
    first, second = twice(cast, {"model": str(actors.model(cast.sam).pk)})
    assert ok(first, 201) == ok(second, 201)
    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"
    assert Job.objects.count() == 1


def test_without_a_key_the_same_request_is_a_second_job(cast: Cast) -> None:
    body = {"model": str(actors.model(cast.sam).pk)}
    assert ok(api(cast.sam).post("/api/jobs/", body), 201) != ok(api(cast.sam).post("/api/jobs/", body), 201)
    assert Job.objects.count() == 2


def test_a_key_does_not_serve_for_another_body_or_another_address(cast: Cast) -> None:
    body = {"model": str(actors.model(cast.sam).pk)}
    first, second = twice(cast, body, {**body, "copies": 2})
    ok(first, 201)
    refused(second, 422, "idempotency_key_reused")
    elsewhere = api(cast.sam).post(f"/api/jobs/{uuid4()}/cancel/", body, headers={"Idempotency-Key": "monday-1"})
    refused(elsewhere, 422, "idempotency_key_reused")
    assert Job.objects.count() == 1


def test_the_order_of_fields_does_not_make_another_body(cast: Cast) -> None:
    model = str(actors.model(cast.sam).pk)
    first, second = twice(cast, {"model": model, "copies": 2}, {"copies": 2, "model": model})
    assert ok(first, 201) == ok(second, 201)


def test_the_content_of_a_file_belongs_to_the_body(cast: Cast) -> None:
    def upload(content: bytes) -> Any:
        file = io.BytesIO(content)
        file.name = "part.stl"
        return api(cast.sam).post(
            "/api/models/", {"file": file}, format="multipart", headers={"Idempotency-Key": "tuesday"}
        )

    refused(upload(b""), 422, "empty")
    refused(upload(b"solid"), 422, "idempotency_key_reused")


def test_another_persons_key_is_another_key(cast: Cast) -> None:
    for user in (cast.sam, cast.tina):
        body = {"model": str(actors.model(user).pk)}
        ok(api(user).post("/api/jobs/", body, headers={"Idempotency-Key": "k"}), 201)
    assert Job.objects.count() == 2


def test_a_refusal_is_repeated_too(cast: Cast) -> None:
    first, second = twice(cast, {"copies": 0})
    assert refused(first, 422) == refused(second, 422)


def test_while_the_first_request_is_worked_on_the_second_is_told_so(cast: Cast, machines: Machines) -> None:
    client, path = api(cast.ada), f"/api/printers/{cast.anvil.pk}/test/"
    meanwhile: list[Any] = []

    def again() -> None:
        meanwhile.append(api(cast.ada).post(path, headers={"Idempotency-Key": "k"}))

    machines[cast.anvil].meanwhile["identify"] = again
    first = ok(client.post(path, headers={"Idempotency-Key": "k"}))
    refused(meanwhile[0], 409, "in_progress")
    assert ok(client.post(path, headers={"Idempotency-Key": "k"})) == first
    assert len(machines[cast.anvil].asked("identify")) == 1


def test_a_printer_that_was_away_may_be_asked_again_with_the_same_key(cast: Cast, machines: Machines) -> None:
    from tests.machines import away

    client, path, key = api(cast.ada), f"/api/printers/{cast.anvil.pk}/test/", {"Idempotency-Key": "k"}
    machines[cast.anvil].faults["identify"] = away()
    refused(client.post(path, headers=key), 503, "unreachable")
    machines[cast.anvil].faults.clear()
    assert ok(client.post(path, headers=key))["software"] == "Fake 1.0"


def test_after_a_bug_of_ours_the_key_is_free_again(cast: Cast, machines: Machines) -> None:
    path, key = f"/api/printers/{cast.anvil.pk}/test/", {"Idempotency-Key": "k"}
    machines[cast.anvil].faults["identify"] = RuntimeError("a bug")
    refused(api(cast.ada, raise_request_exception=False).post(path, headers=key), 500)
    machines[cast.anvil].faults.clear()
    ok(api(cast.ada).post(path, headers=key))


@pytest.mark.parametrize("key", ["k" * 201, "café", "a\tb"])
def test_a_key_is_short_and_plain(cast: Cast, key: str) -> None:
    answer = api(cast.sam).post("/api/jobs/", {}, HTTP_IDEMPOTENCY_KEY=key)
    refused(answer, 422, "idempotency_key_invalid")
    assert not IdempotencyKey.objects.exists()


# -- how often
@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stands still at the beginning of a quarter of an hour, until it is put forward."""
    now = [1_800_000_000.0 // 900 * 900]

    class Clock:
        time = staticmethod(lambda: now[0])

    monkeypatch.setattr("farm.throttles.time", Clock)

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def test_anonymous_callers_have_a_hundred_calls_in_a_quarter_of_an_hour(
    cast: Cast, clock: Callable[[float], None]
) -> None:
    client = api()
    for _ in range(100):
        refused(client.post("/api/token/", {}), 422, "invalid")
    clock(600)
    answer = client.post("/api/token/", {})
    refused(answer, 429, "throttled")
    assert int(answer["Retry-After"]) == 301
    refused(client.post("/api/token/", {}, REMOTE_ADDR="10.0.0.7"), 422)
    clock(300)
    refused(client.post("/api/token/", {}), 422)


def test_those_who_are_turned_away_are_counted_apart(cast: Cast, clock: Callable[[float], None]) -> None:
    client = api()
    for _ in range(50):
        refused(client.get("/api/jobs/"), 401)
        refused(client.get("/api/jobs/", headers={"authorization": "Bearer old"}), 401)
    refused(client.get("/api/jobs/"), 429, "throttled")
    refused(client.post("/api/token/", {}), 422)
    ok(api(cast.sam).get("/api/jobs/"))


def test_an_address_that_a_caller_made_up_does_not_count(cast: Cast, clock: Any, settings: Settings) -> None:
    settings.FARM_THROTTLE_ANONYMOUS = (2, 900)
    client = api()
    answers = [client.post("/api/token/", {}, headers={"x-forwarded-for": f"10.0.0.{n}"}) for n in range(3)]
    assert [answer.status_code for answer in answers] == [422, 422, 429]


def test_behind_a_proxy_the_address_that_the_proxy_adds_counts(cast: Cast, clock: Any, settings: Settings) -> None:
    settings.FARM_THROTTLE_ANONYMOUS = (2, 900)
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}

    def call(address: str) -> int:
        return int(api().post("/api/token/", {}, headers={"x-forwarded-for": f"1.2.3.4, {address}"}).status_code)

    assert [call("10.0.0.1"), call("10.0.0.1"), call("10.0.0.1"), call("10.0.0.2")] == [422, 422, 429, 422]


def test_people_who_logged_in_have_more_and_each_their_own(cast: Cast, clock: Any, settings: Settings) -> None:
    count, seconds = settings.FARM_THROTTLE_PERSON
    assert count / seconds > 50 * settings.FARM_THROTTLE_ANONYMOUS[0] / settings.FARM_THROTTLE_ANONYMOUS[1]
    settings.FARM_THROTTLE_PERSON = (2, 60)
    assert [api(cast.sam).get("/api/jobs/").status_code for _ in range(3)] == [200, 200, 429]
    ok(api(cast.tina).get("/api/jobs/"))


# -- pages
def test_a_list_is_cut_into_pages_that_do_not_slip(cast: Cast) -> None:
    rows = [actors.job(cast.sam) for _ in range(5)]
    client = api(cast.sam)
    page = ok(client.get("/api/jobs/?page_size=2"))
    assert list(page) == ["next", "previous", "results"]
    assert page["previous"] is None
    seen = [row["id"] for row in page["results"]]
    actors.job(cast.sam)  # arrives meanwhile, and belongs before the first page
    while page["next"]:
        page = ok(client.get(page["next"]))
        seen += [row["id"] for row in page["results"]]
    assert sorted(seen) == sorted(str(row.pk) for row in rows)
    assert ok(client.get(page["previous"]))["results"]


def test_no_page_is_longer_than_two_hundred(cast: Cast) -> None:
    one = actors.job(cast.sam)
    Job.objects.bulk_create([Job(owner=cast.sam, name="x", model=one.model) for _ in range(205)])
    assert len(ok(api(cast.sam).get("/api/jobs/?page_size=100000"))["results"]) == 200


@pytest.mark.parametrize(
    ("cursor", "status"), [("zzz", 404), ("cD1nYXJiYWdl", 422), ("bz05OTk5OTk5OTk5OTk=", 200), ("cD0lMDA=", 422)]
)
def test_a_cursor_that_nobody_gave_out_leads_nowhere(cast: Cast, cursor: str, status: int) -> None:
    answer = api(cast.sam).get(f"/api/jobs/?cursor={cursor}")
    if status == 200:
        assert ok(answer)["results"] == []
    else:
        refused(answer, status)


# -- the document
def schema() -> Any:
    return ok(api().get("/api/schema/?format=json"))


def test_the_document_is_valid_and_complete(db: None, tmp_path: Any) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yaml"))
    assert (tmp_path / "schema.yaml").stat().st_size > 10_000


def test_the_document_tells_the_shape_of_errors_everywhere(db: None) -> None:
    described = schema()
    error = described["components"]["schemas"]["Error"]
    assert set(error["required"]) == {"code", "message", "extra"}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert {"401", "429"} <= set(answers), (method, path)
            for status in [status for status in answers if status >= "4"]:
                reference = answers[status]["content"]["application/json"]["schema"]
                assert reference == {"$ref": "#/components/schemas/Error"}, (method, path, status)


def test_the_document_says_that_posts_may_be_repeated(db: None) -> None:
    names = [p["name"] for p in schema()["paths"]["/api/jobs/"]["post"]["parameters"]]
    assert names == ["Idempotency-Key"]


class Assets(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline_scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        address = known.get("src") or (known.get("href") if tag == "link" else None)
        if address:
            self.addresses.append(address)
        self.inline_scripts += tag == "script" and not known.get("src")


def test_the_docs_need_nothing_from_elsewhere(db: None) -> None:
    client = Client()
    answer = client.get("/api/docs/")
    assert answer.status_code == 200
    found = Assets()
    found.feed(answer.content.decode())
    assert found.inline_scripts == 0  # the policy would not run them
    assert any("swagger-ui" in address for address in found.addresses)
    for address in found.addresses:
        assert address.startswith("/"), address
        asset = client.get(address)
        assert asset.status_code == 200, address
        assert b"".join(asset) if asset.streaming else asset.content


@pytest.mark.parametrize("path", ["/api/docs/", "/api/jobs/", "/api/nothing/", "/login/"])
def test_every_answer_carries_the_headers_that_browsers_heed(db: None, path: str) -> None:
    answer = Client().get(path)
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"


def test_what_is_said_to_one_person_is_not_kept_for_the_next(cast: Cast) -> None:
    assert api(cast.sam).get("/api/jobs/")["Cache-Control"] == "no-store"
