"""Partitions of a copy, and the rows of a lake's runs that go into each."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.patches.ids import label_folders, slug

from .catalog import Catalog
from .values import CatalogRun, CatalogSlide

__all__ = ["BY", "Part", "check_by", "complete_runs", "label_keys", "parts_of", "project_key"]

BY = ("project", "label")
"""Names that a copy can be partitioned by."""

NOTHING = "_"
"""Key of slides without a project, and of patches without a label."""


@dataclass(frozen=True, slots=True)
class Part:
    """A partition: its folder, and the slides with their number of patches in it.

    ``label`` is what its rows are filtered by, where ``by_label`` says that they are.
    """

    folder: str
    slides: tuple[tuple[CatalogRun, CatalogSlide, int], ...]
    by_label: bool = False
    label: str | None = None

    @property
    def rows(self) -> int:
        """Number of patches."""
        return sum(number for _, _, number in self.slides)


def check_by(by: Sequence[str]) -> tuple[str, ...]:
    """Return what a copy is partitioned by, in the order of :data:`BY`.

    Raises
    ------
    UsageError
        If it is something else.
    """
    if not set(by) <= set(BY):
        raise UsageError(
            f"A lake cannot be partitioned by {', '.join(sorted(set(by) - set(BY)))}.",
            hint=f"Name any of {', '.join(BY)}. Rows of a partition are sorted by slide.",
        )
    return tuple(name for name in BY if name in by)


def complete_runs(lake: Catalog) -> list[CatalogRun]:
    """Return the complete runs of a lake by their ids.

    Raises
    ------
    OutputError
        If a run is there twice, or no run is complete.
    """
    runs = sorted((run for run in lake.runs if run.state == "complete"), key=lambda r: r.run_id)
    if not runs:
        raise OutputError(f"No complete run found in {lake.root}.", hint="Finish a run first.")
    twice = [run_id for run_id, number in Counter(r.run_id for r in runs).items() if number > 1]
    if twice:
        places = ", ".join(run.place for run in runs if run.run_id == twice[0])
        raise OutputError(
            f"The run {twice[0]} is in several places: {places}.",
            hint="Move all but one out of the lake: its patches would count twice.",
        )
    return runs


def project_key(place: str | None) -> str:
    r"""Return the key of a project: the name of its folder and a digest of its path.

    Two projects can have folders of one name.

    >>> project_key("/data/study/project.qpproj"), project_key(None)
    ('study-943d6ded', '_')
    """
    if place is None:
        return NOTHING
    folders = re.split(r"[\\/]", place)
    name = folders[-2] if len(folders) > 1 else folders[-1]
    return f"{slug(name)}-{hashlib.sha256(place.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def label_keys(runs: Iterable[CatalogRun]) -> dict[str | None, str]:
    """Return the key of each label; no two are alike on any file system."""
    labels = {label for run in runs for slide in run.slides for label in slide.labels or ()}
    keys: dict[str | None, str] = {None: NOTHING}
    keys.update(label_folders(labels))
    return keys


def parts_of(runs: Sequence[CatalogRun], by: Sequence[str]) -> Iterator[Part]:
    """Yield the partitions of runs in the order of their folders, slides sorted by their ids."""
    keys = label_keys(runs)
    found: defaultdict[tuple[str, str | None], list[tuple[CatalogRun, CatalogSlide, int]]]
    found = defaultdict(list)
    for run in runs:
        for slide in run.slides:
            project = f"project_key={project_key(slide.project)}/" if "project" in by else ""
            for label, number in _counts(slide, by_label="label" in by).items():
                folder = f"label_key={keys[label]}/" if "label" in by else ""
                if number:
                    found[project + folder, label].append((run, slide, number))
    for (folder, label), slides in sorted(found.items(), key=lambda item: item[0][0]):
        ordered = sorted(slides, key=lambda each: (each[1].slide_id, each[0].run_id))
        yield Part(folder, tuple(ordered), "label" in by, label)


def _counts(slide: CatalogSlide, *, by_label: bool) -> Mapping[str | None, int]:
    """Return the number of patches of a slide by label, None for those without one."""
    patches, labels = slide.patches or 0, slide.labels or {}
    if not by_label:
        return {None: patches}
    counts: dict[str | None, int] = {None: patches - sum(labels.values())}
    counts.update(labels)
    return counts
