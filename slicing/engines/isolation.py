"""Run somebody else's program on somebody's model: limited in memory, CPU, file size and time, without a network and
without the farm's data where the system allows it, and ended with everything it started. No Django."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slicing.engines.base import SlicingError

#: bytes that one file of the program may have
MOST_OUTPUT = 2 << 30
TICK_S = 0.5  # between two looks whether the work is still wanted
LINGER_S = 30.0  # between its last word and its end
KEPT = 16_384  # characters of what it said last

#: sets limits before the program begins (a preexec_fn is unsafe in a threaded process), and lets the program die with
#: us: PR_SET_PDEATHSIG is 1 on Linux; elsewhere the call is not there
_LIMITED = (
    "import contextlib, ctypes, os, resource, sys\n"
    "memory, cpu, size = map(int, sys.argv[1:4])\n"
    "for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, cpu), (resource.RLIMIT_FSIZE, size),\n"
    "                   (resource.RLIMIT_CORE, 0)):\n"
    "    resource.setrlimit(what, (most, most))\n"
    "with contextlib.suppress(AttributeError, OSError):\n"
    "    ctypes.CDLL(None).prctl(1, 9)\n"
    "os.execvp(sys.argv[4], sys.argv[4:])\n"
)
#: hides a folder from the program; in a mount namespace of its own, so for nobody else
_HIDE = 'mount -t tmpfs -o size=4k,mode=0555 none "$1" || exit 97; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Isolation:
    """What this system can do. ``by``: bwrap, unshare, or "" for nothing but the limits."""

    by: str
    program: str = ""

    @property
    def network(self) -> bool:
        """Whether programs are cut off from the network."""
        return bool(self.by)

    @property
    def sentence(self) -> str:
        if self.by:
            return f"Slicing programs run without a network and without the farm's data ({self.by})."
        return (
            "Slicing programs are limited in memory and time, but this system lets nobody cut them off from the "
            "network: install bubblewrap, or allow user namespaces."
        )

    def around(self, command: list[str], folder: Path, hidden: Path | None) -> list[str]:
        """``command`` as it is to be started; it may write into ``folder`` only (by bwrap) and not see ``hidden``."""
        hide = hidden if hidden and hidden.is_dir() and not folder.is_relative_to(hidden) else None
        if self.by == "bwrap":
            hiding = ["--tmpfs", str(hide)] if hide else []
            return [
                *(self.program, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev"),
                *("--proc", "/proc", *hiding, "--bind", str(folder), str(folder)),
                *("--chdir", str(folder), "--", *command),
            ]
        if self.by == "unshare":
            inner = ["/bin/sh", "-c", _HIDE, "sh", str(hide), *command] if hide else command
            return [
                *(self.program, "--user", "--map-root-user", "--net", "--ipc", "--uts", "--mount", "--pid"),
                *("--fork", "--kill-child=KILL", "--", *inner),
            ]
        return command


@functools.cache
def isolation() -> Isolation:
    """The best that works here, tried once."""
    for by in ("bwrap", "unshare"):
        program = shutil.which(by)
        if program and _works(Isolation(by, program)):
            return Isolation(by, program)
    return Isolation("")


def _works(kind: Isolation) -> bool:
    """It must start something, and hide what it is told to."""
    look = ["/bin/sh", "-c", 'test -z "$(ls -A /usr/share/doc)"']
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = kind.around(look, Path("/var/tmp"), Path("/usr/share/doc"))  # noqa: S108 - nothing is written
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    memory: int  # bytes of address space
    seconds: float  # wall clock
    cpu_s: int


class Failed(Exception):
    """The program ended with an error; ``said`` is the last that it wrote, ``code`` negative for a signal."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"exit {code}")
        self.code, self.said = code, said


def run(command: list[str], folder: Path, limits: Limits, hidden: Path | None, heard: Callable[[str], None]) -> str:
    """Run to the end in ``folder`` and return the last that was said. ``heard`` gets every line, and "" now and then;
    whatever it raises ends the program and everything it started.

    Raises Failed, and SlicingError when it takes longer than it may.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LIMITED]
    words = [str(n) for n in (limits.memory, limits.cpu_s, MOST_OUTPUT)]
    process = subprocess.Popen(
        [*launcher, *words, *isolation().around(command, folder, hidden)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C"},
        start_new_session=True,
    )
    try:
        said = _listen(process, time.monotonic() + limits.seconds, heard)
        code = process.wait(LINGER_S)
    except subprocess.TimeoutExpired as error:
        raise Failed(-signal.SIGKILL, said) from error
    finally:
        _end(process)
    if code:
        raise Failed(code, said)
    return said


def _listen(process: subprocess.Popen[bytes], deadline: float, heard: Callable[[str], None]) -> str:
    assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
    said, rest = "", ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if time.monotonic() > deadline:
                raise SlicingError("Slicing this model takes longer than it may. Make it simpler or smaller.")
            if not selector.select(TICK_S):
                heard("")
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                return said
            text = rest + data.decode(errors="replace")
            *lines, rest = re.split(r"[\r\n]+", text[-KEPT:])
            for line in lines:
                heard(line)
            said = (said + data.decode(errors="replace"))[-KEPT:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """With everything that it started: they are one process group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
