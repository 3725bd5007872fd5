"""Train the network of ``--tissue unet`` and write it as ONNX, with its description.

    python -m training.tissue_unet.train --slides A.svs B.tif --mpp 0.25 0.5 --out FOLDER

Needs jax and onnx besides the package. Slides are read at several resolutions; what is pale there
is glass, and is not used as tissue. How many steps fit into ``--seconds`` decides the weights, so
another machine makes another network.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xxhash

from qupath_bridge.model import Box
from qupath_bridge.readers import open_reader

from .network import MEAN, STD, logits, start, to_onnx
from .scenes import scene

MPPS = (6.0, 8.0, 10.0, 12.0)


def textures(paths, mpps):
    """Return pictures of whole slides at several resolutions."""
    found = []
    for path, own in zip(paths, mpps, strict=True):
        with open_reader(path) as reader:
            width, height = reader.size
            for mpp in MPPS:
                size = max(8, round(width * own / mpp)), max(8, round(height * own / mpp))
                picture, _ = reader.read(Box(0, 0, width, height), size)
                found.append(picture)
    return found


def batch(rng, count, side, pictures):
    """Return normalised pixels (N, 3, H, W) and masks (N, 1, H, W)."""
    made = [scene(rng, side, pictures) for _ in range(count)]
    images = np.stack([image for image, _ in made]).astype(np.float32) / 255
    masks = np.stack([mask for _, mask in made])[:, None].astype(np.float32)
    return (images.transpose(0, 3, 1, 2) - MEAN) / STD, masks


def loss(weights, pixels, masks):
    """Return cross entropy and one minus Dice, added."""
    z = logits(weights, pixels)
    entropy = jnp.mean(jnp.maximum(z, 0) - z * masks + jnp.log1p(jnp.exp(-jnp.abs(z))))
    p = jax.nn.sigmoid(z)
    return entropy + 1 - (2 * (p * masks).sum() + 1) / (p.sum() + masks.sum() + 1)


@partial(jax.jit, donate_argnums=(0, 1))
def step(weights, moments, pixels, masks, rate, number):
    """Return weights and moments after one step of Adam, and the loss."""
    value, slope = jax.value_and_grad(loss)(weights, pixels, masks)
    first, second = moments
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slope)

    def moved(w, m, v):
        m, v = m / (1 - 0.9**number), v / (1 - 0.999**number)
        return w - rate * m / (jnp.sqrt(v) + 1e-8)

    return jax.tree.map(moved, weights, first, second), (first, second), value


def train(steps, seconds, seed, pictures, count=6, side=96):
    """Return the trained weights and the number of steps; ends early when the time is up."""
    rng = np.random.default_rng(seed)
    weights = start(seed)
    zeros = partial(jax.tree.map, jnp.zeros_like)
    moments, began, mean = (zeros(weights), zeros(weights)), time.monotonic(), None
    for number in range(1, steps + 1):
        done = max(number / steps, (time.monotonic() - began) / seconds)
        if done >= 1:
            break
        rate = 2e-3 * min(1, number / 50) * 0.5 * (1 + np.cos(np.pi * done))
        pixels, masks = batch(rng, count, side, pictures)
        weights, moments, value = step(weights, moments, pixels, masks, rate, float(number))
        mean = float(value) if mean is None else 0.98 * mean + 0.02 * float(value)
        if number % 50 == 0:
            print(f"{number} {time.monotonic() - began:.0f} s loss {mean:.4f}", flush=True)
    return weights, number


def description(model, slides, steps, seed):
    """Return what stands beside the ONNX file."""
    return {
        "name": "qupath-bridge tissue U-Net",
        "version": "1",
        "mpp": 10.0,
        "tile": 256,
        "overlap": 32,
        "multiple": 8,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "licence": "GPL-3.0-or-later",
        "digest": f"xxh3_128:{xxhash.xxh3_128_hexdigest(model)}",
        "note": f"Experimental: trained on made-up scenes and the textures of {len(slides)} slides "
        f"({', '.join(sorted(Path(slide).name for slide in slides))}); {steps} steps, seed {seed}.",
    }


def main():
    """Train, and write ``tissue_unet.onnx`` and ``tissue_unet.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", nargs="*", default=[], help="slides whose textures are used")
    parser.add_argument("--mpp", nargs="*", type=float, default=[], help="µm per pixel of each")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if len(given.mpp) != len(given.slides):
        parser.error("--mpp needs one number per slide")
    pictures = textures(given.slides, given.mpp)
    weights, steps = train(given.steps, given.seconds, given.seed, pictures)
    model = to_onnx(weights)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "tissue_unet.onnx").write_bytes(model)
    about = description(model, given.slides, steps, given.seed)
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    (given.out / "tissue_unet.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
