"""The layouts of other tools that a run can be converted to.

A layout is a function ``write(run, folder, **options) -> Written``: it reads the rows and patches
of a finished run (:class:`~.base.RunRows`) and writes into a new folder. Its entry of
:data:`LAYOUTS` names the options that it uses; others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.suggestions import similar_value

__all__ = ["LAYOUTS", "Layout", "find_layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """An entry of the table.

    Attributes
    ----------
    reference : str
        ``module:function`` in this package.
    options : tuple of str
        Options of ``convert`` that it uses, besides run and folder.
    needed : tuple of str
        Those of them that have to be given.
    package : str or None
        Package that it needs.
    """

    reference: str
    options: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    package: str | None = None

    def load(self) -> Callable[..., Any]:
        """Return the function that writes it.

        Raises
        ------
        MissingDependencyError
            If what it needs is not installed.
        """
        if self.package and find_spec(self.package) is None:
            raise MissingDependencyError(
                f"{self.package} is not installed.",
                hint=f"pip install 'qupath-bridge[{_EXTRAS[self.package]}]'.",
            )
        module, _, name = self.reference.partition(":")
        found: Callable[..., Any] = getattr(import_module(f"{__name__}.{module}"), name)
        return found


_EXTRAS = {"h5py": "h5", "torch": "torch"}
"""Extras that install a package."""


LAYOUTS: Mapping[str, Layout] = {
    "imagefolder": Layout("image_folder:write_image_folder", ("split", "val")),
    "coco": Layout("coco:write_coco", ("split", "val")),
    "yolo": Layout("yolo:write_yolo", ("split", "val")),
    "semantic": Layout("semantic:write_semantic", ("split", "val")),
    "clam": Layout("clam:write_clam", ("features",), package="h5py"),
    "trident": Layout("trident:write_trident", ("features",), package="h5py"),
    "stamp": Layout("stamp:write_stamp", ("features",), ("features",), "h5py"),
    "slideflow": Layout("slideflow:write_slideflow", ("features",), ("features",), "torch"),
}
"""Layouts by name."""


def find_layout(name: str) -> Layout:
    """Return a layout by name.

    Raises
    ------
    UsageError
        If there is none of this name; the message has those that there are.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    meant = similar_value(name, list(LAYOUTS))
    raise UsageError(
        f"A run cannot be converted to {name!r}.",
        hint=f"Did you mean {meant}?" if meant else f"Known: {', '.join(LAYOUTS)}.",
    )
