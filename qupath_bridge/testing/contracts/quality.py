"""Contract of quality measures."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest

from qupath_bridge.model import PixelArray
from qupath_bridge.pixels.base import QualityMeasure

__all__ = ["QualityContract"]


class QualityContract(ABC):
    """Subclass it, and say what the measure is."""

    @abstractmethod
    def measure(self) -> QualityMeasure:
        """Return the measure."""

    @pytest.fixture
    def batch(self) -> PixelArray:
        """Return patches: noise, and one each of black, grey and white."""
        batch = np.random.default_rng(4).integers(0, 256, (6, 40, 32, 3), dtype=np.uint8)
        batch[3:] = np.array([0, 128, 255], np.uint8)[:, None, None, None]
        return batch

    @pytest.mark.parametrize("mpp", [0.5, None])
    def test_quality_is_one_number_per_patch(self, batch: PixelArray, mpp: float | None) -> None:
        """Finite, whatever the patch shows."""
        found = self.measure()(batch, mpp)
        assert found.shape == (6,)
        assert found.dtype == np.float64
        assert np.isfinite(found).all()

    def test_quality_of_a_patch_does_not_depend_on_the_others(self, batch: PixelArray) -> None:
        """In a batch as alone, in any order."""
        measure = self.measure()
        whole = measure(batch, 0.5)
        alone = [float(measure(batch[k : k + 1], 0.5)[0]) for k in range(len(batch))]
        assert whole.tolist() == alone
        assert measure(batch[::-1], 0.5).tolist() == alone[::-1]

    def test_quality_of_no_patches(self, batch: PixelArray) -> None:
        """Is an array of length 0."""
        assert self.measure()(batch[:0], 0.5).shape == (0,)

    def test_quality_leaves_the_pixels_as_they_are(self, batch: PixelArray) -> None:
        """Also from a pickled measure."""
        before = batch.copy()
        copy = pickle.loads(pickle.dumps(self.measure()))  # noqa: S301  # bytes of our own
        assert copy(batch, 0.5).tolist() == self.measure()(batch, 0.5).tolist()
        np.testing.assert_array_equal(batch, before)
