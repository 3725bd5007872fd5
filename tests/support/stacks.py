"""Slides of channels as NumPy files, and a project over them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from qupath_bridge import registry
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.testing.projects import Image, build_project

NAMES = ("DAPI", "CD3", "CD8", "AF")
COLORS = ((0, 0, 255), (255, 128, 0), (0, 255, 0), (255, 255, 255))
SIZE = (320, 240)


def read_stack(path, **_):
    """Open a NumPy file (H, W, C) or (T, Z, H, W, C) as a slide of 0.5 µm per pixel."""
    pixels = np.load(path)
    names = [f"Channel {n + 1}" for n in range(pixels.shape[-1])]
    fine = pixels if pixels.ndim == 5 else pixels[None, None]
    levels = [fine[:, :, ::4, ::4]]
    return MemoryReader(fine, levels=levels, channels=names, pixel_size=(0.5, 0.5), name=str(path))


def register():
    """Make the reader known as ``stack``."""
    registry.register("reader", "stack", read_stack)


def stack(dtype="uint16", channels=4, seed=1, planes=None, size=SIZE):
    """Return pixels with a background of noise and blobs that differ from channel to channel."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width]
    values = rng.normal(200, 10, (*(planes or ()), height, width, channels))
    for channel in range(channels):
        for _ in range(6):
            middle = rng.uniform(0.1, 0.9, 2) * size
            reach = (x - middle[0]) ** 2 + (y - middle[1]) ** 2
            values[..., channel] += rng.uniform(300, 3000) * np.exp(-reach / 800)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (values / 1000).astype(kind)
    return np.clip(values if kind.itemsize > 1 else values / 16, 0, np.iinfo(kind).max).astype(kind)


@dataclass(frozen=True)
class StackStudy:
    project: Path
    slide: Path
    pixels: np.ndarray


def stack_study(folder, pixels=None, **options):
    """Write a slide and a project over it, with two annotated halves."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = stack() if pixels is None else pixels
    slide = folder / "stack.npy"
    np.save(slide, pixels)
    height, width, count = pixels.shape[-3:]
    regions = [
        ("Tumor", shapely.box(0, 0, width // 2, height)),
        ("Stroma", shapely.box(width // 2, 0, width, height)),
    ]
    channels = [
        (NAMES[n] if n < len(NAMES) else f"Marker {n + 1}", COLORS[n % len(COLORS)])
        for n in range(count)
    ]
    planes = pixels.shape[:2] if pixels.ndim == 5 else (1, 1)
    image = Image(
        slide, regions, size=(width, height), channels=channels, size_z=planes[1],
        size_t=planes[0], pixel_type=pixels.dtype.name.upper(),
        image_type="FLUORESCENCE", **options,
    )  # fmt: skip
    return StackStudy(build_project(folder / "project", [image]), slide, pixels)
