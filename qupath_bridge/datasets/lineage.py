"""Values of a lineage: the way back from a patch to slides, regions, people, run and folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.model import Box, Plane
from qupath_bridge.patches.corrections import Correction

__all__ = [
    "Lineage",
    "PatchFold",
    "PatchOrigin",
    "PatchPrediction",
    "RegionOrigin",
    "RunOrigin",
    "SlideOrigin",
    "Statement",
]


@dataclass(frozen=True, slots=True, repr=False)
class RunOrigin(OneLine):
    """A run, as its record says.

    Attributes
    ----------
    run_id, place : str
        ``place`` is where its record was found.
    started : str
    finished : str or None
    command : tuple of str
    tool : mapping
        Name, version, Python, platform, versions of libraries.
    config_digest : str
    run_digest : str or None
    replaced_by : str or None
        The run that its output holds now.
    """

    run_id: str
    place: str
    started: str
    finished: str | None
    command: tuple[str, ...]
    tool: Mapping[str, Any]
    config_digest: str
    run_digest: str | None
    replaced_by: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class RegionOrigin(OneLine):
    """An annotation that contributed to the label of a patch; its class when it was exported."""

    region_id: str
    class_path: str | None


@dataclass(frozen=True, slots=True, repr=False)
class SlideOrigin(OneLine):
    """A slide, as the run knew it.

    Attributes
    ----------
    slide_id, entry_id, slide_name : str
    project : str or None
        Project file; None for slides without a project.
    path : str
        The slide file, where the run found it.
    fingerprint : mapping
        ``size``, ``digest`` and ``mtime_ns`` of the slide file.
    annotations_origin : str
    patches : int or None
        Patches of the run, or those that a table is about; None if one patch was asked for.
    folds : mapping of str to str
        Fold of the slide, by split; only of splits of whole slides.
    """

    slide_id: str
    entry_id: str
    slide_name: str
    project: str | None
    path: str
    fingerprint: Mapping[str, Any]
    annotations_origin: str
    patches: int | None = None
    folds: Mapping[str, str] = FrozenDict()


@dataclass(frozen=True, slots=True, repr=False)
class PatchOrigin(OneLine):
    """A patch, as the index has it.

    Attributes
    ----------
    patch_id, tile_uuid : str
    path, digest : str or None
    intact : bool or None
        False if the file that was asked about has other bytes than the run wrote; None if it was
        not asked about by its file.
    box : Box
        QuPath pixels.
    plane : Plane
    label, rule_label : str, tuple of str or None
    label_source : str or None
    label_share : float or None
    mpp : float or None
    regions : tuple of RegionOrigin
        The largest contribution first.
    metadata : mapping of str to str
        Of the slide.
    """

    patch_id: str
    tile_uuid: str
    path: str | None
    digest: str | None
    intact: bool | None
    box: Box
    plane: Plane
    label: str | tuple[str, ...] | None
    rule_label: str | tuple[str, ...] | None
    label_source: str | None
    label_share: float | None
    mpp: float | None
    regions: tuple[RegionOrigin, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class Statement(OneLine):
    """A statement of a person about the box of a patch.

    ``in_run`` says whether the run knew of it; ``about_this_file`` is False if it is about another
    slide file, so that no run takes it.
    """

    correction: Correction
    in_run: bool
    about_this_file: bool


@dataclass(frozen=True, slots=True, repr=False)
class PatchFold(OneLine):
    """The fold of a patch; ``stale`` if the run was updated since the split was made."""

    split: str
    fold: str | None
    group: str | None
    stale: bool


@dataclass(frozen=True, slots=True, repr=False)
class PatchPrediction(OneLine):
    """Numbers of a model about a patch, with the table that they were read from."""

    name: str
    time: str
    table: str
    table_digest: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, repr=False)
class Lineage(OneLine):
    """The origin of a patch, or of a file that was made from the patches of a run.

    Attributes
    ----------
    subject : str
        As it was given.
    run : RunOrigin
    patch : PatchOrigin or None
        None if the subject is not one patch.
    slides : tuple of SlideOrigin
    statements : tuple of Statement
        Of one patch, the oldest first.
    folds : tuple of PatchFold
        Of one patch.
    predictions : tuple of PatchPrediction
        Of one patch; for a run or a table those that the run has, without values.
    not_found : tuple of str
        What could not be found, and where it was looked for.
    """

    subject: str
    run: RunOrigin
    patch: PatchOrigin | None = None
    slides: tuple[SlideOrigin, ...] = ()
    statements: tuple[Statement, ...] = ()
    folds: tuple[PatchFold, ...] = ()
    predictions: tuple[PatchPrediction, ...] = ()
    not_found: tuple[str, ...] = ()
