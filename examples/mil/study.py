"""Make a QuPath project to try things on: real tissue, made-up patients, planted marks.

    python examples/mil/study.py mil/study

One real slide is cut into areas that share no pixel; each becomes a slide of its own, and two
neighbours are a "patient". They are not patients: all tissue is of one person. In the slides of
every second patient a group of small dark discs is drawn, so that there is something to find and
its place is known.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import shapely

import qupath_bridge as qb
from qupath_bridge.testing.slides import write_slide

SOURCE = Path(__file__).parents[2] / "tests" / "data" / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
SIDE = 256  # of a slide, in pixels
MPP = 0.5  # the source does not say its pixel size: this one is made up
PATIENTS = 44
GLASS, MOST_GLASS = 200, 0.1  # brightness, and the share of a slide that may be brighter
RADIUS, DISCS, DISC = 80, 220, 4.5  # of a group, how many, and the radius of one, in pixels
INK = np.array([55, 40, 115])


def areas(pixels: np.ndarray) -> list[np.ndarray]:
    """Return the squares (SIDE, SIDE, 3) that are full of tissue, row by row."""
    height, width = (length // SIDE for length in pixels.shape[:2])
    cut = pixels[: height * SIDE, : width * SIDE].reshape(height, SIDE, width, SIDE, 3)
    squares = cut.swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    return [square for square in squares if (square.min(axis=2) > GLASS).mean() < MOST_GLASS]


def plant(rng: np.random.Generator, area: np.ndarray) -> tuple[np.ndarray, shapely.Polygon]:
    """Return an area with a group of dark discs, and the outline of the group."""
    x, y = rng.uniform(RADIUS + 5, SIDE - RADIUS - 5, 2)
    distance, angle = RADIUS * rng.uniform(0, 0.9, DISCS) ** 0.5, rng.uniform(0, 2 * np.pi, DISCS)
    centres = np.column_stack([x + distance * np.cos(angle), y + distance * np.sin(angle)])
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    nearest = np.min([np.hypot(columns - cx, rows - cy) for cx, cy in centres], axis=0)
    opacity = 0.85 * np.clip(DISC - nearest, 0, 1)[..., None]
    mixed = (1 - opacity) * area + opacity * INK
    return mixed.round().astype(np.uint8), shapely.Point(x, y).buffer(RADIUS).simplify(0.2)


def feature(shape: shapely.Polygon, name: str) -> dict[str, Any]:
    """Return an annotation as QuPath writes it into GeoJSON."""
    about = {"objectType": "annotation", "classification": {"name": name}}
    return {"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": about}


def make(folder: Path, seed: int = 1) -> Path:
    """Write slides, regions, ``patients.csv`` and the QuPath project; return the project."""
    with openslide.OpenSlide(SOURCE) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    rng = np.random.default_rng(seed)
    rows = []
    for place in ("slides", "regions"):
        (folder / place).mkdir(parents=True)
    for number, area in enumerate(areas(pixels)[: 2 * PATIENTS]):
        patient = number // 2
        name, state = f"P{patient:02}-{'ab'[number % 2]}", ("plain", "planted")[patient % 2]
        features = [feature(shapely.box(0, 0, SIDE, SIDE), "Plain")]
        if state == "planted":
            area, outline = plant(rng, area)
            features.append(feature(outline, "Planted"))
        write_slide(folder / "slides" / f"{name}.tif", area, mpp=MPP, tile=64)
        regions = {"type": "FeatureCollection", "features": features}
        (folder / "regions" / f"{name}.geojson").write_text(json.dumps(regions), encoding="utf-8")
        rows.append((name, f"P{patient:02}", state))
    table = folder / "patients.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("slide", "patient", "state"), *rows])
    made = qb.create_project(
        folder / "project",
        folder / "slides",
        annotations=folder / "regions",
        metadata=table,
        classes=["Plain", "Planted"],
    )
    return made.path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(make(given.folder, given.seed))
