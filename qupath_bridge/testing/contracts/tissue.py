"""Contract of tissue methods."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest

from qupath_bridge.model import PixelArray
from qupath_bridge.pixels.base import TissueMethod
from qupath_bridge.pixels.tissue import tissue_probabilities, tissue_shares

__all__ = ["TissueContract"]


class TissueContract(ABC):
    """Subclass it, and say how the method is made."""

    @abstractmethod
    def make(self) -> TissueMethod:
        """Return the method."""

    @pytest.fixture
    def thumbnail(self) -> PixelArray:
        """Return a thumbnail: glass on the left, stained tissue on the right."""
        rng = np.random.default_rng(3)
        pixels = rng.integers(238, 250, (90, 120, 3), dtype=np.uint8)
        pixels[:, 60:] = rng.integers((150, 60, 120), (220, 130, 190), (90, 60, 3), dtype=np.uint8)
        return pixels

    @pytest.mark.parametrize("mpp", [8.0, 0.5, None])
    def test_tissue_map_has_probabilities_of_the_thumbnails_shape(
        self, thumbnail: PixelArray, mpp: float | None
    ) -> None:
        """With and without a pixel size."""
        found = self.make()(thumbnail, mpp)
        assert found.shape == thumbnail.shape[:2]
        assert np.issubdtype(found.dtype, np.floating)
        assert ((found >= 0) & (found <= 1)).all()

    def test_tissue_is_more_probable_than_glass(self, thumbnail: PixelArray) -> None:
        """On average over each half."""
        found = tissue_probabilities(thumbnail, self.make(), 8.0)
        boxes = np.array([[0, 0, 60, 90], [60, 0, 60, 90]])
        left, right = tissue_shares(found, 1.0, boxes)
        assert right > left

    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_tissue_map_of_one_colour(self, value: int) -> None:
        """Nothing to tell apart, and no error; also for a single pixel."""
        for shape in ((9, 7, 3), (1, 1, 3)):
            found = self.make()(np.full(shape, value, np.uint8), 8.0)
            assert found.shape == shape[:2]
            assert ((found >= 0) & (found <= 1)).all()

    def test_tissue_map_is_the_same_each_time(self, thumbnail: PixelArray) -> None:
        """Also from a pickled method; the thumbnail is not changed."""
        method = self.make()
        before = thumbnail.copy()
        first = method(thumbnail, 8.0).copy()
        np.testing.assert_array_equal(method(thumbnail, 8.0), first)
        copy = pickle.loads(pickle.dumps(method))  # noqa: S301  # bytes of our own
        np.testing.assert_array_equal(copy(thumbnail, 8.0), first)
        np.testing.assert_array_equal(thumbnail, before)
