"""Data files for tests and benchmarks: one with all kinds of objects, and large ones."""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import shapely

from qupath_bridge.geometry.canonical import round_coordinates
from qupath_bridge.model import ImageData, ObjectType, PathObject, Plane, Roi, RoiKind, TmaGrid
from qupath_bridge.qupath.qpdata.records import DESCRIPTION
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.qupath.rois import make_roi

__all__ = ["cell_file", "every_kind", "tissue_microarray"]

RED = -3670016
"""Packed ARGB."""

_STAINS = (
    '{"Name" : "H-DAB default", "Stain 1" : "Hematoxylin", "Values 1" : "0.65111 0.70119 0.29049",'
    ' "Stain 2" : "DAB", "Values 2" : "0.26917 0.56824 0.77759", "Background" : " 255 255 255"}'
)


def _id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"object {number}"))


def _with_ids(objects: Iterable[PathObject]) -> tuple[PathObject, ...]:
    """Return objects with ids, and each with its parent's id."""
    result: list[PathObject] = []
    for i, each in enumerate(objects):
        parent = result[each.parent].id if each.parent >= 0 else None
        result.append(replace(each, id=_id(i), parent_id=parent))
    return tuple(result)


def every_kind() -> ImageData:
    """Return an image with every type of object and every kind of ROI, nested and on planes."""
    box, line = shapely.box, shapely.LineString
    donut = box(0, 0, 100, 80).difference(box(20, 20, 40, 40))
    hand = shapely.Polygon([(10.13, 10), (20.33, 11), (30, 33.7), (10.1, 40)])
    bow_tie = shapely.Polygon([(0, 0), (50, 50), (50, 0), (0, 50)])
    lines = shapely.MultiLineString([[(1, 2), (3, 4)], [(9, 9), (8, 7), (6, 5)]])
    parts = shapely.MultiPolygon([donut, box(200, 0, 210, 10)])
    described = {"key": "value", DESCRIPTION: "two\nlines"}
    values = {"Area µm^2": 12.25, "Length": 1 / 3, "not a number": math.nan, "far": -math.inf}
    shares = {"tumour share": 0.5, "x" * 70_000: 1.0}  # longer than a short text can be
    named, nested = "Rechteck é 中 😀 \0", "Tumor: Positive"
    oval = make_roi(box(200, 200, 300.25, 240), Plane(1, 2), ellipse=True)
    nucleus = box(12, 15, 16, 20)
    annotation, cell = ObjectType.ANNOTATION, ObjectType.CELL
    objects = [
        PathObject("", annotation, "Tumor", named, make_roi(box(5, 6, 90.5, 70)), locked=True,
                   class_color=RED, metadata=described, description="two\nlines"),
        PathObject("", annotation, nested, roi=make_roi(hand), parent=0, class_color=-1,
                   measurements=values),
        PathObject("", cell, nested, roi=make_roi(hand.buffer(-2)), parent=1, class_color=-1,
                   nucleus=make_roi(nucleus, ellipse=True), measurements={"Cell: Area": 100.5},
                   probability=0.75),
        PathObject("", ObjectType.DETECTION, roi=make_roi(shapely.Point(13, 17)), parent=2),
        PathObject("", cell, roi=make_roi(hand.buffer(-3)), parent=1),
        PathObject("", annotation, "Stroma", roi=oval, color=-16711936, class_color=-2),
        PathObject("", annotation, "Region*", roi=make_roi(donut, Plane(3)), class_color=-3),
        PathObject("", annotation, roi=make_roi(parts, Plane(0, 1), channel=0)),
        PathObject("", annotation, "Ignore*", roi=make_roi(bow_tie), class_color=-4),
        PathObject("", annotation, roi=make_roi(line([(1.1, 2.2), (3.3, 4.4)]))),
        PathObject("", annotation, roi=make_roi(line([(1, 2), (3, 4), (9, 4)]))),
        PathObject("", annotation, roi=make_roi(lines)),
        PathObject("", annotation, "A: b: C d", class_color=-5,
                   roi=make_roi(shapely.MultiPoint([(1, 2), (3.5, 4)]))),
        PathObject("", ObjectType.TILE, roi=make_roi(box(0, 0, 256, 256)), measurements=shares),
    ]  # fmt: skip
    return ImageData(
        _with_ids(objects),
        image_type="BRIGHTFIELD_H_DAB",
        stains={"text": _STAINS},
        properties={"note": "kept"},
    )


def tissue_microarray() -> ImageData:
    """Return an image with a grid of 3 × 2 cores: one is missing, one contains a region."""
    cores = []
    for place in range(6):
        row, column = divmod(place, 3)
        disc = shapely.Point(100 + 200 * column, 100 + 200 * row).buffer(80)
        core = PathObject(
            "",
            ObjectType.TMA_CORE,
            name=f"{'AB'[row]}-{column + 1}",
            roi=make_roi(disc, ellipse=True),
            missing=place == 4,
            metadata={"Case ID": f"case {column}"},
        )
        cores.append(core)
    region = make_roi(shapely.box(60, 60, 90, 90))
    inside = PathObject("", ObjectType.ANNOTATION, "Tumor", roi=region, parent=0, class_color=RED)
    return ImageData(
        _with_ids([cores[0], inside, *cores[1:]]), tma_grid=TmaGrid(3, 2, (0, 2, 3, 4, 5, 6))
    )


def cell_file(
    count: int, *, measurements: int = 30, distinct: int = 400, annotations: int = 10, seed: int = 0
) -> bytes:
    """Return a data file with many cells, each with two outlines, a class and measurements.

    Parameters
    ----------
    count : int
        Number of cells; blocks of ``distinct`` cells are repeated, including their ids.
    measurements : int
        Number of measurements of each cell.
    annotations : int
        Polygons of 200 points, half before and half after the cells.
    """
    rng = np.random.default_rng(seed)
    names = [f"Nucleus: channel {i} OD mean" for i in range(measurements)]
    regions = [
        PathObject(
            _id(-i - 1),
            ObjectType.ANNOTATION,
            "Region*",
            roi=Roi(RoiKind.POLYGON, _outline(rng, 500.0, 200)),
        )
        for i in range(annotations)
    ]
    cells = [_cell(rng, i, names) for i in range(3 + distinct)]
    before, after = regions[: annotations // 2], regions[annotations // 2 :]
    # The first three cells have all classes and names; the others refer only to these, so that
    # their bytes can be repeated.
    head = encode_image_data(ImageData((*before, *cells[:3])))
    short = encode_image_data(ImageData((*before, *cells[:3], *after)))
    whole = encode_image_data(ImageData((*before, *cells, *after)))
    start = head.rindex(b"sr\0\x11java.util.HashMap") - 2  # end of the root, no TMA grid
    stop = start + len(whole) - len(short)
    repeats = count // distinct
    children = whole.index(b"pppw\x04") + 5  # of the root: no name, colour, measurements
    number = struct.pack(">i", annotations + 3 + distinct * repeats)
    return b"".join(
        (
            whole[:children],
            number,
            whole[children + 4 : start],
            whole[start:stop] * repeats,
            whole[stop:],
        )
    )


def _outline(rng: np.random.Generator, radius: float, count: int) -> shapely.Polygon:
    angles = np.linspace(0, 2 * math.pi, count, endpoint=False)
    radii = radius * rng.uniform(0.8, 1.2, count)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    return shapely.Polygon(round_coordinates(points + rng.uniform(1000, 50_000, 2)))


def _cell(rng: np.random.Generator, number: int, names: list[str]) -> PathObject:
    path = ("Tumor: Positive", "Tumor: Negative", None)[number % 3]
    return PathObject(
        id=_id(number),
        object_type=ObjectType.CELL,
        class_path=path,
        roi=Roi(RoiKind.POLYGON, _outline(rng, 7.0, int(rng.integers(12, 24)))),
        nucleus=Roi(RoiKind.POLYGON, _outline(rng, 3.0, int(rng.integers(8, 16)))),
        measurements=dict(zip(names, rng.normal(size=len(names)).tolist(), strict=True)),
    )
