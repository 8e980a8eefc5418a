"""Run a program on a stranger's file: in a child process with limits on memory, CPU and time.

A parser that crashes, grows or loops takes only its child with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import structlog
from django.conf import settings

from farm.errors import Invalid

log = structlog.get_logger(__name__)

#: bytes of address space and of each file written; s, unless the caller says otherwise
MEMORY, FILE, WALL_S = 3 * 2**30, 2**30, 20

#: sets its own limits before anything of ours is imported: a preexec_fn is unsafe in a threaded server
_LIMITED = (
    "import resource, runpy, sys;"
    "memory, file, cpu = map(int, sys.argv[1:4]);"
    "resource.setrlimit(resource.RLIMIT_AS, (memory, memory));"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (file, file));"
    "resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1));"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    "sys.argv = sys.argv[4:];"
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def facts_of(module: str, *args: str, seconds: int = WALL_S) -> dict[str, Any]:
    """Run ``python -m module args``, which prints one line of JSON. Raises Invalid with its ``error``, or a sentence
    when it broke a limit before. ``seconds`` are those of its CPU and of the clock."""
    command = [sys.executable, "-c", _LIMITED, str(MEMORY), str(FILE), str(seconds), module, *args]
    said, complaint = _run(command, seconds)
    try:
        facts: dict[str, Any] = json.loads(said)
    except ValueError:
        log.warning("child_gave_no_facts", module=module, complaint=complaint)
        raise Invalid(
            "This file could not be read: it needs more memory or time than one upload may use.", code="unreadable"
        ) from None
    if "error" in facts:
        raise Invalid(facts["error"], code="unreadable")
    return facts


def _run(command: list[str], seconds: int) -> tuple[bytes, str]:
    """What it printed, and the end of what it complained of. Raises Invalid when it took too long to print anything."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=seconds,
            check=False,
            cwd=settings.BASE_DIR,
            env={"PATH": os.environ.get("PATH", ""), "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        if not said.endswith(b"\n"):
            raise Invalid(
                "Reading this file takes too long. Export it with a coarser resolution.", code="too_slow"
            ) from None
        return said, ""
    return done.stdout, done.stderr[-1000:].decode(errors="replace")
