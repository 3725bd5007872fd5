"""Search of slide files: from the URI in a project to a file on this machine.

QuPath stores absolute URIs, which are wrong after a project was moved or copied from another
system. Places are tried in a fixed order: the user's map, the URI as stored, its place relative to
the project's former folder, the folder of the project itself, then a search by file name. The
project is never changed.

Only :class:`FileSearch` accesses files: ``exists`` is a parameter, and ``flavour`` is the system
of the result.
"""

from __future__ import annotations

import ntpath
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Literal
from urllib.parse import unquote

from qupath_bridge.errors import UsageError
from qupath_bridge.urls import BUCKET_PARTS, shown, url_of

__all__ = [
    "NATIVE",
    "FileSearch",
    "Flavour",
    "Resolution",
    "check_search_folder",
    "local_path",
    "mapped_place",
    "parse_path",
    "resolve",
]

Flavour = Literal["posix", "windows"]
"""Operating system of a path."""

NATIVE: Flavour = "windows" if os.name == "nt" else "posix"
"""The system of this machine."""

OBJECT_STORAGE = ("s3", "gs", "az", "memory")
"""Schemes of URLs from which slides are read; QuPath's own slides may be on a web server."""

_WRITTEN = ("mapped", "as stored")
"""Origins of places that somebody named, and are not guessed from where the project is."""

# RFC 3986, appendix B: scheme, authority, path; query and fragment take no part in file names.
_URI = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)")
_DRIVE = re.compile(r"[/\\]?[A-Za-z]:(?=[/\\]|$)")
_SHARE = re.compile(r"[/\\]{2}[^/\\]")


@dataclass(frozen=True, slots=True)
class Resolution:
    """Place where a slide file was found, or the places that were tried.

    Attributes
    ----------
    path : PurePath or None
        None if no file was found, or if a search found several.
    origin : str or None
        ``mapped``, ``as stored``, ``relative``, ``beside`` or ``searched``.
    tried : tuple of str
        Each place, with its origin, or the reason why it was not tried.
    candidates : tuple of PurePath
        Files that a search found and that fit equally well.
    mapped : tuple of str
        Prefixes of the user's map that fit, whether or not there is a file.
    """

    path: PurePath | None = None
    origin: str | None = None
    tried: tuple[str, ...] = ()
    candidates: tuple[PurePath, ...] = ()
    mapped: tuple[str, ...] = ()


def parse_path(text: str) -> PurePath | None:
    r"""Return the absolute path of a ``file:`` URI or a plain path, of any system.

    A drive letter or a server name makes it a Windows path; None for anything that is not a file
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
        return _parse_windows(text)
    scheme, host, path = _URI.findall(text)[0]
    if not scheme:
        # A plain path has no escapes, and '#' or '?' are part of a name.
        return _parse_posix(text) if text.startswith("/") else None
    if scheme.lower() != "file":
        return None
    host, path = unquote(host), unquote(path)
    if host and _DRIVE.fullmatch(host):  # "file://C:/a.svs", a common slip
        return _parse_windows(f"{host}{path}")
    if host and host.lower() != "localhost":
        return _parse_windows(f"//{host}{path}")
    if _DRIVE.match(path) or _SHARE.match(path):
        return _parse_windows(path)
    return _parse_posix(path) if path.startswith("/") else None


def _parse_posix(text: str) -> PurePosixPath:
    return PurePosixPath("/", *_without_dots(text.split("/")))


def _parse_windows(text: str) -> PureWindowsPath:
    if _DRIVE.match(text):
        text = text.lstrip("/\\")
    root, rest = ntpath.splitdrive(text)
    return PureWindowsPath(f"{root}\\", *_without_dots(re.split(r"[/\\]", rest)))


def _without_dots(parts: Sequence[str]) -> list[str]:
    """Resolve ``.`` and ``..`` by name, as URIs do; the root is its own parent."""
    result: list[str] = []
    for part in parts:
        if part == "..":
            del result[-1:]
        elif part not in {"", "."}:
            result.append(part)
    return result


def is_remote(path: PurePath) -> bool:
    """Return whether a path is on another computer (``//server/share``)."""
    return path.drive.startswith("\\\\")


def local_path(text: str, flavour: Flavour = NATIVE) -> PurePath | None:
    """Return the path of a URI on one system; None if it cannot be a file there.

    Paths of another system give None, and network shares always do: Windows would send the
    user's credentials to any server that a project names.

    >>> local_path("file:/C:/a.svs", "posix") is None
    True
    >>> local_path("file:/C:/a.svs", "windows")
    PureWindowsPath('C:/a.svs')
    """
    path = parse_path(text)
    if path is None or is_remote(path) or not isinstance(path, _path_type(flavour)):
        return None
    return path


def _object_path(uri: str, flavour: Flavour) -> PurePath | None:
    """Return the path of a URL of object storage, None for every other place."""
    url = url_of(uri)
    if url is None or url.partition(":")[0] not in OBJECT_STORAGE:
        return None
    return _path_type(flavour)(url)


def _path_type(flavour: Flavour) -> type[PurePosixPath | PureWindowsPath]:
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
        Current folder of the project; one of object storage is a URL that is written as a path.
    project_uri : str, optional
        URI of the project file when QuPath last saved it (its ``uri`` key).
    slide_map : mapping of str to str, optional
        Prefixes of URIs or paths, and their replacements (``{"Z:\": "/mnt/z"}``), tried in this
        order. Where one fits, the slide is at no other place: only a search can still find it.
    find : callable, optional
        Returns the files with a given name, for the search.
    exists : callable
        Returns whether a path exists; asked for URLs, too, where the project is at one.
    flavour : ``"posix"`` or ``"windows"``
        System of the result.

    Returns
    -------
    Resolution
        The first place with a file. If a search finds several files, the one that shares the
        longest end with the stored path is taken; where several do, ``path`` is None and they
        are in ``candidates``.
    """
    target = parse_path(uri)
    mapped = {
        old: place
        for old, new in (slide_map or {}).items()
        if (place := _replace_prefix(uri, target, old, new, flavour)) is not None
    }
    tried: list[str] = []
    result = Resolution(mapped=tuple(mapped))
    done: set[PurePath] = set()
    places = [(place, "mapped") for place in mapped.values()] or _list_places(
        uri, target, project_folder, project_uri, flavour, tried
    )
    for path, origin in places:
        if path in done:
            continue
        done.add(path)
        tried.append(f"{origin}: {shown(path)}")
        # Of a URL that somebody wrote nobody asks: the slide's own task says it if there is none.
        is_url = url_of(path) is not None and origin in _WRITTEN
        if is_url or exists(path):
            return replace(result, path=path, origin=origin, tried=tuple(tried))
    if find is None or target is None or not target.name:
        return replace(result, tried=tuple(tried))
    found = tuple(find(target.name))
    best = _longest_common_ends(target, found)
    if len(best) == 1:
        tried.append(f"searched: {best[0]}")
        return replace(result, path=best[0], origin="searched", tried=tuple(tried))
    matches = f"{len(best)} files" if best else "no file"
    listed = f": {', '.join(map(str, best))}" if best else ""
    tried.append(f"searched: found {matches} named {target.name!r}{listed}")
    return replace(result, tried=tuple(tried), candidates=best)


def _longest_common_ends(target: PurePath, found: Sequence[PurePath]) -> tuple[PurePath, ...]:
    """Return the paths whose last names equal those of a path for as long as possible."""
    wanted = [_normalize_name(name).casefold() for name in reversed(target.parts[1:])]

    def common(path: PurePath) -> int:
        names = (_normalize_name(name).casefold() for name in reversed(path.parts[1:]))
        pairs = zip(wanted, names, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    most = max(map(common, found), default=0)
    return tuple(path for path in found if common(path) == most)


def _list_places(
    uri: str,
    target: PurePath | None,
    project_folder: PurePath,
    project_uri: str | None,
    flavour: Flavour,
    tried: list[str],
) -> Iterator[tuple[PurePath, str]]:
    """Yield the places to try, in order; places that cannot be tried are noted in ``tried``."""
    stored = _object_path(uri, flavour) or local_path(uri, flavour)
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
        steps = _relative_steps(old_project.parent, target)
        place = None if steps is None else _join_steps(project_folder, steps)
        if place is not None:
            yield place, "relative"
    if target is not None and target.name:
        yield project_folder / target.name, "beside"


def _comparison_key(path: PurePath) -> tuple[str, ...]:
    """Return the parts of a path for comparison: without case on Windows."""
    parts = path.parts
    return tuple(p.casefold() for p in parts) if isinstance(path, PureWindowsPath) else parts


def _relative_steps(base: PurePath, target: PurePath) -> list[str] | None:
    """Return the relative path from a folder to a file; None if there is no relative path."""
    if type(base) is not type(target) or _comparison_key(base)[:1] != _comparison_key(target)[:1]:
        return None
    common = 0
    for base_part, target_part in zip(_comparison_key(base), _comparison_key(target), strict=False):
        if base_part != target_part:
            break
        common += 1
    return [".."] * (len(base.parts) - common) + list(target.parts[common:])


def _join_steps(folder: PurePath, steps: Sequence[str]) -> PurePath | None:
    """Return the place of a relative path; None if it would be in another bucket."""
    parts = folder.parts
    if url_of(folder) is None:
        return type(folder)(folder.anchor, *_without_dots([*parts[1:], *steps]))
    left = len(parts) - steps.count("..")
    if left < BUCKET_PARTS:
        return None
    return type(folder)(*parts[:left], *steps[steps.count("..") :])


def mapped_place(place: str, slide_map: Mapping[str, str]) -> Path | None:
    """Return where a slide is now, by old and new places; None if none of the old ones fits.

    Parameters
    ----------
    place : str
        Path or URI.
    slide_map : mapping of str to str
        As for :func:`resolve`.
    """
    target = parse_path(place)
    places = (_replace_prefix(place, target, old, new, NATIVE) for old, new in slide_map.items())
    return next((Path(each) for each in places if each is not None), None)


def _replace_prefix(
    uri: str, target: PurePath | None, old: str, new: str, flavour: Flavour
) -> PurePath | None:
    """Replace the prefix ``old`` of a URI or path by ``new``; only at the end of a name."""
    # "Z:" alone means the whole drive.
    start = parse_path(f"{old}\\" if re.fullmatch("[A-Za-z]:", old) else old)
    if start is not None:
        if target is None or type(start) is not type(target):
            return None
        head, whole = _comparison_key(start), _comparison_key(target)
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
    base = place if isinstance(place, _path_type(flavour)) else _path_type(flavour)(new)
    return base.joinpath(*rest)


@dataclass
class FileSearch:
    """Search of files by name below some folders, which are listed once, at the first call.

    Hidden folders are left out and links to folders are not followed. Composed and decomposed
    accents in names are equal; on Windows case is ignored.
    """

    folders: Sequence[Path]
    _names: dict[str, list[Path]] | None = field(default=None, repr=False)

    def __call__(self, name: str) -> list[Path]:
        """Return the files of a name, each file once, sorted."""
        if self._names is None:
            self._names = {}
            for folder in self.folders:
                for path in _files_below(folder):
                    self._names.setdefault(_normalize_name(path.name), []).append(path)
        return sorted({path.resolve() for path in self._names.get(_normalize_name(name), ())})


def _normalize_name(name: str) -> str:
    return os.path.normcase(unicodedata.normalize("NFC", name))


def check_search_folder(folder: Path | str) -> Path:
    """Return a folder to search in.

    Raises
    ------
    UsageError
        If it does not exist, or is a file.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(
            f"{path}, the place of the option search, is "
            f"{'not a folder' if path.exists() else 'not there'}.",
            hint="Name a folder that holds the slides, itself or in folders below it.",
        )
    return path


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            yield Path(place) / name
