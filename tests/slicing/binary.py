"""Binary G-code made from text, character by character, as the published formats say: what the reader is tried with."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

NIBBLES = "0123456789. \nGX"
FILE, GCODE, SLICER, PRINTER, PRINT, THUMBNAIL = range(6)
Packer = Callable[[bytes], bytes]


def meat(text: str, without_spaces: bool = False) -> bytes:
    """MeatPack: two characters in a byte, the first in its low half; 15 says that a whole one follows. Each line is
    packed by itself, one of odd length with a second newline."""
    table = NIBBLES.replace(" ", "E") if without_spaces else NIBBLES
    out = bytearray(b"\xff\xff\xfb" + (b"\xff\xff\xf7" if without_spaces else b""))
    for line in text.splitlines(keepends=True):
        line += "\n" * (len(line) % 2)
        for one, other in zip(line[::2], line[1::2], strict=True):
            halves = [table.find(one), table.find(other)]
            out.append((halves[0] & 15) | (halves[1] & 15) << 4)
            out += "".join(char for char, half in zip((one, other), halves, strict=True) if half < 0).encode()
    return bytes(out)


def block(kind: int, data: bytes, parameters: tuple[int, ...] = (0,), compression: int = 0) -> bytes:
    """With its checksum. ``compression`` 0 none, 1 Deflate, 2 and 3 heatshrink."""
    pack: Packer = PACKERS[compression]
    packed = pack(data)
    head = struct.pack("<HHI", kind, compression, len(data))
    head += struct.pack("<I", len(packed)) if compression else b""
    body: bytes = head + struct.pack(f"<{len(parameters)}H", *parameters) + packed
    return body + struct.pack("<I", zlib.crc32(body))


def _heatshrink(window: int) -> Packer:
    def packed(data: bytes) -> bytes:
        import heatshrink2

        return bytes(heatshrink2.compress(data, window_sz2=window, lookahead_sz2=4))

    return packed


PACKERS: tuple[Packer, ...] = (bytes, zlib.compress, _heatshrink(11), _heatshrink(12))


def binary(*blocks: bytes) -> bytes:
    return struct.pack("<4sIH", b"GCDE", 1, 1) + b"".join(blocks)


def of_text(text: str, compression: int = 0, encoding: int = 0, size: int = 1000) -> bytes:
    """A whole file, cut between lines into blocks as slicers do (theirs are of 64 kB)."""
    parts = [""]
    for line in text.splitlines(keepends=True):
        parts += [""] if len(parts[-1]) + len(line) > size else []
        parts[-1] += line
    pack: Callable[[str], bytes] = meat if encoding else str.encode
    return binary(
        block(FILE, b"Producer=PrusaSlicer 2.7.4\n"),
        block(PRINTER, b"printer_model=MK4\nfilament_type=PETG\nnozzle_diameter=0.4\n"),
        block(THUMBNAIL, b"\x89PNG\r\n not really", (0, 32, 32)),
        block(PRINT, b"filament used [mm]=46.06\nestimated printing time (normal mode)=1m 4s\n"),
        block(SLICER, b"layer_height=0.25\nfirst_layer_height=0.25\nfilament_density=1.27\n", compression=1),
        *(block(GCODE, pack(part), (encoding,), compression) for part in parts),
    )
