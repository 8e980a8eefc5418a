"""The whole way with every engine: model, G-code, real OctoPrint and real Moonraker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slicing.engines.site import NAMES, Site, missing
from tests.flows.client import HASTY, Client
from tests.flows.conftest import Lab, Machine

pytestmark = pytest.mark.flow

SERVERS = [
    pytest.param("octoprint", marks=pytest.mark.octoprint),
    pytest.param("moonraker", marks=pytest.mark.moonraker),
]
#: what its files say of who made their lines
MARKS = {"planar": "engine planar", "prusaslicer": "engine PrusaSlicer", "cura": "engine CuraEngine"}


@pytest.fixture(params=list(NAMES))
def engine(request: pytest.FixtureRequest, lab: Lab) -> Iterator[str]:
    """The default profile is sliced for by this one."""
    name: str = request.param
    if reason := missing(name, Site()):
        pytest.skip(reason)
    slices_with(lab, name)
    yield name
    slices_with(lab, "planar")


def slices_with(lab: Lab, engine: str) -> None:
    profile = next(row for row in lab.staff.every("profiles/") if row["is_default"])
    changed = lab.staff.call("PATCH", f"profiles/{profile['id']}/", json={"engine": engine})
    assert changed["engine"] == engine
    assert changed["revision"] == profile["revision"]  # the machine is the same


@pytest.fixture
def machine(request: pytest.FixtureRequest, lab: Lab) -> Machine:
    return lab.ready(lab.machine(request.param))


@pytest.mark.parametrize("machine", SERVERS, indirect=True)
def test_a_model_is_sliced_by_every_engine_and_printed(lab: Lab, machine: Machine, engine: str, sam: Client) -> None:
    model = sam.upload(lab.folder, (9, 7, 0.8), f"{engine}.stl")
    quality = next(row["id"] for row in sam.every("qualities/") if row["name"] == "Draft")
    job = sam.submit(model, machine.id, quality=quality)
    done = sam.wait_for_job(job, "completed")
    assert (done["quality"]["name"], done["material"]["name"]) == ("Draft", "PLA")
    text = sam.gcode(job)
    assert MARKS[engine] in text
    assert text.count(";LAYER_CHANGE") >= 3
    attempt = done["prints"][-1]
    assert (attempt["status"], attempt["progress"]) == ("completed", 1.0)
    assert done["filament_mm"] > 5


@pytest.mark.parametrize("machine", ["simulated-moonraker"], indirect=True)
def test_an_engine_that_fails_tells_the_owner_why(lab: Lab, machine: Machine, engine: str, sam: Client) -> None:
    """A bed that is just filled has no room for the skirt."""
    model = sam.upload(lab.folder, (219.5, 219.5, 0.6), "too-large.stl")
    job = sam.submit(model, machine.id, settings={**HASTY, "skirt_loops": 2})
    ended = sam.wait_for_job(job, "failed")
    assert "fit" in ended["message"] or "outside" in ended["message"] or "can only print" in ended["message"]
    assert ended["prints"] == []
