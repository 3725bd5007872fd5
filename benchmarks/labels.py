"""Patches per second of exact labelling and of other methods, as a table and as JSON.

    python benchmarks/labels.py [--side 1000] [--sample 50000] [--json FILE]

Polygons are wobbly stars over a grid of side x side boxes of 256 px, dissolved into one label.
All methods run on one core, one after the other; quote ratios, not times. The slow ones run on a
sample of the boxes, on which all results are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import uuid
from pathlib import Path

import numpy as np
import shapely

from qupath_bridge.geometry.coverage import box_coverage, coverage, grid_entries
from qupath_bridge.geometry.edges import Outlines, as_array
from qupath_bridge.model import LabelRule, ObjectType, PathObject, Roi, RoiKind
from qupath_bridge.patches.grid import Grid
from qupath_bridge.patches.planning import plan_patches

BOX = 256


def star(x, y, radius, vertices, rng):
    """Return a polygon whose radius varies by a third, on the 0.01 px grid."""
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    reach = radius * (1 + 0.3 * np.sin(3 * angle + rng.uniform(0, 6)))
    reach *= 1 + 0.02 * rng.uniform(size=vertices)
    ring = np.column_stack([x + reach * np.cos(angle), y + reach * np.sin(angle)])
    return shapely.Polygon(ring.round(2))


def stars(count, vertices, length, seed=1):
    """Return polygons that do not overlap, spread evenly over length x length pixels."""
    rng = np.random.default_rng(seed)
    across = round(count**0.5)
    cell = length / across
    return as_array(
        [
            star((k % across + 0.5) * cell, (k // across + 0.5) * cell, 0.36 * cell, vertices, rng)
            for k in range(count)
        ]
    )


def seconds(work, repeats=3):
    """Return the least CPU time of some repeats, and the result of the work."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def tree_and_intersection(boxes, polygons):
    """Measure as common scripts do: a tree, then an intersection for each pair that it finds."""
    x, y, w, h = boxes.T
    rectangles = shapely.box(x, y, x + w, y + h)
    box, polygon = shapely.STRtree(polygons).query(rectangles, predicate="intersects")
    areas = shapely.area(shapely.intersection(polygons[polygon], rectangles[box]))
    return np.bincount(box, areas, minlength=len(boxes)) / (w * h)


def compare(name, polygons, side, sample):
    """Return one row: this library's methods on all boxes, the others on a sample of them."""
    starts = np.arange(side) * BOX
    label = shapely.multipolygons(polygons)
    x, y = np.meshgrid(starts, starts)
    boxes = np.column_stack([x.ravel(), y.ravel(), np.full((x.size, 2), BOX)])
    # Without the check of the region, which a plan makes once when it reads the annotations.
    outlines = Outlines.of(as_array([label]), np.zeros(1, np.int64))
    by_label, entries = seconds(lambda: grid_entries(starts, starts, BOX, BOX, outlines))
    shares = np.zeros((side, side))
    shares[entries.row, entries.col] = entries.value
    each = Outlines.of(polygons, np.arange(len(polygons)))
    by_polygon, _ = seconds(lambda: grid_entries(starts, starts, BOX, BOX, each))
    public, _ = seconds(lambda: coverage(boxes, [label]), 1)

    chosen = np.random.default_rng(0).permutation(len(boxes))[: min(sample, len(boxes))]
    slow, expected = seconds(lambda: tree_and_intersection(boxes[chosen], polygons), 1)
    clip, clipped = seconds(lambda: box_coverage(boxes[chosen], as_array([label])), 1)
    error = np.abs(shares.ravel()[chosen] - expected).max()
    error_clip = np.abs(clipped[:, 0] - expected).max()
    rates = {
        "grid, one label": len(boxes) / by_label,
        "grid, each polygon": len(boxes) / by_polygon,
        "coverage() with its checks": len(boxes) / public,
        "prepared + clip": len(chosen) / clip,
        "STRtree + intersection": len(chosen) / slow,
    }
    return {
        "name": name,
        "boxes": len(boxes),
        "sample": len(chosen),
        "patches_per_second": rates,
        "ratio_to_tree": rates["grid, one label"] / rates["STRtree + intersection"],
        "ratio_to_clip": rates["grid, one label"] / rates["prepared + clip"],
        "largest_error": float(max(error, error_clip)),
    }


def annotations(polygons, classes="ABCDE"):
    """Return annotations with random ids."""
    rng = np.random.default_rng(5)
    return [
        PathObject(
            str(uuid.UUID(bytes=rng.bytes(16))),
            ObjectType.ANNOTATION,
            classes[k % len(classes)],
            roi=Roi(RoiKind.POLYGON, polygon),
        )
        for k, polygon in enumerate(polygons)
    ]


def plan_times(side_px=100_000, count=10_000, vertices=200):
    """Return the seconds of whole plans without pixels."""
    small = stars(count, vertices, side_px)
    rng = np.random.default_rng(2)
    field = star(side_px / 2, side_px / 2, 0.35 * side_px, 2000, rng)
    scenes = {
        f"{count:,} apart": (small, side_px),
        f"{count:,}, most inside one more": (as_array([*small[:-1], field]), side_px),
        f"{2 * count:,} apart": (stars(2 * count, vertices, side_px), side_px),
        f"{count:,} apart, side doubled": (stars(count, vertices, 2 * side_px), 2 * side_px),
    }
    times = {}
    for name, (polygons, length) in scenes.items():
        grid = Grid(BOX, BOX, BOX, BOX, length, length)
        objects = annotations(polygons)
        times[name], planned = seconds(lambda g=grid, d=objects: plan_patches(d, g, LabelRule()), 2)
        if not len(planned.table):
            raise SystemExit(f"{name}: the plan is empty, so its time is not meaningful.")
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1000, help="boxes along one side (1000)")
    parser.add_argument("--sample", type=int, default=50_000, help="boxes for the slow methods")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    length = options.side * BOX
    cases = [
        compare(f"{count:,} polygons of {vertices:,} vertices", stars(count, vertices, length),
                options.side, options.sample)
        for count, vertices in ((100, 2000), (10_000, 200))
    ]  # fmt: skip
    times = plan_times()
    for case in cases:
        print(f"\n{case['boxes']:,} boxes, {case['name']}, error {case['largest_error']:.0e}")
        slowest = case["patches_per_second"]["STRtree + intersection"]
        for way, rate in case["patches_per_second"].items():
            print(f"  {way:34s}{rate:14,.0f} p/s{rate / slowest:9.1f} x")
        print(f"  ratio to STRtree + intersection {case['ratio_to_tree']:.0f}, "
              f"to prepared + clip {case['ratio_to_clip']:.1f}")  # fmt: skip
    print("\nWhole plan of a 100,000 px square, 256 px boxes, without pixels")
    for scene, taken in times.items():
        print(f"  {scene:34s}{taken:10.2f} s")
    if options.json:
        record = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "shapely": shapely.__version__,
            "geos": shapely.geos_version_string,
            "coverage": cases,
            "plan_seconds": times,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
