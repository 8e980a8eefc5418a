"""From a model to a finished print on real servers, through the farm's public doors only."""

from __future__ import annotations

import pytest

from tests.flows.client import Client
from tests.flows.conftest import Lab, Machine, Peers

pytestmark = pytest.mark.flow


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("octoprint", marks=pytest.mark.octoprint),
        pytest.param("moonraker", marks=pytest.mark.moonraker),
        "simulated-octoprint",
        "simulated-moonraker",
    ],
)
def bench(request: pytest.FixtureRequest, lab: Lab, peers: Peers) -> Machine:
    """A printer of the farm whose bed is clear."""
    name: str = request.param
    machine = lab.add(name, name.removeprefix("simulated-"), peers[name], bed_clear=True)
    lab.open_to_students()
    return machine


@pytest.fixture
def machine(lab: Lab, bench: Machine) -> Machine:
    """Idle, with a clear bed."""
    lab.staff.clear_bed(bench.id)
    return bench


@pytest.fixture(scope="module")
def sam(lab: Lab) -> Client:
    """Somebody who may print, and nothing else."""
    return lab.person("sam")


@pytest.fixture(scope="module")
def small(lab: Lab, sam: Client) -> str:
    return sam.upload(lab.folder, (8, 8, 0.8), "small.stl")


def test_a_model_is_printed_and_the_next_job_waits_for_a_clear_bed(
    lab: Lab, machine: Machine, sam: Client, small: str
) -> None:
    first, second = (sam.submit(small, machine.id) for _ in range(2))
    with sam.live() as live:
        done = sam.wait_for_job(first, "completed")
        live.until(lambda told: (first, "completed") in told.jobs, "the job is completed")
        live.until(lambda told: told.printers[machine.id]["bed_clear"] is False, "the bed is not clear")
    ways = [way for way in sam.ways(first) if way != "printing"]  # which may be shorter than a look
    assert ways == ["uploading", "starting", "completed"]
    history = [row for row in sam.every("prints/") if row["job"] == first]
    assert [(row["status"], row["printer"], row["progress"]) for row in history] == [("completed", machine.id, 1.0)]
    assert history[0]["id"] == done["prints"][0]["id"]
    assert history[0]["duration_s"] > 0

    sam.wait_for_reason(second, f"{machine.name} waits for somebody to clear its bed")
    lab.staff.clear_bed(machine.id)
    sam.wait_for_job(second, "completed")
    for job in (first, second):
        attempts = [row["id"] for row in sam.job(job)["prints"]]
        assert [s["status"] for s in lab.staff.starts(machine.id) if s["print"] in attempts] == ["done"]
