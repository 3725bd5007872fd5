"""Inputs of a run that can change while it runs: read once, and frozen in its output.

Each is a file ``inputs/<kind>/<slide id>-<digest>.<ending>`` of the output; ``run.json`` lists
them with their whole digests. Tasks, and a run that is resumed, read these files; an update reads
anew. A name holds the digest of its content, so that those of an update stand beside the earlier
ones until ``run.json`` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import xxhash

from qupath_bridge.config import RunOptions
from qupath_bridge.errors import BridgeError, OutputError, ProjectError, UsageError
from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.model import ProjectInfo, Slide
from qupath_bridge.outputs.base import Output
from qupath_bridge.patches.corrections import Correction, from_lines, to_lines
from qupath_bridge.regular_files import MAX_RECORD_BYTES, read_regular
from qupath_bridge.schemas import INPUT_NAME, ProjectRunRecord, RunRecord, parse_json
from qupath_bridge.sources.coordinate_files import Coordinates, find_coordinate_files
from qupath_bridge.sources.corrections import corrected_entries, read_corrections
from qupath_bridge.stores.local import LocalStore

from . import records
from .recorded_runs import places_beside
from .slide_coords import SlideCoords

if TYPE_CHECKING:
    from qupath_bridge.sources.joining import JoinedTable

__all__ = [
    "JOINING",
    "NO_INPUTS",
    "SlideInputs",
    "coordinates_of",
    "digest_of",
    "files_of",
    "frozen_inputs",
    "input_problem",
    "inputs_by_slide",
    "joined_table",
    "listed_sizes",
    "load_inputs",
    "read_inputs",
    "slide_key",
    "without_masks",
]

JOINING = ("metadata", "metadata_key")
"""Options that add values to slides (:func:`joined_table`)."""

CORRECTIONS, SHOWN_LABELS, ANNOTATIONS = "corrections", "shown-labels", "annotations"
METADATA, TISSUE, COORDS = "metadata", "tissue", "coords"
_ENDINGS = {
    CORRECTIONS: "jsonl", SHOWN_LABELS: "json", ANNOTATIONS: "geojson", METADATA: "json",
    TISSUE: "mask", COORDS: "json",
}  # fmt: skip
_NAME = re.compile(INPUT_NAME)

AUTO, NONE = "auto", "none"
"""Values of the option ``corrections`` that are not a file."""


@dataclass(frozen=True, slots=True, repr=False)
class SlideInputs(OneLine):
    """Corrections, live annotations, metadata, mask and boxes of a slide, for its plan.

    Attributes
    ----------
    corrections : tuple of Correction
        In the order in which they were collected.
    shown_labels : mapping of str to tuple of str
        Labels of the runs that they are about, by run id; a run that nobody has any more is
        left out.
    live : bytes or None
        GeoJSON text of the annotations that a QuPath window showed; None for the saved ones.
    metadata : mapping of str to str
        What a table says about the slide, beside its own metadata.
    tissue : bytes or None
        The file that the tissue method needs for the slide, as it was when the run began; None
        where a plan reads it itself.
    coords : SlideCoords or None
        Coordinates of another tool, which are read when they are needed; None for a grid.
    """

    corrections: tuple[Correction, ...] = ()
    shown_labels: Mapping[str, tuple[str, ...]] = FrozenDict()
    live: bytes | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = FrozenDict()
    tissue: bytes | None = field(default=None, repr=False)
    coords: SlideCoords | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", FrozenDict(self.metadata))
        labels = {run_id: tuple(names) for run_id, names in sorted(self.shown_labels.items())}
        object.__setattr__(self, "shown_labels", FrozenDict(labels))

    def applied(self, slide: Slide) -> Slide:
        """Return the slide as it is planned.

        Raises
        ------
        PlanError
            If the table contradicts the slide's own metadata.
        """
        if self.metadata:
            from qupath_bridge.sources.joining import merged

            slide = replace(slide, metadata=FrozenDict(merged(slide, self.metadata)))
        if self.live is None:
            return slide
        from qupath_bridge.sources.live import with_live_annotations

        return with_live_annotations(slide, self.live)

    def annotations_origin(self, slide: Slide) -> Literal["project", "geojson", "live"]:
        """Return where the annotations of a slide come from."""
        if self.live is not None:
            return "live"
        source = slide.project.source
        return "geojson" if source is not None and source.annotations else "project"


NO_INPUTS = SlideInputs()

SlideKey = tuple[str, str]
"""Project file and entry ID."""


def read_inputs(
    slides: Sequence[Slide],
    options: RunOptions,
    *,
    known: Iterable[Slide] = (),
    output: Output | None = None,
    said: Mapping[SlideKey, tuple[Correction, ...]] = FrozenDict(),
    table: JoinedTable | None = None,
) -> dict[SlideKey, SlideInputs]:
    """Read the inputs of slides as they are now.

    Parameters
    ----------
    slides : sequence of Slide
    options : RunOptions
        ``corrections``, ``live_annotations``, ``coords`` and the table ``metadata``.
    known : iterable of Slide
        All slides of the project, where ``slides`` are a part of them.
    output : Output, optional
        Whose run may be one that was corrected, and that the project does not have any more.
    said : mapping of SlideKey to tuple of Correction
        Corrections that were read just now, which are not read again.
    table : JoinedTable, optional
        The table, where it is read already.

    Returns
    -------
    dict
        By :func:`slide_key`; slides without any input are left out.

    Raises
    ------
    ProjectError
        If a file is damaged.
    UsageError
        If a file is named that is not there, or names a slide that is not there; or if the
        table does not fit the slides, or a slide has no coordinates.
    """
    table = table or joined_table(options, known or slides)
    if table is not None:
        table.check(slides)
    collected = _corrections(slides, options.corrections, known, said)
    live = _live(slides, options.live_annotations, known)
    coords = _coords(slides, options.coords)
    labels: dict[tuple[str, str], tuple[str, ...] | None] = {}
    found = {}
    for slide in slides:
        key = slide_key(slide)
        shown = {}
        corrections = collected.get(key, ())
        for run_id in {one.run_id for one in corrections}:
            place = (slide.project.place, run_id)
            if place not in labels:
                labels[place] = _labels_of(slide.project, run_id, output)
            if (names := labels[place]) is not None:
                shown[run_id] = names
        metadata = {} if table is None else table.values(slide)
        inputs = SlideInputs(corrections, shown, live.get(key), metadata, coords=coords.get(key))
        if inputs != NO_INPUTS:
            found[key] = inputs
    return found


def coordinates_of(inputs: SlideInputs) -> Coordinates | None:
    """Return the places where another tool took its patches of a slide; None for a grid."""
    return None if inputs.coords is None else inputs.coords.read()


def listed_sizes(inputs: Iterable[SlideInputs]) -> set[int]:
    """Return the sizes of the patches that coordinates are of, pixels; none for grids."""
    return {each.coords.size for each in inputs if each.coords is not None}


def joined_table(options: RunOptions, known: Iterable[Slide]) -> JoinedTable | None:
    """Return the table that the options name, for all slides of the sources; None without one."""
    if options.metadata is None:
        return None
    from qupath_bridge.sources.joining import JoinedTable

    return JoinedTable(options.metadata, options.metadata_key, tuple(known))


def slide_key(slide: Slide) -> SlideKey:
    """Return project file and entry ID, which identify a slide in a run."""
    return str(slide.project.path), slide.entry_id


def _corrections(
    slides: Sequence[Slide],
    wanted: str,
    known: Iterable[Slide],
    said: Mapping[SlideKey, tuple[Correction, ...]],
) -> dict[SlideKey, tuple[Correction, ...]]:
    if wanted == NONE:
        return {}
    if wanted == AUTO:
        new = [slide for slide in slides if slide_key(slide) not in said]
        return {**_collected(new), **said}
    path = Path(wanted)
    by_entry = _one_project(slides, "corrections", known)
    found: dict[SlideKey, list[Correction]] = {}
    for entry_id, correction in from_lines(_read(path), str(path)):
        if entry_id not in by_entry:
            raise ProjectError(
                f"no slide of the project has the entry ID {entry_id}",
                path=path,
                hint="Is it a file of another project?",
            )
        found.setdefault(by_entry[entry_id], []).append(correction)
    return {key: tuple(each) for key, each in found.items()}


def _collected(slides: Sequence[Slide]) -> dict[SlideKey, tuple[Correction, ...]]:
    """Read what was collected: in the projects, and beside the patches of their runs."""
    projects = {slide.project.place: slide.project for slide in slides}
    beside = {
        place: [folder / CORRECTIONS for folder in places_beside(project)]
        for place, project in projects.items()
    }
    entries = [slide.entry_id for slide in slides]
    known = {place: corrected_entries(project, entries) for place, project in projects.items()}
    return {
        slide_key(slide): read_corrections(
            slide.project, slide.entry_id, beside=beside[slide.project.place]
        )
        if slide.entry_id in known[slide.project.place]
        else ()
        for slide in slides
    }


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_RECORD_BYTES)
    except OSError as error:
        raise UsageError(
            f"corrections: {path}: {error.strerror}.",
            hint="Name a file of corrections, or auto, or none.",
        ) from error


def _live(
    slides: Sequence[Slide], folder: Path | None, known: Iterable[Slide]
) -> dict[SlideKey, bytes]:
    if folder is None:
        return {}
    from qupath_bridge.sources.live import read_live_files

    by_entry = _one_project(slides, "live_annotations", known)
    return {by_entry[k]: content for k, content in read_live_files(folder, by_entry).items()}


def _coords(slides: Sequence[Slide], place: Path | None) -> dict[SlideKey, SlideCoords]:
    if place is None:
        return {}
    files = find_coordinate_files(place, slides)
    return {
        slide_key(slide): SlideCoords.of_file(path)
        for slide, path in zip(slides, files, strict=True)
    }


def _one_project(
    slides: Sequence[Slide], option: str, known: Iterable[Slide]
) -> dict[str, SlideKey]:
    """Return the key of each slide by its entry ID, which is unique in one project only."""
    keys = [slide_key(slide) for slide in (*known, *slides)]
    if len({project for project, _ in keys}) > 1:
        raise UsageError(
            f"{option} names slides by their entry IDs, and several projects are given.",
            hint="Export the projects one by one.",
        )
    return {entry_id: (project, entry_id) for project, entry_id in keys}


def _labels_of(project: ProjectInfo, run_id: str, output: Output | None) -> tuple[str, ...] | None:
    """Return the labels of a run that was shown; None if nobody knows them any more."""
    folder = project.bridge_folder / "runs" / run_id
    try:
        return tuple(
            records.load_record(LocalStore(folder), records.RUN_FILE, ProjectRunRecord)["labels"]
        )
    except BridgeError:
        pass
    try:
        record = output and records.load_record(output, records.RUN_FILE, RunRecord)
    except BridgeError:
        return None
    return tuple(record["labels"]) if record and record["run_id"] == run_id else None


def files_of(slide_id: str, entry_id: str, inputs: SlideInputs) -> dict[str, bytes]:
    """Return the files in which the inputs of a slide are frozen: names and contents."""
    contents: dict[str, bytes] = {}
    if inputs.corrections:
        contents[CORRECTIONS] = to_lines((entry_id, one) for one in inputs.corrections)
    if inputs.shown_labels:
        contents[SHOWN_LABELS] = records.dump_json(
            {run_id: list(labels) for run_id, labels in inputs.shown_labels.items()}
        )
    if inputs.live is not None:
        contents[ANNOTATIONS] = inputs.live
    if inputs.metadata:
        contents[METADATA] = records.dump_json(dict(sorted(inputs.metadata.items())))
    if inputs.tissue is not None:
        contents[TISSUE] = inputs.tissue
    if inputs.coords is not None:
        contents[COORDS] = inputs.coords.read().to_bytes()
    return {
        f"inputs/{kind}/{slide_id}-{_hex(content)[:16]}.{_ENDINGS[kind]}": content
        for kind, content in contents.items()
    }


def inputs_by_slide(listed: Mapping[str, str]) -> dict[str, FrozenDict[str, str]]:
    """Return names and digests of the inputs of a run by slide id; slides without are left out."""
    found: dict[str, dict[str, str]] = {}
    for name, digest in listed.items():
        if match := _NAME.fullmatch(name):
            found.setdefault(match["slide"], {})[name] = digest
    return {slide_id: FrozenDict(names) for slide_id, names in found.items()}


def digest_of(content: bytes) -> str:
    """Return the digest of a frozen input, as ``run.json`` lists it."""
    return f"xxh3_128:{_hex(content)}"


def _hex(content: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(content)


def load_inputs(output: Output, listed: Mapping[str, str]) -> SlideInputs:
    """Read the frozen inputs of one slide.

    Parameters
    ----------
    output : Output
    listed : mapping of str to str
        Name and digest of each.

    Raises
    ------
    OutputError
        If one is missing, or is not as it was written.
    """
    contents: dict[str, bytes] = {}
    coords = None
    for name, digest in listed.items():
        match = _NAME.fullmatch(name)
        kind = match["kind"] if match else name
        if kind == COORDS:
            place = f"{name} in {output.describe()}"
            coords = SlideCoords.taken(place, partial(_frozen_coords, output, name, digest))
        else:
            contents[kind] = _frozen(output, name, digest)
    said = from_lines(contents.get(CORRECTIONS, b""), CORRECTIONS)
    return SlideInputs(
        tuple(one for _, one in said),
        parse_json(contents.get(SHOWN_LABELS, b"{}")),
        contents.get(ANNOTATIONS),
        parse_json(contents.get(METADATA, b"{}")),
        contents.get(TISSUE),
        coords,
    )


def _frozen_coords(output: Output, name: str, digest: str) -> Coordinates:
    return Coordinates.from_bytes(_frozen(output, name, digest))


def _frozen(output: Output, name: str, digest: str) -> bytes:
    content, problem = _look_at(output, name, digest)
    if problem is not None:
        raise OutputError(
            f"{name} in {output.describe()}: {problem}.",
            hint="Export with update, which reads all inputs anew.",
        )
    return content


def input_problem(output: Output, name: str, digest: str) -> str | None:
    """Return what is wrong with a frozen input; None if it is as it was written."""
    return _look_at(output, name, digest)[1]


def _look_at(output: Output, name: str, digest: str) -> tuple[bytes, str | None]:
    """Return the content of a frozen input, and what is wrong with it."""
    if not output.has(name):
        return b"", "the file is gone"
    content = output.get(name)
    same = digest_of(content) == digest
    return content, None if same else "the file is not as the run wrote it"


def frozen_inputs(output: Output) -> dict[str, SlideInputs] | None:
    """Return the inputs of the run in an output by slide id; None if it has not frozen any yet.

    Without masks, which are large: a run that is resumed leaves them where they are.

    Raises
    ------
    OutputError
        If the run, or one of its inputs, is damaged.
    """
    if not output.has(records.RUN_FILE):
        return None
    record = records.load_record(output, records.RUN_FILE, RunRecord)
    if record["inputs"] is None:
        return None
    listed = inputs_by_slide(record["inputs"])
    slides = [slide["slide_id"] for slide in record["slides"] if slide["slide_id"]]
    return {
        slide_id: load_inputs(output, without_masks(listed.get(slide_id, {})))
        for slide_id in slides
    }


def without_masks(listed: Mapping[str, str]) -> dict[str, str]:
    """Return names and digests of the frozen inputs of a slide, without masks."""
    return {k: digest for k, digest in listed.items() if not k.startswith(f"inputs/{TISSUE}/")}
