"""What is seen before and while something is printed: the model on its bed, and the layer that is printed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from jobs.models import Job
from slicing.models import Gcode, PrinterProfile
from tests.cast import Cast, as_, attempt, gcode, job, model

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
