"""`make demo` as a newcomer meets it."""

from __future__ import annotations

import re

import pytest
import requests

from tests.conftest import StartFarm
from tests.flows.farm import RunningFarm, wait_until

pytestmark = pytest.mark.flow


def wait_for_the_box(farm: RunningFarm) -> None:
    wait_until(lambda: "Ctrl-C stops everything" in farm.log, "the demo says what there is to see", 120)


def logins(farm: RunningFarm) -> dict[str, str]:
    return dict(re.findall(r"\|  (\w+) +(plate-\d+) ", farm.log))


def as_person(farm: RunningFarm, name: str) -> requests.Session:
    credentials = {"username": name, "password": logins(farm)[name]}
    answer = requests.post(f"{farm.url}/api/token/", json=credentials, timeout=20)
    assert answer.status_code == 200, answer.text
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {answer.json()['access']}"
    return session


def listed(farm: RunningFarm, session: requests.Session, what: str) -> list[dict[str, object]]:
    results: list[dict[str, object]] = session.get(f"{farm.url}/api/{what}/", timeout=20).json()["results"]
    return results


def test_the_demo_prints_a_part_and_says_how_to_log_in_and_does_so_again_the_next_time(start_farm: StartFarm) -> None:
    farm = start_farm("--demo")
    wait_for_the_box(farm)
    passwords = logins(farm)
    assert set(passwords) == {"admin", "olivia", "sam", "tina"}
    assert "helical-gear.stl of Sam is printing on" in farm.log

    sam, tina = as_person(farm, "sam"), as_person(farm, "tina")
    assert [job["status"] for job in listed(farm, sam, "jobs")] == ["printing"]
    assert listed(farm, tina, "jobs") == []
    assert len(listed(farm, tina, "printers")) == 2
    assert farm.stop() == 0

    again = RunningFarm(farm.folder, "--demo")
    try:
        wait_for_the_box(again)
        assert logins(again) == passwords
        sam = as_person(again, "sam")
        assert sorted(str(job["status"]) for job in listed(again, sam, "jobs")) == ["failed", "printing"]
        assert len(listed(again, as_person(again, "admin"), "printers")) == 2
    finally:
        again.stop()
