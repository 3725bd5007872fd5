"""Slides that are arrays of NumPy in files, so that tests of channels need no slide format."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from qupath_bridge import registry
from qupath_bridge.readers.memory import MemoryReader


class ArrayReader(MemoryReader):
    """Reads ``.npy`` files of shape (H, W, C) or (T, Z, H, W, C).

    Names of channels are in a file ``.json`` beside it, if there is one.
    """

    def __init__(self, path):
        names = Path(path).with_suffix(".json")
        channels = json.loads(names.read_text()) if names.exists() else None
        super().__init__(np.load(path), channels=channels, pixel_size=(0.5, 0.5), name=str(path))

    @staticmethod
    def can_open(path):
        return 3 if Path(path).suffix == ".npy" else 0


def write_array(path, pixels, channels=None):
    """Write a slide, and the names of its channels; return its path."""
    np.save(path, pixels)
    if channels is not None:
        path.with_suffix(".json").write_text(json.dumps(channels))
    return path


@contextmanager
def reading_arrays(monkeypatch):
    """Let the library read such slides while the block runs."""
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_registered", {("reader", "arrays"): ArrayReader})
        yield
