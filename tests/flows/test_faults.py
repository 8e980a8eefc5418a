"""What goes wrong in a lab: machines, networks and our own processes fail in the middle of a print.

Whatever fails: nothing is started twice, no bed is called clear that may not be, and the owner is told what happened.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from tests import shapes
from tests.flows.client import SLOW, Client
from tests.flows.conftest import INTO_THE_POOL, Lab, Machine
from tests.flows.farm import wait_until
from tests.peers import SimulatorPeer

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

KINDS = ("octoprint", "moonraker")


@dataclass
class Workshop:
    """Two simulated servers, an OctoPrint and a Moonraker, which can be told to fail, as printers of the farm."""

    lab: Lab
    peers: dict[str, SimulatorPeer]
    machines: dict[str, Machine] = field(default_factory=dict)
    number: int = 0

    def ready(self) -> list[Machine]:
        """Idle, with clear beds and nothing in the queue. One that failed to take a print would not be offered for
        half a minute: it is added anew."""
        self.lab.empty_the_queue()
        for kind in KINDS:
            machine = self.machines.get(kind)
            if machine is None or self.lab.staff.every("prints/", printer=machine.id, status="failed"):
                self._replace(kind)
        return [self._settled(self.machines[kind]) for kind in KINDS]

    def anew(self, kind: str) -> Machine:
        """Just added: nothing was printed in the last seconds, of which its record may not tell yet."""
        self.ready()
        self._replace(kind)
        return self._settled(self.machines[kind])

    def _replace(self, kind: str) -> None:
        if kind in self.machines:
            self.lab.staff.wait_until_idle(self.machines[kind].id)
            self.lab.staff.call("PATCH", f"printers/{self.machines[kind].id}/", json={"enabled": False})
        self.number += 1
        self.machines[kind] = self.lab.add(f"{kind}-{self.number}", kind, self.peers[kind], bed_clear=True)
        self.lab.farm.manage("shell", "-c", INTO_THE_POOL)

    def _settled(self, machine: Machine) -> Machine:
        in_maintenance(self.lab, machine, "")
        return self.lab.ready(machine)


def in_maintenance(lab: Lab, machine: Machine, why: str) -> None:
    lab.staff.call("PATCH", f"printers/{machine.id}/", json={"maintenance": why})


@pytest.fixture(scope="module")
def workshop(lab: Lab) -> Iterator[Workshop]:
    with SimulatorPeer("octoprint") as one, SimulatorPeer("moonraker") as other:
        yield Workshop(lab, {"octoprint": one, "moonraker": other})


@pytest.fixture
def both(workshop: Workshop) -> list[Machine]:
    return workshop.ready()


@pytest.fixture(params=KINDS)
def machine(request: pytest.FixtureRequest, both: list[Machine]) -> Machine:
    return both[KINDS.index(request.param)]


@pytest.fixture
def spare(machine: Machine, both: list[Machine], lab: Lab) -> Machine:
    """The other one: in maintenance until ``lab`` ends that."""
    other = both[1 - both.index(machine)]
    in_maintenance(lab, other, "new nozzle")
    return other


@pytest.fixture(scope="module")
def small(lab: Lab, sam: Client) -> str:
    return sam.upload(lab.folder, (8, 8, 0.8), "small.stl")


@pytest.fixture(scope="module")
def large(lab: Lab, sam: Client) -> str:
    return sam.upload(lab.folder, (30, 30, 30), "large.stl")


def printing(sam: Client, model: str, machine: Machine) -> str:
    """A job that prints, and will for minutes."""
    job = sam.submit(model, machine.id, settings=SLOW)
    sam.wait_for_job(job, "printing")
    return job


def begun(machine: Machine) -> dict[str, int]:
    """How often the machine itself began to print which file."""
    starts: dict[str, int] = machine.peer.happened()["starts"]
    return starts


@contextmanager
def one_start(*machines: Machine) -> Iterator[None]:
    """What happens inside starts one print on each of these machines, by their own count."""
    before = [begun(machine) for machine in machines]
    yield
    for machine, earlier in zip(machines, before, strict=True):
        new = {file: count - earlier.get(file, 0) for file, count in begun(machine).items()}
        assert [count for count in new.values() if count] == [1], (machine.name, new)


def hurry(*machines: Machine) -> None:
    for machine in machines:
        machine.peer.fault("speed", speed=5000)


def usual(*machines: Machine) -> None:
    for machine in machines:
        machine.peer.fault("speed", speed=machine.peer.speed)


# -- the start
def test_a_start_that_was_heard_and_not_answered_is_one_print(
    lab: Lab, both: list[Machine], sam: Client, small: str
) -> None:
    with one_start(*both):
        for machine in both:
            machine.peer.fault("swallow_start")
        jobs = [sam.submit(small, machine.id) for machine in both]
        for job in jobs:
            sam.wait_for_job(job, "completed")
        for machine, job in zip(both, jobs, strict=True):
            outcomes = lambda: [start["status"] for start in lab.staff.starts(machine.id)]  # noqa: B023, E731
            wait_until(lambda: outcomes()[0] == "done", "the bridge waits no longer for an answer", 60)  # noqa: B023
            assert len(sam.job(job)["prints"]) == 1


def test_a_start_that_was_lost_is_cleared_up_and_never_sent_twice(
    lab: Lab, machine: Machine, spare: Machine, sam: Client, small: str
) -> None:
    bed, before = lab.staff.state(machine.id)["bed"], begun(machine)
    machine.peer.fault("ignore_start")
    with one_start(spare):
        job = sam.submit(small)
        wait_until(lambda: lab.staff.every("prints/", job=job, status="failed"), "it is cleared up", 60)
        in_maintenance(lab, spare, "")
        done = sam.wait_for_job(job, "completed")
    assert begun(machine) == before
    now = sam.state(machine.id)
    assert (now["bed_clear"], now["bed"]) == (True, bed + 1)  # used for a start, and given back
    assert {(row["status"], row["message"]) for row in done["prints"]} == {
        ("failed", "It was not started."),
        ("completed", ""),
    }
    unclear = next(event["message"] for event in sam.events(job) if event["new"] == "unknown")
    assert unclear == f"It is not clear whether {machine.name} started: it is being found out."


def test_a_job_taken_back_while_nobody_knows_whether_it_began_is_cancelled(
    both: list[Machine], sam: Client, large: str
) -> None:
    with one_start(*both):
        for machine in both:
            machine.peer.fault("swallow_start")
        jobs = [sam.submit(large, machine.id, settings=SLOW) for machine in both]
        for job in jobs:
            wait_until(lambda: sam.job(job)["status"] in ("starting", "printing"), "the start is on its way", 60)  # noqa: B023
            sam.post(f"jobs/{job}/cancel/")
        for machine, job in zip(both, jobs, strict=True):
            sam.wait_for_job(job, "cancelled")
            assert not sam.wait_until_idle(machine.id)["bed_clear"]
            assert not machine.peer.happened()["printing"]


# -- what a printer does not take
DID_NOT_TAKE = "{name} did not take the file: "
REFUSALS = {"refuse_start": "Not started: ", "reject_upload": DID_NOT_TAKE, "corrupt_upload": DID_NOT_TAKE}


@pytest.mark.parametrize("fault", REFUSALS)
def test_what_a_printer_does_not_take_another_one_prints(
    lab: Lab, machine: Machine, spare: Machine, sam: Client, small: str, fault: str
) -> None:
    machine.peer.fault(fault, message="The door is open")
    before = begun(machine)
    with one_start(spare):
        job = sam.submit(small)
        wait_until(lambda: lab.staff.every("prints/", job=job, status="failed"), "it is not taken", 60)
        in_maintenance(lab, spare, "")
        done = sam.wait_for_job(job, "completed")
    refused = next(row["message"] for row in done["prints"] if row["status"] == "failed")
    beginning = REFUSALS[fault].format(name=machine.name)
    assert refused.startswith(beginning)
    assert len(refused) > len(beginning)
    assert begun(machine) == before
    assert sam.state(machine.id)["bed_clear"]  # nothing was printed there
    assert {row["printer"] for row in done["prints"]} == {machine.id, spare.id}


@pytest.mark.parametrize("kind", KINDS)
def test_a_printer_that_is_off_gets_its_job_when_it_is_back(
    workshop: Workshop, sam: Client, small: str, kind: str
) -> None:
    machine = workshop.anew(kind)
    machine.peer.kill()
    sam.wait_for_state(machine.id, lambda now: now["status"] == "offline", "is offline")
    job = sam.submit(small, machine.id)
    assert sam.wait_for_reason(job, f"{machine.name} is offline")
    machine.peer.restart()
    with one_start(machine):
        sam.wait_for_job(job, "completed")  # its own record says that its bed is as clear as before


# -- lines that are cut, servers that hang
def test_a_print_goes_on_while_its_server_does_not_answer(both: list[Machine], sam: Client, large: str) -> None:
    with one_start(*both):
        jobs = [printing(sam, large, machine) for machine in both]
        for machine in both:
            machine.peer.fault("drop")
            machine.peer.fault("hang", seconds=600)
        for machine, job in zip(both, jobs, strict=True):
            sam.wait_for_state(machine.id, lambda now: now["stale"] or now["status"] == "offline", "is silent")
            assert sam.job(job)["status"] == "printing"
        hurry(*both)
        for machine in both:
            machine.peer.fault("resume")
        for job in jobs:
            sam.wait_for_job(job, "completed")
    usual(*both)


# -- our own processes
def test_what_happened_while_no_bridge_lived_is_found_in_the_printers_records(
    lab: Lab, both: list[Machine], sam: Client, small: str, large: str
) -> None:
    """One print ends unheard; of another one only the request to start it had been sent."""
    followed, unheard = both
    with one_start(*both):
        first = printing(sam, large, followed)
        unheard.peer.fault("swallow_start")
        seen = begun(unheard)
        second = sam.submit(large, unheard.id, settings=SLOW)
        wait_until(lambda: begun(unheard) != seen, "the machine has heard the start", 60)
        with lab.leases_change(*both):
            lab.farm.kill_child("bridge")
            hurry(*both)
            for machine in both:
                wait_until(lambda: not machine.peer.happened()["printing"], "the machine is done", 60)  # noqa: B023
        for job in (first, second):
            assert sam.wait_for_job(job, "completed")["prints"][0]["progress"] == 1.0
    usual(*both)
    assert not any(sam.wait_until_idle(machine.id)["bed_clear"] for machine in both)


@contextmanager
def another_bridge(lab: Lab) -> Iterator[None]:
    process = lab.farm.start_bridge()
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def test_a_frozen_bridge_that_thaws_writes_nothing_and_sends_nothing(
    lab: Lab, both: list[Machine], sam: Client, large: str, small: str
) -> None:
    frozen = lab.farm.child("bridge")
    assert frozen is not None
    with one_start(*both):
        jobs = [printing(sam, large, machine) for machine in both]
        frozen.suspend()
        with another_bridge(lab):
            with lab.leases_change(*both):
                pass
            for machine, job in zip(both, jobs, strict=True):
                sam.wait_for_state(machine.id, lambda now: now["status"] == "printing" and not now["stale"], "is heard")
                sam.done(machine.id, "pause", print=sam.job(job)["prints"][0]["id"])
                sam.wait_for_job(job, "paused")
            thawed_at = len(lab.farm.log)
            frozen.resume()  # the last it heard is that they print
            wait_until(lambda: lab.farm.log.count("lease_lost", thawed_at) == 2, "it sees that it is too late", 60)
            for machine, job in zip(both, jobs, strict=True):
                assert (sam.state(machine.id)["status"], sam.job(job)["status"]) == ("paused", "paused")
                sam.post(f"jobs/{job}/cancel/")
                sam.wait_for_job(job, "cancelled")
                assert sam.ways(job) == ["uploading", "starting", "printing", "paused", "cancelled"]
    for machine in both:
        lab.ready(machine)
        with one_start(machine):
            sam.wait_for_job(sam.submit(small, machine.id), "completed")


HOLDERS = """
import json
from printers.models import Lease
print(json.dumps(dict(Lease.objects.filter(printer__enabled=True).values_list("printer__name", "holder"))))
"""


def holders(lab: Lab) -> dict[str, str]:
    """Which bridge each printer belongs to."""
    found: dict[str, str] = json.loads(lab.farm.manage("shell", "-v", "0", "-c", HOLDERS).splitlines()[-1])
    return found


@pytest.fixture
def dead_printers(lab: Lab, both: list[Machine]) -> Iterator[list[Machine]]:
    """Four more, which are off."""
    off = SimpleNamespace(url="http://127.0.0.1:9", api_key="key")
    added = [lab.add(f"off-{n}", "octoprint", off) for n in range(4)]
    yield added
    for machine in added:
        lab.staff.call("PATCH", f"printers/{machine.id}/", json={"enabled": False})


def test_bridges_share_the_printers_and_go_on_for_one_that_was_killed(
    lab: Lab, both: list[Machine], dead_printers: list[Machine], sam: Client, small: str
) -> None:
    first = lab.farm.child("bridge")
    assert first is not None
    with another_bridge(lab):
        shares = lambda: sorted(Counter(holders(lab).values()).values())  # noqa: E731
        wait_until(lambda: shares() == [3, 3], "the one that joined has its share", 180)
        lab.farm.kill_child("bridge")
        dead = f"-{first.pid}-"
        wait_until(lambda: not any(dead in name or not name for name in holders(lab).values()), "all are held", 180)
        for machine in both:
            sam.wait_for_state(machine.id, lambda now: now["status"] == "idle" and not now["stale"], "is heard")
            with one_start(machine):
                sam.wait_for_job(sam.submit(small, machine.id), "completed")


def test_workers_that_die_in_the_middle_of_their_work_are_replaced(
    lab: Lab, both: list[Machine], sam: Client, small: str
) -> None:
    """One while it slices, one while it uploads. Nobody hands out again what they had: the sweep finds it."""
    receiver = both[0]
    heavy = sam.upload_shape(lab.folder, shapes.bumpy_sphere(40, 100, 200), "heavy.stl")
    receiver.peer.fault("slow_upload", seconds=600)
    with one_start(receiver):
        sent = sam.submit(small, receiver.id)
        sam.wait_for_job(sent, "uploading")
        wait_until(lambda: "Sending" in sam.job(sent)["prints"][0]["message"], "the upload begins", 60)
        sliced = sam.submit(heavy, hold=True, settings={"layer_height": 0.05})
        wait_until(lambda: sam.job(sliced)["slice_progress"] > 0, "the slicing begins", 60)
        for name in ("slice", "transfer"):
            lab.farm.kill_child(name)
        assert (sam.job(sliced)["status"], sam.job(sent)["status"]) == ("preparing", "uploading")
        receiver.peer.fault("slow_upload", seconds=0)
        sam.wait_for_job(sent, "completed", seconds=240)
    assert len(sam.job(sent)["prints"]) == 1
    sam.wait_for_job(sliced, "ready", seconds=240)


def test_redis_may_lose_everything(lab: Lab, both: list[Machine], sam: Client, large: str, small: str) -> None:
    """It is for speed only: what prints goes on, what is submitted then is printed, what is commanded is done."""
    busy, free = both
    with one_start(*both):
        first = printing(sam, large, busy)
        dead = lab.farm.kill_child("redis")
        lab.farm.wait_for_child("redis", other_than=dead)
        second = sam.submit(small, free.id)
        sam.wait_for_job(second, "completed")
        sam.wait_for_state(busy.id, lambda now: now["status"] == "printing" and not now["stale"], "is heard again")
        sam.done(busy.id, "pause", print=sam.job(first)["prints"][0]["id"])
        sam.wait_for_job(first, "paused")
        with sam.live_again() as live:
            sam.post(f"jobs/{first}/cancel/")
            live.until(lambda told: (first, "cancelled") in told.jobs, "the job is cancelled")
