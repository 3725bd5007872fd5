"""Masks per second and core, and how they compare with shapely's test of each pixel's centre.

    python -m benchmarks.masks [--side 40] [--json FILE]

Polygons are wobbly stars over a grid of side x side patches of 256 px. Quote ratios, not times.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import shapely

from benchmarks.labels import BOX, stars
from qupath_bridge.codecs.png import encode_indexed
from qupath_bridge.model import Box
from qupath_bridge.patches.masks import MaskLayer

SCENES = (
    ("100 polygons of 2,000 vertices", 100, 2000),
    ("10,000 polygons of 50 vertices", 10_000, 50),
    ("4 polygons of 50,000 vertices", 4, 50_000),
)
SAMPLE = 20
"""Masks that are compared pixel by pixel."""


def by_points(polygons, box):
    """Return the last polygon, counted from 1, that has each pixel's centre."""
    xs, ys = np.meshgrid(np.arange(BOX) + box.x + 0.5, np.arange(BOX) + box.y + 0.5)
    found = np.zeros((BOX, BOX), np.int64)
    for number, polygon in enumerate(polygons, 1):
        found[shapely.contains_xy(polygon, xs, ys)] = number
    return found


def measure(name, count, vertices, side):
    """Return one row: masks per second, also as files, and the pixels that differ."""
    polygons = stars(count, vertices, side * BOX)
    values = np.arange(count) % 254 + 1
    boxes = [Box(x * BOX, y * BOX, BOX, BOX) for y in range(side) for x in range(side)]
    start = time.process_time()
    layer = MaskLayer.of(polygons, values, float(BOX))
    built = time.process_time() - start
    start = time.process_time()
    masks = [layer.pixels(box, (BOX, BOX)) for box in boxes]
    painted = time.process_time() - start
    palette = np.zeros((256, 3), np.uint8)
    start = time.process_time()
    size = sum(len(encode_indexed(mask, palette)) for mask in masks)
    encoded = time.process_time() - start
    chosen = range(0, len(boxes), max(1, len(boxes) // SAMPLE))
    wrong = 0
    for k in chosen:
        near = [n for n in range(count) if polygons[n].intersects(shapely.box(*_corners(boxes[k])))]
        truth = by_points(polygons[near], boxes[k])
        lookup = np.array([0, *values[near]])
        wrong += int((lookup[truth] != masks[k]).sum())
    return {
        "scene": name,
        "prepared_s": round(built, 3),
        "masks_per_s": round(len(boxes) / painted),
        "files_per_s": round(len(boxes) / (painted + encoded)),
        "bytes_per_file": round(size / len(boxes)),
        "pixels_that_differ": wrong,
    }


def _corners(box):
    return box.x, box.y, box.x + box.w, box.y + box.h


def main():
    """Measure all scenes, print a table, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(*scene, options.side) for scene in SCENES]
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
    if options.json:
        machine = {"machine": platform.processor() or platform.machine(), "numpy": np.__version__}
        options.json.write_text(json.dumps({**machine, "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
