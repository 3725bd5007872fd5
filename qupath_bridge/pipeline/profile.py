"""Times of the steps of an export, and how fast it could have been."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.timing import STEPS

__all__ = ["Profile"]

_PIXEL_STEPS = ("read", "decode", "resample", "quality", "stain", "masks", "encode", "write")
"""Steps that each patch takes; the others are once for a slide or a run."""


@dataclass(frozen=True, slots=True, repr=False)
class Profile(OneLine):
    """Times of an export.

    Attributes
    ----------
    seconds : mapping of str to float
        Seconds of each step, added up over all workers.
    wall : float
        Seconds from the first slide to the last record.
    patches : int
        Patches that the run wrote or found unchanged.
    workers : int
    amounts : mapping of str to int
        Requests of bytes to object storage, and bytes that came: ``copy_requests`` and
        ``copy_bytes`` of whole slides, ``header_requests`` and ``header_bytes`` of what says what
        a slide is; of slides in place ``pixel_requests``, ``pixel_bytes``, and
        ``pixel_bytes_needed``, which are those of the file tiles that were decoded.
    """

    seconds: Mapping[str, float]
    wall: float
    patches: int
    workers: int
    amounts: Mapping[str, int] = FrozenDict()

    @property
    def rate(self) -> float:
        """Patches per second, of the whole run."""
        return self.patches / self.wall if self.wall else 0.0

    @property
    def limit(self) -> float | None:
        """Patches per second if there were nothing but reading, encoding and writing.

        That of all workers together; None if none of these steps took any time.
        """
        return self._limit_of(sum(self.seconds.get(name, 0.0) for name in _PIXEL_STEPS))

    def step_limit(self, name: str) -> float | None:
        """Return patches per second if there were nothing but this step."""
        return self._limit_of(self.seconds.get(name, 0.0))

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of each step in the time of all workers; ``other`` is what is in no step.

        That is waiting, and work around the steps.
        """
        whole = max(self.wall * self.workers, sum(self.seconds.values()))
        if not whole:
            return {}
        shares = {name: self.seconds.get(name, 0.0) / whole for name in STEPS}
        return {**shares, "other": max(0.0, 1 - sum(shares.values()))}

    def transfers(self) -> Iterator[str]:
        """Yield what came from object storage, as lines for people."""
        for kind, text in (
            ("copy", "copies of slides"),
            ("header", "headers and fingerprints of slides"),
            ("pixel", "pixels of slides in place"),
        ):
            requests = self.amounts.get(f"{kind}_requests", 0)
            if not requests:
                continue
            came, needed = self.amounts[f"{kind}_bytes"], self.amounts.get(f"{kind}_bytes_needed")
            times = f", {came / needed:.2f} times what was needed" if needed else ""
            s = "" if requests == 1 else "s"
            yield f"{text}: {came / 1e6:,.1f} MB in {requests:,} request{s}{times}"

    def as_json(self) -> dict[str, Any]:
        """Return the profile as plain JSON values."""
        return {
            "wall": round(self.wall, 3),
            "workers": self.workers,
            "patches": self.patches,
            "rate": round(self.rate, 1),
            "limit": _rounded(self.limit),
            "steps": {
                name: {
                    "seconds": round(self.seconds.get(name, 0.0), 3),
                    "share": round(share, 4),
                    "limit": _rounded(self.step_limit(name)),
                }
                for name, share in self.shares.items()
                if name != "other"
            },
            "other": round(self.shares.get("other", 0.0), 4),
            "object_storage": dict(sorted(self.amounts.items())),
        }

    def _limit_of(self, seconds: float) -> float | None:
        return self.patches * self.workers / seconds if seconds and self.patches else None


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)
