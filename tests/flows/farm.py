"""A whole farm of one's own, started as people start it: `manage.py up` in a temporary folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import requests

from farm.management.processes import die_with_parent

MANAGE = str(Path(__file__).resolve().parents[2] / "manage.py")
#: what in a child's command line tells it from the others
MARKS = {"redis": "redis-server", "web": "daphne", "slice": "slice@", "transfer": "transfer@", "bridge": "bridge"}


class RunningFarm:
    """``RunningFarm(folder)`` returns when the farm answers at ``url``. It ends with the process that started it.

    ``environment`` adds to or (with None) takes from what the farm sees; by default it starts its own Redis, keeps
    SQLite in ``folder`` and does not throttle testers. ``options`` go to `up`.
    """

    def __init__(self, folder: Path, *options: str, environment: dict[str, str | None] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = environment_of_its_own(folder, environment or {})
        self._log = folder / "up.log"
        self._log.unlink(missing_ok=True)
        self.process = self._start(["up", "--port", "0", *options])
        self.url = ""
        self._wait_until_it_answers()

    def _start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, MANAGE, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )

    def _wait_until_it_answers(self, seconds: float = 240) -> None:
        def said_so() -> bool:
            assert self.process.poll() is None, f"The farm ended instead of starting:\n{self.log}"
            found = re.search(r"Print Farm is running at (http://\S+)", self.log)
            self.url = found[1] if found else ""
            return bool(found)

        try:
            wait_until(said_so, "the farm says where it is", seconds)
            assert requests.get(self.url, timeout=60, allow_redirects=False).status_code < 400
        except BaseException:
            self.process.kill()
            raise

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """What `manage.py <arguments>` on this farm's data prints."""
        done = subprocess.run(
            [sys.executable, MANAGE, *arguments],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_bridge(self) -> subprocess.Popen[bytes]:
        """One more, beside that of `up`."""
        return self._start(["bridge"])

    def child(self, name: str) -> psutil.Process | None:
        """redis, web, slice, transfer or bridge; None while it is being restarted."""
        for process in psutil.Process(self.process.pid).children():
            if any(MARKS[name] in word for word in command_line(process)):
                return process
        return None

    def kill_child(self, name: str) -> int:
        """SIGKILL; its process id."""
        victim = self.child(name)
        assert victim is not None, f"There is no {name} to kill:\n{self.log}"
        victim.kill()
        return victim.pid

    def wait_for_child(self, name: str, other_than: int = 0, seconds: float = 60) -> int:
        """The process id of the one that runs (instead of a killed one)."""
        found: list[int] = []

        def it_is_there() -> bool:
            process = self.child(name)
            if process is not None and process.pid != other_than:
                found.append(process.pid)
            return bool(found)

        wait_until(it_is_there, f"{name} runs", seconds)
        return found[0]

    def processes(self) -> list[psutil.Process]:
        """Every living process that works on this farm's data, however it was started."""
        return [process for process in psutil.process_iter() if works_in(self.folder, process)]

    def stop(self, how: signal.Signals = signal.SIGINT, seconds: float = 90) -> int:
        """As Ctrl-C does; its exit code. Fails if a process is left behind. Harmless when it has ended already."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(seconds)
        finally:
            self.process.kill()
        self.assert_nothing_is_left()
        return code

    def assert_nothing_is_left(self, seconds: float = 30) -> None:
        wait_until(lambda: not self.processes(), lambda: f"these end too: {self.processes()}", seconds)


def environment_of_its_own(folder: Path, changes: dict[str, str | None]) -> dict[str, str]:
    """Ours without what tests.environment set for tests inside this process."""
    result = {
        k: v for k, v in os.environ.items() if not k.startswith("FARM_") and k not in {"REDIS_URL", "DATABASE_URL"}
    }
    result.pop("DJANGO_SETTINGS_MODULE", None)
    defaults = {"FARM_DATA_DIR": str(folder), "FARM_THROTTLE_ANONYMOUS": "100000", "FARM_THROTTLE_PERSON": "100000"}
    for name, value in {**defaults, **changes}.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def wait_until(ready: Callable[[], Any], what: str | Callable[[], str], seconds: float) -> Any:
    """The first true answer of ``ready``; AssertionError that says ``what`` did not happen."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        waited_for = what if isinstance(what, str) else what()
        assert time.monotonic() < deadline, f"Waited {seconds:g} s in vain until {waited_for}"
        time.sleep(0.05)
    return answer


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def works_in(folder: Path, process: psutil.Process) -> bool:
    """By its environment or, as Redis writes over that, by its current folder."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get("FARM_DATA_DIR") == str(folder) or Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False
