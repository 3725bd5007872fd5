"""Project files: where one is in a folder, and what a file is that is not one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qupath_bridge.errors import ProjectError
from qupath_bridge.parallel import ordered_map
from qupath_bridge.stores import open_store
from qupath_bridge.stores.files import files_in
from qupath_bridge.urls import shown, url_of

__all__ = [
    "NAME_ONE",
    "PICTURE",
    "SLIDE",
    "backup_of",
    "check_kind",
    "file_kind",
    "find_project_file",
    "is_project_file",
    "project_above",
    "projects_in",
]

NAME_ONE = "Name a .qpproj file, a slide, a table of slides, or the folder of one of them."
"""Advice where neither a project nor a slide is found."""


_NAME_PROJECT = "Pass the project.qpproj of a QuPath project, or its folder."


def find_project_file(path: Path) -> Path:
    """Return the project file at a path: the file itself, or the only one in a folder.

    Raises
    ------
    ProjectError
        If there is nothing at the path. If a folder contains no project file, or several; they
        are listed. If a file is plainly of another kind.
    OutputError
        If object storage cannot be listed.
    """
    if url_of(path):
        return _find_stored(path)
    # While QuPath saves, for a moment only the backup exists.
    if not path.exists() and not backup_of(path).exists():
        raise ProjectError(
            "no such file or folder",
            path=path,
            hint=NAME_ONE,
        )
    if not path.is_dir():
        return check_kind(path)
    return _only_one(path, sorted(path.glob("*.qpproj")))


def _find_stored(path: Path) -> Path:
    """Return the project file at a URL; whether the object of a name exists is not asked."""
    if is_project_file(path):
        return path
    kind = file_kind(path)
    if kind is not None:
        raise ProjectError(f"this is {kind}, not a project", path=shown(path), hint=_NAME_PROJECT)
    return _only_one(path, list(filter(is_project_file, files_in(path))))


def _only_one(folder: Path, found: Sequence[Path]) -> Path:
    if len(found) == 1:
        return found[0]
    if not found:
        above = None if url_of(folder) else project_above(folder)
        raise ProjectError(
            "no project file found in this folder",
            path=shown(folder),
            expected="one .qpproj file",
            hint=above or "Pass the folder that QuPath shows for the project, or the file itself.",
        )
    names = ", ".join(file.name for file in found)
    raise ProjectError(
        f"found {len(found)} project files in this folder: {names}",
        path=shown(folder),
        hint="Pass one of these files.",
    )


def check_kind(path: Path) -> Path:
    """Return the path of a project file; refuse a file that is plainly of another kind.

    Raises
    ------
    ProjectError
        Which names the kind, and the project that the file may be of.
    """
    kind = file_kind(path)
    if kind is not None and path.exists():
        hint = _NAME_PROJECT
        if kind == SLIDE:
            hint += " `qupath-bridge project create` makes one over slides."
        raise ProjectError(
            f"this is {kind}, not a project", path=path, hint=project_above(path) or hint
        )
    return path


def file_kind(path: Path) -> str | None:
    """Return what a file that is not a project plainly is, by its name; None if nobody knows."""
    name = path.name.lower()
    return next((kind for ends, kind in _OTHER_KINDS if name.endswith(ends)), None)


SLIDE, PICTURE = "a slide file", "a picture"

_OTHER_KINDS = (
    ((".qpdata", ".qpdata.bkp"), "QuPath's data file of one slide"),
    ((".qpproj.backup",), "QuPath's backup of a project file"),
    ((".geojson", ".geojson.gz", ".geojson.zip"), "a GeoJSON file"),
    ((".toml",), "a configuration file"),
    ((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"), PICTURE),
    (
        (
            ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu",
            ".vsi", ".czi", ".qptiff", ".isyntax", ".lif", ".nd2", ".dcm", ".zvi", ".btf",
        ),
        SLIDE,
    ),
)  # fmt: skip
"""Ends of file names, and what such files are."""

_LEVELS_UP = 4
"""Folders above a file in which its project is looked for: ``data/<id>/`` is two below it."""


def project_above(path: Path) -> str | None:
    """Return a hint that names the project above a file or folder, if there is just one."""
    for folder in list(path.absolute().parents)[:_LEVELS_UP]:
        found = sorted(folder.glob("*.qpproj"))
        if found:
            return f"Its project may be {found[0]}." if len(found) == 1 else None
    return None


def projects_in(folder: Path) -> list[Path]:
    """Return the project files in a folder, else those in the folders that are in it; sorted.

    Raises
    ------
    OutputError
        If object storage cannot be listed.
    """
    url = url_of(folder)
    if url is None:
        return sorted(folder.glob("*.qpproj")) or sorted(folder.glob("*/*.qpproj"))
    store = open_store(url)
    names = list(store.children())
    direct = [name for name in names if is_project_file(Path(name))]
    if not direct:
        below = [name for name in names if name.endswith("/")]
        listed = ordered_map(lambda name: list(store.children(name)), below, workers=store.at_once)
        direct = [name for found in listed for name in found if is_project_file(Path(name))]
    return [folder / name for name in direct]


def backup_of(path: Path) -> Path:
    """Return QuPath's backup of a JSON file."""
    return path.with_name(f"{path.name}.backup")


def is_project_file(path: Path) -> bool:
    """Return whether a file is a project, by its name."""
    return path.suffix.lower() == ".qpproj"
