"""Models, G-code and profiles as programs bring and see them; whatever else people bring is refused with a sentence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from pytest_django import Settings

from farm.models import User
from slicing.models import Gcode, Model3D, PrinterProfile
from tests import shapes
from tests.api import api, ok, refused
from tests.cast import Cast, gcode, model
from tests.shapes import stl
from tests.slicing.files import BOX, ascii_stl, mesh_object, moves, threemf

pytestmark = pytest.mark.django_db


def bring(user: User, content: bytes, name: str = "part.stl", to: str = "models", **fields: Any) -> Any:
    file = io.BytesIO(content)
    file.name = name
    return api(user).post(f"/api/{to}/", {"file": file, **fields}, format="multipart")


# -- models
OBJ = b"v 0 0 0\nv 20 0 0\nv 20 10 0\nv 0 10 5\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n"


def test_a_model_comes_in_with_its_measures(cast: Cast) -> None:
    found = ok(bring(cast.sam, stl(BOX)), 201)
    assert found.pop("created_at")
    assert found == {
        "id": str(Model3D.objects.get().pk), "name": "part.stl", "size_mm": [20.0, 10.0, 5.0], "triangles": 12,
        "volume_mm3": pytest.approx(1000), "watertight": True, "bytes": 84 + 12 * 50, **picture_fields(found),
    }  # fmt: skip
    assert Model3D.objects.get().owner == cast.sam


def picture_fields(found: dict[str, Any]) -> dict[str, Any]:
    """What a model's picture adds, wherever it is kept."""
    return {key: value for key, value in found.items() if "picture" in key}


@pytest.mark.parametrize(
    ("name", "content", "triangles"),
    [
        ("part.STL", ascii_stl(BOX), 12),
        ("part.obj", OBJ, 4),
        ("part.3mf", threemf(mesh_object(1, BOX), '<item objectid="1"/>'), 12),
    ],
)
def test_other_forms_of_models_come_in_too(cast: Cast, name: str, content: bytes, triangles: int) -> None:
    assert ok(bring(cast.sam, content, name), 201)["triangles"] == triangles


def test_a_model_with_a_hole_is_taken_and_said_to_have_one(cast: Cast) -> None:
    assert ok(bring(cast.sam, stl(BOX[1:])), 201)["watertight"] is False


def test_names_are_only_shown_and_never_a_path(cast: Cast) -> None:
    names = {
        "../../../etc/cron.d/\u202epart.stl": "part.stl",
        "<img src=x onerror=alert(1)>;rm -rf $HOME.stl": "<img src=x onerror=alert(1)>;rm -rf $HOME.stl",
    }
    for given, shown in names.items():
        found = ok(bring(cast.sam, stl(BOX), given), 201)
        assert found["name"] == shown
        assert Path(Model3D.objects.get(pk=found["id"]).file.path).name == found["id"]


def nan_corner() -> bytes:
    part = BOX.copy()
    part[3, 1, 2] = np.nan
    return stl(part)


def bomb() -> bytes:
    """60 MB of nothing in 60 kB."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", bytes(60_000_000))
    return made.getvalue()


def crowd() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for n in range(2001):
            archive.writestr(f"{n}", b"")
    return made.getvalue()


ITEM = '<item objectid="1"/>'
XXE = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>'
OUTSIDE = '<object id="1"><components><component p:path="/../../../../etc/passwd" objectid="1"/></components></object>'
PACKED = threemf(mesh_object(1, BOX), ITEM)

BAD_MODELS = {
    "nothing": ("part.stl", b"", "empty", "The file is empty."),
    "a picture": ("part.stl", b"\x89PNG\r\n\x1a\n" + bytes(200), "unreadable", "not an STL file"),
    "a web page": ("part.stl", b"<html><script>alert(1)</script></html>", "unreadable", "not an STL file"),
    "a program": ("part.exe", b"MZ" + bytes(200), "unknown_type", "give it one of .stl, .obj, .3mf"),
    "no ending": ("part", stl(BOX), "unknown_type", "give it one of"),
    "only an ending": (".stl", stl(BOX), "unknown_type", "give it one of"),
    "two endings": ("part.stl.php", stl(BOX), "unknown_type", "give it one of"),
    "an STL cut off": ("part.stl", stl(BOX)[:-30], "unreadable", "cut off"),
    "an ASCII STL cut off": ("part.stl", ascii_stl(BOX)[:-90], "unreadable", "cut off"),
    "an STL that lies": ("part.stl", bytes(80) + b"\xff\xff\xff\x7f" + bytes(50), "unreadable", "STL"),
    "NaN": ("part.stl", nan_corner(), "unreadable", "not numbers"),
    "infinity": ("part.obj", b"v 0 0 0\nv inf 0 0\nv 0 9 0\nf 1 2 3\n", "unreadable", "not numbers"),
    "no triangle": ("part.stl", stl(BOX[:0]), "unreadable", "no triangles"),
    "flat points": ("part.stl", stl(np.zeros((4, 3, 3)) + 5), "unreadable", "mm large"),
    "a mountain": ("part.stl", stl(BOX * 1000), "unreadable", "another unit"),
    "a speck": ("part.stl", stl(BOX / 1000), "unreadable", "another unit"),
    "a corner that is not there": ("part.obj", b"v 0 0 0\nv 9 0 0\nv 0 9 0\nf 1 2 4\n", "unreadable", "does not exist"),
    "a corner before the first": ("part.obj", b"v 0 0 0\nv 9 0 0\nv 0 9 0\nf 1 2 -4\n", "unreadable", "does not exist"),
    "corner zero": ("part.obj", b"v 0 0 0\nv 9 0 0\nv 0 9 0\nf 0 1 2\n", "unreadable", "damaged in line 4"),
    "an absurd corner": ("part.obj", b"v 0 0 0\nv 9 0 0\nv 0 9 0\nf 1 2 " + b"9" * 30, "unreadable", "does not exist"),
    "an endless number": ("part.obj", b"v 0 0 0\nf 1 2 " + b"9" * 9999 + b"\n", "unreadable", "damaged in line 2"),
    "an OBJ without faces": ("part.obj", b"v 0 0 0\nmtllib ../../etc/passwd\n", "unreadable", "no faces"),
    "no zip": ("part.3mf", b"not a zip at all", "unreadable", "damaged or encrypted"),
    "a zip cut off": ("part.3mf", PACKED[: len(PACKED) // 2], "unreadable", "damaged or encrypted"),
    "another zip": ("part.3mf", b"PK\x05\x06" + bytes(18), "unreadable", "part of it is missing"),
    "a zip bomb": ("part.3mf", bomb(), "unreadable", "zip bomb"),
    "a crowd of files": ("part.3mf", crowd(), "unreadable", "2,001 files"),
    "a file of outside": ("part.3mf", threemf(OUTSIDE, ITEM), "unreadable", "part of it is missing"),
    "an entity of outside": ("part.3mf", threemf(mesh_object(1, BOX), ITEM, doctype=XXE), "unreadable", "DOCTYPE"),
    "a billion laughs": ("part.3mf", threemf(mesh_object(1, BOX), ITEM, doctype=LAUGHS), "unreadable", "DOCTYPE"),
    "an unknown unit": ("part.3mf", threemf(mesh_object(1, BOX), ITEM, "parsec"), "unreadable", "unknown unit"),
    "nothing to print": ("part.3mf", threemf(mesh_object(1, BOX), ""), "unreadable", "nothing to print"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_MODELS)
@pytest.mark.usefixtures("nothing_is_kept")
def test_what_is_no_model_is_refused_with_a_sentence_of_its_own(cast: Cast, what: str) -> None:
    name, content, code, words = BAD_MODELS[what]
    body = refused(bring(cast.sam, content, name), 422, code)
    assert words in body["message"]
    assert "root:" not in body["message"]


@pytest.mark.usefixtures("nothing_is_kept")
def test_a_model_over_the_limit_is_too_large(cast: Cast, settings: Settings) -> None:
    settings.FARM_MAX_UPLOAD = 600
    refused(bring(cast.sam, stl(BOX)), 413, "too_large")


@pytest.mark.usefixtures("nothing_is_kept")
def test_an_upload_needs_its_file(cast: Cast) -> None:
    client = api(cast.sam)
    for form in ({}, {"file": "solid"}, {"model": io.BytesIO(stl(BOX))}):
        body = refused(client.post("/api/models/", form, format="multipart"), 422, "invalid")
        assert set(body["extra"]["fields"]) == {"file"}


def test_fields_that_only_the_farm_fills_are_not_taken_in(cast: Cast) -> None:
    found = ok(bring(cast.sam, stl(BOX), owner=str(cast.tina.pk), triangles=1, id=str(uuid4()), sha256="x"), 201)
    row = Model3D.objects.get(pk=found["id"])
    assert (row.owner, row.triangles, len(row.sha256)) == (cast.sam, 12, 64)


def test_people_see_their_own_models_and_staff_see_all(cast: Cast) -> None:
    mine, hers = model(cast.sam), model(cast.tina, "hook.stl")

    def seen(user: User, query: str = "") -> set[str]:
        return {row["id"] for row in ok(api(user).get(f"/api/models/{query}"))["results"]}

    assert seen(cast.sam) == {str(mine.pk)}
    assert seen(cast.olivia) == set()
    assert seen(cast.ada) == {str(mine.pk), str(hers.pk)}
    assert seen(cast.ada, "?name=hook.stl") == {str(hers.pk)}
    refused(api(cast.tina).get(f"/api/models/{mine.pk}/"), 404, "not_found")
    assert ok(api(cast.ada).get(f"/api/models/{mine.pk}/"))["name"] == "bracket.stl"


def test_a_models_file_goes_to_its_owner_as_an_attachment(cast: Cast) -> None:
    mine = model(cast.sam, 'x".html')

    async def fetch(user: User) -> tuple[Any, bytes]:
        client = AsyncClient()
        await client.aforce_login(user)
        answer: Any = await client.get(f"/api/models/{mine.pk}/file/")
        body = b"".join([piece async for piece in answer.streaming_content]) if answer.streaming else answer.content
        return answer, body

    answer, content = async_to_sync(fetch)(cast.sam)
    assert (answer.status_code, content) == (200, b"solid")
    assert answer["Content-Disposition"] == 'attachment; filename="x\\".html"'
    assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == ("application/octet-stream", "nosniff")
    refused(async_to_sync(fetch)(cast.tina)[0], 404, "not_found")


# -- G-code
def test_an_operator_brings_gcode_for_a_profile(cast: Cast) -> None:
    found = ok(bring(cast.olivia, moves("G1 X30 E1"), "part.gcode", "gcodes"), 201)
    row = Gcode.objects.get(pk=found["id"])
    assert (row.owner, row.profile) == (cast.olivia, PrinterProfile.objects.get(is_default=True))
    assert found["facts"]["bounds"] == [[10.0, 10.0, 0.2], [50.0, 10.0, 0.2]]
    assert (found["name"], found["layers"], found["filament_mm"]) == ("part.gcode", 1, pytest.approx(3))
    other = PrinterProfile.objects.create(name="Small", width=60)
    named = ok(bring(cast.olivia, moves("G1 X30 E1"), "part.gcode", "gcodes", profile=str(other.pk)), 201)
    assert named["profile"] == str(other.pk)


@pytest.mark.usefixtures("nothing_is_kept")
def test_gcode_of_those_who_operate_no_printer_is_refused(cast: Cast) -> None:
    for user in (cast.sam, cast.mallory):
        refused(bring(user, moves(), "part.gcode", "gcodes"), 403, "forbidden")


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("part.gcode", b"", "empty", "The file is empty."),
        ("part.stl", stl(BOX), "unknown_type", "give it one of .gcode"),
        ("part.gcode", moves("G1 X400 E1"), "unreadable", "outside of the printable volume, at X400.0"),
        ("part.gcode", moves("M104 S400"), "unreadable", "heats the nozzle to 400 C; this printer allows 285 C"),
        ("part.gcode", b"hello\n", "unreadable", "prints nothing"),
    ],
)
@pytest.mark.usefixtures("nothing_is_kept")
def test_gcode_that_no_printer_should_run_is_refused(
    cast: Cast, name: str, content: bytes, code: str, words: str
) -> None:
    assert words in refused(bring(cast.olivia, content, name, "gcodes"), 422, code)["message"]


@pytest.mark.usefixtures("nothing_is_kept")
def test_gcode_for_a_profile_that_is_not_there_is_refused(cast: Cast) -> None:
    refused(bring(cast.olivia, moves(), "part.gcode", "gcodes", profile=str(uuid4())), 404, "not_found")
    refused(bring(cast.olivia, moves(), "part.gcode", "gcodes", profile="small"), 422, "invalid")


def test_what_was_sliced_here_is_listed_by_its_job_and_not_among_uploads(cast: Cast) -> None:
    sliced = gcode(cast.anvil)
    assert ok(api(cast.ada).get("/api/gcodes/"))["results"] == []
    refused(api(cast.ada).get(f"/api/gcodes/{sliced.pk}/"), 404)


# -- printer profiles
def test_there_is_a_default_profile(cast: Cast) -> None:
    rows = ok(api(cast.sam).get("/api/profiles/"))["results"]
    [default] = [row for row in rows if row["is_default"]]
    assert (default["width"], default["depth"], default["height"], default["nozzle_diameter"]) == (220, 220, 250, 0.4)
    assert default == ok(api(cast.sam).get(f"/api/profiles/{default['id']}/"))


def test_a_profile_is_added_with_usual_values_and_every_change_is_a_revision(cast: Cast) -> None:
    made = ok(api(cast.ada).post("/api/profiles/", {"name": "Small", "width": 120}), 201)
    assert (made["width"], made["depth"], made["revision"], made["is_default"]) == (120, 220, 1, False)
    path = f"/api/profiles/{made['id']}/"
    assert ok(api(cast.ada).patch(path, {"height": 100}))["revision"] == 2
    assert ok(api(cast.ada).patch(path, {"height": 100}))["revision"] == 2
    assert ok(api(cast.ada).patch(path, {"name": "Smaller"}))["revision"] == 2


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "Small", "width": 0}, "width"),
        ({"name": "Small", "width": 1e9}, "width"),
        ({"name": "Small", "width": "wide"}, "width"),
        ({"name": "Small", "width": "nan"}, "width"),
        ({"name": "Small", "nozzle_diameter": 0}, "nozzle_diameter"),
        ({"name": "Small", "flavour": "sour"}, "flavour"),
        ({"name": "Small", "max_nozzle_temperature": 900}, "max_nozzle_temperature"),
    ],
)
def test_a_profile_that_no_machine_has_is_refused(cast: Cast, values: dict[str, Any], field: str) -> None:
    before = PrinterProfile.objects.count()
    body = refused(api(cast.ada).post("/api/profiles/", values), 422, "invalid")
    assert set(body["extra"]["fields"]) == {field}
    assert PrinterProfile.objects.count() == before


def test_two_profiles_do_not_share_a_name(cast: Cast) -> None:
    name = PrinterProfile.objects.get(is_default=True).name
    refused(api(cast.ada).post("/api/profiles/", {"name": name}), 422, "invalid")


def test_nobody_makes_a_profile_the_default_or_sets_its_revision_from_here(cast: Cast) -> None:
    made = ok(api(cast.ada).post("/api/profiles/", {"name": "Small", "is_default": True, "revision": 9}), 201)
    assert (made["is_default"], made["revision"]) == (False, 1)


def test_a_large_model_is_read_in_its_child(cast: Cast) -> None:
    found = ok(bring(cast.sam, stl(shapes.sphere(20, rings=64, sides=128))), 201)
    assert found["triangles"] == 2 * 128 * 63
    assert found["size_mm"] == pytest.approx([40, 40, 40], abs=0.1)
