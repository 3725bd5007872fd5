"""Runs of a lake, and copies of their patches, as the records describe them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CatalogDamage", "CatalogRun", "CatalogSlide", "LakeCopy"]


@dataclass(frozen=True, slots=True)
class CatalogSlide:
    """A slide of a run.

    ``project`` is the place of its project, None without one. ``labels`` has the number of patches
    by label; it and ``patches`` are None until the run is complete.
    """

    slide_id: str
    slide_name: str
    project: str | None
    patches: int | None
    labels: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class CatalogRun:
    """A run, as its records describe it.

    ``place`` is the path or URL of its output. ``state`` is ``running`` until it is complete, also
    if it was interrupted; nothing is known of its patches then. ``rows`` has the digest of the rows
    by slide id.
    """

    place: str
    run_id: str
    state: str
    started: str
    finished: str | None
    config_digest: str
    run_digest: str | None
    slides: tuple[CatalogSlide, ...]
    failed: int
    rows: Mapping[str, str]

    @property
    def patches(self) -> int | None:
        """Number of patches; None until the run is complete."""
        counts = [slide.patches for slide in self.slides if slide.patches is not None]
        return sum(counts) if self.state == "complete" else None

    @property
    def labels(self) -> dict[str, int]:
        """Number of patches by label, most first."""
        counts: Counter[str] = Counter()
        for slide in self.slides:
            counts.update(slide.labels or {})
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class CatalogDamage:
    """A place that cannot be read, and why."""

    place: str
    problem: str


@dataclass(frozen=True, slots=True)
class LakeCopy:
    """A copy of the patches of a lake's runs, made by ``compact``.

    ``stale`` says what differs from the runs as they are now; it is empty if nothing does.
    """

    place: str
    version: str
    written: str
    rows: int
    stale: tuple[str, ...]
