"""Addresses of files of an output, as seen from the page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from qupath_bridge.outputs.base import Output
from qupath_bridge.stores import local_path

__all__ = ["Links"]


@dataclass(frozen=True, slots=True)
class Links:
    """Makes addresses of files of an output, relative to the page, so that both can be moved.

    ``base`` is the way from the folder of the page to the output; None if the output is not in
    files of this machine, and there is nothing to link to.

    Examples
    --------
    >>> Links("../out").to("patches/a b#1.png")
    '../out/patches/a%20b%231.png'
    >>> Links("").to("run.json"), Links(None).to("run.json")
    ('./run.json', None)
    """

    base: str | None

    @classmethod
    def between(cls, output: Output, page: Path | None) -> Links:
        """Return the links of a page in this file; of None, in the output itself."""
        root = local_path(output.url)
        if root is None:
            return cls(None)
        if page is None:
            return cls("")
        try:
            way = os.path.relpath(root.resolve(), page.resolve().parent)
        except ValueError:  # another drive
            return cls(root.resolve().as_uri())
        return cls("" if way == "." else way.replace(os.sep, "/"))

    def to(self, name: str) -> str | None:
        """Return the address of a file of the output."""
        if self.base is None:
            return None
        if self.base.startswith("file:"):
            return f"{self.base}/{quote(name)}"
        # A dot in front: a folder "a:b" would be read as a scheme.
        base = f"{self.base}/" if self.base.startswith("..") else f"./{self.base}/"
        return quote(f"{base}{name}".replace(".//", "./"))
