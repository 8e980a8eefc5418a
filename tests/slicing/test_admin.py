from __future__ import annotations

from typing import Any

import pytest

from slicing.models import PrinterProfile
from tests.cast import Cast, as_, gcode, model

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return Cast()


def form(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Large", "width": "300", "depth": "300", "height": "400", "origin_x": "0", "origin_y": "0",
        "nozzle_diameter": "0.6", "filament_diameter": "1.75", "flavour": "klipper", "max_nozzle_temperature": "285",
        "max_bed_temperature": "110", "start_gcode": "", "end_gcode": "", **changes,
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


@pytest.mark.parametrize("changes", [{"width": "5"}, {"nozzle_diameter": "9"}, {"name": ""}, {"is_default": "on"}])
def test_a_profile_that_makes_no_sense_is_refused_in_the_form(cast: Cast, changes: dict[str, str]) -> None:
    answer = as_(cast.ada).post("/admin/slicing/printerprofile/add/", form(**changes))
    assert answer.status_code == 200
    assert PrinterProfile.objects.count() == 1


def test_models_and_gcode_are_only_to_be_read_and_tell_no_path(cast: Cast) -> None:
    client = as_(cast.ada)
    for path, row in (("model3d", model(cast.sam)), ("gcode", gcode(cast.anvil))):
        answer = client.get(f"/admin/slicing/{path}/{row.pk}/change/")
        assert answer.status_code == 200
        assert str(row.file.name) not in answer.content.decode()
        assert client.post(f"/admin/slicing/{path}/{row.pk}/change/", {"name": "x"}).status_code == 403
        assert client.get(f"/admin/slicing/{path}/add/").status_code == 403
