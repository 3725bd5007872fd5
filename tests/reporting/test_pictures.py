"""Sizes of pictures: a page of many slides stays small enough."""

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from qupath_bridge.reporting.pictures import (
    DETAILS,
    MAX_BYTES,
    as_picture,
    data_uri,
    first_detail,
    fit,
)


def test_a_picture_that_fits_keeps_its_detail():
    detail, made = fit(lambda detail: [b"x" * 10, None], 50)
    assert detail == DETAILS[first_detail(50)]
    assert made == [b"x" * 10, None]


@pytest.mark.parametrize("slides", [1, 8, 50, 400])
def test_pictures_that_are_too_large_lose_detail_until_they_fit(slides):
    budget = MAX_BYTES * 0.9 / slides
    for detail in DETAILS[first_detail(slides) :]:
        size = int(budget * 3 / 4)

        def encode(tried, size=size, wanted=detail):
            return [bytes(size if tried == wanted else size + 10)]

        assert fit(encode, slides)[0] == detail


def test_where_nothing_fits_the_least_is_taken():
    assert fit(lambda detail: [bytes(MAX_BYTES)], 3)[0] == DETAILS[-1]


def test_each_detail_shows_less_than_the_one_before():
    for more, less in itertools.pairwise(DETAILS):
        assert all(a >= b for a, b in zip(more, less, strict=True))


def test_pictures_are_made_smaller_and_keep_transparency():
    pixels = np.zeros((40, 80, 3), np.uint8)
    with Image.open(io.BytesIO(as_picture(pixels, 20, 80))) as made:
        assert made.size == (20, 10)
    layer = Image.new("RGBA", (30, 30))
    layer.putpixel((3, 4), (200, 10, 20, 255))
    with Image.open(io.BytesIO(as_picture(layer, 30))) as made:
        assert made.convert("RGBA").getpixel((3, 4)) == (200, 10, 20, 255)
        assert made.convert("RGBA").getpixel((9, 9))[3] == 0


def test_a_picture_is_in_its_address():
    kind, _, content = data_uri(b"RIFF").partition(",")
    assert kind == "data:image/webp;base64"
    assert base64.b64decode(content) == b"RIFF"
