"""Where a slide is today: from the URI in a project to a file on this machine.

QuPath stores absolute URIs, so every project that moved, or that comes from another system, has
to be read with care. The order is fixed: the URI as it is, its place relative to where the
project used to be, the user's map, then a search by file name. Nothing is ever written back.

Everything here but :class:`FileSearch` is free of file access: ``exists`` is handed in, and
``flavour`` says for which system the answer is meant.
"""

from __future__ import annotations

import ntpath
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Literal
from urllib.parse import unquote

__all__ = ["NATIVE", "FileSearch", "Flavour", "Resolution", "local_path", "parse_path", "resolve"]

Flavour = Literal["posix", "windows"]
"""The system for which a path is meant."""

NATIVE: Flavour = "windows" if os.name == "nt" else "posix"
"""The system that this runs on."""

# RFC 3986, appendix B: scheme, authority, path; query and fragment take no part in file names.
_URI = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)")
_DRIVE = re.compile(r"[/\\]?[A-Za-z]:(?=[/\\]|$)")
_SHARE = re.compile(r"[/\\]{2}[^/\\]")


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where a slide was found, or where it was looked for.

    Attributes
    ----------
    path : PurePath or None
        None when it was not found, or when a search found several.
    origin : str or None
        ``as stored``, ``relative``, ``mapped`` or ``searched``.
    tried : tuple of str
        Each place that was looked at, with how it was arrived at, or why it was not looked at.
    candidates : tuple of PurePath
        Files of that name when a search found more than one.
    """

    path: PurePath | None = None
    origin: str | None = None
    tried: tuple[str, ...] = ()
    candidates: tuple[PurePath, ...] = ()


def parse_path(text: str) -> PurePath | None:
    r"""Return the absolute path that a ``file:`` URI or a plain path means, on whatever system.

    A drive letter or a server name makes it a Windows path; None for anything that is no file
    (``http:``) or not absolute. Dots are resolved, ``%20`` and UTF-8 escapes decoded.

    >>> parse_path("file:/C:/My%20slides/a.svs")
    PureWindowsPath('C:/My slides/a.svs')
    >>> parse_path("file://server/share/a.svs")
    PureWindowsPath('//server/share/a.svs')
    >>> parse_path("file:///home/me/../a%5B1%5D.svs")
    PurePosixPath('/home/a[1].svs')
    >>> parse_path("https://example.org/a.svs") is None
    True
    """
    if _DRIVE.match(text) or _SHARE.match(text):
        return _windows(text)
    scheme, host, path = _URI.findall(text)[0]
    if not scheme:
        # A plain path: nothing is escaped, and '#' or '?' are letters of a name.
        return _posix(text) if text.startswith("/") else None
    if scheme.lower() != "file":
        return None
    host, path = unquote(host), unquote(path)
    if host and _DRIVE.fullmatch(host):  # "file://C:/a.svs", a common slip
        return _windows(f"{host}{path}")
    if host and host.lower() != "localhost":
        return _windows(f"//{host}{path}")
    if _DRIVE.match(path) or _SHARE.match(path):
        return _windows(path)
    return _posix(path) if path.startswith("/") else None


def _posix(text: str) -> PurePosixPath:
    return PurePosixPath("/", *_without_dots(text.split("/")))


def _windows(text: str) -> PureWindowsPath:
    if _DRIVE.match(text):
        text = text.lstrip("/\\")
    root, rest = ntpath.splitdrive(text)
    return PureWindowsPath(f"{root}\\", *_without_dots(re.split(r"[/\\]", rest)))


def _without_dots(parts: Sequence[str]) -> list[str]:
    """Resolve ``.`` and ``..`` by name, as URIs do; the root is its own parent."""
    kept: list[str] = []
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part not in {"", "."}:
            kept.append(part)
    return kept


def is_remote(path: PurePath) -> bool:
    """Return whether a path names another computer (``//server/share``)."""
    return path.drive.startswith("\\\\")


def local_path(text: str, flavour: Flavour = NATIVE) -> PurePath | None:
    """Return the path of a URI on one system, None where it cannot be a file there.

    A path of another system is none here, and a server's share is none anywhere: Windows would
    send the user's credentials to whatever server a project names.

    >>> local_path("file:/C:/a.svs", "posix") is None
    True
    >>> local_path("file:/C:/a.svs", "windows")
    PureWindowsPath('C:/a.svs')
    """
    path = parse_path(text)
    if path is None or is_remote(path) or not isinstance(path, _pure(flavour)):
        return None
    return path


def _pure(flavour: Flavour) -> type[PurePosixPath | PureWindowsPath]:
    return PureWindowsPath if flavour == "windows" else PurePosixPath


def resolve(
    uri: str,
    *,
    project_folder: PurePath,
    project_uri: str | None = None,
    slide_map: Mapping[str, str] | None = None,
    find: Callable[[str], Sequence[PurePath]] | None = None,
    exists: Callable[[PurePath], bool] = os.path.exists,
    flavour: Flavour = NATIVE,
) -> Resolution:
    r"""Find the file of a slide.

    Parameters
    ----------
    uri : str
        As stored in the project.
    project_folder : PurePath
        Folder of the project today.
    project_uri : str, optional
        Where the project file was when QuPath last saved it (its ``uri`` key).
    slide_map : mapping of str to str, optional
        Beginnings of URIs or paths, and what to put in their place (``{"Z:\": "/mnt/z"}``),
        tried in this order.
    find : callable, optional
        File name to the files of that name, for the search.
    exists : callable
        Whether something stands at a path.
    flavour : ``"posix"`` or ``"windows"``
        For which system.

    Returns
    -------
    Resolution
        The first place where there is a file. A search that finds several is no answer; they are
        in ``candidates``.
    """
    tried: list[str] = []
    seen: set[PurePath] = set()
    for path, origin in _places(uri, project_folder, project_uri, slide_map or {}, flavour, tried):
        if path in seen:
            continue
        seen.add(path)
        tried.append(f"{origin}: {path}")
        if exists(path):
            return Resolution(path, origin, tuple(tried))
    target = parse_path(uri)
    if find is None or target is None or not target.name:
        return Resolution(tried=tuple(tried))
    found = tuple(find(target.name))
    if len(found) == 1:
        return Resolution(found[0], "searched", (*tried, f"searched: {found[0]}"))
    several = f" are {len(found)}: {', '.join(map(str, found))}" if found else " is none"
    tried.append(f"searched: of files named {target.name!r} there{several}")
    return Resolution(tried=tuple(tried), candidates=found)


def _places(
    uri: str,
    project_folder: PurePath,
    project_uri: str | None,
    slide_map: Mapping[str, str],
    flavour: Flavour,
    tried: list[str],
) -> Iterator[tuple[PurePath, str]]:
    """Yield the places to look at, in order; what cannot be looked at is noted in ``tried``."""
    target = parse_path(uri)
    stored = local_path(uri, flavour)
    if stored is not None:
        yield stored, "as stored"
    elif target is None:
        tried.append(f"as stored: {uri} (not a file on this computer)")
    elif is_remote(target):
        tried.append(f"as stored: {target} (on another computer, opened only when mapped)")
    else:
        tried.append(f"as stored: {target} (a path of another system)")
    old_project = None if project_uri is None else parse_path(project_uri)
    if target is not None and old_project is not None:
        steps = _steps(old_project.parent, target)
        if steps is not None:
            yield _walk(project_folder, steps), "relative"
    for old, new in slide_map.items():
        mapped = _map(uri, target, old, new, flavour)
        if mapped is not None:
            yield mapped, "mapped"


def _key(path: PurePath) -> tuple[str, ...]:
    """Return the parts as the path's own system compares them."""
    parts = path.parts
    return tuple(p.casefold() for p in parts) if isinstance(path, PureWindowsPath) else parts


def _steps(base: PurePath, target: PurePath) -> list[str] | None:
    """Return the way from a folder to a file, None where no relative way leads there."""
    if type(base) is not type(target) or _key(base)[:1] != _key(target)[:1]:
        return None
    common = 0
    for ours, theirs in zip(_key(base), _key(target), strict=False):
        if ours != theirs:
            break
        common += 1
    return [".."] * (len(base.parts) - common) + list(target.parts[common:])


def _walk(folder: PurePath, steps: Sequence[str]) -> PurePath:
    parts = folder.parts
    return type(folder)(folder.anchor, *_without_dots([*parts[1:], *steps]))


def _map(
    uri: str, target: PurePath | None, old: str, new: str, flavour: Flavour
) -> PurePath | None:
    """Put ``new`` in the place of the beginning ``old`` of a URI or path, at whole names only."""
    # "Z:" alone means the whole drive.
    start = parse_path(f"{old}\\" if re.fullmatch("[A-Za-z]:", old) else old)
    if start is not None:
        if target is None or type(start) is not type(target):
            return None
        head, whole = _key(start), _key(target)
        if whole[: len(head)] != head:
            return None
        rest = list(target.parts[len(head) :])
    else:
        if not uri.startswith(old):
            return None
        tail = uri[len(old) :]
        if tail and not old.endswith("/") and not tail.startswith("/"):
            return None
        rest = _without_dots(unquote(tail).split("/"))
    place = parse_path(new)
    base = place if isinstance(place, _pure(flavour)) else _pure(flavour)(new)
    return base.joinpath(*rest)


@dataclass
class FileSearch:
    """Files by name below some folders; the folders are walked once, when first asked.

    Hidden folders are left out and links to folders are not followed. Names are compared as
    the eye reads them (composed and decomposed accents are one), on Windows without case.
    """

    folders: Sequence[Path]
    _names: dict[str, list[Path]] | None = field(default=None, repr=False)

    def __call__(self, name: str) -> list[Path]:
        """Return the files of a name, each file once, sorted."""
        if self._names is None:
            self._names = {}
            for folder in self.folders:
                for path in _files_below(folder):
                    self._names.setdefault(self._fold(path.name), []).append(path)
        return sorted({path.resolve() for path in self._names.get(self._fold(name), ())})

    @staticmethod
    def _fold(name: str) -> str:
        return os.path.normcase(unicodedata.normalize("NFC", name))


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            yield Path(place) / name
