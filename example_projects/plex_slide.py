"""Writes the slide of ``plex/``: made-up tissue in five fluorescence channels of 16 bit.

A program made every pixel up: nests of a tumour, the stroma between them, and immune cells. It is
there to show how slides of channels are exported, and says nothing about biology.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import shapely
import tifffile

HERE = Path(__file__).absolute().parent
NAME = "plex.ome.tif"
SIZE = 768, 576
MPP = 0.5
CHANNELS = {
    "DAPI": (0, 96, 255),
    "CD3": (0, 255, 0),
    "CD20": (255, 0, 255),
    "Ki67": (255, 255, 0),
    "PanCK": (255, 72, 0),
}
OFFSET, STEP = 96, 16


FEATURES = json.loads((HERE / "plex_regions.json").read_text(encoding="utf-8"))["features"]


def shapes(name: str) -> shapely.Geometry:
    """Return what the regions of a class cover, QuPath pixels."""
    drawn = (each for each in FEATURES if each["properties"]["classification"]["name"] == name)
    return shapely.union_all([shapely.geometry.shape(each["geometry"]) for each in drawn])


def places(shape: shapely.Geometry, gap: float, rng: np.random.Generator) -> np.ndarray:
    """Return points (N, 2) inside a shape that are about ``gap`` pixels apart."""
    left, top, right, bottom = shape.bounds
    x, y = np.meshgrid(np.arange(left, right, gap), np.arange(top, bottom, gap))
    x[1::2] += gap / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1) + rng.uniform(-gap / 3, gap / 3, (x.size, 2))
    return points[shapely.contains_xy(shape, *points.T)]


def draw(plane: np.ndarray, center: np.ndarray, radius: float, light: float, ring: bool, *,
         turn: float = 0.0, stretch: float = 1.0) -> None:  # fmt: skip
    """Add a soft disc, or a soft ring around it, to a plane (H, W)."""
    reach = int(radius * stretch * 2.2) + 2
    x, y = (int(value) for value in center)
    left, top = max(x - reach, 0), max(y - reach, 0)
    part = plane[top : y + reach, left : x + reach]
    if not part.size:
        return
    down, right = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
    dx, dy = right - center[0], down - center[1]
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    distance = np.hypot(along / stretch, across) / radius
    shape = np.exp(-(((distance - 1.15) / 0.3) ** 2)) if ring else np.exp(-(distance**4))
    np.maximum(part, light * shape, out=part)


def pixels() -> np.ndarray:
    """Return the slide, shape (C, H, W), uint16: multiples of 16, so that the file is small."""
    rng = np.random.default_rng(11)
    planes = np.zeros((len(CHANNELS), SIZE[1], SIZE[0]))
    dapi, cd3, cd20, ki67, panck = planes
    tissue, nests, follicle = (shapes(name) for name in ("Stroma", "Tumor", "Immune cells"))
    stroma = shapely.difference(tissue, shapely.union_all([nests, follicle]))
    for point in places(nests, 17, rng):
        light = rng.uniform(0.6, 1)
        draw(dapi, point, rng.uniform(5.5, 7), 2400 * light, False, stretch=rng.uniform(1, 1.25))
        draw(panck, point, 7.5, 2100 * rng.uniform(0.6, 1), True, stretch=1.1)
        if rng.random() < 0.22:
            draw(ki67, point, 6, 1900 * light, False)
    for point in places(follicle, 11, rng):
        draw(dapi, point, 4, 2700 * rng.uniform(0.7, 1), False)
        draw(cd20, point, 4.5, 1700 * rng.uniform(0.5, 1), True)
    for point in places(stroma, 24, rng):
        turn = 0.6 + rng.normal(0, 0.3)
        if rng.random() < 0.25:
            draw(dapi, point, 4, 2600 * rng.uniform(0.7, 1), False)
            draw(cd3, point, 4.8, 2000 * rng.uniform(0.6, 1), True)
        else:
            light = 1700 * rng.uniform(0.5, 1)
            draw(dapi, point, 3.2, light, False, turn=turn, stretch=2.4)
    inside = shapely.contains_xy(tissue, *np.mgrid[: SIZE[1], : SIZE[0]][::-1])
    planes += OFFSET + inside * np.array([20, 60, 50, 30, 70])[:, None, None]
    planes += rng.normal(0, 1, planes.shape) * np.sqrt(planes) * 0.4
    return (np.rint(planes / STEP) * STEP).clip(0, 65535).astype(np.uint16)


def halved(planes: np.ndarray) -> np.ndarray:
    """Return the next level: means of 2 × 2 pixels, rounded half up."""
    count, height, width = planes.shape
    parts = planes.reshape(count, height // 2, 2, width // 2, 2).astype(np.uint32)
    return ((parts.sum(axis=(2, 4)) + 2) // 4).astype(np.uint16)


def write(path: Path) -> None:
    """Write the slide: OME-TIFF in tiles, two levels, compressed without loss."""
    planes = pixels()
    tiles = {
        "tile": (128, 128), "compression": "zlib", "compressionargs": {"level": 9},
        "photometric": "minisblack",
    }  # fmt: skip
    packed = [(r << 24 | g << 16 | b << 8 | 255) for r, g, b in CHANNELS.values()]
    metadata = {
        "axes": "CYX",
        "PhysicalSizeX": MPP, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": MPP, "PhysicalSizeYUnit": "µm",
        "Channel": {
            "Name": list(CHANNELS),
            "Color": [number - (1 << 32) * (number >= 1 << 31) for number in packed],
        },
    }  # fmt: skip
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(planes, metadata=metadata, subifds=1, **tiles)
        file.write(halved(planes), subfiletype=1, metadata=None, **tiles)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
