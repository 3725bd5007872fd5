"""Facts that QuPath recorded of a slide, and the file that belongs to it.

What the project alone says is looked at first: a slide that cannot be exported whatever its file
is refused before anybody looks for the file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from qupath_bridge.errors import MissingDataError, MissingSlideError
from qupath_bridge.geometry.chain import read_chain
from qupath_bridge.model import ImageData, Slide
from qupath_bridge.qupath.files.uris import parse_path

if TYPE_CHECKING:
    from qupath_bridge.config import ExportConfig

    from .plan import Failure

__all__ = [
    "check_recorded",
    "failure_lines",
    "missing_place",
    "pixel_words",
    "read_annotations",
    "read_objects",
    "recorded_pixels",
    "slide_path",
]

LISTED = 3
"""Failures of one cause that get a line each; more are told together."""


def slide_path(slide: Slide) -> Path:
    """Return the file of a slide that can be exported.

    Raises
    ------
    CoordinateError
        If what QuPath recorded cannot be exported; see :func:`check_recorded`.
    MissingSlideError
        If the file was not found; with the places where it was looked for.
    """
    check_recorded(slide)
    if slide.path is not None:
        return slide.path
    if slide.uri is None:
        raise MissingSlideError(
            f"{_named(slide)}: the project names no file for it.",
            hint="Add the slide to the project again, in QuPath.",
        )
    place = str(parse_path(slide.uri) or slide.uri)
    tried = f" Looked at {'; '.join(slide.tried)}." if slide.tried else ""
    raise MissingSlideError(
        f"{_named(slide)}: the slide file {place} was not found.{tried}",
        place=place,
        hint="Name its folder with the option search, its new place with the option "
        "slide_map (OLD=NEW), or correct the path in QuPath.",
    )


def missing_place(error: Exception) -> str | None:
    """Return the place of the slide file if an error says that it was not found."""
    return error.place or None if isinstance(error, MissingSlideError) else None


def check_recorded(slide: Slide) -> None:
    """Refuse a slide of which the project alone tells that it cannot be exported.

    Raises
    ------
    CoordinateError
        If QuPath opens it by a step that cannot be followed, or an argument that shows another
        image of the file than the first.
    """
    if slide.builder.json:
        read_chain(slide.builder.json)


def recorded_pixels(slide: Slide) -> str | None:
    """Return in words which pixels QuPath recorded; None if it recorded nothing.

    >>> from dataclasses import replace
    >>> from qupath_bridge.sources.memory import memory_slide
    >>> slide = memory_slide("1", "a.tif")
    >>> recorded_pixels(replace(slide, is_rgb=True, pixel_type="UINT8", channels=tuple("RGB")))
    'RGB of 8 bit'
    >>> recorded_pixels(replace(slide, is_rgb=False, pixel_type="UINT16", channels=("A",) * 33))
    'fluorescence, 33 channels of 16 bit'
    """
    if slide.is_rgb is None and slide.pixel_type is None and not slide.channels:
        return None
    return pixel_words(len(slide.channels), slide.pixel_type, slide.is_rgb)


def pixel_words(channels: int, dtype: str | None, is_rgb: bool | None) -> str:
    """Return in words what pixels are, from what is known of them.

    >>> pixel_words(1, "uint8", False)
    'one channel of 8 bit'
    """
    number = re.search(r"\d+", dtype or "")
    bits = f" of {number[0]} bit" if number else ""
    if dtype and dtype.lower().startswith("float"):
        bits += " (floating point)"
    if is_rgb:
        return f"RGB{bits}" if channels in {0, 3} else f"RGB{bits} with {channels} channels"
    if channels < 2:
        return f"one channel{bits}" if channels else f"not RGB{bits}"
    return f"fluorescence, {channels} channels{bits}"


def read_annotations(slide: Slide, config: ExportConfig) -> ImageData:
    """Read what decides the patches of a slide; see :func:`read_objects`."""
    return _read(slide, config, detections=False)


def read_objects(slide: Slide, config: ExportConfig) -> ImageData:
    """Read what was drawn on a slide, and the detections that masks show.

    A slide without labels is exported also where its data were not copied, unless the
    configuration needs regions.

    Raises
    ------
    ProjectError
        If the data cannot be read, or are missing and needed.
    """
    return _read(slide, config, detections=config.shows_detections)


def _read(slide: Slide, config: ExportConfig, *, detections: bool) -> ImageData:
    try:
        return slide.read(detections=detections or config.placement().needs_detections)
    except MissingDataError as error:
        by_region = config.labels and config.label_key is None
        drawn = config.masks != "none" or config.placement().kind != "grid"
        if by_region or config.within or drawn:
            raise _with_way_out(error, config) from error
        # A folder that all slides lack is a problem of the project, told once.
        return ImageData(problems=() if error.whole_project else (error.message,))


def _with_way_out(error: MissingDataError, config: ExportConfig) -> MissingDataError:
    """Return the error with the options that make what is missing unneeded, where there are any."""
    ways = [] if error.whole_project else ["select other slides with the option entry"]
    if not config.within and config.placement().kind == "grid" and config.masks == "none":
        ways.append("leave labels out with the option labels")
    more = f"Or {', or '.join(ways)}." if ways else ""
    return MissingDataError(
        error.problem,
        path=error.path,
        hint=" ".join(filter(None, (error.hint, more))) or None,
        whole_project=error.whole_project,
    )


def failure_lines(failures: Sequence[Failure]) -> Iterator[str]:
    r"""Yield one line per failure; more than three of one cause get a line together.

    Of missing files it is one line per drive:
    ``434 slides below I:\COAD are not here; try the option slide_map 'I:\COAD=…'``.
    """
    missing = [failure.missing for failure in failures if failure.missing]
    groups: dict[str, list[Failure]] = {}
    for failure in failures:
        if len(missing) <= LISTED or not failure.missing:
            groups.setdefault(_cause(failure), []).append(failure)
    for cause, group in groups.items():
        if len(group) > LISTED:
            yield f"{_shown([failure.slide_name for failure in group])}: {cause}"
            continue
        for failure in group:
            yield f"{failure.slide_name} (entry {failure.entry_id}): {_text(failure)}"
    if len(missing) > LISTED:
        yield from _missing_groups(missing)


def _text(failure: Failure) -> str:
    """Return error and hint without the name of the slide at the start."""
    name = failure.slide_name
    text = failure.error.removeprefix(f"{name} (entry {failure.entry_id}): ")
    text = text.removeprefix(f"{name}: ")
    return f"{text} {failure.hint}" if failure.hint else text


def _cause(failure: Failure) -> str:
    """Return error and hint without what is the slide's own."""
    entry_id = re.escape(failure.entry_id)
    return re.sub(rf"data([/\\]){entry_id}(?!\w)", r"data\1ENTRY_ID", _text(failure))


def _shown(names: Sequence[str]) -> str:
    return f"{len(names)} slides ({', '.join(names[:LISTED])} and {len(names) - LISTED} more)"


def _missing_groups(places: Sequence[str]) -> Iterator[str]:
    """Say how many files are missing below each common folder, most first."""
    groups: dict[tuple[type, str], list[PurePath]] = {}
    others = []
    for place in places:
        path = parse_path(place)
        if path is None:
            others.append(place)
        else:
            groups.setdefault((type(path), path.anchor.casefold()), []).append(path)
    for paths in sorted(groups.values(), key=len, reverse=True):
        folder = _common_folder(paths)
        count = f"{len(paths)} slides" if len(paths) > 1 else "1 slide"
        yield (
            f"{count} below {folder} {'are' if len(paths) > 1 else 'is'} not here; "
            f"try the option slide_map {shlex.quote(f'{folder}=…')}, or the option search DIR"
        )
    if others:
        shown = ", ".join(others[:LISTED])
        more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        yield f"{len(others)} slides are not files on this computer: {shown}{more}"


def _common_folder(paths: Sequence[PurePath]) -> PurePath:
    """Return the deepest folder that holds all paths of one drive."""
    levels = zip(*(path.parent.parts[1:] for path in paths), strict=False)
    common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
    return type(paths[0])(paths[0].anchor, *common)


def _named(slide: Slide) -> str:
    return f"{slide.name} (entry {slide.entry_id})"
