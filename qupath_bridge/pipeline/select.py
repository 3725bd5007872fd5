"""Which images of a project take part in a run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import ConfigError, Fault
from qupath_bridge.model import Slide

__all__ = ["select_slides"]


def select_slides(slides: Sequence[Slide], config: ExportConfig) -> tuple[Slide, ...]:
    """Return the slides that ``entry``, ``where`` and ``tag`` ask for, in project order.

    A pattern matches an entry ID, an image name, or a glob over names (case counts).

    Raises
    ------
    ConfigError
        If a pattern, a metadata condition or a tag matches no image, or nothing is left: a
        silent empty run is never what was meant.
    """
    faults = []
    for pattern in config.entry:
        if not any(_matches(slide, pattern) for slide in slides):
            names = [*(slide.name for slide in slides), *(slide.entry_id for slide in slides)]
            faults.append(Fault("entry", _nothing(f"no image matches {pattern!r}", pattern, names)))
    faults += [
        _missing_metadata(slides, key, value)
        for key, value in config.where.items()
        if not any(slide.metadata.get(key) == value for slide in slides)
    ]
    known_tags = sorted({tag for slide in slides for tag in slide.tags})
    faults += [
        Fault("tag", _nothing(f"no image has the tag {tag!r}", tag, known_tags))
        for tag in config.tag
        if tag not in known_tags
    ]
    if faults:
        raise ConfigError(faults)
    chosen = tuple(slide for slide in slides if _wanted(slide, config))
    if not chosen:
        if not slides:
            raise ConfigError(
                [Fault("project", "it holds no images")], hint="Add images to it in QuPath first."
            )
        raise ConfigError(
            [Fault("entry, where, tag", "no image meets all of these conditions together")]
        )
    return chosen


def _matches(slide: Slide, pattern: str) -> bool:
    return pattern in (slide.entry_id, slide.name) or fnmatchcase(slide.name, pattern)


def _wanted(slide: Slide, config: ExportConfig) -> bool:
    return (
        (not config.entry or any(_matches(slide, pattern) for pattern in config.entry))
        and all(slide.metadata.get(key) == value for key, value in config.where.items())
        and all(tag in slide.tags for tag in config.tag)
    )


def _missing_metadata(slides: Sequence[Slide], key: str, value: str) -> Fault:
    values = sorted({slide.metadata[key] for slide in slides if key in slide.metadata})
    if values:
        return Fault("where", _nothing(f"no image has {key} = {value!r}", value, values))
    keys = sorted({name for slide in slides for name in _keys(slide.metadata)})
    return Fault("where", _nothing(f"no image has metadata named {key!r}", key, keys))


def _keys(metadata: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(metadata)


def _nothing(problem: str, wanted: str, known: Sequence[str]) -> str:
    """Say what there is instead: the close matches, else the first few."""
    close = difflib.get_close_matches(wanted, known, n=3) or list(dict.fromkeys(known))[:5]
    return problem + (f"; there is {', '.join(map(repr, close))}" if close else "")
