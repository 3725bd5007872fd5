"""About how many bytes and seconds an export will take, from a few patches made for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from qupath_bridge.codecs import get_encoder
from qupath_bridge.errors import SlideError
from qupath_bridge.readers import open_reader

from .plan import Plan

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an export will take on this machine, from ``sample`` patches that were tried."""

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
    sizes: list[int] = []
    seconds: list[float] = []
    picks = np.unique(np.linspace(0, total - 1, min(sample, total)).astype(int))
    start = 0
    for plan in plans:
        rows = picks[(picks >= start) & (picks < start + len(plan))] - start
        start += len(plan)
        if not len(rows):
            continue
        try:
            taken = list(_tried(plan, rows.tolist()))
        except SlideError:
            continue  # the export will say what is wrong with this slide
        sizes += [size for size, _ in taken]
        seconds += [second for _, second in taken]
    if not sizes:
        return Estimate(0, 0.0, 0)
    return Estimate(int(mean(sizes) * total), mean(seconds) * total / workers, len(sizes))


def _tried(plan: Plan, rows: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Make some patches; yield the bytes and the seconds of each."""
    encoder = get_encoder(plan.config.format, quality=plan.config.quality, mpp=plan.mpp)
    with open_reader(plan.path) as reader:
        for row in rows:
            began = time.perf_counter()
            size = len(encoder.encode(plan.read(row, reader)))
            yield size, time.perf_counter() - began
