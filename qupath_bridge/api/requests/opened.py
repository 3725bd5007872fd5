"""Projects, options, and annotations on screen, as requests name them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qupath_bridge.api.opening import OPENING, opened_project
from qupath_bridge.config import RunOptions, Settings
from qupath_bridge.errors import UsageError
from qupath_bridge.model import Slide
from qupath_bridge.sources.base import Project

__all__ = ["live_folder", "open_request_project", "request_settings", "slide_of"]

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


@contextmanager
def live_folder(live: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Give the option ``live_annotations`` for GeoJSON files by entry ID; none for no files.

    Raises
    ------
    UsageError
        If a file cannot be read.
    """
    if not live:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="qupath-bridge-") as folder:
        for entry, place in live.items():
            ending = ".geojson.gz" if place.endswith(".gz") else ".geojson"
            try:
                shutil.copyfile(place, Path(folder, f"{Path(entry).name}{ending}"))
            except OSError as error:
                raise UsageError(
                    f"The annotations on screen cannot be read from {place}: {error.strerror}."
                ) from error
        yield {"live_annotations": folder}
