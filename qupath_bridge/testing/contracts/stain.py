"""Contract of stain methods."""

from __future__ import annotations

import json
import pickle
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytest

from qupath_bridge.model import PixelArray
from qupath_bridge.pixels.base import StainMethod, StainSample

__all__ = ["StainContract"]

WHITE = np.full(3, 245.0)


class StainContract(ABC):
    """Subclass it, and say how the method is made."""

    @abstractmethod
    def make(self) -> StainMethod:
        """Return the method."""

    @pytest.fixture
    def batch(self) -> PixelArray:
        """Return patches of two stains in changing amounts, the last one of glass."""
        rng = np.random.default_rng(5)
        amounts = rng.uniform(0.2, 1.5, (5, 24, 32, 2)) * rng.integers(0, 2, (5, 24, 32, 2))
        density = amounts @ np.array([[0.62, 0.68, 0.38], [0.15, 0.85, 0.5]])
        batch: PixelArray = np.rint(245 * np.exp(-density)).astype(np.uint8)
        batch[-1] = 245
        return batch

    @pytest.fixture
    def sample(self, batch: PixelArray) -> StainSample:
        """Return a sample of the slide."""
        vectors = ((0.6, 0.7, 0.4), (0.1, 0.9, 0.4))
        return StainSample(batch.reshape(-1, 32, 3), WHITE, vectors, (245.0, 245.0, 245.0))

    @pytest.fixture
    def fitted(self, sample: StainSample) -> tuple[StainMethod, Any, Any]:
        """Return the method, the profile of the sample, and the target."""
        method = self.make()
        profile = method.fit(sample)
        return method, profile, method.standard(profile)

    def test_stain_gives_patches_of_the_same_shape(
        self, batch: PixelArray, fitted: tuple[StainMethod, Any, Any]
    ) -> None:
        """And of the same type; of no patches none. What is kept is the same as before."""
        method, profile, target = fitted
        for part in (batch, batch[:1], batch[:0]):
            found, kept = method.apply(part, profile, target)
            assert found.shape == part.shape
            assert found.dtype == np.uint8
            assert kept.shape == (len(part),)
            np.testing.assert_array_equal(found[kept], part[kept])

    @pytest.mark.parametrize("augmented", [False, True])
    def test_stain_of_a_patch_does_not_depend_on_the_others(
        self, batch: PixelArray, fitted: tuple[StainMethod, Any, Any], augmented: bool
    ) -> None:
        """In a batch as alone: the profile holds all that a slide has in common."""
        method, profile, target = fitted
        draws = np.random.default_rng(1).uniform(-0.1, 0.1, (5, 4)) if augmented else None
        whole, kept = method.apply(batch, profile, target, draws)
        for k in range(len(batch)):
            draw = None if draws is None else draws[k : k + 1]
            alone, alone_kept = method.apply(batch[k : k + 1], profile, target, draw)
            np.testing.assert_array_equal(alone[0], whole[k])
            assert alone_kept.tolist() == [kept[k]]

    def test_stain_is_the_same_from_stored_parts(
        self, batch: PixelArray, sample: StainSample, fitted: tuple[StainMethod, Any, Any]
    ) -> None:
        """The method goes to other processes; the run keeps profile and target as JSON."""
        method, profile, target = fitted
        expected, _ = method.apply(batch, profile, target)
        copy = pickle.loads(pickle.dumps(method))  # noqa: S301  # bytes of our own
        stored = json.loads(json.dumps([profile, target], allow_nan=False))
        np.testing.assert_array_equal(copy.apply(batch, *stored)[0], expected)
        np.testing.assert_array_equal(method.apply(batch, method.fit(sample), target)[0], expected)
        assert isinstance(method.version, str)

    def test_stain_leaves_the_pixels_as_they_are(
        self, batch: PixelArray, sample: StainSample, fitted: tuple[StainMethod, Any, Any]
    ) -> None:
        """Neither fitting nor applying changes what it is given."""
        method, profile, target = fitted
        before, pixels = batch.copy(), sample.pixels.copy()
        method.apply(batch, profile, target)
        method.fit(sample)
        np.testing.assert_array_equal(batch, before)
        np.testing.assert_array_equal(sample.pixels, pixels)

    @pytest.mark.parametrize("value", [0, 255])
    @pytest.mark.parametrize("rows", [0, 8])
    def test_stain_of_a_sample_of_one_colour(
        self, batch: PixelArray, value: int, rows: int
    ) -> None:
        """Gives a profile that can be used, or None, not an error."""
        method = self.make()
        profile = method.fit(StainSample(np.full((rows, 9, 3), value, np.uint8), WHITE))
        if profile is not None:
            found, _ = method.apply(batch, profile, method.standard(profile))
            assert found.shape == batch.shape
