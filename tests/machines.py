"""Machines that exist only in memory, behind the drivers' interface: they follow printers/drivers/base.py, write down
what was asked of them, and fail when they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Literal
from uuid import UUID

from printers.drivers.base import (
    Busy,
    Camera,
    Capability,
    DriverError,
    Ended,
    Heard,
    Identity,
    LiveJob,
    Missing,
    Outcome,
    PrinterDriver,
    PrinterState,
    PrinterStatus,
    PrintMarker,
    RemoteFile,
    Unreachable,
    refuse_unless_idle,
    refuse_unless_printing,
)
from printers.models import Printer


@dataclass
class FakeMachine:
    """One machine and its server. ``calls`` is everything that was asked of it, in order; ``starts`` every file that it
    really began to print, whoever asked."""

    status: PrinterStatus = PrinterStatus.IDLE
    message: str = ""
    job: LiveJob | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    #: newest last
    records: list[Ended] = field(default_factory=list)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    #: what it says in its stream, for tests of the bridge; afterwards the stream waits until it is told to stop
    says: list[PrinterState | BaseException] = field(default_factory=list)
    #: bytes left for files
    free: int | None = None
    #: what it says to whatever G-code it is given
    answers: list[str] = field(default_factory=list)
    #: method -> what it raises, instead of doing anything
    faults: dict[str, BaseException] = field(default_factory=dict)
    #: method -> what it raises after having done it
    lost_answers: dict[str, BaseException] = field(default_factory=dict)
    #: method -> what happens in the world right before it is done
    meanwhile: dict[str, Callable[[], Any]] = field(default_factory=dict)
    camera: Camera | None = None
    open_drivers: int = 0

    @property
    def state(self) -> PrinterState:
        """As its stream says it."""
        ended = self.records[-1] if self.records else None
        return PrinterState(status=self.status, message=self.message, job=self.job, ended=ended)

    def begin(self, path: str) -> None:
        """It starts to print, by whomever."""
        self.starts.append(path)
        self.status, self.job = PrinterStatus.PRINTING, LiveJob(file=path, progress=0.0)

    def end(self, outcome: Outcome = Outcome.COMPLETED, reason: str = "") -> None:
        """What it prints ends, and is written down."""
        assert self.job is not None
        mark = str(len(self.records) + 1)
        ended = Ended(
            file=self.job.file, outcome=outcome, reason=reason, mark=mark, filament_mm=1500.0, duration_s=60.0
        )
        self.records.append(ended)
        self.forget()

    def forget(self) -> None:
        """It is idle without a record of what it did: somebody pulled the plug."""
        self.status, self.job = PrinterStatus.IDLE, None

    def asked(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of that name."""
        return [call[1:] for call in self.calls if call[0] == name]


class FakeDriver(PrinterDriver):
    kind: ClassVar[str] = "octoprint"
    label: ClassVar[str] = "Fake"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__("http://127.0.0.1:9", "")
        self.machine = machine
        machine.open_drivers += 1

    def close(self) -> None:
        self.machine.open_drivers -= 1

    def _asked(self, name: str, *args: Any) -> None:
        self.machine.calls.append((name, *args))
        if name in self.machine.meanwhile:
            self.machine.meanwhile[name]()
        if name in self.machine.faults:
            raise self.machine.faults[name]

    def _answer(self, name: str) -> None:
        if name in self.machine.lost_answers:
            raise self.machine.lost_answers[name]

    # -- reading
    def identify(self) -> Identity:
        self._asked("identify")
        return Identity(software="Fake 1.0", status=self.machine.status, capabilities=self.capabilities)

    def read_state(self) -> PrinterState:
        self._asked("read_state")
        return PrinterState(status=self.machine.status, message=self.machine.message, job=self.machine.job)

    def stream(self, stop: Event) -> Iterator[PrinterState]:
        self._asked("stream")
        for said in self.machine.says:
            if isinstance(said, BaseException):
                raise said
            yield said
        stop.wait()

    def list_files(self, location: Literal["local", "sdcard"] = "local") -> list[RemoteFile]:
        self._asked("list_files", location)
        return [RemoteFile(path=path, size=len(content)) for path, content in self.machine.files.items()]

    def free_space(self) -> int | None:
        self._asked("free_space")
        return self.machine.free

    def find_file(self, path: str) -> RemoteFile | None:
        self._asked("find_file", path)
        return RemoteFile(path=path) if path in self.machine.files else None

    def find_ended(self, path: str) -> Ended | None:
        self._asked("find_ended", path)
        return next((ended for ended in reversed(self.machine.records) if ended.file == path), None)

    def marker(self) -> PrintMarker | None:
        self._asked("marker")
        return {"printed": len(self.machine.records)}

    def printed_between(self, before: PrintMarker | None, now: PrintMarker | None) -> bool:
        return before is None or before != now

    def objects(self, names: Sequence[str] = ()) -> dict[str, Any]:
        self._asked("objects", list(names))
        return dict.fromkeys(names, {})

    def camera(self) -> Camera | None:
        self._asked("camera")
        return self.machine.camera

    # -- files
    def upload(self, local: Path, name: str, progress: Callable[[int], None] | None = None) -> RemoteFile:
        """The path differs from the name, as it may with real servers."""
        self._asked("upload", name)
        content = local.read_bytes()
        if progress:
            progress(len(content))
        path = f"farm/{name}"
        self.machine.files[path] = content
        self._answer("upload")
        return RemoteFile(path=path, size=len(content))

    def delete_file(self, path: str, location: Literal["local", "sdcard"] = "local") -> None:
        self._asked("delete_file", path)
        if self.machine.job is not None and self.machine.job.file == path:
            raise Busy("That file is being printed.")
        self.machine.files.pop(path, None)
        self._answer("delete_file")

    # -- printing
    def select(self, path: str) -> None:
        self._asked("select", path)

    def start(self, path: str, last_look: Callable[[], None] = lambda: None) -> None:
        self._asked("start", path)
        if path not in self.machine.files:
            raise Missing("There is no such file on the printer.")
        refuse_unless_idle(self.machine.state)
        last_look()
        self.machine.begin(path)
        self._answer("start")

    def pause(self) -> None:
        self._asked("pause")
        refuse_unless_printing(self.machine.state)
        self.machine.status = PrinterStatus.PAUSED

    def resume(self) -> None:
        self._asked("resume")
        refuse_unless_printing(self.machine.state)
        self.machine.status = PrinterStatus.PRINTING

    def cancel(self) -> None:
        self._asked("cancel")
        refuse_unless_printing(self.machine.state)
        self.machine.end(Outcome.CANCELLED)

    # -- the machine
    def gcode(self, lines: Sequence[str], heard: Heard | None = None) -> None:
        self._asked("gcode", list(lines))
        if heard is not None:
            for said in self.machine.answers:
                heard(said)

    def set_temperature(self, heater: str, target: float) -> None:
        self._asked("set_temperature", heater, target)

    def home(self, axes: Sequence[str]) -> None:
        self._asked("home", list(axes))

    def jog(self, moves: Mapping[str, float], speed: float) -> None:
        self._asked("jog", dict(moves), speed)

    def emergency_stop(self) -> None:
        self._asked("emergency_stop")
        self.machine.status, self.machine.job = PrinterStatus.ERROR, None

    def firmware_restart(self) -> None:
        self._asked("firmware_restart")
        self.machine.forget()


class Machines:
    """A machine for every printer; ``open_driver`` takes the place of printers.services.open_driver."""

    def __init__(self) -> None:
        self._made: dict[UUID, FakeMachine] = {}

    def __getitem__(self, printer: Printer) -> FakeMachine:
        return self._made.setdefault(printer.pk, FakeMachine())

    def open_driver(self, printer: Printer) -> PrinterDriver:
        machine = self[printer]
        if "open" in machine.faults:
            raise machine.faults["open"]
        return FakeDriver(machine)


def away() -> DriverError:
    """What every exchange with a printer that is off ends in."""
    return Unreachable("Nobody answers.")
