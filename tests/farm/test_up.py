"""`manage.py up` as people meet it: a terminal, Ctrl-C, a killed process."""

from __future__ import annotations

import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.conftest import StartFarm
from tests.flows.farm import MANAGE, MARKS, RunningFarm, wait_until

pytestmark = pytest.mark.flow
#: the tests that end their farm do not wait for its static files
PLAIN: dict[str, str | None] = {"FARM_STATIC_PLAIN": "true"}


def up(farm: RunningFarm, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, MANAGE, "up", *options]
    return subprocess.run(command, env=farm.environment, capture_output=True, text=True, timeout=30, check=False)


def answer(farm: RunningFarm) -> int:
    return requests.get(farm.url, timeout=20).status_code


def test_it_starts_everything_and_answers(farm: RunningFarm) -> None:
    assert answer(farm) == 200
    assert {name: farm.child(name) is not None for name in MARKS} == dict.fromkeys(MARKS, True)


def test_the_address_of_its_redis_and_its_secrets_are_for_its_owner_only(farm: RunningFarm) -> None:
    private = [farm.folder / "redis.url", *(farm.folder / "secrets").iterdir()]
    assert len(private) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_the_password_of_its_redis_is_on_no_command_line(farm: RunningFarm) -> None:
    password = (farm.folder / "redis.url").read_text().split("@")[0].removeprefix("redis://:")
    assert len(password) > 20
    commands = [" ".join(process.cmdline()) for process in farm.processes()]
    assert any("redis-server" in command for command in commands)
    assert not any(password in command for command in commands)


def test_a_second_start_on_the_same_folder_is_refused(farm: RunningFarm) -> None:
    second = up(farm, "--port", "0")
    assert second.returncode == 1
    assert f"A farm is already running on {farm.folder}" in second.stderr
    assert answer(farm) == 200


def test_a_port_in_use_is_said_and_nothing_starts(farm: RunningFarm, tmp_path: Path) -> None:
    port = farm.url.rpartition(":")[2]
    second = up(farm, "--port", port, "--data-dir", str(tmp_path / "second"))
    assert second.returncode == 1
    assert f"Cannot listen on 127.0.0.1, port {port}: Address already in use" in second.stderr
    assert not (tmp_path / "second" / "farm.sqlite3").exists()


@pytest.mark.parametrize("name", ["bridge", "slice", "transfer", "redis"])
def test_a_killed_process_returns(farm: RunningFarm, name: str) -> None:
    killed = farm.kill_child(name)
    farm.wait_for_child(name, other_than=killed)
    assert answer(farm) == 200
    assert f"{name:>8} | ended (killed by SIGKILL); starts again" in farm.log


def test_nobody_is_turned_away_while_the_web_server_restarts(farm: RunningFarm) -> None:
    killed = farm.kill_child("web")
    assert answer(farm) == 200  # asked while nobody serves: the connection waits for the next web server
    assert farm.wait_for_child("web", other_than=killed)


@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_when_asked_and_leaves_nothing(start_farm: StartFarm, wish: signal.Signals) -> None:
    farm = start_farm(environment=PLAIN)
    assert farm.stop(wish) == 0
    assert farm.log.rstrip().endswith("Stopped.")
    assert not (farm.folder / "redis.url").exists()


def test_a_killed_supervisor_leaves_nothing_behind(start_farm: StartFarm) -> None:
    farm = start_farm(environment=PLAIN)
    for name in MARKS:
        farm.wait_for_child(name)
    farm.process.kill()
    farm.process.wait(10)
    farm.assert_nothing_is_left()


def test_two_farms_run_side_by_side(farm: RunningFarm, start_farm: StartFarm) -> None:
    other = start_farm(environment=PLAIN)
    assert farm.url != other.url
    assert (answer(farm), answer(other)) == (200, 200)
    secret = "secrets/farm_secret_key"
    assert (farm.folder / secret).read_text() != (other.folder / secret).read_text()
    assert other.stop() == 0
    assert answer(farm) == 200


@pytest.mark.postgres
def test_it_runs_on_postgresql(start_farm: StartFarm, postgres_url: str) -> None:
    farm = start_farm(environment=PLAIN | {"DATABASE_URL": postgres_url})
    assert answer(farm) == 200
    assert not (farm.folder / "farm.sqlite3").exists()
    assert "PostgreSQL" in farm.manage(
        "shell", "-c", "from django.db import connection; print(connection.display_name)"
    )


def test_a_program_that_keeps_dying_stops_the_farm_with_a_sentence(start_farm: StartFarm) -> None:
    farm = start_farm(environment=PLAIN)
    shutil.rmtree(farm.folder / "secrets")
    (farm.folder / "secrets").touch()  # no process can read the settings any more
    farm.kill_child("bridge")
    wait_until(lambda: farm.process.poll() is not None, "the farm gives up", 150)
    assert farm.stop() == 1
    assert "bridge stopped 5 times in a row" in farm.log


def test_ctrl_c_during_the_start_is_a_clean_stop(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, MANAGE, "up", "--port", "0", "--data-dir", str(tmp_path / "farm")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    wait_until(lambda: "Preparing the database" in log.read_text(), "it prepares the database", 30)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert log.read_text().rstrip().endswith("Stopped.")
