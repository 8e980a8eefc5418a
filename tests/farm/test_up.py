"""`manage.py up` as people meet it: a terminal, Ctrl-C, a killed process."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.flows.farm import MANAGE, MARKS, RunningFarm, wait_until

pytestmark = [pytest.mark.flow, pytest.mark.xdist_group("whole-farm")]
PLAIN: dict[str, str | None] = {"FARM_STATIC_PLAIN": "true"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], RunningFarm]]:
    started: list[RunningFarm] = []

    def start_in(name: str) -> RunningFarm:
        started.append(RunningFarm(tmp_path / name, environment=PLAIN))
        return started[-1]

    yield start_in
    for farm in started:
        farm.stop()


def up(farm: RunningFarm, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, MANAGE, "up", *options]
    return subprocess.run(command, env=farm.environment, capture_output=True, text=True, timeout=30, check=False)


def answer(farm: RunningFarm) -> int:
    return requests.get(farm.url, timeout=10).status_code


def test_it_starts_everything_and_answers_and_ctrl_c_leaves_nothing(start: Callable[[str], RunningFarm]) -> None:
    farm = start("farm")
    assert answer(farm) == 200
    assert {name: farm.child(name) is not None for name in MARKS} == dict.fromkeys(MARKS, True)
    assert farm.stop(signal.SIGINT) == 0
    assert farm.log.rstrip().endswith("Stopped.")
    assert not (farm.folder / "redis.url").exists()


def test_sigterm_stops_it_as_well(start: Callable[[str], RunningFarm]) -> None:
    farm = start("farm")
    assert farm.stop(signal.SIGTERM) == 0


def test_the_address_of_its_redis_and_its_secrets_are_for_its_owner_only(start: Callable[[str], RunningFarm]) -> None:
    farm = start("farm")
    private = [farm.folder / "redis.url", *(farm.folder / "secrets").iterdir()]
    assert len(private) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    password = (farm.folder / "redis.url").read_text().split("@")[0].removeprefix("redis://:")
    assert len(password) > 20
    assert not [process for process in farm.processes() if password in " ".join(process.cmdline())]


def test_two_farms_run_side_by_side(start: Callable[[str], RunningFarm]) -> None:
    one, other = start("one"), start("other")
    assert one.url != other.url
    assert (answer(one), answer(other)) == (200, 200)
    secret = "secrets/farm_secret_key"
    assert (one.folder / secret).read_text() != (other.folder / secret).read_text()
    assert one.stop() == 0
    assert answer(other) == 200


def test_a_second_start_on_the_same_folder_is_refused(start: Callable[[str], RunningFarm]) -> None:
    farm = start("farm")
    second = up(farm, "--port", "0")
    assert second.returncode == 1
    assert f"A farm is already running on {farm.folder}" in second.stderr
    assert answer(farm) == 200


def test_a_port_in_use_is_said_and_nothing_starts(start: Callable[[str], RunningFarm], tmp_path: Path) -> None:
    farm = start("farm")
    port = farm.url.rpartition(":")[2]
    second = up(farm, "--port", port, "--data-dir", str(tmp_path / "second"))
    assert second.returncode == 1
    assert f"Cannot listen on 127.0.0.1, port {port}" in second.stderr
    assert "--port" in second.stderr
    assert not (tmp_path / "second" / "farm.sqlite3").exists()


@pytest.mark.parametrize("name", ["web", "bridge", "redis"])
def test_a_killed_process_returns(start: Callable[[str], RunningFarm], name: str) -> None:
    farm = start("farm")
    killed = farm.kill_child(name)
    farm.wait_for_child(name, other_than=killed)
    assert answer(farm) == 200
    assert f"{name:>8} | ended (killed by SIGKILL); starts again" in farm.log


def test_nobody_is_turned_away_while_the_web_server_restarts(start: Callable[[str], RunningFarm]) -> None:
    farm = start("farm")
    farm.kill_child("web")
    assert answer(farm) == 200  # asked while nobody serves: the connection waits for the next web server


def test_a_killed_supervisor_leaves_nothing_behind(start: Callable[[str], RunningFarm]) -> None:
    farm = start("farm")
    assert len(farm.processes()) > len(MARKS)
    farm.process.kill()
    farm.process.wait(10)
    farm.assert_nothing_is_left()


def test_a_program_that_keeps_dying_stops_the_farm_with_a_sentence(tmp_path: Path) -> None:
    farm = RunningFarm(tmp_path / "farm", environment=PLAIN)
    try:
        # what the bridge needs at its start is taken away: a farm of which only the settings fail
        (farm.folder / "secrets" / "farm_secret_key").unlink()
        (farm.folder / "secrets" / "farm_secret_key").mkdir()
        farm.kill_child("bridge")
        wait_until(lambda: farm.process.poll() is not None, "the farm gives up", 60)
    finally:
        farm.stop()
    assert farm.process.returncode == 1
    assert "bridge stopped 5 times in a row" in farm.log


def test_ctrl_c_during_the_start_is_a_clean_stop(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output, socket.socket() as _:
        process = subprocess.Popen(
            [sys.executable, MANAGE, "up", "--port", "0", "--data-dir", str(tmp_path / "farm")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        wait_until(lambda: "Preparing the database" in log.read_text(), "it prepares the database", 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert log.read_text().rstrip().endswith("Stopped.")
