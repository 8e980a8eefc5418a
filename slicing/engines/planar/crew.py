"""Work on all cores: independent tasks in forked copies of this process, which see everything and send back results.

A Celery worker's process may not start processes of :mod:`multiprocessing` (it is a daemon), and a fresh interpreter
costs as much time as a small model: hence fork. The copies compute, write to their pipe and end; they touch nothing
that another thread of this process may have been holding. A copy that dies, or hangs nevertheless, has its tasks done
here, and so have all where copying is not possible or not worth it, with the same results.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")
Step = Callable[[float], None]  # is told the share done, 0..1; may raise

#: s that another process may need longer, and times
PATIENCE = 20.0
#: segments of outline from which on a second process pays
WORTH = 150_000


def hands(segments: int) -> int:
    """How many processes should share the work on so many segments."""
    if segments < WORTH or sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), segments // (WORTH // 2)))


def shared(tasks: Sequence[Callable[[Step], T]], count: int, step: Step) -> list[T]:
    """What each task returns, in their order; done by ``count`` processes, this one among them.

    Raises what a task or ``step`` raises; the other processes are ended then. Only what is done here is reported:
    whatever ``step`` does is done by one process.
    """
    count = min(count, len(tasks))
    mates = [_Mate(tasks[k::count]) for k in range(1, count)]
    done: list[Any] = [None] * len(tasks)
    try:
        begin = time.monotonic()
        done[0 :: max(count, 1)] = _in_turn(tasks[0 :: max(count, 1)], step)
        patience = PATIENCE * (time.monotonic() - begin) + PATIENCE
        for k, mate in enumerate(mates, 1):
            done[k::count] = mate.results(patience)
    finally:
        for mate in mates:
            mate.end()
    return done


def _in_turn(tasks: Sequence[Callable[[Step], T]], step: Step) -> list[T]:
    def part(k: int) -> Step:
        return lambda share: step((k + share) / len(tasks))

    done = []
    for k, task in enumerate(tasks):
        done.append(task(part(k)))
        step((k + 1) / len(tasks))
    return done


def ignored(done: float) -> None:
    """A step for those who do not report."""


class _Mate:
    """A forked copy of this process that does some tasks and is gone."""

    def __init__(self, tasks: Sequence[Callable[[Step], Any]]) -> None:
        self.tasks = tasks
        read, write = os.pipe()
        gc.freeze()  # nothing of the parent's may be collected, and thereby closed, in the child
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads: see above
            self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            with os.fdopen(write, "wb") as out:
                _work(tasks, out)
        os.close(write)
        self.pipe = os.fdopen(read, "rb")

    def results(self, patience: float) -> list[Any]:
        """Waits for them, for so many seconds. A mate that was killed, for memory perhaps, has its tasks done here."""
        if not select.select([self.pipe], [], [], patience)[0]:
            return _in_turn(self.tasks, ignored)
        try:
            error, found = pickle.load(self.pipe)  # noqa: S301 - our own process wrote it
        except (EOFError, pickle.UnpicklingError):
            return _in_turn(self.tasks, ignored)
        if error is not None:
            raise error
        results: list[Any] = found
        return results

    def end(self) -> None:
        self.pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        gc.unfreeze()


def _work(tasks: Sequence[Callable[[Step], Any]], out: BinaryIO) -> None:
    """In the child: never returns, and runs nothing that is meant for the end of the parent."""
    gc.disable()
    try:
        answer: tuple[Exception | None, list[Any] | None]
        try:
            answer = (None, _in_turn(tasks, ignored))
        except Exception as error:
            answer = (error, None)
        pickle.dump(answer, out, protocol=pickle.HIGHEST_PROTOCOL)
        out.flush()
    finally:
        os._exit(0)
