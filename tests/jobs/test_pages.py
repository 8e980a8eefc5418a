from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile

from farm.models import User
from jobs.models import Job, Print
from jobs.states import JobStatus, PrintStatus
from printers.models import Role
from slicing import layers, presets, profiles
from slicing.models import Material, Model3D, Quality
from tests import shapes
from tests.cast import Cast, as_, attempt, gcode, grant, htmx, job, model, person

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return Cast()


def page(user: User, path: str) -> str:
    answer = as_(user).get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    """What a reader sees, roughly."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split()).replace(" ,", ",")


def stl(x: float, y: float, z: float, name: str = "part.stl") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, shapes.stl(shapes.box(x, y, z)))


def test_it_asks_strangers_to_log_in(client: Any) -> None:
    for path in ("/submit/", f"/submit/{uuid4()}/", f"/jobs/{uuid4()}/", "/queue/", "/prints/"):
        answer = client.get(path)
        assert (answer.status_code, answer["Location"]) == (302, f"/login/?next={path}")


# -- giving a model
def test_a_model_that_can_be_read_leads_to_its_options(cast: Cast) -> None:
    answer = as_(cast.sam).post(f"/submit/?printer={cast.anvil.pk}", {"file": stl(30, 20, 10)})
    given = Model3D.objects.get()
    assert (given.owner, given.name, given.size_mm) == (cast.sam, "part.stl", [30, 20, 10])
    assert (answer.status_code, answer["Location"]) == (302, f"/submit/{given.pk}/?printer={cast.anvil.pk}")


def test_a_dropped_model_leads_there_too(cast: Cast) -> None:
    answer = as_(cast.sam).post("/submit/", {"file": stl(30, 20, 10)}, headers=htmx())
    assert answer["HX-Redirect"] == f"/submit/{Model3D.objects.get().pk}/"


def test_a_file_that_is_no_model_is_refused_with_a_notice(cast: Cast) -> None:
    for upload in (SimpleUploadedFile("holiday.jpg", b"\xff\xd8"), SimpleUploadedFile("broken.stl", b"solid nothing")):
        answer = as_(cast.sam).post("/submit/", {"file": upload}, headers=htmx())
        assert (answer.status_code, answer["HX-Retarget"]) == (422, "#notices")
    assert as_(cast.sam).post("/submit/").status_code == 422
    assert not Model3D.objects.exists()


def test_the_first_step_offers_own_models_only(cast: Cast) -> None:
    model(cast.sam, "mine.stl")
    model(cast.tina, "theirs.stl")
    shown = page(cast.sam, "/submit/")
    assert "mine.stl" in shown
    assert "theirs.stl" not in shown


def test_the_first_step_says_so_when_there_is_no_printer(cast: Cast) -> None:
    assert "no printer yet that you may print on" in page(cast.mallory, "/submit/")
    assert "no printer yet that you may print on" not in page(cast.sam, "/submit/")


# -- options
def test_anothers_model_is_nothing_to_other_people(cast: Cast) -> None:
    made = model(cast.sam)
    for user in (cast.tina, cast.olivia, cast.mallory):
        assert as_(user).get(f"/submit/{made.pk}/").status_code == 404
        assert as_(user).post(f"/submit/{made.pk}/", {"quality": "0.2"}).status_code == 404
    assert "bracket.stl" in page(cast.ada, f"/submit/{made.pk}/")


def test_printers_that_it_does_not_fit_are_shown_with_the_reason(cast: Cast) -> None:
    grant(cast.sam, cast.cellar, Role.VIEW)
    tall = model(cast.sam, size=(40, 30, 300))
    shown = page(cast.sam, f"/submit/{tall.pk}/")
    assert "Too small for it as it is: up to 220 × 220 × 250 mm" in shown
    assert "None fits it as it is" in shown  # but it may be scaled or turned
    assert "You may look at it, not print on it" in shown
    assert re.search(f'value="{cast.cellar.pk}"[^>]*disabled', shown)
    assert not re.search(f'value="{cast.anvil.pk}"[^>]*disabled', shown)


def test_the_printer_that_was_asked_for_is_chosen_already(cast: Cast) -> None:
    shown = page(cast.sam, f"/submit/{model(cast.sam).pk}/?printer={cast.anvil.pk}")
    assert re.search(f'value="{cast.anvil.pk}" checked', shown)


def test_a_model_with_holes_comes_with_a_warning(cast: Cast) -> None:
    made = model(cast.sam)
    assert "has holes" not in page(cast.sam, f"/submit/{made.pk}/")
    Model3D.objects.update(watertight=False)
    assert "has holes" in page(cast.sam, f"/submit/{made.pk}/")


def test_every_setting_of_a_slice_is_offered_once_with_its_unit_range_and_meaning(cast: Cast) -> None:
    shown = page(cast.sam, f"/submit/{model(cast.sam).pk}/")
    for word in ("mm/s", "Filament pulled back before a travel", "(1 to 20)", "°C", "Where walls begin and end"):
        assert word in shown
    for name in presets.SETTINGS:
        fixed = name in ("nozzle_diameter", "filament_diameter")  # the printer's
        assert shown.count(f'name="{name}"') == (0 if fixed else 1), name


def test_it_offers_materials_and_qualities_in_plain_words(cast: Cast) -> None:
    shown = words(page(cast.sam, f"/submit/{model(cast.sam).pk}/"))
    assert "Draft Quick, with visible layers 0.28 mm layers" in shown
    assert "PETG Tough, takes a little heat 240 °C, bed 90 °C" in shown


def test_a_material_of_a_group_is_offered_to_its_people_only(cast: Cast) -> None:
    club = Group.objects.create(name="Carbon club")
    profiles.add_profile(Material, name="Carbon nylon", groups=[club])
    path = f"/submit/{model(cast.sam).pk}/"
    assert "Carbon nylon" not in page(cast.sam, path)
    cast.sam.groups.add(club)
    assert "Carbon nylon" in page(cast.sam, path)


def test_grey_values_are_those_of_the_usual_quality_material_and_printer(cast: Cast) -> None:
    profiles.change_profile(Quality.objects.get(is_default=True), settings={"walls": 3, "seam": "random"})
    profiles.change_profile(Material.objects.get(is_default=True), settings={"nozzle_temperature": 207.5})
    cast.anvil.profile.settings = {"retract_length": 4.2}
    cast.anvil.profile.save()
    shown = page(cast.sam, f"/submit/{model(cast.sam).pk}/?printer={cast.anvil.pk}")
    for name, usual in (("walls", "3"), ("nozzle_temperature", "207.5"), ("retract_length", "4.2"), ("z_hop", "0")):
        assert re.search(rf'name="{name}"[^>]* placeholder="{usual}"', shown), name
    assert re.search(r'name="seam"[^>]*><option value="">Random</option>', shown)


def submit(user: User, made: Model3D, **form: Any) -> Any:
    return as_(user).post(f"/submit/{made.pk}/", {"copies": "1", **form})


def test_it_submits_what_was_chosen_and_shows_the_job(cast: Cast) -> None:
    form = {
        "printer": str(cast.anvil.pk),
        "quality": str(Quality.objects.get(name="Draft").pk),
        "material": str(Material.objects.get(name="PETG").pk),
        "infill": "40",
        "support": "bed",
        "copies": "3",
        "hold": "yes",
        "walls": "4",
        "combing": "False",
    }
    answer = submit(cast.sam, model(cast.sam), **form)
    made = Job.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/jobs/{made.pk}/")
    assert (made.owner, made.printer, made.copies, made.hold) == (cast.sam, cast.anvil, 3, True)
    assert made.settings == {"infill_density": 40.0, "supports": "bed", "walls": 4, "combing": False}
    assert made.quality is not None
    assert made.material is not None
    assert (made.quality.name, made.material.name) == ("Draft", "PETG")


def test_the_usual_quality_and_material_are_taken_when_none_is_chosen(cast: Cast) -> None:
    submit(cast.sam, model(cast.sam))
    made = Job.objects.get()
    assert made.quality is not None
    assert made.material is not None
    assert (made.quality.name, made.material.name, made.settings) == ("Standard", "PLA", {})


def test_all_settings_win_over_the_short_form(cast: Cast) -> None:
    submit(cast.sam, model(cast.sam), infill="40", infill_density="22.5", support="bed", supports="none")
    assert Job.objects.get().settings == {"infill_density": 22.5, "supports": "none"}


@pytest.mark.parametrize(
    "form",
    [{"copies": "0"}, {"copies": "many"}, {"copies": "-1"}, {"copies": "1000000000000"}, {"infill": "nan"},
     {"infill": "much"}, {"walls": "2.5"}, {"print_speed": "inf"}, {"nozzle_temperature": "400"}, {"seam": "pretty"},
     {"combing": "perhaps"}, {"layer_height": "5"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(cast: Cast, form: dict[str, str]) -> None:
    assert submit(cast.sam, model(cast.sam), **form).status_code == 422
    assert not Job.objects.exists()


@pytest.mark.parametrize("kind", [Material, Quality])
def test_a_material_or_quality_that_one_may_not_see_is_not_there(cast: Cast, kind: Any) -> None:
    hidden = profiles.add_profile(kind, name="Secret", groups=[Group.objects.create(name="Few")])
    for pk in (str(hidden.pk), str(uuid4()), "draft"):
        assert submit(cast.sam, model(cast.sam), **{kind.kind.value: pk}).status_code == 404
    assert not Job.objects.exists()


def given(user: User, x: float, y: float, z: float) -> Model3D:
    """Really uploaded."""
    as_(user).post("/submit/", {"file": stl(x, y, z)})
    return Model3D.objects.latest("created_at")


def test_a_model_that_is_too_large_may_be_scaled_and_turned(cast: Cast) -> None:
    made = given(cast.sam, 20, 30, 400)
    assert submit(cast.sam, made).status_code == 422
    assert submit(cast.sam, made, size="50").status_code == 302
    assert submit(cast.sam, made, size="55.5", stand="90,0,0").status_code == 422  # 222 mm on a bed of 220
    half, *_ = Job.objects.all()
    assert half.placed_size == [10, 15, 200]
    assert "Stands 50 % " in words(page(cast.sam, f"/jobs/{half.pk}/"))


@pytest.mark.parametrize("form", [{"size": "0"}, {"size": "big"}, {"stand": "90"}, {"stand": "a,b,c"}])
def test_sizes_and_turns_that_make_no_sense_are_refused(cast: Cast, form: dict[str, str]) -> None:
    assert submit(cast.sam, given(cast.sam, 20, 30, 40), **form).status_code == 422
    assert not Job.objects.exists()


def test_sides_to_stand_on_are_suggested_to_the_owner(cast: Cast) -> None:
    made = given(cast.sam, 20, 30, 40)
    shown = words(page(cast.sam, f"/submit/{made.pk}/stands/"))
    assert "Turned by" in shown
    assert "12.0 cm² on the bed, 20 mm high, nothing over air" in shown
    assert 'value="0,0,0"' not in page(cast.sam, f"/submit/{made.pk}/stands/")  # so it stands in its file
    assert as_(cast.tina).get(f"/submit/{made.pk}/stands/").status_code == 404


def test_the_same_is_printed_once_more(cast: Cast) -> None:
    first = job(cast.sam, JobStatus.COMPLETED, printer=cast.anvil, copies=2, settings={"walls": 3})
    assert f'action="/jobs/{first.pk}/again/"' in page(cast.sam, f"/jobs/{first.pk}/")
    answer = as_(cast.sam).post(f"/jobs/{first.pk}/again/")
    again = Job.objects.exclude(pk=first.pk).get()
    assert answer["Location"] == f"/jobs/{again.pk}/"
    assert (again.owner, again.printer, again.copies, again.settings) == (cast.sam, cast.anvil, 2, {"walls": 3})
    for user in (cast.tina, cast.olivia, cast.mallory):
        assert as_(user).post(f"/jobs/{first.pk}/again/").status_code == 404


def test_nobody_submits_to_a_printer_without_the_right(cast: Cast) -> None:
    guest = person("guest")
    grant(guest, cast.anvil, Role.VIEW)
    assert submit(guest, model(guest), printer=str(cast.anvil.pk)).status_code == 403
    assert submit(guest, model(guest)).status_code == 403
    assert submit(cast.sam, model(cast.sam), printer=str(cast.cellar.pk)).status_code == 404
    assert submit(cast.sam, model(cast.sam), printer="x").status_code == 404
    assert not Job.objects.exists()


# -- one job
def test_a_job_is_shown_to_its_owner_to_operators_of_its_printer_and_to_staff(cast: Cast) -> None:
    row = job(cast.sam, printer=cast.anvil, message="Waiting: Anvil is busy.", gcode=gcode(cast.anvil))
    for user in (cast.sam, cast.olivia, cast.ada):
        assert "Waiting: Anvil is busy." in page(user, f"/jobs/{row.pk}/")
    for user in (cast.tina, cast.mallory):
        answer = as_(user).get(f"/jobs/{row.pk}/")
        assert answer.status_code == 404
        assert "bracket.stl" not in answer.content.decode()


def test_only_the_owner_and_staff_are_offered_deeds(cast: Cast) -> None:
    row = job(cast.sam, printer=cast.anvil, gcode=gcode(cast.anvil), hold=True)
    for user in (cast.sam, cast.ada):
        shown = page(user, f"/jobs/{row.pk}/")
        assert f"/jobs/{row.pk}/cancel/" in shown
        assert f"/jobs/{row.pk}/start/" in shown
        assert f"/api/jobs/{row.pk}/gcode/" in shown
    for deed in ("cancel", "start", "gcode"):
        assert f"{row.pk}/{deed}/" not in page(cast.olivia, f"/jobs/{row.pk}/")


def test_a_job_shows_estimates_settings_and_everything_that_happened(cast: Cast) -> None:
    row = job(cast.sam, gcode=gcode(cast.anvil), settings={"layer_height": 0.28})
    attempt(row, cast.anvil, PrintStatus.FAILED, message="The nozzle is blocked.", duration_s=754.0)
    shown = words(page(cast.sam, f"/jobs/{row.pk}/"))
    for text in (
        "Takes about 1 h 05 min", "4.5 g, 1.50 m", "Layers 100", "Layer height 0.28 mm", "Layer 50 of 100", "Submitted",
        "nozzle is blocked.", "13 min",
    ):  # fmt: skip
        assert text in shown


def test_what_a_job_was_made_with_can_be_read_later(cast: Cast) -> None:
    submit(cast.sam, model(cast.sam), seam="random", combing="False")
    shown = words(page(cast.sam, f"/jobs/{Job.objects.get().pk}/"))
    for text in ("Quality Standard", "Material PLA", "Seam Random", "Combing No"):
        assert text in shown


def test_layers_are_coloured_as_the_legend_says() -> None:
    sheet = (settings.BASE_DIR / "static" / "farm.css").read_text()
    legend = {
        "outer": "External perimeter", "inner": "Perimeter", "solid": "Solid infill", "sparse": "Internal infill",
        "top": "Top solid infill", "bridge": "Bridge infill", "support": "Support material", "skirt": "Skirt",
    }  # fmt: skip
    for name, feature in legend.items():
        shade = " ".join(map(str, layers.colour(feature)))
        assert f'.legend [data-feature="{name}"] {{ --shade: rgb({shade}); }}' in sheet


def test_a_job_shows_its_part(cast: Cast) -> None:
    shown = model(cast.sam)
    row = job(cast.sam, model=shown)
    source = f'src="/api/jobs/{row.pk}/picture/"'
    for path in (f"/jobs/{row.pk}/", "/queue/"):
        assert source not in page(cast.sam, path)
    shown.picture.save("x", ContentFile(b"png"))
    for path in (f"/jobs/{row.pk}/", "/queue/"):
        assert source in page(cast.sam, path)
    assert source not in page(cast.tina, "/queue/")  # another person's


def test_a_job_under_way_is_told_once(cast: Cast) -> None:
    row = job(cast.sam)
    made = attempt(row, cast.anvil)
    assert "<h2>Prints</h2>" not in page(cast.sam, f"/jobs/{row.pk}/")
    Print.objects.filter(pk=made.pk).update(status=PrintStatus.UNKNOWN)
    assert "<h2>Prints</h2>" in page(cast.ada, f"/jobs/{row.pk}/")  # staff decide there how it ended


def test_a_live_job_shows_its_printers_progress(cast: Cast) -> None:
    row = job(cast.sam)
    attempt(row, cast.anvil)
    shown = words(page(cast.sam, f"/jobs/{row.pk}/"))
    for text in ("Printing", "42 %", "45 min", "Watch it on Anvil"):
        assert text in shown


def test_only_the_owner_and_staff_cancel(cast: Cast) -> None:
    row = job(cast.sam, printer=cast.anvil)
    for user in (cast.tina, cast.mallory, cast.olivia):
        assert as_(user).post(f"/jobs/{row.pk}/cancel/").status_code == 404
    row.refresh_from_db()
    assert row.status == JobStatus.READY
    shown = as_(cast.sam).post(f"/jobs/{row.pk}/cancel/", follow=True).content.decode()
    assert "Cancelled by Sam." in shown


def test_what_ended_cannot_be_cancelled(cast: Cast) -> None:
    row = job(cast.sam, JobStatus.COMPLETED)
    assert as_(cast.sam).post(f"/jobs/{row.pk}/cancel/").status_code == 409


def test_a_held_job_is_started_by_its_owner(cast: Cast) -> None:
    row = job(cast.sam, hold=True)
    assert as_(cast.tina).post(f"/jobs/{row.pk}/start/").status_code == 404
    assert "On hold" in page(cast.sam, f"/jobs/{row.pk}/")
    assert "On hold" not in as_(cast.sam).post(f"/jobs/{row.pk}/start/", follow=True).content.decode()


@pytest.mark.parametrize("deed", ["approve", "reject"])
def test_only_staff_approve_and_reject(cast: Cast, deed: str) -> None:
    row = job(cast.sam, JobStatus.AWAITING_APPROVAL)
    assert as_(cast.sam).post(f"/jobs/{row.pk}/{deed}/", {"why": "I like it"}).status_code == 403
    assert as_(cast.olivia).post(f"/jobs/{row.pk}/{deed}/").status_code == 404
    assert f"/jobs/{row.pk}/{deed}/" not in page(cast.sam, f"/jobs/{row.pk}/")
    assert f"/jobs/{row.pk}/{deed}/" in page(cast.ada, f"/jobs/{row.pk}/")
    answer = as_(cast.ada).post(f"/jobs/{row.pk}/{deed}/", {"why": "Too much filament"})
    row.refresh_from_db()
    assert (answer.status_code, row.status) == (302, "ready" if deed == "approve" else "failed")
    assert deed == "approve" or row.message == "Not approved: Too much filament"


def test_only_staff_decide_how_a_print_ended_that_nobody_followed(cast: Cast) -> None:
    row = job(cast.sam)
    lost = attempt(row, cast.anvil, PrintStatus.UNKNOWN)
    path = f"/prints/{lost.pk}/decide/"
    for user in (cast.sam, cast.olivia):
        assert as_(user).post(path, {"outcome": "completed"}).status_code == 403
    assert path in page(cast.ada, f"/jobs/{row.pk}/")
    assert as_(cast.ada).post(path, {"outcome": "eaten"}).status_code == 422
    assert as_(cast.ada).post(path, {"outcome": "completed"}).status_code == 302
    lost.refresh_from_db()
    assert (lost.status, lost.message) == ("completed", "Decided by Ada.")


@pytest.mark.parametrize("deed", ["cancel", "start", "approve", "reject"])
def test_nothing_changes_by_following_a_link(cast: Cast, deed: str) -> None:
    assert as_(cast.ada).get(f"/jobs/{job(cast.sam).pk}/{deed}/").status_code == 405
