"""What the live path costs, and how fast it is, on a whole farm.

    python bench/live.py [--scenario small|large|bridge|all] [--quick] [--profile]
    python bench/live.py --printers 100 --viewers 20 --seconds 60

Starts a farm as people do (`manage.py up`: SQLite and a Redis of its own, in a temporary folder), ``--printers``
simulated OctoPrints that print (one process; each pushes messages of 1.2 kB with new temperatures and progress at
2 Hz, see printers/simulators/fleet.py) and ``--viewers`` people at /ws/live/ (one process; real WebSockets with a
session cookie and an Origin; one in ten is an operator, the others may submit; all see all printers and answer every
frame).
Prints a table for each scenario: what was measured, its limit, and the ratio of the two.

Latency: from the moment at which a simulated printer's state changes (printing -> paused and back, random printers at
random moments; the clock is read just before the event PrinterStateChanged is written to its socket) to the moment at
which the whole frame that shows it has been read from a viewer's socket; every viewer counts. All on one machine, so
on one clock, and simulators and viewers take their share of its cores. CPU (share of one core) and memory (PSS) are
summed over web, bridge, both workers, Redis and the supervisor; simulators and viewers are shown apart.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parents[1]
VIEWERS = ROOT / "bench" / "viewers.py"
sys.path.insert(0, str(ROOT))

from bench.processes import Profiles, busy_seconds, cpu_seconds, named, pss, started_at  # noqa: E402
from farm.management.processes import die_with_parent  # noqa: E402
from tests.flows.farm import RunningFarm, wait_until  # noqa: E402
from tests.peers import FleetPeer  # noqa: E402

#: FDM Monster 2.1.1 on 2 cores of the same kind, 100 printers, 20 viewers; measured earlier, not by this script
ANCHOR = {"cpu": "0.43 to 0.56", "pss": "700", "p50": "288", "p99": "505 to 1,798"}
#: metric -> (what it is, how it is written, unit)
METRICS = {
    "cpu": ("CPU of all processes together", "{:.3f}", "cores"),
    "cpu_bridge": ("CPU of the bridge", "{:.3f}", "cores"),
    "pss": ("memory of all processes together, at the end", "{:.0f}", "MB"),
    "growth": ("memory gained while measuring", "{:.1f}", "%"),
    "bridge_printer": ("memory of the bridge for one printer", "{:.3f}", "MB"),
    "connected": ("all printers connected after the bridge's start", "{:.1f}", "s"),
    "connecting": ("CPU of the bridge to connect one printer", "{:.1f}", "ms"),
    "p50": ("change of state to viewer, p50", "{:.1f}", "ms"),
    "p99": ("change of state to viewer, p99", "{:.1f}", "ms"),
    "max": ("change of state to viewer, longest", "{:.1f}", "ms"),
    "unseen": ("changes of state that a viewer never saw", "{:.0f}", ""),
    "wrong": ("printers shown wrongly at the end", "{:.0f}", ""),
}
#: s that a farm, its printers and its viewers get to be there
PATIENCE = 180.0
#: s after everybody is there until it is measured, and between two looks at memory
SETTLE, LOOK_EVERY = 5.0, 15.0
#: s that the last changes get to reach the viewers: whoever has not seen them by then has lost them
AFTER = 8.0
#: one viewer in so many is an operator
OPERATORS = 10


@dataclass(frozen=True)
class Scenario:
    name: str
    printers: int
    viewers: int
    seconds: float
    limits: dict[str, float] = field(default_factory=dict)


SCENARIOS = {
    "small": Scenario("small", 100, 20, 60, {"cpu": 0.15, "pss": 600, "p50": 30, "p99": 150, "unseen": 0, "wrong": 0}),
    "large": Scenario("large", 500, 200, 600, {"cpu": 2, "p99": 500, "growth": 3, "unseen": 0, "wrong": 0}),
    "bridge": Scenario(
        "bridge", 1000, 1, 60, {"cpu_bridge": 0.5, "bridge_printer": 1, "connected": 15, "unseen": 0, "wrong": 0}
    ),
}
QUICK = Scenario("quick", 5, 3, 5)
#: what is not the farm's
SIMULATORS, VIEWERS_SHOWN = "(simulators)", "(viewers)"


@dataclass
class Measured:
    """What one run showed. ``values`` by the names of METRICS; CPU (cores) and PSS (MB) by part."""

    values: dict[str, float]
    cpu: dict[str, float]
    pss: dict[str, float]
    notes: list[str]
    profiles: list[str]


# --- what is in the farm ---------------------------------------------------------------------------------------------


def prepare(printers: str, viewers: str) -> dict[str, Any]:
    """Printers and people, straight into the database; the printers' ids and the people's session cookies."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "farm.settings")
    import django

    django.setup()
    from django.contrib.auth.models import Group
    from django.db import transaction
    from django.test import Client

    from farm.models import User
    from printers.models import Grant, Pool, Role
    from printers.services import add_printer

    with transaction.atomic():
        admin = User.objects.create_superuser("admin", password=None)
        added = [add_printer(by=admin, place="Bench", **facts) for facts in json.loads(printers)]
        pool = Pool.objects.create(name="Bench")
        pool.printers.add(*added)
        groups = {role: Group.objects.create(name=str(role.label)) for role in (Role.OPERATE, Role.SUBMIT)}
        for role, group in groups.items():
            Grant.objects.create(group=group, pool=pool, role=role)
        cookies = []
        for n in range(int(viewers)):
            user = User.objects.create_user(f"viewer{n}")
            user.groups.add(groups[Role.SUBMIT if n % OPERATORS else Role.OPERATE])
            client = Client()
            client.force_login(user)
            cookies.append("; ".join(f"{morsel.key}={morsel.value}" for morsel in client.cookies.values()))
    return {"printers": [str(printer.pk) for printer in added], "cookies": cookies}


# --- viewers ---------------------------------------------------------------------------------------------------------


class Viewers:
    """The process of all viewers."""

    def __init__(self, url: str, cookies: list[str], printers: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(VIEWERS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )
        try:
            self.order(json.dumps([url, cookies, printers]))
            self.whole_after: list[float] = self.heard()["whole_after"]
        except BaseException:
            self.process.kill()
            raise

    def order(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "The viewers ended."
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()


# --- one run ---------------------------------------------------------------------------------------------------------


def run(scenario: Scenario, changes: float, profile: bool, keep_log: Path | None) -> Measured:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-live-"))) / "farm"
        fleet = stack.enter_context(FleetPeer(scenario.printers))
        environment: dict[str, str | None] = {
            "FARM_BRIDGE_PRINTERS": str(max(scenario.printers, 10)),
            "FARM_STATIC_PLAIN": "1",  # no page is asked for
        }
        empty = RunningFarm(folder, environment=environment)
        with stopped(empty):
            idle, start = idle_bridge(empty)
            facts = child("prepare", json.dumps(fleet.printers), str(scenario.viewers), environment=empty.environment)
        log("The farm starts with its printers ...")
        farm = RunningFarm(folder, environment=environment)
        with stopped(farm, keep_log):
            starting = Profiles({bridge_of(farm): "bridge"}, profile)
            connected, connecting = all_connected(farm, fleet)
            profiled = starting.read("while connecting")
            log(f"All printers are connected after {connected:.1f} s; the viewers come ...")
            viewers = stack.enter_context(Viewers(farm.url, facts["cookies"], scenario.printers))
            time.sleep(SETTLE)
            log(f"Measuring for {scenario.seconds:.0f} s ...")
            processes = named(farm)
            profiles = Profiles(processes, profile)
            window = watched(scenario, processes, fleet, viewers, changes)
            values = judged(scenario, window, facts["printers"]) | {
                "bridge_printer": (window.memory[-1]["bridge"] - idle) / scenario.printers,
                "connected": connected,
                "connecting": (connecting - start) / scenario.printers * 1000,
            }
            notes = noted(scenario, window, viewers)
            return Measured(
                values, window.cpu, window.memory[-1], notes, [*profiled, *profiles.read("while measuring")]
            )


@contextlib.contextmanager
def stopped(farm: RunningFarm, keep_log: Path | None = None) -> Iterator[None]:
    """Whatever happens."""
    try:
        yield
    finally:
        try:
            farm.stop()
        finally:
            if keep_log is not None:
                keep_log.write_text(farm.log)


def child(*task: str, environment: dict[str, str]) -> Any:
    """What a task of this file, run in a process of its own, answers."""
    done = subprocess.run(
        [sys.executable, __file__, TASK, *task], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def bridge_of(farm: RunningFarm) -> psutil.Process:
    return psutil.Process(farm.wait_for_child("bridge"))


def idle_bridge(farm: RunningFarm) -> tuple[float, float]:
    """MB of a bridge without printers, and s of CPU that it takes to start."""
    bridge = bridge_of(farm)
    wait_until(lambda: "bridge_started" in farm.log, "the bridge runs", PATIENCE)
    return pss({bridge: "bridge"})["bridge"], sum(bridge.cpu_times()[:4])


def all_connected(farm: RunningFarm, fleet: FleetPeer) -> tuple[float, float]:
    """s from the start of the bridge's process until the last printer's live connection was logged in, and s of CPU
    that it used for that."""
    bridge = bridge_of(farm)
    begin = started_at(bridge)
    found: list[float] = []

    def there() -> bool:
        time.sleep(0.2)  # asking costs the simulators something
        connected = fleet.report()["connected"]
        found[:] = [moment for moment in connected if moment is not None and moment > begin]
        return len(found) == len(connected)

    wait_until(there, lambda: f"all printers are connected; {len(found)} are", PATIENCE)
    return max(found) - begin, sum(bridge.cpu_times()[:4])


@dataclass
class Window:
    """What processes used, and what printers and viewers said, between two moments."""

    seconds: float
    cpu: dict[str, float]
    strangers: float  # cores that other programs on this machine used
    memory: list[dict[str, float]]
    ended: list[str]  # parts of the farm that died meanwhile
    told: dict[str, Any]
    seen: dict[str, Any]


def watched(
    scenario: Scenario, processes: dict[psutil.Process, str], fleet: FleetPeer, viewers: Viewers, changes: float
) -> Window:
    """Printers change their state, viewers watch, we look at processes now and then."""
    everybody = processes | {
        psutil.Process(fleet.process.pid): SIMULATORS,
        psutil.Process(viewers.process.pid): VIEWERS_SHOWN,
    }
    fleet.report()
    viewers.order("begin")
    viewers.heard()
    before, busy, memory, begin = cpu_seconds(everybody), busy_seconds(), [pss(everybody)], time.monotonic()
    fleet.change_state(changes)
    while (left := begin + scenario.seconds - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_EVERY))
        memory.append(pss(everybody))
    seconds, after, busy = time.monotonic() - begin, cpu_seconds(everybody), busy_seconds() - busy
    fleet.change_state(0)
    time.sleep(AFTER)
    told = fleet.report()
    viewers.order("end")
    cpu = {name: (used - before[name]) / seconds for name, used in after.items()}
    strangers = busy / seconds - sum(cpu.values())
    ended = [name for process, name in processes.items() if not process.is_running()]
    return Window(seconds + AFTER, cpu, strangers, memory, ended, told, viewers.heard())


def judged(scenario: Scenario, window: Window, ids: list[str]) -> dict[str, float]:
    """The values of METRICS that the window shows."""
    told, memory = window.told, [farms(look) for look in window.memory]
    truth = dict(zip(ids, told["statuses"], strict=True))
    return {
        "cpu": farms(window.cpu),
        "cpu_bridge": window.cpu["bridge"],
        "pss": memory[-1],
        "growth": (memory[-1] / memory[0] - 1) * 100,
        **latencies(told["changes"], window.seen["seen"], ids, scenario.viewers),
        "wrong": sum(now.get(key) != status for now in window.seen["now"] for key, status in truth.items()),
    }


def farms(by_part: dict[str, float]) -> float:
    """The sum of what is the farm's own."""
    return sum(value for name, value in by_part.items() if name not in (SIMULATORS, VIEWERS_SHOWN))


def latencies(changes: list[Any], seen: list[Any], ids: list[str], viewers: int) -> dict[str, float]:
    """ms between a change and each viewer's sight of it. A printer that changes again is another matter by then."""
    shown: dict[tuple[int, str, str], list[float]] = {}
    for viewer, key, status, when in seen:
        shown.setdefault((viewer, key, status), []).append(when)
    again: dict[tuple[int, str], list[float]] = {}
    for n, status, when in changes:
        again.setdefault((n, status), []).append(when)
    found, unseen = [], 0
    for n, status, when in changes:
        until = min((later for later in again[n, status] if later > when), default=float("inf"))
        for viewer in range(viewers):
            sights = shown.get((viewer, ids[n], status), ())
            sight = min((sight for sight in sights if when <= sight < until), default=None)
            if sight is None:
                unseen += 1
            else:
                found.append((sight - when) * 1000)
    cuts = statistics.quantiles(found, n=100, method="inclusive") if len(found) > 1 else [float("nan")] * 99
    return {"p50": cuts[49], "p99": cuts[98], "max": max(found, default=float("nan")), "unseen": unseen}


def noted(scenario: Scenario, window: Window, viewers: Viewers) -> list[str]:
    """What the table has no row for."""
    told, counts = window.told, Counter(window.seen["counts"])
    printers, each = scenario.printers * window.seconds, scenario.viewers * window.seconds
    length, first = told["bytes"] / max(1, told["messages"]), [after * 1000 for after in viewers.whole_after]
    looks = [f"{farms(look):.0f}" for look in window.memory[:: max(1, len(window.memory) // 10)]]
    begin, end = window.memory[0], window.memory[-1]
    gains = [f"{name} {end[name] - begin[name]:.0f}" for name in end if abs(end[name] - begin[name]) >= 1]
    return [
        f"Each printer pushed {told['messages'] / printers:.2f} messages of {length:,.0f} bytes a second; "
        f"{len(told['changes'])} changes of state.",
        f"Each viewer got {counts['frames'] / each:.1f} frames and {counts['bytes'] / each / 1000:.1f} kB a second; "
        f"its first picture was there after {statistics.median(first):.0f} ms (p50), {max(first):.0f} ms (longest).",
        f"States lost on the way and noticed: {counts['lost']}, in {counts['resyncs']} resyncs; snapshots after the "
        f"first: {counts['snapshots']}; connections lost: {counts['closed']}.",
        f"Memory over time, MB: {', '.join(looks)}; gained: {', '.join(gains)}.",
        *(f"The farm's process {name} ended while we measured: CPU and memory lack it." for name in window.ended),
        f"Other programs on this machine used {max(0.0, window.strangers):.2f} cores meanwhile.",
    ]


# --- the table -------------------------------------------------------------------------------------------------------


def table(scenario: Scenario, measured: Measured) -> str:
    anchored = size(scenario) == (100, 20)
    title = f"{scenario.printers} printers, {scenario.viewers} viewers, {scenario.seconds:.0f} s"
    head = [
        f"{scenario.name}: {title}",
        "measured",
        "at most",
        "of it",
        *(["FDM Monster 2.1.1\\*"] if anchored else []),
    ]
    rows = [head, ["---"] * len(head)]
    for metric, (what, form, unit) in METRICS.items():
        value, limit = measured.values[metric], scenario.limits.get(metric)
        ratio = "-" if not limit else f"{value / limit:.0%}"
        cells = [f"{what}, {unit}".rstrip(", "), form.format(value), "-" if limit is None else f"{limit:g}", ratio]
        rows.append([*cells, *([ANCHOR.get(metric, "-")] if anchored else [])])
    parts = sorted(measured.cpu, key=lambda name: -measured.cpu[name])
    rows += [[], ["process", "CPU, cores", "PSS, MB"], ["---"] * 3]
    rows += [[name, f"{measured.cpu[name]:.3f}", f"{measured.pss.get(name, float('nan')):.0f}"] for name in parts]
    lines = ["| " + " | ".join(row) + " |" if row else "" for row in rows]
    note = ["\\* measured earlier on the same 2 cores, with 100 printers and 20 viewers."] if anchored else []
    return "\n".join([*lines, "", *note, *(f"- {text}" for text in measured.notes), *measured.profiles, ""])


def machine() -> str:
    names = ("Django", "channels", "daphne", "redis", "websocket-client")
    versions = ", ".join(f"{name} {version(name)}" for name in names).replace("redis ", "redis-py ")
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}; load before: {os.getloadavg()[0]:.2f}"
    )


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def chosen(options: argparse.Namespace) -> list[Scenario]:
    if options.quick:
        base = [QUICK]
    elif options.scenario == "all":
        base = list(SCENARIOS.values())
    else:
        base = [SCENARIOS[options.scenario]]
    given = {key: getattr(options, key) for key in ("printers", "viewers", "seconds") if getattr(options, key)}
    wished = [(scenario, replace(scenario, **given)) for scenario in base]
    # a limit is one for so many printers and viewers
    return [wish if size(wish) == size(scenario) else replace(wish, limits={}) for scenario, wish in wished]


def size(scenario: Scenario) -> tuple[int, int]:
    return scenario.printers, scenario.viewers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], default="small")
    parser.add_argument("--printers", type=int, help="instead of the scenario's")
    parser.add_argument("--viewers", type=int, help="instead of the scenario's")
    parser.add_argument("--seconds", type=float, help="instead of the scenario's")
    parser.add_argument("--changes", type=float, default=2.0, help="changes of state a second in the whole farm")
    parser.add_argument("--quick", action="store_true", help="a few printers for a few seconds: does it work at all?")
    parser.add_argument("--log", type=Path, help="where to copy the farm's log")
    parser.add_argument("--profile", action="store_true", help="show where web and bridge spend their time (py-spy)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything started here ends too
    print(machine() + "\n", flush=True)
    missed = 0
    for scenario in chosen(options):
        measured = run(scenario, options.changes, options.profile, options.log)
        print(table(scenario, measured), flush=True)
        missed += sum(not measured.values[metric] <= limit for metric, limit in scenario.limits.items())
    return 1 if missed else 0


TASK = "--task"
TASKS: dict[str, Callable[..., Any]] = {"prepare": prepare}

if __name__ == "__main__":
    if sys.argv[1:2] == [TASK]:
        sys.stdout.write(json.dumps(TASKS[sys.argv[2]](*sys.argv[3:])))
    else:
        try:
            sys.exit(main())
        except KeyboardInterrupt:
            sys.exit(130)
