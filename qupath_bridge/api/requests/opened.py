"""Projects of requests, with the annotations that QuPath shows in place of saved ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from qupath_bridge.api.opening import OPENING, opened_project
from qupath_bridge.config import RunOptions, Settings
from qupath_bridge.errors import UsageError
from qupath_bridge.model import ImageData, Slide
from qupath_bridge.qupath.geojson import read_geojson
from qupath_bridge.sources.base import Project, without_detections

__all__ = ["open_request_project", "request_settings", "slide_of", "with_live"]

ENGINE = "embedded"
"""Reads projects of requests: it takes no second to start, and QuPath is running already."""


def request_settings(options: Mapping[str, Any], **more: Any) -> Settings:
    """Return the options of a request, which have the names of a configuration file.

    Raises
    ------
    ConfigError
        With every fault; its place is the name of the option.
    """
    return Settings.parse({"engine": ENGINE, **options, **more})


@contextmanager
def open_request_project(place: str, options: RunOptions | None = None) -> Iterator[Project]:
    """Open the project of a request."""
    opening = RunOptions(engine=ENGINE) if options is None else options.only(*OPENING)
    with opened_project(place, opening) as project:
        yield project


def slide_of(project: Project, entry: str) -> Slide:
    """Return the slide of an entry ID.

    Raises
    ------
    UsageError
        If the project has no such entry.
    """
    found = next((slide for slide in project.slides if slide.entry_id == entry), None)
    if found is None:
        raise UsageError(
            f"{project.info.path} has no image with the ID {entry}.",
            hint="Save the project in QuPath, and try again.",
        )
    return found


def with_live(slide: Slide, live: Mapping[str, str]) -> Slide:
    """Return a slide with the annotations that QuPath shows now, if they are given.

    Parameters
    ----------
    slide : Slide
    live : mapping of str to str
        GeoJSON files by entry ID.
    """
    place = live.get(slide.entry_id)
    return slide if place is None else replace(slide, _load=partial(_read, place, slide.entry_id))


def _read(place: str, entry_id: str, detections: bool) -> ImageData:
    data = read_geojson(Path(place), entry_id=entry_id)
    return data if detections else without_detections(data)
