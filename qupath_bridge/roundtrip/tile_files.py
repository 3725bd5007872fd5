"""Files with the tiles of a run: their digests in its record, by which an edited one is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qupath_bridge.errors import ProjectError
from qupath_bridge.qupath.geojson import Tile, read_tiles
from qupath_bridge.regular_files import open_regular

__all__ = ["RULE_KEY", "RUN_KEY", "digest_of", "read_run_tiles", "tile_file"]

RUN_KEY = "qb.run"
"""Metadata of a tile: the run that made it."""

RULE_KEY = "qb.rule label"
"""Metadata of a tile whose label is a person's: what the rule said, empty if nothing."""


def tile_file(entry_id: str) -> str:
    """Return the name of the file with the tiles of a slide, in the folder of a run."""
    return f"{entry_id}.geojson.gz"


def digest_of(path: Path) -> str:
    """Return the digest of a tile file, as the record of its run has it (SHA-256)."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_run_tiles(folder: Path, record: Mapping[str, Any], entry_id: str) -> Iterator[Tile]:
    """Yield the tiles that a run wrote for a slide; none if it kept no patch of it.

    Parameters
    ----------
    folder : Path
        The folder of the run in the project.
    record : mapping
        Its ``run.json``.
    entry_id : str

    Raises
    ------
    ProjectError
        If the file is not the one that the run wrote, or is damaged.
    """
    path = folder / tile_file(entry_id)
    written = record["tiles"].get(entry_id)
    problem = _problem(path, written)
    if problem:
        raise ProjectError(
            f"{problem} (run {record['run_id']})",
            path=path,
            hint=f"Delete {folder}, and write the run into the project again, from its output "
            f"{record['out']}: the command write-back does that.",
        )
    if written is not None:
        yield from read_tiles(path)


def _problem(path: Path, written: str | None) -> str | None:
    """Return why a file cannot be what its run wrote; None if it is, or both are not there."""
    try:
        found = digest_of(path)
    except FileNotFoundError:
        return None if written is None else "The run wrote this file, and it is not there any more"
    except OSError as error:
        return f"cannot be read, {error.strerror or error}"
    if written is None:
        return "The run did not write this file"
    return None if found == written else "This file was changed after the run wrote it"
