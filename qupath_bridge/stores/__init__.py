"""Places to put bytes, all or nothing. A place is opened by its path or URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from qupath_bridge import registry
from qupath_bridge.errors import OutputError

from .base import Draft, State, Store
from .local import LocalStore

__all__ = ["Draft", "State", "Store", "local_path", "open_store"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
"""Beginning of a URL. One letter is a drive of Windows."""

_SECRETS = re.compile(r"(?<=//)[^/]*@|[?#].*")
"""Parts of a URL that may hold a password or token, which messages do not repeat."""


def local_path(url: str | Path) -> Path | None:
    """Return the folder of this machine that a path or URL names, None if it names none.

    >>> local_path("memory://example"), local_path("file:///data/run").as_posix()
    (None, '/data/run')
    """
    store = open_store(url)
    return store.root if isinstance(store, LocalStore) else None


def open_store(url: str | Path) -> Store:
    """Open the store at a place. Nothing is made or changed there.

    Parameters
    ----------
    url : str or Path
        A path, a ``file://`` URL, ``memory://NAME``, ``s3://BUCKET/FOLDER`` (also ``gs``, ``az``),
        or a URL whose scheme is the name of a registered store. What begins like a URL is never
        taken for a path: a folder ``a:b`` is opened as ``./a:b``.

    Raises
    ------
    OutputError
        If no store has this scheme, or the URL is not complete.

    Examples
    --------
    >>> open_store("memory://example").url
    'memory://example'
    """
    # Of "s3://bucket" a Path makes "s3:/bucket", which must not become a folder "s3:" either.
    first = url.parts[0] if isinstance(url, Path) and url.parts else ""
    match = _SCHEME.fullmatch(first) if isinstance(url, Path) else _SCHEME.match(url)
    if match is None:
        if not str(url).strip():
            raise OutputError("An empty text is not a place.", hint="Name a folder or a URL.")
        return LocalStore(Path(url))
    if isinstance(url, Path):
        url = f"{first}//{'/'.join(url.parts[1:])}"
    scheme = match[1].lower()
    known = registry.names("store")
    if scheme not in known:
        raise OutputError(
            f"No store opens {_SECRETS.sub('…', url)!r}.",
            hint=f"Known: {', '.join(known)}, and plain paths. "
            "A folder of that name is written with ./ before it.",
        )
    return cast(Store, registry.load("store", scheme)(url))
