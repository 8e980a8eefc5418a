"""``manage.py up``: the whole farm on one machine, as child processes of a thin supervisor (no Django in it).

::

    redis      none if REDIS_URL is given
    web        Daphne: pages, API, sockets. We hold its listening socket: nobody is turned away while it restarts
    slice      Celery, one process per core: the only ones that import numpy
    transfer   Celery, threads: sends files, keeps house; carries the clock (beat)
    bridge     talks to the printers
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import socket
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm import env
from farm.management.processes import GaveUp, Program, Stopped, Supervisor
from farm.management.redis_server import NoRedis, RedisServer, free_port, is_free

BASE = Path(__file__).resolve().parents[3]
TRANSFERS = 8
#: name, module, speed-up: the printers of the demo
SIMULATORS = (("Anvil", "octoprint", 8), ("Bellows", "moonraker", 8))


class CannotStart(Exception):
    """The message says why and what to do."""


def main(argv: list[str]) -> int:
    """Run until Ctrl-C or SIGTERM; the exit code."""
    args = parser().parse_args(argv)
    data = env.data_dir()
    os.environ["FARM_DATA_DIR"] = str(data)
    try:
        with only_farm_in(data), listening_socket(args.host, args.port) as listener, Supervisor(show) as supervisor:
            run(supervisor, listener, data, args)
    except Stopped:
        say("Stopped.")
    except (CannotStart, GaveUp, NoRedis) as error:
        say(str(error), sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="manage.py up", description="Run the whole farm on this machine.")
    result.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    result.add_argument("--port", type=int, default=8000, help="0 = any free one (default: %(default)s)")
    result.add_argument("--demo", action="store_true", help="with two simulated printers, demo people and a first job")
    result.add_argument("--data-dir", help="where everything is kept: database, files, secrets (equals FARM_DATA_DIR)")
    return result


def run(supervisor: Supervisor, listener: socket.socket, data: Path, args: argparse.Namespace) -> None:
    with contextlib.ExitStack() as until_stopped:
        if not os.environ.get("REDIS_URL"):
            until_stopped.enter_context(own_redis(supervisor, data))
        prepare(supervisor, data)
        for program in programs(listener):
            supervisor.start(program)
        say("Starting the farm ...")
        supervisor.wait_until(Answers(listener), 120, "The web server")
        url = "http://{}:{}".format(*listener.getsockname())
        say(f"Print Farm is running at {url}")
        if args.demo:
            start_demo(supervisor, data, url)
        try:
            supervisor.watch()
        except Stopped:
            say("Stopping ...")
            supervisor.stop()
            raise


@contextlib.contextmanager
def only_farm_in(data: Path) -> Iterator[None]:
    """Two farms on one data folder would be two of everything. The lock goes with us, however we end."""
    with (data / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"A farm is already running on {data}. Stop that one first, or choose another folder with --data-dir."
            ) from None
        yield


@contextlib.contextmanager
def listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CannotStart(
                f"Cannot listen on {host}, port {port}: {reason}. Choose another with --port (or --host)."
            ) from None
        listener.listen(256)
        yield listener


@contextlib.contextmanager
def own_redis(supervisor: Supervisor, data: Path) -> Iterator[None]:
    """Its address is where settings.py looks for it, for as long as it runs."""
    folder = data / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    server, address = RedisServer.in_folder(folder), data / "redis.url"
    supervisor.start(server.program())
    supervisor.wait_until(server.answers, 20, "Redis")
    write_private(address, server.url)
    try:
        yield
    finally:
        address.unlink(missing_ok=True)


def prepare(supervisor: Supervisor, data: Path) -> None:
    """Database and static files as this version wants them."""
    say("Preparing the database ...")
    supervisor.run(manage("migrate", "--no-input"))
    wanted = static_fingerprint()
    stamp = data / "static.stamp"
    if wanted and not (stamp.exists() and stamp.read_text() == wanted):
        say("Collecting style sheets and scripts ...")
        supervisor.run(manage("collectstatic", "--no-input", "--clear"))
        stamp.write_text(wanted)


def static_fingerprint() -> str:
    """What the collected files depend on: our own files, the installed packages, the place. '' if none are needed."""
    if env.flag("FARM_DEBUG", False) or env.flag("FARM_STATIC_PLAIN", False):
        return ""
    own = [path for path in sorted((BASE / "static").rglob("*")) if path.is_file()]
    facts = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in own]
    facts += sorted(path.name for path in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))
    facts.append(env.text("FARM_STATIC_DIR"))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def programs(listener: socket.socket) -> list[Program]:
    """Everything but Redis, in the order of starting."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fd = listener.fileno()
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # there is a process per core already
    return [
        python(
            "web", "-m", "daphne", "-v", "0", "--no-server-name", "--fd", str(fd), "farm.asgi:application", files=[fd]
        ),
        worker("slice", "--pool", "prefork", "--concurrency", str(cores), environment=one_thread),
        worker("transfer", "--pool", "threads", "--concurrency", str(TRANSFERS), "--clock"),
        manage("bridge"),
    ]


def worker(queue: str, *options: str, environment: dict[str, str] | None = None) -> Program:
    calm = ("-W", "ignore:You're running the worker with superuser privileges")
    alone = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    celery = ("-m", "celery", "--quiet", "-A", "farm", "worker", "-Q", queue, "-n", f"{queue}@%h")
    return python(queue, *calm, *celery, *alone, *options, environment=environment)


def manage(command: str, *options: str) -> Program:
    return python(command, str(BASE / "manage.py"), command, *options)


def python(
    name: str,
    *arguments: str,
    files: list[int] | None = None,
    backstage: bool = False,
    environment: dict[str, str] | None = None,
) -> Program:
    path = os.pathsep.join(filter(None, [str(BASE), os.environ.get("PYTHONPATH")]))
    return Program(
        name=name,
        command=[sys.executable, *arguments],
        files=files or [],
        backstage=backstage,
        environment={"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})},
    )


def start_demo(supervisor: Supervisor, data: Path, url: str) -> None:
    """Simulated printers, then `manage.py demo`, which says what there is to see."""
    printers = [start_simulator(supervisor, data / "simulators", *facts) for facts in SIMULATORS]
    demo = manage("demo", "--url", url)
    calm = {**demo.environment, "FARM_LOG_LEVEL": "WARNING"}  # it says itself what it does
    supervisor.run(replace(demo, stdin=json.dumps(printers).encode(), environment=calm), say)


def start_simulator(supervisor: Supervisor, folder: Path, name: str, kind: str, speed: int) -> dict[str, str]:
    """At the address of the last time if possible, so that the farm finds its printers where they were."""
    folder.mkdir(mode=0o700, exist_ok=True)
    memory = folder / f"{kind}.json"
    facts: dict[str, Any] = {"port": 0, "api_key": secrets.token_hex(16)}
    if memory.exists():
        facts = json.loads(memory.read_text())
    if not facts["port"] or not is_free(facts["port"]):
        facts["port"] = free_port()
        write_private(memory, json.dumps(facts))
    options = ("--port", str(facts["port"]), "--api-key", facts["api_key"], "--speed", str(speed), "--name", name)
    supervisor.start(python(name.lower(), "-m", f"printers.simulators.{kind}", *options, backstage=True))
    return {"name": name, "kind": kind, "url": f"http://127.0.0.1:{facts['port']}", "api_key": facts["api_key"]}


def write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


class Answers:
    """Whether HTTP is answered without a server error. Does not block: our own Redis may need attention meanwhile."""

    def __init__(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()
        self._address = ("127.0.0.1" if host == "0.0.0.0" else host, port)  # noqa: S104 - compared, not bound
        self._connection: socket.socket | None = None

    def __call__(self) -> bool:
        if self._connection is None:
            self._connection = socket.create_connection(self._address, timeout=5)
            self._connection.sendall(f"GET /healthy/ HTTP/1.0\r\nHost: {known_host()}\r\n\r\n".encode())
            self._connection.setblocking(False)
            return False
        try:
            status_line = self._connection.recv(16)
        except BlockingIOError:
            return False
        except ConnectionError:
            status_line = b""
        self._connection.close()
        self._connection = None
        return status_line.startswith(b"HTTP/1.") and status_line.split(b" ")[1][:1] in b"234"


def known_host() -> str:
    """A name that the web process answers to."""
    names = [name.lstrip(".") for name in env.words("FARM_HOSTS", "localhost")]
    return next((name for name in names if name != "*"), "localhost")


def show(name: str, line: str) -> None:
    if line:
        say(f"\x1b[2m{name:>8} |\x1b[0m {line}" if sys.stdout.isatty() else f"{name:>8} | {line}")


def say(line: str, to: Any = None) -> None:
    """Whoever listened may be gone (a closed pipe or terminal): the farm goes on, or is told to stop by a signal."""
    with contextlib.suppress(OSError):
        print(line, file=to or sys.stdout, flush=True)  # noqa: T201 - people read this


def __getattr__(name: str) -> Any:
    """``manage.py help`` wants a Django Command here; only for that is Django loaded."""
    if name != "Command":
        raise AttributeError(name)
    from django.core.management.base import BaseCommand

    class Command(BaseCommand):
        help = parser().format_help()

    return Command
