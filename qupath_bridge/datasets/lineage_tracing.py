"""Way back from a patch, or from what was made of patches, through the records of its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qupath_bridge.errors import BridgeError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import Box, Plane
from qupath_bridge.patches.corrections import Correction
from qupath_bridge.pipeline.inputs import inputs_by_slide, load_inputs
from qupath_bridge.pipeline.pseudonyms import OPEN, Names
from qupath_bridge.roundtrip.prediction_files import read_predicted
from qupath_bridge.roundtrip.prediction_names import predictions_of
from qupath_bridge.roundtrip.provenance import revealed_command
from qupath_bridge.roundtrip.runs import ProjectRuns
from qupath_bridge.sources.corrections import CORRECTIONS, corrections_folder, read_corrections

from .fold_tables import FoldTable, check_fresh, read_folds, split_names
from .lineage import (
    Lineage,
    PatchFold,
    PatchOrigin,
    PatchPrediction,
    RegionOrigin,
    RunOrigin,
    SlideOrigin,
    Statement,
)
from .lineage_runs import FoundPatch, KnownRun, OutputRun, known_keys
from .lineage_subject import Subject

__all__ = ["ProjectOf", "trace"]

ProjectOf = Callable[[Mapping[str, Any]], ProjectRuns | None]
"""Gives the runs of the project of a slide, by its facts; None if the project is not there."""


def trace(
    subject: Subject,
    run: KnownRun,
    found: Sequence[FoundPatch],
    projects: ProjectOf,
    names: Names = OPEN,
    *,
    replaced_by: str | None = None,
) -> Lineage:
    """Return the lineage of a subject that is in a run.

    Parameters
    ----------
    subject : Subject
    run : KnownRun
    found : sequence of FoundPatch
        The patches that are meant; none for a whole run or a table.
    projects : callable
        See :data:`ProjectOf`.
    names : Names
        Those of the run.
    replaced_by : str, optional
        The run that took its place.

    Raises
    ------
    OutputError, ProjectError
        If a record is damaged; the message names it.
    """
    missing: list[str] = []
    if replaced_by is not None:
        missing.append(
            f"the index and the files of run {run.record['run_id']}: run {replaced_by} replaced "
            f"it in {run.record.get('out')}; what is said here is from {run.place}"
        )
    elif not isinstance(run, OutputRun):
        missing.append(f"the index of the run: {run.record['out']} does not have it any more")
    looked = _Looked(run, _run_origin(run, names, replaced_by), projects, names, missing)
    if len(found) == 1:
        return _of_patch(subject, looked, found[0])
    return _of_run(subject, looked, found)


@dataclass(frozen=True, slots=True)
class _Looked:
    """A run that is looked through, and what was missing so far."""

    run: KnownRun
    origin: RunOrigin
    projects: ProjectOf
    names: Names
    missing: list[str]


def _run_origin(run: KnownRun, names: Names, replaced_by: str | None) -> RunOrigin:
    record = run.record
    return RunOrigin(
        run_id=record["run_id"],
        place=run.place,
        started=record["started"],
        finished=record["finished"],
        command=tuple(revealed_command(record["command"], names)),
        tool=FrozenDict(record["tool"]),
        config_digest=record["config_digest"],
        run_digest=record["run_digest"],
        replaced_by=replaced_by,
    )


# --- one patch ------------------------------------------------------------------------------------


def _of_patch(subject: Subject, looked: _Looked, found: FoundPatch) -> Lineage:
    run, facts, missing = looked.run, found.facts, looked.missing
    patch = _patch_origin(found)
    if "region_ids" not in found.row:
        missing.append("regions of the patch: only the index of the run lists them")
    runs = looked.projects(facts)
    if runs is None:
        place = looked.names.reveal(facts["project"]) or "a project (the slide has none)"
        missing.append(f"predictions, and corrections since the run: {place} is not there")
    statements = _statements(looked, runs, facts, patch)
    if patch.label_source == "corrected" and not statements:
        missing.append(f"the correction of the patch: not in {_places(run, runs)}")
    return Lineage(
        subject.text,
        looked.origin,
        patch=patch,
        slides=(_slide_origin(facts, looked.names),),
        statements=statements,
        folds=tuple(_folds(looked, patch, facts["slide_id"])),
        predictions=tuple(_predictions(looked, runs, facts["entry_id"], patch.tile_uuid)),
        not_found=tuple(missing),
    )


def _patch_origin(found: FoundPatch) -> PatchOrigin:
    row, annotations = found.row, found.facts["annotations"]
    regions = row.get("region_ids") or ()
    return PatchOrigin(
        patch_id=row["patch_id"],
        tile_uuid=row["tile_uuid"],
        path=row["path"],
        digest=row["digest"],
        intact=found.intact,
        box=Box(*(row[f"{name}_qupath"] for name in "xywh")),
        plane=Plane(row["z"], row["t"]),
        label=_frozen(row["label"]),
        rule_label=_frozen(row["rule_label"]),
        label_source=row["label_source"],
        label_share=row.get("label_share"),
        mpp=row.get("mpp"),
        regions=tuple(
            RegionOrigin(region, annotations.get(region, (None,))[0]) for region in regions
        ),
        metadata=FrozenDict(row.get("metadata") or ()),
    )


def _frozen(label: Any) -> str | tuple[str, ...] | None:
    return tuple(label) if isinstance(label, list) else label


def _slide_origin(
    facts: Mapping[str, Any],
    names: Names,
    patches: int | None = None,
    folds: Mapping[str, str] = FrozenDict(),
) -> SlideOrigin:
    return SlideOrigin(
        slide_id=facts["slide_id"],
        entry_id=facts["entry_id"],
        slide_name=names.reveal(facts["slide_name"]),
        project=names.reveal(facts["project"]),
        path=names.reveal(facts["path"]),
        fingerprint=FrozenDict(facts["fingerprint"]),
        annotations_origin=facts["annotations_origin"],
        patches=patches,
        folds=folds,
    )


def _statements(
    looked: _Looked, runs: ProjectRuns | None, facts: Mapping[str, Any], patch: PatchOrigin
) -> tuple[Statement, ...]:
    """Return what people said about the box, before the run and since."""
    known = _frozen_corrections(looked.run, looked.names, facts["slide_id"])
    since: tuple[Correction, ...] = ()
    if runs is not None:
        beside = [place / CORRECTIONS for place in runs.places_beside(facts["entry_id"])]
        since = read_corrections(runs.project, facts["entry_id"], beside=beside)
    if known is None:
        looked.missing.append(f"the corrections that the run took: not in {looked.run.place}")
    every = dict.fromkeys([*(known or ()), *since])
    return tuple(
        Statement(said, said in (known or ()), said.fingerprint == facts["fingerprint"]["digest"])
        for said in sorted(every, key=lambda said: said.time)
        if (said.box, said.plane) == (patch.box, patch.plane)
    )


def _frozen_corrections(
    run: KnownRun, names: Names, slide_id: str
) -> tuple[Correction, ...] | None:
    """Return the corrections that a run was planned with; None if they cannot be read."""
    listed = run.record["inputs"]
    if not isinstance(run, OutputRun) or listed is None:
        return None
    own: Mapping[str, str] = inputs_by_slide(listed).get(slide_id, FrozenDict())
    said = load_inputs(run.output, own).corrections
    return tuple(replace(one, reviewer=names.reveal(one.reviewer)) for one in said)


def _places(run: KnownRun, runs: ProjectRuns | None) -> str:
    folder = () if runs is None else (str(corrections_folder(runs.project)),)
    return " and ".join((f"{run.place}/inputs", *folder))


def _folds(looked: _Looked, patch: PatchOrigin, slide_id: str) -> Iterator[PatchFold]:
    run, missing = looked.run, looked.missing
    if not isinstance(run, OutputRun):
        missing.append("folds of the patch: splits are in the output of a run")
        return
    names = split_names(run.output)
    if not names:
        missing.append(f"folds of the patch: no split in {run.place}/splits")
    for name in names:
        table = read_folds(run.output, name)
        key = patch.patch_id if table.key == "patch_id" else slide_id
        fold, group = table.folds.get(key), table.groups.get(key)
        yield PatchFold(name, fold or None, group, _is_stale(run, table))


def _is_stale(run: OutputRun, table: FoldTable) -> bool:
    try:
        check_fresh(run.output, table)
    except BridgeError:
        return True
    return False


def _predictions(
    looked: _Looked, runs: ProjectRuns | None, entry_id: str, tile_uuid: str
) -> Iterator[PatchPrediction]:
    run_id = looked.origin.run_id
    if runs is None or run_id not in runs.folders:
        return
    for record in runs.predictions(run_id):
        if entry_id not in record["tiles"]:
            continue
        tiles = read_predicted(runs.folders[run_id], record, entry_id)
        tile = next((tile for tile in tiles if tile.id == tile_uuid), None)
        if tile is not None:
            yield _prediction(record, predictions_of(tile.measurements, record["name"]))


def _prediction(record: Mapping[str, Any], values: Mapping[str, float]) -> PatchPrediction:
    return PatchPrediction(
        record["name"], record["time"], record["table"], record["table_digest"], FrozenDict(values)
    )


# --- a run, or a table ---------------------------------------------------------------------------


def _of_run(subject: Subject, looked: _Looked, found: Sequence[FoundPatch]) -> Lineage:
    run, run_id = looked.run, looked.origin.run_id
    meant = _meant(subject, looked, found)
    folds = list(_slide_folds(run))
    slides, predictions = [], dict[str, PatchPrediction]()
    for facts in run.slides():
        slide_id = facts["slide_id"]
        if meant is not None and slide_id not in meant:
            continue
        patches = _number(run, slide_id) if meant is None else meant[slide_id]
        own = FrozenDict({name: table[slide_id] for name, table in folds if slide_id in table})
        slides.append(_slide_origin(facts, looked.names, patches, own))
        runs = looked.projects(facts)
        if runs is not None and run_id in runs.folders:
            for record in runs.predictions(run_id):
                predictions[record["name"]] = _prediction(record, {})
    return Lineage(
        subject.text,
        looked.origin,
        slides=tuple(slides),
        predictions=tuple(predictions.values()),
        not_found=tuple(looked.missing),
    )


def _number(run: KnownRun, slide_id: str) -> int:
    return sum(1 for _ in run.rows(slide_id, ["patch_id"]))


def _meant(
    subject: Subject, looked: _Looked, found: Sequence[FoundPatch]
) -> Mapping[str, int] | None:
    """Return how many patches of each slide are meant; None for all of the run."""
    if found:
        return Counter(patch.facts["slide_id"] for patch in found)
    if not subject.keys:
        return None
    slides = known_keys(looked.run, subject)
    unknown = sorted(subject.keys - {key for keys in slides.values() for key in keys})
    if unknown:
        looked.missing.append(
            f"{len(unknown)} of {len(subject.keys)} patches of the table, {unknown[0]} among "
            f"them: not in run {looked.origin.run_id} in {looked.run.place}"
        )
    return {slide_id: len(keys) for slide_id, keys in slides.items() if keys}


def _slide_folds(run: KnownRun) -> Iterator[tuple[str, Mapping[str, str]]]:
    if not isinstance(run, OutputRun):
        return
    for name in split_names(run.output):
        table = read_folds(run.output, name)
        if table.key == "slide_id":
            yield name, table.folds
