"""Which layer is printed now, from how much of the file is read."""

from __future__ import annotations

from slicing.layering import layer_at, layers_in, packed, unpacked


def test_the_layer_is_the_last_that_has_begun() -> None:
    begins = packed([0.1, 0.4, 0.7])
    found = [layer_at(begins, progress) for progress in (0.0, 0.09, 0.1, 0.39, 0.4, 0.69, 0.7, 1.0)]
    assert found == [0, 0, 1, 1, 2, 2, 3, 3]


def test_of_an_unknown_file_it_is_none() -> None:
    assert layer_at(b"", 0.5) == 0


def test_two_bytes_a_layer_whatever_the_machine() -> None:
    begins = packed([0, 0.5, 1])
    assert begins == b"\x00\x00\x00\x80\xff\xff"
    assert list(unpacked(begins)) == [0, 0x8000, 0xFFFF]
    assert layers_in(begins) == 3


def test_what_is_out_of_range_is_an_end() -> None:
    assert list(unpacked(packed([-1, 2]))) == [0, 65_535]
