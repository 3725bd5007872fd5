"""Corrections of a project: what people said about the patches of its slides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from qupath_bridge.errors import BridgeError
from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.model import Box, ImageData, Slide
from qupath_bridge.patches.corrections import Correction
from qupath_bridge.patches.ids import TILE_ID_BEGINNING, patch_id, slide_id
from qupath_bridge.patches.roles import role_of

from .agreement import Agreement, agreements
from .backups import DATA_FILE
from .collecting import Examination, dismiss, examine, keep
from .file_state import contains
from .runs import ProjectRuns
from .shown import SHOWN
from .tile_files import RUN_KEY
from .tile_tables import RunTiles

__all__ = [
    "Corrections",
    "Decision",
    "JudgedPatch",
    "SlideCorrections",
    "collect_corrections",
    "list_corrections",
]

_TILES = (TILE_ID_BEGINNING.encode(), RUN_KEY.encode())
"""Parts of data files with tiles of this library: QuPath writes ids and metadata as texts. Tiles
with a new id have the metadata."""

Decision = Literal["list", "collect", "accept", "dismiss"]


@dataclass(frozen=True, slots=True, repr=False)
class JudgedPatch(OneLine):
    """A patch with what was said last about it.

    Attributes
    ----------
    patch : str
        Patch id.
    correction : Correction
    state : str
        ``collected``; ``found`` in the slide's data, and not collected yet; or ``unsure``.
    applied : bool
        False if the newest run of the slide does not know of it.
    contested : bool
        True if the rule says something else in the newest run than when it was said.
    in_grid : bool
        False if the newest run has another grid, so that nothing can be applied.
    same_file : bool
        False if the newest run read another slide file, so that nothing is applied.
    """

    patch: str
    correction: Correction
    state: Literal["collected", "found", "unsure"]
    applied: bool = True
    contested: bool = False
    in_grid: bool = True
    same_file: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class SlideCorrections(OneLine):
    """The patches of one slide about which people said something.

    Attributes
    ----------
    entry_id, slide_name : str
    run_id : str or None
        The newest run of the slide.
    patches : tuple of JudgedPatch
        The last one about each patch; withdrawn ones are left out.
    withdrawn : int
        Patches whose last statement was withdrawn.
    collected : int
        Statements that were stored by this call.
    foreign : int
        Tiles that QuPath copied with another image; what was done to them is not collected.
    messages : tuple of str
        What a person should know, in sentences.
    problem : str or None
        Reason why the slide could not be looked at.
    project : str
        Project file.
    statements : tuple of Correction
        All statements, those that are new last.
    """

    entry_id: str
    slide_name: str
    run_id: str | None = None
    patches: tuple[JudgedPatch, ...] = ()
    withdrawn: int = 0
    collected: int = 0
    foreign: int = 0
    messages: tuple[str, ...] = ()
    problem: str | None = None
    project: str = ""
    statements: tuple[Correction, ...] = field(default=(), repr=False)

    def number(self, kind: str) -> int:
        """Return how many patches were ``corrected``, ``confirmed`` or ``rejected``."""
        return sum(each.state != "unsure" and each.correction.kind == kind for each in self.patches)

    @property
    def unsure(self) -> tuple[JudgedPatch, ...]:
        """Differences that can be an accident; see :func:`qupath_bridge.corrections`."""
        return tuple(each for each in self.patches if each.state == "unsure")

    @property
    def contested(self) -> tuple[JudgedPatch, ...]:
        """Statements about patches of which the rule says something else by now."""
        return tuple(each for each in self.patches if each.contested)

    @property
    def other_grids(self) -> Mapping[tuple[int, int], int]:
        """Number of statements about boxes that the newest run's grid lacks, by box size."""
        sizes = (s.correction.box[2:] for s in self.patches if not s.in_grid)
        return FrozenDict(sorted(Counter(sizes).items()))

    @property
    def other_file(self) -> int:
        """Number of statements about another slide file than the newest run read."""
        return sum(not each.same_file for each in self.patches)


@dataclass(frozen=True, slots=True, repr=False)
class Corrections(OneLine):
    """The patches about which people said something, by slide.

    Attributes
    ----------
    slides : tuple of SlideCorrections
        Slides of which there is anything to say.
    agreement : tuple of Agreement
        Of each two reviewers.
    """

    slides: tuple[SlideCorrections, ...] = ()
    agreement: tuple[Agreement, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.slides)

    def __iter__(self) -> Iterator[SlideCorrections]:
        return iter(self.slides)

    @property
    def failed(self) -> bool:
        """True if a slide could not be looked at."""
        return any(slide.problem for slide in self.slides)


def collect_corrections(
    slides: Sequence[Slide], reviewer: str | None = None
) -> tuple[SlideCorrections, ...]:
    """Store what the data of slides say about their patches, and return what is known now.

    Collecting twice without a change writes nothing. What is unsure is not stored.

    Parameters
    ----------
    slides : sequence of Slide
        Of one or several projects; slides without a project say nothing.
    reviewer : str, optional
        Who said it.

    Returns
    -------
    tuple of SlideCorrections
        A slide that cannot be read or stored is in it with its problem.
    """
    return list_corrections(slides, decision="collect", reviewer=reviewer).slides


def list_corrections(
    slides: Sequence[Slide],
    *,
    decision: Decision = "list",
    decisions: Mapping[str, Decision] = FrozenDict(),
    reviewer: str | None = None,
) -> Corrections:
    """Return what people said about the patches of slides.

    Parameters
    ----------
    slides, reviewer
        As for :func:`collect_corrections`.
    decision : str
        ``list`` writes nothing; ``collect`` stores what is new; ``accept`` also stores what is
        unsure; ``dismiss`` stores that what is unsure means nothing.
    decisions : mapping of str to str
        Other decisions for some slides, by entry ID.
    """
    projects = {slide.project.place: slide.project for slide in slides if not slide.project.plain}
    runs = {place: ProjectRuns(project) for place, project in projects.items()}
    found: list[SlideCorrections] = []
    collected: dict[str, tuple[Correction, ...]] = {}
    for slide in slides:
        known = runs.get(slide.project.place)
        if known is not None and known.folders:
            chosen = decisions.get(slide.entry_id, decision)
            each, said = _look_at(known, slide, chosen, reviewer)
            collected[f"{slide.project.place} {slide.entry_id}"] = said
            if each is not None:
                found.append(each)
    return Corrections(tuple(found), agreements(collected))


def _look_at(
    runs: ProjectRuns, slide: Slide, decision: Decision, reviewer: str | None
) -> tuple[SlideCorrections | None, tuple[Correction, ...]]:
    """Return what is known of a slide, None if nothing, and all that was collected of it."""
    entry_id = slide.entry_id
    try:
        image = slide.read(detections=True) if _may_have_tiles(runs, entry_id) else ImageData()
        seen = examine(
            runs, entry_id, image.objects, reviewer=reviewer, accept=decision == "accept"
        )
        if decision == "dismiss":
            dismiss(runs, seen)
            seen = examine(runs, entry_id, image.objects, reviewer=reviewer)
        elif decision != "list":
            keep(runs, seen)
    except BridgeError as error:
        return SlideCorrections(entry_id, slide.name, problem=str(error)), ()
    new = seen.found.new
    is_stored = decision in {"collect", "accept"}
    if not (seen.stored or new or seen.found.unsure or seen.messages):
        return None, ()
    known = runs.of_slide(entry_id)
    run_id = known[-1] if known else None
    patches = tuple(_judged(runs, slide, run_id, seen, is_stored))
    everything = (*seen.stored, *new)
    boxes = {(each.box, each.plane) for each in everything}
    result = SlideCorrections(
        entry_id,
        slide.name,
        run_id,
        patches,
        withdrawn=len(boxes) - len(seen.standing),
        collected=len(new) if is_stored else 0,
        foreign=len(seen.data.foreign),
        messages=seen.messages,
        project=str(slide.project.path),
        statements=everything,
    )
    return result, everything


def _may_have_tiles(runs: ProjectRuns, entry_id: str) -> bool:
    """Return whether the data of a slide may say anything, without reading all of it."""
    places = (runs.project.bridge_folder, *runs.places_beside(entry_id))
    data = runs.project.folder / "data" / entry_id / DATA_FILE
    return any((place / SHOWN / entry_id).is_dir() for place in places) or any(
        contains(data, each) for each in _TILES
    )


def _judged(
    runs: ProjectRuns, slide: Slide, run_id: str | None, seen: Examination, is_stored: bool
) -> Iterator[JudgedPatch]:
    table = None if run_id is None else seen.tables(run_id)
    facts = FrozenDict[str, Any]() if run_id is None else runs.facts(run_id, slide.entry_id)
    started = "" if run_id is None else str(runs.record(run_id).get("started", ""))
    name = facts.get("slide_id") or slide_id(slide.entry_id, slide.name)
    sized = bool(facts) and facts["grid"]["sized"]
    listed: Iterable[tuple[str, Correction, Literal["collected", "found", "unsure"]]] = (
        *(
            (i, said, "collected" if is_stored or i not in seen.found.statements else "found")
            for i, said in seen.standing.items()
        ),
        *((i, said, "unsure") for i, said in seen.found.unsure.items()),
    )
    for identity, said, state in listed:
        box, plane = said.box, said.plane
        yield JudgedPatch(
            patch_id(name, box.x, box.y, *plane, size=(box.w, box.h) if sized else None),
            said,
            state,
            applied=state != "unsure" and _is_applied(identity, said, table, started),
            contested=_is_contested(identity, said, table),
            in_grid=not facts or _is_in_grid(box, facts["grid"]),
            same_file=table is None or said.fingerprint == table.fingerprint,
        )


def _is_applied(identity: str, said: Correction, table: RunTiles | None, started: str) -> bool:
    """Return whether the newest run shows what was said, or was made knowing it."""
    if table is None or said.kind == "confirmed":
        return True
    if said.kind == "rejected":
        return identity not in table.rows
    is_shown = identity in table.rows and table.class_of(identity) == said.after
    return is_shown or said.time <= started


def _is_contested(identity: str, said: Correction, table: RunTiles | None) -> bool:
    """Return whether the rule says something else by now; a class that was renamed is none."""
    if table is None or identity not in table.rows:
        return False
    now = table.rule_label(identity)
    labels = (said.rule_label,) if isinstance(said.rule_label, str) else said.rule_label or ()
    before = {role_of(label, table.rule).label or label for label in labels}
    after = {now} if isinstance(now, str) else set(now or ())
    return after not in (before, set(labels))


def _is_in_grid(box: Box, grid: Mapping[str, Any]) -> bool:
    """Return whether a box can be one of a run, as the facts of a slide describe its grid."""
    if grid["placed"] is not None:  # around what was there when it was made
        return grid["sized"] or [box.w, box.h] == list(grid["box"])
    (w, h), (step_x, step_y), (x, y) = grid["box"], grid["step"], grid["origin"]
    return (box.w, box.h) == (w, h) and not ((box.x - x) % step_x or (box.y - y) % step_y)
