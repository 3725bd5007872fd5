"""The protocol of a source: it reads slides and their annotations from a QuPath project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from qupath_bridge.errors import MissingDataError, OutputError, ProjectError, UsageError
from qupath_bridge.frozen import FrozenDict, count, one_line
from qupath_bridge.model import (
    ImageData,
    ObjectType,
    PathObject,
    ProjectInfo,
    Slide,
    SourceRef,
)
from qupath_bridge.urls import place_text

from .lookup import ID, find_slides, instead

__all__ = [
    "Project",
    "Source",
    "check_link",
    "file_ref",
    "missing_data",
    "project_errors",
    "without_detections",
]

SHOWN_ROWS = 20
"""Slides that a notebook shows of a project."""

_LISTED = {ObjectType.ANNOTATION, ObjectType.TMA_CORE}


def _do_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, repr=False)
class Project:
    """A QuPath project, opened for reading. Nothing in it is ever written.

    It is a collection of slides: ``len(project)``, iteration, and ``project["name or id"]``.
    Listing the slides reads no data file; :meth:`Slide.read` does. A project can be pickled, and
    opens what it needs again when a slide is read.

    Attributes
    ----------
    info : ProjectInfo
        Facts that all slides share; ``info.source`` is ``ref``.
    slides : tuple of Slide
        In the project's order.
    ref : SourceRef
        Origin of the slides; :func:`qupath_bridge.sources.open_source` opens it again.
    problems : tuple of str
        Oddities that were found on opening.
    reason : str or None
        Reason for the choice of the engine, if it was chosen by itself; else None.
    qupath_version : str or None
        Version of the QuPath that the engine uses, if it uses one.

    Examples
    --------
    >>> from qupath_bridge.sources.memory import memory_project, memory_slide
    >>> project = memory_project([memory_slide("3", "A.svs"), memory_slide("7", "B.svs")])
    >>> len(project), [slide.name for slide in project]
    (2, ['A.svs', 'B.svs'])
    >>> project["B.svs"].entry_id, project["3"].name, project[7].name, project["id:7"].name
    ('7', 'A.svs', 'B.svs', 'B.svs')
    """

    info: ProjectInfo
    slides: tuple[Slide, ...]
    ref: SourceRef
    problems: tuple[str, ...] = ()
    reason: str | None = None
    qupath_version: str | None = None
    _close: Callable[[], None] = field(default=_do_nothing, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Each slide knows its source, whoever made the project.
        info = self.info if self.info.source == self.ref else replace(self.info, source=self.ref)
        slides = tuple(
            slide if slide.project is info else replace(slide, project=info)
            for slide in self.slides
        )
        object.__setattr__(self, "info", info)
        object.__setattr__(self, "slides", slides)

    @property
    def engine(self) -> str:
        """Name of the engine that reads."""
        return self.ref.engine

    @property
    def engine_record(self) -> dict[str, str | None]:
        """The engine as ``run.json`` records it: its name, why it, and the QuPath versions."""
        return {
            "name": self.engine,
            "reason": self.reason,
            "project_version": self.info.version,
            "qupath_version": self.qupath_version,
        }

    def __len__(self) -> int:
        return len(self.slides)

    def __iter__(self) -> Iterator[Slide]:
        return iter(self.slides)

    def __getitem__(self, key: str | int) -> Slide:
        """Return the slide of an entry ID or a name.

        Parameters
        ----------
        key : str or int
            A name, or an entry ID; a whole number is an ID. ``id:...`` and ``name:...`` say
            which is meant where one text is both.

        Raises
        ------
        UsageError
            If there is no such slide, or more than one.
        """
        text = f"{ID}{key}" if isinstance(key, int) else key
        found = find_slides(self.slides, text)
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(slide.entry_id for slide in found)
            raise UsageError(
                f"{len(found)} slides of {self.info.shown} have the name {found[0].name!r}.",
                hint=f"Use one of their IDs: {ids}.",
            )
        known = [*(slide.name for slide in self), *(slide.entry_id for slide in self)]
        raise UsageError(
            f"No slide of {self.info.shown} has the ID or name {key!r}{instead(str(key), known)}."
        )

    def close(self) -> None:
        """Close the engine; the slides cannot be read after that."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return one_line(
            "Project",
            repr(self.info.name),
            count(len(self), "slide"),
            count(len(self.info.classes), "class", "classes"),
            f"engine {self.engine}",
            count(len(self.problems), "problem") if self.problems else None,
            path=self.info.shown,
        )

    def _repr_html_(self) -> str:
        """Return a table of the slides for a notebook."""
        head = ("ID", "Name", "Size (px)", "µm/px", "File")
        rows = [_row(slide) for slide in self.slides[:SHOWN_ROWS]]
        more = len(self) - len(rows)
        return "".join(
            [
                f"<p>{escape(repr(self))}</p><table><thead>{_cells(head, 'th')}</thead><tbody>",
                *(_cells(row, "td") for row in rows),
                "</tbody></table>",
                f"<p>and {more} more</p>" if more else "",
            ]
        )


def _row(slide: Slide) -> tuple[str, ...]:
    known = slide.width is not None and slide.height is not None
    return (
        slide.entry_id,
        slide.name,
        f"{slide.width} × {slide.height}" if known else "unknown",
        f"{slide.pixel_size.mean:.4g}" if slide.pixel_size else "unknown",
        "not found" if slide.path is None else "found",
    )


def _cells(texts: Sequence[str], kind: str) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(text)}</{kind}>' for text in texts)}</tr>"


@runtime_checkable
class Source(Protocol):
    """Reads slides and their annotations; one of several, all held by one contract suite.

    A source is made by its factory as ``factory(qupath=...)``: the folder of a QuPath or None,
    for sources that use one. The project that :meth:`open` returns can be pickled, with every
    slide, and the copy opens what it needs when a slide is read.
    """

    name: str

    def open(
        self,
        location: Path | str,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path | str] = (),
    ) -> Project:
        """Open a project.

        Parameters
        ----------
        location : path or str
            A project file, or the folder that holds exactly one; a source may accept other
            places. The ``ref.location`` of a project opens the same one again.
        slide_map : mapping of str to str, optional
            Beginnings of slide URIs or paths, and what to put in their place.
        search : sequence of paths, optional
            Folders in which to look for slides that are not found otherwise.

        Returns
        -------
        Project
            ``ref`` says how it was opened, by which source.

        Raises
        ------
        ProjectError
            If it cannot be read; the error names the place.
        """
        ...


@contextmanager
def project_errors(place: Path) -> Iterator[None]:
    """Let trouble with object storage be trouble with the project or folder at a place."""
    try:
        yield
    except OutputError as error:
        raise ProjectError(
            f"cannot be read: {error.message}",
            path=place_text(place),
            hint=error.hint,
            may_heal=error.may_heal,
        ) from error


def file_ref(
    path: Path,
    engine: str,
    *,
    qupath: Path | None = None,
    slide_map: Mapping[str, str] | None = None,
    search: Sequence[Path | str] = (),
) -> SourceRef:
    """Return how a project file was opened, with places that do not depend on the folder here."""
    return SourceRef(
        location=place_text(path),
        engine=engine,
        qupath=None if qupath is None else str(qupath.absolute()),
        slide_map=slide_map or {},
        search=tuple(str(Path(folder).absolute()) for folder in search),
    )


def check_link(data: Path) -> None:
    """Refuse a data file that is a link to nothing: the data are elsewhere.

    Raises
    ------
    ProjectError
        If it is one. A file that does not exist at all belongs to a slide that was never saved.
    """
    if data.is_symlink() and not data.exists():
        raise ProjectError(
            f"is a link to {data.readlink()}, which does not exist",
            path=data,
            hint="Make the folder available that the link names.",
        )


def missing_data(
    folder: Path, *, reading: bool = True, whole: bool | None = None
) -> MissingDataError:
    """Return the error for an entry without its folder, or a project without ``data``.

    ``reading`` offers another place for what was drawn, which does not help whoever writes.
    ``whole`` says whether all of ``data`` is missing; it is looked for when not given.
    """
    whole = not folder.parent.is_dir() if whole is None else whole
    missing = folder.parent if whole else folder
    return MissingDataError(
        "this folder of the project is missing: nobody can know what was drawn"
        if whole
        else "the folder of this slide is missing: nobody can know what was drawn on it",
        path=place_text(missing),
        hint=f"Copy the folder {folder.parent.name if whole else f'data/{folder.name}'} from the "
        "computer where the project was made"
        f"{', or give GeoJSON files with the option annotations' if reading else ''}.",
        whole_project=whole,
    )


def without_detections(data: ImageData) -> ImageData:
    """Return annotations and TMA cores only; parents become the nearest ancestor that is left."""
    kept: list[PathObject] = []
    place = {-1: -1}  # index of each object, or of its nearest kept ancestor, among the kept
    for index, each in enumerate(data.objects):
        place[index] = parent = place[each.parent]
        if each.object_type in _LISTED:
            place[index] = len(kept)
            parent_id = None if parent < 0 else kept[parent].id
            kept.append(replace(each, parent=parent, parent_id=parent_id))
    skipped = Counter(o.object_type for o in data.objects if o.object_type not in _LISTED)
    return replace(data, objects=tuple(kept), skipped=FrozenDict(skipped))
