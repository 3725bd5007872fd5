"""Check of the arguments with which QuPath opens a slide file.

What is not known to be harmless is refused. An argument can select another scene of the file,
which may have the same size: nothing else would tell the difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from qupath_bridge.errors import CoordinateError

__all__ = ["check_arguments"]

_HARMLESS = {"--no-crop", "--icc-profile"}
_HARMLESS_WITH_VALUE = {"--icc-profile-source", "--icc-profile-dest"}
_SERIES = ("--series", "-s")
# All spellings of picocli: "--series=1", "-s=1" and "-s1"; the value may also come as next word.
_ATTACHED = re.compile(r"(--series|-s)=(.*)|(-s)([^=].*)", re.DOTALL)


def check_arguments(args: Sequence[str], uri: str = "") -> None:
    """Refuse arguments with which QuPath may show another image than the first of a file.

    Parameters
    ----------
    args : sequence of str
        Arguments of the step ``uri``, as stored in the project.
    uri : str
        URI of the file. Without arguments, Bio-Formats takes the series from its fragment or
        query (``a.czi#1``, ``a.czi?series=1``).

    Raises
    ------
    CoordinateError
        With the argument.

    Examples
    --------
    >>> check_arguments(["--series", "0", "--no-crop"])
    """
    shown = " ".join(args)
    for name, value in _options(args) if args else _uri_options(uri):
        if name in _SERIES:
            # A negative number means "not said", as in QuPath.
            if not re.fullmatch(r"[+-]?[0-9]+", value) or int(value) > 0:
                raise CoordinateError(
                    f"QuPath shows series {value or '?'} of this file ({shown or uri}).",
                    hint="Only the first image of a file (series 0) can be read.",
                )
        elif name not in _HARMLESS | _HARMLESS_WITH_VALUE:
            raise CoordinateError(
                f"QuPath opens this file with {name.partition('=')[0]} ({shown or uri}), which can "
                "show another image than the first.",
                hint="Only the first image of a file can be read, as it is.",
            )


def _options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each argument with its value; the value is empty for arguments without one."""
    words = iter(args)
    for word in words:
        if word in _SERIES or word in _HARMLESS_WITH_VALUE:
            yield word, next(words, "")
        elif match := _ATTACHED.fullmatch(word):
            yield match[1] or match[3], match[2] if match[1] else match[4]
        else:
            yield word, ""


def _uri_options(uri: str) -> Iterator[tuple[str, str]]:
    if not uri.lower().startswith("file:"):
        return
    rest, _, fragment = uri.partition("#")
    query = rest.partition("?")[2]
    if fragment:
        yield "--series", unquote(fragment)
    elif query:
        key, _, value = unquote(query).partition("=")
        yield f"--{key}", value
