"""Pixels of masks: which region or object is on top at the centre of each pixel of a patch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from qupath_bridge.errors import PlanError
from qupath_bridge.geometry.edges import GeometryArray, as_array
from qupath_bridge.geometry.rasterise import Cover, EdgeBands, paint, pixel_centres
from qupath_bridge.model import Box, IntArray, LabelRule

from .mask_classes import BACKGROUND, IGNORED
from .regions import ActiveRegion
from .stack import stack_polygons

__all__ = [
    "MaskLayer",
    "class_layer",
    "instance_layer",
    "only_classes",
    "outside_image",
]

MOST_INSTANCES = (1 << 16) - 1
"""Objects that a mask of 16 bit can tell apart."""

ClassPixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class MaskLayer:
    """Polygons of one plane from the lowest to the topmost, and the value that each paints.

    Attributes
    ----------
    bands : EdgeBands
    tree : STRtree
        Of the polygons.
    values : array, shape (K,), int32
    """

    bands: EdgeBands
    tree: shapely.STRtree
    values: NDArray[np.int32]

    @classmethod
    def of(cls, polygons: GeometryArray, values: IntArray, height: float) -> Self:
        """Make a layer; ``height`` is that of the boxes, in QuPath pixels."""
        bands = EdgeBands.of(polygons, height)
        return cls(bands, shapely.STRtree(polygons), values.astype(np.int32))

    def pixels(self, box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the value on top at the centre of each pixel of a box, 0 for none.

        Parameters
        ----------
        box : Box, QuPath pixels
        size : (int, int)
            Pixels across and down.

        Returns
        -------
        array, shape (H, W), uint8
        """
        found = np.zeros(size[::-1], np.uint8)
        paint(self._covers(box, size, self._near(box)), self.values, found)
        return found

    def instances(self, box: Box, size: tuple[int, int]) -> tuple[NDArray[np.uint16], IntArray]:
        """Return the pixels of a box with the objects that are seen in it numbered from 1 on.

        Parameters
        ----------
        box : Box, QuPath pixels
        size : (int, int)
            Pixels across and down.

        Returns
        -------
        pixels : array, shape (H, W), uint16
            0 where no object is.
        values : array, shape (N,), int64
            The value of object k of the box is at k - 1, ascending.

        Raises
        ------
        PlanError
            If there are more than :data:`MOST_INSTANCES`.
        """
        near = self._near(box)
        values, number = np.unique(self.values[near], return_inverse=True)
        if len(values) > MOST_INSTANCES:
            raise PlanError(
                f"A patch has {len(values)} objects, and its mask has values for {MOST_INSTANCES}.",
                hint="Make smaller patches.",
            )
        found = np.zeros(size[::-1], np.uint16)
        numbers = dict(zip(near.tolist(), (number + 1).tolist(), strict=True))
        paint(self._covers(box, size, near), numbers, found)
        seen = np.bincount(found.ravel(), minlength=len(values) + 1) > 0
        seen[BACKGROUND] = False
        if not seen[1:].all():
            found = np.where(seen, np.cumsum(seen), 0).astype(np.uint16)[found]
        return found, values[seen[1:]].astype(np.int64)

    def _near(self, box: Box) -> IntArray:
        """Return the polygons whose bounding boxes meet a box, ascending."""
        x, y, w, h = box
        return np.sort(self.tree.query(shapely.box(x, y, x + w, y + h)))

    def _covers(self, box: Box, size: tuple[int, int], near: IntArray) -> Iterator[Cover]:
        xs = pixel_centres(box.x, box.w, size[0])
        ys = pixel_centres(box.y, box.h, size[1])
        return self.bands.covers(xs, ys, near)


def class_layer(
    regions: Sequence[ActiveRegion], rule: LabelRule, values: Mapping[str, int], height: float
) -> MaskLayer:
    """Return what paints labels: regions that label, in the order of the overlap rule.

    Excluded regions lie above all of them.

    Parameters
    ----------
    regions : sequence of ActiveRegion
        All that act on the plane.
    values : mapping of str to int
        Value of each label.

    Raises
    ------
    KeyError
        If a label has no value.
    """
    labelling = [region for region in regions if region.role.kind == "label"]
    names = sorted({region.role.label or "" for region in labelling})
    stack = stack_polygons(labelling, rule, names)
    top = stack.owners[_last_of(stack.place, len(stack.polygons))]
    painted = [values[labelling[owner].role.label or ""] for owner in top.tolist()]
    without = [region.polygon for region in regions if region.role.kind == "excluded"]
    excluded = shapely.get_parts(as_array(without))
    return MaskLayer.of(
        np.concatenate([stack.polygons, excluded]),
        np.array([*painted, *[IGNORED] * len(excluded)], np.int64),
        height,
    )


def instance_layer(
    regions: Sequence[ActiveRegion], numbers: Sequence[int], rule: LabelRule, height: float
) -> MaskLayer:
    """Return what paints single objects, in the order of the overlap rule.

    Parameters
    ----------
    regions : sequence of ActiveRegion
        Those that act on the plane; the shape of each is one object.
    numbers : sequence of int
        The value that each paints.
    """
    names = sorted({region.role.label or "" for region in regions})
    stack = stack_polygons(regions, rule, names)
    top = stack.owners[_last_of(stack.place, len(stack.polygons))]
    return MaskLayer.of(stack.polygons, np.array(numbers, np.int64)[top], height)


def _last_of(place: IntArray, count: int) -> IntArray:
    """Return where each of the numbers 0 to count - 1, which ascend, stands last."""
    return place.searchsorted(np.arange(count), "right") - 1


def outside_image(box: Box, size: tuple[int, int], image: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of a box have their centre outside the image, shape (H, W)."""
    x, y, w, h = box
    across, down = pixel_centres(x, w, size[0]), pixel_centres(y, h, size[1])
    columns = (across < 0) | (across >= image[0])
    rows = (down < 0) | (down >= image[1])
    return rows[:, None] | columns


def only_classes(pixels: ClassPixels, values: Collection[int]) -> ClassPixels:
    """Return a mask in which every pixel of another value than these is ignored.

    For a patch whose label a pathologist changed: what the regions say about the other pixels
    is what the pathologist did not agree with.

    >>> only_classes(np.array([[0, 1, 2]], np.uint8), {2}).tolist()
    [[255, 255, 2]]
    """
    kept = np.isin(pixels, list(values))
    return np.where(kept, pixels, np.uint8(IGNORED))
