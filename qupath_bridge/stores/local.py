"""A folder of this machine. The only place in the library that renames files.

A run writes very many small files: for each there are only the calls to the system that the
promises of a store need, with plain texts for paths.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

from qupath_bridge.errors import OutputError
from qupath_bridge.regular_files import open_regular, read_regular

from .base import Data, Draft, State, check_same, checked_name, chunks_of

__all__ = ["TEMPORARY", "LocalStore", "copy_permissions", "path_from_url"]

TEMPORARY = ".qb-tmp-"
"""Beginning of the names of files that are being written."""

MAX_BYTES = 2 << 30
"""Most bytes that are read at once: the largest patch, uncompressed, has 0.8 GB, and ``index.csv``
of three million patches has 2 GB."""

WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

ATTEMPTS = 5

PAUSES = (0.05, 0.2, 0.5, 1.0, None)  # seconds between attempts to rename on Windows

FOLDERS_CAN_BE_SYNCED = os.name != "nt"
"""Windows has no call for it, and does it by itself."""


def path_from_url(url: str) -> Path:
    """Return the path that a ``file:`` URL names.

    Raises
    ------
    OutputError
        If it names a place on another computer, or a path that is not absolute.

    Examples
    --------
    >>> path_from_url("file:///data/run%20%231").as_posix()
    '/data/run #1'
    """
    rest = url[len("file:") :]
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        path = f"{slash}{path}"
    if url[:5].lower() != "file:" or not path.startswith("/"):
        raise OutputError(
            f"{url!r} does not name a folder.", hint="Write file:///folder, or the plain path."
        )
    if os.name == "nt":
        from urllib.request import url2pathname  # takes long to import

        return Path(url2pathname(path if host in {"", "localhost"} else f"//{host}{path}"))
    if host not in {"", "localhost"}:
        raise OutputError(
            f"{url!r} is a place on another computer.", hint="Mount it, and name its path here."
        )
    return Path(os.fsdecode(unquote_to_bytes(path)))


class LocalStore:
    """Files below a folder, which is made when something is put.

    A file is written under a temporary name beside its final one, and renamed when it is whole.

    Parameters
    ----------
    root : Path
        The folder.
    """

    at_once = 1

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = os.path.join(root, "")
        self._made: set[str] = set()
        self._random, self._numbers = secrets.token_hex(6), itertools.count()

    @classmethod
    def from_url(cls, url: str) -> LocalStore:
        """Return the store of a ``file:`` URL."""
        return cls(path_from_url(url))

    @property
    def url(self) -> str:
        """The place, as ``open_store`` takes it."""
        return self.root.absolute().as_uri()

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    def __reduce__(self) -> tuple[type[LocalStore], tuple[Path]]:
        return type(self), (self.root,)

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Write ``data`` under ``name``, whole or not at all."""
        draft = _LocalDraft(self, checked_name(name).rpartition("/")[0], shown=name)
        try:
            for piece in chunks_of(data):
                draft.write(piece)
            draft.publish(name, durable=durable)
        except BaseException:
            draft.discard()
            raise

    @contextmanager
    def staged(
        self,
        name: str,
        *,
        durable: bool = False,
        last_check: Callable[[], None] | None = None,
    ) -> Iterator[Path]:
        """Give a temporary path beside ``name``, and rename it to that at the end.

        For code that writes files itself, or checks a file before it counts. If the block or
        ``last_check``, which runs right before the rename, fails, the name keeps its content.
        """
        target = self.root / checked_name(name)
        folder = name.rpartition("/")[0]
        temporary = Path(self._temporary(folder))
        with _errors_of(target, "written"):
            self._make_folder(folder)
            try:
                yield temporary
                copy_permissions(target, temporary)
                if durable:
                    _sync_file(temporary)
                if last_check is not None:
                    last_check()
                _rename(temporary, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            if durable:
                _sync_folder(target.parent)

    def create(self, name: str, data: Data) -> bool:
        """Write ``data`` under ``name`` where nothing is; return False where something is."""
        draft = _LocalDraft(self, checked_name(name).rpartition("/")[0], shown=name)
        try:
            for piece in chunks_of(data):
                draft.write(piece)
            return draft.publish_new(name)
        finally:
            draft.discard()

    def draft(self, folder: str) -> Draft:
        """Begin a file that gets its name when it is whole."""
        return _LocalDraft(self, checked_name(folder) if folder else "", shown=folder)

    def get(self, name: str) -> bytes:
        """Return the bytes under ``name``."""
        path = self.root / checked_name(name)
        with _errors_of(path, "read"):
            return read_regular(path, MAX_BYTES)

    def get_range(self, name: str, offset: int, length: int, state: State | None = None) -> bytes:
        """Return ``length`` bytes from ``offset`` on."""
        path = self.root / checked_name(name)
        check_same(self, name, state)
        with _errors_of(path, "read"), open_regular(path) as file:
            # Before anything is read: a length of the index can be any number.
            if not 0 <= offset <= offset + length <= os.fstat(file.fileno()).st_size:
                raise OutputError(f"{path} ends before byte {offset + length}.")
            if length > MAX_BYTES:
                raise OutputError(f"{path}: {length} bytes are more than is read at once.")
            file.seek(offset)
            part = file.read(length)
        if len(part) < length:
            raise OutputError(f"{path} ends before byte {offset + length}.")
        check_same(self, name, state)  # perhaps it was replaced while it was read
        return part

    def size(self, name: str) -> int:
        """Return the number of bytes under ``name``."""
        path = self._path(checked_name(name))
        with _errors_of(path, "read"):
            return os.stat(path).st_size  # called for each patch

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Return the number of bytes under each name; None if there is no file."""
        return [_size_of_file(self._path(checked_name(name))) for name in names]

    def state(self, name: str) -> State:
        """Return size, number and time of a file."""
        path = self._path(checked_name(name))
        with _errors_of(path, "read"):
            found = os.stat(path)
        return State(found.st_size, f"{found.st_ino}-{found.st_mtime_ns}", found.st_mtime_ns)

    def exists(self, name: str) -> bool:
        """Return whether there is a file under ``name``."""
        return os.path.isfile(self._path(checked_name(name)))

    def is_empty(self) -> bool:
        """Return whether the folder does not exist, or holds nothing but cut-off writes."""
        with _errors_of(self.root, "listed"):
            if not self.root.exists():
                return True
            with os.scandir(self.root) as entries:
                return all(entry.name.startswith(TEMPORARY) for entry in entries)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all names that start with ``prefix``, sorted."""
        # An output has very many patches: only what the prefix begins is walked, and the names of
        # one folder at a time are held.
        folder, slash, beginning = prefix.rpartition("/")
        for name in self._names(folder + slash, beginning):
            if not name.rpartition("/")[2].startswith(TEMPORARY):
                yield name

    def children(self, folder: str = "") -> Iterator[str]:
        """Yield the names in a folder itself, sorted; those of folders end with ``/``."""
        for name in self._entries(folder):
            if not name.startswith(TEMPORARY):
                yield f"{folder}{name}"

    def delete(self, name: str) -> None:
        """Remove ``name``, and its folder when that was the last file in it."""
        path = self.root / checked_name(name)
        with _errors_of(path, "removed"):
            path.unlink(missing_ok=True)
        while folder := name.rpartition("/")[0]:
            name = folder
            try:
                os.rmdir(self._path(folder))
            except OSError:
                break  # not empty, or not there: the one that remains is as it should be
            self._made.discard(folder)

    def free_bytes(self) -> int | None:
        """Return the free space of the disk, as far as the system says it."""
        place = self.root.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            return shutil.disk_usage(place).free
        except OSError:
            return None

    def sweep(self) -> int:
        """Remove the temporary files of killed writers."""
        count = 0
        for name in self._names(""):
            if name.rpartition("/")[2].startswith(TEMPORARY):
                self.delete(name)
                count += 1
        return count

    def _path(self, name: str) -> str:
        return self._prefix + (name if os.sep == "/" else name.replace("/", os.sep))

    def _temporary(self, folder: str) -> str:
        """Return a new path in a folder; the process takes part, as it may be a copy of another."""
        file = f"{TEMPORARY}{self._random}{os.getpid():08x}{next(self._numbers):08x}"
        return self._path(f"{folder}/{file}" if folder else file)

    def _make_folder(self, folder: str) -> None:
        if folder not in self._made:
            os.makedirs(self._path(folder), exist_ok=True)
            self._made.add(folder)

    def _open_temporary(self, folder: str) -> tuple[str, int]:
        for _ in range(ATTEMPTS):
            temporary = self._temporary(folder)
            try:
                self._make_folder(folder)
                return temporary, os.open(temporary, WRITE_NEW, 0o666)
            except FileNotFoundError:
                # Another process deleted the last file of this folder, and the folder with it.
                self._made.discard(folder)
        raise FileNotFoundError(f"{folder} disappeared")

    def _names(self, folder: str, beginning: str = "") -> Iterator[str]:
        """Yield the names of all files below a folder in the order of their whole names.

        Of what is in the folder itself, that whose name has a beginning.
        """
        for name in self._entries(folder, beginning):
            if name.endswith("/"):
                yield from self._names(f"{folder}{name}")
            else:
                yield f"{folder}{name}"

    def _entries(self, folder: str, beginning: str = "") -> Sequence[str]:
        """Return the names in a folder, sorted; folders end with ``/``, links to some are left out.

        A link may lead to a folder that it is in.
        """
        path = self.root / folder
        try:
            with _errors_of(path, "listed"), os.scandir(path) as entries:
                return sorted(
                    f"{entry.name}/" if entry.is_dir() else entry.name
                    for entry in entries
                    if entry.name.startswith(beginning)
                    and not (entry.is_symlink() and entry.is_dir())
                )
        except OutputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return []  # nothing was put yet, or its last file was just deleted
            raise


class _LocalDraft:
    """A temporary file in the folder in which it gets its name; errors name ``shown``.

    Who cannot write its bytes one after the other opens :attr:`path`.
    """

    __slots__ = ("_file", "_shown", "_store", "path")

    def __init__(self, store: LocalStore, folder: str, *, shown: str) -> None:
        self._store = store
        self._shown = shown
        self._file: int | None = None
        try:
            self.path, self._file = store._open_temporary(folder)
        except OSError as error:
            raise _output_error(store.root / shown, "written", error) from error

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        try:
            if self._file is None:
                raise ValueError("a draft that was published or discarded cannot be written")
            written = os.write(self._file, data)
            while written < len(data):  # of more than 2 GB, or where the disk is almost full
                data = memoryview(data)[written:]
                written = os.write(self._file, data)
        except OSError as error:
            raise _output_error(self._store.root / self._shown, "written", error) from error

    def publish(self, name: str, *, durable: bool = False) -> None:
        """Rename the file to ``name``."""
        target = self._store._path(checked_name(name))
        try:
            if os.access(target, os.F_OK):
                copy_permissions(target, self.path)
            if durable and self._file is not None:
                os.fsync(self._file)
            self._close()
            _rename(self.path, target)
            if durable:
                _sync_folder(os.path.dirname(target))
        except OSError as error:
            raise _output_error(self._store.root / name, "written", error) from error

    def publish_new(self, name: str) -> bool:
        """Give the file its name where nothing has it; return False where something has."""
        target = self._store.root / checked_name(name)
        with _errors_of(target, "written"):
            self._close()
            return _link(Path(self.path), target)

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _size_of_file(path: str) -> int | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _output_error(path, "read", error) from error
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _link(temporary: Path, target: Path) -> bool:
    """Give a file a second name where nothing has it; return False where something has."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:
        # No links here. Others may see the file before it is whole, but only one makes it.
        try:
            file = target.open("xb")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(temporary.read_bytes())
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    return True


def copy_permissions(source: str | Path, target: str | Path) -> None:
    """Give a file the mode and the group of another, as far as the system lets us.

    Nothing happens if there is no other file.
    """
    with contextlib.suppress(FileNotFoundError):
        facts = os.stat(source)
        if hasattr(os, "chown") and facts.st_gid != os.stat(target).st_gid:
            with contextlib.suppress(PermissionError):  # only for members of the group
                os.chown(target, -1, facts.st_gid)
        os.chmod(target, stat.S_IMODE(facts.st_mode))


def _rename(temporary: str | Path, target: str | Path) -> None:
    """Rename a file over another.

    On Windows that fails while somebody, for example a virus scanner, has the other open.
    """
    for pause in PAUSES:
        try:
            os.replace(temporary, target)
        except PermissionError:
            if pause is None or os.name != "nt":
                raise
            time.sleep(pause)
        else:
            return


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: str | Path) -> None:
    """Make a rename last."""
    if not FOLDERS_CAN_BE_SYNCED:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _errors_of(path: Path | str, done: str) -> Iterator[None]:
    """Translate errors of the system into OutputError, with place and hint."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, done, error) from error


def _output_error(path: Path | str, done: str, error: OSError) -> OutputError:
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{path} cannot be {done}: it does not exist.")
    return OutputError(
        f"{path} cannot be {done}: {error.strerror or error}.",
        hint="Free disk space, fix permissions, or choose another folder.",
        # Of Windows, a file that another program has open.
        may_heal=not isinstance(error, PermissionError) or os.name == "nt",
    )
