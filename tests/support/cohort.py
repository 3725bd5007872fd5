"""A cohort to look at: real slides, and one slide as five hospitals would have scanned it.

``python -m tests.support.cohort FOLDER`` writes it: ``slides/``, a plain folder of slides, and
``labels.csv``, a table beside it. The hospitals are synthetic: a colour cast per channel and a
brightness, the same each time.
"""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import openslide

from qupath_bridge.testing.slides import write_slide

ROOT = Path(__file__).parents[2]
REAL = {
    ROOT / "example_projects" / "skin" / "CMU-1-Small-Region.svs": ("skin", "reference"),
    ROOT / "tests" / "data" / "slides" / "tcga-cr-7395-01a-01-ts1.svs": ("head and neck", "TCGA"),
    ROOT / "tests" / "data" / "slides" / "petebankhead_OS-2-ndpi.ome.tif": ("unknown", "OS-2"),
}
"""Diagnosis and hospital of each real slide; invented, but for where they come from."""

CASTS = {
    "north": ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "pink": ((1.0, 0.86, 0.97), (0.9, 1.25, 1.0)),
    "blue": ((0.86, 0.9, 1.0), (1.25, 1.1, 0.85)),
    "yellow": ((1.0, 0.97, 0.82), (1.0, 1.05, 1.35)),
    "dark": ((0.78, 0.76, 0.8), (1.15, 1.15, 1.1)),
}
"""White point of each hospital, and exponent of its optical density, for red, green and blue."""
PLACE, SIDE, MPP = (600, 900), 1280, 0.499
"""Where the part of the slide begins, pixels of its side, and µm per pixel."""


def cast(pixels, white, density):
    """Return pixels as another hospital would show them.

    ``white`` scales what is brightest, ``density`` the stains: the optical density of each
    channel is multiplied by it.
    """
    transmitted = np.clip(pixels / 243.0, 1 / 255, 1.0) ** np.array(density)
    return np.clip(np.rint(transmitted * 243.0 * np.array(white)), 0, 255).astype(np.uint8)


def write_hospitals(folder, names=tuple(CASTS), place=PLACE, side=SIDE):
    """Write one slide per hospital; return the paths by the name of the hospital."""
    with openslide.OpenSlide(next(iter(REAL))) as slide:
        pixels = np.asarray(slide.read_region(place, 0, (side, side)).convert("RGB"))
    return {
        name: write_slide(
            Path(folder) / f"hospital-{name}.tiff", cast(pixels, *CASTS[name]), mpp=MPP, levels=3
        )
        for name in names
    }


def write_cohort(folder):
    """Write the real slides, those of the hospitals, and ``labels.csv``; return its path."""
    slides = Path(folder) / "slides"
    slides.mkdir(parents=True)
    rows = []
    for path, (diagnosis, hospital) in REAL.items():
        shutil.copy(path, slides / path.name)
        rows.append((path.name, diagnosis, hospital))
    for name, path in write_hospitals(slides).items():
        rows.append((path.name, "skin", name))
    table = slides.parent / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("slide", "diagnosis", "hospital"))
        writer.writerows(rows)
    return table


if __name__ == "__main__":
    print(write_cohort(sys.argv[1]))
