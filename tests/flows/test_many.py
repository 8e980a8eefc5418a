"""Twenty models at once, by three people, on two printers: the queue at work."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from tests.flows.client import PATIENCE, TERMINAL, Client, Refused
from tests.flows.conftest import INTO_THE_POOL, Lab, Machine
from tests.flows.farm import wait_until
from tests.peers import Peer, SimulatorPeer

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

PEOPLE = ("sam", "tina", "uwe")
MODELS = 20
#: mm; every fourth part is too wide for the small printer
SMALL_BED, WIDE = 100.0, 120.0
#: s
LONG = 240.0


@dataclass
class Visit:
    """One person's afternoon: what they sent, and everything that the live socket told them meanwhile."""

    who: str
    client: Client
    jobs: dict[str, bool] = field(default_factory=dict)  # id: whether it is a wide one
    told: list[dict[str, Any]] = field(default_factory=list)
    watching: Event = field(default_factory=Event)

    def send(self, lab: Lab, numbers: range) -> None:
        for number in numbers:
            wide = number % 4 == 0
            size = (WIDE if wide else 8.0 + number / 4, 8.0, 0.6)
            model = self.client.upload(lab.folder, size, f"{self.who}-{number:02}.stl")
            self.jobs[self.client.submit(model)] = wide

    def watch(self) -> None:
        """Until the socket has told that everything is printed."""
        with self.client.live() as live:
            self.watching.set()
            ended = {(job, "completed") for job in self.jobs}
            live.until(lambda told: ended <= set(told.jobs), "all of it is completed", seconds=LONG)
            self.told = live.said


@dataclass
class Afternoon:
    lab: Lab
    small: Machine
    large: Machine
    visits: dict[str, Visit]

    @property
    def wide(self) -> dict[str, bool]:
        return {job: wide for visit in self.visits.values() for job, wide in visit.jobs.items()}


def printers(lab: Lab, peers: dict[str, Peer]) -> tuple[Machine, Machine]:
    """Named so that parts go to the small one first if both are free. Their beds are not clear yet."""
    profile = lab.staff.post("profiles/", name="Small bed", width=SMALL_BED, depth=SMALL_BED, height=100.0)["id"]
    small = lab.add("a-small", "octoprint", peers["octoprint"], profile=profile)
    large = lab.add("b-large", "moonraker", peers["moonraker"])
    lab.farm.manage("shell", "-c", INTO_THE_POOL)
    return small, large


def print_everything(lab: Lab, machines: tuple[Machine, ...], jobs: list[str]) -> None:
    """What the staff does: clear a bed whenever a printer stands idle with something on it."""

    def over() -> bool:
        rows = lab.staff.every("jobs/")
        for machine in machines:
            seen = lab.staff.state(machine.id)
            if seen["status"] == "idle" and not (seen["bed_clear"] or seen["job"]):
                lab.staff.clear(machine.id, seen["bed"])
        return {row["id"] for row in rows if row["status"] in TERMINAL} >= set(jobs)

    wait_until(over, lambda: f"all is printed: {Counter(r['status'] for r in lab.staff.every('jobs/'))}", seconds=LONG)


@pytest.fixture(scope="module")
def afternoon(lab: Lab) -> Any:
    """All of it, once; the tests look at what came of it."""
    with SimulatorPeer("octoprint", 200) as one, SimulatorPeer("moonraker", 200) as other:
        small, large = printers(lab, {"octoprint": one, "moonraker": other})
        visits = {name: Visit(name, lab.person(name)) for name in PEOPLE}
        numbers = [range(first, MODELS, len(PEOPLE)) for first in range(len(PEOPLE))]
        with ThreadPoolExecutor(len(PEOPLE)) as at_once:
            list(at_once.map(lambda visit, mine: visit.send(lab, mine), visits.values(), numbers))
            watchers = [at_once.submit(visit.watch) for visit in visits.values()]
            jobs = [job for visit in visits.values() for job in visit.jobs]
            for job in jobs:
                lab.staff.wait_for_job(job, "ready")
            assert all(visit.watching.wait(PATIENCE) for visit in visits.values())
            print_everything(lab, (small, large), jobs)
            for watcher in watchers:
                watcher.result()
        yield Afternoon(lab, small, large, visits)


def test_everything_prints_exactly_once(afternoon: Afternoon) -> None:
    staff = afternoon.lab.staff
    history = staff.every("prints/")
    assert sorted(row["job"] for row in history if row["status"] == "completed") == sorted(afternoon.wide)
    for machine in (afternoon.small, afternoon.large):
        sent = staff.starts(machine.id)
        assert {row["status"] for row in sent} == {"done"}
        printed = {row["id"] for row in history if row["printer"] == machine.id and row["status"] == "completed"}
        assert sorted(row["print"] for row in sent) == sorted(printed)
        assert machine.peer.happened()["starts"] == {row["args"]["path"]: 1 for row in sent}


def test_printers_take_the_oldest_job_that_fits(afternoon: Afternoon) -> None:
    """Everything was ready before the first bed was cleared: whenever a printer took a job, no older one that fits
    there was left behind."""
    staff, wide = afternoon.lab.staff, afternoon.wide
    ages = {row["id"]: row["created_at"] for row in staff.every("jobs/")}
    taken: dict[str, tuple[str, str]] = {}
    for row in sorted(staff.every("prints/"), key=lambda row: str(row["created_at"])):
        taken.setdefault(row["job"], (row["created_at"], row["printer"]))
    for job, (at, printer) in taken.items():
        assert not (printer == afternoon.small.id and wide[job])
        passed_over = [
            other
            for other in taken
            if ages[other] < ages[job] and taken[other][0] > at and not (printer == afternoon.small.id and wide[other])
        ]
        assert not passed_over
    assert {printer for _, printer in taken.values()} == {afternoon.small.id, afternoon.large.id}


@pytest.mark.parametrize("who", PEOPLE)
def test_nobody_sees_anothers_job_in_a_list(afternoon: Afternoon, who: str) -> None:
    visit = afternoon.visits[who]
    assert {row["id"] for row in visit.client.every("jobs/")} == set(visit.jobs)
    assert {row["job"] for row in visit.client.every("prints/")} == set(visit.jobs)
    assert {row["name"].partition("-")[0] for row in visit.client.every("models/")} == {who}


@pytest.mark.parametrize("who", PEOPLE)
def test_for_everyone_else_a_job_does_not_exist(afternoon: Afternoon, who: str) -> None:
    owner = next(visit for name, visit in afternoon.visits.items() if name != who)
    job = owner.client.job(next(iter(owner.jobs)))
    paths = [("GET", f"jobs/{job['id']}/{more}") for more in ("", "events/", "gcode/")]
    paths += [("POST", f"jobs/{job['id']}/{more}") for more in ("cancel/", "start/")]
    paths += [("GET", f"prints/{job['prints'][0]['id']}/"), ("GET", f"models/{job['model']}/")]
    for method, path in paths:
        with pytest.raises(Refused) as refused:
            afternoon.visits[who].client.call(method, path)
        assert refused.value.status == 404, path


@pytest.mark.parametrize("who", PEOPLE)
def test_the_socket_tells_nothing_of_anothers_job(afternoon: Afternoon, who: str) -> None:
    visit = afternoon.visits[who]
    jobs = {job for frame in visit.told if frame["type"] == "jobs" for job in frame["jobs"]}
    assert jobs == set(visit.jobs)
    shown = [
        fields["job"]
        for frame in visit.told
        if frame["type"] in ("snapshot", "changes", "overlay")
        for fields in frame["printers"].values()
        if fields and fields.get("job")
    ]
    assert {job["file"].partition("-")[0] for job in shown if "file" in job} == {who}
    assert not [name for name in PEOPLE if name != who and f"{name}-" in str(visit.told)]
