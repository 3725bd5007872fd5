"""Masks of the patches of a slide, as they are written beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from qupath_bridge.codecs.png import encode_indexed, encode_numbers
from qupath_bridge.config.masks import CLASS_MASK, MaskKind
from qupath_bridge.errors import PlanError
from qupath_bridge.model import Box, Plane
from qupath_bridge.patches.mask_classes import BACKGROUND, IGNORED, MaskClass, palette_of
from qupath_bridge.patches.masks import MaskLayer, class_layer, only_classes, outside_image
from qupath_bridge.patches.regions import ActiveRegion, select_regions
from qupath_bridge.patches.table import LABEL_SOURCES

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["MadeMask", "MaskMaker"]

_CORRECTED = LABEL_SOURCES.index("corrected")


class MadeMask(NamedTuple):
    """A mask of a patch: its file or its values, and its digest."""

    kind: MaskKind
    payload: bytes | NDArray[np.integer]
    digest: bytes


class MaskMaker:
    """Makes the masks that a configuration asks for, of the patches of one plan.

    Parameters
    ----------
    plan : Plan
    classes : sequence of MaskClass
        Values and colours of the run's labels.
    arrays : bool
        Whether values are wanted, not files.

    Raises
    ------
    PlanError
        If a label has no value: its class was not there when the run began.
    """

    def __init__(self, plan: Plan, classes: Sequence[MaskClass], *, arrays: bool) -> None:
        self._plan, self._arrays = plan, arrays
        self.kinds = plan.config.mask_kinds()
        self._values = {each.label: each.value for each in classes}
        # A pixel without a region says what a patch without a label gets as one.
        self._meanings = {plan.config.background: BACKGROUND, **self._values}
        self._palette = palette_of(classes)
        self._classes = self._layers() if CLASS_MASK in self.kinds else {}

    def make(self, row: int) -> list[MadeMask]:
        """Return the masks of a patch, in the order of ``kinds``."""
        table = self._plan.table
        box, plane = Box(*table.boxes[row].tolist()), table.plane(row)
        return [self._class_mask(row, box, plane) for kind in self.kinds if kind is CLASS_MASK]

    def _layers(self) -> dict[Plane, MaskLayer]:
        """Return what paints the labels of each plane."""
        plan = self._plan
        rule, planes = plan.config.label_rule(), plan.config.grid_spec().planes
        image = (plan.grid.width, plan.grid.height)
        regions, _ = select_regions(plan.annotations, rule, planes, image)
        self._check_labels(regions)
        height = float(plan.grid.box_height)
        if rule.all_planes:
            return dict.fromkeys(planes, class_layer(regions, rule, self._values, height))
        return {
            plane: class_layer(
                [region for region in regions if region.plane == plane], rule, self._values, height
            )
            for plane in planes
        }

    def _check_labels(self, regions: Sequence[ActiveRegion]) -> None:
        labels = {region.role.label for region in regions if region.role.kind == "label"}
        new = sorted(label for label in labels if label and label not in self._values)
        if new:
            raise PlanError(
                f"{self._plan.slide.name}: {', '.join(new)} came as a label after the run began.",
                hint="Resume the run.",
            )

    def _class_mask(self, row: int, box: Box, plane: Plane) -> MadeMask:
        plan = self._plan
        size = (plan.config.size, plan.config.size)
        pixels = self._classes[plane].pixels(box, size).astype(np.uint8)
        if plan.table.label_source[row] == _CORRECTED and plan.config.label_key is None:
            pixels = self._as_corrected(row, pixels)
        if plan.table.valid_share[row] < 1:
            pixels[outside_image(box, size, (plan.grid.width, plan.grid.height))] = IGNORED
        return self._made(CLASS_MASK, pixels)

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
