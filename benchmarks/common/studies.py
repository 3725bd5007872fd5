"""A slide with its QuPath project, and the same regions and boxes for programs without QuPath."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

import qupath_bridge as qb
from qupath_bridge.testing.projects import Image, Region, build_project

from . import slides

INNER = 0.5  # the part of a blob's radius that is tumour


@dataclass(frozen=True)
class Study:
    """Files of one slide.

    ``boxes`` are the planned patches, shape (N, 4), slide pixels; the file ``boxes_file`` has them
    as JSON, and ``regions_file`` has the label regions as GeoJSON.
    """

    slide: Path
    project: Path
    regions_file: Path
    boxes_file: Path
    boxes: np.ndarray

    def __len__(self):
        return len(self.boxes)


def make_study(folder, side, share=slides.SHARE):
    """Return a study from a folder of earlier ones; make what is missing.

    The slide keeps the name that its arguments give it. The project is made anew each time.
    """
    name = f"{side}-{round(100 * share)}"
    folder = Path(folder) / name
    slide = folder / f"{name}.svs"
    if not slide.exists():
        slides.write_slide(slide, side, share)
    regions = label_regions(side, share)
    project = folder / "project" / "project.qpproj"
    if not project.exists():
        image = Image(slide, [Region(*each) for each in regions], pixel_size=slides.MPP)
        project = build_project(folder / "project", [image])
    (plan,) = qb.plan(project)
    boxes = np.asarray(plan.table.boxes)
    regions_file, boxes_file = folder / "regions.geojson", folder / "boxes.json"
    regions_file.write_text(json.dumps(as_geojson(regions)), encoding="utf-8")
    boxes_file.write_text(json.dumps(boxes[:, :2].tolist()), encoding="utf-8")
    return Study(slide, project, regions_file, boxes_file, boxes)


def label_regions(side, share=slides.SHARE):
    """Return classes and polygons that do not overlap: tumour inside stroma in each blob."""
    if share >= 1:
        return [("Tumor", shapely.box(0, 0, side, side))]
    regions = []
    for blob in slides.blobs(side, share):
        inner = blob.outline(INNER)
        regions += [("Tumor", inner), ("Stroma", blob.outline().difference(inner))]
    return regions


def as_geojson(regions):
    """Return regions as QuPath exports them, as far as a plain script needs."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": shapely.geometry.mapping(polygon),
                "properties": {"classification": {"name": name}},
            }
            for name, polygon in regions
        ],
    }
