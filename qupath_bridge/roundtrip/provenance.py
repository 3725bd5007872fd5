"""Provenance in the QuPath project: a folder per run, GeoJSON and facts per slide.

Only ``<project>/qupath_bridge/`` is written. QuPath reads it through the import script; nothing
of QuPath's own files is touched.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.frozen import OneLine
from qupath_bridge.model import CLASS_SEPARATOR, Box, Plane, ProjectInfo
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.index import rows_of
from qupath_bridge.outputs.row_batches import AnyRows, batches_of, held
from qupath_bridge.pipeline import records
from qupath_bridge.pipeline.places import check_inside
from qupath_bridge.pipeline.pseudonyms import OPEN, Names, check_key, is_pseudonym
from qupath_bridge.pipeline.recorded_runs import folder_beside, load_run_record, run_folders
from qupath_bridge.pipeline.run import Run
from qupath_bridge.pipeline.tissue import outline_file
from qupath_bridge.qupath.files.classes import class_colors, label_color
from qupath_bridge.qupath.geojson import Tile, write_tiles
from qupath_bridge.sources.base import Project
from qupath_bridge.stores import local_path, open_store
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.urls import shown

from .tile_files import RULE_KEY, RUN_KEY, digest_of, tile_file

__all__ = [
    "Provenance",
    "ensure_provenance",
    "find_run",
    "find_run_to_undo",
    "recorded_project",
    "revealed_command",
    "write_provenance",
]


@dataclass(frozen=True, slots=True, repr=False)
class Provenance(OneLine):
    """Place of a run's provenance: in the project, or beside the patches with the reason why."""

    folder: Path
    warning: str | None = None


def write_provenance(
    project: ProjectInfo, run: Run, recorded: str | None = None, *, names: Names = OPEN
) -> Provenance:
    """Write a run's folder into its project.

    ``<project>/qupath_bridge/runs/<run id>/`` gets a copy of ``run.json`` with the place of the
    output, and ``<entry id>.geojson.gz`` with the tiles and ``<entry id>.json`` with the facts of
    each slide of this project; with the option ``tissue_annotations`` also
    ``tissue/<entry id>.geojson`` with the outline of its tissue. Where the project cannot be
    written, or is in object storage, the same goes to ``OUT/provenance/`` with a warning; for
    slides without a project it goes there, too. Predictions of the earlier version of the run are
    taken over where patches are the same.

    Parameters
    ----------
    project : ProjectInfo
    run : Run
    recorded : str, optional
        The project file as the run has it, where the project moved since; see
        :func:`recorded_project`.
    names : Names
        Those of the run. The project has the names behind pseudonyms: they are its own.

    Raises
    ------
    OutputError
        If neither place can be written.
    """
    recorded = recorded or names.hide(project.place)
    if project.plain:
        return Provenance(_write_beside_patches(project, run, recorded))
    if project.is_stored:
        folder = _write_beside_patches(project, run, recorded)
        return Provenance(
            folder,
            "The project is in object storage, where nothing is written: the provenance is in "
            f"{shown(folder)}. Of corrections those count that the project has collected.",
        )
    place = project.bridge_folder / "runs" / run.run_id
    try:
        # A project that was renamed meanwhile must not reappear as an empty folder.
        if not project.folder.is_dir():
            raise OutputError(f"{project.folder} is not there any more.")
        check_inside(place, project.folder)
        _write(LocalStore(place), project, run, recorded, names)
    except OutputError as error:
        fallback = _write_beside_patches(project, run, recorded)
        return Provenance(
            fallback,
            f"The project cannot be written ({error.message}); the provenance is in "
            f"{shown(fallback)}. Import its files into QuPath by hand.",
        )
    if len(run_folders(project)) == 1:
        return Provenance(place)  # no earlier run, and so no predictions
    from .prediction_carrying import carry_predictions

    try:
        carry_predictions(project, run.run_id)
    except BridgeError as error:
        return Provenance(place, f"Predictions of the earlier run were not taken over: {error}")
    return Provenance(place)


def _write_beside_patches(project: ProjectInfo, run: Run, recorded: str) -> Path:
    """Write a run's folder into its output, and return the folder; one of a URL is a URL, too."""
    projects = run.record["projects"]
    if local_path(run.url) is not None:
        folder = folder_beside(run.out, projects, recorded)
        _write(LocalStore(folder), project, run, recorded)
        return folder
    folder = folder_beside(Path(run.url), projects, recorded)
    target = open_store(folder)
    with tempfile.TemporaryDirectory() as temporary:  # tiles are written to a file of this machine
        store = LocalStore(Path(temporary))
        _write(store, project, run, recorded)
        # The record comes last: a folder without one is not a run.
        for name in sorted(store.list(), key=lambda name: name == records.RUN_FILE):
            target.put(name, store.get(name), durable=True)
    return folder


def _write(
    store: LocalStore, project: ProjectInfo, run: Run, recorded: str, names: Names = OPEN
) -> None:
    listed = class_colors(project.classes)
    labels = tuple(run.record["labels"])
    digests = {}
    output = run.open()
    for facts, rows in _slides_of(run):
        if facts["project"] != recorded:
            continue
        entry_id = facts["entry_id"]
        # A class that the project does not list has the colour that the slide's data give it.
        drawn = {path: tuple(color) for path, color in facts["class_colors"].items()}
        colors = {**drawn, **listed}
        if rows.num_rows:
            with store.staged(tile_file(entry_id)) as path:
                with path.open("wb") as file:
                    write_tiles(file, _tiles(rows, colors, labels))
                digests[entry_id] = digest_of(path)
        else:
            store.delete(tile_file(entry_id))
        store.put(f"{entry_id}.json", records.dump_json(names.reveal(facts)))
        if facts["tissue"] is not None and run.record["options"]["tissue_annotations"]:
            outline = output.get(outline_file(facts["tissue"]["file"]))
            store.put(f"tissue/{entry_id}.geojson", outline)
    # The record comes last: a folder without one is not a run.
    record = {
        **run.record,
        "out": run.place,
        "project": recorded,
        "tiles": digests,
        "failures": [f for f in run.report["failures"] if f["project"] == recorded],
    }
    record = {**names.reveal(record), "command": revealed_command(record["command"], names)}
    store.put(records.RUN_FILE, records.dump_json(record), durable=True)


def revealed_command(words: list[str], names: Names) -> list[str]:
    """Return the words behind a command, which is one pseudonym as a whole."""
    if words and is_pseudonym(words[0]) and not is_pseudonym(text := names.reveal(words[0])):
        return [str(word) for word in json.loads(text)]
    return words


def _slides_of(run: Run) -> Iterator[tuple[dict[str, Any], AnyRows]]:
    """Yield facts and rows of each committed slide of a run."""
    output = run.open()
    for slide_id, opened in rows_of(output):
        rows = held(opened)
        yield records.load_facts(rows, slide_id), rows


_SHOWN = (
    "tile_uuid", "x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t", "patch_id", "label",
    "label_source", "rule_label", "label_share", "margin", "shares", "run_id", "path", "digest",
)  # fmt: skip
"""Columns that a tile shows."""


def _tiles(
    rows: AnyRows, colors: Mapping[str, tuple[int, int, int]], labels: Iterable[str]
) -> Iterator[Tile]:
    """Yield the tiles of a slide; each has the share of every label, also if it is zero."""
    known = set(labels)
    for batch in batches_of(rows, ["shares"]):
        known.update(batch.column(0).keys.unique().to_pylist())
    zeros = {f"qb: {label}": 0.0 for label in sorted(known)}
    for row in chain.from_iterable(batch.to_pylist() for batch in batches_of(rows, _SHOWN)):
        path = _class_path(row["label"])
        yield Tile(
            id=row["tile_uuid"],
            box=Box(row["x_qupath"], row["y_qupath"], row["w_qupath"], row["h_qupath"]),
            plane=Plane(row["z"], row["t"]),
            name=row["patch_id"],
            class_path=path,
            color=None if path is None else label_color(path, colors),
            measurements=_measurements(row, zeros),
            metadata={
                RUN_KEY: row["run_id"],
                "qb.path": row["path"],
                "qb.digest": row["digest"],
                **_overruled(row),
            },
        )


def _class_path(label: str | list[str] | None) -> str | None:
    """Return a label as a class; several become one of several names, as QuPath multiplexes."""
    return label if isinstance(label, str) else CLASS_SEPARATOR.join(label or ()) or None


def _overruled(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what the rule says, where a correction overruled it; empty for no label."""
    if row["label_source"] != "corrected":
        return {}
    return {RULE_KEY: _class_path(row["rule_label"]) or ""}


def _measurements(row: Mapping[str, Any], zeros: Mapping[str, float]) -> dict[str, float]:
    named = {
        "qb: label share": row["label_share"],
        "qb: margin": row["margin"],
        **({} if row["shares"] is None else zeros),
        **{f"qb: {label}": share for label, share in row["shares"] or ()},
    }
    return {name: value for name, value in named.items() if value is not None}


def ensure_provenance(
    project: Project, run: str, *, dry_run: bool = False, names: Names = OPEN
) -> tuple[str, Provenance]:
    """Write a run into its project unless it is there already.

    Parameters
    ----------
    project : Project
    run : str
        Id of a run of the project, or an output.
    dry_run : bool
        Write nothing; the result says where it would be written.
    names : Names
        Those of the run.

    Returns
    -------
    str
        The id.
    Provenance

    Raises
    ------
    OutputError
        If there is no such run, or it was exported from another project.
    """
    known = {folder.name: folder for folder in run_folders(project.info)}
    run_id = find_run(project.info, run)
    if run != run_id:
        from qupath_bridge.pipeline.verify import check_intact

        check_intact(open_output(run))
    if run_id in known:
        return run_id, Provenance(known[run_id])
    finished = Run.load(run)
    recorded = recorded_project(project, finished, names)
    if dry_run:
        return run_id, Provenance(project.info.bridge_folder / "runs" / run_id)
    return run_id, write_provenance(project.info, finished, recorded, names=names)


_RUN_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

COMPARED = ("entry_id", "slide_name", "uri", "coordinates")


def recorded_project(project: Project, run: Run, names: Names = OPEN) -> str:
    """Return the file of a project as a run has it; the project may have moved since.

    ``names`` are those of the run: pseudonyms tell nobody whether it is of this project.

    Raises
    ------
    UsageError
        If the run has pseudonyms, and ``names`` are not those of its key.
    OutputError
        If the run was exported from another project, or cannot say from which of several.
    """
    check_key(run.record["pseudonyms"], names, needed=True)
    parts: dict[str, list[Mapping[str, Any]]] = {}
    committed = {
        facts["slide_id"]: names.reveal({key: facts[key] for key in COMPARED})
        for facts, _ in _slides_of(run)
    }
    for slide in run.record["slides"]:
        parts.setdefault(slide["project"], []).append(
            committed.get(slide["slide_id"], names.reveal(slide))
        )
    here = names.hide(project.info.place)
    candidates = [here] if here in parts else list(parts)
    problems = {place: _differs(project, run, parts[place]) for place in candidates}
    fitting = [place for place, problem in problems.items() if problem is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise OutputError(
            f"Run {run.run_id} was exported from several projects that {here} could be: "
            f"{', '.join(fitting)}.",
            hint="Put the project back to where it was.",
        )
    # Of several projects none fits: what is wrong with the first is as good as any.
    found = [problem for problem in problems.values() if problem]
    raise OutputError(
        found[0] if found else f"Run {run.run_id} in {run.place} has no slide of {here}.",
        hint="Name the project that it was exported from.",
    )


def _differs(project: Project, run: Run, slides: Iterable[Mapping[str, Any]]) -> str | None:
    """Return why slides of a run are not those of a project; None if they are."""
    known = {slide.entry_id: slide for slide in project.slides}
    place = project.info.path
    checked = 0
    for old in slides:
        slide = known.get(old["entry_id"])
        if slide is None:
            continue
        same_name = slide.name == old["slide_name"] or slide.uri == old.get("uri", "")
        sizes = [slide.width, slide.height], old.get("coordinates", {}).get("size")
        if not same_name or (None not in sizes[0] and sizes[1] not in (None, sizes[0])):
            return (
                f"Run {run.run_id} was exported from image {old['slide_name']} (ID "
                f"{old['entry_id']}), but ID {old['entry_id']} in {place} is {slide.name}."
            )
        checked += 1
    return None if checked else f"Run {run.run_id} in {run.place} has no slide of {place}."


def find_run(project: ProjectInfo, run: str) -> str:
    """Return the id of a run that is named by it, or by its output.

    Raises
    ------
    OutputError
        If the project has no such run, and it is not an output either.
    """
    known = [folder.name for folder in run_folders(project)]
    if run in known:
        return run
    try:
        return Run.load(run).run_id
    except OutputError as error:
        if (Path(run) / records.RUN_FILE).is_file():
            raise
        raise OutputError(
            f"No run {run!r} in {project.folder}, and it is not an output folder.",
            hint=f"Its runs are: {', '.join(known) or 'none'}.",
        ) from error


def find_run_to_undo(project: ProjectInfo, run: str) -> str:
    """Return the id of a run that is named by it or by its output; neither has to be there still.

    Backups of write-backs name both. What looks like the id of a run is taken for one, since tiles
    may have it.

    Raises
    ------
    OutputError
        If it is neither.
    """
    from .backups import backups_of

    stored = {backup.run_id: backup.out for backup in backups_of(project.folder)}
    try:
        return run if run in stored else find_run(project, run)
    except OutputError:
        outs = stored | {
            folder.name: out for folder in run_folders(project) if (out := _output_of(folder))
        }
        place = str(Path(run).resolve())
        found = [run_id for run_id, out in outs.items() if out in (run, place)]
        if found:
            return max(found)
        if _RUN_ID.fullmatch(run):
            return run
        raise


def _output_of(folder: Path) -> str | None:
    """Return the output that the record of a run names; None if the record is damaged."""
    try:
        record = load_run_record(folder)
    except OutputError:
        return None
    return str(record["out"])
