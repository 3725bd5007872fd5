"""The order in which patches are read."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.patches.order import BATCH_BYTES, MAX_SIDE, reading_batches

TILE = 256 * 256 * 3


def batches_of(cells, patch_bytes=TILE):
    """Return the batches of cells (z, t, row, col), as lists of cells."""
    z, t, row, col = np.array(cells, np.int32).reshape(-1, 4).T
    return [
        [cells[number] for number in batch.tolist()]
        for batch in reading_batches(col, row, z, t, patch_bytes)
    ]


@given(
    cells=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(-30, 30), st.integers(-30, 30)),
        unique=True,
    ),
    patch_bytes=st.sampled_from([1, TILE, 4 * TILE, BATCH_BYTES, 10 * BATCH_BYTES]),
)
def test_each_patch_comes_once_with_its_plane_alone(cells, patch_bytes):
    """Whatever the grid, and never more bytes at once than are allowed, but for one patch."""
    cells = sorted(cells)
    batches = batches_of(cells, patch_bytes)
    assert sorted(itertools.chain(*batches)) == cells
    for batch in batches:
        assert batch
        assert len({cell[:2] for cell in batch}) == 1
        assert len(batch) * patch_bytes <= max(BATCH_BYTES, patch_bytes)
        assert len(batch) <= MAX_SIDE**2


def test_a_full_grid_is_read_in_squares():
    """Neighbours on all sides come together: a batch of 81 touches 100 tiles, not 164."""
    cells = [(0, 0, row, col) for row in range(18) for col in range(27)]
    batches = batches_of(cells)
    assert len(batches) == 6
    for batch in batches:
        rows, cols = {cell[2] for cell in batch}, {cell[3] for cell in batch}
        assert (len(rows), len(cols)) == (9, 9)
        # A grid between the tiles: each patch touches four.
        tiles = {(row + dy, col + dx) for _, _, row, col in batch for dy in (0, 1) for dx in (0, 1)}
        assert len(tiles) == 100
    lefts = [min(cell[3] for cell in batch) for batch in batches]
    assert lefts == [0, 9, 18, 0, 9, 18]


def test_sparse_blocks_of_a_row_come_together():
    """Otherwise a slide with little tissue would be made of batches of one patch."""
    cells = [(0, 0, 0, col) for col in range(0, 640, 10)]
    assert [len(batch) for batch in batches_of(cells)] == [64]


@pytest.mark.parametrize(("size", "side"), [(64, 16), (256, 9), (512, 4), (4096, 1)])
def test_the_side_of_a_block_follows_the_size_of_a_patch(size, side):
    """Memory is bounded in bytes."""
    cells = [(0, 0, row, col) for row in range(16) for col in range(16)]
    assert len(batches_of(cells, size * size * 3)[0]) == side**2


def test_many_patches_in_one_place_are_several_batches():
    """Patches around 5,000 cells of one spot overlap: memory is that of a block all the same."""
    place = np.zeros(5000, np.int32)
    batches = list(reading_batches(place, place, place, place, 256 * 256 * 3))
    assert max(map(len, batches)) <= (16 << 20) // (256 * 256 * 3)
    assert np.concatenate(batches).tolist() == list(range(5000))
