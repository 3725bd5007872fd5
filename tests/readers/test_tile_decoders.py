"""What JPEG data say before their first scan."""

import struct

import pytest

from qupath_bridge.readers.tile_decoders import encoded_size, whole_jpeg

JPEG = 7


def segment(marker, content):
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def jpeg(width, height, *segments):
    size = segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + bytes(9))
    return b"\xff\xd8" + b"".join(segments) + size + segment(0xDA, bytes(10)) + b"data\xff\xd9"


@pytest.mark.parametrize("comment", [b"", b"a comment", b"\xff\xda", b"\xff\xda\x00\x02\xff\xda"])
def test_each_header_says_its_own_size(comment):
    """Also where the sign of a scan stands inside a segment, and headers begin alike."""
    sizes = [(64, 32), (256, 256), (64, 32), (1, 65535)]
    assert [encoded_size(jpeg(*size, segment(0xFE, comment)), JPEG) for size in sizes] == sizes


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xda", b"\xff\xd8\xff\xda", b"no image"])
def test_what_is_no_image_has_no_size(data):
    assert encoded_size(data, JPEG) == (0, 0)


ADOBE = b"Adobe\x00\x64\x00\x00\x00\x00"


@pytest.mark.parametrize("between", [b"", b"\xff\xda"])
def test_the_colours_of_each_tile_count(between):
    """A tile that says RGB is not handed on as YCbCr, whatever the tile before it said."""
    silent = jpeg(8, 8, segment(0xFE, between))
    rgb = jpeg(8, 8, segment(0xFE, between), segment(0xEE, ADOBE + b"\x00"))
    tables = b"\xff\xd8" + segment(0xDB, bytes(65)) + b"\xff\xd9"
    for _ in range(2):
        assert whole_jpeg(rgb, tables, "YCBCR") is None
        whole = whole_jpeg(silent, tables, "YCBCR")
        assert whole.startswith(
            b"\xff\xd8" + segment(0xEE, ADOBE + b"\x01") + segment(0xDB, bytes(65))
        )
        assert whole.endswith(silent[2:])
        assert whole_jpeg(rgb, None, "RGB") == rgb
