"""What a job is printed with: material, quality, settings over both, and how its model stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from pytest_django import Settings

from farm.errors import Invalid
from jobs import attempts, preparing, services
from jobs.models import Job
from printers.models import Grant, Printer
from slicing import profiles
from slicing.engines import replay
from slicing.models import Gcode, Material, Model3D, PrinterProfile, Quality
from slicing.services import accept_model, standing
from tests import shapes
from tests.api import api, refused
from tests.cast import Cast, gcode, model
from tests.shapes import stl
from tests.work import Work, committed

pytestmark = pytest.mark.django_db


@pytest.fixture
def bar(cast: Cast) -> Model3D:
    """A real one: 4 x 6 x 12 mm, standing on its smallest side."""
    return accept_model(cast.sam, SimpleUploadedFile("bar.stl", stl(shapes.box(4, 6, 12))))


def submitted(cast: Cast, of: Model3D, **fields: Any) -> Job:
    with committed():
        return services.submit(cast.sam, model=of, printer=cast.anvil, **fields)


def sliced(job: Job) -> Gcode:
    with committed():
        preparing.prepare(job.pk)
    job.refresh_from_db()
    assert job.gcode is not None, job.message
    return job.gcode


def ask(cast: Cast, of: Model3D, **body: Any) -> Any:
    return api(cast.sam).post("/api/jobs/", {"model": str(of.pk), **body})


def named(kind: Any, name: str) -> str:
    return str(kind.objects.get(name=name).pk)


# -- material and quality
def test_the_defaults_are_taken_when_nothing_is_said(cast: Cast, work: Work) -> None:
    job = submitted(cast, model(cast.sam))
    assert (str(job.material), str(job.quality)) == ("PLA (revision 1)", "Standard (revision 1)")
    body = api(cast.sam).get(f"/api/jobs/{job.pk}/").json()
    assert (body["material"]["name"], body["quality"]["number"], body["placement"]) == ("PLA", 1, {})


def test_a_job_is_made_with_what_was_chosen(cast: Cast, work: Work, bar: Model3D) -> None:
    answer = ask(cast, bar, material=named(Material, "PETG"), quality=named(Quality, "Draft"), settings={"walls": 3})
    assert answer.status_code == 201, answer.content
    made = sliced(Job.objects.get(pk=answer.json()["id"]))
    assert (made.material and made.material.name, made.quality and made.quality.name) == ("PETG", "Draft")
    assert made.engine.startswith("planar ")
    kept = made.settings
    assert (kept["nozzle_temperature"], kept["layer_height"], kept["walls"]) == (240.0, 0.28, 3)
    text = Path(made.file.path).read_bytes()
    assert text.index(b"M109 S230") < text.index(b"M104 S240"), "the first layer, then the others"


def test_a_material_is_pinned_when_the_job_is_submitted(cast: Cast, work: Work, bar: Model3D) -> None:
    """Whatever is changed while it waits: a print can be repeated."""
    first = submitted(cast, bar, material=named(Material, "PETG"))
    profiles.change_profile(Material.objects.get(name="PETG"), settings={"nozzle_temperature": 230.0})
    assert sliced(first).settings["nozzle_temperature"] == 240.0
    second = submitted(cast, bar, material=named(Material, "PETG"))
    assert (second.material and second.material.number, sliced(second).settings["nozzle_temperature"]) == (2, 230.0)
    Material.objects.get(name="PETG").delete()
    first.refresh_from_db()
    assert first.material
    assert first.material.values["nozzle_temperature"] == 240.0


def test_a_print_is_repeated_as_it_was(cast: Cast, work: Work, bar: Model3D) -> None:
    """PETG has been changed since, but what was good once is asked for again."""
    first = submitted(
        cast, bar, material=named(Material, "PETG"), placement={"rotation": [0, 90, 0]}, settings={"walls": 3}, copies=2
    )
    made = sliced(first)
    profiles.change_profile(Material.objects.get(name="PETG"), settings={"nozzle_temperature": 230.0})
    answer = api(cast.sam).post(f"/api/jobs/{first.pk}/again/")
    assert answer.status_code == 201, answer.content
    second = Job.objects.get(pk=answer.json()["id"])
    assert second.pk != first.pk
    assert (second.owner, second.printer, second.copies, second.hold) == (cast.sam, cast.anvil, 2, False)
    assert sliced(second) == made
    refused(api(cast.tina).post(f"/api/jobs/{first.pk}/again/"), 404)


def test_gcode_is_repeated_only_while_its_machine_is_the_same(cast: Cast, work: Work) -> None:
    first = services.submit(cast.olivia, gcode=gcode(cast.anvil))
    assert services.again(first, cast.olivia).gcode == first.gcode
    profiles.change_profile(PrinterProfile.objects.get(is_default=True), height=100.0)
    body = refused(api(cast.olivia).post(f"/api/jobs/{first.pk}/again/"), 422, "other_profile")
    assert "another profile" in body["message"]


def test_nobody_repeats_on_a_printer_that_is_no_longer_theirs(cast: Cast, work: Work) -> None:
    first = services.submit(cast.sam, model=model(cast.sam), printer=cast.anvil)
    Grant.objects.filter(user=cast.sam).delete()
    refused(api(cast.sam).post(f"/api/jobs/{first.pk}/again/"), 404)


def test_the_very_same_is_sliced_once_and_anything_else_again(cast: Cast, work: Work, bar: Model3D) -> None:
    wanted: list[dict[str, Any]] = [
        {},
        {"material": named(Material, "PETG")},
        {"quality": named(Quality, "Draft")},
        {"placement": {"rotation": [90, 0, 0]}},
        {"settings": {"walls": 3}},
    ]
    made = [sliced(submitted(cast, bar, **fields)).pk for fields in wanted]
    assert len(set(made)) == len(wanted)
    again = [sliced(submitted(cast, bar, **fields)).pk for fields in wanted]
    assert again == made


def test_a_material_of_another_group_is_not_there(cast: Cast, work: Work) -> None:
    exotic = profiles.add_profile(Material, name="PEEK", groups=[Group.objects.create(name="Trained")])
    refused(ask(cast, model(cast.sam), material=str(exotic.pk)), 404, "not_found")
    cast.sam.groups.add(Group.objects.get(name="Trained"))
    assert ask(cast, model(cast.sam), material=str(exotic.pk)).status_code == 201


def test_a_material_that_no_printer_can_heat_is_refused_at_once(cast: Cast, work: Work) -> None:
    hot = profiles.add_profile(Material, name="PEEK", settings={"nozzle_temperature": 400.0})
    body = refused(ask(cast, model(cast.sam), material=str(hot.pk)), 422, "invalid")
    assert "above Generic 220" in body["message"]
    assert not Job.objects.exists()


@pytest.mark.parametrize("extra", ["material", "quality", "placement", "settings"])
def test_gcode_is_printed_as_it_is(cast: Cast, work: Work, extra: str) -> None:
    values: dict[str, Any] = {
        "material": named(Material, "PLA"), "quality": named(Quality, "Fine"),
        "placement": {"rotation": [0, 0, 90]}, "settings": {"walls": 2},
    }  # fmt: skip
    uploaded = gcode(cast.anvil)
    with pytest.raises(Invalid, match="as it is"):
        services.submit(cast.olivia, gcode=uploaded, **{extra: values[extra]})
    job = services.submit(cast.olivia, gcode=uploaded)
    assert (job.material, job.quality, job.size_mm) == (None, None, None)


# -- which engine
def test_an_engine_that_is_missing_is_said_to_the_owner(
    cast: Cast, work: Work, bar: Model3D, settings: Settings
) -> None:
    settings.FARM_CURAENGINE = "/nowhere/CuraEngine"
    PrinterProfile.objects.update(engine="cura")
    job = submitted(cast, bar)
    preparing.prepare(job.pk)
    job.refresh_from_db()
    assert (job.status, job.gcode) == ("failed", None)
    assert job.message.startswith("CuraEngine is not installed")


def test_what_another_engine_sliced_still_fits_the_machine(cast: Cast, work: Work, bar: Model3D) -> None:
    job = submitted(cast, bar)
    made = sliced(job)
    profiles.change_profile(PrinterProfile.objects.get(is_default=True), engine="cura")
    Printer.objects.update(bed=1)
    attempt = job.prints.create(printer=Printer.objects.get(pk=cast.anvil.pk), printer_name="Anvil")
    assert attempts._has_gcode(attempt)
    assert attempt.gcode == made


# -- how it stands
def test_a_model_is_turned_and_scaled_before_it_is_sliced(cast: Cast, work: Work, bar: Model3D) -> None:
    """Laid down on its long side and made twice as long."""
    job = submitted(cast, bar, placement={"scale": [1, 1, 2], "rotation": [90, 0, 0]}, settings={"skirt_loops": 0})
    assert job.size_mm == pytest.approx((4, 24, 6))
    made = sliced(job)
    assert made.layers == 30
    moves = replay.parse(Path(made.file.path).read_bytes())
    part = moves.position[moves.extruding][-500:]
    assert part[:, 1].max() - part[:, 1].min() == pytest.approx(24 - 0.45, abs=0.05)


def test_what_only_fits_lying_down_is_taken_lying_down(cast: Cast, work: Work) -> None:
    tower = accept_model(cast.sam, SimpleUploadedFile("tower.stl", stl(shapes.box(10, 10, 280))))
    body = refused(ask(cast, tower, printer=str(cast.anvil.pk)), 422, "too_large_for_bed")
    assert "10 x 10 x 280" in body["message"]
    lying = {"rotation": [0, 90, 45]}
    answer = ask(cast, tower, printer=str(cast.anvil.pk), placement=lying)
    assert answer.status_code == 201, answer.content
    assert answer.json()["placement"] == {"scale": [1.0, 1.0, 1.0], "rotation": [0.0, 90.0, 45.0]}
    small = refused(ask(cast, tower, placement={"scale": [3, 3, 0.1]}, settings={"layer_height": 9}), 422)
    assert "layer_height" in small["message"]


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        ({"scale": [0, 1, 1]}, "scale must be between"),
        ({"scale": [-1, 1, 1]}, "scale must be between"),
        ({"scale": [1, 1]}, "three numbers"),
        ({"rotation": [0, 0, 400]}, "rotation must be between"),
        ({"rotation": [0, 0, float("nan")]}, "three numbers"),
        ({"rotation": "90"}, "three numbers"),
        ({"mirror": [1, 0, 0]}, "not mirror"),
    ],
)
def test_a_placement_that_cannot_be_meant_is_refused(
    cast: Cast, work: Work, placement: dict[str, Any], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        services.submit(cast.sam, model=model(cast.sam), placement=placement)
    assert not Job.objects.exists()


def test_standing_as_it_is_costs_nothing(cast: Cast, work: Work) -> None:
    """The model of this test cannot even be read."""
    job = services.submit(cast.sam, model=model(cast.sam), placement={"rotation": [360, 0, 0], "scale": [1, 1, 1]})
    assert (job.placement, job.placed_size) == ({}, None)


def test_good_ways_to_put_a_model_down_are_suggested(cast: Cast, bar: Model3D) -> None:
    answer = api(cast.sam).get(f"/api/models/{bar.pk}/stands/")
    assert answer.status_code == 200
    best = answer.json()[0]
    assert best["height_mm"] == pytest.approx(4)
    assert best["contact_mm2"] == pytest.approx(6 * 12)
    assert standing(bar, {"rotation": best["rotation"]})["size_mm"][2] == pytest.approx(4)
    refused(api(cast.tina).get(f"/api/models/{bar.pk}/stands/"), 404)


def test_a_model_that_cannot_be_read_has_no_stands(cast: Cast) -> None:
    refused(api(cast.sam).get(f"/api/models/{model(cast.sam).pk}/stands/"), 422, "unreadable")
