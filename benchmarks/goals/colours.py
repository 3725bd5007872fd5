"""Quality measures and stain normalisation of patches."""

import importlib.util
from functools import partial

import numpy as np

from qupath_bridge import registry
from qupath_bridge.pixels.base import StainSample

from .findings import Finding
from .parts import Parts

PEER_PATCHES = 20
WHITE = np.full(3, 239.0)
BATCH = 50
SMALL = 1024  # side of a slide of 16 patches: the start of the process


def quality(bench):
    """Measure what the preset ``standard`` adds to a JPEG export, and each measure alone."""
    study, small = bench.full(bench.side), bench.study(SMALL, 1.0)
    words = ("--format", "jpeg", "--workers", "1")
    pixels = np.stack(Parts(study).pixels)
    works = {
        "plain": lambda: bench.export(study, *words),
        "standard": lambda: bench.export(study, *words, "--qc", "standard"),
        "start": lambda: bench.export(small, *words),
    }
    for name in registry.names("quality"):
        works[name] = partial(_in_batches, registry.load("quality", name), pixels)
    spent = {name: each.cpu for name, each in bench.best(works).items()}
    micros = {name: 1e6 * spent[name] / len(pixels) for name in registry.names("quality")}
    patch = (spent["plain"] - spent["start"]) / (len(study) - len(small))
    more = (spent["standard"] - spent["plain"]) / len(study)
    note = ", ".join(f"{name} {value:.0f}" for name, value in micros.items())
    return [
        Finding("what --qc standard adds to a patch of a JPEG export", more / max(patch, 1e-9), "",
                0.25, True, note=f"µs per patch alone: {note}", numbers={**spent, **micros}),
    ]  # fmt: skip


def _in_batches(measure, pixels):
    for start in range(0, len(pixels), BATCH):
        measure(pixels[start : start + BATCH], 0.5)


def stain(bench):
    """Measure how quickly colours are changed, beside torchstain where it is installed."""
    pixels = np.stack(Parts(bench.full(bench.side)).pixels)
    sample = StainSample(pixels[:64].reshape(-1, pixels.shape[2], 3), WHITE)
    works = {}
    for name in ("macenko", "reinhard"):
        method = registry.create("stain", name)
        profile = method.fit(sample)
        works[name] = partial(method.apply, pixels, profile, method.standard(profile))
    counts = dict.fromkeys(works, len(pixels))
    if importlib.util.find_spec("torchstain"):
        from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

        peer = NumpyMacenkoNormalizer()
        works["torchstain"] = lambda: [
            peer.normalize(patch, stains=False) for patch in pixels[:PEER_PATCHES]
        ]
        counts["torchstain"] = min(PEER_PATCHES, len(pixels))
    rates = {name: counts[name] / each.cpu for name, each in bench.best(works).items()}
    note = "torchstain is not installed"
    if "torchstain" in rates:
        ratio = rates["macenko"] / rates["torchstain"]
        note = f"{ratio:.0f} x torchstain, which fits each patch"
    return [
        Finding("stain macenko, 256 px", rates["macenko"], " p/s", 1000, note=note, numbers=rates),
        Finding("stain reinhard, 256 px", rates["reinhard"], " p/s", 1000),
    ]
