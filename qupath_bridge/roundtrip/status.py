"""Runs of a project, and their stale patches.

A run is compared with the project of today: the plan is made again with the run's own
configuration, and its patches are compared with the tiles that the run wrote into the project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from qupath_bridge.config import ExportConfig, RunOptions, Selection, Settings
from qupath_bridge.errors import BridgeError, MissingDataError
from qupath_bridge.frozen import OneLine, count, one_line
from qupath_bridge.model import Box, Slide
from qupath_bridge.outputs import open_output
from qupath_bridge.patches.ids import json_digest, patch_id
from qupath_bridge.pipeline.channels import ChannelView
from qupath_bridge.pipeline.inputs import (
    COORDS,
    METADATA,
    NO_INPUTS,
    SlideInputs,
    SlideKey,
    files_of,
    inputs_by_slide,
    read_inputs,
    slide_key,
)
from qupath_bridge.pipeline.plan import Plan
from qupath_bridge.pipeline.planning import plan_slide
from qupath_bridge.pipeline.recorded_runs import load_run_record, run_folders
from qupath_bridge.pipeline.records import (
    RUN_FILE,
    annotation_record,
    check_named,
    load_record,
)
from qupath_bridge.schemas import RunRecord, SlideFacts
from qupath_bridge.sources import open_source
from qupath_bridge.sources.base import Project
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.urls import shown

from .changes import tile_changes, tile_names
from .prediction_files import load_all
from .stored_runs import copied_runs
from .tile_files import read_run_tiles

__all__ = ["EntryStatus", "RunStatus", "status"]


@dataclass(frozen=True, slots=True, repr=False)
class EntryStatus(OneLine):
    """The state of one slide of a run.

    Attributes
    ----------
    state : str
        ``current``, ``stale`` or ``unknown`` (the slide cannot be looked at now).
    reasons : tuple of str
        The changes, in words.
    added, removed, label_changed, pixels_changed : tuple of str
        Ids of the patches that a new export would add, remove, give another label (or other
        shares), or read other pixels for.
    contested : tuple of str
        Ids of patches that somebody spoke about, and of which the rule says something else now.
    """

    entry_id: str
    slide_name: str
    state: str
    reasons: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    label_changed: tuple[str, ...] = ()
    pixels_changed: tuple[str, ...] = ()
    contested: tuple[str, ...] = ()

    @property
    def changed(self) -> int:
        """Number of patches that a new export would change."""
        return len({*self.added, *self.removed, *self.label_changed, *self.pixels_changed})


@dataclass(frozen=True, slots=True, repr=False)
class RunStatus:
    """A run of the project, compared with the project of today.

    ``predictions`` are the names of those that its tiles show. ``projects`` and ``settings`` are
    what a new export of the run needs; ``settings`` has of the options of the run those that say
    where the slides are and what reads them.
    """

    run_id: str
    finished: str | None
    out: str
    out_found: bool
    folder: Path
    entries: tuple[EntryStatus, ...] = ()
    projects: tuple[str, ...] = ()
    settings: Settings | None = None
    predictions: tuple[str, ...] = ()
    superseded_by: str | None = None
    problem: str | None = None

    def __repr__(self) -> str:
        return one_line(
            "RunStatus",
            f"{self.run_id!r}, {self.state}",
            count(len(self.entries), "slide"),
            out=self.out,
            problem=self.problem,
        )

    @property
    def state(self) -> str:
        """``unreadable``, ``superseded``, ``stale``, ``unknown`` or ``current``.

        ``superseded``: a newer run was written to the same output. Otherwise ``stale`` if
        any slide is, else ``unknown`` if any is.
        """
        if self.problem:
            return "unreadable"
        if self.superseded_by:
            return "superseded"
        states = {entry.state for entry in self.entries}
        return next((s for s in ("stale", "unknown") if s in states), "current")


def status(project: Project, outs: Iterable[Path | str] = ()) -> tuple[RunStatus, ...]:
    """Return the runs of a project, oldest first, each compared with the project of today.

    ``outs`` are outputs that have the provenance of further runs, since the project could not be
    written.
    """
    with copied_runs(project.info, outs) as copies:
        folders = {**{folder: folder for folder in run_folders(project.info)}, **copies}
        return tuple(
            _readable(project, folder, folders[folder])
            for folder in sorted(folders, key=lambda folder: folder.name)
        )


def _readable(project: Project, folder: Path, place: Path) -> RunStatus:
    """Return the status of a run, of which ``folder`` may be a copy, and ``place`` is where it is.

    One whose record is damaged does not hide the others.
    """
    try:
        return replace(_run_status(project, folder, load_run_record(folder)), folder=place)
    except BridgeError as error:
        # What to do with a folder of this machine does not help who has it elsewhere.
        problem = str(error) if folder == place else error.message
        problem = problem.replace(str(folder), shown(place))
        return RunStatus(folder.name, None, "", False, place, problem=problem)


def _run_in(out: str) -> str | None:
    """Return the id of the run that an output has now; None if there is none."""
    try:
        output = open_output(out)
        return str(load_record(output, RUN_FILE, RunRecord)["run_id"])
    except BridgeError:
        return None


def _run_status(project: Project, folder: Path, record: Mapping[str, Any]) -> RunStatus:
    there = _run_in(record["out"])
    source = str(folder / "run.json")
    config = ExportConfig.parse(record["config"], source=source)
    this: Mapping[str, Any] = next(
        (each for each in record["projects"] if each["path"] == record["project"]), {}
    )
    given = {name: record["options"][name] for name in KEPT if name in record["options"]}
    given |= {name: this[name] for name in ("annotations", "skip_bad_features") if this.get(name)}
    options = RunOptions.parse(given, source=source)
    failed = {failure["slide_id"]: failure["error"] for failure in record["failures"]}
    entries = [old for old in record["slides"] if old["project"] == record["project"]]
    with _drawn_as_in_the_run(project, this) as drawn:
        slides = {slide.entry_id: slide for slide in drawn.slides}
        plan = _planner(drawn, config, options, record["out"])
        compared = tuple(
            _entry_status(slides.get(old["entry_id"]), folder, record, old, plan, failed)
            for old in entries
        )
    return RunStatus(
        run_id=record["run_id"],
        finished=record["finished"],
        out=record["out"],
        out_found=there is not None,
        folder=folder,
        projects=_projects(project, record),
        settings=Settings(Selection.parse(record["selection"], source=source), config, options),
        predictions=tuple(str(each["name"]) for each in load_all(folder)),
        superseded_by=there if there not in (None, record["run_id"]) else None,
        entries=compared,
    )


KEPT = (
    "engine", "qupath", "reader", "slide_map", "search", "corrections", "coords", "metadata",
    "metadata_key",
)  # fmt: skip
"""Options of a run that a new export needs, too."""


@contextmanager
def _drawn_as_in_the_run(project: Project, recorded: Mapping[str, Any]) -> Iterator[Project]:
    """Give the project with the regions of the GeoJSON files of a run, if it had any.

    Those that the project was opened with win.
    """
    if not recorded.get("annotations") or project.ref.annotations:
        yield project
        return
    ref = replace(
        project.ref,
        annotations=recorded["annotations"],
        skip_bad_features=recorded["skip_bad_features"],
    )
    with open_source(ref) as source:
        yield source


def _projects(project: Project, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the places of the projects of a run; this one can have moved since."""
    here = project.info.place
    places = [each["path"] for each in record["projects"]]
    return tuple(here if place == record["project"] else place for place in places) or (here,)


def _planner(
    project: Project, config: ExportConfig, options: RunOptions, out: str
) -> Callable[[Slide, str], Plan]:
    """Return a function that plans a slide as the run did, with the corrections of today."""
    wanted = options.only("corrections", "coords", "metadata", "metadata_key")
    try:
        output = open_output(out)
    except BridgeError:
        output = None

    @cache
    def inputs() -> Mapping[SlideKey, SlideInputs]:
        return read_inputs(project.slides, wanted, output=output)

    def plan(slide: Slide, slide_id: str) -> Plan:
        own = inputs().get(slide_key(slide), NO_INPUTS)
        # Another reader than the run's own would be a difference by itself.
        reader = options.only("reader")
        return plan_slide(slide, config, reader, slide_id=slide_id, inputs=own)

    return plan


def _entry_status(
    slide: Slide | None,
    folder: Path,
    record: Mapping[str, Any],
    old: Mapping[str, Any],
    plan: Callable[[Slide, str], Plan],
    failed: Mapping[str, str],
) -> EntryStatus:
    """Compare one slide; ``failed`` has the slides that failed in the run, and why."""
    entry_id, name = old["entry_id"], old["slide_name"]
    store = LocalStore(folder)
    if not store.exists(f"{entry_id}.json"):
        # There is nothing to compare with.
        reason = "the run has nothing of this slide"
        if old["slide_id"] in failed:
            reason = f"the slide failed in this run: {failed[old['slide_id']]}"
        return EntryStatus(entry_id, name, "unknown", (reason,))
    old = load_record(store, f"{entry_id}.json", SlideFacts)
    check_named(old, entry_id=entry_id, run_id=folder.name, path=folder / f"{entry_id}.json")
    tiles = read_run_tiles(folder, record, entry_id)
    if slide is None:
        return EntryStatus(
            entry_id, name, "stale", ("the slide is no longer in the project",),
            removed=tile_names(tiles),
        )  # fmt: skip
    try:
        new = plan(slide, old["slide_id"])
    except MissingDataError as error:
        # The options of the run are as they are: only the source's own advice helps here.
        return EntryStatus(entry_id, name, "unknown", (str(error.__cause__ or error),))
    except BridgeError as error:
        return EntryStatus(entry_id, name, "unknown", (str(error),))
    reasons = tuple(_reasons(new, old, record))
    changes = tile_changes(new, tiles)
    return EntryStatus(
        entry_id,
        slide.name,
        "stale" if reasons or any(changes[:3]) else "current",
        reasons,
        added=changes.added,
        removed=changes.removed,
        label_changed=changes.label_changed,
        pixels_changed=changes.both if _pixels_changed(new, old) else (),
        contested=tuple(
            patch_id(new.slide_id, box.x, box.y, *plane, size=_own_size(new, box))
            for box, plane in new.corrections.contested
        ),
    )


def _own_size(plan: Plan, box: Box) -> tuple[int, int] | None:
    """Return the size of a box as a part of its id; None if all have one size."""
    return (box.w, box.h) if plan.table.sized else None


def _pixels_changed(new: Plan, old: Mapping[str, Any]) -> bool:
    fingerprint = old["fingerprint"]
    return (
        (
            (new.fingerprint.size, new.fingerprint.digest)
            != (fingerprint["size"], fingerprint["digest"])
        )
        or any(
            new.coordinates.digest_values()[key] != old["coordinates"][key]
            for key in ("size", "matrix")
        )
        or _unnamed(new.view) != _unnamed(_view(old))
    )


def _view(old: Mapping[str, Any]) -> ChannelView:
    return ChannelView.from_json(old["channels"])


def _unnamed(view: ChannelView) -> dict[str, Any]:
    """Return what decides the exported pixels, but not the names of their channels."""
    return {**view.digest_values(), "names": None}


def _reasons(new: Plan, old: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    """Describe the differences from the run's record, and from its facts of the slide."""
    if new.slide.name != old["slide_name"]:
        yield f"the slide was renamed from {old['slide_name']!r}"
    if _pixels_changed(new, old):
        yield "the slide file, or the way that QuPath opens it, was replaced"
    names = _view(old).names
    if new.view.names != names:
        yield f"the channels were {', '.join(names)} and are {', '.join(new.view.names)}"
    size = new.pixel_size
    if (None if size is None else {"x": size.x, "y": size.y, "origin": size.origin}) != old[
        "coordinates"
    ]["pixel_size"]:
        yield "the pixel size was changed"
    if new.slide_label != old["slide_label"]:
        yield f"the label of the slide was {old['slide_label']!r} and is {new.slide_label!r}"
    now = files_of(new.slide_id, new.slide.entry_id, new.inputs)
    then: Mapping[str, str] = inputs_by_slide(record["inputs"] or {}).get(new.slide_id, {})
    if new.slide_label == old["slide_label"] and _of(METADATA, now) != _of(METADATA, then):
        yield "the table says something else of the slide"
    moved = _of(COORDS, now) != _of(COORDS, then)
    if moved:
        yield "the coordinates of the patches changed"
    said = old["corrections"]["digest"]
    if new.corrections.digest != said:
        yield "corrections were made, changed or withdrawn"
    if new.annotation_digest != old["annotation_digest"]:
        if old["annotations_origin"] == "live":
            yield "the annotations of the run are not saved in QuPath"
        yield from _annotation_changes(new, old["annotations"])
    elif not moved and json_digest(_as_before(new, old, said)) != old["plan_digest"]:
        yield "the options or parts that make the patches changed"


def _as_before(new: Plan, old: Mapping[str, Any], said: str | None) -> dict[str, object]:
    """Return what decides the patches now, but for what other reasons tell already."""
    label = {} if old["slide_label"] is None else {"slide_label": old["slide_label"]}
    view = {**new.view.digest_values(), "names": list(_view(old).names)}
    return {**new.digest_values(), "corrections": said, "view": view, **label}


def _of(kind: str, files: Iterable[str]) -> set[str]:
    """Return those of the frozen inputs of a slide that are of a kind."""
    return {name for name in files if name.startswith(f"inputs/{kind}/")}


def _annotation_changes(new: Plan, before: Mapping[str, Any]) -> Iterator[str]:
    after = {a.id: a for a in new.annotations}
    for annotation_id in sorted({*before, *after}):
        if annotation_id not in before:
            yield f"annotation {_called(after[annotation_id])} was added"
        elif annotation_id not in after:
            yield f"annotation {annotation_id} ({before[annotation_id][0]}) was deleted"
        else:
            old_class, old_shape = before[annotation_id]
            new_class, new_shape = annotation_record(after[annotation_id])
            if old_class != new_class:
                yield (
                    f"annotation {_called(after[annotation_id])} changed its class "
                    f"from {old_class} to {new_class}"
                )
            if old_shape != new_shape:
                yield f"annotation {_called(after[annotation_id])} was moved or reshaped"


def _called(annotation: Any) -> str:
    name = f" {annotation.name!r}" if annotation.name else ""
    return f"{annotation.id} ({annotation.class_path or 'unclassified'}{name})"
