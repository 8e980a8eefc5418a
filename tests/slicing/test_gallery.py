"""Pictures at the API's doors: for those who may see what they show, as pictures and as nothing else."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from farm.errors import Unavailable
from farm.models import User
from jobs.models import Job
from slicing import gallery
from slicing.headers import thumbnail_block
from slicing.layering import layer_at
from slicing.layers import index
from slicing.models import Gcode, Model3D
from slicing.pictures import png
from slicing.services import slice_model
from slicing.shape import unpacked
from slicing.toolpaths import decoded
from tests import shapes
from tests.api import api, ok, refused
from tests.cast import Cast
from tests.shapes import stl
from tests.slicing import binary

pytestmark = pytest.mark.django_db

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "gcode"


def upload(user: User, kind: str, name: str, data: bytes) -> Any:
    file = io.BytesIO(data)
    file.name = name
    return api(user).post(f"/api/{kind}/", {"file": file}, format="multipart")


@pytest.fixture
def part(cast: Cast) -> Model3D:
    """Sam's model."""
    made = ok(upload(cast.sam, "models", "part.stl", stl(shapes.gear(12, 20, 8))), 201)
    return Model3D.objects.get(pk=made["id"])


@pytest.fixture
def program(cast: Cast) -> Gcode:
    """Olivia's G-code; its slicer put two pictures in."""
    picture = png(Image.new("RGB", (90, 60), "red"))
    head = thumbnail_block(16, 16, png(Image.new("RGB", (16, 16)))) + thumbnail_block(90, 60, picture)
    data = head + (SAMPLES / "prusaslicer.gcode").read_bytes()
    made = ok(upload(cast.olivia, "gcodes", "part.gcode", data), 201)
    return Gcode.objects.get(pk=made["id"])


@pytest.fixture(autouse=True)
def _kept() -> Iterator[None]:
    yield
    gallery.forget_old(0)


def shown(answer: Any) -> Image.Image:
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "private" in answer["Cache-Control"]
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    assert image.format == "PNG"
    return image


# -- models
def test_a_model_has_a_picture_from_the_moment_it_is_there(cast: Cast, part: Model3D) -> None:
    image = shown(api(cast.sam).get(f"/api/models/{part.pk}/picture/"))
    assert image.size == (512, 512)
    assert image.getchannel("A").getextrema() == (0, 255), "it stands on nothing"


def test_a_picture_is_for_those_who_may_see_the_model(cast: Cast, part: Model3D) -> None:
    shown(api(cast.ada).get(f"/api/models/{part.pk}/picture/"))
    for stranger in (cast.tina, cast.olivia, cast.mallory):
        refused(api(stranger).get(f"/api/models/{part.pk}/picture/"), 404)
    refused(api().get(f"/api/models/{part.pk}/picture/"), 401)
    refused(api(cast.sam).get(f"/api/models/{uuid4()}/picture/"), 404)


def test_a_model_from_before_there_were_pictures_has_none(cast: Cast, part: Model3D) -> None:
    part.picture.delete()
    refused(api(cast.sam).get(f"/api/models/{part.pk}/picture/"), 404, "no_picture")


def test_a_browser_that_has_it_gets_it_no_second_time(cast: Cast, part: Model3D) -> None:
    first = api(cast.sam).get(f"/api/models/{part.pk}/picture/")
    again = api(cast.sam).get(f"/api/models/{part.pk}/picture/", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    refused(api(cast.tina).get(f"/api/models/{part.pk}/picture/", headers={"If-None-Match": first["ETag"]}), 404)


# -- the shapes of models
def shape_of(answer: Any) -> Any:
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/octet-stream"
    assert "private" in answer["Cache-Control"]
    return unpacked(answer.content)


def test_a_model_has_a_shape_of_its_size(cast: Cast, part: Model3D) -> None:
    vertices, faces, of_file = shape_of(api(cast.sam).get(f"/api/models/{part.pk}/shape/"))
    assert vertices.max(axis=0) - vertices.min(axis=0) == pytest.approx(part.size_mm, abs=0.01)
    assert len(faces) == of_file == part.triangles
    assert faces.max() == len(vertices) - 1


def test_a_shape_is_for_those_who_may_see_the_model(cast: Cast, part: Model3D) -> None:
    url = f"/api/models/{part.pk}/shape/"
    first = api(cast.ada).get(url)
    shape_of(first)
    for stranger in (cast.tina, cast.olivia, cast.mallory):
        refused(api(stranger).get(url, headers={"If-None-Match": first["ETag"]}), 404, "not_found")
    refused(api().get(url), 401)
    refused(api(cast.sam).get(f"/api/models/{uuid4()}/shape/"), 404)
    assert api(cast.sam).get(url, headers={"If-None-Match": first["ETag"]}).status_code == 304


def test_a_shape_is_made_once(cast: Cast, part: Model3D, monkeypatch: pytest.MonkeyPatch) -> None:
    shape_of(api(cast.sam).get(f"/api/models/{part.pk}/shape/"))
    monkeypatch.setattr(gallery, "facts_of", None)
    shape_of(api(cast.sam).get(f"/api/models/{part.pk}/shape/"))


def test_a_model_that_cannot_be_read_any_more_has_no_shape(cast: Cast, part: Model3D) -> None:
    Path(part.file.path).write_bytes(b"solid")
    refused(api(cast.sam).get(f"/api/models/{part.pk}/shape/"), 404, "no_shape")


# -- G-code
def test_g_code_shows_the_largest_picture_that_its_slicer_put_in(cast: Cast, program: Gcode) -> None:
    image = shown(api(cast.olivia).get(f"/api/gcodes/{program.pk}/picture/"))
    assert image.size == (90, 60)
    assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)
    refused(api(cast.tina).get(f"/api/gcodes/{program.pk}/picture/"), 404)


def test_what_a_stranger_calls_a_picture_is_not_served(cast: Cast) -> None:
    fake = thumbnail_block(200, 200, b"\x89PNG\r\n\x1a\n<script>alert(1)</script>")
    made = ok(upload(cast.olivia, "gcodes", "a.gcode", fake + (SAMPLES / "prusaslicer.gcode").read_bytes()), 201)
    answer = api(cast.olivia).get(f"/api/gcodes/{made['id']}/picture/")
    assert shown(answer).size == (512, 512), "its lines are drawn instead"
    assert b"script" not in answer.content


def test_g_code_without_a_picture_shows_its_lines(cast: Cast) -> None:
    made = ok(upload(cast.olivia, "gcodes", "a.gcode", (SAMPLES / "prusaslicer.gcode").read_bytes()), 201)
    image = shown(api(cast.olivia).get(f"/api/gcodes/{made['id']}/picture/"))
    assert image.getchannel("A").getextrema() == (0, 255)


def test_binary_g_code_is_kept_as_text_that_every_printer_knows(cast: Cast) -> None:
    text = (SAMPLES / "prusaslicer.gcode").read_text()
    made = ok(upload(cast.olivia, "gcodes", "part.bgcode", binary.of_text(text, 1, 2)), 201)
    assert (made["name"], made["layers"], made["facts"]["slicer_version"]) == ("part.gcode", 4, "2.7.4")
    row = Gcode.objects.get(pk=made["id"])
    with row.file.open() as file:
        assert file.read().startswith(b"; generated by PrusaSlicer 2.7.4")
    assert row.bytes == Path(row.file.path).stat().st_size


# -- layers
def layer_url(gcode: Gcode, number: int) -> str:
    return f"/api/gcodes/{gcode.pk}/layers/{number}/picture/"


def test_every_layer_can_be_looked_at(cast: Cast, program: Gcode) -> None:
    first, last = (shown(api(cast.olivia).get(layer_url(program, number))) for number in (1, 4))
    assert first.size == last.size == (800, 800)
    assert first.tobytes() != last.tobytes()


def test_there_is_none_below_the_first_and_above_the_last(cast: Cast, program: Gcode) -> None:
    for number in (0, 5, 10**9):
        refused(api(cast.olivia).get(layer_url(program, number)), 404, "no_layer")
    refused(api(cast.tina).get(layer_url(program, 1)), 404, "not_found")


def test_layers_are_drawn_together_and_once(cast: Cast, program: Gcode, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    real = gallery.facts_of

    def counted(*args: str, **more: Any) -> dict[str, Any]:
        asked.append(args)
        return real(*args, **more)

    monkeypatch.setattr(gallery, "facts_of", counted)
    for number in (2, 1, 3, 4, 2):
        shown(api(cast.olivia).get(layer_url(program, number)))
    assert len(asked) == 1


def test_too_many_at_once_wait_their_turn_and_are_then_told(program: Gcode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "_turns", threading.BoundedSemaphore(1))
    monkeypatch.setattr(gallery, "PATIENCE_S", 0.01)
    with gallery._turn(), pytest.raises(Unavailable, match="Try again"):
        gallery.layer(program, 1)
    assert gallery.layer(program, 1).exists(), "the turn was given back"


def test_what_nobody_looks_at_makes_room(program: Gcode) -> None:
    old = gallery.kept_views() / "long ago"
    old.mkdir(parents=True)
    (old / "0.png").write_bytes(bytes(1000))
    os.utime(old, (1, 1))
    kept = gallery.layer(program, 1)
    gallery.forget_old(sum(file.stat().st_size for file in kept.parent.iterdir()) + 500)
    assert kept.exists()
    assert not old.exists()
    gallery.forget_old(0)
    assert gallery.layer(program, 1).exists(), "it is drawn again"


def test_a_file_that_cannot_be_drawn_says_so(cast: Cast, program: Gcode) -> None:
    Path(program.file.path).write_bytes(b"\0")
    refused(api(cast.olivia).get(layer_url(program, 1)), 404, "no_layer")


# -- lines in space
def paths_of(answer: Any) -> Any:
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/octet-stream"
    assert "private" in answer["Cache-Control"]
    return decoded(answer.content)


def test_all_layers_and_each_can_be_had_as_lines(cast: Cast, program: Gcode) -> None:
    url = f"/api/gcodes/{program.pk}/toolpaths/"
    header, points = paths_of(api(cast.olivia).get(url))
    assert len(header["first"]) == 5
    assert len(points) == header["first"][-1] > 100
    numbers = [paths_of(api(cast.olivia).get(f"{url}{number}/"))[0]["number"] for number in (1, 4)]
    assert numbers == [0, 3]


def test_lines_are_for_those_who_may_see_the_file(cast: Cast, program: Gcode) -> None:
    for url in (f"/api/gcodes/{program.pk}/toolpaths/", f"/api/gcodes/{program.pk}/toolpaths/1/"):
        paths_of(api(cast.ada).get(url))
        for stranger in (cast.tina, cast.mallory):
            refused(api(stranger).get(url), 404, "not_found")
        refused(api().get(url), 401)


def test_there_are_no_lines_below_the_first_layer_and_above_the_last(cast: Cast, program: Gcode) -> None:
    for number in (0, 5, 10**9):
        refused(api(cast.olivia).get(f"/api/gcodes/{program.pk}/toolpaths/{number}/"), 404, "no_layer")
    Path(program.file.path).write_bytes(b"\0")
    refused(api(cast.olivia).get(f"/api/gcodes/{program.pk}/toolpaths/"), 404, "no_layer")


def test_lines_of_a_job_are_for_those_who_may_see_the_job(cast: Cast, part: Model3D, program: Gcode) -> None:
    job = job_of(cast, part, None)
    url = f"/api/jobs/{job.pk}/toolpaths/"
    refused(api(cast.sam).get(url), 404, "not_sliced")
    Job.objects.filter(pk=job.pk).update(gcode=program)
    for user in (cast.sam, cast.ada, cast.olivia):
        assert paths_of(api(user).get(f"{url}2/"))[0]["number"] == 1
        assert paths_of(api(user).get(url))[0]["every"] == 1
    for stranger in (cast.tina, cast.mallory):
        refused(api(stranger).get(url), 404, "not_found")
        refused(api(stranger).get(f"{url}2/"), 404, "not_found")


def test_it_is_known_where_in_the_file_layers_begin(cast: Cast, part: Model3D, program: Gcode) -> None:
    sliced = slice_model(part, cast.anvil.profile, {}, lambda share: None)
    for code in (program, sliced):
        code.refresh_from_db()
        data, marks = Path(code.file.path).read_bytes(), index(Path(code.file.path)).layers
        assert "layer_begins" not in code.facts, "they would make every list of files long"
        assert len(marks) == code.layers
        for number, mark in enumerate(marks):
            assert layer_at(bytes(code.layer_begins), mark.offset / len(data) + 2e-5) == number + 1
        assert layer_at(bytes(code.layer_begins), 0.0) == 0
        assert layer_at(bytes(code.layer_begins), 1.0) == code.layers


def test_of_binary_g_code_they_are_those_of_the_text(cast: Cast) -> None:
    text = thumbnail_block(90, 60, png(Image.new("RGB", (90, 60), "red"))).decode()
    text += (SAMPLES / "prusaslicer.gcode").read_text()
    made = ok(upload(cast.olivia, "gcodes", "part.bgcode", binary.of_text(text, 1, 2)), 201)
    code = Gcode.objects.get(pk=made["id"])
    data = Path(code.file.path).read_bytes()
    for number, mark in enumerate(index(Path(code.file.path)).layers):
        assert layer_at(bytes(code.layer_begins), mark.offset / len(data) + 1e-3) == number + 1


# -- jobs
def job_of(cast: Cast, part: Model3D, gcode: Gcode | None) -> Job:
    return Job.objects.create(owner=cast.sam, name="part.stl", model=part, gcode=gcode, printer=cast.anvil)


def test_a_job_shows_its_model_until_it_is_sliced(cast: Cast, part: Model3D, program: Gcode) -> None:
    job = job_of(cast, part, None)
    assert shown(api(cast.sam).get(f"/api/jobs/{job.pk}/picture/")).size == (512, 512)
    refused(api(cast.sam).get(f"/api/jobs/{job.pk}/layers/1/picture/"), 404, "not_sliced")
    Job.objects.filter(pk=job.pk).update(gcode=program)
    assert shown(api(cast.sam).get(f"/api/jobs/{job.pk}/picture/")).size == (90, 60)
    assert shown(api(cast.sam).get(f"/api/jobs/{job.pk}/layers/1/picture/")).size == (800, 800)


def test_a_job_is_shown_to_its_owner_to_staff_and_at_its_printer(cast: Cast, part: Model3D, program: Gcode) -> None:
    job = job_of(cast, part, program)
    for url in (f"/api/jobs/{job.pk}/picture/", f"/api/jobs/{job.pk}/layers/1/picture/"):
        for user in (cast.sam, cast.ada, cast.olivia):
            shown(api(user).get(url))
        for stranger in (cast.tina, cast.mallory):
            refused(api(stranger).get(url), 404)
        refused(api().get(url), 401)


def test_a_job_without_any_picture_says_so(cast: Cast, part: Model3D) -> None:
    job = job_of(cast, part, None)
    part.picture.delete()
    refused(api(cast.sam).get(f"/api/jobs/{job.pk}/picture/"), 404, "no_picture")


def test_what_is_sliced_here_has_picture_layers_and_facts_like_an_upload(cast: Cast, part: Model3D) -> None:
    code = slice_model(part, cast.anvil.profile, {}, lambda share: None)
    job = job_of(cast, part, code)
    assert shown(api(cast.sam).get(f"/api/jobs/{job.pk}/picture/")).size == (512, 512)
    for number in (1, code.layers):
        shown(api(cast.sam).get(f"/api/jobs/{job.pk}/layers/{number}/picture/"))
    refused(api(cast.sam).get(f"/api/jobs/{job.pk}/layers/{code.layers + 1}/picture/"), 404, "no_layer")
    assert (code.facts["slicer"], code.facts["layers"], code.facts["height"]) == ("Print Farm", code.layers, 8)
    assert code.facts["slicer_time_s"] == pytest.approx(code.time_s, abs=1)
    assert [one["width"] for one in code.facts["thumbnails"]] == [16, 32, 220, 300]


def test_facts_of_an_upload_are_kept_with_it(cast: Cast, program: Gcode) -> None:
    assert program.facts["slicer"] == "PrusaSlicer"
    assert program.facts["tools"][0]["filament_type"] == "PETG"
    assert [one["width"] for one in program.facts["thumbnails"]] == [16, 90]
    json.dumps(program.facts, allow_nan=False)
