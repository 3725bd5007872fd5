import colorsys

import numpy as np
import pytest

from qupath_bridge.pixels.quality import mean_saturation


def test_mean_saturation_is_that_of_hsv():
    batch = np.random.default_rng(2).integers(0, 256, (3, 11, 9, 3), dtype=np.uint8)
    batch[2] = 0
    found = mean_saturation(batch, 0.5)
    for patch, value in zip(batch, found, strict=True):
        each = [colorsys.rgb_to_hsv(*(pixel / 255).tolist())[1] for pixel in patch.reshape(-1, 3)]
        assert value == pytest.approx(np.mean(each), abs=1e-12)
    assert found[2] == 0
