"""Sharing the work among processes changes nothing but the time it takes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slicing.engines import engine, planar
from slicing.engines.base import Machine, SliceSettings, SlicingError
from slicing.engines.planar import crew
from slicing.engines.planar.crew import Step, hands, ignored, shared
from tests import shapes

linux_only = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are only forked on Linux")


def numbers(count: int) -> list[Callable[[Step], int]]:
    return [lambda step, k=k: k * k for k in range(count)]  # type: ignore[misc]


@linux_only
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_results_come_in_the_order_of_the_tasks(count: int) -> None:
    assert shared(numbers(7), count, ignored) == [k * k for k in range(7)]
    assert shared(numbers(0), count, ignored) == []


@linux_only
def test_the_work_is_done_by_several_processes() -> None:
    workers = shared([lambda step: os.getpid()] * 4, 2, ignored)
    assert workers[0] == workers[2] == os.getpid()
    assert workers[1] == workers[3] != os.getpid()


@linux_only
def test_what_goes_wrong_elsewhere_is_raised_here() -> None:
    def fail(step: Step) -> int:
        raise SlicingError("There is a hole.")

    with pytest.raises(SlicingError, match="There is a hole"):
        shared([*numbers(1), fail], 2, ignored)


@linux_only
def test_the_tasks_of_a_process_that_was_killed_are_done_here() -> None:
    home = os.getpid()

    def fatal(step: Step) -> int:
        if os.getpid() != home:
            os.kill(os.getpid(), signal.SIGKILL)
        return 5

    assert shared([*numbers(1), fatal], 2, ignored) == [0, 5]


@linux_only
def test_the_tasks_of_a_process_that_hangs_are_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 0.05)
    home = os.getpid()

    def endless(step: Step) -> int:
        if os.getpid() != home:
            signal.pause()
        return 5

    assert shared([*numbers(1), endless], 2, ignored) == [0, 5]


def test_only_the_main_thread_copies_its_process() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(hands(10**9)))
    thread.start()
    thread.join()
    assert found == [1]


@linux_only
def test_other_threads_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def busy() -> None:
        while not ended.is_set():
            np.sort(np.arange(999)[::-1])

    other = threading.Thread(target=busy)
    other.start()
    try:
        made = [slice_to(tmp_path / "o", shapes.gear(9, 9, 2), count, monkeypatch) for count in (1, 2, 2, 2)]
    finally:
        ended.set()
        other.join()
    assert len(set(made)) == 1


@linux_only
def test_a_stop_ends_the_other_processes() -> None:
    mates: list[int] = []
    read, write = os.pipe()

    def endless(step: Step) -> int:
        os.write(write, b"%d" % os.getpid())
        signal.pause()
        return 0

    def stop(step: Step) -> int:
        mates.append(int(os.read(read, 20)))  # waits until it works
        step(0.5)
        return 1

    def cancel(done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared([stop, endless], 2, cancel)
    os.close(read)
    os.close(write)
    with pytest.raises(ProcessLookupError):
        os.kill(mates[0], 0)


@linux_only
def test_progress_is_only_told_by_the_process_that_was_asked() -> None:
    told: list[float] = []

    def task(step: Step) -> int:
        step(0.5)
        return os.getpid()

    shared([task] * 4, 2, told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_a_small_model_is_not_worth_a_second_process() -> None:
    assert hands(1000) == 1


def slice_to(out: Path, triangles: shapes.Triangles, count: int, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(planar, "hands", lambda segments: count)
    engine("planar").slice(shapes.mesh(triangles), Machine(), SliceSettings(supports="everywhere"), out)
    return out.read_bytes()


@linux_only
@pytest.mark.parametrize("name", ["steps", "terrain", "bust", "holes"])
def test_the_file_is_the_same_however_many_work_on_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {
        "steps": np.concatenate([shapes.box(20, 20, 3), shapes.moved(shapes.box(9, 9, 3), z=3)]),
        "terrain": shapes.terrain(40, 50, 3, 12),
        "bust": shapes.bumpy_sphere(12, 60, 90),
        "holes": shapes.plate(40, 40, 2, 5, 5, 2),
    }[name]
    alone = slice_to(tmp_path / "alone", part, 1, monkeypatch)
    for count in (2, 3):
        assert slice_to(tmp_path / "together", part, count, monkeypatch) == alone


def _in_daemon(out: str, answer: SimpleQueue[Any]) -> None:
    planar.hands = lambda segments: 2
    mesh = shapes.mesh(shapes.bumpy_sphere(8, 40, 60))
    engine("planar").slice(mesh, Machine(), SliceSettings(), Path(out))
    answer.put(hashlib.sha256(Path(out).read_bytes()).hexdigest())


@linux_only
def test_it_works_inside_of_a_daemon_process_as_celery_has_them(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    worker = context.Process(target=_in_daemon, args=(str(tmp_path / "o.gcode"), answer), daemon=True)
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    expected = hashlib.sha256((tmp_path / "o.gcode").read_bytes()).hexdigest()
    assert answer.get() == expected
