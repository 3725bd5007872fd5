"""The programs that make the network of ``--tissue unet`` still run."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from training.tissue_unet.scenes import scene


def test_scenes_are_made_of_a_seed():
    texture = np.random.default_rng(1).integers(60, 200, (40, 50, 3), dtype=np.uint8)
    shares = []
    for seed in range(30):
        image, mask = scene(np.random.default_rng(seed), 64, [texture])
        again, _ = scene(np.random.default_rng(seed), 64, [texture])
        assert (image.shape, image.dtype, mask.shape) == ((64, 64, 3), np.uint8, (64, 64))
        np.testing.assert_array_equal(image, again)
        shares.append(mask.mean())
    assert min(shares) == 0
    assert max(shares) > 0.8


@pytest.mark.slow
def test_two_steps_make_a_network_that_onnxruntime_runs_alike():
    jax = pytest.importorskip("jax", reason="JAX is not installed: pip install jax")
    import onnxruntime

    from training.tissue_unet.network import logits, to_onnx
    from training.tissue_unet.train import batch, train

    weights, steps = train(3, 1000, 1, (), count=2, side=32)
    assert steps == 3
    pixels, _ = batch(np.random.default_rng(2), 1, 48, ())
    expected = np.asarray(jax.nn.sigmoid(logits(weights, pixels)))
    session = onnxruntime.InferenceSession(to_onnx(weights), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"pixels": pixels.astype(np.float32)})
    np.testing.assert_allclose(found, expected, atol=1e-5)
