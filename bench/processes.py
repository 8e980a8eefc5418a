"""What a farm's processes use, looked at from outside. For bench/live.py."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.flows.farm import MARKS, RunningFarm, command_line

ROOT = Path(__file__).resolve().parents[1]


def named(farm: RunningFarm) -> dict[psutil.Process, str]:
    """Every process of the farm and the part it belongs to: a worker's children are the worker's."""
    supervisor = psutil.Process(farm.process.pid)
    found = {supervisor: "supervisor"}
    for child in supervisor.children():
        name = next(
            (name for name, mark in MARKS.items() if any(mark in word for word in command_line(child))), "other"
        )
        found |= dict.fromkeys([child, *child.children(recursive=True)], name)
    return found


def cpu_seconds(processes: dict[psutil.Process, str]) -> dict[str, float]:
    """s of CPU by part, with those of children that have ended."""
    used = dict.fromkeys(processes.values(), 0.0)
    for process, name in processes.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            used[name] += sum(process.cpu_times()[:4])
    return used


def pss(processes: dict[psutil.Process, str]) -> dict[str, float]:
    """MB by part: what processes share is counted once."""
    used = dict.fromkeys(processes.values(), 0.0)
    for process, name in processes.items():
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            used[name] += int(rollup.partition("\nPss:")[2].split()[0]) / 1024
    return used


def busy_seconds() -> float:
    """s that all cores of this machine have worked."""
    times = psutil.cpu_times()
    return float(sum(times[:7]) - times.idle - times.iowait)


def started_at(process: psutil.Process) -> float:
    """By the monotonic clock."""
    age: float = time.time() - process.create_time()
    return time.monotonic() - age


class Profiles:
    """py-spy looks at web and bridge from outside while we measure; it costs some CPU, which is in nobody's figures
    but slows everybody."""

    MOST = 25

    def __init__(self, processes: dict[psutil.Process, str], wanted: bool) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-live-profile-")
        self.folder = Path(self._temporary.name)
        self._runs: dict[str, subprocess.Popen[bytes]] = {}
        if not wanted:
            return
        program = shutil.which("py-spy")
        if program is None:
            print("py-spy is not on the path (pip install py-spy): no profile.", file=sys.stderr)
            return
        for process, name in processes.items():
            if name in ("web", "bridge"):
                # --gil: who computes, not who waits
                options = ["--gil", "--nonblocking", "--format", "raw", "--rate", "100", "--duration", "unlimited"]
                command = [program, "record", *options, "--pid", str(process.pid), "--output", str(self.folder / name)]
                self._runs[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def read(self, when: str) -> list[str]:
        """For each, the lines that it was in most often: by itself, and with all that they called."""
        try:
            for process in self._runs.values():
                process.send_signal(signal.SIGINT)  # its own clock stretches when the machine is busy
                process.wait(60)
            return [self._told(name, when) for name in self._runs if (self.folder / name).exists()]
        finally:
            for process in self._runs.values():
                process.kill()
            self._temporary.cleanup()

    def _told(self, name: str, when: str) -> str:
        alone: Counter[str] = Counter()
        whole: Counter[str] = Counter()
        for line in (self.folder / name).read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            frames = [frame.replace(f"{ROOT}/", "") for frame in stack.split(";")]
            alone[frames[-1]] += int(count)
            whole.update(dict.fromkeys(frames, int(count)))
        total = max(1, alone.total())
        lines = [f"\n{name} {when}: {total} samples"]
        for title, counter in (("by itself", alone), ("with what it calls", whole)):
            lines += [f"  {title}", *(f"  {n / total:6.1%}  {frame}" for frame, n in counter.most_common(self.MOST))]
        return "\n".join(lines)
