"""Size and duration of an export, estimated from a few patches that are made for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from qupath_bridge.codecs import encoder_of
from qupath_bridge.errors import SlideError
from qupath_bridge.frozen import OneLine
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.base import Reader

from .plan import Plan, producer_of

__all__ = ["Estimate", "estimate", "mean_pixels", "patch_bytes"]


@dataclass(frozen=True, slots=True, repr=False)
class Estimate(OneLine):
    """Size and duration of an export on this machine, from ``sample`` patches that were tried."""

    bytes: int
    seconds: float
    sample: int


def estimate(plans: Sequence[Plan], *, workers: int = 1, sample: int = 12) -> Estimate:
    """Read and encode a few patches, spread over the plans, and scale up.

    Nothing is written. With no patches planned, everything is 0.
    """
    total = sum(len(plan) for plan in plans)
    if total == 0:
        return Estimate(0, 0.0, 0)
    tried: list[tuple[int, float]] = []
    picks = np.unique(np.linspace(0, total - 1, min(sample, total)).astype(int))
    start = 0
    for plan in plans:
        rows = picks[(picks >= start) & (picks < start + len(plan))] - start
        start += len(plan)
        if not len(rows):
            continue
        try:
            with open_reader(
                plan.path, name=plan.reader_name, on_bad_tile=plan.config.on_bad_tile
            ) as reader:
                tried += _try_patches(plan, rows.tolist(), reader)
        except SlideError:
            continue  # the export will say what is wrong with this slide
    if not tried:
        return Estimate(0, 0.0, 0)
    size, second = (mean(values) for values in zip(*tried, strict=True))
    return Estimate(int(size * total), second * total / workers, len(tried))


def patch_bytes(plan: Plan, reader: Reader, *, sample: int = 3) -> float:
    """Return the mean size of an encoded patch in bytes, from a few that are made; 0 for none."""
    if not len(plan):
        return 0.0
    rows = np.unique(np.linspace(0, len(plan) - 1, min(sample, len(plan))).astype(int))
    return mean(size for size, _ in _try_patches(plan, rows.tolist(), reader))


def mean_pixels(plan: Plan) -> float:
    """Return how many pixels a patch has in the mean; 0 without patches."""
    if not len(plan):
        return 0.0
    return float(plan.sizes(plan.table.boxes).prod(axis=1).mean())


def _try_patches(plan: Plan, rows: Sequence[int], reader: Reader) -> Iterator[tuple[int, float]]:
    """Make some patches; yield the bytes and the seconds of each."""
    encoder = encoder_of(plan.config, plan.contents)
    producer = producer_of(plan, reader)
    for row in rows:
        began = time.perf_counter()
        boxes = plan.table.boxes[[row]]
        made = producer.read(reader, boxes, plan.table.plane(row), plan.sizes(boxes))
        (patch,) = made.patches
        size = 0
        if patch is not None:
            size = len(patch if isinstance(patch, bytes) else encoder.encode(patch))
        yield size, time.perf_counter() - began
