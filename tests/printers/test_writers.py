"""The threads that write down what printers say: in order, together, and for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError

from printers import writers as room
from printers.notes import Note
from printers.writers import TOGETHER, Writers


@dataclass(frozen=True, slots=True)
class Said(Note):
    what: int = 0


def said(printer: UUID | None = None, what: int = 0) -> Said:
    return Said(printer or uuid4(), 1, what)


class Book:
    """What was written, in its batches; ``faults`` come first. Nothing is written before ``gate`` is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.faults: list[Exception] = []
        self.tried, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def write(self, notes: Sequence[Any]) -> None:
        self.tried.set()
        assert self.gate.wait(60)
        if self.faults:
            raise self.faults.pop()
        self.batches.append([note.what for note in notes])

    def and_more(self, notes: Sequence[Any]) -> None:
        """Another kind of note."""
        self.write(notes)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writers]:
    monkeypatch.setattr(room, "WRITE_AGAIN", 0.0)
    made = Writers(threads=1)
    yield made
    made.close()


@pytest.fixture
def busy(writers: Writers, book: Book) -> Writers:
    """They are writing one note while others come."""
    book.gate.clear()
    writers.run(book.write, said(what=-1))
    assert book.tried.wait(60)
    return writers


def test_what_is_written_of_one_printer_stays_in_order(busy: Writers, book: Book) -> None:
    printer = uuid4()
    last = [busy.run(book.write, said(printer, n)) for n in range(20)][-1]
    book.gate.set()
    last.result(60)
    assert book.batches == [[-1], *([n] for n in range(20))]


def test_what_waits_of_many_printers_is_written_together(busy: Writers, book: Book) -> None:
    last = [busy.run(book.write, said(what=n)) for n in range(TOGETHER + 10)][-1]
    book.gate.set()
    last.result(60)
    assert book.batches == [[-1], list(range(TOGETHER)), list(range(TOGETHER, TOGETHER + 10))]


def test_kinds_are_not_mixed_and_keep_their_order(busy: Writers, book: Book) -> None:
    printer = uuid4()
    busy.run(book.write, said(printer, 1))
    busy.run(book.and_more, said(printer, 2))
    busy.run(book.and_more, said(what=3))
    last = busy.run(book.write, said(what=4))
    book.gate.set()
    last.result(60)
    assert book.batches == [[-1], [1], [2, 3], [4]]


def test_what_somebody_waits_for_comes_first(busy: Writers, book: Book) -> None:
    last = busy.run(book.write, said(what=2))
    busy.run(book.and_more, said(what=1), first=True)
    book.gate.set()
    last.result(60)
    assert book.batches == [[-1], [1], [2]]


def over() -> None:
    raise LookupError("the lease is over")


def test_what_must_no_longer_be_written_is_left_out(busy: Writers, book: Book) -> None:
    refused = busy.run(book.write, said(what=1), over)
    last = busy.run(book.write, said(what=2))
    book.gate.set()
    last.result(60)
    with pytest.raises(LookupError):
        refused.result(60)
    assert book.batches == [[-1], [2]]


def test_a_database_that_is_away_is_waited_for(busy: Writers, book: Book) -> None:
    book.faults = [OperationalError("database is locked"), OperationalError("gone")]
    last = [busy.run(book.write, said(what=n)) for n in range(3)][-1]
    book.gate.set()
    last.result(60)
    assert book.batches == [[-1], [0, 1, 2]]


def test_whoever_lost_the_lease_while_the_database_was_away_writes_nothing(writers: Writers, book: Book) -> None:
    holds = [lambda: None, over]
    book.faults = [OperationalError("gone")]
    with pytest.raises(LookupError):
        writers.run(book.write, said(), lambda: holds.pop(0)()).result(60)
    assert (book.batches, holds) == ([], [])


def test_a_bug_in_a_write_is_not_repeated(writers: Writers, book: Book) -> None:
    book.faults = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        writers.run(book.write, said()).result(60)
    assert book.batches == []


def test_what_one_note_stumbles_over_costs_the_others_nothing(busy: Writers, book: Book) -> None:
    def write(notes: Sequence[Any]) -> None:
        if any(note.what == 1 for note in notes):
            raise ZeroDivisionError
        book.write(notes)

    noted = [busy.run(write, said(what=n)) for n in range(3)]
    book.gate.set()
    noted[2].result(60)
    with pytest.raises(ZeroDivisionError):
        noted[1].result(60)
    assert book.batches == [[-1], [0], [2]]


def test_a_bridge_that_ends_does_not_wait_for_the_database(monkeypatch: pytest.MonkeyPatch, book: Book) -> None:
    monkeypatch.setattr(room, "WRITE_AGAIN", 3600.0)
    writers, printer = Writers(threads=1), uuid4()
    book.faults = [OperationalError("gone")]
    tried, waits = (writers.run(book.write, said(printer, n)) for n in range(2))
    assert book.tried.wait(60)
    writers.close()
    with pytest.raises(OperationalError):
        tried.result(60)
    assert waits.cancelled()
