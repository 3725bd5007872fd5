"""Preferences of a user for QuPath: the project that was opened last, and the user folder.

QuPath keeps ``recentProject0`` and ``userPath`` in Java's preferences, below the node
``io.github.qupath/<version>`` (``PathPrefs.java``). Java writes them some seconds after a change:
by its class ``FileSystemPreferences`` to files below ``~/.java/.userPrefs`` on Linux, to a property
list on macOS, and to the registry on Windows.
"""

from __future__ import annotations

import plistlib
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

__all__ = ["last_projects", "user_folders"]

NODE = "io.github.qupath"
LAST_PROJECT = "recentProject0"
USER_FOLDER = "userPath"
_MAC_FILE = "Library/Preferences/com.apple.java.util.prefs.plist"
_WINDOWS_KEY = rf"Software\JavaSoft\Prefs\{NODE}"
_ALPHABET = "!\"#$%&'(),-.:;<>@[]^`_{|}~abcdefghijklmnopqrstuvwxyz0123456789+?"
"""Java's alternative Base64 (``java.util.prefs.Base64``), for names of folders."""


def last_projects(home: Path, root: Path | None = None) -> set[Path]:
    """Return the project that each version of QuPath opened last for a user.

    Parameters
    ----------
    home : Path
        The user's folder.
    root : Path, optional
        Java's ``java.util.prefs.userRoot``, if it was set for that QuPath.

    Returns
    -------
    set of Path
        Project files; empty if there are no preferences, or if they cannot be read.
    """
    found = _values(LAST_PROJECT, home, root)
    return {path for path in map(_path, found) if path is not None}


def user_folders(home: Path, root: Path | None = None) -> set[Path]:
    """Return the folders that a user chose for scripts and extensions, of all versions of QuPath.

    Parameters and result are those of :func:`last_projects`, for folders.
    """
    return {Path(text) for text in _values(USER_FOLDER, home, root) if text.strip()}


def _values(key: str, home: Path, root: Path | None) -> list[str]:
    found: list[str] = []
    with suppress(OSError, ValueError, ElementTree.ParseError):
        if sys.platform == "darwin" and root is None:
            found += _from_property_list(home / _MAC_FILE, key)
        elif sys.platform == "win32" and root is None:
            found += _from_registry(key)
        else:
            found += _from_files((root or home) / ".java" / ".userPrefs", key)
    return found


def _from_files(root: Path, key: str) -> Iterator[str]:
    """Yield the values of the key in the files of Linux, one per version of QuPath."""
    for name in (NODE, _folder_name(NODE)):
        for file in sorted((root / name).glob("*/prefs.xml")):
            with suppress(OSError, ElementTree.ParseError):
                for entry in ElementTree.parse(file).iter("entry"):  # noqa: S314  # the user's own
                    if entry.get("key") == key:
                        yield entry.get("value", "")


def _folder_name(node: str) -> str:
    """Return the folder of a preferences node, as Java's ``FileSystemPreferences`` names it.

    >>> _folder_name("qupath"), _folder_name("0.7")
    ('qupath', '_!$!!.g!3')
    """
    if all("\x1f" < sign < "\x7f" and sign not in "/._" for sign in node):
        return node
    data = node.encode("utf-16-be")
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 6)
    text = "".join(_ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))
    return "_" + text + "=" * (-len(text) % 4)


def _from_property_list(path: Path, key: str) -> Iterator[str]:
    """Yield the values of the key in the file of macOS."""
    with path.open("rb") as file:
        nodes = plistlib.load(file).get("/", {})
    versions: Mapping[str, Any] = nodes.get(f"{NODE}/", {})
    for values in versions.values():
        if isinstance(values, Mapping) and key in values:
            yield str(values[key])


def _from_registry(key: str) -> list[str]:  # pragma: no cover  # Windows only
    """Return the values of the key in the registry."""
    found: list[str] = []
    if sys.platform == "win32":
        import winreg

        name_there = re.sub("[A-Z]", r"/\g<0>", key)  # as Java writes capitals
        with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _WINDOWS_KEY) as versions:
            for number in range(winreg.QueryInfoKey(versions)[0]):
                name = winreg.EnumKey(versions, number)
                with suppress(OSError), winreg.OpenKey(versions, name) as values:
                    found.append(_registry_text(winreg.QueryValueEx(values, name_there)[0]))
    return found


def _registry_text(value: str) -> str:
    r"""Return the text of a value that Java wrote to the registry (``WindowsPreferences``).

    >>> _registry_text(r"file:\/C:\/Users\m/u00FC")
    'file:/C:/Users/mü'
    """

    def plain(match: re.Match[str]) -> str:
        code, capital = match.groups()
        if code:
            return chr(int(code, 16))
        return capital or {"//": "\\", "\\": "/"}[match[0]]

    return re.sub(r"/u([0-9A-Fa-f]{4})|/([A-Z])|//|\\", plain, value)


def _path(uri: str) -> Path | None:
    """Return the file that a URI names; None if it names no file."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or not parts.path:
        return None
    if sys.platform == "win32":
        from urllib.request import url2pathname  # takes long to import

        return Path(url2pathname(parts.path))
    return Path(unquote(parts.path))
