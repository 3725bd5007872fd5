"""Sizes in the first bytes of pictures, against what imagecodecs writes."""

import struct

import imagecodecs
import numpy as np
import pytest

from qupath_bridge.readers.encoded_sizes import jpeg_xl_size, jpeg_xr_size

SIZES = [
    (1, 1), (8, 8), (256, 256), (257, 255), (240, 240), (512, 256), (640, 480), (300, 200),
    (160, 90), (320, 180), (250, 200), (120, 100), (513, 1), (1, 9000), (8193, 7), (3, 260_000),
]  # fmt: skip
"""Of each form: multiples of 8, each ratio of the sides, each number of bits."""


def pixels(width, height):
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize("boxes", [False, True], ids=["bare", "in boxes"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes_of_jpeg_xl(size, boxes):
    data = imagecodecs.jpegxl_encode(pixels(*size), usecontainer=boxes, effort=1)
    assert data.startswith(b"\xff\x0a") != boxes
    assert jpeg_xl_size(data) == size
    assert jpeg_xl_size(data[:200]) == size


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes_of_jpeg_xr(size):
    data = imagecodecs.jpegxr_encode(pixels(*size))
    assert jpeg_xr_size(data) == size


def test_a_jpeg_xl_picture_that_says_it_is_huge():
    """Written by hand: 2^30 pixels on each side, in 13 bytes."""
    bits = "0" + "11" + "1" * 30 + "000" + "11" + "1" * 30
    assert len(bits) == 68
    number = sum(int(bit) << place for place, bit in enumerate(bits))
    stream = b"\xff\x0a" + number.to_bytes(9, "little")
    assert jpeg_xl_size(stream) == (1 << 30, 1 << 30)
    box = struct.pack(">I4sI", 12 + len(stream), b"jxlp", 0) + stream
    assert jpeg_xl_size(b"\0\0\0\x0cJXL \r\n\x87\n" + box) == (1 << 30, 1 << 30)


@pytest.mark.parametrize("read", [jpeg_xl_size, jpeg_xr_size])
def test_other_bytes_have_no_size(read):
    rng = np.random.default_rng(2)
    for count in (0, 1, 2, 11, 12, 13, 16, 20, 300):
        data = rng.bytes(count)
        for start in (b"", b"\0\0\0\x0cJXL \r\n\x87\n", b"WMPHOTO\0"[:7]):
            assert read(start + data) == (0, 0)
    whole = imagecodecs.jpegxl_encode(pixels(64, 64), usecontainer=True)
    for end in range(40):
        assert all(length >= 0 for length in read(whole[:end]))
