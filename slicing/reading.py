"""Read G-code text as moves, in chunks of constant memory. Pure.

Vectorised: what is not a digit separates words; a letter's number is the digits up to the next separator, eight of
which are read at once as one 64-bit word. Everything that is not a move (comments, temperatures, absolute or relative,
homing) is looked at line by line; it cuts the file into stretches within which a position is a running sum or a last
value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from slicing.engines.base import SlicingError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

CHUNK = 1 << 20  # bytes read at once; arrays for them take about twenty times that
WORDS = b"XYZEFIJR"  # of moves; columns of Rows.values
X, Y, Z, E, F, I, J, R = range(8)  # noqa: E741 - the letters of the language
SET_POSITION = 92
BLANKS = 80  # that a line may begin with
ARC_STEP = math.pi / 24  # radians of an arc that are taken as straight

NOT_TEXT = "This is not G-code text."
NOT_A_NUMBER = "The G-code has a coordinate that is not a number."
ODD_MOVE = "The G-code has a move that is written in a way that cannot be checked."
INCHES = "The G-code uses inches, which cannot be checked."

_COLUMN = np.full(256, -1)
_COLUMN[list(WORDS)] = np.arange(len(WORDS))
_IN_BRACKETS = re.compile(rb"\([^()\n]*\)")
_LINE_NUMBER = re.compile(rb"^[ \t]*[Nn]\d+[ \t]*|\*\d+[ \t]*\r?$", re.MULTILINE)
_GAP = re.compile(rb"(?<=[A-Za-z])[ \t]+(?=[-+.\d])")
_MOVE = re.compile(rb"G0*[0-3](?!\d)|G0*92(?!\d)")


def chunks(file: BinaryIO, size: int = CHUNK) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines) of a text. Raises SlicingError where it is not one."""
    offset, rest = 0, b""
    while data := file.read(size):
        if b"\0" in data:
            raise SlicingError(NOT_TEXT)
        data = rest + data
        end = data.rfind(b"\n") + 1
        if not end and len(data) > size:
            raise SlicingError("The G-code has a line of millions of characters: it is damaged.")
        if end:
            yield offset, data[:end]
        offset, rest = offset + end, data[end:]
    if rest:
        yield offset, rest + b"\n"


@dataclass(frozen=True, slots=True)
class Rows:
    """Moves of a text: ``kind`` 0-3 is G0-G3, 92 is G92; ``values`` (n, 8) are WORDS, NaN where there is none;
    ``offset`` where each line begins. ``others``: every other line, with the number of moves before it."""

    kind: Ints
    values: Floats
    offset: Ints
    others: list[tuple[int, int, bytes]]  # (moves before, offset, line)


def rows(data: bytes, base: int = 0) -> Rows:
    """Raises SlicingError for a coordinate that cannot be read."""
    text = data.upper()
    if b"(" in text:
        text = _IN_BRACKETS.sub(_blank, text)
    buf = np.frombuffer(text + b" " * 16, np.uint8)
    ends = np.flatnonzero(buf == 10)
    starts, kind = _commands(buf, ends)
    if (buf[starts] == ord("N")).any() and _LINE_NUMBER.search(text):
        return rows(_LINE_NUMBER.sub(_blank, text), base)
    moves = np.flatnonzero(kind >= 0)
    values, broken = _values(buf, starts[moves], ends[moves])
    if broken:
        closed = _GAP.sub(b"", text)
        if closed == text:
            raise SlicingError(NOT_A_NUMBER)
        return rows(closed, base)
    return Rows(kind[moves], values, base + starts[moves], _others(data, base, starts, ends, kind))


def _blank(match: re.Match[bytes]) -> bytes:
    return b" " * len(match[0])


def _commands(buf: Bytes, ends: Ints) -> tuple[Ints, Ints]:
    """(where each line begins, behind blanks; which move it is, -1 for none)."""
    starts = np.concatenate([[0], ends[:-1] + 1])
    for _ in range(BLANKS):
        blank = (buf[starts] == 32) | (buf[starts] == 9)
        if not blank.any():
            break
        starts = starts + blank
    first, second, third, fourth = (buf[starts + k] for k in range(4))
    padded = (second == 48) & (third - np.uint8(48) < 4)  # G01
    digit, after = np.where(padded, third, second), np.where(padded, fourth, third)
    kind = np.where(digit - np.uint8(48) < 4, digit.astype(np.int64) - 48, -1)
    kind[(after - np.uint8(48) < 10) | (after == 46)] = -1
    kind[(second == 57) & (third == 50) & ~((fourth - np.uint8(48) < 10) | (fourth == 46))] = SET_POSITION
    kind[first != ord("G")] = -1
    return starts, kind


def _values(buf: Bytes, starts: Ints, ends: Ints) -> tuple[Floats, bool]:
    """(n, 8) words of the lines, and whether one of them is not a number."""
    values = np.full((len(starts), len(WORDS)), np.nan)
    # a point separates too: digits before and after it are two whole numbers
    stop = np.flatnonzero((buf - np.uint8(48) > 9) & (buf != ord("-")) & (buf != ord("+")))
    mark = buf[stop]
    letter = np.flatnonzero(mark - np.uint8(65) < 26)
    low, high = (
        np.searchsorted(stop[letter], starts),
        np.searchsorted(stop[letter], _before_comments(buf, starts, ends)),
    )
    count = np.maximum(high - low - 1, 0)  # the first one is G
    row = np.repeat(np.arange(len(starts)), count)
    mine = letter[np.arange(len(row)) + np.repeat(low + 1 - np.cumsum(count) + count, count)]
    column = _COLUMN[mark[mine]]
    row, mine = row[column >= 0], mine[column >= 0]
    number = _numbers(buf, stop, mark, mine)
    values[row, column[column >= 0]] = number
    return values, bool(np.isnan(number).any())


def _before_comments(buf: Bytes, starts: Ints, ends: Ints) -> Ints:
    """Where each line ends, not counting what is behind a semicolon."""
    semicolons = np.flatnonzero(buf == ord(";"))
    if not len(semicolons):
        return ends
    found: Ints = np.minimum(np.append(semicolons, len(buf))[np.searchsorted(semicolons, starts)], ends)
    return found


_TENS = 10.0 ** np.arange(9)
_KEEP = np.array([(1 << (8 * n)) - 1 for n in range(8)] + [2**64 - 1], np.uint64)


def _numbers(buf: Bytes, stop: Ints, mark: Bytes, letter: Ints) -> Floats:
    """The number behind each letter (given as its place in ``stop``); NaN where there is none."""
    at = stop[letter] + 1
    signed = (buf[at] == ord("-")) | (buf[at] == ord("+"))
    begin, end = at + signed, stop[letter + 1]
    point = mark[letter + 1] == ord(".")
    whole, fine = _digits(buf, begin, end - begin)
    tail = np.where(point, stop[np.minimum(letter + 2, len(stop) - 1)] - end - 1, 0)
    tail = np.minimum(tail, 8)  # more than eight decimals change nothing that a printer could do
    part, fine_part = _digits(buf, end + 1, tail)
    value = whole + part / _TENS[tail]
    again = point & (mark[np.minimum(letter + 2, len(mark) - 1)] == ord("."))  # 1.2.3
    good = fine & fine_part & (end - begin + tail > 0) & ~again
    value[buf[at] == ord("-")] *= -1.0
    value[~good] = np.nan
    return value


def _digits(buf: Bytes, begin: Ints, length: Ints) -> tuple[Floats, Mask]:
    """Whole numbers of at most 8 digits, and whether each is one. Pairs of digits, then of pairs, then of fours are
    added up inside of a 64-bit word, as in D. Lemire, "Quickly parsing eight digits" (2018)."""
    every = np.ndarray((len(buf) - 7,), np.dtype("<u8"), buf, 0, (1,))  # eight bytes from each place on
    size = np.clip(length, 0, 8)
    word = every[np.minimum(begin, len(every) - 1)] ^ np.uint64(0x3030303030303030)
    word &= _KEEP[size]
    wrong = (word | (word + np.uint64(0x0606060606060606))) & np.uint64(0xF0F0F0F0F0F0F0F0)
    word <<= (8 * (8 - size)).astype(np.uint64) & np.uint64(63)
    word = (word * np.uint64(10) + (word >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    word = (word * np.uint64(100) + (word >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    word = (word * np.uint64(10_000) + (word >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    word[size == 0] = 0
    return word.astype(np.float64), (wrong == 0) & (length <= 8)


def _others(data: bytes, base: int, starts: Ints, ends: Ints, kind: Ints) -> list[tuple[int, int, bytes]]:
    lines = np.flatnonzero((kind < 0) & (ends > starts))
    before = np.cumsum(kind >= 0)[lines]
    spans = zip(before.tolist(), starts[lines].tolist(), ends[lines].tolist(), strict=True)
    return [(count, base + low, data[low:high]) for count, low, high in spans]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Moves in a row. ``position`` (n, 3) after each, in the machine's coordinates, ``delta`` (n, 4) with filament,
    mm; ``speed`` (n,) mm/s; ``given`` (n, 3) which axes a move names; ``offset`` (n,) where its line begins."""

    begin: tuple[float, float, float]
    position: Floats
    delta: Floats
    speed: Floats
    given: Mask
    offset: Ints
    tool: int

    @property
    def extruding(self) -> Mask:
        """Moves that lay down plastic: filament goes forward while the nozzle goes sideways."""
        return (self.delta[:, 3] > 0) & ((self.delta[:, 0] != 0) | (self.delta[:, 1] != 0))

    @property
    def before(self) -> Floats:
        """(n, 3) where each move begins."""
        return self.position - self.delta[:, :3]


@dataclass(slots=True)
class State:
    """What a printer remembers from line to line. ``shift``: machine's coordinates less those of the file (G92)."""

    place: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    shift: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    feed: float = 25.0  # mm/s
    relative: bool = False
    relative_e: bool = False
    tool: int = 0
    feature: str = ""  # what the slicer calls the lines that it draws now

    @property
    def machine(self) -> tuple[float, float, float]:
        x, y, z = (a + b for a, b in zip(self.place, self.shift, strict=False))
        return x, y, z


@dataclass(frozen=True, slots=True)
class Heat:
    part: str  # "nozzle" | "bed" | "chamber"
    temperature: float
    wait: bool
    tool: int


@dataclass(frozen=True, slots=True)
class LayerBegins:
    offset: int


Found = Stretch | Heat | LayerBegins

_LAYER = re.compile(rb";(?:LAYER_CHANGE|LAYER:| ?CHANGE_LAYER| layer \d| BEGIN_LAYER_)")
_FEATURE = re.compile(rb"; ?(?:TYPE:|FEATURE: ?|feature )([^\r\n]{1,40})")
_NUMBER = rb"([-+]?(?:\d+\.?\d*|\.\d+))"
_CODE = re.compile(rb"([GMT])0*(\d{1,5})(?![\d.])")
_HEATS = {104: "nozzle", 109: "nozzle", 140: "bed", 190: "bed", 141: "chamber", 191: "chamber"}
_ASKED = re.compile(rb"[SR] *" + _NUMBER)
_OF_TOOL = re.compile(rb"T *(\d{1,2})")
_TARGET = re.compile(_NUMBER)
_KLIPPER_HEATERS = {"EXTRUDER": "nozzle", "HEATER_BED": "bed"}


def replay(parts: Iterable[Rows], state: State, by_feature: bool = False) -> Iterator[Found]:
    """What a file does, in order. ``state`` is kept up to date: it is that of the end of what was given last.
    ``by_feature``: no stretch goes over a change of ``state.feature``, which costs twice the time.

    Raises SlicingError for what cannot be followed.
    """
    for part in parts:
        low = 0
        for high, offset, line in part.others:
            happening = _line(line, offset, state)
            if happening is None:
                continue
            if by_feature or happening.name != "feature":
                yield from _moves(part, slice(low, high), state)
                low = high
            found = happening.apply(state)
            if found is not None:
                yield found
        yield from _moves(part, slice(low, len(part.kind)), state)


def _moves(part: Rows, which: slice, state: State) -> Iterator[Stretch]:
    """At most one: there may be none, or only set positions."""
    if which.stop > which.start:
        found = _stretch(part, which, state)
        if len(found.speed):
            yield found


@dataclass(frozen=True, slots=True)
class _Happening:
    """A change of the state, to be made after the moves before it are followed."""

    name: str
    number: float = 0.0
    words: bytes = b""
    found: Found | None = None

    def apply(self, state: State) -> Found | None:
        if self.name == "relative":
            state.relative = state.relative_e = bool(self.number)
        elif self.name == "relative_e":
            state.relative_e = bool(self.number)
        elif self.name == "home":
            for axis, letter in enumerate(b"XYZ"):
                if letter in self.words or not set(self.words) & set(b"XYZ"):
                    state.place[axis] = state.shift[axis] = 0.0
        elif self.name == "tool":
            state.tool = int(self.number)
        elif self.name == "feature":
            state.feature = self.words.decode("ascii", "replace").strip()
        return self.found


def _line(line: bytes, offset: int, state: State) -> _Happening | None:
    """What a line that is not a move does; None for what does not matter here."""
    if line[:1] == b";":
        if match := _FEATURE.match(line):
            return _Happening("feature", words=match[1])
        return _Happening("layer", found=LayerBegins(offset)) if _LAYER.match(line) else None
    line = line.split(b";", 1)[0].upper().strip()
    match = _CODE.match(line)
    if match is None:
        if line[:1] == b"G" and _MOVE.match(line):
            raise SlicingError(ODD_MOVE)
        return _klipper_heater(line) if line.startswith(b"SET_HEATER_TEMPERATURE") else None
    letter, number = match[1], int(match[2])
    if letter == b"T":
        return _Happening("tool", number) if number < 100 else None
    return _g_code(number, line) if letter == b"G" else _m_code(number, line, state)


def _g_code(number: int, line: bytes) -> _Happening | None:
    if number in (90, 91):
        return _Happening("relative", number - 90)
    if number == 28:
        return _Happening("home", words=line[2:])
    if number == 20:
        raise SlicingError(INCHES)
    if number in (0, 1, 2, 3, SET_POSITION):
        raise SlicingError(ODD_MOVE)
    return None


def _m_code(number: int, line: bytes, state: State) -> _Happening | None:
    if number in (82, 83):
        return _Happening("relative_e", number - 82)
    asked = _ASKED.search(line, 3) if number in _HEATS else None
    if asked is None:
        return None
    tool = _OF_TOOL.search(line, 3)
    heat = Heat(
        _HEATS[number], float(asked[1]), wait=number in (109, 190, 191), tool=int(tool[1]) if tool else state.tool
    )
    return _Happening("heat", found=heat)


def _klipper_heater(line: bytes) -> _Happening | None:
    """Of ``SET_HEATER_TEMPERATURE HEATER=extruder1 TARGET=210``."""
    words = dict(word.partition(b"=")[::2] for word in line.split())
    target = _TARGET.match(words.get(b"TARGET", b""))
    if target is None:
        return None
    name = words.get(b"HEATER", b"").decode("ascii", "replace")
    plain = name.rstrip("0123456789")
    part, number = _KLIPPER_HEATERS.get(plain, "chamber"), name.removeprefix(plain)
    heat = Heat(part, float(target[1]), wait=False, tool=int(number[:2] or 0) if part == "nozzle" else 0)
    return _Happening("heat", found=heat)


def _stretch(part: Rows, which: slice, state: State) -> Stretch:
    kind, values = part.kind[which], part.values[which]
    begin, fresh = state.machine, kind == SET_POSITION
    deltas, places = [], []
    for axis in range(4):
        relative = state.relative_e if axis == E else state.relative
        delta, known = _axis(values[:, axis], fresh, state.place[axis], relative)
        deltas.append(delta)
        if axis < 3:
            moved = relative or bool((fresh & ~np.isnan(values[:, axis])).any())
            # exact where it can be: a running sum of a million steps is not
            places.append(begin[axis] + np.cumsum(delta) if moved else known + state.shift[axis])
            state.shift[axis] = float(places[-1][-1] - known[-1]) if moved else state.shift[axis]
        state.place[axis] = float(known[-1])
    speed = _followed(values[:, F] / 60, state.feed)[1:]
    state.feed = float(speed[-1])
    move = ~fresh
    found = Stretch(
        begin,
        np.stack(places, axis=1)[move],
        np.stack(deltas, axis=1)[move],
        np.maximum(speed, 1e-3)[move],
        ~np.isnan(values[move, :3]),
        part.offset[which][move],
        state.tool,
    )
    if not np.isfinite(found.position).all() or not np.isfinite(found.delta).all():
        raise SlicingError(NOT_A_NUMBER)
    kind = kind[move]
    bent = (kind == 2) | (kind == 3)
    return _straightened(found, kind, values[move], np.flatnonzero(bent)) if bent.any() else found


def _axis(values: Floats, fresh: Mask, begin: float, relative: bool) -> tuple[Floats, Floats]:
    """(how far each move goes; where the axis stands after it in the file's coordinates, exact for the last)."""
    if not relative:
        known = _followed(values, begin)
        delta = np.diff(known)
        delta[fresh] = 0.0
        return delta, known[1:]
    delta = np.where(fresh, 0.0, np.nan_to_num(values))
    named = np.flatnonzero(fresh & ~np.isnan(values))
    if not len(named):
        return delta, begin + np.cumsum(delta)
    last = int(named[-1])
    return delta, values[last] + np.cumsum(np.where(np.arange(len(delta)) > last, delta, 0.0))


def _followed(values: Floats, initial: float) -> Floats:
    """(n + 1,) the last value that was given, from an initial one on."""
    known = np.concatenate([[initial], values])
    last = np.maximum.accumulate(np.where(np.isnan(known), 0, np.arange(len(known))))
    return known[last]


def _straightened(moves: Stretch, kind: Ints, values: Floats, bent: Ints) -> Stretch:
    """Arcs (G2 clockwise, G3 not) as short straight moves."""
    centre, sweep = _arcs(moves, kind, values, bent)
    count = np.ones(len(kind), np.int64)
    count[bent] = np.maximum(np.ceil(np.abs(sweep) / ARC_STEP), 1).astype(np.int64)
    source = np.repeat(np.arange(len(kind)), count)
    step = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count) + 1
    delta = moves.delta[source] / count[source, None]
    of_arc = np.full(len(kind), -1)
    of_arc[bent] = np.arange(len(bent))
    piece = np.flatnonzero(of_arc[source] >= 0)
    arc = of_arc[source[piece]]
    spoke = moves.before[bent, :2] - centre
    here = _turned(spoke[arc], sweep[arc] * step[piece] / count[bent][arc])
    there = _turned(spoke[arc], sweep[arc] * (step[piece] - 1) / count[bent][arc])
    delta[piece, :2] = here - there
    given = moves.given[source]
    given[piece, :2] = True
    position = np.array(moves.begin) + np.cumsum(delta[:, :3], axis=0)
    return Stretch(moves.begin, position, delta, moves.speed[source], given, moves.offset[source], moves.tool)


def _turned(spoke: Floats, angle: Floats) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * spoke[:, 0] - s * spoke[:, 1], s * spoke[:, 0] + c * spoke[:, 1]], axis=1)


def _arcs(moves: Stretch, kind: Ints, values: Floats, bent: Ints) -> tuple[Floats, Floats]:
    """((n, 2) centres, (n,) angles, positive counter-clockwise). Raises SlicingError for an arc that is none."""
    begin, way = moves.before[bent, :2], moves.delta[bent, :2]
    given = values[bent]
    left = kind[bent] == 3
    chord = np.hypot(way[:, 0], way[:, 1])
    radius = given[:, R]
    with np.errstate(invalid="ignore", divide="ignore"):
        rise = np.sqrt(np.maximum(radius**2 - chord**2 / 4, 0.0)) / chord
        side = np.where(left == (radius > 0), 1.0, -1.0)  # a negative radius asks for the longer way round
        by_radius = way / 2 + (side * rise)[:, None] * np.stack([-way[:, 1], way[:, 0]], axis=1)
    offset = np.where(np.isnan(radius)[:, None], np.nan_to_num(given[:, [I, J]]), by_radius)
    if not np.isfinite(offset).all() or not offset.any(axis=1).all():
        raise SlicingError("The G-code has an arc without a centre.")
    spoke, last = -offset, way - offset
    sweep = np.arctan2(last[:, 1], last[:, 0]) - np.arctan2(spoke[:, 1], spoke[:, 0])
    sweep = np.where(left, np.mod(sweep, 2 * math.pi), -np.mod(-sweep, 2 * math.pi))
    full = 2 * math.pi * np.where(left, 1.0, -1.0)
    return begin + offset, np.where(np.abs(sweep) < 1e-9, full, sweep)
