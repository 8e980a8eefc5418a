"""Binary G-code as text: what PrusaSlicer 2.7 and later write as ``.bgcode``. Pure, block by block.

Format: https://github.com/prusa3d/libbgcode/blob/main/doc/specifications.md. Blocks of text are packed by MeatPack (two
characters of the most common ones in a byte; its table and commands are those of https://github.com/scottmudge/MeatPack)
and then by Deflate or heatshrink.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from slicing.engines.base import SlicingError
from slicing.headers import MOST_PICTURES, Thumbnail

MAGIC = b"GCDE"
FILE_METADATA, GCODE, SLICER_METADATA, PRINTER_METADATA, PRINT_METADATA, THUMBNAIL = range(6)
MOST_BYTES = 32 << 20  # of one block; slicers write 64 kB
_FORMATS = ("png", "jpg", "qoi")
DAMAGED = "The binary G-code is damaged: {}. Export it again."


@dataclass(frozen=True, slots=True)
class Block:
    kind: int
    parameters: tuple[int, ...]  # format, width, height of a picture; the encoding of all others
    data: bytes  # unpacked, but still MeatPack where that is the encoding


def is_binary(begin: bytes) -> bool:
    return begin[:4] == MAGIC


def blocks(file: BinaryIO) -> Iterator[Block]:
    """Raises SlicingError for what is cut off, does not match its checksum or is larger than any slicer writes."""
    magic, version, checksum = struct.unpack("<4sIH", _exactly(file, 10))
    if magic != MAGIC or version != 1 or checksum > 1:
        raise SlicingError(f"This binary G-code is of a version ({version}) that the farm does not know.")
    while begin := file.read(8):
        yield _block(file, begin, bool(checksum))


def _block(file: BinaryIO, begin: bytes, checked: bool) -> Block:
    if len(begin) < 8:
        raise SlicingError(DAMAGED.format("it is cut off"))
    kind, compression, size = struct.unpack("<HHI", begin)
    if compression:
        begin += _exactly(file, 4)
    packed = int.from_bytes(begin[8:], "little") if compression else size
    if kind > THUMBNAIL or compression > 3 or max(size, packed) > MOST_BYTES:
        raise SlicingError(DAMAGED.format("a part of it is nothing that is known"))
    parameters = _exactly(file, 6 if kind == THUMBNAIL else 2)
    data = _exactly(file, packed)
    if checked and int.from_bytes(_exactly(file, 4), "little") != zlib.crc32(begin + parameters + data):
        raise SlicingError(DAMAGED.format("a checksum does not match"))
    return Block(kind, struct.unpack(f"<{len(parameters) // 2}H", parameters), _unpacked(data, compression, size))


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise SlicingError(DAMAGED.format("it is cut off"))
    return data


def _unpacked(data: bytes, compression: int, size: int) -> bytes:
    try:
        if compression == 1:
            data = zlib.decompressobj().decompress(data, size + 1)
        elif compression:
            import heatshrink2  # a compiled library, for these files only

            data = heatshrink2.decompress(data, window_sz2=9 + compression, lookahead_sz2=4)
    except (zlib.error, ValueError, RuntimeError):
        raise SlicingError(DAMAGED.format("a part of it cannot be unpacked")) from None
    if len(data) < size:
        raise SlicingError(DAMAGED.format("a part of it is too short"))
    return data[:size]  # heatshrink may leave a few bits over


# -- MeatPack
_NIBBLES = np.frombuffer(b"0123456789. \nGX\0", np.uint8)
_PAIRS = np.stack([_NIBBLES[np.arange(256) & 15], _NIBBLES[np.arange(256) >> 4]], axis=1)
_PAIRS_WITHOUT_SPACES = np.where(ord(" ") == _PAIRS, np.uint8(ord("E")), _PAIRS)
_COMMAND = re.compile(rb"\xff\xff(.)", re.DOTALL)
_PACKING_ON, _PACKING_OFF, _RESET, _NO_SPACES_ON, _NO_SPACES_OFF = 251, 250, 249, 247, 246
#: a byte of two nibbles one or both of which say "a whole character follows"
_ESCAPE = re.compile(
    rb"\xff\xff.|\xff..|[\xf0-\xfe].|[\x0f\x1f\x2f\x3f\x4f\x5f\x6f\x7f\x8f\x9f\xaf\xbf\xcf\xdf\xef].", re.DOTALL
)


def unmeat(data: bytes) -> bytes:
    """The text of one block. Each begins without packing and with spaces; commands turn them on and off."""
    out: list[bytes] = []
    packing = without_spaces = False
    at = 0
    while at < len(data):
        end, command = _next_command(data, at, packing)
        part = data[at:end]
        out.append(_pairs(part, without_spaces) if packing else part)
        if command in (_PACKING_ON, _PACKING_OFF, _RESET):
            packing = command == _PACKING_ON
            without_spaces = without_spaces and command != _RESET
        elif command in (_NO_SPACES_ON, _NO_SPACES_OFF):
            without_spaces = command == _NO_SPACES_ON
        at = end + 3
    return b"".join(out)


def _next_command(data: bytes, at: int, packing: bool) -> tuple[int, int]:
    """(where the next command begins, what it is; the end and -1 for none)."""
    if not packing:
        match = _COMMAND.search(data, at)
        return (match.start(), match[1][0]) if match else (len(data), -1)
    for escape in _ESCAPE.finditer(data, at):
        if escape[0][:2] == b"\xff\xff":
            return escape.start(), escape[0][2]
    return len(data), -1


def _pairs(data: bytes, without_spaces: bool) -> bytes:
    """Packed bytes as characters: every byte becomes two, of which escapes are then filled with what follows them."""
    buf = np.frombuffer(data, np.uint8)
    pairs = (_PAIRS_WITHOUT_SPACES if without_spaces else _PAIRS)[buf]
    there = np.ones(pairs.shape, bool)
    there[:, 1] = pairs[:, 0] != ord("\n")  # lines of odd length are filled up behind their end
    escapes = np.array([match.start() for match in _ESCAPE.finditer(data)], np.int64)
    if len(escapes):
        first, second = (buf[escapes] & 15) == 15, (buf[escapes] >> 4) == 15
        follow = np.append(buf, np.zeros(2, np.uint8))
        pairs[escapes[first], 0] = follow[escapes[first] + 1]
        pairs[escapes[second], 1] = follow[(escapes + 1 + first)[second]]
        literal = np.concatenate([escapes + 1, (escapes + 2)[first & second]])
        there[literal[literal < len(buf)]] = False
    text = pairs[there].tobytes()
    return text.replace(b"\0", b"")


_MOVE_WITHOUT_SPACES = re.compile(rb"^G\d[\d.A-Z+-]*$", re.MULTILINE)
_WORD = re.compile(rb"(?<=[\d.])(?=[A-Z])")


def spaced(text: bytes) -> bytes:
    """G1X10Y20 as G1 X10 Y20: packing leaves spaces out, and not everybody between us and the printer reads it so."""
    return _MOVE_WITHOUT_SPACES.sub(lambda line: _WORD.sub(b" ", line[0]), text)


# -- as if it were text
class TextReader(io.RawIOBase):
    """The G-code of a binary file, to be read as text; head and pictures are known from the begin on."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.thumbnails: list[Thumbnail] = []
        self._metadata: list[str] = []
        self._blocks = blocks(file)
        self._rest = b""
        while not self._rest and (more := self._more()) is not None:
            self._rest = more

    @property
    def head(self) -> bytes:
        """What a text file would say in its comments."""
        return "".join(f"; {line}\n" for line in self._metadata).encode()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, length = [self._rest], len(self._rest)
        while size < 0 or length < size:
            more = self._more()
            if more is None:
                break
            parts.append(more)
            length += len(more)
        text = b"".join(parts)
        cut = length if size < 0 else size
        self._rest = text[cut:]
        return text[:cut]

    def _more(self) -> bytes | None:
        """The text of the next block, empty if it has none; None at the end."""
        block = next(self._blocks, None)
        if block is None:
            return None
        if block.kind == GCODE:
            return unmeat(block.data) if block.parameters[0] else block.data
        if block.kind == THUMBNAIL:
            self._picture(block)
        else:
            self._say(block)
        return b""

    def _picture(self, block: Block) -> None:
        kind, width, height = block.parameters
        if kind < len(_FORMATS) and len(self.thumbnails) < MOST_PICTURES:
            self.thumbnails.append(Thumbnail(width, height, _FORMATS[kind], block.data))

    def _say(self, block: Block) -> None:
        for line in block.data.decode("utf-8", "replace").splitlines()[:2000]:
            key, _, value = line.partition("=")
            if key.strip() == "Producer":
                self._metadata.append(f"generated by {value.strip()} on")
            else:
                self._metadata.append(f"{key.strip()} = {value.strip()}")
