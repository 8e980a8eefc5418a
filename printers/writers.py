"""A bridge's database work: in order for each printer, and together what comes together.

Socket threads never touch the database. They leave notes here, and a few threads write them down: whatever waits at
that moment in one batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError, connection

from printers.notes import Note

log = structlog.get_logger(__name__)

#: notes in one batch, at most
TOGETHER = 50
#: s between two attempts to write to a database that is away
WRITE_AGAIN = 1.0

Write = Callable[[Sequence[Any]], None]


@dataclass(slots=True, eq=False)
class _Waiting:
    """``allowed`` raises when it must no longer be written."""

    write: Write
    note: Note
    allowed: Callable[[], None]
    written: Future[None] = field(default_factory=Future)

    def may_go(self) -> bool:
        try:
            self.allowed()
        except Exception as reason:  # noqa: BLE001 - for whoever waits for it
            self.written.set_exception(reason)
            return False
        return True


class Writers:
    """A few threads; one where the database has one lock for all writes (SQLite): more would only keep it from whoever
    renews the leases."""

    def __init__(self, threads: int | None = None) -> None:
        threads = threads if threads is not None else (1 if connection.vendor == "sqlite" else 4)
        self._closing = threading.Event()
        self._lines = [_Line(self._closing) for _ in range(threads)]

    def run(
        self, write: Write, note: Note, allowed: Callable[[], None] = lambda: None, *, first: bool = False
    ) -> Future[None]:
        """``write([note])``, perhaps with more notes of other printers. ``first``: before all that waits, as somebody
        waits for it."""
        waiting = _Waiting(write, note, allowed)
        self._lines[note.printer_id.int % len(self._lines)].append(waiting, first)
        return waiting.written

    def close(self) -> None:
        """What is being written is written; what waits is not."""
        self._closing.set()
        for line in self._lines:
            line.close()


class _Line:
    """One thread, and what waits for it."""

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._first: deque[_Waiting] = deque()
        self._others: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def append(self, waiting: _Waiting, first: bool) -> None:
        with self._changed:
            (self._first if first else self._others).append(waiting)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._changed.notify()
        self._thread.join()
        for waiting in (*self._first, *self._others):
            waiting.written.cancel()

    def _run(self) -> None:
        while batch := self._next():
            self._write_or_wait(batch)
        connection.close()

    def _next(self) -> list[_Waiting]:
        """What can be written together: the same kind, one note of each printer. Empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._first or self._others or self._closing.is_set())
            line, batch, printers = self._first or self._others, list[_Waiting](), set[Any]()
            while line and len(batch) < TOGETHER and not self._closing.is_set():
                one = line[0]
                if one.note.printer_id in printers or (batch and one.write != batch[0].write):
                    break
                printers.add(one.note.printer_id)
                batch.append(line.popleft())
            return batch

    def _write_or_wait(self, batch: list[_Waiting]) -> None:
        """A database that is away is waited for: nobody else knows that something was printed. The connection is kept
        (opening one costs more than most of the work), and made anew after a fault."""
        while batch := [one for one in batch if one.may_go()]:
            try:
                batch[0].write([one.note for one in batch])
            except (OperationalError, InterfaceError) as error:
                log.warning("write_waits", notes=len(batch), error=str(error))
                connection.close()
                if self._closing.wait(WRITE_AGAIN):
                    return _fail(batch, error)
            except Exception as error:
                connection.close()
                if len(batch) == 1:
                    log.exception("write_failed")  # the periodic sweep makes it good
                    return _fail(batch, error)
                for one in batch:  # what one stumbles over must not cost the others their notes
                    self._write_or_wait([one])
                return None
            else:
                for one in batch:
                    one.written.set_result(None)
                return None
        return None


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for one in batch:
        one.written.set_exception(error)
