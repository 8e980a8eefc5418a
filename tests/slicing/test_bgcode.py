"""Binary G-code: the same facts as of the text that is in it, and nothing that a stranger writes there does harm."""

from __future__ import annotations

import contextlib
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicing import gcode
from slicing.bgcode import TextReader, blocks, spaced, unmeat
from slicing.engines.base import SlicingError
from slicing.gcode import facts
from tests.slicing import binary

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "gcode" / "prusaslicer.gcode"
PACKED = [
    (0, 0),
    (1, 0),
    (1, 1),
    (2, 1),
    (3, 0),
    (3, 2),
]


def lines_only() -> str:
    """What PrusaSlicer puts into the blocks: the lines without the settings, which go into blocks of their own."""
    text = SAMPLE.read_text()
    return text[text.index("M107") : text.index("; filament used")]


@pytest.mark.parametrize(("compression", "encoding"), PACKED)
def test_its_text_comes_out_as_it_went_in(compression: int, encoding: int) -> None:
    file = TextReader(io.BytesIO(binary.of_text(lines_only(), compression, encoding)))
    text = b""
    while part := file.read(777):
        assert len(part) <= 777
        text += part
    assert [line for line in text.decode().split("\n") if line] == [line for line in lines_only().split("\n") if line]


@pytest.mark.parametrize(("compression", "encoding"), PACKED)
def test_it_has_the_facts_of_the_text(tmp_path: Path, compression: int, encoding: int) -> None:
    packed, plain = tmp_path / "a.bgcode", tmp_path / "a.gcode"
    packed.write_bytes(binary.of_text(lines_only(), compression, encoding))
    plain.write_text(lines_only())
    found, expected = facts(packed), facts(plain)
    same = ("time_s", "filament_mm", "layers", "bounds", "nozzle_temperature", "bed_temperature")
    assert {key: found[key] for key in same} == {key: expected[key] for key in same}
    assert (found["slicer"], found["slicer_version"], found["slicer_time_s"]) == ("PrusaSlicer", "2.7.4", 64)
    assert found["layer_height"] == 0.25
    assert found["tools"][0]["filament_type"] == "PETG"
    assert found["filament_g"] == pytest.approx(46.055 * 2.40528 / 1000 * 1.27, rel=1e-3)
    assert found["thumbnails"] == [{"width": 32, "height": 32, "format": "png", "bytes": 17}]


def test_it_can_be_had_as_text_for_printers_that_know_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, text = tmp_path / "a.bgcode", tmp_path / "text"
    packed.write_bytes(binary.of_text(lines_only(), 1, 2))
    assert gcode.main([str(packed), "--text", str(text)]) == 0
    said = json.loads(capsys.readouterr().out)
    again = facts(text)
    # of the bytes of another file
    assert again.pop("layer_begins") == pytest.approx(said.pop("layer_begins"), abs=1e-4)
    assert again == said


def test_moves_get_their_spaces_back_and_nothing_else_does() -> None:
    text = b"G1X10Y-2.5E.3\nG28\nG1 X1 Y2\nM117 L3X4\n;G1X2Y3\nM73P5\nG92E0\n"
    assert spaced(text) == b"G1 X10 Y-2.5 E.3\nG28\nG1 X1 Y2\nM117 L3X4\n;G1X2Y3\nM73P5\nG92 E0\n"


def test_a_text_is_not_written_once_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gcode.main([str(SAMPLE), "--text", str(tmp_path / "text")]) == 0
    assert capsys.readouterr().out
    assert not (tmp_path / "text").exists()


@pytest.mark.parametrize("without_spaces", [False, True])
@given(text=st.text(st.sampled_from("0123456789. \nGXYEF;-:ab"), max_size=80))
@settings(deadline=None)
def test_any_text_survives_meatpack(without_spaces: bool, text: str) -> None:
    text = text.replace(" ", "") if without_spaces else text
    text += "\n"
    assert unmeat(binary.meat(text, without_spaces)).decode() == text


def test_packing_can_be_turned_off_and_reset_between() -> None:
    packed = binary.meat("G1 X10\n\n") + b"\xff\xff\xfaplain\n" + binary.meat("G1X5E2.5\n", True) + b"\xff\xff\xf9raw"
    assert unmeat(packed) == b"G1 X10\n\nplain\nG1X5E2.5\nraw"


def damaged(at: int, data: bytes) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[:-3], "cut off"),
        (lambda data: data[:13], "cut off"),
        (lambda data: damaged(len(data) - 20, data), "checksum"),
        (lambda data: damaged(4, data), "version"),
        (lambda data: data + binary.block(9, b""), "nothing that is known"),
        (lambda data: data + binary.block(1, b"", compression=0)[:4] + b"\xff\xff\xff\xff" + b"\0" * 30, "known"),
        (lambda data: data + binary.block(1, b"G1 X1\n" * 99, compression=1).replace(b"x\x9c", b"x\x00"), "checksum"),
    ],
)  # fmt: skip
def test_damage_is_noticed_and_said(change: Callable[[bytes], bytes], why: str) -> None:
    with pytest.raises(SlicingError, match=why):
        list(blocks(io.BytesIO(change(binary.of_text(lines_only())))))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = binary.block(1, b"\0" * 5_000_000, compression=1)
    lies = bomb[:4] + (100).to_bytes(4, "little") + bomb[8:]
    body = lies[:-4]
    data = binary.binary(body + zlib.crc32(body).to_bytes(4, "little"))
    assert [len(block.data) for block in blocks(io.BytesIO(data))] == [100], "not a byte more than it said"


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_no_bytes_crash_it(data: bytes) -> None:
    for whole in (b"GCDE" + data, binary.binary() + data, binary.binary(binary.block(1, data, (1,)))):
        with contextlib.suppress(SlicingError):
            TextReader(io.BytesIO(whole)).read()
