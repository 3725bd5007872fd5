"""Contract of tissue methods."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import pytest

from qupath_bridge.model import RGB_CHANNELS, FloatArray, PixelArray
from qupath_bridge.pixels.base import SlideView, TissueMap, TissueMethod
from qupath_bridge.pixels.tissue import find_tissue, tissue_shares

__all__ = ["TissueContract", "view_of"]


def view_of(pixels: PixelArray, mpp: float | None = 10.0, scale: int = 20) -> SlideView:
    """Return the view of a slide that looks so on its map.

    Parameters
    ----------
    pixels : array, shape (h, w, C)
        RGB if they are three channels of uint8.
    mpp : float or None
        µm per pixel of the map.
    scale : int
        QuPath pixels per pixel of the map.
    """
    height, width, count = pixels.shape
    is_rgb = count == 3 and pixels.dtype == np.uint8

    def read(indices: Sequence[int] | None = None) -> PixelArray:
        return pixels if indices is None else pixels[..., list(indices)]

    return SlideView(
        name="a.svs",
        entry_id="1",
        slide_id="1_a.svs",
        size=(width * scale, height * scale),
        shape=(height, width),
        mpp=mpp,
        read=read,
        channels=RGB_CHANNELS if is_rgb else tuple(f"Channel {n + 1}" for n in range(count)),
        is_rgb=is_rgb,
    )


class TissueContract(ABC):
    """Subclass it, and say how the method is made."""

    @abstractmethod
    def make(self) -> TissueMethod:
        """Return the method."""

    def view(self, pixels: PixelArray, mpp: float | None) -> SlideView:
        """Return the view of a slide; override it to give it what the method needs."""
        return view_of(pixels, mpp)

    @pytest.fixture
    def pixels(self) -> PixelArray:
        """Return a map: glass on the left, stained tissue on the right."""
        rng = np.random.default_rng(3)
        # The noise of glass on a map is mostly grey: it is the mean of many pixels.
        grey = rng.integers(238, 250, (90, 120, 1), dtype=np.uint8)
        pixels = grey + rng.integers(0, 3, (90, 120, 3), dtype=np.uint8)
        pixels[:, 60:] = rng.integers((150, 60, 120), (220, 130, 190), (90, 60, 3), dtype=np.uint8)
        return pixels

    @pytest.mark.parametrize("mpp", [10.0, 0.5, None])
    def test_tissue_has_the_kind_that_the_threshold_says(
        self, pixels: PixelArray, mpp: float | None
    ) -> None:
        """A mask without a threshold, probabilities with one; with and without a pixel size."""
        method = self.make()
        found = method(self.view(pixels, mpp))
        assert (found.values is None) != (found.shapes is None)
        if method.threshold is None:
            assert found.values is None or found.values.dtype == np.bool_
        else:
            assert found.values is not None
            assert np.issubdtype(found.values.dtype, np.floating)

    def test_factory_has_the_threshold_of_the_method(self) -> None:
        """Options are checked before a method is made."""
        method = self.make()
        assert type(method).threshold == method.threshold

    def test_tissue_is_right_of_the_glass(self, pixels: PixelArray) -> None:
        """By its share of each half."""
        view = self.view(pixels, 10.0)
        left, right = self._shares(view)
        assert right > 0.5 > left

    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_tissue_of_one_colour(self, value: int) -> None:
        """Nothing to tell apart, and no error; also for a single pixel."""
        for shape in ((90, 120, 3), (1, 1, 3)):
            view = self.view(np.full(shape, value, np.uint8), 10.0)
            find_tissue(self.make(), view)

    def test_tissue_is_the_same_each_time(self, pixels: PixelArray) -> None:
        """Also from a pickled method; the pixels are not changed."""
        method, view = self.make(), self.view(pixels, 10.0)
        before = pixels.copy()
        first = method(view)
        copy = pickle.loads(pickle.dumps(method))  # noqa: S301  # bytes of our own
        for again in (method(view), copy(view)):
            _assert_equal(again, first)
        np.testing.assert_array_equal(pixels, before)

    def _shares(self, view: SlideView) -> FloatArray:
        width, height = view.size
        found = find_tissue(self.make(), view)
        if found.mask is None:
            import shapely

            union = shapely.union_all(list(found.shapes or ()))
            halves = [shapely.box(x, 0, x + width // 2, height) for x in (0, width // 2)]
            return np.array([union.intersection(half).area / half.area for half in halves])
        scale = (found.mask.shape[1] / width, found.mask.shape[0] / height)
        boxes = np.array([[0, 0, width // 2, height], [width // 2, 0, width // 2, height]])
        return tissue_shares(found.mask, scale, boxes)


def _assert_equal(found: TissueMap, expected: TissueMap) -> None:
    assert (found.note, found.made_from) == (expected.note, expected.made_from)
    if expected.values is not None:
        np.testing.assert_array_equal(found.values, expected.values)
    else:
        assert list(found.shapes or ()) == list(expected.shapes or ())
