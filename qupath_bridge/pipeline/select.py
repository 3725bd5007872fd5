"""Select the slides that take part in a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from qupath_bridge.config import Selection
from qupath_bridge.errors import ConfigError, Fault, UsageError
from qupath_bridge.model import Slide
from qupath_bridge.sources.lookup import instead, match_slides

__all__ = ["select_slides"]


def select_slides(slides: Sequence[Slide], selection: Selection) -> tuple[Slide, ...]:
    """Return the slides that a selection asks for, in project order.

    Parameters
    ----------
    slides : sequence of Slide
    selection : Selection
        ``entry``: entry IDs, names, or globs over names; a slide that fits one of them takes
        part. What is exactly an ID or a name selects just that; ``id:1`` and ``name:1`` say
        which is meant where one text is both. ``where``: metadata; the values of one key are
        alternatives, different keys must all fit, and a value that no slide has is a glob.
        ``tag``: all of them must be there. Case counts everywhere.

    Raises
    ------
    ConfigError
        With every fault at once: what matches no slide, a text that is the ID of one slide and
        the name of another, or conditions that no slide meets together. An empty selection is
        never what was meant.
    """
    by_entry, faults = _match_entries(slides, selection.entry)
    known = _metadata_values(slides)
    faults += _metadata_faults(known, selection.where)
    tags = sorted({tag for slide in slides for tag in slide.tags})
    faults += [
        Fault("tag", f"no slide has the tag {tag!r}{instead(tag, tags)}")
        for tag in selection.tag
        if tag not in tags
    ]
    if faults:
        raise ConfigError(faults)
    if not slides:
        raise ConfigError(
            [Fault("project", "it has no slides")], hint="Add images to it in QuPath first."
        )
    selected = tuple(
        slide
        for slide in slides
        if (not selection.entry or _key(slide) in by_entry)
        and _has_metadata(slide, known, selection.where)
        and set(selection.tag) <= set(slide.tags)
    )
    if not selected:
        raise ConfigError(
            [Fault("entry, where, tag", "no slide meets all of these conditions together")]
        )
    return selected


def _key(slide: Slide) -> tuple[Path, str]:
    """Return what tells a slide from all others, also those of other projects."""
    return slide.project.path, slide.entry_id


def _match_entries(
    slides: Sequence[Slide], patterns: Sequence[str]
) -> tuple[set[tuple[Path, str]], list[Fault]]:
    keys: set[tuple[Path, str]] = set()
    faults = []
    for pattern in patterns:
        try:
            found = match_slides(slides, pattern)
        except UsageError as error:
            faults.append(Fault("entry", str(error)))
            continue
        keys.update(map(_key, found))
        if not found:
            known = [*(slide.name for slide in slides), *(slide.entry_id for slide in slides)]
            faults.append(Fault("entry", f"no slide matches {pattern!r}{instead(pattern, known)}"))
    return keys, faults


def _metadata_values(slides: Sequence[Slide]) -> Mapping[str, list[str]]:
    values: dict[str, set[str]] = {}
    for slide in slides:
        for key, value in slide.metadata.items():
            values.setdefault(key, set()).add(value)
    return {key: sorted(values[key]) for key in sorted(values)}


def _metadata_faults(
    known: Mapping[str, Sequence[str]], where: Mapping[str, Sequence[str]]
) -> Iterator[Fault]:
    for key, patterns in where.items():
        if key not in known:
            names = list(known)
            yield Fault("where", f"no slide has metadata named {key!r}{instead(key, names)}")
            continue
        for pattern in patterns:
            if not any(_fits(value, pattern, known[key]) for value in known[key]):
                rest = instead(pattern, known[key])
                yield Fault("where", f"no slide has {key} = {pattern!r}{rest}")


def _has_metadata(
    slide: Slide, known: Mapping[str, Sequence[str]], where: Mapping[str, Sequence[str]]
) -> bool:
    return all(
        key in slide.metadata
        and any(_fits(slide.metadata[key], pattern, known[key]) for pattern in patterns)
        for key, patterns in where.items()
    )


def _fits(value: str, pattern: str, known: Sequence[str]) -> bool:
    """Return whether a value is meant: exactly, or by a glob that is not a value itself."""
    return value == pattern or (pattern not in known and fnmatchcase(value, pattern))
