"""Regions from GeoJSON files, in place of those that a project has.

A file belongs to a slide by its name: without its ending it is the name of the slide, or that of
the slide file, each with or without its own ending. The name of the slide counts first: one slide
file may be in a project several times, under other names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from qupath_bridge.errors import MissingDataError, ProjectError, UsageError
from qupath_bridge.model import ImageData, Slide
from qupath_bridge.qupath.files.uris import parse_path
from qupath_bridge.qupath.geojson import read_geojson
from qupath_bridge.qupath.geojson.files import ENDINGS

from .base import Project, without_detections
from .entries import missing_everything
from .lookup import instead

__all__ = ["annotate", "geojson_stem", "own_stems", "slide_stems", "whole_name"]

SHOWN = 10
"""Files that a message names; more are counted."""

_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,7}$")
"""Ending of a slide file. What begins with a digit is part of the name: ``case.01``."""


def annotate(project: Project, place: Path | str, *, skip_bad_features: bool = False) -> Project:
    """Return a project whose slides have the regions of GeoJSON files, and no others.

    Parameters
    ----------
    project : Project
    place : path
        A file, or a folder that has one file per slide directly in it. A file that is given for
        the only slide of a project may have any name.
    skip_bad_features : bool
        Whether features that cannot be read are left out; the slide's problems name them.

    Returns
    -------
    Project
        Nothing is read yet. A slide without a file, or with several, fails when it is read;
        ``problems`` names the files that belong to no slide.

    Raises
    ------
    UsageError
        If there is no such place, or no file belongs to any slide.
    """
    place = Path(place).absolute()
    found = _match(project.slides, place)
    slides = tuple(
        replace(
            slide, _load=partial(_read, found[slide.entry_id], slide.entry_id, skip_bad_features)
        )
        for slide in project.slides
    )
    ref = replace(project.ref, annotations=str(place), skip_bad_features=skip_bad_features)
    # What was drawn in QuPath is not asked for: nobody misses it.
    missing = str(missing_everything(project.info))
    others = tuple(text for text in project.problems if text != missing)
    problems = (*others, *_unused(place, found, project.slides))
    return replace(project, slides=slides, ref=ref, problems=problems)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The files that could be those of a slide, and why there is not exactly one."""

    files: tuple[Path, ...]
    problem: str | None = None
    hint: str | None = None

    def the_file(self) -> Path:
        """Return the only file.

        Raises
        ------
        MissingDataError
            If there is none: without labels none is needed.
        ProjectError
            If there are several, or the file belongs to other slides too.
        """
        if not self.files:
            raise MissingDataError(self.problem or "", hint=self.hint)
        if self.problem:
            raise ProjectError(self.problem, hint=self.hint)
        return self.files[0]


def _read(choice: _Choice, entry_id: str, skip_bad_features: bool, detections: bool) -> ImageData:
    data = read_geojson(choice.the_file(), entry_id=entry_id, skip_bad_features=skip_bad_features)
    return data if detections else without_detections(data)


def _match(slides: Sequence[Slide], place: Path) -> Mapping[str, _Choice]:
    """Return the files of each slide by its entry ID."""
    if place.is_file() and len(slides) == 1:
        return {slides[0].entry_id: _Choice((place,))}
    named: dict[str, list[Path]] = {}
    for path in _files(place):
        named.setdefault(geojson_stem(path.name), []).append(path)
    # The kind of name that counts most comes first.
    kinds = [_by_name(slides, names) for names in (whole_name, own_stems, slide_stems)]
    users: dict[Path, Sequence[Slide]] = {}
    files: dict[str, list[Path]] = {}
    for stem, paths in named.items():
        found = next((by_name[stem] for by_name in kinds if stem in by_name), ())
        users.update(dict.fromkeys(paths, found))
        for slide in found:
            files.setdefault(slide.entry_id, []).extend(paths)
    if not files:
        names = list(dict.fromkeys(slide.name for slide in slides))
        raise UsageError(
            f"{place}: no GeoJSON file has the name of a slide{instead('', names)}.",
            hint="The file of the slide A.svs is A.geojson or A.svs.geojson.",
        )
    return {
        slide.entry_id: _choose(slide, place, files.get(slide.entry_id, ()), users)
        for slide in slides
    }


def _by_name(
    slides: Sequence[Slide], names: Callable[[Slide], tuple[str, ...]]
) -> dict[str, list[Slide]]:
    found: dict[str, list[Slide]] = {}
    for slide in slides:
        for name in names(slide):
            found.setdefault(name, []).append(slide)
    return found


def _choose(
    slide: Slide, place: Path, mine: Sequence[Path], users: Mapping[Path, Sequence[Slide]]
) -> _Choice:
    named = f"{slide.name} (entry {slide.entry_id})"
    order, own = slide_stems(slide), own_stems(slide)
    possible = tuple(sorted(mine, key=lambda path: order.index(geojson_stem(path.name))))
    files = tuple(path for path in possible if geojson_stem(path.name) in own) or possible
    if not files:
        return _Choice(
            files,
            f"{place}: no GeoJSON file has the name of the slide {named}; nobody can know what "
            "was drawn on it",
            f"Name its file {slide.name}.geojson, or add a FeatureCollection without features if "
            "nothing was drawn.",
        )
    if len(files) > 1:
        shown = " and ".join(path.name for path in files)
        return _Choice(
            files,
            f"{place}: {shown} have the name of the slide {named}",
            "Keep one of them there.",
        )
    others = [other for other in users[files[0]] if other is not slide]
    if others:
        shown = ", ".join(f"{other.name} (entry {other.entry_id})" for other in others)
        alike = any(whole_name(other) == whole_name(slide) for other in others)
        return _Choice(
            files,
            f"{files[0]} has the name of several slides: {named}, {shown}",
            "Rename the slides in QuPath, so that each has a name of its own."
            if alike
            else f"Name it after the whole name of one slide, such as {slide.name}.geojson.",
        )
    return _Choice(files)


def _files(place: Path) -> list[Path]:
    """Return the GeoJSON files at a place, sorted."""
    if place.is_file():
        return [place]
    try:
        paths = sorted(place.iterdir())
    except OSError as error:
        raise UsageError(
            f"annotations: {place}: {error.strerror}.",
            hint="Name a GeoJSON file, or a folder that holds one per slide.",
        ) from error
    return [
        path
        for path in paths
        if path.name.lower().endswith(ENDINGS)
        and not path.name.startswith(".")
        and not path.is_dir()
    ]


def _unused(place: Path, found: Mapping[str, _Choice], slides: Sequence[Slide]) -> Iterator[str]:
    used = {path for choice in found.values() for path in choice.files}
    unused = [path.name for path in _files(place) if path not in used]
    stems = {stem for slide in slides for stem in slide_stems(slide)}
    nameless = [name for name in unused if geojson_stem(name) not in stems]
    if nameless:
        yield f"{place}: no slide has the name of {_listed(nameless)}; not used."
    spare = [name for name in unused if geojson_stem(name) in stems]
    if spare:
        yield (
            f"{place}: the slides of the slide file that {_listed(spare)} is named after have "
            "files of their own names; not used."
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def geojson_stem(name: str) -> str:
    """Return the name of a GeoJSON file without its ending, as it is compared.

    >>> geojson_stem("A.svs.geojson.gz"), geojson_stem("B.JSON")
    ('A.svs', 'B')
    """
    ending = max((e for e in ENDINGS if name.lower().endswith(e)), key=len, default="")
    return unicodedata.normalize("NFC", name[: len(name) - len(ending)])


def slide_stems(slide: Slide) -> tuple[str, ...]:
    """Return the names that the file of a slide may have, without its ending.

    >>> from qupath_bridge.sources.memory import memory_slide
    >>> slide_stems(memory_slide("1", "A.ome.tif")), slide_stems(memory_slide("1", "B.01"))
    (('A.ome.tif', 'A.ome', 'A'), ('B.01',))
    """
    file = slide.path or (parse_path(slide.uri) if slide.uri else None)
    of_file = () if file is None else tuple(_stems(file.name))
    return tuple(dict.fromkeys((*own_stems(slide), *of_file)))


def whole_name(slide: Slide) -> tuple[str, ...]:
    """Return the name of a slide, as it is compared."""
    return (unicodedata.normalize("NFC", slide.name),)


def own_stems(slide: Slide) -> tuple[str, ...]:
    """Return the name of a slide with and without an ending, as they are compared."""
    return tuple(_stems(slide.name))


def _stems(name: str) -> Iterator[str]:
    name = unicodedata.normalize("NFC", name)
    yield name
    rest = _ENDING.sub("", name)
    if rest not in {name, ""}:
        yield rest
        if rest.lower().endswith(".ome"):
            yield rest[: -len(".ome")]
