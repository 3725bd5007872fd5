"""Patches straight from slides, as they would be exported; nothing is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from qupath_bridge.codecs import decode
from qupath_bridge.errors import UsageError
from qupath_bridge.model import PixelArray
from qupath_bridge.pipeline.patch_pixels import PatchPixels
from qupath_bridge.pipeline.plan import Plan, Plans, producer_of
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.base import Reader

from .handles import Handles
from .items import Item, Targets, Transform, need_torch, to_tensor

__all__ = ["SlideDataset"]

_Opened = tuple[Reader, PatchPixels]


class SlideDataset:
    """Patches of plans, read from the slides when they are asked for: ``(tensor, target)``.

    Each process opens slides of its own, at most ``open_slides`` at once. A loader that asks for a
    batch gets the patches of one slide read together. Use ``persistent_workers=True`` where workers
    are spawned.

    Parameters
    ----------
    plans : Plan, or Plans or another sequence of Plan
    transform : callable, optional
        Gets the tensor (C, H, W) in the type of the slide, uint8 for RGB; its result is the item.
    classes : sequence of str, optional
        Labels in the order of their numbers; those of the plans, sorted, when not given. Give them
        where two datasets have to agree.
    open_slides : int
        Slides that a process keeps open.

    Attributes
    ----------
    classes : tuple of str
        The label of each target.

    Raises
    ------
    MissingDependencyError
        If torch is not installed.
    UsageError
        If the plans drop patches by quality, which is known only when they are read; if the labels
        of some are lists, and those of others are not.
    """

    def __init__(
        self,
        plans: Plan | Plans | Sequence[Plan],
        *,
        transform: Transform | None = None,
        classes: Sequence[str] | None = None,
        open_slides: int = 8,
    ) -> None:
        need_torch()
        self._plans = (plans,) if isinstance(plans, Plan) else tuple(plans)
        _check(self._plans, open_slides)
        self._starts = np.cumsum([0, *(len(plan) for plan in self._plans)])
        found = sorted({label for plan in self._plans for label in plan.table.label_names})
        multi = any(plan.table.multi for plan in self._plans)
        self._targets = Targets(found if classes is None else classes, multi=multi)
        self._handles: Handles[_Opened] = Handles(open_slides, _close)
        self.transform = transform

    @property
    def classes(self) -> tuple[str, ...]:
        """The label of each target."""
        return self._targets.classes

    @property
    def targets(self) -> list[object]:
        """The target of each item, for samplers and weights."""
        return [
            self._targets.of(plan.table.label_of(row))
            for plan in self._plans
            for row in range(len(plan))
        ]

    def patch_id(self, number: int) -> str:
        """Return the id that the patch has in an export."""
        plan, row = self._place(number)
        return self._plans[plan].table.patch_id(self._plans[plan].slide_id, row)

    def close(self) -> None:
        """Close the slides that this process has open; they are opened again when asked for."""
        self._handles.close()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> Item:
        (item,) = self.__getitems__([number])
        return item

    def __getitems__(self, numbers: Sequence[int]) -> list[Item]:
        """Return several items; those of one slide and plane are read together."""
        groups: defaultdict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
        for at, number in enumerate(numbers):
            plan, row = self._place(number)
            plane = self._plans[plan].table.plane(row)
            groups[plan, plane.z, plane.t].append((row, at))
        items: list[Item] = [(None, None)] * len(numbers)
        for (plan, *_), places in groups.items():
            rows = [row for row, _ in places]
            table = self._plans[plan].table
            for (row, at), pixels in zip(places, self._read(plan, rows), strict=True):
                tensor = to_tensor(pixels)
                made = tensor if self.transform is None else self.transform(tensor)
                items[at] = (made, self._targets.of(table.label_of(row)))
        return items

    def _place(self, number: int) -> tuple[int, int]:
        """Return which plan an item is of, and which of its rows."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"There are {len(self)} patches, and no patch {number}.")
        number %= len(self)
        plan = int(np.searchsorted(self._starts, number, "right")) - 1
        return plan, number - int(self._starts[plan])

    def _read(self, number: int, rows: Sequence[int]) -> Iterator[PixelArray]:
        plan = self._plans[number]
        reader, producer = self._handles.get(plan.slide_id, lambda: _open(plan))
        table, boxes = plan.table, plan.table.boxes[list(rows)]
        sizes = plan.sizes(boxes)
        made = producer.read(reader, boxes, table.plane(rows[0]), sizes)
        for patch, (width, height) in zip(made.patches, sizes.tolist(), strict=True):
            if isinstance(patch, bytes):
                yield decode(patch, (width, height))
            elif patch is not None:
                yield patch


def _check(plans: Sequence[Plan], open_slides: int) -> None:
    rules = [plan for plan in plans if plan.config.qc_min or plan.config.qc_max]
    if rules:
        raise UsageError(
            f"The plan of {rules[0].slide.name} drops patches by quality, which is known only when "
            "they are read.",
            hint="Export them, or plan without qc_min and qc_max.",
        )
    if len({plan.table.multi for plan in plans}) > 1:
        raise UsageError(
            "The labels of some plans are lists, and those of others are not.",
            hint="Plan all slides with one rule.",
        )
    if len({plan.slide_id for plan in plans}) < len(plans):
        raise UsageError("Two plans have one slide id.", hint="Plan all slides in one call.")
    if open_slides < 1:
        raise UsageError("open_slides is less than 1.", hint="One slide at least is open.")


def _open(plan: Plan) -> _Opened:
    reader = open_reader(plan.path, name=plan.reader_name, on_bad_tile=plan.config.on_bad_tile)
    return reader, producer_of(plan, reader)


def _close(opened: _Opened) -> None:
    opened[0].close()
