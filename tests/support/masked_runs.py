"""A turned slide with regions and a cell, and exports of it with masks."""

import io
import shutil

import numpy as np
import shapely
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.model import ObjectType
from qupath_bridge.outputs import Location, open_output
from qupath_bridge.testing.projects import Image, Region, build_project, rotated
from qupath_bridge.testing.slides import marker_image, write_slide

CONTAINERS = ("folder", "tar", "h5", "zarr")
TUMOR = shapely.Point(70.3, 60.2).buffer(44.7).difference(shapely.Point(64.1, 55.3).buffer(9.2))
TUMOR = shapely.transform(TUMOR, lambda points: points.round(2))  # as QuPath's data are read
STROMA = shapely.Polygon([(90.2, 20.1), (189.7, 33.3), (150.4, 120.8)])
FOLD = shapely.box(30.2, 70.3, 44.9, 140.6)
REGIONS = (
    Region("Tumor", TUMOR), Region("Stroma", STROMA), Region("Ignore*", FOLD),
    Region(None, shapely.box(0, 0, 30, 30)),
    Region("Tumor", shapely.box(130.2, 60.1, 141.8, 71.9), object_type=ObjectType.CELL,
           nucleus=shapely.box(134.1, 63.3, 138.3, 68.4)),
)  # fmt: skip
OPTIONS = {
    "size": 50, "stride": 40, "edge": "pad", "rule": "any", "background": "Other",
    "max_excluded_share": 1, "pixel_size": 0.5, "mpp": 0.8, "masks": "both",
}  # fmt: skip
COLORS = {"Tumor": (200, 0, 0), "Stroma": (150, 200, 150)}


def save(folder, regions=REGIONS):
    slide = folder / "a.tif"
    if not slide.exists():
        write_slide(slide, marker_image(200, 240))
    image = Image(slide, regions, wrappers=[rotated(90)])
    shutil.rmtree(folder / "p", ignore_errors=True)
    return build_project(folder / "p", [image], classes=tuple(COLORS))


def export(project, out, container="folder", **changes):
    options = {name: changes.pop(name) for name in ("resume", "update") if name in changes}
    values = {**OPTIONS, "container": container, **changes}
    config = qb.ExportConfig(**{name: v for name, v in values.items() if v is not None})
    run = qb.export(
        project, out, config, engine="embedded", workers=1, provenance=False, command=["test"],
        **options,
    )  # fmt: skip
    assert not run.failures, run.failures
    return run


def by_points(row):
    """What a mask has to show: a test of the centre of each pixel, in QuPath's coordinates."""
    x, y, w, h = (row[f"{side}_qupath"] for side in "xywh")
    xs = x + (np.arange(row["width"]) + 0.5) * w / row["width"]
    ys = y + (np.arange(row["height"]) + 0.5) * h / row["height"]
    x, y = np.meshgrid(xs, ys)
    pixels = np.zeros(x.shape, np.uint8)
    for value, shape in ((2, TUMOR), (1, STROMA), (255, FOLD)):  # Stroma is the smaller one
        pixels[shapely.contains_xy(shape, x, y)] = value
    pixels[(x < 0) | (x >= 240) | (y < 0) | (y >= 200)] = 255
    return pixels


def stored(out, row, column, dtype):
    """The values of a mask, read by the place that the index gives."""
    place = Location(*(row[f"{column}{part}"] for part in ("", "_offset", "_length")))
    payload = open_output(out).read(place)
    if payload.startswith(b"\x89PNG"):
        with Picture.open(io.BytesIO(payload)) as picture:
            return np.asarray(picture)
    return np.frombuffer(payload, dtype).reshape(row["height"], row["width"])
