"""From a model to a finished print on real servers, through the farm's public doors only."""

from __future__ import annotations

import contextlib
import signal

import pytest

from printers.drivers.base import DriverError
from tests.flows.client import SLOW, Client
from tests.flows.conftest import Lab, Machine
from tests.flows.farm import wait_until
from tests.peers import MoonrakerPeer

pytestmark = pytest.mark.flow

REAL = [
    pytest.param("octoprint", marks=pytest.mark.octoprint),
    pytest.param("moonraker", marks=pytest.mark.moonraker),
]
ALL = [*REAL, "simulated-octoprint", "simulated-moonraker"]


@pytest.fixture
def machine(request: pytest.FixtureRequest, lab: Lab) -> Machine:
    """Idle, with a clear bed and nothing in the queue."""
    lab.empty_the_queue()
    return lab.ready(lab.machine(request.param))


@pytest.fixture(scope="module")
def small(lab: Lab, sam: Client) -> str:
    return sam.upload(lab.folder, (8, 8, 0.8), "small.stl")


@pytest.fixture(scope="module")
def large(lab: Lab, sam: Client) -> str:
    return sam.upload(lab.folder, (30, 30, 30), "large.stl")


def printing(sam: Client, model: str, machine: Machine) -> tuple[str, str]:
    """A job that prints and will not be done soon: (job, print)."""
    job = sam.submit(model, machine.id, settings=SLOW)
    return job, sam.wait_for_job(job, "printing")["prints"][-1]["id"]


def starts(lab: Lab, sam: Client, machine: Machine, *jobs: str) -> list[str]:
    """What became of every start that was ever sent for these jobs."""
    attempts = [row["id"] for job in jobs for row in sam.job(job)["prints"]]
    return [start["status"] for start in lab.staff.starts(machine.id) if start["print"] in attempts]


@pytest.mark.parametrize("machine", ALL, indirect=True)
def test_a_model_is_printed_and_the_next_job_waits_for_a_clear_bed(
    lab: Lab, machine: Machine, sam: Client, small: str
) -> None:
    with sam.live() as live:
        first = sam.submit(small, machine.id)
        # two are sliced at a time, and whichever is ready first is printed first
        wait_until(lambda: sam.job(first)["status"] != "preparing", "the first is sliced", 120)
        second = sam.submit(small, machine.id)
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
    assert starts(lab, sam, machine, first, second) == ["done", "done"]


@pytest.mark.parametrize("machine", ALL, indirect=True)
def test_its_owner_pauses_resumes_and_cancels_it(lab: Lab, machine: Machine, sam: Client, large: str) -> None:
    job, attempt = printing(sam, large, machine)
    sam.done(machine.id, "pause", print=attempt)
    sam.wait_for_job(job, "paused")
    assert sam.state(machine.id)["status"] == "paused"
    sam.done(machine.id, "resume", print=attempt)
    sam.wait_for_job(job, "printing")
    sam.post(f"jobs/{job}/cancel/")
    sam.wait_for_job(job, "cancelled")
    assert sam.ways(job) == ["uploading", "starting", "printing", "paused", "printing", "cancelled"]
    assert not sam.wait_until_idle(machine.id)["bed_clear"]
    assert starts(lab, sam, machine, job) == ["done"]


def break_down(machine: Machine, how: str) -> None:
    """What the machine does when it is too hot, or when a line of the file is not possible."""
    with machine.by_hand() as driver, contextlib.suppress(DriverError):  # a shutdown is an answer, too
        driver.gcode([how])


@pytest.mark.parametrize(
    ("machine", "how", "said"),
    [
        pytest.param("octoprint", "!!DEBUG:trigger_fatal_error_marlin", "Thermal Runaway", marks=pytest.mark.octoprint),
        pytest.param("moonraker", "M84", "Must home axis first", marks=pytest.mark.moonraker),
        pytest.param(
            "moonraker",
            'SIMULATE_SHUTDOWN MSG="Heater extruder not heating at expected rate"',
            "Heater extruder not heating at expected rate",
            marks=pytest.mark.moonraker,
        ),
    ],
    indirect=["machine"],
    ids=["octoprint fatal error", "moonraker g-code error", "moonraker shutdown"],
)
def test_a_print_that_fails_tells_its_owner_why_and_stops_the_queue(
    lab: Lab, machine: Machine, sam: Client, large: str, small: str, how: str, said: str
) -> None:
    job, _ = printing(sam, large, machine)
    following = sam.submit(small, machine.id)
    break_down(machine, how)
    assert said in sam.wait_for_job(job, "failed")["message"]
    sam.wait_for_reason(following, machine.name)
    assert not sam.state(machine.id)["bed_clear"]
    lab.ready(machine)
    sam.wait_for_job(following, "completed")
    assert starts(lab, sam, machine, job, following) == ["done", "done"]


@pytest.mark.parametrize("machine", ALL, indirect=True)
def test_a_print_begun_at_the_machine_is_shown_and_left_alone(
    lab: Lab, machine: Machine, sam: Client, small: str
) -> None:
    commands = lab.staff.every(f"printers/{machine.id}/commands/")
    with machine.by_hand() as driver:
        file = machine.print_by_hand(driver, lab.folder)
        seen = lab.staff.wait_for_state(machine.id, lambda now: now["job"] and now["status"] == "printing", "prints it")
        assert (seen["job"]["status"], seen["job"]["file"], seen["job"]["id"]) == ("external", file, None)
        assert "file" not in sam.state(machine.id)["job"]  # a stranger's: what it is called is not for everyone
        job = sam.submit(small, machine.id)
        sam.wait_for_reason(job, "is printing something that was started at the machine")
        assert driver.find_ended(file) is None
        driver.cancel()
        sam.wait_for_reason(job, "waits for somebody to clear its bed")
    assert lab.staff.every(f"printers/{machine.id}/commands/") == commands
    lab.staff.clear_bed(machine.id)
    sam.wait_for_job(job, "completed")


@pytest.mark.parametrize("machine", REAL, indirect=True)
def test_a_server_that_dies_in_the_middle_of_a_print(lab: Lab, machine: Machine, sam: Client, large: str) -> None:
    job, _ = printing(sam, large, machine)
    machine.peer.kill()
    sam.wait_for_state(machine.id, lambda now: now["status"] == "offline", "is offline")
    assert sam.job(job)["status"] == "printing"
    machine.peer.restart()
    assert sam.wait_for_job(job, "failed")["message"]
    assert not sam.wait_until_idle(machine.id)["bed_clear"]
    assert starts(lab, sam, machine, job) == ["done"]


@pytest.mark.moonraker
@pytest.mark.parametrize("machine", ["moonraker"], indirect=True)
def test_a_print_goes_on_while_moonraker_restarts(lab: Lab, machine: Machine, sam: Client, large: str) -> None:
    job, _ = printing(sam, large, machine)
    assert isinstance(machine.peer, MoonrakerPeer)
    machine.peer.restart_moonraker(signal.SIGKILL)
    machine.peer.set_speed(2000)  # it has printed on through the restart, and may end now
    sam.wait_for_job(job, "completed")
    machine.peer.set_speed(machine.peer.speed)
    assert starts(lab, sam, machine, job) == ["done"]


@pytest.mark.octoprint
@pytest.mark.moonraker
def test_prints_are_adopted_when_their_bridge_is_killed(lab: Lab, sam: Client, large: str) -> None:
    machines = [lab.ready(lab.machine(name)) for name in ("octoprint", "moonraker")]
    under_way = [(machine, *printing(sam, large, machine)) for machine in machines]
    with lab.leases_change(*machines):
        lab.farm.kill_child("bridge")
    for machine, job, attempt in under_way:
        sam.wait_for_state(machine.id, lambda now: now["status"] == "printing" and not now["stale"], "prints on")
        sam.done(machine.id, "pause", print=attempt)
        sam.wait_for_job(job, "paused")
        sam.post(f"jobs/{job}/cancel/")
        sam.wait_for_job(job, "cancelled")
        assert sam.ways(job) == ["uploading", "starting", "printing", "paused", "cancelled"]
        assert starts(lab, sam, machine, job) == ["done"]
