"""The farm's ear and hand: one process that talks to the printers it has leased.

Threads, and who may do what:

- *bridge* (main): every 2 s renews all leases in one UPDATE, lets go of lost ones, gives back what is more than its
  share; every second takes free ones up to its share.
- *socket*, one per printer: reads the driver's stream. Never touches the ORM (a thousand sockets would be a thousand
  database connections) and never waits for Redis.
- *teller*: stores and publishes what all of them say, see printers.teller. What matters goes from there to the
  *writers*, a few: everything that touches the database, see printers.writers.
- *lanes*, a pool: one printer's commands in order, one at a time.

A bridge whose lease ran out stops by itself: it knows so by its own clock (see printers.tenure), and with every write
Redis or the database compares the fence. A printer is *observed* while its stream is open and its own record has been
compared: only then nothing can happen unseen.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from redis.exceptions import RedisError

from printers import lane, notes, services, sharing, telemetry
from printers.connecting import Connecting
from printers.drivers.base import (
    DriverError,
    PrinterDriver,
    PrinterState,
    PrinterStatus,
    Unauthorised,
    Unreachable,
)
from printers.models import COMMAND_OPEN, Command, CommandStatus, Printer
from printers.notes import MarkerNote, Note, StateNote
from printers.steady import Steady
from printers.teller import Teller
from printers.tenure import Tenure
from printers.writers import Write, Writers

log = structlog.get_logger(__name__)

#: s between two looks at leases and queued commands
TICK = 1.0
RENEW_EVERY = 2.0
#: printers taken at once: more are taken right after, but the leases that there are may have to be renewed meanwhile
TAKE = 50
#: printers given back at once to bridges that have fewer, so that few are unheard at any moment
GIVE_BACK = 20
#: s; waits between attempts to connect: doubled from the first to the last, each +-50 %
BACKOFF_FIRST, BACKOFF_LAST, BACKOFF_UNAUTHORISED = 1.0, 30.0, 60.0
#: s after a print's end when the printer's own record is read again (it writes it a moment later)
MARKER_DELAY = 3.0
#: s until a connection is given up because the database is away
WRITTEN_WITHIN = 30.0


def backoff(failures: int, dice: Callable[[], float] = random.random) -> float:
    """s to wait after that many failures in a row, jittered so that a farm does not knock all at once."""
    return float(min(BACKOFF_LAST, BACKOFF_FIRST * 2 ** min(failures, 10)) * (0.5 + dice()))


def matters(state: PrinterState, before: PrinterState | None) -> bool:
    """Whether the database and those above must hear of this change (temperatures and progress are not news)."""
    if before is None:
        return True
    old, new = before.job, state.job
    return (
        state.status != before.status
        or state.ended != before.ended
        or (old.file if old else None) != (new.file if new else None)
    )


class LeaseOver(Exception):
    """Nothing may be written any longer, as far as this bridge knows."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the tasks of one bridge share."""

    tenure: Tenure
    writers: Writers
    teller: Teller
    connecting: Connecting


class PrinterTask:
    """One leased printer: its socket thread, its newest state and its lane of commands."""

    def __init__(self, printer: Printer, fence: int, means: Means) -> None:
        self.printer, self.fence, self.tenure = printer, fence, means.tenure
        self._writers, self._teller, self._connecting = means.writers, means.teller, means.connecting
        self._voice = means.teller.voice(printer.pk, fence)
        self.state: PrinterState | None = None
        self.changed = threading.Condition()
        self.stop = threading.Event()
        self.lost = False
        #: set while nothing can happen on the machine that we do not hear of
        self.observed = threading.Event()
        self._marker_due: float | None = None
        self._steady = Steady()
        self._missed = 0  # things that were not written
        self._thread = threading.Thread(target=self._run, name=f"socket {printer.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self, *, lost: bool = False) -> None:
        """Its thread ends within a second, and nobody waits for its state any longer. ``lost``: the lease is over, so
        that nothing may be written either."""
        with self.changed:
            self.lost = lost
            self.stop.set()
            self.changed.notify_all()
        self._teller.drop(self._voice)

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    @property
    def calm(self) -> bool:
        """Nothing is printed on it, as far as it says."""
        return self.state is not None and not self.state.working

    def wait_for(self, seen: Callable[[PrinterState], bool], timeout: float) -> bool:
        """Until the printer's own state shows it, ``timeout`` s are over, or we have to stop."""

        def shown() -> bool:
            return self.state is not None and seen(self.state)

        with self.changed:
            self.changed.wait_for(lambda: shown() or self.stop.is_set(), timeout)
            return shown()

    # -- the socket thread
    def _run(self) -> None:
        failures = 0
        while not self.stop.is_set():
            connected_at = time.monotonic()
            pause = self._listen(failures)
            failures = 0 if time.monotonic() - connected_at > 30 else failures + 1
            self._wait(pause)

    def _wait(self, pause: float) -> None:
        """Nothing is heard meanwhile, but what was held back may have to be told."""
        while self.state is not None and self.state != self._steady.shown and pause > 0:
            step = min(pause, 1.0)
            if self.stop.wait(step):
                return
            self._became(self.state)
            pause -= step
        self.stop.wait(pause)

    def _listen(self, failures: int) -> float:
        """One connection, from connect to its end; the seconds to wait before the next."""
        try:
            driver = services.open_driver(self.printer)
        except Exception as error:  # noqa: BLE001 - e.g. a credential that no key opens: shown, not fatal to the others
            self._say(PrinterStatus.ERROR, str(error))
            return BACKOFF_UNAUTHORISED
        place: object = None
        try:
            driver.knock()  # before: whoever is not there takes no place from those who are
            place = self._connecting.enter(self.stop)
            for state in driver.stream(self.stop):
                if self.observed.is_set():
                    self._heard(state)
                else:
                    # only now, as what happens from here on is in the stream
                    self._connecting.keep(place)
                    self._begin_to_observe(driver, state)
                    self._connecting.leave(place)
                self._read_marker_if_due(driver)
            return 0.0
        except Unauthorised as error:
            self._say(PrinterStatus.ERROR, f"The API key is not accepted: {error.message}")
            return BACKOFF_UNAUTHORISED
        except Unreachable as error:
            self._say(PrinterStatus.OFFLINE, error.message)
        except DriverError as error:
            self._say(PrinterStatus.ERROR, error.message)
        except LeaseOver:
            log.info("lease_over", printer=self.printer.name, fence=self.fence)
        except TimeoutError:
            self._say(PrinterStatus.ERROR, "The farm's database does not answer.")
        except Exception:
            log.exception("driver_bug", printer=self.printer.name)
            self._say(PrinterStatus.ERROR, "The farm stumbled over what this printer says. Its log has the details.")
        finally:
            self.observed.clear()
            self._connecting.leave(place)
            driver.close()
        return backoff(failures)

    def _begin_to_observe(self, driver: PrinterDriver, state: PrinterState) -> None:
        missed = self._missed
        self._reconcile(driver, state)
        self._heard(state)
        with self.changed:
            if missed == self._missed:
                self.observed.set()

    def _reconcile(self, driver: PrinterDriver, state: PrinterState) -> None:
        """Was anything printed while nobody listened? Only the printer's own record can say, unless it prints now.
        What it says is forgotten here only once it is written."""
        known = self.printer.marker
        record = driver.first_marker()
        printed = known is not None and (state.working or driver.printed_between(known["record"], record))
        now = {"record": record}
        if printed or now != known:
            noted = MarkerNote(self.printer.pk, self.fence, record, printed)
            self._write(notes.note_markers, noted, first=True).result(WRITTEN_WITHIN)
        self.printer.marker = now

    def _read_marker_if_due(self, driver: PrinterDriver) -> None:
        if self._marker_due is None or time.monotonic() < self._marker_due:
            return
        self._marker_due = None
        record = driver.marker()

        def known(written: Future[Any]) -> None:
            if not written.cancelled() and written.exception() is None:
                self.printer.marker = {"record": record}

        note = MarkerNote(self.printer.pk, self.fence, record, printed=False)
        self._write(notes.note_markers, note).add_done_callback(known)

    def _write(self, write: Write, note: Note, *, first: bool = False) -> Future[None]:
        """In the database, in order for this printer; unless the lease is over by then."""
        return self._writers.run(write, note, self._may_write, first=first)

    def _may_write(self) -> None:
        if self.lost or self.tenure.over:
            with self.changed:
                self._missed += 1
                self.observed.clear()  # should the lease go on after all: what was not written is in the record
            raise LeaseOver

    def _say(self, status: PrinterStatus, message: str) -> None:
        """A state of our own making: the printer itself says nothing."""
        ended = self.state.ended if self.state else None
        self._voice.heard_at = None
        self._became(PrinterState(status=status, message=message, ended=ended))

    def _heard(self, state: PrinterState) -> None:
        self._voice.heard_at = time.monotonic()
        self._became(state)

    def _became(self, state: PrinterState) -> None:
        before, now = self.state, time.monotonic()
        if state != before:
            with self.changed:
                self.state = state
                self.changed.notify_all()
            if before is not None and state.ended != before.ended:
                self._marker_due = now + MARKER_DELAY
        told = self._steady.shown
        if self._steady.shows(state, now):
            self._tell(state, told, before if self.observed.is_set() else None)

    def _tell(self, state: PrinterState, told: PrinterState | None, observed: PrinterState | None) -> None:
        if matters(state, told):
            note = StateNote(self.printer.pk, self.fence, state, observed)
            self._teller.tell(self._voice, state, urgent=True, then=partial(self._write, notes.note_states, note))
        else:
            self._teller.tell(self._voice, state, urgent=told is None or state.message != told.message)


class Bridge:
    """Leases printers and keeps a task for each."""

    def __init__(self, most: int | None = None) -> None:
        self.holder = f"{socket.gethostname()[:30]}-{os.getpid()}-{secrets.token_hex(4)}"
        self.most = most or settings.FARM_BRIDGE_PRINTERS
        self.tasks: dict[UUID, PrinterTask] = {}
        self.tenure = Tenure()
        self.writers = Writers()
        self.teller = Teller(self.tenure)
        self._means = Means(self.tenure, self.writers, self.teller, Connecting())
        self._aim = 0
        self._lanes = ThreadPoolExecutor(32, thread_name_prefix="lane")
        self._busy: set[UUID] = set()
        self._busy_lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()

    def run(self) -> None:
        log.info("bridge_started", holder=self.holder)
        self.teller.start()
        threading.Thread(target=self._hear_wakes, name="wakes", daemon=True).start()
        renewed = float("-inf")
        while not self._stop.is_set():
            more = False
            try:
                if time.monotonic() - renewed >= RENEW_EVERY:
                    renewed = time.monotonic()
                    self.keep_leases()
                more = self.take_leases()
                self.run_lanes()
            except DatabaseError as error:
                log.warning("bridge_without_database", error=str(error))
                connection.close()
            if not more:
                self._wake.wait(TICK)
                self._wake.clear()
        self._shut_down()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def _shut_down(self) -> None:
        self.teller.close()
        for task in self.tasks.values():
            task.end()
        for task in self.tasks.values():
            task.join(2)
        self._lanes.shutdown(wait=True, cancel_futures=True)
        self.writers.close()
        services.drop_leases(self.holder)
        sharing.withdraw(self.holder)
        log.info("bridge_stopped", holder=self.holder)

    # -- leases
    def keep_leases(self) -> None:
        """Renew what is held, let go of what was lost, and hold the share of one of several bridges."""
        asked_at = self.tenure.now()
        held = services.renew_leases(self.holder)
        for printer_id, task in list(self.tasks.items()):
            if held.get(printer_id) != task.fence:
                self._let_go(printer_id)
        # not before: what was lost must not speak in the name of what is held
        self.tenure.renewed(asked_at, services.LEASE_TTL.total_seconds())
        bridges = sharing.announce(self.holder, self.most, services.LEASE_TTL)
        self._aim = sharing.share(Printer.objects.filter(enabled=True).count(), bridges, self.holder)
        self._give_back(min(GIVE_BACK, sharing.surplus(len(self.tasks), self._aim)))
        self.take_leases()

    def take_leases(self) -> bool:
        """Some of the free ones, up to its share; whether there may be more."""
        wanted = min(TAKE, self._aim - len(self.tasks))
        taken = services.take_leases(self.holder, wanted)
        random.shuffle(taken)  # so that those of one host are not all connected to at once
        for printer, fence in taken:
            self.tasks[printer.pk] = PrinterTask(printer, fence, self._means)
            self.tasks[printer.pk].start()
            log.info("lease_taken", printer=printer.name, fence=fence)
        return len(taken) == TAKE

    def _let_go(self, printer_id: UUID) -> None:
        task = self.tasks.pop(printer_id)
        task.end(lost=True)
        log.info("lease_lost", printer=task.printer.name, fence=task.fence)

    def _give_back(self, count: int) -> None:
        """So many to bridges that have fewer: any, but none that is printing or being commanded."""
        if count <= 0:
            return
        commanded = set(
            Command.objects.filter(status__in=COMMAND_OPEN, printer__in=list(self.tasks)).values_list(
                "printer_id", flat=True
            )
        )
        with self._busy_lock:
            calm = [key for key, task in self.tasks.items() if key not in self._busy | commanded and task.calm]
        given = random.sample(calm, min(count, len(calm)))
        for printer_id in given:
            task = self.tasks.pop(printer_id)
            task.end(lost=True)
            log.info("lease_given_back", printer=task.printer.name, fence=task.fence)
        services.drop_leases(self.holder, given)

    # -- commands
    def run_lanes(self) -> None:
        waiting = Command.objects.filter(status=CommandStatus.QUEUED)
        for printer_id in set(waiting.values_list("printer_id", flat=True)) & self.tasks.keys():
            self._start_lane(printer_id)

    def _start_lane(self, printer_id: UUID) -> None:
        task = self.tasks.get(printer_id)
        with self._busy_lock:
            if task is None or printer_id in self._busy:
                return
            self._busy.add(printer_id)
        self._lanes.submit(self._run_lane, task)

    def _run_lane(self, task: PrinterTask) -> None:
        try:
            close_old_connections()
            lane.run(task, self.holder)
        except Exception:
            log.exception("lane_failed", printer=task.printer.name)
        finally:
            close_old_connections()
            with self._busy_lock:
                self._busy.discard(task.printer.pk)

    def _hear_wakes(self) -> None:
        """Redis tells when a command was queued; without it the tick finds it a second later."""
        while not self._stop.is_set():
            try:
                with telemetry.client().pubsub() as channel:
                    channel.subscribe("farm:wake")
                    while not self._stop.is_set():
                        if channel.get_message(ignore_subscribe_messages=True, timeout=1.0):
                            self._wake.set()
            except RedisError:
                self._stop.wait(1.0)
