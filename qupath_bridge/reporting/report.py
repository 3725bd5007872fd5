"""Writing the report of a run: read, draw, and put the page in its place, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import escape

from qupath_bridge import registry
from qupath_bridge.errors import OutputError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs.base import Output
from qupath_bridge.patches.confusion import add_confusions, read_confusion
from qupath_bridge.pipeline import records
from qupath_bridge.pipeline.places import check_place
from qupath_bridge.pipeline.pseudonyms import OPEN, Names, check_key
from qupath_bridge.stores.local import LocalStore

from .gather import RunFacts, gather_slides, load_run
from .links import Links
from .page import GENERATOR, page_policy, render_page
from .reopen import Reopener
from .views import SlideView

__all__ = ["PAGE", "read_report", "write_report"]

PAGE = "report.html"
"""Name of the page in an output."""
_HEAD = 2048
"""Bytes in which a page says what made it."""


def write_report(
    output: Output,
    page: Path | None = None,
    *,
    reader: str = "auto",
    slide_map: Mapping[str, str] = FrozenDict(),
    names: Names = OPEN,
    on_progress: Callable[[int, int], None] | None = None,
) -> str:
    """Write the page of a run.

    Parameters
    ----------
    output : Output
        Of a run, finished or not.
    page : path, optional
        The file; ``report.html`` in the output when not given.
    reader : str
        What reads the slide files.
    slide_map : mapping of str to str
        Old place to new place of slides that moved.
    names : Names
        Those behind the pseudonyms of the run, with which its slides are found. The page shows
        what the records of the run have.
    on_progress : callable, optional
        Called with the number of slides that are done, and of all.

    Returns
    -------
    str
        Where the page is: its path, or its name in an output that is not a folder.

    Raises
    ------
    OutputError
        If there is no run, or the page cannot be written, or would replace another file.
    UsageError
        If there is no such reader, or the names are not those of the run.
    """
    if reader != "auto":
        registry.check("reader", reader)
    run = load_run(output)
    check_key(run.record["pseudonyms"], names, needed=False)
    _check_page(output, page, run, names)
    links = Links.between(output, page)
    with Reopener(output, run.record, reader=reader, slide_map=slide_map, names=names) as reopener:
        slides = gather_slides(output, run, reopener, links, on_progress)
    text = render_page(
        run, slides, _confusions(slides), links,
        title=_title(output), made=records.timestamp(),
    )  # fmt: skip
    content = text.encode("utf-8", "replace")
    if page is None:
        output.put(PAGE, content)
        return f"{output.describe().rstrip('/')}/{PAGE}"
    LocalStore(page.parent).put(page.name, content)
    return str(page)


def read_report(output: Output) -> bytes | None:
    """Return the page in an output; None if there is none that this version of the program made.

    Raises
    ------
    OutputError
        If the output cannot be read.
    """
    if not output.has(PAGE):
        return None
    content = output.get(PAGE)
    head = content[:_HEAD]
    is_current = _is_page(head) and str(escape(page_policy())).encode() in head
    return content if is_current else None


def _title(output: Output) -> str:
    """Return what a page calls an output: the last part of its place."""
    return output.describe().replace("\\", "/").rstrip("/").rpartition("/")[2]


def _confusions(slides: list[SlideView]) -> Any:
    cells = (cell for slide in slides for cell in slide.corrections.get("confusion", ()))
    return add_confusions(map(read_confusion, cells))


def _check_page(output: Output, page: Path | None, run: RunFacts, names: Names) -> None:
    """Refuse to write over a file that is not a page of this kind, and into QuPath's folders."""
    if page is None:
        if output.has(PAGE) and not _is_page(output.get(PAGE)[:_HEAD]):
            raise OutputError(
                f"{PAGE} in {output.describe()} is not a report.", hint="Name another file."
            )
        return
    if page.suffix.lower() not in {".html", ".htm"}:
        raise OutputError(f"A report must end in .html: {page}")
    if page.is_dir():
        raise OutputError(f"{page} is a folder.", hint="Name a file for the report.")
    if page.is_file():
        with page.open("rb") as file:
            if not _is_page(file.read(_HEAD)):
                raise OutputError(f"{page} exists and is not a report.", hint="Name another file.")
    for project in names.reveal(run.record["projects"]):
        place = Path(project["path"])
        if place.suffix == ".qpproj":
            check_place(page, place.parent)


def _is_page(head: bytes) -> bool:
    return f'<meta name="generator" content="{GENERATOR}">'.encode() in head
