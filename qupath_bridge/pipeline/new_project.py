"""A new QuPath project over slides that have none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qupath_bridge.errors import BridgeError, OutputError, ProjectError, UsageError
from qupath_bridge.frozen import OneLine
from qupath_bridge.model import ClassInfo, Slide
from qupath_bridge.qupath.files.builders import uri_builder
from qupath_bridge.qupath.files.classes import default_rgb, pack_rgb
from qupath_bridge.qupath.project_writer import NewEntry, create_project, stored_uri
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.qupath_metadata import server_builder

from .channels import shown_view
from .inputs import NO_INPUTS, SlideInputs, SlideKey, slide_key
from .plan import Failure
from .slide_files import slide_path

__all__ = ["NewProject", "check_new_project", "write_project"]


@dataclass(frozen=True, slots=True, repr=False)
class NewProject(OneLine):
    """A project that was made.

    Attributes
    ----------
    path : Path
        Its ``project.qpproj``.
    slides : int
        Number of slides in it.
    failures : tuple of Failure
        Slides that cannot be read, and are not in it.
    """

    path: Path
    slides: int
    failures: tuple[Failure, ...] = ()


def check_new_project(folder: Path | str, slides: Sequence[Slide]) -> None:
    """Refuse a place that has anything, and slides that a new project cannot be made over.

    Raises
    ------
    OutputError
        If the folder is a project, or has anything else in it.
    UsageError
        If slides are of a QuPath project already, or two are the same.
    """
    folder = Path(folder)
    if folder.is_dir() and (found := sorted(folder.glob("*.qpproj"))):
        raise OutputError(
            f"{found[0]} is a project already, which is never changed.",
            hint="Name another folder, or use this project as the source.",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is not empty.", hint="Name a new folder for the project.")
    owned = next((slide for slide in slides if not slide.project.plain), None)
    if owned is not None:
        raise UsageError(
            f"{owned.name} is in the project {owned.project.shown} already.",
            hint="Name the slides themselves to make another project over them.",
        )
    twice = [name for name, n in Counter(slide.entry_id for slide in slides).items() if n > 1]
    names = [
        ", ".join(slide.name for slide in slides if slide.entry_id == entry_id)
        for entry_id in twice
    ]
    if names:
        raise UsageError(f"These are the same slide: {'; '.join(names)}.", hint="Name each once.")


def write_project(
    folder: Path | str,
    slides: Sequence[Slide],
    *,
    classes: Sequence[str] = (),
    inputs: Mapping[SlideKey, SlideInputs] | None = None,
) -> NewProject:
    """Write a QuPath project over plain slides: whole, or not at all.

    The entry IDs are those of the slides, so that patches have the same ids with and without the
    project. What was drawn, metadata, and values of a table become those of the entries. QuPath
    makes the thumbnails when it opens the project.

    Parameters
    ----------
    folder : path
        New or empty.
    slides : sequence of Slide
    classes : sequence of str
        The class list that QuPath shows; QuPath's own when there are none.
    inputs : mapping, optional
        Values of a table by :func:`~qupath_bridge.pipeline.inputs.slide_key`.

    Raises
    ------
    OutputError
        If the folder has anything in it, or cannot be written.
    UsageError
        If a slide is in a project already, two are the same, or a class cannot be one.
    ProjectError
        If not one of the slides can be read.
    """
    check_new_project(folder, slides)
    entries, failures = [], []
    for slide in slides:
        try:
            applied = (inputs or {}).get(slide_key(slide), NO_INPUTS).applied(slide)
            entries.append(_entry(applied))
        except BridgeError as error:
            failures.append(Failure.of(slide, error))
    if not entries:
        why = f": {failures[0].error}" if failures else ""
        raise ProjectError(f"no slide can be put into a new project{why}", path=Path(folder))
    listed = [ClassInfo(name, pack_rgb(*default_rgb(name))) for name in dict.fromkeys(classes)]
    path = create_project(folder, entries, listed, created=time.time_ns() // 1_000_000)
    return NewProject(path, len(entries), tuple(failures))


def _entry(slide: Slide) -> NewEntry:
    path = slide_path(slide)
    with open_reader(path) as reader:  # what cannot be exported is told now, not by QuPath
        is_rgb = shown_view(slide, reader).color
    uri = stored_uri(path, path.parent)
    data = slide.read(detections=True)
    return NewEntry(
        name=slide.name,
        # Of channels QuPath records itself what its reader makes of the file.
        builder=server_builder(path, uri) if is_rgb else uri_builder(uri, provider=None),
        data=data if data.objects else None,
        entry_id=int(slide.entry_id),
        metadata=dict(slide.metadata),
    )
