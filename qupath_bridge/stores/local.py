"""A folder of this machine. The only place in the library that renames files."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qupath_bridge.errors import OutputError

from .base import Data, checked_name, chunks_of

__all__ = ["LocalStore"]

TEMPORARY = ".qb-tmp-"
"""Beginning of the names of files that are being written."""


PAUSES = (0.05, 0.2, 0.5, 1.0, None)  # seconds between attempts to rename on Windows

FOLDERS_CAN_BE_SYNCED = os.name != "nt"
"""Windows has no call for it, and does it by itself."""


class LocalStore:
    """Files below a folder, which is made when something is put.

    A file is written under a temporary name beside its final one, and renamed when it is whole.

    Parameters
    ----------
    root : Path
        The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: set[Path] = set()

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Write ``data`` under ``name``, whole or not at all."""
        with self.staged(name, durable=durable) as temporary, temporary.open("xb") as file:
            file.writelines(chunks_of(data))

    @contextmanager
    def staged(
        self,
        name: str,
        *,
        durable: bool = False,
        last_check: Callable[[], None] | None = None,
    ) -> Iterator[Path]:
        """Give a temporary path beside ``name``, and rename it to that in the end.

        For what writes files itself, and for looking at what was written before it counts. When
        the block fails, or ``last_check``, which comes right before, the name keeps what it had.
        """
        target = self.root / checked_name(name)
        temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
        with _errors_of(target, "written"):
            if target.parent not in self._made:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(target.parent)
            try:
                yield temporary
                if durable:
                    _sync_file(temporary)
                if last_check is not None:
                    last_check()
                _replace(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            if durable:
                _sync_folder(target.parent)

    def get(self, name: str) -> bytes:
        """Return the bytes under ``name``."""
        path = self.root / checked_name(name)
        with _errors_of(path, "read"):
            return path.read_bytes()

    def exists(self, name: str) -> bool:
        """Return whether there is a file under ``name``."""
        return (self.root / checked_name(name)).is_file()

    def is_empty(self) -> bool:
        """Return whether the folder does not exist, or holds nothing but cut-off writes."""
        with _errors_of(self.root, "listed"):
            if not self.root.exists():
                return True
            with os.scandir(self.root) as entries:
                return all(entry.name.startswith(TEMPORARY) for entry in entries)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all names that start with ``prefix``, sorted."""
        # Only the folder that the prefix names is walked: an output has very many patches.
        folder = prefix.rpartition("/")[0]
        with _errors_of(self.root, "listed"):
            names = sorted(
                name
                for path in _files(self.root / folder)
                if not path.name.startswith(TEMPORARY)
                and (name := path.relative_to(self.root).as_posix()).startswith(prefix)
            )
        yield from names

    def delete(self, name: str) -> None:
        """Remove ``name``, and its folder when that was the last file in it."""
        path = self.root / checked_name(name)
        with _errors_of(path, "removed"):
            path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root:
                break
            try:
                folder.rmdir()
            except OSError:
                break  # not empty, or not there: the one that remains is as it should be
            self._made.discard(folder)

    def sweep(self) -> int:
        """Remove the temporary files of killed writers."""
        with _errors_of(self.root, "swept"):
            left = [path for path in _files(self.root) if path.name.startswith(TEMPORARY)]
            for path in left:
                path.unlink(missing_ok=True)
        return len(left)


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)


def _replace(temporary: Path, target: Path) -> None:
    """Rename a file over another, which keeps its rights.

    On Windows that fails for as long as somebody, a virus scanner for example, has the other open.
    """
    with contextlib.suppress(FileNotFoundError):
        shutil.copymode(target, temporary)
    for pause in PAUSES:
        try:
            os.replace(temporary, target)  # noqa: PTH105  # one call, the same everywhere
        except PermissionError:
            if pause is None or os.name != "nt":
                raise
            time.sleep(pause)
        else:
            return


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last."""
    if not FOLDERS_CAN_BE_SYNCED:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _errors_of(path: Path, done: str) -> Iterator[None]:
    """Turn the system's errors into ours, with the place and what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise OutputError(f"{path} cannot be {done}: it is not there.") from error
    except OSError as error:
        raise OutputError(
            f"{path} cannot be {done}: {error.strerror or error}.",
            hint="Make room or set the rights, or name another folder.",
        ) from error
