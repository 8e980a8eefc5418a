"""Run a program on a stranger's file: in a child process with limits on memory, CPU and time.

A parser that crashes, grows or loops takes only its child with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from django.conf import settings

from farm.errors import Invalid

#: bytes of address space; s, unless the caller says otherwise
MEMORY, WALL_S = 3 * 2**30, 20

#: sets its own limits before anything of ours is imported: a preexec_fn is unsafe in a threaded server
_LIMITED = (
    "import resource, runpy, sys;"
    "memory, cpu = int(sys.argv[1]), int(sys.argv[2]);"
    "resource.setrlimit(resource.RLIMIT_AS, (memory, memory));"
    "resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1));"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    "sys.argv = sys.argv[3:];"
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def facts_of(module: str, *args: str, seconds: int = WALL_S) -> dict[str, Any]:
    """Run ``python -m module args``, which prints one line of JSON. Raises Invalid with its ``error``, or a sentence
    when it broke a limit before. ``seconds`` are those of its CPU and of the clock."""
    command = [sys.executable, "-c", _LIMITED, str(MEMORY), str(seconds), module, *args]
    try:
        said = subprocess.run(
            command,
            capture_output=True,
            timeout=seconds,
            check=False,
            cwd=settings.BASE_DIR,
            env={"PATH": os.environ.get("PATH", ""), "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
        ).stdout
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        if not said.endswith(b"\n"):
            raise Invalid(
                "Reading this file takes too long. Export it with a coarser resolution.", code="too_slow"
            ) from None
    try:
        facts: dict[str, Any] = json.loads(said)
    except ValueError:
        raise Invalid(
            "This file could not be read: it needs more memory or time than one upload may use.", code="unreadable"
        ) from None
    if "error" in facts:
        raise Invalid(facts["error"], code="unreadable")
    return facts
