"""Contract of readers."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, MaskArray, PixelArray, Plane
from qupath_bridge.readers.base import RGB_CHANNELS, Pixels, Reader

__all__ = ["ReaderContract", "Truth", "crop"]


@dataclass(frozen=True)
class Truth:
    """Content of a slide: all of level 0, with the background where the mask is False.

    ``background`` has one value per channel.
    """

    pixels: PixelArray
    mask: MaskArray | None = None
    background: tuple[float, ...] = (255, 255, 255)
    lossless: bool = True
    channels: tuple[str, ...] = RGB_CHANNELS


def crop(truth: Truth, box: Box) -> tuple[PixelArray, MaskArray]:
    """Return a box of the truth that may pass its edges."""
    pixels = _background(truth, box.w, box.h)
    mask = np.zeros((box.h, box.w), np.bool_)
    height, width = truth.pixels.shape[:2]
    for row in range(max(box.y, 0), min(box.y + box.h, height)):
        left, right = max(box.x, 0), min(box.x + box.w, width)
        if left < right:
            place = np.s_[row - box.y, left - box.x : right - box.x]
            pixels[place] = truth.pixels[row, left:right]
            mask[place] = True if truth.mask is None else truth.mask[row, left:right]
    return pixels, mask


def _background(truth: Truth, width: int, height: int) -> PixelArray:
    """Return an array of the background of the truth."""
    shape = height, width, len(truth.channels)
    return np.full(shape, truth.background, truth.pixels.dtype)


class ReaderContract(ABC):
    """Subclass it, and say how a reader is opened and what its slide holds.

    The slide must be at least 100 pixels wide and high. Where the slide is a file, the fixture
    ``path`` names it.
    """

    @pytest.fixture
    @abstractmethod
    def truth(self) -> Truth:
        """Return what the slide holds."""

    @pytest.fixture
    @abstractmethod
    def make(self, truth: Truth) -> Callable[[], Reader]:
        """Return a function that opens the slide."""

    @pytest.fixture
    def path(self) -> Path | None:
        """Return the file of the slide, None for a slide without one."""
        return None

    @staticmethod
    def check(truth: Truth, box: Box, found: Pixels) -> None:
        """Compare a box at full resolution with the truth."""
        pixels, mask = found
        expected, valid = crop(truth, box)
        assert pixels.dtype == truth.pixels.dtype
        assert pixels.shape == expected.shape
        if truth.lossless:
            np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(pixels[~valid], expected[~valid])
        assert (mask is None) == bool(valid.all())
        if mask is not None:
            assert mask.dtype == np.bool_
            np.testing.assert_array_equal(mask, valid)

    def test_size_levels_planes_channels_and_fingerprint(
        self, make: Callable[[], Reader], truth: Truth
    ) -> None:
        """Levels go from fine to coarse; the fingerprint is the same each time."""
        with make() as reader:
            assert isinstance(reader, Reader)
            height, width = truth.pixels.shape[:2]
            assert reader.size == (width, height)
            first, *others = reader.levels
            assert (first.width, first.height, first.downsample) == (width, height, 1.0)
            for finer, level in zip(reader.levels, others, strict=False):
                assert level.downsample > finer.downsample
                assert level.downsample == pytest.approx(width / level.width, rel=0.02)
            assert min(reader.planes) >= 1
            assert reader.channels == truth.channels
            assert reader.dtype == truth.pixels.dtype
            assert reader.background == truth.background
            whole, _ = reader.read(Box(0, 0, 7, 5), (7, 5))
            assert whole.dtype == reader.dtype
            assert whole.shape == (5, 7, len(reader.channels))
            fingerprint = reader.fingerprint
            assert fingerprint.size > 0
            assert len(fingerprint.digest) == 32
        with make() as again:
            assert again.fingerprint == fingerprint

    def test_read_of_a_box_equals_the_crop_of_the_whole(
        self, make: Callable[[], Reader], truth: Truth
    ) -> None:
        """Inside, across each edge and corner, around all of it, and outside."""
        height, width = truth.pixels.shape[:2]
        rng = np.random.default_rng(11)
        places = rng.integers(-80, (width + 80, height + 80), (60, 2))
        sizes = rng.integers(1, 120, (60, 2))
        boxes = [
            Box(int(x), int(y), int(w), int(h))
            for (x, y), (w, h) in zip(places, sizes, strict=True)
        ]
        boxes += [
            Box(0, 0, width, height),
            Box(-3, -4, width + 8, height + 9),
            Box(width, height, 5, 5),
            Box(-50, 10, 50, 20),
            Box(width - 1, height - 1, 1, 1),
            Box(3_000_000_000, -3_000_000_000, 4, 3),
        ]
        with make() as reader:
            for box in boxes:
                self.check(truth, box, reader.read(box, (box.w, box.h)))

    def test_read_with_whole_factors_gives_box_means(
        self, make: Callable[[], Reader], truth: Truth
    ) -> None:
        """From level 0 where no other level fits exactly; means of integers rounded half up."""
        with make() as reader:
            box = Box(15, 6, 3 * 24, 3 * 20)
            pixels, _ = reader.read(box, (24, 20))
            if any(1.5 < level.downsample <= 3.01 for level in reader.levels) or not truth.lossless:
                return
        expected, _ = crop(truth, box)
        boxes = expected.reshape(20, 3, 24, 3, -1)
        if boxes.dtype.kind == "f":
            means = boxes.astype(np.float64).mean(axis=(1, 3))
            np.testing.assert_allclose(pixels, means, rtol=1e-6)
        else:
            sums = boxes.astype(np.int64).sum(axis=(1, 3))
            np.testing.assert_array_equal(pixels, (2 * sums + 9) // 18)

    def test_read_at_the_size_of_a_level_uses_the_level(self, make: Callable[[], Reader]) -> None:
        """Asked for the whole at a level's size, near the mean of level 0, and in place."""
        with make() as reader:
            width, height = reader.size
            for level in reader.levels[1:]:
                whole, mask = reader.read(Box(0, 0, width, height), (level.width, level.height))
                assert whole.shape == (level.height, level.width, len(reader.channels))
                assert mask is None or mask.shape == whole.shape[:2]
                fine, _ = reader.read(Box(0, 0, width, height), (width, height))
                apart = np.abs(whole.mean(axis=(0, 1)) - fine.mean(axis=(0, 1))).max()
                assert apart < 3 / 255 * max(fine.max() - float(fine.min()), 255)

    def test_read_of_odd_sizes(self, make: Callable[[], Reader]) -> None:
        """Odd shapes: one output pixel, other factors along x and y, and enlarging."""
        with make() as reader:
            width, height = reader.size
            for size in ((1, 1), (1, 7), (50, 3), (2 * width, height)):
                pixels, mask = reader.read(Box(0, 0, width, height), size)
                assert pixels.shape == (size[1], size[0], len(reader.channels))
                assert mask is None or mask.shape == (size[1], size[0])

    def test_read_across_the_edge_keeps_the_background(
        self, make: Callable[[], Reader], truth: Truth
    ) -> None:
        """Scaled down across the edge, background stays background."""
        with make() as reader:
            pixels, mask = reader.read(Box(-400, -400, 400, 400), (50, 50))
            assert mask is not None
            assert not mask.any()
            np.testing.assert_array_equal(pixels, _background(truth, 50, 50))
            pixels, mask = reader.read(Box(-48, 0, 96, 48), (8, 4))
            assert mask is not None
            assert not mask[:, :4].any()
            np.testing.assert_array_equal(pixels[:, :4], _background(truth, 4, 4))

    def test_read_many_gives_the_results_of_read_in_order(self, make: Callable[[], Reader]) -> None:
        """Inside, across the edge, twice, scaled, of several sizes, and no box at all."""
        whole = [Box(40, 0, 20, 20), Box(0, 0, 20, 20), Box(40, 0, 20, 20)]
        passing = [*whole, Box(-5, 60, 20, 20), Box(81, 7, 20, 20), Box(3_000_000_000, 0, 20, 20)]
        mixed = [*passing, Box(3, 4, 9, 31), Box(0, -70, 70, 80)]
        with make() as reader:
            right, bottom = (reader.size[0] - 10, reader.size[1] - 13)
            passing += [Box(right, bottom, 20, 20), Box(right, 33, 20, 20)]
            for boxes in (whole, passing, mixed, mixed[::-1], whole[:1]):
                for size in ((20, 20), (10, 5), (7, 9), (30, 20)):
                    self._check_batch(reader, boxes, size)
            for level in reader.levels[1:]:
                step = round(level.downsample)
                near = [Box(x * step, y * step, 4 * step, 6 * step) for x, y in ((0, 0), (3, 5))]
                self._check_batch(reader, near, (4, 6))
                self._check_batch(reader, near, (2, 2))
            pixels, mask = reader.read_many(np.empty((0, 4), np.int64), (20, 10))
            assert pixels.shape == (0, 10, 20, len(reader.channels))
            assert pixels.dtype == reader.dtype
            assert mask is None

    @staticmethod
    def _check_batch(reader: Reader, boxes: list[Box], size: tuple[int, int]) -> None:
        single = [reader.read(box, size) for box in boxes]
        pixels, mask = reader.read_many(np.array(boxes), size)
        assert pixels.dtype == reader.dtype
        np.testing.assert_array_equal(pixels, np.stack([each for each, _ in single]))
        assert (mask is None) == all(valid is None for _, valid in single)
        if mask is not None:
            assert mask.dtype == np.bool_
            assert mask.shape == pixels.shape[:3]
            for own, (_, valid) in zip(mask, single, strict=True):
                np.testing.assert_array_equal(own, True if valid is None else valid)

    def test_read_of_some_channels_gives_these_in_their_order(
        self, make: Callable[[], Reader]
    ) -> None:
        """One, some in another order, one twice; inside, passing, scaled, in a batch."""
        boxes = [Box(8, 16, 40, 30), Box(-5, -6, 40, 30), Box(64, 64, 40, 30)]
        with make() as reader:
            last = len(reader.channels) - 1
            for chosen in ((last,), (last, 0), (0, last, 0), tuple(range(last + 1))):
                for size in ((40, 30), (20, 10), (7, 9)):
                    for box in boxes:
                        whole, valid = reader.read(box, size)
                        pixels, mask = reader.read(box, size, channels=chosen)
                        assert pixels.dtype == reader.dtype
                        np.testing.assert_array_equal(pixels, whole[..., chosen])
                        np.testing.assert_array_equal(mask, valid)
                    many, masks = reader.read_many(np.array(boxes), size)
                    pixels, mask = reader.read_many(np.array(boxes), size, channels=list(chosen))
                    np.testing.assert_array_equal(pixels, many[..., chosen])
                    np.testing.assert_array_equal(mask, masks)

    def test_read_refuses_channels_that_are_not_there(self, make: Callable[[], Reader]) -> None:
        """By number, with the names of those that are there."""
        box = Box(0, 0, 5, 5)
        with make() as reader:
            for chosen, text in (
                ([0, len(reader.channels)], f"no channel with index {len(reader.channels)}"),
                ([0, -1], "no channel with index -1"),
                ([], "no channel was asked for"),
            ):
                with pytest.raises(ReadError, match=text):
                    reader.read(box, (5, 5), channels=chosen)
                with pytest.raises(ReadError, match=text):
                    reader.read_many(np.array([box]), (5, 5), channels=chosen)

    def test_pixels_that_were_returned_can_be_changed(self, make: Callable[[], Reader]) -> None:
        """Changing them does not change what is read next."""
        box = Box(8, 8, 30, 30)
        with make() as reader:
            pixels, _ = reader.read(box, (30, 30))
            before = pixels.copy()
            pixels[:] = 7
            np.testing.assert_array_equal(reader.read(box, (30, 30))[0], before)
            batch, _ = reader.read_many(np.array([box, box]), (30, 30))
            batch[0] = 7
            np.testing.assert_array_equal(batch[1], before)
            np.testing.assert_array_equal(reader.read(box, (30, 30))[0], before)

    @pytest.mark.parametrize(
        ("box", "size"),
        [
            (Box(0, 0, 0, 5), (5, 5)),
            (Box(0, 0, 5, -1), (5, 5)),
            (Box(0, 0, 5, 5), (0, 5)),
        ],
    )
    def test_read_refuses_boxes_without_area(
        self, make: Callable[[], Reader], box: Box, size: tuple[int, int]
    ) -> None:
        """Width and height must be at least 1."""
        with make() as reader, pytest.raises(ReadError, match="at least 1"):
            reader.read(box, size)
        with make() as reader, pytest.raises(ReadError, match="at least 1"):
            reader.read_many(np.array([box]), size)

    def test_read_refuses_planes_that_are_not_there(self, make: Callable[[], Reader]) -> None:
        """By name, with how many there are."""
        with make() as reader:
            z_count, t_count = reader.planes
            for plane in (Plane(z_count, 0), Plane(0, t_count), Plane(-1, 0)):
                with pytest.raises(ReadError, match=f"no plane z={plane.z}, t={plane.t}"):
                    reader.read(Box(0, 0, 5, 5), (5, 5), plane)
                with pytest.raises(ReadError, match=f"no plane z={plane.z}, t={plane.t}"):
                    reader.read_many(np.array([Box(0, 0, 5, 5)]), (5, 5), plane)

    def test_a_pickled_reader_reads_the_same(self, make: Callable[[], Reader]) -> None:
        """The copy is open, and closing one leaves the other open."""
        box = Box(-3, 5, 40, 30)
        with make() as reader:
            copy = pickle.loads(pickle.dumps(reader))  # noqa: S301  # bytes of our own
            with copy:
                assert type(copy) is type(reader)
                assert copy.size == reader.size
                assert copy.levels == reader.levels
                assert copy.fingerprint == reader.fingerprint
                for found, expected in zip(
                    copy.read(box, (40, 30)), reader.read(box, (40, 30)), strict=True
                ):
                    np.testing.assert_array_equal(found, expected)
            reader.read(box, (40, 30))

    def test_the_fingerprint_follows_the_file(
        self, make: Callable[[], Reader], path: Path | None
    ) -> None:
        """A reader that is open sees a change of its file at once."""
        if path is None:
            return
        content = path.read_bytes()
        with make() as reader:
            before = reader.fingerprint
            path.write_bytes(content + b"more")
            try:
                after = reader.fingerprint
            finally:
                path.write_bytes(content)
            assert after.size == before.size + 4
            assert after.digest != before.digest
            assert (reader.fingerprint.size, reader.fingerprint.digest) == (
                before.size,
                before.digest,
            )

    def test_a_closed_reader_refuses_to_read(self, make: Callable[[], Reader]) -> None:
        """Closing is idempotent."""
        reader = make()
        reader.close()
        reader.close()
        with pytest.raises(ReadError, match="is closed"):
            reader.read(Box(0, 0, 5, 5), (5, 5))
        with pytest.raises(ReadError, match="is closed"):
            reader.read_many(np.array([Box(0, 0, 5, 5)]), (5, 5))
