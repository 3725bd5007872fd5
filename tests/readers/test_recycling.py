import numpy as np
import pytest
import tifffile

from qupath_bridge.readers import open_reader
from qupath_bridge.readers.recycling import MOST_BYTES, Recycler

SHAPE = (4, 8, 8, 3)


def address(array):
    return array.__array_interface__["data"][0]


def test_an_array_that_nobody_holds_gives_its_memory_to_the_next_one():
    memory = Recycler()
    places = set()
    for _ in range(5):
        array = memory.empty(SHAPE, np.uint8)
        places.add(address(array))
        del array
    small = memory.empty((2, 3, 1, 1), np.uint16)
    assert places == {address(small)}
    assert small.flags.c_contiguous
    assert small.flags.writeable
    assert (small.shape, small.dtype) == ((2, 3, 1, 1), np.uint16)


@pytest.mark.parametrize(
    "held",
    [
        lambda array: array,
        lambda array: array[2, ::2, 1:, 0].T,
        lambda array: [*array],
        memoryview,
        lambda array: np.frombuffer(array[1], np.int32),
        lambda array: array.reshape(-1).view(np.int16),
    ],
)
def test_an_array_that_somebody_holds_in_part_keeps_its_values(held):
    memory = Recycler()
    array = memory.empty(SHAPE, np.uint8)
    array[:] = 7
    kept = held(array)
    before = np.array(kept)
    del array
    memory.empty(SHAPE, np.uint8)[:] = 9
    assert np.array_equal(np.array(kept), before)


def test_memory_of_a_large_picture_is_not_kept():
    memory = Recycler()
    assert memory.empty((MOST_BYTES + 1,), np.uint8).base is None


def test_pixels_of_a_batch_outlive_the_next_batch(tmp_path):
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", compression="deflate")
    boxes = np.array([[x, y, 64, 64] for y in (0, 64) for x in (0, 64, 128)])
    with open_reader(path, name="tiles") as reader:
        first, _ = reader.read_many(boxes, (64, 64))
        patches = [*first]
        del first
        reader.read_many(np.add(boxes[::-1], [64, 64, 0, 0]), (64, 64))
    for (x, y, w, h), patch in zip(boxes.tolist(), patches, strict=True):
        assert np.array_equal(patch, pixels[y : y + h, x : x + w])
