"""Places that are URLs and not files of this machine, written as a path or as text.

A path of ``s3://bucket/a.svs`` has the parts ``s3:``, ``bucket`` and ``a.svs``: names, endings and
folders of a URL are those of a path, so that slides in object storage need no type of their own.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath

__all__ = ["BUCKET_PARTS", "absolute", "place_text", "shown", "url_of"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
"""Beginning of a URL. One letter is a drive of Windows."""

BUCKET_PARTS = 2
"""Parts of the URL of a whole bucket: scheme and name."""


def url_of(place: str | PurePath) -> str | None:
    """Return the URL that a path or text is; None for a file or folder of this machine.

    >>> url_of(Path("s3://bucket/a.svs")), url_of("file:///a.svs"), url_of("a.svs")
    ('s3://bucket/a.svs', None, None)
    """
    text = "/".join(place.parts) if isinstance(place, PurePath) else place
    match = _SCHEME.match(text)
    if match is None or match[1].lower() == "file" or text[match.end() : match.end() + 1] != "/":
        return None
    return f"{match[0].lower()}//{text[match.end() :].lstrip('/')}"


def absolute(place: Path) -> Path:
    """Return a path that does not depend on the working directory; that of a URL as it is."""
    return place if url_of(place) else place.absolute()


def shown(place: PurePath) -> str:
    """Return a place as messages name it: its URL, or its path as it was given.

    >>> shown(PurePath("s3:/bucket/a.svs")), shown(PurePath("a.svs"))
    ('s3://bucket/a.svs', 'a.svs')
    """
    return url_of(place) or str(place)


def place_text(place: Path) -> str:
    """Return a place as records and messages name it: its URL, or its whole path.

    >>> place_text(Path("s3:/bucket/a.svs"))
    's3://bucket/a.svs'
    """
    return url_of(place) or str(place.absolute())
