"""Put the scripts, and the extension, into a user's QuPath folder; and take them out again.

A file that the user changed is never lost: the record ``.qupath-bridge.json`` beside the scripts
has the digest of each file as it was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from qupath_bridge._version import __version__
from qupath_bridge.errors import MissingDependencyError, OutputError, UsageError
from qupath_bridge.frozen import OneLine
from qupath_bridge.pipeline.records import dump_json
from qupath_bridge.roundtrip.qupath_preferences import user_folders
from qupath_bridge.stores.local import LocalStore

__all__ = ["InstalledFile", "find_user_folders", "install_scripts", "uninstall_scripts"]

FOLDER = "scripts/Patch_bridge"
"""Folder that QuPath's menu *User scripts* shows as *Patch bridge*."""
EXTENSIONS = "extensions"
RECORD = ".qupath-bridge.json"
JAR = re.compile(r"qupath-extension-patch-bridge-.*\.jar")
_VERSION = re.compile(r"v\d+\.\d+")

Action = Literal["written", "updated", "unchanged", "kept a copy", "removed", "left: changed"]


@dataclass(frozen=True, slots=True, repr=False)
class InstalledFile(OneLine):
    """A file, and what was done, or would be done, to it.

    Attributes
    ----------
    path : Path
    action : str
        ``written``, ``updated``, ``unchanged``, ``removed``; ``kept a copy``: the user had changed
        it, and ``copy`` has that; ``left: changed``: it is not removed, as the user changed it.
    copy : Path or None
    """

    path: Path
    action: Action
    copy: Path | None = None


def find_user_folders(home: Path | None = None, java_prefs: Path | None = None) -> tuple[Path, ...]:
    """Return the folders in which the versions of QuPath keep scripts and extensions of a user.

    They are those that QuPath's preferences name, and ``~/QuPath/v0.X``.
    """
    home = home or Path.home()
    chosen = {folder for folder in user_folders(home, java_prefs) if folder.is_dir()}
    return tuple(sorted(chosen | set(_versions(home / "QuPath"))))


def install_scripts(
    folders: Sequence[Path | str] = (), *, jar: Path | str | None = None, dry_run: bool = False
) -> tuple[InstalledFile, ...]:
    """Write the scripts into user folders of QuPath; and the extension, if it is given.

    A script that the user changed is copied first, to ``<name>_changed_<number>.groovy``. The
    set-up file gets this Python, unless it names one that exists.

    Parameters
    ----------
    folders : sequence of path, optional
        QuPath's user folders, or the folder above them; those that are found when not given.
    jar : path, optional
        The extension; only the scripts are written when not given.
    dry_run : bool
        Write nothing.

    Raises
    ------
    MissingDependencyError
        If no user folder is found.
    UsageError
        If there is no such folder or jar.
    OutputError
        If a file cannot be written.
    """
    extension = None if jar is None else _extension(jar)
    done: list[InstalledFile] = []
    for folder in _chosen(folders):
        done += _install_scripts(folder, dry_run=dry_run)
        if extension is not None:
            done += _install_jar(folder / EXTENSIONS, extension, dry_run=dry_run)
    return (*done, _set_up(dry_run=dry_run))


def uninstall_scripts(
    folders: Sequence[Path | str] = (), *, dry_run: bool = False
) -> tuple[InstalledFile, ...]:
    """Remove scripts and extension again; scripts that the user changed stay.

    Parameters and errors are those of :func:`install_scripts`.
    """
    done: list[InstalledFile] = []
    for folder in _chosen(folders):
        here = tuple(_installed(folder))
        for each in () if dry_run else here:
            if each.action == "removed":
                LocalStore(each.path.parent).delete(each.path.name)
        if not dry_run:
            LocalStore(folder / FOLDER).delete(RECORD)
        done += here
    return tuple(done)


def _installed(folder: Path) -> Iterator[InstalledFile]:
    """Yield the files in a user folder that are ours, and what becomes of them."""
    place = folder / FOLDER
    for name, digest in _recorded(place).items():
        path = place / name
        if path.is_file():
            changed = _digest(path.read_bytes()) != digest
            yield InstalledFile(path, "left: changed" if changed else "removed")
    for path in sorted((folder / EXTENSIONS).glob("*.jar")):
        if JAR.fullmatch(path.name):
            yield InstalledFile(path, "removed")


def _versions(folder: Path) -> Iterator[Path]:
    for path in folder.glob("v*"):
        if _VERSION.fullmatch(path.name) and path.is_dir():
            yield path


def _chosen(folders: Sequence[Path | str]) -> tuple[Path, ...]:
    if not folders:
        found = find_user_folders()
        if not found:
            raise MissingDependencyError(
                "No QuPath folder of this user was found.",
                hint="Start QuPath once, or name its user folder with the option qupath_dir; "
                "QuPath shows it in Edit > Preferences.",
            )
        return found
    chosen: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder}.", hint="Name QuPath's user folder.")
        chosen += sorted(_versions(folder)) or [folder]
    return tuple(chosen)


def _scripts() -> Mapping[str, bytes]:
    """Return the scripts by name: of the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("qupath_bridge"))) / "_groovy"
    checkout = Path(__file__).parents[2] / "groovy_scripts"
    for folder in (packaged, checkout):
        if found := sorted(folder.glob("*.groovy")):
            return {path.name: path.read_bytes() for path in found}
    raise OutputError(
        "The scripts are not part of this installation.", hint="Install qupath-bridge again."
    )


def _extension(jar: Path | str) -> Path:
    path = Path(jar)
    if not path.is_file() or not JAR.fullmatch(path.name):
        raise UsageError(
            f"{path} is not the extension.",
            hint="Its name is qupath-extension-patch-bridge-VERSION.jar.",
        )
    return path


def _install_scripts(folder: Path, *, dry_run: bool) -> Iterator[InstalledFile]:
    place = folder / FOLDER
    known, scripts = _recorded(place), _scripts()
    store = LocalStore(place)
    for name, content in scripts.items():
        path = place / name
        old = path.read_bytes() if path.is_file() else None
        copy = None
        if old is None:
            action: Action = "written"
        elif old == content:
            action = "unchanged"
        elif _digest(old) == known.get(name):
            action = "updated"
        else:
            action, copy = "kept a copy", _free_name(path)
        if not dry_run and action != "unchanged":
            if old is not None and copy is not None:
                store.put(copy.name, old)
            store.put(name, content)
        yield InstalledFile(path, action, copy)
    if not dry_run:
        digests = {name: _digest(content) for name, content in scripts.items()}
        store.put(RECORD, dump_json({"version": __version__, "files": digests}))


def _install_jar(place: Path, jar: Path, *, dry_run: bool) -> Iterator[InstalledFile]:
    """Put the extension in the place of its other versions: QuPath would load both."""
    target, content = place / jar.name, jar.read_bytes()
    is_there = target.is_file() and target.read_bytes() == content
    if not is_there and not dry_run:
        LocalStore(place).put(jar.name, content)
    yield InstalledFile(target, "unchanged" if is_there else "written")
    for old in sorted(place.glob("*.jar")):
        if JAR.fullmatch(old.name) and old.name != jar.name:
            if not dry_run:
                LocalStore(place).delete(old.name)
            yield InstalledFile(old, "removed")


def _set_up(*, dry_run: bool) -> InstalledFile:
    """Let scripts and extension find this Python, unless they were set up with another one."""
    named = os.environ.get("QUPATH_BRIDGE_HOME")
    path = (Path(named) if named else Path.home() / ".qupath-bridge") / "setup.json"
    known = _python_of(path)
    if known is not None and Path(known).is_file():
        return InstalledFile(path, "unchanged")
    if not dry_run:
        content = {"python": sys.executable, "version": __version__}
        LocalStore(path.parent).put(path.name, dump_json(content))
    return InstalledFile(path, "written" if known is None else "updated")


def _python_of(path: Path) -> str | None:
    try:
        python = json.loads(path.read_text(encoding="utf-8"))["python"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return python if isinstance(python, str) else None


def _recorded(place: Path) -> Mapping[str, str]:
    """Return the digests of the files as they were written; none if nobody knows them."""
    try:
        files = json.loads((place / RECORD).read_text(encoding="utf-8"))["files"]
        return {Path(name).name: str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}_changed_{n}{path.suffix}") for n in range(1, 10_000))
    return next(name for name in names if not name.exists())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
