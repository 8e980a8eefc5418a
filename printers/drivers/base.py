"""What every printer looks like to the farm, whoever made its server. No Django, no vendor words.

A driver turns one vendor's messages into :class:`PrinterState` and the farm's commands into that vendor's
calls. Everything above this room knows only what is in this file.

Faults are classes by what the caller must do::

    DriverError
     +- Unreachable     nothing answered: retry a read later; after a write, see Unclear
     +- Unclear         a write was sent and its answer never came: do not repeat it, read the state instead
     +- Unauthorised    the credential is wrong or too weak: stop and tell the people who manage the printer
     +- Refused         the server understood and said no: tell the person; repeating will not help
     |   +- Busy        refused because the machine is doing something else: try when it is idle
     |   +- Missing     refused because the file or object does not exist
     +- Unsupported     this machine cannot do that at all
     +- Garbled         the answer was not what this vendor's protocol says: a bug here or a strange server
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Literal


class PrinterStatus(StrEnum):
    """What a machine is doing, in the farm's words."""

    OFFLINE = "offline"  # its server does not answer
    CONNECTING = "connecting"  # its server answers, the machine is not ready yet
    IDLE = "idle"  # ready; would accept a start
    PRINTING = "printing"
    PAUSED = "paused"
    BUSY = "busy"  # between two of the above (pausing, cancelling, finishing, homing ...)
    ERROR = "error"  # stopped itself or is shut down; a person must look


#: A print is on the machine: its bed is occupied and the heaters are on.
WORKING = frozenset({PrinterStatus.PRINTING, PrinterStatus.PAUSED, PrinterStatus.BUSY})
#: The machine's server answers.
REACHABLE = frozenset(PrinterStatus) - {PrinterStatus.OFFLINE}


class Capability(StrEnum):
    """What a machine can do. Ask this, never the vendor."""

    PAUSE = "pause"
    GCODE = "gcode"
    HOME = "home"
    JOG = "jog"
    SET_TEMPERATURE = "set_temperature"
    FILES = "files"
    SDCARD = "sdcard"
    EMERGENCY_STOP = "emergency_stop"
    FIRMWARE_RESTART = "firmware_restart"
    OBJECTS = "objects"


class Outcome(StrEnum):
    """How a print ended, in the printer's own record."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """Degrees C. ``target`` is 0 when the heater is off, ``actual`` None when the sensor said nothing."""

    actual: float | None
    target: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveJob:
    """The file the machine is working on now, whoever started it."""

    file: str
    progress: float  # 0..1
    #: the part of the file that was read, 0..1, where ``progress`` is something else; tells the layer
    read: float | None = None
    elapsed_s: float | None = None
    left_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The newest print that the printer itself says has ended: from an event or its history, not from a sample."""

    file: str
    outcome: Outcome
    reason: str = ""
    #: the printer's own id or time of that print; two prints of one file differ in it
    mark: str = ""
    filament_mm: float | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterState:
    """Everything the farm knows of a machine at one moment."""

    status: PrinterStatus
    #: one sentence for people; empty when there is nothing to say
    message: str = ""
    #: by the farm's heater names: "tool0", "tool1", ..., "bed", "chamber"
    temperatures: Mapping[str, Temperature] = field(default_factory=dict)
    #: None when nothing is on the machine
    job: LiveJob | None = None
    ended: Ended | None = None

    @property
    def working(self) -> bool:
        return self.status in WORKING


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on the printer. ``path`` is what its server calls it: use this, never the name that was asked for."""

    path: str
    size: int | None = None  # bytes
    location: str = "local"  # "local" | "sdcard"
    modified: float | None = None  # Unix seconds by the printer's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What answered at a printer's address."""

    software: str  # "OctoPrint 1.11.8"
    name: str = ""
    status: PrinterStatus
    message: str = ""
    capabilities: frozenset[Capability] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Where a printer's camera is: absolute addresses, "" for none; at least one is given. Its picture is mirrored
    first and then turned."""

    #: gives one picture
    snapshot: str = ""
    #: gives picture after picture (multipart/x-mixed-replace)
    stream: str = ""
    flip_h: bool = False  # left and right
    flip_v: bool = False  # top and bottom
    rotation: int = 0  # degrees clockwise: 0, 90, 180, 270


class DriverError(Exception):
    """Something between us and the printer went wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unreachable(DriverError):
    """The printer's server does not answer."""


class Unclear(DriverError):
    """The request went out and no answer came back."""


class Unauthorised(DriverError):
    """The printer's server does not accept the API key."""


class Refused(DriverError):
    """The printer's server refused."""


class Busy(Refused):
    """The printer is busy."""


class Missing(Refused):
    """There is no such file on the printer."""


class Unsupported(DriverError):
    """This printer cannot do that."""


class Garbled(DriverError):
    """The printer's server answered something we do not understand."""


#: Takes what a machine says in answer to G-code: one line, without control characters, below 300 characters.
Heard = Callable[[str], None]
#: What the printer's own record says of everything it printed: {path or id: count}. Compared only by
#: :meth:`PrinterDriver.printed_between`; stored as JSON.
PrintMarker = dict[str, Any]


class PrinterDriver(ABC):
    """One printer of one vendor. Cheap to make; holds an HTTP session, so call :meth:`close`.

    Every method but :meth:`stream` is one bounded exchange: it returns within its own deadline or raises a
    DriverError. A write that was sent and not answered raises :class:`Unclear`, never :class:`Unreachable`
    (which promises that the printer did not get it). Methods may be called from several threads.
    """

    kind: ClassVar[str]
    label: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]

    def __init__(self, base_url: str, api_key: str, check_address: Callable[[str], str | None] | None = None) -> None:
        """``check_address(host)`` returns the IP address to connect to, or None if that host is not allowed."""
        self.base_url = base_url.rstrip("/")
        self.api_key = api_key
        self.check_address = check_address

    def knock(self) -> None:  # noqa: B027 - a driver without an address has nothing to look for
        """Whether anybody listens at the address at all, for next to nothing. Raises Unreachable."""

    # -- reading
    @abstractmethod
    def identify(self) -> Identity:
        """What is there, is the key right. Raises Unreachable, Unauthorised, Garbled."""

    @abstractmethod
    def read_state(self) -> PrinterState:
        """The state now, asked by HTTP (the stream is cheaper and does not miss edges). Without ``ended``: ask
        :meth:`find_ended` for that."""

    @abstractmethod
    def stream(self, stop: Event) -> Iterator[PrinterState]:
        """Connect, authenticate, and yield a whole state for every message that says something (a heartbeat too,
        as the unchanged state). Ends when ``stop`` is set; raises Unreachable when the socket breaks or says
        nothing for 15 s, Unauthorised when it may not listen. The first state comes after reconciling with the
        printer's own records, so ``ended`` is right even for prints that ended while nobody listened."""

    @abstractmethod
    def list_files(self, location: Literal["local", "sdcard"] = "local") -> list[RemoteFile]: ...

    @abstractmethod
    def free_space(self) -> int | None:
        """Bytes left for local files; None when the server does not say."""

    @abstractmethod
    def find_file(self, path: str) -> RemoteFile | None:
        """The file, or None when the printer's server says that it is not there."""

    @abstractmethod
    def find_ended(self, path: str) -> Ended | None:
        """How the newest print of that file ended by the printer's own record; None when it has no such record."""

    @abstractmethod
    def marker(self) -> PrintMarker | None:
        """The printer's record of all it ever printed, to compare later; None when it keeps none."""

    def first_marker(self) -> PrintMarker | None:
        """The marker as it was when :meth:`stream` began; ask after its first state. (What a stream had to read anyway
        is not asked for a second time.)"""
        return self.marker()

    @abstractmethod
    def printed_between(self, before: PrintMarker | None, now: PrintMarker | None) -> bool:
        """Whether a print may have ended between two markers; what is being printed is in none. True when that cannot
        be told. Asks nobody."""

    @abstractmethod
    def objects(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """The vendor's own objects, for experts: all names with empty values, or the values of ``names``."""

    @abstractmethod
    def camera(self) -> Camera | None:
        """Where the server says that its (first) camera is, on whatever host; None when it has none."""

    # -- files
    @abstractmethod
    def upload(self, local: Path, name: str, progress: Callable[[int], None] | None = None) -> RemoteFile:
        """Send a G-code file, never starting it, and verify what arrived (size, and hash where the vendor can).
        ``progress(bytes_sent)`` is called for every block; what it raises gives the upload up and comes out here.
        Raises Refused if what arrived differs (the remote file is deleted then)."""

    @abstractmethod
    def delete_file(self, path: str, location: Literal["local", "sdcard"] = "local") -> None:
        """Deleting a file that is not there is fine. Raises Busy while it is being printed."""

    # -- printing
    @abstractmethod
    def select(self, path: str) -> None:
        """Load a file without starting it (a no-op where the vendor has no such thing)."""

    @abstractmethod
    def start(self, path: str, last_look: Callable[[], None] = lambda: None) -> None:
        """Start exactly this file. Reads first: raises Busy unless the machine is idle, without sending anything.
        ``last_look()`` is called right before the one request that starts; what it raises stops the start."""

    @abstractmethod
    def pause(self) -> None:
        """Raises Refused when nothing is being printed; pausing what is paused is fine."""

    @abstractmethod
    def resume(self) -> None:
        """Raises Refused when nothing is being printed; resuming what is printing is fine."""

    @abstractmethod
    def cancel(self) -> None:
        """Raises Refused when nothing is being printed."""

    # -- the machine
    @abstractmethod
    def gcode(self, lines: Sequence[str], heard: Heard | None = None) -> None:
        """Send lines as they are. ``heard(line)`` is given each line that the machine says in answer, as it comes; the
        call then lasts until the machine is done with all of them, or for as long as this driver has patience."""

    @abstractmethod
    def set_temperature(self, heater: str, target: float) -> None:
        """``heater`` is "bed", "chamber" or "tool<n>"; degrees C."""

    @abstractmethod
    def home(self, axes: Sequence[str]) -> None:
        """``axes``: any of "x", "y", "z". Raises Busy while a print is on the machine, a paused one too."""

    @abstractmethod
    def jog(self, moves: Mapping[str, float], speed: float) -> None:
        """Relative moves in mm by axis; ``speed`` in mm/s. Raises Busy while printing; a paused head may be moved."""

    @abstractmethod
    def emergency_stop(self) -> None: ...

    @abstractmethod
    def firmware_restart(self) -> None:
        """Bring a stopped machine back. Returns when that has begun; the state says when it is done. Raises Busy
        while a print is on the machine: cancel it or stop it first."""

    def close(self) -> None:  # noqa: B027 - a driver without a session has nothing to close
        """Give back sockets."""


_HEATER = re.compile(r"bed|chamber|tool\d{1,2}")

#: Why a machine does not take a start, by status.
_NOT_IDLE = {
    PrinterStatus.OFFLINE: "The printer is offline.",
    PrinterStatus.CONNECTING: "The printer is not ready yet.",
    PrinterStatus.PRINTING: "The printer is printing.",
    PrinterStatus.PAUSED: "The printer has a paused print on it.",
    PrinterStatus.BUSY: "The printer is busy.",
    PrinterStatus.ERROR: "The printer has stopped with an error.",
}


def refuse_unless_idle(state: PrinterState) -> None:
    """Raises Busy with the reason."""
    if state.status is not PrinterStatus.IDLE:
        raise Busy(state.message or _NOT_IDLE[state.status])


def refuse_while_printing(state: PrinterState, *, paused_is_fine: bool = False) -> None:
    """Raises Busy with the reason. Servers differ in what they accept during a print; the farm does not."""
    if state.working and not (paused_is_fine and state.status is PrinterStatus.PAUSED):
        raise Busy(_NOT_IDLE[state.status])


def refuse_unless_printing(state: PrinterState) -> None:
    """Raises Refused: Moonraker says "ok" to a pause or cancel of nothing."""
    if not state.working:
        raise Refused(state.message or "Nothing is being printed.")


def checked_target(heater: str, target: float) -> None:
    """Raises Unsupported for a heater that no machine has, Refused for a temperature that makes no sense."""
    if not _HEATER.fullmatch(heater):
        raise Unsupported(f"There is no heater called {heater[:40]!r}.")
    if not (math.isfinite(target) and 0 <= target <= 500):
        raise Refused("A temperature is a number from 0 to 500 degrees C.")


def checked_axes(axes: Sequence[str]) -> list[str]:
    """Lower case, each once, in order. Raises Refused."""
    wanted = {axis.lower() for axis in axes}
    if not wanted or wanted - set("xyz"):
        raise Refused("Say which of the axes x, y and z to home.")
    return sorted(wanted)


def checked_moves(moves: Mapping[str, float], speed: float) -> dict[str, float]:
    """Axis (lower case) -> mm. Raises Refused."""
    cleaned = {axis.lower(): float(distance) for axis, distance in moves.items()}
    if not cleaned or set(cleaned) - set("xyz") or not all(map(math.isfinite, cleaned.values())):
        raise Refused("Say by how many millimetres to move the axes x, y and z.")
    if not (math.isfinite(speed) and speed > 0):
        raise Refused("A speed is a number of mm/s above 0.")
    return cleaned


def checked_lines(lines: Sequence[str]) -> list[str]:
    """G-code lines without blank ones. Raises Refused for none, and for a line that is secretly several."""
    cleaned = [line.strip() for line in lines if line.strip()]
    if not cleaned or not all(line.isprintable() for line in cleaned):
        raise Refused("Give G-code as plain lines.")
    return cleaned


def one_line(text: object, limit: int = 300) -> str:
    """What a printer said (anybody may have written it), fit for a message: one short line of printable characters."""
    printable = "".join(c if c.isprintable() else " " for c in str(text or "")[: 10 * limit])
    line = " ".join(printable.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


@contextmanager
def understood() -> Iterator[None]:
    """Where an answer is taken apart: one of another shape than the protocol says is Garbled. Also a decorator."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as fault:
        raise Garbled("The printer's server answered in a way that we do not understand.") from fault
