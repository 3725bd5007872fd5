"""Layers of a preview: patches, regions and marks of dropped boxes, on a transparent ground."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from qupath_bridge.model import MaskArray, PathObject, Plane, Reason
from qupath_bridge.pixels.tissue.masks import grow
from qupath_bridge.qupath.files.classes import label_color

from .preview_legend import RGB, TISSUE_INK, UNCLASSIFIED, draw_mark, edge_of, readable

__all__ = ["Scale", "draw_marks", "draw_patch", "region_layer", "tissue_layer"]

Scale = tuple[float, float]
"""Pixels of the picture per pixel of QuPath's image, along each axis."""
LEAST_OUTLINED = 4
"""Pixels of the side of a box from which on it is outlined."""


def draw_patch(
    pen: ImageDraw.ImageDraw, place: tuple[float, float, float, float], color: RGB
) -> None:
    """Fill the box of a patch lightly in the colour of its label, and outline it.

    A very small box has no outline, which would hide the tissue below it. ``place`` is x, y, width
    and height in pixels of the picture.
    """
    x, y, w, h = place
    if min(w, h) < LEAST_OUTLINED:
        corner = (max(x, x + w - 1), max(y, y + h - 1))
        pen.rectangle((x, y, *corner), fill=(*readable(color), 110))
        return
    # Half a pixel free on each side shows neighbours apart.
    pen.rectangle(
        (x + 0.5, y + 0.5, x + w - 1, y + h - 1),
        fill=(*color, 55),
        outline=(*readable(color), 255),
    )


def draw_marks(pen: ImageDraw.ImageDraw, reason: Reason, places: NDArray[Any]) -> None:
    """Draw the mark of a reason into each box.

    ``places`` has x, y, width and height in pixels of the picture, shape (N, 4).
    """
    for x, y, w, h in places.tolist():
        draw_mark(pen, reason, (x + w / 2, y + h / 2), min(w, h, 24) / 4)


def tissue_layer(mask: MaskArray, size: tuple[int, int]) -> Image.Image:
    """Return the outline of the tissue, and a light veil over what is not tissue, RGBA.

    Parameters
    ----------
    mask : array, shape (h, w), bool
        True = tissue; of the whole image, in any size.
    size : (int, int)
        Width and height of the picture.
    """
    tissue = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    layer = np.zeros((*tissue.shape, 4), np.uint8)
    layer[~tissue] = (255, 255, 255, 90)
    layer[grow(tissue, 2) & ~tissue] = (*TISSUE_INK, 255)
    return Image.fromarray(layer, "RGBA")


def region_layer(
    annotations: Iterable[PathObject],
    planes: Iterable[Plane],
    size: tuple[int, int],
    scale: Scale,
    colors: Mapping[str, RGB],
) -> Image.Image:
    """Return the outlines of annotations in the colours of their classes, RGBA.

    Parameters
    ----------
    annotations : iterable of PathObject
    planes : iterable of Plane
        Annotations of other planes are left out.
    size : (int, int)
        Width and height of the picture.
    scale : (float, float)
    colors : mapping of str to RGB
        By class path.
    """
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    wanted = set(planes)
    for annotation in annotations:
        if annotation.roi is None or annotation.roi.plane not in wanted:
            continue
        path = annotation.class_path
        color = label_color(path, colors) if path else UNCLASSIFIED
        for line in _outlines(annotation, scale):
            if len(line) > 1:
                pen.line(line, fill=(*edge_of(color), 150), width=4, joint="curve")
                pen.line(line, fill=(*color, 255), width=2, joint="curve")
            else:
                ((x, y),) = line
                pen.ellipse(
                    (x - 3, y - 3, x + 3, y + 3), fill=(*color, 255), outline=edge_of(color)
                )
    return layer


def _outlines(annotation: PathObject, scale: Scale) -> Iterator[list[tuple[float, float]]]:
    if annotation.roi is None:
        return
    for part in shapely.get_parts(annotation.roi.geometry):
        rings = shapely.get_rings(part) if part.geom_type == "Polygon" else [part]
        for ring in rings:
            xy = shapely.get_coordinates(ring) * scale
            if len(xy):
                yield [(float(x), float(y)) for x, y in xy]
