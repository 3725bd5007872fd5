"""The slides of a run, opened again: their files, and plans that say what was not written.

A slide is used only if it is the one that was exported, and a plan only if it is the run's own. Of
everything else the report says why it is not there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from qupath_bridge.config import ExportConfig, RunOptions
from qupath_bridge.errors import BridgeError
from qupath_bridge.geometry.coordinates import CoordinateMap, coordinate_map
from qupath_bridge.model import FIRST_PLANE, Plane, ServerBuilder, Slide, SourceRef
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline import records
from qupath_bridge.pipeline.channels import ChannelView
from qupath_bridge.pipeline.composites import find_ranges
from qupath_bridge.pipeline.inputs import inputs_by_slide, load_inputs
from qupath_bridge.pipeline.opened import slide_of_entry
from qupath_bridge.pipeline.plan import Plan
from qupath_bridge.pipeline.planning import plan_slide
from qupath_bridge.pipeline.pseudonyms import OPEN, Names, is_pseudonym
from qupath_bridge.pixels.composite import Composite
from qupath_bridge.qupath.files.uris import mapped_place
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.base import Reader
from qupath_bridge.sources import open_source
from qupath_bridge.sources.base import Project
from qupath_bridge.urls import url_of

__all__ = ["OpenSlide", "Reopener"]

NO_FILE = (
    "The slide file was not found. What is read from it is not shown: the picture of the slide, "
    "and the patches that were not written. Name its new place with the option slide_map (OLD=NEW)."
)
NO_KEY = (
    "The run has pseudonyms, and without their key file nobody knows where its slides are. What is "
    "read from them is not shown: the picture of the slide, and the patches that were not written. "
    "Give the key file with the option pseudonymise; the page shows pseudonyms all the same."
)
OTHER_FILE = (
    "The slide file is not the one that was exported, or cannot be read. What is read from it is "
    "not shown: the picture of the slide, and the patches that were not written."
)
NO_PLAN = (
    "The project of this slide cannot be opened as the run did. Regions and the boxes that were "
    "not written are not drawn; their numbers are those of the run."
)
OTHER_PLAN = (
    "Annotations, corrections or parts of the program changed after the export. Regions and the "
    "boxes that were not written are not drawn; their numbers are those of the run."
)


@dataclass(frozen=True, slots=True)
class OpenSlide:
    """A slide of a run that is open again.

    Attributes
    ----------
    reader : Reader or None
        Of the slide file; None if it is not there, or is not the one that was exported.
    coordinates : CoordinateMap or None
        None together with the reader.
    plan : Plan or None
        The run's own plan, made again; None if it cannot be made, or would be another one.
    note : str or None
        Why something is missing.
    view : ChannelView or None
        The channels that were exported; None together with the reader.
    display : Composite or None
        How they are shown, with ranges; None for RGB, and without a reader.
    plane : Plane
        The first one that was exported.
    """

    reader: Reader | None = None
    coordinates: CoordinateMap | None = None
    plan: Plan | None = None
    note: str | None = None
    view: ChannelView | None = None
    display: Composite | None = None
    plane: Plane = FIRST_PLANE


class Reopener:
    """Opens the slides of a run again, each project once.

    Parameters
    ----------
    output : Output
    record : mapping
        ``run.json``.
    reader : str
        What reads the slide files; the run's own choice where it is ``auto``.
    slide_map : mapping of str to str
        Old place to new place of slides that moved.
    names : Names
        The names behind the pseudonyms of the run, if it has any.
    """

    def __init__(
        self,
        output: Output,
        record: Mapping[str, Any],
        *,
        reader: str = "auto",
        slide_map: Mapping[str, str],
        names: Names = OPEN,
    ) -> None:
        self._output = output
        self._config = ExportConfig.parse(
            record["config"], source=f"{output.describe()}: {records.RUN_FILE}"
        )
        self._reader = reader if reader != "auto" else str(record["options"].get("reader", "auto"))
        self._slide_map = dict(slide_map)
        self._names = names
        self._inputs = inputs_by_slide(record["inputs"] or {})
        projects = names.reveal(record["projects"])
        self._recorded = {each["path"]: each for each in projects}
        self._projects: dict[str, Project | None] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextmanager
    def open(self, facts: Mapping[str, Any]) -> Iterator[OpenSlide]:
        """Open a slide while the block runs; nothing that is wrong with it is an error."""
        place = str(self._names.reveal(facts["path"]))
        path = mapped_place(place, self._slide_map) or Path(place)
        if url_of(path) is None and not path.exists():
            yield OpenSlide(note=NO_KEY if is_pseudonym(place) else NO_FILE)
            return
        with ExitStack() as stack:
            try:
                reader = stack.enter_context(
                    open_reader(path, name=self._reader, on_bad_tile=self._config.on_bad_tile)
                )
                coordinates = _coordinates(facts, reader)
                view = ChannelView.from_json(facts["channels"])
                display = _display(facts, view, reader, coordinates)
            except BridgeError:
                coordinates = None
            if coordinates is None:
                yield OpenSlide(note=OTHER_FILE)
            else:
                plan, note = self._plan(facts, path)
                plane = self._config.grid_spec().planes[0]
                yield OpenSlide(reader, coordinates, plan, note, view, display, plane)

    def _plan(self, facts: Mapping[str, Any], path: Path) -> tuple[Plan | None, str | None]:
        """Plan a slide again, and say why not if the plan is not the run's."""
        try:
            slide = self._slide(facts)
            if slide is None:
                return None, NO_PLAN
            inputs = load_inputs(self._output, self._inputs.get(facts["slide_id"], {}))
            plan = plan_slide(
                dataclasses.replace(slide, path=path),
                self._config,
                RunOptions(reader=self._reader),
                slide_id=facts["slide_id"],
                inputs=inputs,
            )
        except BridgeError:
            return None, NO_PLAN
        return (plan, None) if _is_same(plan, facts) else (None, OTHER_PLAN)

    def _slide(self, facts: Mapping[str, Any]) -> Slide | None:
        place = self._names.reveal(facts["project"])
        recorded = self._recorded.get(place)
        if place is None or recorded is None:
            return None
        if place not in self._projects:
            self._projects[place] = None
            project = open_source(_source(recorded, self._slide_map))
            self._projects[place] = self._stack.enter_context(project)
        opened = self._projects[place]
        return (
            None
            if opened is None
            else slide_of_entry(opened, self._names.reveal(facts["entry_id"]))
        )


def _coordinates(facts: Mapping[str, Any], reader: Reader) -> CoordinateMap | None:
    """Return the coordinate map of the file that was exported; None if this is another one."""
    known, found = facts["fingerprint"], reader.fingerprint
    if (found.size, found.digest) != (known["size"], known["digest"]):
        return None
    return coordinate_map(
        ServerBuilder(facts["coordinates"]["builder"]),
        file_size=reader.size,
        bounds=reader.bounds,
    )


def _display(
    facts: Mapping[str, Any],
    view: ChannelView,
    reader: Reader,
    coordinates: CoordinateMap | None,
) -> Composite | None:
    """Return how the channels of a slide are shown; ranges that the run did not fix are found."""
    if coordinates is None or facts["display"] is None:
        return None
    return find_ranges(Composite.from_json(facts["display"]), view, reader, coordinates)


def _source(recorded: Mapping[str, Any], slide_map: Mapping[str, str]) -> SourceRef:
    """Return how a project of a run is opened without a QuPath."""
    name = recorded.get("name") or "embedded"
    return SourceRef(
        recorded["path"],
        "embedded" if name == "paquo" else name,
        slide_map=slide_map,
        annotations=recorded["annotations"],
        skip_bad_features=recorded["skip_bad_features"],
    )


def _is_same(plan: Plan, facts: Mapping[str, Any]) -> bool:
    """Return whether a plan has the boxes, labels and reasons that the run had.

    What reads and encodes pixels may differ: it decides neither.
    """
    counts = facts["counts"]
    dropped = dict(counts["dropped"])
    dropped.pop("quality", None)  # reading drops these, not the plan
    return (
        plan.annotation_digest == facts["annotation_digest"]
        and plan.corrections.digest == facts["corrections"]["digest"]
        and len(plan) == counts["planned"]
        and dict(sorted(plan.label_counts().items())) == dict(counts["by_label"])
        and records.dropped_counts(plan) == dropped
    )
