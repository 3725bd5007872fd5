"""Outputs: they take patches and their index, and read them back."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from qupath_bridge import registry
from qupath_bridge.errors import OutputError
from qupath_bridge.schemas import parse_json
from qupath_bridge.stores import open_store

from .base import Location, LockHolder, Output, PatchRef
from .lock import check_lock

__all__ = ["Location", "LockHolder", "Output", "PatchRef", "check_lock", "open_output"]

RUN_FILE = "run.json"


def open_output(url: str | Path, container: str | None = None) -> Output:
    """Open an output. Nothing is made or changed in its place.

    Parameters
    ----------
    url : str or Path
        A folder, or a URL as ``open_store`` takes it.
    container : str, optional
        ``NAME[:ARGUMENT]`` of a registered output. What the run in this place says, when not
        given.

    Raises
    ------
    OutputError
        If no store has the URL's scheme; if there is no run, or its record cannot be read, and
        no container was given.
    UsageError
        If no output has this name, or its argument is wrong.

    Examples
    --------
    >>> open_output("memory://example", "tar:64MB")
    TarOutput('memory://example', '64MB')
    """
    place = url if isinstance(url, str) else open_store(url).url
    name, argument = registry.split_argument(_container(place) if container is None else container)
    return cast(Output, registry.load("output", name)(place, argument))


def _container(url: str) -> str:
    """Return the container of the run in a place."""
    store = open_store(url)
    if not store.exists(RUN_FILE):
        raise OutputError(
            f"{url} contains no run.", hint="Name the folder or URL that the export wrote to."
        )
    try:
        container = parse_json(store.get(RUN_FILE))["config"]["container"]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{RUN_FILE} in {url} does not say what holds the patches.",
            hint="Export into a new folder.",
        ) from error
    return str(container)
