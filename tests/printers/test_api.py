"""Printers as programs see them: added, reached, watched, cleared, commanded."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from pytest_django import Settings

from farm.models import User
from jobs.models import Print
from jobs.states import JobStatus, PrintStatus
from printers import answers, history, telemetry
from printers.credentials import unseal
from printers.drivers.base import LiveJob, PrinterState, PrinterStatus, Temperature, Unauthorised, Unclear
from printers.models import BedClear, Command, CommandKind, CommandStatus, Grant, Lease, Printer, Role
from printers.services import bed_is_clear
from slicing.layering import packed
from slicing.models import Gcode, PrinterProfile, ProfileRevision
from tests.api import api, ok, refused
from tests.cast import KEY, Cast, as_, attempt, falls_silent, gcode, grant, job, person, says
from tests.machines import Machines, away

pytestmark = pytest.mark.django_db


def at(printer: Printer, *more: Any) -> str:
    return "/".join(["/api/printers", str(printer.pk), *map(str, more), ""])


def facts(**changes: Any) -> dict[str, Any]:
    return {"kind": "moonraker", "name": "Zinc", "url": "http://127.0.0.1:7125", "api_key": "s3cret-key", **changes}


@pytest.fixture
def manager(cast: Cast) -> User:
    """Manages Anvil without being of the staff."""
    found = person("mara")
    grant(found, cast.anvil, Role.MANAGE)
    return found


# -- what it answered
def test_operators_read_what_the_machine_answered_and_nobody_else(cast: Cast) -> None:
    asked = ok(api(cast.olivia).post(at(cast.anvil, "commands"), {"command": "gcode", "lines": ["M115"]}), 202)
    one = at(cast.anvil, "commands", asked["id"])
    assert ok(api(cast.olivia).get(one))["answer"] == []
    answers.Recording(UUID(asked["id"]))("FIRMWARE_NAME:<b>Marlin</b>\x1b[31m")
    assert ok(api(cast.olivia).get(one))["answer"] == ["FIRMWARE_NAME:<b>Marlin</b> [31m"]
    refused(api(cast.sam).get(one), 404)
    refused(api(cast.mallory).get(one), 404)
    Grant.objects.filter(user=cast.olivia).update(role=Role.VIEW)
    assert ok(api(cast.olivia).get(one))["answer"] is None


# -- what it was like
def test_the_temperatures_of_the_last_half_hour_are_there_at_once(cast: Cast) -> None:
    now = time.time()
    with telemetry.client().pipeline(transaction=False) as pipe:
        for at_, actual in ((now - 60, 180.0), (now - 30, 210.2)):
            heat = {"tool0": Temperature(actual=actual, target=210.0)}
            history.Recorder().note(pipe, cast.anvil.pk, at_, heat)
        pipe.execute()
    shown = ok(api(cast.sam).get(at(cast.anvil, "temperatures")))
    assert shown["now"] == pytest.approx(now, abs=60)
    assert shown["times"] == pytest.approx([now - 60, now - 30], abs=0.1)
    assert shown["heaters"] == {"tool0": {"actual": [180.0, 210.2], "target": [210.0, 210.0]}}
    assert ok(api(cast.ada).get(at(cast.cellar, "temperatures")))["times"] == []


# -- what there is
def test_people_see_the_printers_they_were_given(cast: Cast) -> None:
    def names(user: User) -> list[str]:
        return [row["name"] for row in ok(api(user).get("/api/printers/"))["results"]]

    assert names(cast.sam) == ["Anvil"]
    assert names(cast.mallory) == []
    assert sorted(names(cast.ada)) == ["Anvil", "Cellar"]
    assert [row["name"] for row in ok(api(cast.ada).get("/api/printers/?name=Cellar"))["results"]] == ["Cellar"]


def test_a_printer_is_what_the_contract_says(cast: Cast, manager: User) -> None:
    row = ok(api(manager).get(at(cast.anvil)))
    assert row == {
        "id": str(cast.anvil.pk),
        "name": "Anvil",
        "kind": "octoprint",
        "url": "http://127.0.0.1:9",
        "profile": str(cast.anvil.profile_id),
        "place": "Bench",
        "enabled": True,
        "maintenance": "",
        "camera": "server",
        "camera_snapshot_url": "",
        "camera_stream_url": "",
        "camera_rotation": None,
        "camera_flip_h": False,
        "camera_flip_v": False,
        "role": "manage",
    }


def test_an_address_is_told_only_to_those_who_manage_the_printer(cast: Cast, manager: User) -> None:
    for user, told in ((cast.sam, False), (cast.olivia, False), (manager, True), (cast.ada, True)):
        client = api(user)
        for row in (ok(client.get(at(cast.anvil))), ok(client.get("/api/printers/?name=Anvil"))["results"][0]):
            for name in ("url", "camera_snapshot_url", "camera_stream_url"):
                assert (name in row) is told


# -- adding
def test_a_printer_is_added_with_the_default_profile_and_a_bed_that_is_not_clear(cast: Cast) -> None:
    row = ok(api(cast.ada).post("/api/printers/", facts()), 201)
    made = Printer.objects.get(pk=row["id"])
    assert made.profile == PrinterProfile.objects.get(is_default=True)
    assert (row["kind"], row["enabled"], row["profile"]) == ("moonraker", True, str(made.profile_id))
    assert not bed_is_clear(made)
    assert Lease.objects.filter(printer=made).exists()
    assert unseal(made.sealed_key) == "s3cret-key"
    assert "s3cret-key" not in made.sealed_key


def test_whoever_adds_a_printer_may_say_that_its_bed_is_clear(cast: Cast) -> None:
    row = ok(api(cast.ada).post("/api/printers/", facts(bed_clear=True)), 201)
    assert ok(api(cast.ada).get(f"/api/printers/{row['id']}/state/"))["bed_clear"] is True
    assert BedClear.objects.get(printer=row["id"]).by == cast.ada


def test_only_staff_add_printers(cast: Cast, manager: User) -> None:
    for user in (cast.mallory, cast.sam, cast.olivia, manager):
        refused(api(user).post("/api/printers/", facts()), 403, "forbidden")
    assert not Printer.objects.filter(name="Zinc").exists()


def test_fields_that_are_not_given_out_are_not_taken_in(cast: Cast) -> None:
    mine = {"id": str(uuid4()), "bed": 99, "sealed_key": "x", "marker": {"record": 1}, "role": "manage"}
    row = ok(api(cast.ada).post("/api/printers/", facts(**mine)), 201)
    made = Printer.objects.get(pk=row["id"])
    assert str(made.pk) != mine["id"]
    assert (made.bed, made.marker, unseal(made.sealed_key)) == (1, None, "s3cret-key")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "\u202egnp.exe"}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": None}, "name"),
        ({"kind": "teapot"}, "kind"),
        ({"url": ""}, "url"),
        ({"url": "x" * 301}, "url"),
        ({"api_key": "k" * 201}, "api_key"),
        ({"api_key": None}, "api_key"),
        ({"profile": str(uuid4())}, "profile"),
        ({"profile": "the big one"}, "profile"),
        ({"place": "Bench\x00"}, "place"),
        ({"place": "Ben\u2028ch"}, "place"),
        ({"enabled": "perhaps"}, "enabled"),
        ({"bed_clear": "perhaps"}, "bed_clear"),
        ({"maintenance": "m" * 201}, "maintenance"),
    ],
)
def test_what_makes_no_printer_is_refused_by_its_field(cast: Cast, changes: dict[str, Any], field: str) -> None:
    answer = api(cast.ada).post("/api/printers/", facts(**changes))
    assert set(refused(answer, 422, "invalid")["extra"]["fields"]) == {field}
    assert "s3cret-key" not in answer.content.decode()
    assert Printer.objects.count() == 2


def test_two_printers_do_not_share_a_name(cast: Cast) -> None:
    refused(api(cast.ada).post("/api/printers/", facts(name="Anvil")), 409, "conflict")


# -- addresses
NAMES = {
    "printer-1": ["192.168.1.20"],
    "both.lan": ["8.8.8.8", "10.0.0.9"],
    "outside.example": ["93.184.216.34"],
    "metadata.example": ["169.254.169.254"],
    "six.example": ["fe80::1"],
}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A network of our own; addresses written as numbers are read as ever."""
    known, real = dict(NAMES), socket.getaddrinfo

    def look_up(host: str, port: Any, *args: Any, **options: Any) -> Any:
        if host not in known and any(letter in host for letter in "ghijklmnopqrstuvwyz"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for ip in known.get(host, [host]) for found in real(ip, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "http://169.254.169.254:80/latest/meta-data",
        "http://2852039166/",  # the same as one number
        "http://0251.0376.0251.0376/",  # and in octal
        "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",  # a cloud's metadata on IPv6
        "http://0.0.0.0/",
        "http://[::]/",
        "http://224.0.0.1/",
        "http://8.8.8.8",
        "http://134744072/",
        "http://[2001:4860:4860::8888]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://100.100.100.200/",
        "http://outside.example",
        "http://metadata.example",
        "http://six.example",
        "file:///etc/passwd",
        "ftp://192.168.1.20",
        "gopher://192.168.1.20",
        "javascript:alert(1)",
        "//192.168.1.20",
        "192.168.1.20:5000",
        "http://",
        "http://:5000",
        "http://user:password@192.168.1.20",
        "http://192.168.1.20@8.8.8.8",
        "http://user@192.168.1.20",
        "http://192.168.1.20?x=1",
        "http://192.168.1.20#x",
        "http://192.168.1.20:99999",
        "http://192.168.1.20:0",
        "http://192.168.1.20:port",
        "http://[192.168.1.20",
        "http://printer 1",
        "http://printer-1\\@8.8.8.8",
        "http://<script>",
        "http://printer-1/%0d%0aX-Api-Key:",
        "http://printer-1/../../etc",
    ],
)
def test_a_printer_lives_only_in_the_labs_networks(cast: Cast, names: Any, url: str) -> None:
    body = refused(api(cast.ada).post("/api/printers/", facts(url=url)), 422, "invalid")
    assert body["extra"] == {"field": "url"}
    refused(api(cast.ada).patch(at(cast.anvil), {"url": url}), 422, "invalid")
    assert Printer.objects.get(pk=cast.anvil.pk).url == "http://127.0.0.1:9"
    assert Printer.objects.count() == 2


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("http://192.168.1.20:5000/", "http://192.168.1.20:5000"),
        (" HTTPS://printer-1 ", "https://printer-1"),
        ("http://10.1.2.3/octoprint/", "http://10.1.2.3/octoprint"),
        ("http://[::1]:7125", "http://[::1]:7125"),
        ("http://[fd12::5]", "http://[fd12::5]"),
        ("http://both.lan", "http://both.lan"),
        ("http://not-yet-plugged-in.lan", "http://not-yet-plugged-in.lan"),
    ],
)
def test_addresses_of_the_lab_are_kept_in_one_form(cast: Cast, names: Any, url: str, stored: str) -> None:
    assert ok(api(cast.ada).post("/api/printers/", facts(url=url)), 201)["url"] == stored


def test_a_lab_may_name_its_networks_but_not_a_clouds_metadata(cast: Cast, names: Any, settings: Settings) -> None:
    from ipaddress import ip_network

    settings.FARM_PRINTER_NETWORKS = [ip_network("0.0.0.0/0"), ip_network("::/0")]
    ok(api(cast.ada).post("/api/printers/", facts(url="http://93.184.216.34")), 201)
    for url in ("http://169.254.169.254", "http://[fe80::1]", "http://[fd00:ec2::254]"):
        refused(api(cast.ada).post("/api/printers/", facts(name="Tin", url=url)), 422)


# -- can we reach it
@contextmanager
def web(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[BaseHTTPRequestHandler]]]:
    """A server of ours on this machine, and what it was asked."""
    asked: list[BaseHTTPRequestHandler] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self)
            answer(self)

        do_POST = do_GET  # noqa: N815 - http.server looks for this name

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lives_at(printer: Printer, url: str) -> None:
    Printer.objects.filter(pk=printer.pk).update(url=url)


def test_a_printer_that_answers_says_what_it_is(cast: Cast, machines: Machines, manager: User) -> None:
    found = ok(api(manager).post(at(cast.anvil, "test")))
    assert (found["software"], found["status"]) == ("Fake 1.0", "idle")
    assert "pause" in found["capabilities"]
    assert machines[cast.anvil].open_drivers == 0


def test_testing_is_for_those_who_manage(cast: Cast, machines: Machines) -> None:
    refused(api(cast.olivia).post(at(cast.anvil, "test")), 403, "forbidden")
    refused(api(cast.olivia).post(at(cast.cellar, "test")), 404, "not_found")
    assert machines[cast.anvil].calls == []


def test_a_wrong_key_an_unknown_host_and_a_printer_that_is_off_have_each_their_sentence(
    cast: Cast, machines: Machines
) -> None:
    machine, client = machines[cast.anvil], api(cast.ada)
    machine.faults["identify"] = Unauthorised("It does not accept the API key.")
    body = refused(client.post(at(cast.anvil, "test")), 422, "wrong_key")
    assert "Copy the key again" in body["message"]
    machine.faults["identify"] = away()
    body = refused(client.post(at(cast.anvil, "test")), 503, "unreachable")
    assert "Is it on" in body["message"]
    assert machine.open_drivers == 0


def test_a_name_that_nobody_has_is_said_to_be_that(cast: Cast, names: Any) -> None:
    lives_at(cast.anvil, "http://nowhere.lan")
    body = refused(api(cast.ada).post(at(cast.anvil, "test")), 503, "unreachable")
    assert "No machine on the network is called nowhere.lan" in body["message"]


def test_what_is_no_printer_is_said_to_be_none(cast: Cast) -> None:
    def a_web_page(to: BaseHTTPRequestHandler) -> None:
        body = b"<html>the router's log-in</html>"
        to.send_response(200)
        to.send_header("Content-Type", "text/html")
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    with web(a_web_page) as (url, asked):
        lives_at(cast.anvil, url)
        refused(api(cast.ada).post(at(cast.anvil, "test")), 503, "not_understood")
        assert asked


def test_a_redirect_is_not_followed_and_the_key_stays_here(cast: Cast) -> None:
    def nothing(to: BaseHTTPRequestHandler) -> None:
        to.send_response(204)
        to.end_headers()

    with web(nothing) as (elsewhere, asked_elsewhere):

        def away_from_here(to: BaseHTTPRequestHandler) -> None:
            to.send_response(302)
            to.send_header("Location", elsewhere + to.path)
            to.send_header("Content-Length", "0")
            to.end_headers()

        with web(away_from_here) as (url, asked):
            lives_at(cast.anvil, url)
            refused(api(cast.ada).post(at(cast.anvil, "test")), 503)
            assert asked[0].headers["X-Api-Key"] == KEY
    assert asked_elsewhere == []


def test_a_name_that_moves_to_a_forbidden_address_is_not_called(cast: Cast, names: dict[str, list[str]]) -> None:
    ok(api(cast.ada).patch(at(cast.anvil), {"url": "http://printer-1", "api_key": "key"}))
    names["printer-1"] = ["169.254.169.254"]
    body = refused(api(cast.ada).post(at(cast.anvil, "test")), 503, "unreachable")
    assert "not in the networks" in body["message"]


def test_a_server_that_repeats_our_key_does_not_get_it_shown(
    cast: Cast, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def echo(to: BaseHTTPRequestHandler) -> None:
        body = f'{{"error": "no such key: {to.headers["X-Api-Key"]}"}}'.encode()
        to.send_response(403)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    with web(echo) as (url, asked):
        lives_at(cast.anvil, url)
        answer = api(cast.ada).post(at(cast.anvil, "test"))
    assert asked[0].headers["X-Api-Key"] == KEY
    said = refused(answer, 422, "wrong_key")["message"]
    assert KEY not in said + caplog.text + "".join(capfd.readouterr())


# -- the key
def test_a_key_goes_in_and_never_comes_out(
    cast: Cast, manager: User, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    client, new = api(manager), "a-new-key-8731"
    answers = [
        client.patch(at(cast.anvil), {"api_key": new}),
        client.patch(at(cast.anvil), {"api_key": new, "name": "two\nlines"}),
        client.get(at(cast.anvil)),
        client.get("/api/printers/"),
        client.get(at(cast.anvil, "state")),
        api(cast.ada).post("/api/printers/", facts(api_key=new)),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 200, 200, 200, 201]
    said = "".join(answer.content.decode() for answer in answers) + caplog.text + "".join(capfd.readouterr())
    for key in (new, KEY, "sealed"):
        assert key not in said
    cast.anvil.refresh_from_db()
    assert unseal(cast.anvil.sealed_key) == new


def test_the_admins_history_does_not_know_the_key(cast: Cast) -> None:
    form = {
        "name": "Anvil", "kind": "octoprint", "url": "http://127.0.0.1:9", "api_key": "a-new-key-8731", "place": "",
        "profile": str(cast.anvil.profile_id), "enabled": "on", "maintenance": "", "camera": "server",
    }  # fmt: skip
    answer = as_(cast.ada).post(f"/admin/printers/printer/{cast.anvil.pk}/change/", form)
    assert answer.status_code == 302
    entry = LogEntry.objects.get()
    assert "8731" not in f"{entry.change_message} {entry.object_repr}"


# -- changing
def test_those_who_manage_change_a_printer_and_others_do_not(cast: Cast, manager: User) -> None:
    row = ok(api(manager).patch(at(cast.anvil), {"place": "Cupboard", "maintenance": "Nozzle is worn"}))
    assert (row["place"], row["maintenance"]) == ("Cupboard", "Nozzle is worn")
    for user, status in ((cast.sam, 403), (cast.olivia, 403), (cast.mallory, 404)):
        refused(api(user).patch(at(cast.anvil), {"place": "Pocket"}), status)
    refused(api(manager).patch(at(cast.cellar), {"place": "Pocket"}), 404)
    assert set(Printer.objects.values_list("place", flat=True)) == {"Cupboard", "Bench"}


def test_a_change_that_is_half_wrong_changes_nothing(cast: Cast) -> None:
    refused(api(cast.ada).patch(at(cast.anvil), {"place": "Cupboard", "url": "http://8.8.8.8"}), 422)
    refused(api(cast.ada).patch(at(cast.anvil), {"place": "Cupboard", "kind": "teapot"}), 422)
    cast.anvil.refresh_from_db()
    assert cast.anvil.place == "Bench"


def test_a_bed_is_not_cleared_by_changing_the_printer(cast: Cast) -> None:
    refused(api(cast.ada).patch(at(cast.anvil), {"bed_clear": True}), 422, "invalid")
    assert not bed_is_clear(cast.anvil)


def test_another_name_is_taken_only_once(cast: Cast) -> None:
    refused(api(cast.ada).patch(at(cast.anvil), {"name": "Cellar"}), 409, "conflict")
    assert ok(api(cast.ada).patch(at(cast.anvil), {"name": "Anvil II"}))["name"] == "Anvil II"


def test_another_address_waits_for_the_end_of_the_print_and_makes_the_bed_not_clear(cast: Cast) -> None:
    BedClear.objects.create(printer=cast.anvil, n=1, by=cast.ada)
    live = attempt(job(cast.sam), cast.anvil)
    refused(api(cast.ada).patch(at(cast.anvil), {"url": "http://127.0.0.1:8", "api_key": "key"}), 409)
    Print.objects.filter(pk=live.pk).update(status=PrintStatus.COMPLETED)
    refused(api(cast.ada).patch(at(cast.anvil), {"url": "http://127.0.0.1:8"}), 422)
    ok(api(cast.ada).patch(at(cast.anvil), {"url": "http://127.0.0.1:8", "api_key": "key"}))
    assert ok(api(cast.ada).get(at(cast.anvil, "state")))["bed_clear"] is False


# -- removing
def test_a_printer_is_removed_by_those_who_manage_it_and_its_history_stays(cast: Cast, manager: User) -> None:
    done = attempt(job(cast.sam), cast.anvil, PrintStatus.COMPLETED)
    for user, status in ((cast.sam, 403), (cast.olivia, 403), (cast.mallory, 404)):
        refused(api(user).delete(at(cast.anvil)), status)
    ok(api(manager).delete(at(cast.anvil)), 204)
    refused(api(cast.ada).get(at(cast.anvil)), 404)
    row = ok(api(cast.sam).get(f"/api/prints/{done.pk}/"))
    assert (row["printer"], row["printer_name"]) == (None, "Anvil")


def test_a_printer_is_not_removed_from_under_a_print_or_a_waiting_job(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    refused(api(cast.ada).delete(at(cast.anvil)), 409)
    Print.objects.filter(pk=live.pk).update(status=PrintStatus.COMPLETED)
    waiting = job(cast.tina, printer=cast.anvil)
    refused(api(cast.ada).delete(at(cast.anvil)), 409)
    type(waiting).objects.filter(pk=waiting.pk).update(status=JobStatus.CANCELLED)
    ok(api(cast.ada).delete(at(cast.anvil)), 204)
    assert ok(api(cast.tina).get(f"/api/jobs/{waiting.pk}/"))["printer"] is None, "its history stays without it"


# -- its state
def state(user: User, of: Printer) -> dict[str, Any]:
    found: dict[str, Any] = ok(api(user).get(at(of, "state")))
    return found


SHAPE = {
    "status", "stale", "age", "message", "temperatures", "bed_clear", "bed", "job", "name", "place", "enabled",
    "maintenance", "since", "waiting", "next",
}  # fmt: skip
FOR_EVERYONE = {"progress", "elapsed_s", "left_s", "status", "material", "layer", "layers"}
FOR_A_FEW = FOR_EVERYONE | {"id", "print", "file", "person"}


def test_an_idle_printers_state_is_what_the_contract_says(cast: Cast) -> None:
    found = state(cast.sam, cast.anvil)
    assert set(found) == SHAPE
    assert 0 <= found.pop("age") < 15
    assert abs(found.pop("since") - time.time()) < 60
    assert found == {
        "status": "idle", "stale": False, "message": "", "bed_clear": False, "bed": 1, "job": None,
        "waiting": 0, "next": None,
        "temperatures": {"tool0": {"actual": 209.6, "target": 210.0}, "bed": {"actual": 60.2, "target": 60.0}},
        "name": "Anvil", "place": "Bench", "enabled": True, "maintenance": "",
    }  # fmt: skip


def test_a_print_is_told_to_its_owner_and_operators_and_only_its_progress_to_others(cast: Cast) -> None:
    live = attempt(job(cast.sam, name="gift.stl"), cast.anvil)
    for user in (cast.sam, cast.olivia, cast.ada):
        assert state(user, cast.anvil)["job"] == {
            "progress": 0.421, "elapsed_s": 600.0, "left_s": 2700.0, "status": "printing", "id": str(live.job_id),
            "print": str(live.pk), "file": "gift.stl", "person": "Sam", "material": "", "layer": None, "layers": None,
        }  # fmt: skip
    shown = api(cast.tina).get(at(cast.anvil, "state"))
    assert set(ok(shown)["job"]) == FOR_EVERYONE
    for secret in ("gift", "Sam", str(live.pk), str(live.job_id), live.remote_path):
        assert secret not in shown.content.decode()


def test_who_waits_for_a_printer_is_told_to_its_owner_and_operators_and_to_others_how_many(cast: Cast) -> None:
    first, second = (
        job(owner, name=name, printer=cast.anvil) for owner, name in ((cast.sam, "gift.stl"), (cast.tina, "b.stl"))
    )
    job(cast.tina, printer=cast.anvil, hold=True)
    job(cast.tina)
    assert state(cast.sam, cast.anvil)["next"] == {"id": str(first.pk), "file": "gift.stl", "person": "Sam"}
    assert state(cast.olivia, cast.anvil)["next"]["person"] == "Sam"
    shown = state(cast.tina, cast.anvil)
    assert (shown["waiting"], shown["next"]) == (2, None), "the first is not hers"
    type(first).objects.filter(pk=first.pk).update(status=JobStatus.CANCELLED)
    assert state(cast.tina, cast.anvil)["next"]["id"] == str(second.pk)


def test_what_it_prints_with_is_told_to_everyone(cast: Cast) -> None:
    revision = ProfileRevision.objects.filter(kind="material").first()
    assert revision is not None
    attempt(job(cast.sam, material=revision), cast.anvil)
    assert state(cast.tina, cast.anvil)["job"]["material"] == revision.name


def test_the_layer_that_is_printed_is_told_to_everyone(cast: Cast) -> None:
    code = gcode(cast.anvil)
    Gcode.objects.filter(pk=code.pk).update(layer_begins=packed([0.1, 0.3, 0.4, 0.9]))
    live = attempt(job(cast.sam, gcode=code), cast.anvil, gcode=code)

    def layer(**said: Any) -> tuple[int, int]:
        says(cast.anvil, PrinterStatus.PRINTING, job=LiveJob(file=live.remote_path, **said))
        found = state(cast.tina, cast.anvil)["job"]
        return found["layer"], found["layers"]

    assert layer(progress=0.05) == (0, 4)
    assert layer(progress=0.421) == (3, 4)
    assert layer(progress=0.9, read=0.35) == (2, 4), "progress of time says nothing of the file"
    says(cast.anvil, PrinterStatus.PRINTING, job=LiveJob(file="private.gcode", progress=0.421))
    assert state(cast.tina, cast.anvil)["job"]["layer"] is None


def test_a_print_begun_at_the_machine_is_shown_as_nobodys(cast: Cast) -> None:
    says(cast.anvil, PrinterStatus.PRINTING, job=LiveJob(file="private.gcode", progress=0.5))
    assert state(cast.olivia, cast.anvil)["job"] == {
        "progress": 0.5, "elapsed_s": None, "left_s": None, "status": "external", "id": None, "print": None,
        "file": "private.gcode", "person": None, "material": "", "layer": None, "layers": None,
    }  # fmt: skip
    assert state(cast.sam, cast.anvil)["job"] == {
        "progress": 0.5, "elapsed_s": None, "left_s": None, "status": "external", "material": "", "layer": None,
        "layers": None,
    }  # fmt: skip


def test_somebody_elses_print_at_the_machine_is_not_taken_for_the_farms_own(cast: Cast) -> None:
    """Sam's print is being uploaded while somebody starts another at the screen."""
    attempt(job(cast.sam), cast.anvil, PrintStatus.UPLOADING)
    says(cast.anvil, PrinterStatus.PRINTING, job=LiveJob(file="private.gcode", progress=0.5))
    assert state(cast.sam, cast.anvil)["job"]["status"] == "external"
    assert "file" not in state(cast.sam, cast.anvil)["job"]


@pytest.mark.parametrize("status", list(PrinterStatus))
def test_every_status_is_one_of_the_contracts(cast: Cast, status: PrinterStatus) -> None:
    says(cast.anvil, status, message="Something is up.")
    found = state(cast.sam, cast.anvil)
    assert found["status"] in {"offline", "connecting", "idle", "printing", "paused", "busy", "error"}
    assert found["message"] == "Something is up."


def test_a_printer_that_says_nothing_for_a_while_is_stale(cast: Cast) -> None:
    falls_silent(cast.anvil, seconds=16)
    found = state(cast.sam, cast.anvil)
    assert (found["status"], found["stale"]) == ("idle", True)
    assert found["age"] >= 16


def test_a_printer_that_was_never_heard_of_is_offline(cast: Cast) -> None:
    telemetry.forget(cast.anvil.pk)
    found = state(cast.sam, cast.anvil)
    assert set(found) == SHAPE
    assert (found["status"], found["stale"], found["age"], found["temperatures"], found["job"]) == (
        "offline", True, None, {}, None,
    )  # fmt: skip


def test_a_printer_that_was_switched_off_is_offline_whatever_it_said_last(cast: Cast) -> None:
    ok(api(cast.ada).patch(at(cast.anvil), {"enabled": False}))
    found = state(cast.sam, cast.anvil)
    assert (found["status"], found["enabled"], found["temperatures"]) == ("offline", False, {})


def test_a_silent_sensor_is_null(cast: Cast) -> None:
    heat = {"tool0": Temperature(actual=None, target=0.0)}
    telemetry.forget(cast.anvil.pk)
    telemetry.put(cast.anvil.pk, 1, 1, PrinterState(status=PrinterStatus.IDLE, temperatures=heat))
    assert state(cast.sam, cast.anvil)["temperatures"] == {"tool0": {"actual": None, "target": 0.0}}


# -- its bed
def clear(user: User, of: Printer, n: Any) -> Any:
    return api(user).post(at(of, "clear-bed"), {"bed": n})


def test_an_operator_clears_the_bed_that_the_state_showed(cast: Cast) -> None:
    n = state(cast.olivia, cast.anvil)["bed"]
    found = ok(clear(cast.olivia, cast.anvil, n))
    assert set(found) == SHAPE
    assert (found["bed"], found["bed_clear"]) == (n, True)
    assert BedClear.objects.get(printer=cast.anvil).by == cast.olivia


def test_clearing_twice_is_harmless(cast: Cast) -> None:
    ok(clear(cast.olivia, cast.anvil, 1))
    ok(clear(cast.ada, cast.anvil, 1))
    assert BedClear.objects.get(printer=cast.anvil).by == cast.olivia


@pytest.mark.parametrize("n", [0, 1, 3, 10**30, -1])
def test_another_bed_than_the_present_one_is_not_cleared(cast: Cast, n: int) -> None:
    Printer.objects.filter(pk=cast.anvil.pk).update(bed=2)
    body = refused(clear(cast.olivia, cast.anvil, n), 409 if abs(n) < 2**63 else 422)
    if abs(n) < 2**63:
        assert (body["code"], body["extra"]) == ("bed_changed", {"bed": 2})
    assert not BedClear.objects.exists()


@pytest.mark.parametrize("n", [None, "one", "1", 1.0, True, [1], {}])
def test_a_bed_is_a_whole_number(cast: Cast, n: Any) -> None:
    assert refused(clear(cast.olivia, cast.anvil, n), 422)["extra"] == {"field": "bed"}


def test_a_bed_is_cleared_only_while_the_printer_is_idle_and_heard(cast: Cast) -> None:
    for status in set(PrinterStatus) - {PrinterStatus.IDLE}:
        says(cast.anvil, status)
        refused(clear(cast.olivia, cast.anvil, 1), 409, "not_idle")
    says(cast.anvil)
    falls_silent(cast.anvil)
    refused(clear(cast.olivia, cast.anvil, 1), 409, "not_idle")
    says(cast.anvil)
    attempt(job(cast.sam), cast.anvil, PrintStatus.UPLOADING)
    refused(clear(cast.olivia, cast.anvil, 1), 409, "not_idle")
    assert not BedClear.objects.exists()


def test_only_those_who_operate_clear_beds(cast: Cast) -> None:
    refused(clear(cast.sam, cast.anvil, 1), 403)
    refused(clear(cast.mallory, cast.anvil, 1), 404)
    assert not BedClear.objects.exists()


# -- commands
def command(user: User, of: Printer, **body: Any) -> Any:
    return api(user).post(at(of, "commands"), body)


@pytest.mark.parametrize(
    ("body", "args"),
    [
        ({"command": "home"}, {"axes": ["x", "y", "z"]}),
        ({"command": "home", "axes": ["z"]}, {"axes": ["z"]}),
        ({"command": "jog", "x": 10, "z": -0.5}, {"moves": {"x": 10.0, "z": -0.5}, "speed": 50.0}),
        ({"command": "jog", "y": 1, "speed": 20}, {"moves": {"y": 1.0}, "speed": 20.0}),
        (
            {"command": "set_temperature", "heater": "bed", "target": 60},
            {"heater": "bed", "target": 60.0},
        ),
        ({"command": "gcode", "lines": ["M105", "g28 x"]}, {"lines": ["M105", "g28 x"]}),
    ],
)
def test_a_command_is_taken_and_its_outcome_is_told_later(cast: Cast, body: dict[str, Any], args: Any) -> None:
    taken = ok(command(cast.olivia, cast.anvil, **body), 202)
    row = Command.objects.get(pk=taken["id"])
    assert (row.printer, row.kind, row.args, row.by) == (cast.anvil, body["command"], args, cast.olivia)
    assert taken["status"] == "queued"
    Command.objects.filter(pk=row.pk).update(status=CommandStatus.REFUSED, message="The printer is finishing.")
    outcome = ok(api(cast.olivia).get(at(cast.anvil, "commands", row.pk)))
    assert (outcome["status"], outcome["message"]) == ("refused", "The printer is finishing.")
    assert set(outcome) == {
        "id", "command", "args", "print", "person", "status", "message", "created_at", "ended_at", "answer",
    }  # fmt: skip


def test_a_restart_of_the_firmware_is_for_printers_that_can(cast: Cast) -> None:
    from printers.drivers import DRIVERS

    for kind, driver in DRIVERS.items():
        Printer.objects.filter(pk=cast.anvil.pk).update(kind=kind)
        answer = command(cast.olivia, cast.anvil, command="firmware_restart")
        if "firmware_restart" in driver.capabilities:
            ok(answer, 202)
        else:
            refused(answer, 422, "unsupported")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"command": "dance"},
        {"command": None},
        {"command": ["home"]},
        {"command": "home", "axes": ["q"]},
        {"command": "home", "axes": []},
        {"command": "home", "axes": "x"},
        {"command": "jog"},
        {"command": "jog", "x": 0},
        {"command": "jog", "x": 501},
        {"command": "jog", "x": "far"},
        {"command": "jog", "x": "1e400"},
        {"command": "jog", "x": "nan"},
        {"command": "jog", "x": 1, "speed": 0},
        {"command": "set_temperature", "heater": "tool0"},
        {"command": "set_temperature", "heater": "tool0", "target": 286},
        {"command": "set_temperature", "heater": "tool0", "target": -1},
        {"command": "set_temperature", "heater": "bed", "target": 111},
        {"command": "set_temperature", "heater": "sauna", "target": 60},
        {"command": "set_temperature", "heater": "tool99", "target": 60},
        {"command": "gcode"},
        {"command": "gcode", "lines": []},
        {"command": "gcode", "lines": "M105"},
        {"command": "gcode", "lines": ["M104 S400"]},
        {"command": "gcode", "lines": ["M109 R400"]},
        {"command": "gcode", "lines": ["SET_HEATER_TEMPERATURE HEATER=extruder TARGET=400"]},
        {"command": "gcode", "lines": ["M500"]},
        {"command": "gcode", "lines": ["M997"]},
        {"command": "gcode", "lines": ["M23 part.gco", "M24"]},
        {"command": "gcode", "lines": ["M32 part.gco"]},
        {"command": "gcode", "lines": ["SDCARD_PRINT_FILE FILENAME=part.gcode"]},
        {"command": "gcode", "lines": ["RESUME"]},
        {"command": "gcode", "lines": ["M105\nM500"]},
        {"command": "gcode", "lines": ["@pause"]},
        {"command": "gcode", "lines": ["M105"] * 51},
        {"command": "pause"},
        {"command": "cancel", "print": None},
    ],
)
def test_a_command_that_makes_no_sense_is_refused(cast: Cast, body: dict[str, Any]) -> None:
    answer = api(cast.olivia).post(at(cast.anvil, "commands"), body)
    assert answer.status_code in (400, 422)
    refused(answer, answer.status_code)
    assert not Command.objects.exists()


@pytest.mark.parametrize("kind", ["start", "select", "print", "upload", "START"])
def test_nothing_here_starts_a_print(cast: Cast, kind: str) -> None:
    for user in (cast.olivia, cast.ada):
        refused(command(user, cast.anvil, command=kind, path="part.gcode"), 422, "invalid")
    assert not Command.objects.exists()


def test_print_true_means_nothing_here(cast: Cast) -> None:
    taken = ok(api(cast.olivia).post(at(cast.anvil, "commands"), {"command": "home", "path": "a.gcode"}), 202)
    assert taken["args"] == {"axes": ["x", "y", "z"]}
    refused(api(cast.olivia).post(at(cast.anvil, "files"), {"path": "a.gcode", "print": True}), 405)


@pytest.mark.parametrize("kind", ["pause", "resume", "cancel"])
def test_a_print_is_paused_resumed_and_cancelled_by_its_id(cast: Cast, kind: str) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    refused(command(cast.olivia, cast.anvil, command=kind, print=str(uuid4())), 409, "not_live")
    taken = ok(command(cast.olivia, cast.anvil, command=kind, print=str(live.pk)), 202)
    assert (taken["command"], taken["print"], taken["person"]) == (kind, str(live.pk), "Olivia")
    Print.objects.filter(pk=live.pk).update(status=PrintStatus.COMPLETED)
    refused(command(cast.olivia, cast.anvil, command=kind, print=str(live.pk)), 409, "not_live")


def test_an_owner_commands_the_own_print_and_nothing_else(cast: Cast) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    taken = ok(command(cast.sam, cast.anvil, command="pause", print=str(live.pk)), 202)
    assert ok(api(cast.sam).get(at(cast.anvil, "commands", taken["id"])))["status"] == "queued"
    for kind in set(CommandKind.values) - {"pause", "resume", "cancel"}:
        refused(command(cast.sam, cast.anvil, command=kind, print=str(live.pk)), 403)
    refused(command(cast.tina, cast.anvil, command="pause", print=str(live.pk)), 403)
    refused(command(cast.mallory, cast.anvil, command="pause", print=str(live.pk)), 404)
    assert Command.objects.count() == 1


def test_an_owner_whose_print_has_just_ended_is_told_so(cast: Cast) -> None:
    ended = attempt(job(cast.sam), cast.anvil)
    Print.objects.filter(pk=ended.pk).update(status=PrintStatus.COMPLETED)
    attempt(job(cast.tina), cast.anvil)
    refused(command(cast.sam, cast.anvil, command="cancel", print=str(ended.pk)), 409, "not_live")
    refused(command(cast.sam, cast.anvil, command="cancel"), 403)
    assert not Command.objects.exists()


def test_what_became_of_a_command_is_told_to_operators_and_to_who_gave_it(cast: Cast) -> None:
    given = ok(command(cast.olivia, cast.anvil, command="home"), 202)["id"]
    ok(api(cast.ada).get(at(cast.anvil, "commands", given)))
    for user in (cast.sam, cast.mallory):
        refused(api(user).get(at(cast.anvil, "commands", given)), 404)
    refused(api(cast.ada).get(at(cast.cellar, "commands", given)), 404)
    assert [row["id"] for row in ok(api(cast.olivia).get(at(cast.anvil, "commands")))["results"]] == [given]
    refused(api(cast.sam).get(at(cast.anvil, "commands")), 403)


@pytest.mark.parametrize(
    "body", [{"command": "home"}, {"command": "jog", "x": 1}, {"command": "gcode", "lines": ["M105"]}]
)
def test_what_would_ruin_a_print_waits_for_its_end(cast: Cast, body: dict[str, Any]) -> None:
    attempt(job(cast.sam), cast.anvil)
    refused(command(cast.olivia, cast.anvil, **body), 409, "printing")
    assert not Command.objects.exists()


def test_a_printer_that_is_not_heard_is_not_moved(cast: Cast) -> None:
    falls_silent(cast.anvil)
    refused(command(cast.olivia, cast.anvil, command="home"), 409, "stale")


def test_an_emergency_stop_is_sent_at_once_and_the_bed_is_no_longer_clear(cast: Cast, machines: Machines) -> None:
    ok(clear(cast.olivia, cast.anvil, 1))
    attempt(job(cast.sam), cast.anvil)
    taken = ok(command(cast.olivia, cast.anvil, command="emergency_stop"), 202)
    assert taken["status"] == "done"
    assert machines[cast.anvil].asked("emergency_stop") == [()]
    assert not bed_is_clear(Printer.objects.get(pk=cast.anvil.pk))


def test_an_emergency_stop_that_does_not_arrive_sends_people_to_the_machine(cast: Cast, machines: Machines) -> None:
    for fault, status in ((away(), "failed"), (Unclear("It did not answer."), "unclear")):
        machines[cast.anvil].faults["emergency_stop"] = fault
        taken = ok(command(cast.olivia, cast.anvil, command="emergency_stop"), 202)
        assert taken["status"] == status
        assert "Go to the machine" in taken["message"]


# -- files and objects on it
def test_operators_list_and_delete_files_on_the_machine(cast: Cast, machines: Machines) -> None:
    machines[cast.anvil].files = {"old.gcode": b"G28", "sub/new.gcode": b"G28\n"}
    client = api(cast.olivia)
    page = ok(client.get(at(cast.anvil, "files")))
    assert list(page) == ["next", "previous", "results"]
    assert {"path": "old.gcode", "size": 3, "location": "local", "modified": None} in page["results"]
    ok(client.delete(at(cast.anvil, "files") + "?path=sub/new.gcode"), 204)
    assert list(machines[cast.anvil].files) == ["old.gcode"]
    ok(client.get(at(cast.anvil, "files") + "?location=sdcard"))
    assert machines[cast.anvil].asked("list_files") == [("local",), ("sdcard",)]


def test_files_need_a_path_and_a_place_that_exists(cast: Cast, machines: Machines) -> None:
    client = api(cast.olivia)
    refused(client.delete(at(cast.anvil, "files")), 422)
    refused(client.get(at(cast.anvil, "files") + "?location=floppy"), 422)
    assert machines[cast.anvil].calls == []


def test_the_file_of_a_live_print_is_not_deleted(cast: Cast, machines: Machines) -> None:
    live = attempt(job(cast.sam), cast.anvil)
    refused(api(cast.ada).delete(at(cast.anvil, "files") + f"?path={live.remote_path}"), 409, "in_use")
    assert machines[cast.anvil].calls == []


def test_files_and_objects_are_for_operators(cast: Cast, machines: Machines) -> None:
    for path in (at(cast.anvil, "files"), at(cast.anvil, "objects")):
        refused(api(cast.sam).get(path), 403)
        refused(api(cast.mallory).get(path), 404)
    refused(api(cast.sam).delete(at(cast.anvil, "files") + "?path=x"), 403)
    assert machines[cast.anvil].calls == []


def test_objects_are_asked_for_by_name(cast: Cast, machines: Machines) -> None:
    found = ok(api(cast.olivia).get(at(cast.anvil, "objects") + "?name=extruder&name=heater_bed"))
    assert found == {"extruder": {}, "heater_bed": {}}


@pytest.mark.parametrize("what", ["files", "objects"])
def test_a_printer_that_is_away_is_said_to_be(cast: Cast, machines: Machines, what: str) -> None:
    machines[cast.anvil].faults["list_files" if what == "files" else "objects"] = away()
    refused(api(cast.olivia).get(at(cast.anvil, what)), 503)
