from __future__ import annotations

import html
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from slicing.models import Material, PrinterProfile, ProfileRevision
from tests.cast import Cast, as_, gcode, model

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return Cast()


def form(**changes: Any) -> dict[str, Any]:
    untouched = PrinterProfile()
    limits = {
        f"{what}_{axis}": getattr(untouched, f"{what}_{axis}")
        for what in ("max_speed", "max_acceleration", "jerk")
        for axis in "xyze"
    }
    return {
        "name": "Large", "width": "300", "depth": "300", "height": "400", "origin_x": "0", "origin_y": "0",
        "nozzle_diameter": "0.6", "filament_diameter": "1.75", "flavour": "klipper", "max_nozzle_temperature": "285",
        "max_bed_temperature": "110", "acceleration": "1000", "start_gcode": "", "end_gcode": "", "engine": "planar",
        **limits, **changes,
    }  # fmt: skip


def test_a_profile_is_added_and_changing_the_machine_makes_a_new_revision(cast: Cast) -> None:
    client = as_(cast.ada)
    assert client.post("/admin/slicing/printerprofile/add/", form()).status_code == 302
    made = PrinterProfile.objects.get(name="Large")
    path = f"/admin/slicing/printerprofile/{made.pk}/change/"
    assert client.post(path, form(name="Larger")).status_code == 302
    made.refresh_from_db()
    assert (made.name, made.revision) == ("Larger", 1)
    assert client.post(path, form(name="Larger", height="420")).status_code == 302
    made.refresh_from_db()
    assert (made.height, made.revision) == (420.0, 2)


@pytest.mark.parametrize(
    "changes",
    [{"width": "5"}, {"nozzle_diameter": "9"}, {"name": ""}, {"start_gcode": "G28 {power}"}, {"setting_z_hop": "9"}],
)
def test_a_profile_that_makes_no_sense_is_refused_in_the_form(cast: Cast, changes: dict[str, str]) -> None:
    answer = as_(cast.ada).post("/admin/slicing/printerprofile/add/", form(**changes))
    assert answer.status_code == 200
    assert not PrinterProfile.objects.filter(name="Large").exists()


def test_a_material_says_what_it_says_and_leaves_the_rest_open(cast: Cast) -> None:
    client = as_(cast.ada)
    wanted = {"name": "PCTG", "note": "", "order": "5", "setting_nozzle_temperature": "255", "setting_fan_speed": "40"}
    assert client.post("/admin/slicing/material/add/", wanted).status_code == 302
    made = Material.objects.get(name="PCTG")
    assert made.settings == {"nozzle_temperature": 255.0, "fan_speed": 40.0}
    path = f"/admin/slicing/material/{made.pk}/change/"
    assert 'value="255.0"' in client.get(path).content.decode()
    assert client.post(path, {**wanted, "setting_fan_speed": "", "note": "Clear"}).status_code == 302
    made.refresh_from_db()
    assert (made.settings, made.revision, made.note) == ({"nozzle_temperature": 255.0}, 2, "Clear")
    kept = ProfileRevision.objects.filter(profile_id=made.pk).order_by("number")
    assert [row.values for row in kept] == [{"nozzle_temperature": 255.0, "fan_speed": 40.0}, made.settings]


def test_another_material_is_made_the_default_and_the_default_is_not_deleted(cast: Cast) -> None:
    client = as_(cast.ada)
    petg, pla = Material.objects.get(name="PETG"), Material.objects.get(name="PLA")
    client.post("/admin/slicing/material/", {"action": "make_default", "_selected_action": [str(petg.pk)]})
    assert [row.name for row in Material.objects.filter(is_default=True)] == ["PETG"]
    assert client.post(f"/admin/slicing/material/{petg.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"/admin/slicing/material/{pla.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Material.objects.filter(name="PLA").exists()


def test_staff_take_profiles_over_from_prusaslicer(cast: Cast) -> None:
    client, path = as_(cast.ada), "/admin/slicing/printerprofile/take-over/"
    assert b"With start and end G-code" in client.get(path).content
    assert b"take-over" in client.get("/admin/slicing/printerprofile/").content
    config = b"[filament:Wood]\ntemperature = 200\n\n[printer:Oven]\nstart_gcode = [chamber]\nend_gcode = M84\n"
    answer = client.post(path, {"file": SimpleUploadedFile("c.ini", config), "gcode": "on"}, follow=True)
    said = html.unescape(answer.content.decode())
    assert "Made the material Wood." in said
    assert "'chamber', which is not a variable" in said
    assert Material.objects.get(name="Wood").settings == {"nozzle_temperature": 200.0}
    assert not PrinterProfile.objects.filter(name="Oven").exists()
    answer = client.post(path, {"file": SimpleUploadedFile("c.ini", b"hello")})
    assert b"not a config of PrusaSlicer" in answer.content
    assert as_(cast.olivia).get(path).status_code == 302


def test_models_and_gcode_are_only_to_be_read_and_tell_no_path(cast: Cast) -> None:
    client = as_(cast.ada)
    for path, row in (("model3d", model(cast.sam)), ("gcode", gcode(cast.anvil))):
        answer = client.get(f"/admin/slicing/{path}/{row.pk}/change/")
        assert answer.status_code == 200
        assert str(row.file.name) not in answer.content.decode()
        assert client.post(f"/admin/slicing/{path}/{row.pk}/change/", {"name": "x"}).status_code == 403
        assert client.get(f"/admin/slicing/{path}/add/").status_code == 403
