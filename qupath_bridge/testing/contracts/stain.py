"""Contract of stain methods."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest

from qupath_bridge.model import PixelArray
from qupath_bridge.pixels.base import StainMethod

__all__ = ["StainContract"]


class StainContract(ABC):
    """Subclass it, and say how the method is made."""

    @abstractmethod
    def make(self) -> StainMethod:
        """Return the method."""

    @pytest.fixture
    def batch(self) -> PixelArray:
        """Return patches of stained tissue, the last one of glass."""
        rng = np.random.default_rng(5)
        batch = rng.integers((150, 60, 120), (220, 130, 190), (5, 24, 32, 3), dtype=np.uint8)
        batch[-1] = 245
        return batch

    @pytest.fixture
    def sample(self, batch: PixelArray) -> PixelArray:
        """Return a sample of the slide, shape (h, w, 3)."""
        return batch.reshape(-1, 32, 3)

    def test_stain_gives_patches_of_the_same_shape(
        self, batch: PixelArray, sample: PixelArray
    ) -> None:
        """And of the same type; of no patches none."""
        method = self.make()
        profile = method.fit(sample)
        for part in (batch, batch[:1], batch[:0]):
            found = method.apply(part, profile)
            assert found.shape == part.shape
            assert found.dtype == np.uint8

    def test_stain_of_a_patch_does_not_depend_on_the_others(
        self, batch: PixelArray, sample: PixelArray
    ) -> None:
        """In a batch as alone: the profile holds all that a slide has in common."""
        method = self.make()
        profile = method.fit(sample)
        whole = method.apply(batch, profile)
        for k in range(len(batch)):
            np.testing.assert_array_equal(method.apply(batch[k : k + 1], profile)[0], whole[k])

    def test_stain_is_the_same_from_pickled_parts(
        self, batch: PixelArray, sample: PixelArray
    ) -> None:
        """The method and the profile go to other processes."""
        method = self.make()
        profile = method.fit(sample)
        expected = method.apply(batch, profile)
        copies = pickle.loads(pickle.dumps((method, profile)))  # noqa: S301  # bytes of our own
        np.testing.assert_array_equal(copies[0].apply(batch, copies[1]), expected)
        np.testing.assert_array_equal(method.apply(batch, method.fit(sample)), expected)

    def test_stain_leaves_the_pixels_as_they_are(
        self, batch: PixelArray, sample: PixelArray
    ) -> None:
        """Neither fitting nor applying changes what it is given."""
        before = batch.copy()
        method = self.make()
        method.apply(batch, method.fit(sample.copy()))
        np.testing.assert_array_equal(batch, before)

    @pytest.mark.parametrize("value", [0, 255])
    def test_stain_of_a_sample_of_one_colour(self, batch: PixelArray, value: int) -> None:
        """Gives pixels, not an error."""
        method = self.make()
        profile = method.fit(np.full((8, 9, 3), value, np.uint8))
        assert method.apply(batch, profile).shape == batch.shape
