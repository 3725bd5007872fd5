import dataclasses

import numpy as np
import pytest
from PIL import Image

from qupath_bridge import registry
from qupath_bridge.model import ObjectType, PathObject
from qupath_bridge.qupath.rois import make_roi
from qupath_bridge.testing.contracts.tissue import TissueContract, view_of


class TestOtsu(TissueContract):
    def make(self):
        return registry.create("tissue", "otsu")


class TestSaturation(TissueContract):
    def make(self):
        return registry.create("tissue", "saturation")


class TestDoublePass(TissueContract):
    def make(self):
        return registry.create("tissue", "double-pass")


class TestUnet(TissueContract):
    def make(self):
        return registry.create("tissue", "unet")


class TestSignal(TissueContract):
    def make(self):
        return registry.create("tissue", "signal")

    @pytest.fixture
    def pixels(self):
        rng = np.random.default_rng(3)
        pixels = rng.normal(120, 8, (90, 120, 2))
        pixels[:, 60:, 1] += 300
        return pixels.astype(np.uint16)


class TestSignalOfRgb(TestSignal):
    """A picture of fluorescence in RGB: bright on black."""

    @pytest.fixture
    def pixels(self):
        rng = np.random.default_rng(4)
        pixels = rng.integers(0, 9, (90, 120, 3), dtype=np.uint8)
        pixels[:, 60:, 2] += 90
        return pixels


class TestQuPath(TissueContract):
    def make(self):
        return registry.create("tissue", "qupath:Tissue")

    def view(self, pixels, mpp):
        import shapely

        view = view_of(pixels, mpp)
        right = shapely.box(view.size[0] / 2, 0, *view.size)
        drawn = PathObject("1", ObjectType.ANNOTATION, "Tissue", roi=make_roi(right))
        return dataclasses.replace(view, annotations=(drawn,))


class TestMask(TissueContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def make(self):
        return registry.create("tissue", f"mask:{self.folder}")

    def view(self, pixels, mpp):
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[:, mask.shape[1] // 2 :] = 255
        Image.fromarray(mask).save(self.folder / "a.png")
        return view_of(pixels, mpp)
