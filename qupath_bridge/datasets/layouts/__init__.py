"""The layouts of other tools that a run can be converted to.

A layout is a function ``write(run, folder, **options) -> Written``: it reads the rows and patches
of a finished run (:class:`~.base.RunRows`) and writes into a new folder. Its entry of
:data:`LAYOUTS` names the options that it uses; others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from qupath_bridge.errors import UsageError
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
    """

    reference: str
    options: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Return the function that writes it."""
        module, _, name = self.reference.partition(":")
        found: Callable[..., Any] = getattr(import_module(f"{__name__}.{module}"), name)
        return found


LAYOUTS: Mapping[str, Layout] = {
    "imagefolder": Layout("image_folder:write_image_folder", ("split", "val")),
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
