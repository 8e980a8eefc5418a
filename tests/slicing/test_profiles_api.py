"""/api/materials/, /api/qualities/, /api/profiles/ with engine and revisions, taking over from PrusaSlicer."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from pytest_django import Settings

from slicing import profiles
from slicing.models import Material, PrinterProfile, Quality
from slicing.presets import SETTINGS
from tests.api import api, refused
from tests.cast import Cast

pytestmark = pytest.mark.django_db

BUNDLE = """\
[print:Swift]
layer_height = 0.24
top_fill_pattern = hilbertcurve

[filament:Wood]
temperature = 200

[printer:Forge]
bed_shape = 0x0,310x0,310x320,0x320
start_gcode = G28\\nM109 S[first_layer_temperature]

[printer:Oven]
start_gcode = G28 [chamber_temperature]
"""


def names(cast: Cast, path: str, **asked: Any) -> list[str]:
    return [row["name"] for row in api(cast.sam).get(f"/api/{path}/", asked).json()["results"]]


def imported(cast: Cast, text: str | bytes, **options: Any) -> Any:
    content = text if isinstance(text, bytes) else text.encode()
    file = SimpleUploadedFile("config.ini", content)
    return api(cast.olivia).post("/api/profiles/import/", {"file": file, **options}, format="multipart")


@pytest.mark.parametrize(("kind", "rows"), [("materials", Material), ("qualities", Quality)])
def test_lists_are_in_the_order_that_staff_gave_them(cast: Cast, kind: str, rows: type[Material | Quality]) -> None:
    first = rows.objects.last()
    assert first is not None
    rows.objects.exclude(pk=first.pk).update(order=7)
    rows.objects.filter(pk=first.pk).update(order=1)
    assert names(cast, kind) == [row.name for row in rows.objects.order_by("order", "name")]
    assert names(cast, kind)[0] == first.name
    assert names(cast, kind, page_size="1") == [first.name]


def test_everybody_sees_materials_and_qualities_with_their_values(cast: Cast) -> None:
    assert set(names(cast, "materials")) == {"PLA", "PETG", "ABS", "ASA", "TPU 95A"}
    assert names(cast, "qualities", name="Fine") == ["Fine"]
    row = api(cast.sam).get(f"/api/qualities/{Quality.objects.get(name='Fine').pk}/").json()
    assert (row["settings"]["layer_height"], row["is_default"], row["revision"]) == (0.12, False, 1)


def test_whoever_operates_a_printer_adds_a_material_and_its_changes_are_kept(cast: Cast) -> None:
    operator = api(cast.olivia)
    answer = operator.post("/api/materials/", {"name": "PCTG", "settings": {"nozzle_temperature": 250}})
    assert answer.status_code == 201, answer.content
    path = f"/api/materials/{answer.json()['id']}/"
    assert operator.patch(path, {"settings": {"nozzle_temperature": 255}}).json()["revision"] == 2
    assert operator.patch(path, {"note": "Clear", "is_default": True}).json()["revision"] == 2
    kept = api(cast.sam).get(f"{path}revisions/").json()["results"]
    assert [(row["number"], row["values"]) for row in kept] == [
        (2, {"nozzle_temperature": 255}),
        (1, {"nozzle_temperature": 250}),
    ]
    assert Material.objects.get(is_default=True).name == "PLA"
    refused(api(cast.sam).patch(path, {"settings": {}}), 403, "forbidden")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "PLA"}, "material"),
        ({"name": "X", "settings": {"walls": 2}}, "Unknown settings: walls"),
        ({"name": "X", "settings": {"fan_speed": 300}}, "fan_speed must be between"),
        ({"name": "X", "settings": [1]}, "settings"),
        ({"name": "two\nlines"}, "name"),
        ({}, "name"),
    ],
)
def test_a_material_that_makes_no_sense_is_refused(cast: Cast, body: dict[str, Any], words: str) -> None:
    assert words in refused(api(cast.olivia).post("/api/materials/", body), 422)["message"]


def test_what_is_for_another_group_is_not_there(cast: Cast) -> None:
    trained = Group.objects.create(name="Trained")
    hidden = profiles.add_profile(Quality, name="Secret", groups=[trained])
    path = f"/api/qualities/{hidden.pk}/"
    assert "Secret" not in names(cast, "qualities")
    refused(api(cast.sam).get(path), 404)
    refused(api(cast.sam).get(f"{path}revisions/"), 404)
    refused(api(cast.olivia).patch(path, {"note": "mine"}), 404)
    cast.sam.groups.add(trained)
    assert names(cast, "qualities").count("Secret") == 1
    assert api(cast.ada).get(path).json()["groups"] == [trained.pk]


def test_a_profile_says_which_engine_slices_for_it(cast: Cast) -> None:
    profile = PrinterProfile.objects.get(is_default=True)
    path = f"/api/profiles/{profile.pk}/"
    assert api(cast.sam).get(path).json()["engine"] == "planar"
    assert api(cast.ada).patch(path, {"engine": "prusaslicer"}).json()["engine"] == "prusaslicer"
    assert api(cast.sam).get(path).json()["revision"] == 1
    refused(api(cast.ada).patch(path, {"engine": "slic3r"}), 422)
    body = refused(api(cast.ada).patch(path, {"start_gcode": "G28 {power}"}), 422)
    assert "{power}" in body["message"]
    assert body["extra"] == {"field": "start_gcode"}


def test_profiles_are_taken_over_from_prusaslicer(cast: Cast) -> None:
    answer = imported(cast, BUNDLE, gcode=True)
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert {(row["kind"], row["name"]) for row in body["made"]} == {
        ("quality", "Swift"), ("material", "Wood"), ("printer", "Forge"),
    }  # fmt: skip
    assert next(row["ignored"] for row in body["made"] if row["name"] == "Swift") == ["top_fill_pattern"]
    assert len(body["refused"]) == 1
    assert "chamber_temperature" in body["refused"][0]
    forge = PrinterProfile.objects.get(name="Forge")
    assert (forge.width, forge.depth, forge.start_gcode) == (
        310.0,
        320.0,
        "G28\nM109 S{first_layer_nozzle_temperature}",
    )
    assert profiles.latest(forge).values["width"] == 310.0
    again = imported(cast, BUNDLE).json()
    assert {row["name"] for row in again["made"]} == {"Swift (2)", "Wood (2)", "Forge (2)", "Oven"}
    assert PrinterProfile.objects.get(name="Oven").start_gcode == ""


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ("hello", 422, "not a config of PrusaSlicer"),
        (b"\xff\xfe\x00", 422, "not a text file"),
        ("", 422, "empty"),
        ("[printer:Huge]\nbed_shape = 0x0,99999x0,99999x9,0x9\n", 201, ""),
    ],
)
def test_what_cannot_be_taken_over_is_refused(cast: Cast, content: str | bytes, status: int, words: str) -> None:
    answer = imported(cast, content)
    assert answer.status_code == status, answer.content
    if status == 422:
        assert words in refused(answer, 422)["message"]
    else:
        assert not answer.json()["made"]
        assert answer.json()["refused"][0].startswith("Huge: ")
    assert not PrinterProfile.objects.filter(name="Huge").exists()


def test_only_operators_take_profiles_over(cast: Cast) -> None:
    file = SimpleUploadedFile("config.ini", BUNDLE.encode())
    refused(api(cast.sam).post("/api/profiles/import/", {"file": file}, format="multipart"), 403, "forbidden")
    assert not Quality.objects.filter(name="Swift").exists()


def test_every_setting_and_every_engine_is_described(cast: Cast, settings: Settings) -> None:
    settings.FARM_PRUSASLICER = "/nowhere/prusa-slicer"
    described = api(cast.sam).get("/api/settings/").json()
    assert [row["name"] for row in described] == list(SETTINGS)
    height = described[0]
    assert (height["unit"], height["low"], height["part"]) == ("mm", 0.04, "quality")
    planar, prusa, _ = api(cast.sam).get("/api/engines/").json()
    assert (planar["missing"], planar["isolation"]) == ("", "")
    assert "not installed" in prusa["missing"]
    assert "network" in prusa["isolation"]
