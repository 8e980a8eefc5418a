"""The mouth of a bridge: one thread stores and publishes what all its printers say, in as few exchanges as possible.

What matters leaves within :data:`WINDOW`; numbers that moved (temperatures, progress) at most every
:data:`NUMBERS_EVERY` for each printer; signs of life all together every :data:`HEARD_EVERY`. Only the newest state of a
printer is ever sent. Redis being away delays it and loses nothing: it is sent when Redis is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from printers import history, telemetry
from printers.drivers.base import PrinterState
from printers.telemetry import Stored, Word
from printers.tenure import Tenure

log = structlog.get_logger(__name__)

#: s; what matters waits this long for company
WINDOW = 0.015
#: s between two looks at what is not urgent, and between two messages about the numbers of one printer
TICK, NUMBERS_EVERY = 0.25, 0.5
#: s between two signs of life of each printer
HEARD_EVERY = 5.0

Then = Callable[[], object]


@dataclass(slots=True, eq=False)
class Voice:
    """One printer under one lease: its newest state, and what was told of it."""

    printer_id: UUID
    fence: int
    #: the version of the newest state; begins with the time, so that it grows even if a fence should come again
    n: int = field(default_factory=lambda: int(time.time() * 1000))
    newest: PrinterState | None = None
    #: when the printer last said something; None: the state is the bridge's own word ("offline") and true till the next
    heard_at: float | None = None
    urgent: bool = False
    then: list[Then] = field(default_factory=list)
    told: bytes = b""
    told_n: int = 0
    told_at: float = float("-inf")

    def age(self, now: float) -> float:
        return 0.0 if self.heard_at is None else max(0.0, now - self.heard_at)


@dataclass(frozen=True, slots=True)
class _Saying:
    """A voice's newest state on its way."""

    voice: Voice
    state: bytes
    n: int
    urgent: bool
    word: Word


class Teller:
    """Takes states from socket threads, which it never makes wait. ``start`` begins the thread; without it, ``flush``
    and ``refresh`` do what the thread would."""

    def __init__(self, tenure: Tenure) -> None:
        self._tenure = tenure
        self._voices: dict[UUID, Voice] = {}
        self._waiting: dict[UUID, Voice] = {}
        self._recorder = history.Recorder()
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._away = False
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What waits is told once more."""
        self._closing.set()
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join(15)
        self.flush(everything=True)

    # -- for socket threads
    def voice(self, printer_id: UUID, fence: int) -> Voice:
        """A printer that was leased just now."""
        voice = Voice(printer_id, fence)
        with self._lock:
            self._voices[printer_id] = voice
        return voice

    def drop(self, voice: Voice) -> None:
        """Its lease has ended: nothing more is told of it. What the database was to hear, it hears."""
        with self._lock:
            if self._voices.get(voice.printer_id) is voice:
                del self._voices[voice.printer_id]
                self._waiting.pop(voice.printer_id, None)
                self._recorder.forget(voice.printer_id)
            then, voice.then = voice.then, []
        _do(then)

    def tell(self, voice: Voice, state: PrinterState, *, urgent: bool = False, then: Then | None = None) -> None:
        """A new state. ``then`` is called when it is readable, or cannot be made so now; in order for each printer."""
        with self._lock:
            held = self._voices.get(voice.printer_id) is voice
            voice.newest, voice.n = state, voice.n + 1
            if held:
                self._waiting[voice.printer_id] = voice
                voice.urgent = voice.urgent or urgent
                voice.then += [then] if then else []
        if not held:
            _do([then] if then else [])
        elif urgent:
            self._hurry.set()

    # -- the thread
    def _run(self) -> None:
        refreshed = time.monotonic()
        while not self._closing.is_set():
            if self._hurry.wait(TICK):
                self._closing.wait(WINDOW)
                self._hurry.clear()
            try:
                self.flush()
                if time.monotonic() - refreshed >= HEARD_EVERY:
                    refreshed = time.monotonic()
                    self.refresh()
            except Exception:
                log.exception("teller_stumbled")  # the next round goes on with what is newest then

    def flush(self, *, everything: bool = False) -> None:
        """Tell what is due now, ``everything`` that waits otherwise; then what was to follow it."""
        due, then = self._due(time.monotonic(), everything)
        try:
            if due and self._tenure.over:
                self._again(due)  # if the leases are renewed after all, nobody else has told it
            elif due:
                self._say(due)
        finally:
            _do(then)

    def _due(self, now: float, everything: bool) -> tuple[list[_Saying], list[Then]]:
        """Take it out of what waits."""
        with self._lock:
            voices = [
                voice
                for voice in self._waiting.values()
                if everything or voice.urgent or now - voice.told_at >= NUMBERS_EVERY
            ]
            taken: list[tuple[Voice, PrinterState, int, bool]] = []
            then: list[Then] = []
            for voice in voices:
                del self._waiting[voice.printer_id]
                if voice.newest is not None:
                    taken.append((voice, voice.newest, voice.n, voice.urgent))
                then += voice.then
                voice.urgent, voice.then = False, []
        return [saying for each in taken if (saying := _saying(*each, now)) is not None], then

    def _say(self, due: Sequence[_Saying]) -> None:
        try:
            stored = telemetry.put_all([saying.word for saying in due])
        except RedisError as error:
            self._later(due, error)
            return
        self._back()
        now = time.monotonic()
        for saying, was_stored in zip(due, stored, strict=True):
            if was_stored:
                voice = saying.voice
                voice.told, voice.told_n, voice.told_at = saying.state, saying.n, now

    def _later(self, due: Sequence[_Saying], error: Exception) -> None:
        """Redis is away."""
        if not self._away:
            self._away = True
            log.warning("states_not_stored", printers=len(due), error=str(error))
        self._again(due)

    def _again(self, due: Sequence[_Saying]) -> None:
        """They wait again, or what is newer does in their place."""
        with self._lock:
            for saying in due:
                voice = saying.voice
                if self._voices.get(voice.printer_id) is voice:
                    self._waiting[voice.printer_id] = voice
                    voice.urgent = voice.urgent or saying.urgent

    def _back(self) -> None:
        if self._away:
            self._away = False
            log.info("states_stored_again")

    def refresh(self) -> None:
        """Signs of life of all, and their heat for the charts. What Redis has lost is told again at once."""
        if self._tenure.over:
            return
        now = time.monotonic()
        with self._lock:
            voices = [voice for voice in self._voices.values() if voice.told_n]
        try:
            found = telemetry.refresh_all([(v.printer_id, v.fence, v.told_n, v.age(now)) for v in voices])
            self._note_heat(voices, now)
        except RedisError as error:
            self._later([], error)
            return
        lost = [voice for voice, stored in zip(voices, found, strict=True) if stored is Stored.OLDER]
        with self._lock:
            for voice in lost:
                voice.urgent = True
                self._waiting.setdefault(voice.printer_id, voice)
        if lost:
            self._hurry.set()

    def _note_heat(self, voices: Sequence[Voice], now: float) -> None:
        pipe = telemetry.client().pipeline(transaction=False)
        for voice in voices:
            if voice.newest is not None and voice.age(now) < 2 * HEARD_EVERY:
                self._recorder.note(pipe, voice.printer_id, time.time(), voice.newest.temperatures)
        pipe.execute()


def _saying(voice: Voice, state: PrinterState, n: int, urgent: bool, now: float) -> _Saying | None:
    """None when nobody would see a difference."""
    shown = telemetry.live_json(state)
    if shown == voice.told and not urgent:
        return None
    word = Word(voice.printer_id, voice.fence, n, shown, telemetry.ended_json(state), voice.age(now))
    return _Saying(voice, shown, n, urgent, word)


def _do(then: Sequence[Then]) -> None:
    for each in then:
        try:
            each()
        except Exception:
            log.exception("telling_the_database_failed")  # the periodic sweep makes it good
