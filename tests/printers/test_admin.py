from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from printers.credentials import unseal
from printers.drivers.base import Camera
from printers.models import BedClear, Grant, Lease, Pool, Printer, Role
from printers.services import bed_is_clear
from printers.webcam import camera_of
from tests.cast import KEY, Cast, as_, attempt, job

pytestmark = pytest.mark.django_db
LIST = "/admin/printers/printer/"


@pytest.fixture
def cast() -> Cast:
    return Cast()


def form(cast: Cast, **changes: Any) -> dict[str, Any]:
    return {
        "name": "Anvil", "kind": "octoprint", "url": "http://127.0.0.1:9", "api_key": "", "place": "Bench",
        "profile": str(cast.anvil.profile_id), "enabled": "on", "maintenance": "", "camera": "server",
        **changes,
    }  # fmt: skip


def action(client: Client, name: str, *printers: Printer, **more: Any) -> Any:
    chosen = {"action": name, "_selected_action": [str(printer.pk) for printer in printers], **more}
    return client.post(LIST, chosen, follow=True)


def said(answer: Any) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


# -- adding and changing
def test_a_printer_is_added_with_a_sealed_key_and_a_lease(cast: Cast) -> None:
    answer = as_(cast.ada).post(
        f"{LIST}add/", form(cast, name="Zinc", api_key="s3cret-key", bed_clear="on"), follow=True
    )
    assert "was added successfully" in said(answer)
    made = Printer.objects.get(name="Zinc")
    assert unseal(made.sealed_key) == "s3cret-key"
    assert "s3cret-key" not in made.sealed_key
    assert Lease.objects.filter(printer=made).exists()
    assert BedClear.objects.get(printer=made).by == cast.ada


def test_a_key_is_never_shown_and_stays_when_none_is_given(cast: Cast) -> None:
    client, path = as_(cast.ada), f"{LIST}{cast.anvil.pk}/change/"
    assert KEY not in client.get(path).content.decode()
    assert client.post(path, form(cast, place="Cupboard")).status_code == 302
    cast.anvil.refresh_from_db()
    assert (cast.anvil.place, unseal(cast.anvil.sealed_key)) == ("Cupboard", KEY)
    client.post(path, form(cast, api_key="another"))
    cast.anvil.refresh_from_db()
    assert unseal(cast.anvil.sealed_key) == "another"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"url": "http://8.8.8.8"}, "not in the networks where printers may be"),
        ({"url": "http://127.0.0.1:10"}, "Give the key again with a new address"),
        ({"url": "file:///etc/passwd"}, "starts with http"),
        ({"url": "http://169.254.169.254/"}, "not in the networks"),
        ({"name": "Cellar"}, "already exists"),
        ({"camera": "own"}, "Give the address of the camera"),
        ({"camera": "own", "camera_stream_url": "http://169.254.169.254/latest"}, "not in the networks"),
        ({"camera_snapshot_url": "rtsp://127.0.0.1/stream"}, "address looks like http://"),
    ],
)
def test_what_the_services_refuse_is_said_in_the_form(cast: Cast, changes: dict[str, str], reason: str) -> None:
    answer = as_(cast.ada).post(f"{LIST}{cast.anvil.pk}/change/", form(cast, **changes))
    assert answer.status_code == 200
    assert reason in answer.content.decode()
    cast.anvil.refresh_from_db()
    assert (cast.anvil.name, cast.anvil.url) == ("Anvil", "http://127.0.0.1:9")


def test_staff_say_where_a_camera_is_and_how_its_picture_is_turned(cast: Cast) -> None:
    where = "http://127.0.0.1:8080/?action=stream"
    changes = {"camera": "own", "camera_stream_url": f" {where} ", "camera_rotation": "270", "camera_flip_v": "on"}
    assert as_(cast.ada).post(f"{LIST}{cast.anvil.pk}/change/", form(cast, **changes)).status_code == 302
    cast.anvil.refresh_from_db()
    assert camera_of(cast.anvil) == Camera(stream=where, rotation=270, flip_v=True)
    assert as_(cast.ada).post(f"{LIST}{cast.anvil.pk}/change/", form(cast, camera="off")).status_code == 302
    cast.anvil.refresh_from_db()
    assert camera_of(cast.anvil) is None


def test_an_address_changes_only_when_no_print_is_on_it(cast: Cast) -> None:
    attempt(job(cast.sam), cast.anvil)
    answer = as_(cast.ada).post(
        f"{LIST}{cast.anvil.pk}/change/", form(cast, url="http://127.0.0.1:10", api_key="key"), follow=True
    )
    assert "A print is on this printer" in said(answer)
    cast.anvil.refresh_from_db()
    assert cast.anvil.url == "http://127.0.0.1:9"


def test_another_address_makes_the_bed_not_clear(cast: Cast) -> None:
    BedClear.objects.create(printer=cast.anvil, n=1, by=cast.ada)
    assert (
        as_(cast.ada)
        .post(f"{LIST}{cast.anvil.pk}/change/", form(cast, url="http://127.0.0.1:10", api_key="key"))
        .status_code
        == 302
    )
    cast.anvil.refresh_from_db()
    assert not bed_is_clear(cast.anvil)


def test_a_printer_is_removed_unless_a_print_is_on_it(cast: Cast) -> None:
    client = as_(cast.ada)
    attempt(job(cast.sam), cast.anvil)
    answer = client.post(f"{LIST}{cast.anvil.pk}/delete/", {"post": "yes"}, follow=True)
    assert "A print is on this printer" in said(answer)
    client.post(f"{LIST}{cast.cellar.pk}/delete/", {"post": "yes"})
    assert [printer.name for printer in Printer.objects.all()] == ["Anvil"]


# -- actions
def test_clearing_beds_asks_first_and_then_clears_what_was_seen(cast: Cast) -> None:
    client = as_(cast.ada)
    asked = action(client, "clear_beds", cast.anvil, cast.cellar)
    assert "Yes, they are empty" in asked.content.decode()
    assert not bed_is_clear(cast.anvil)
    Printer.objects.filter(pk=cast.cellar.pk).update(bed=2)  # meanwhile
    beds = {f"bed-{cast.anvil.pk}": "1", f"bed-{cast.cellar.pk}": "1"}
    told = said(action(client, "clear_beds", cast.anvil, cast.cellar, sure="yes", **beds))
    assert "1 cleared" in told
    assert "Cellar: The bed has changed" in told
    cast.cellar.refresh_from_db()
    assert (bed_is_clear(cast.anvil), bed_is_clear(cast.cellar)) == (True, False)


def test_a_forged_bed_number_clears_nothing(cast: Cast) -> None:
    told = said(action(as_(cast.ada), "clear_beds", cast.anvil, sure="yes", **{f"bed-{cast.anvil.pk}": "one"}))
    assert "Bed must be a whole number" in told
    assert not bed_is_clear(cast.anvil)


def test_maintenance_begins_and_ends(cast: Cast) -> None:
    client = as_(cast.ada)
    action(client, "begin_maintenance", cast.anvil)
    cast.anvil.refresh_from_db()
    assert cast.anvil.maintenance == "Taken out of service by Ada"
    action(client, "end_maintenance", cast.anvil)
    cast.anvil.refresh_from_db()
    assert cast.anvil.maintenance == ""


def test_testing_a_connection_says_what_to_do(cast: Cast) -> None:
    told = said(action(as_(cast.ada), "test_connection", cast.anvil))
    assert "Anvil does not answer at http://127.0.0.1:9" in told
    assert KEY not in told


def test_operators_and_students_have_no_actions(cast: Cast) -> None:
    for user in (cast.olivia, cast.sam):
        action(as_(user), "begin_maintenance", cast.anvil)
        cast.anvil.refresh_from_db()
        assert cast.anvil.maintenance == ""


# -- records and rights
def test_clears_leases_and_commands_are_only_to_be_read(cast: Cast) -> None:
    client = as_(cast.ada)
    for name in ("bedclear", "command", "lease"):
        assert client.get(f"/admin/printers/{name}/add/").status_code == 403
    lease = Lease.objects.get(printer=cast.anvil)
    client.post(f"/admin/printers/lease/{lease.pk}/change/", {"holder": "me", "fence": 99})
    lease.refresh_from_db()
    assert (lease.holder, lease.fence) == ("", 0)


def test_staff_grant_a_printer_or_a_pool_to_a_person_or_a_group(cast: Cast) -> None:
    client = as_(cast.ada)
    assert (
        client.post("/admin/printers/pool/add/", {"name": "Lab", "printers": [str(cast.cellar.pk)]}).status_code == 302
    )
    pool = Pool.objects.get(name="Lab")
    given = {"user": str(cast.sam.pk), "pool": str(pool.pk), "role": str(int(Role.SUBMIT))}
    assert client.post("/admin/printers/grant/add/", given).status_code == 302
    assert Grant.objects.get(pool=pool).user == cast.sam
    both = client.post("/admin/printers/grant/add/", {**given, "printer": str(cast.cellar.pk)})
    assert both.status_code == 200  # the form again, with the reason
    assert Grant.objects.filter(user=cast.sam).count() == 2
