"""Masks of the patches of a slide, as they are written beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from qupath_bridge.codecs.png import encode_indexed, encode_numbers
from qupath_bridge.config.masks import CLASS_MASK, INSTANCE_MASK, MaskKind, mask_kinds
from qupath_bridge.errors import PlanError
from qupath_bridge.model import Box, Plane
from qupath_bridge.patches.instances import active_instances, class_of
from qupath_bridge.patches.mask_classes import BACKGROUND, IGNORED, MaskClass, palette_of
from qupath_bridge.patches.masks import (
    MaskLayer,
    class_layer,
    instance_layer,
    only_classes,
    outside_image,
)
from qupath_bridge.patches.regions import ActiveRegion, select_regions
from qupath_bridge.patches.table import LABEL_SOURCES

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["NO_OBJECTS", "MadeMask", "MaskMaker", "SlideObjects"]

_CORRECTED = LABEL_SOURCES.index("corrected")


class MadeMask(NamedTuple):
    """A mask of a patch: its file or its values, and its digest.

    ``objects`` has the number of each object that an instance mask shows, see
    :attr:`MaskMaker.objects`.
    """

    kind: MaskKind
    payload: bytes | NDArray[np.integer]
    digest: bytes
    objects: Sequence[int] = ()


class SlideObjects(NamedTuple):
    """The objects that instance masks of a slide can show: their ids, and classes or None."""

    ids: Sequence[str] = ()
    classes: Sequence[str | None] = ()


NO_OBJECTS = SlideObjects()


class MaskMaker:
    """Makes the masks that a configuration asks for, of the patches of one plan.

    Parameters
    ----------
    plan : Plan
    classes : sequence of MaskClass
        Values and colours of the run's labels.
    arrays : bool
        Whether values are wanted, not files.

    Attributes
    ----------
    kinds : tuple of MaskKind
        What each patch has.
    objects : SlideObjects

    Raises
    ------
    PlanError
        If a label has no value: its class was not there when the run began.
    """

    def __init__(self, plan: Plan, classes: Sequence[MaskClass], *, arrays: bool) -> None:
        self._plan, self._arrays = plan, arrays
        self.kinds = mask_kinds(plan.config.masks)
        self._values = {each.label: each.value for each in classes}
        # A pixel without a region says what a patch without a label gets as one.
        self._meanings = {plan.config.background: BACKGROUND, **self._values}
        self._palette = palette_of(classes)
        self._rule, self._planes = plan.config.label_rule(), plan.config.grid_spec().planes
        self._image = (plan.grid.width, plan.grid.height)
        self._classes = self._class_layers() if CLASS_MASK in self.kinds else {}
        self.objects = NO_OBJECTS
        self._instances = self._instance_layers() if INSTANCE_MASK in self.kinds else {}

    def make(self, row: int) -> list[MadeMask]:
        """Return the masks of a patch, in the order of ``kinds``."""
        table = self._plan.table
        box, plane = Box(*table.boxes[row].tolist()), table.plane(row)
        width, height = self._plan.sizes(table.boxes[row : row + 1])[0].tolist()
        return [
            self._class_mask(row, box, (width, height), plane)
            if kind is CLASS_MASK
            else self._instance_mask(box, (width, height), plane)
            for kind in self.kinds
        ]

    def _class_layers(self) -> dict[Plane, MaskLayer]:
        """Return what paints the labels of each plane."""
        regions, _ = select_regions(self._plan.annotations, self._rule, self._planes, self._image)
        self._check_labels(regions)

        def layer(chosen: Sequence[int]) -> MaskLayer:
            here = [regions[k] for k in chosen]
            return class_layer(here, self._rule, self._values, self._height)

        return self._by_plane(regions, layer)

    def _instance_layers(self) -> dict[Plane, MaskLayer]:
        """Return what paints the objects of each plane: each its number + 1."""
        plan, wanted = self._plan, self._plan.config.instances
        objects = plan.annotations if wanted == "annotations" else plan.objects
        regions = active_instances(objects, wanted, self._rule, self._planes, self._image)
        self.objects = SlideObjects(
            tuple(region.id for region in regions), tuple(map(class_of, regions))
        )

        def layer(chosen: Sequence[int]) -> MaskLayer:
            here = [regions[k] for k in chosen]
            return instance_layer(here, [k + 1 for k in chosen], self._rule, self._height)

        return self._by_plane(regions, layer)

    def _by_plane(
        self, regions: Sequence[ActiveRegion], layer: Callable[[Sequence[int]], MaskLayer]
    ) -> dict[Plane, MaskLayer]:
        """Make the layer of each plane, from the numbers of the regions that act on it."""
        if self._rule.all_planes:
            return dict.fromkeys(self._planes, layer(range(len(regions))))
        return {
            plane: layer([k for k, region in enumerate(regions) if region.plane == plane])
            for plane in self._planes
        }

    @property
    def _height(self) -> float:
        """Height of the bands in which edges are looked for: that of a box."""
        return float(self._plan.grid.box_height)

    def _check_labels(self, regions: Sequence[ActiveRegion]) -> None:
        labels = {region.role.label for region in regions if region.role.kind == "label"}
        new = sorted(label for label in labels if label and label not in self._values)
        if new:
            raise PlanError(
                f"{self._plan.slide.name}: {', '.join(new)} came as a label after the run began.",
                hint="Resume the run.",
            )

    def _class_mask(self, row: int, box: Box, size: tuple[int, int], plane: Plane) -> MadeMask:
        plan = self._plan
        pixels = self._classes[plane].pixels(box, size)
        if plan.table.label_source[row] == _CORRECTED and plan.config.label_key is None:
            pixels = self._as_corrected(row, pixels)
        if plan.table.valid_share[row] < 1:
            pixels[outside_image(box, size, self._image)] = IGNORED
        return self._made(CLASS_MASK, pixels)

    def _instance_mask(self, box: Box, size: tuple[int, int], plane: Plane) -> MadeMask:
        pixels, found = self._instances[plane].instances(box, size)
        return self._made(INSTANCE_MASK, pixels)._replace(objects=(found - 1).tolist())

    def _as_corrected(self, row: int, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a mask without what a pathologist did not agree with."""
        table = self._plan.table
        said = set(table.labels.row(row).tolist())
        if said == set(table.rule_labels.row(row).tolist()):
            return pixels
        names = {table.label_names[code] for code in said}
        return only_classes(pixels, {v for name, v in self._meanings.items() if name in names})

    def _made(self, kind: MaskKind, pixels: NDArray[np.integer]) -> MadeMask:
        if self._arrays:
            pixels = np.ascontiguousarray(pixels, kind.dtype)
            return MadeMask(kind, pixels, xxhash.xxh3_128_digest(pixels.data))
        if kind is CLASS_MASK:
            file = encode_indexed(pixels.astype(np.uint8), self._palette)
        else:
            file = encode_numbers(pixels.astype(np.uint16))
        return MadeMask(kind, file, xxhash.xxh3_128_digest(file))
