"""A new folder of this machine, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from qupath_bridge.errors import OutputError

__all__ = ["whole_folder"]


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside a new or empty one, whose place it takes when the block ends well.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    OutputError
        If there is something in it, or it cannot be written.
    """
    new = folder.with_name(f".{folder.name}.{uuid4().hex}.unfinished")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} is not empty.", hint="Name a new or empty folder.")
        new.mkdir(parents=True)
        yield new
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.",
            hint="Choose another folder, or set the rights.",
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
