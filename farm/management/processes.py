"""Start programs that never outlive us, read what they say, start them again when they die, stop them in order.

Everything here runs in one thread without Django: it is what stays in memory beside the farm.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Program:
    """Something to run. ``needed_by_all`` is stopped after everything else (Redis, the printers)."""

    name: str
    command: Sequence[str]
    stdin: bytes | None = None
    files: Sequence[int] = ()
    needed_by_all: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def spawn(self) -> subprocess.Popen[bytes]:
        """In a session of its own, so that Ctrl-C in the terminal reaches only us and one signal reaches all of it."""
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL if self.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=self.files,
            env={**os.environ, **self.environment},
            preexec_fn=die_with_parent(os.getpid()),
        )
        if process.stdin is not None and self.stdin is not None:
            process.stdin.write(self.stdin)
            process.stdin.close()
        return process


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
