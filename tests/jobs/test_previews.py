"""What is seen before and while something is printed: the model on its bed, and the layer that is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from farm.errors import Invalid, NotFound
from farm.models import User
from jobs import estimates, preparing, sweep
from jobs.models import Job
from jobs.states import JobStatus
from printers import telemetry
from slicing.models import Gcode, Model3D, PrinterProfile
from slicing.services import accept_model
from slicing.toolpaths import decoded
from tests.api import api, refused
from tests.cast import Cast, as_, attempt, gcode, job, model
from tests.shapes import box, stl
from tests.work import Work, committed

pytestmark = pytest.mark.django_db


def embedded(html: str, name: str) -> Any:
    """What the page gives its script."""
    found = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', html)
    assert found, name
    return json.loads(found[1])


# -- the model on the bed
def test_the_beds_of_all_printers_that_one_may_print_on_are_there(cast: Cast) -> None:
    PrinterProfile.objects.filter(pk=cast.anvil.profile_id).update(width=180, depth=170, origin_x=-90, origin_y=-85)
    part = model(cast.sam)
    html = as_(cast.sam).get(f"/submit/{part.pk}/").content.decode()
    assert embedded(html, "beds") == [
        {"id": str(cast.anvil.pk), "name": "Anvil", "width": 180, "depth": 170, "height": 250, "x": -90, "y": -85}
    ]
    assert f'data-shape="/api/models/{part.pk}/shape/"' in html
    olivia = model(cast.mallory)
    assert embedded(as_(cast.mallory).get(f"/submit/{olivia.pk}/").content.decode(), "beds") == []


# -- layers
def test_a_job_shows_its_layers_on_the_bed_they_were_made_for(cast: Cast) -> None:
    row = job(cast.sam, gcode=gcode(cast.anvil))
    html = as_(cast.sam).get(f"/jobs/{row.pk}/").content.decode()
    assert f'data-toolpaths="/api/jobs/{row.pk}/toolpaths/"' in html
    assert f'data-layers="/api/jobs/{row.pk}/layers/0/picture/"' in html
    assert 'data-bed="220 220 250 0 0"' in html
    assert "data-layer-of-printer" not in html


def test_the_layers_of_what_is_printed_follow_its_printer(cast: Cast) -> None:
    live = attempt(job(cast.sam, gcode=gcode(cast.anvil)), cast.anvil)
    url = f"/jobs/{live.job_id}/layers/?printer={cast.anvil.pk}"
    for user in (cast.sam, cast.olivia, cast.ada):
        html = as_(user).get(url).content.decode()
        assert f'data-layer-of-printer="{cast.anvil.pk}"' in html
        assert "hx-preserve" not in html, "the next print's layers replace these"
    for stranger in (cast.tina, cast.mallory):
        assert as_(stranger).get(url).status_code == 404
    for other in (f"?printer={cast.cellar.pk}", "?printer=x", ""):
        assert as_(cast.sam).get(f"/jobs/{live.job_id}/layers/{other}").status_code == 404


def test_without_layers_there_is_nothing_to_follow(cast: Cast) -> None:
    code = gcode(cast.anvil)
    Gcode.objects.filter(pk=code.pk).update(layers=0)
    for row in (job(cast.sam), job(cast.sam, gcode=code)):
        answer = as_(cast.sam).get(f"/jobs/{row.pk}/layers/?printer={cast.anvil.pk}")
        assert (answer.status_code, answer.content) == (200, b"")


def test_the_page_of_a_printer_has_a_place_for_the_layers_of_what_it_prints(cast: Cast) -> None:
    assert Job.objects.count() == 0
    html = as_(cast.tina).get(f"/printers/{cast.anvil.pk}/").content.decode()
    assert f'data-layers-of-printer="{cast.anvil.pk}"' in html


# -- what it would take
@pytest.fixture
def part(cast: Cast) -> Model3D:
    """Sam's, a small one that can be sliced."""
    telemetry.client().delete(f"farm:estimate:{cast.sam.pk}")
    return accept_model(cast.sam, SimpleUploadedFile("part.stl", stl(box(12, 10, 4))))


def wish(**fields: Any) -> dict[str, Any]:
    """The form as it is when the page is opened, with changes."""
    return {"size": "100", "copies": "1", "printer": "", "infill": "", "support": "", "stand": "", **fields}


def ask(user: User, part: Model3D, **fields: Any) -> str:
    with committed():
        answer = as_(user).post(f"/submit/{part.pk}/estimate/", wish(**fields))
    assert answer.status_code == 200
    return str(answer.content.decode())


def look(user: User, part: Model3D) -> str:
    answer = as_(user).get(f"/submit/{part.pk}/estimate/")
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_time_grams_and_layers_are_known_before_anything_is_sent(cast: Cast, work: Work, part: Model3D) -> None:
    assert look(cast.sam, part).strip() == ""
    html = ask(cast.sam, part)
    assert "data-again" in html
    assert "Waiting for the slicer" in html
    assert work.names() == ["jobs.estimate"]
    work.do_all()
    html, code = look(cast.sam, part), Gcode.objects.get()
    words = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert re.search(r"about \d+ (s|min) to print", words), words
    assert f"{code.filament_g:.1f} g of filament" in words
    assert f"{code.layers} layers" in words
    assert "data-again" not in html
    assert not Job.objects.exists()


def test_sending_it_then_slices_nothing(cast: Cast, work: Work, part: Model3D, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(cast.sam, part, infill="40")
    work.do_all()
    monkeypatch.setattr("slicing.services.make", None)
    with committed():
        as_(cast.sam).post(f"/submit/{part.pk}/", wish(infill="40", copies="2"))
    work.do_all()
    sent = Job.objects.get()
    assert (sent.status, sent.copies) == (JobStatus.READY, 2)
    assert sent.gcode == Gcode.objects.get()
    assert "about" in ask(cast.sam, part, infill="40"), "and is known at once when it is asked for again"
    assert work.names() == []


def test_another_wish_takes_the_first_back(cast: Cast, work: Work, part: Model3D) -> None:
    ask(cast.sam, part)
    ask(cast.sam, part)
    assert len(work.waiting) == 1, "the same is asked for once"
    ask(cast.sam, part, infill="10")
    first, second = work.waiting
    work.waiting.clear()
    work.do(first)
    assert not Gcode.objects.exists(), "nobody wants it any more"
    work.do(second)
    assert Gcode.objects.get().settings["infill_density"] == 10


def test_what_is_taken_back_while_it_is_sliced_ends(
    cast: Cast, work: Work, part: Model3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(cast.sam, part)

    def slices_on(_job: Any, _profile: Any, keep: Callable[[float], bool]) -> Gcode:
        assert keep(0.25)
        assert "Working out time and filament: 25 %" in look(cast.sam, part)
        estimates.stop(cast.sam)
        assert not keep(0.5)
        raise preparing.Cancelled

    monkeypatch.setattr(preparing, "slice_for", slices_on)
    work.do_all()
    assert look(cast.sam, part).strip() == ""


def test_what_cannot_be_printed_is_said_in_a_sentence(
    cast: Cast, work: Work, part: Model3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "prints at most" in ask(cast.sam, part, size="5000")
    assert "must be a number" in ask(cast.sam, part, size="huge")
    assert "no such printer" in ask(cast.sam, part, printer=str(cast.cellar.pk))
    assert work.names() == []

    def refuses(*_: Any) -> Gcode:
        raise Invalid("It has no bottom.")

    ask(cast.sam, part)
    monkeypatch.setattr(preparing, "slice_for", refuses)
    work.do_all()
    assert "It has no bottom." in look(cast.sam, part)


def test_a_model_that_stops_the_slicer_is_not_tried_for_ever(
    cast: Cast, work: Work, part: Model3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> Gcode:
        raise SystemExit

    ask(cast.sam, part)
    monkeypatch.setattr(preparing, "slice_for", dies)
    task = work.waiting.pop()
    for _ in range(estimates.MOST_ATTEMPTS):
        with pytest.raises(SystemExit):
            work.do(task)
    work.do(task)
    assert estimates.STOPPED in look(cast.sam, part)


def test_an_estimate_is_seen_by_whoever_asked(cast: Cast, work: Work, part: Model3D) -> None:
    ask(cast.sam, part)
    url = f"/api/models/{part.pk}/estimate/toolpaths/"
    refused(api(cast.sam).get(url), 404, "not_sliced")
    work.do_all()
    header, _ = decoded(api(cast.sam).get(url).content)
    assert len(header["z"]) == Gcode.objects.get().layers
    assert decoded(api(cast.sam).get(f"{url}1/").content)[0]["number"] == 0
    refused(api(cast.sam).get(f"{url}999/"), 404, "no_layer")
    assert look(cast.ada, part).strip() == "", "staff see the model; this they did not ask for"
    refused(api(cast.ada).get(url), 404, "not_sliced")
    for stranger in (cast.tina, cast.olivia, cast.mallory):
        assert as_(stranger).get(f"/submit/{part.pk}/estimate/").status_code == 404
        assert as_(stranger).post(f"/submit/{part.pk}/estimate/", wish()).status_code == 404
        refused(api(stranger).get(url), 404, "not_found")
    assert estimates.of(cast.sam, model(cast.sam)) is None, "it is of another model"


def test_what_was_never_sent_is_deleted_after_a_day(cast: Cast, work: Work, part: Model3D) -> None:
    ask(cast.sam, part)
    work.do_all()
    file = Path(Gcode.objects.get().file.path)
    used = job(cast.sam, gcode=gcode(cast.anvil)).gcode
    uploaded = gcode(cast.anvil)
    Gcode.objects.filter(pk=uploaded.pk).update(owner=cast.olivia)
    sweep.housekeeping()
    assert Gcode.objects.count() == 3
    Gcode.objects.update(created_at=timezone.now() - timedelta(days=2))
    sweep.housekeeping()
    assert set(Gcode.objects.all()) == {used, uploaded}
    assert not file.exists()
    with pytest.raises(NotFound):
        estimates.gcode_of(estimates.of(cast.sam, part))
