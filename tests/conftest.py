from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pytest_django import Settings

from farm import queue
from printers import telemetry
from tests.cast import Cast
from tests.flows.farm import RunningFarm
from tests.machines import Machines
from tests.services import postgres_server
from tests.work import Work

LOG_LINES = 200
StartFarm = Callable[..., RunningFarm]


@pytest.fixture(autouse=True)
def _quickly(settings: Settings) -> None:
    """A password may be cheap to guess here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def cast(db: None) -> Cast:
    telemetry.client().flushdb()  # what earlier tests counted and stored
    return Cast()


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    """Every driver that the farm opens leads to a machine in memory."""
    made = Machines()
    monkeypatch.setattr("printers.services.open_driver", made.open_driver)
    monkeypatch.setattr("jobs.attempts.open_driver", made.open_driver)
    return made


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """What would go to Celery is kept here, to be looked at or done."""
    kept = Work()
    monkeypatch.setattr(queue, "_send", kept.take)
    return kept


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An empty database on a real PostgreSQL; for tests that need row locks and several connections."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def start_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartFarm]:
    """``start_farm(*options, environment={...})``: a farm for one test; it must leave nothing behind."""
    with ExitStack() as after:

        def start(*options: str, environment: dict[str, str | None] | None = None) -> RunningFarm:
            farm = RunningFarm(tmp_path_factory.mktemp("farm"), *options, environment=environment)
            after.callback(farm.stop)
            return farm

        yield start


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarm]:
    """One farm for all tests of a module; for those that do not end it."""
    farm = RunningFarm(tmp_path_factory.mktemp("farm"))
    yield farm
    farm.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A test that fails shows what its farm said."""
    report = yield
    if report.failed:
        used = [getattr(value, "farm", value) for value in getattr(item, "funcargs", {}).values()]
        for farm in {id(farm): farm for farm in used if isinstance(farm, RunningFarm)}.values():
            lines = farm.log.splitlines()[-LOG_LINES:]
            report.sections.append((f"the last {len(lines)} lines of the farm", "\n".join(lines)))
    return report
