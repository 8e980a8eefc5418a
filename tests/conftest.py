from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.flows.farm import RunningFarm
from tests.services import postgres_server

LOG_LINES = 200
StartFarm = Callable[..., RunningFarm]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run whole farms stay together with those of their file, so that they can share one."""
    for item in items:
        if item.get_closest_marker("flow"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


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
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, RunningFarm):
                lines = value.log.splitlines()[-LOG_LINES:]
                report.sections.append((f"the last {len(lines)} lines of the farm", "\n".join(lines)))
    return report
