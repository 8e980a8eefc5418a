"""Start programs that never outlive us, read what they say, start them again when they die, stop them in order.

Everything here runs in one thread without Django: it is what stays in memory beside the farm.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

#: s; a program that lives shorter than this died quickly
QUICK = 30.0
#: so many quick deaths in a row, and the farm gives up
QUICK_DEATHS = 5
#: s; what programs get to stop by themselves
PATIENCE = 12.0

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """Somebody asked us to stop (Ctrl-C, SIGTERM, or the terminal is gone)."""


class GaveUp(Exception):
    """The farm cannot run; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """Something to run.

    ``backstage``: Redis and simulated printers. What they say is only shown when they die; they keep nothing, so they
    are killed, after the others have stopped.
    """

    name: str
    command: Sequence[str]
    stdin: bytes | None = None
    #: file descriptors it inherits
    files: Sequence[int] = ()
    backstage: bool = False
    environment: dict[str, str] = field(default_factory=dict)


class Running:
    """A program that runs, in a session of its own: Ctrl-C in the terminal reaches only us, and one signal all of it.

    ``hear`` gets every line that it says, whenever somebody calls ``listen``.
    """

    def __init__(self, program: Program, hear: Callable[[str], None]) -> None:
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            program.command,
            stdin=subprocess.DEVNULL if program.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=program.files,
            env={**os.environ, **program.environment},
            preexec_fn=die_with_parent(os.getpid()),
        )
        if self.process.stdin is not None and program.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
                stdin.write(program.stdin)
        assert self.process.stdout is not None
        self.output = self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        self._hear = hear
        self._half_line = b""

    def listen(self) -> bool:
        """Hand on what was said since the last time; False when there will be no more."""
        while True:
            try:
                said = os.read(self.output.fileno(), 65536)
            except BlockingIOError:
                return True
            *lines, self._half_line = (self._half_line + said).split(b"\n")
            if not said and self._half_line:
                lines.append(self._half_line)
            for line in lines:
                self._hear(line.decode(errors="replace").rstrip())
            if not said:
                return False

    def has_ended(self) -> bool:
        """Without reaping it: as long as it is not reaped, nobody else can get its number."""
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def ask_to_stop(self) -> None:
        """Only the process itself; what it started is its own business until it is gone."""
        if not self.has_ended():
            self.process.terminate()

    def bury(self) -> int:
        """Kill what is left of its session, hear its last words, take its exit code."""
        if self.process.returncode is None:
            with contextlib.suppress(PermissionError):  # macOS, where only a zombie is left
                os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        if not self.output.closed:
            self.listen()
            self.output.close()
        return code


def die_with_parent(parent: int) -> Callable[[], None]:
    """For ``preexec_fn``: the kernel kills the child when its parent dies, even of SIGKILL (Linux only).

    The parent may have died between fork and prctl, hence the second look.
    """

    def ask() -> None:
        if _libc is None:
            return
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask


class Child:
    """A program that is kept running: ``running`` is None while it waits to be started again."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.running: Running | None = None
        self.start_at = 0.0
        self.last_words: deque[str] = deque(maxlen=30)
        self._quick_deaths = 0

    def note_death(self, lived: float, code: int) -> str:
        """Decide when to start again; returns the sentence to show. Raises GaveUp."""
        self._quick_deaths = self._quick_deaths + 1 if lived < QUICK else 1
        if self._quick_deaths >= QUICK_DEATHS:
            raise GaveUp(
                f"{self.program.name} stopped {QUICK_DEATHS} times in a row within {QUICK:.0f} seconds of its start "
                f"({how_it_ended(code)}). Its last words are above."
            )
        delay = 0.5 * 2 ** (self._quick_deaths - 1)
        self.start_at = time.monotonic() + delay
        return f"ended ({how_it_ended(code)}); starts again in {delay:g} s"


def how_it_ended(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Supervisor:
    """Use as a context manager in the main thread: leaving it stops everything.

    ``show(name, line)`` gets every line that a program says.
    """

    def __init__(self, show: Callable[[str, str], None]) -> None:
        self.show = show
        self.children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._wishes_to_stop = 0

    def __enter__(self) -> Supervisor:
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes select(), no more
        for wish in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(wish, self._note_wish)
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def _note_wish(self, *_: Any) -> None:
        self._wishes_to_stop += 1

    def start(self, program: Program) -> None:
        """And start it again whenever it ends."""
        child = Child(program)
        self.children.append(child)
        self._start(child)

    def run(self, program: Program, hear: Callable[[str], None] | None = None, seconds: float = 600) -> None:
        """To its end. Without ``hear``, what it says is shown only if it fails. Raises GaveUp when it fails or takes
        too long, Stopped."""
        said: list[str] = []
        running = self._launch(program, hear or said.append)
        try:
            self.wait_until(running.has_ended, seconds, program.name)
        finally:
            code = self._bury(running)
        if code:
            for line in said:
                self.show(program.name, line)
            raise GaveUp(f"{program.name} failed ({how_it_ended(code)}).")

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Raises GaveUp after ``seconds``, Stopped when asked to stop."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise GaveUp(f"{what} was not ready after {seconds:.0f} seconds.")
            self._turn(0.05)

    def watch(self) -> NoReturn:
        """Until Stopped or GaveUp is raised."""
        while True:
            self._turn(60)

    def stop(self) -> None:
        """All at once, those backstage last. Who is too slow is killed; so is everyone after another Ctrl-C."""
        wishes = max(self._wishes_to_stop, 1)
        living = [child for child in self.children if child.running]
        asked = [child.running for child in living if child.running and not child.program.backstage]
        for running in asked:
            running.ask_to_stop()
        deadline = time.monotonic() + PATIENCE
        while not all(running.has_ended() for running in asked):
            if time.monotonic() > deadline or self._wishes_to_stop > wishes:
                break
            self._read(0.1)
        for child in sorted(living, key=lambda child: child.program.backstage):
            if child.running:
                self._bury(child.running)
        self.children.clear()

    def _turn(self, seconds: float) -> None:
        """One turn of the wheel: read, bury the dead, start again those whose time has come."""
        if self._wishes_to_stop:
            raise Stopped
        for child in self.children:
            if child.running is None and time.monotonic() >= child.start_at:
                self._start(child)
            elif child.running is not None and child.running.has_ended():
                self._note_death(child, child.running)
        starts = [child.start_at for child in self.children if child.running is None]
        self._read(min([seconds, *(max(0.0, start - time.monotonic()) for start in starts)]))

    def _start(self, child: Child) -> None:
        name = child.program.name
        child.last_words.clear()
        hear = child.last_words.append if child.program.backstage else lambda line: self.show(name, line)
        child.running = self._launch(child.program, hear)

    def _note_death(self, child: Child, dead: Running) -> None:
        child.running = None
        code = self._bury(dead)
        for line in child.last_words:
            self.show(child.program.name, line)
        self.show(child.program.name, child.note_death(time.monotonic() - dead.started_at, code))

    def _launch(self, program: Program, hear: Callable[[str], None]) -> Running:
        running = Running(program, hear)
        self._selector.register(running.output, selectors.EVENT_READ, running)
        return running

    def _bury(self, running: Running) -> int:
        if running.output in self._selector.get_map():
            self._selector.unregister(running.output)
        return running.bury()

    def _read(self, seconds: float) -> None:
        """Hand on what the programs say. Returns early when there is something to read or a signal came."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                os.read(self._wake_read, 4096)
            elif not key.data.listen():
                self._selector.unregister(key.fileobj)
