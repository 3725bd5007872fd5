"""Items of datasets: pixels as tensors, labels as numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.model import PixelArray

__all__ = ["NO_TARGET", "Item", "Targets", "Transform", "need_torch", "to_tensor"]

Item: TypeAlias = tuple[Any, Any]
"""Tensor and target."""
Transform: TypeAlias = Callable[[Any], Any]
Label: TypeAlias = str | Sequence[str] | None

NO_TARGET = -1
"""Target of a patch without a label."""


def need_torch() -> None:
    """Refuse to make a dataset where torch is not installed.

    Raises
    ------
    MissingDependencyError
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"PyTorch cannot be imported: {error}.", hint="pip install 'qupath-bridge[torch]'."
        ) from error


def to_tensor(pixels: PixelArray) -> Any:
    """Return pixels (H, W, C) as a tensor (C, H, W) of their type, in memory of its own."""
    import torch

    native = pixels.dtype.newbyteorder("=")
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), native).copy())


class Targets:
    """Numbers of labels: their place among the classes.

    A patch without a label has the target -1. If labels are lists, the target is a tensor of 0 and
    1 per class.

    Parameters
    ----------
    classes : iterable of str
        Every label that there is, in the order of the numbers.
    multi : bool
        True if the label of a patch is a list.
    """

    def __init__(self, classes: Iterable[str], *, multi: bool) -> None:
        self.classes = tuple(classes)
        self.multi = multi
        self._numbers: Mapping[str, int] = {name: n for n, name in enumerate(self.classes)}

    def of(self, label: Label) -> Any:
        """Return the target of a patch.

        Raises
        ------
        UsageError
            If there is no such class.
        """
        names = [label] if isinstance(label, str) else list(label or ())
        if unknown := [name for name in names if name not in self._numbers]:
            raise UsageError(
                f"{unknown[0]!r} is not among the classes {', '.join(self.classes)}.",
                hint="Give all names in classes.",
            )
        if not self.multi:
            return self._numbers[names[0]] if names else NO_TARGET
        import torch

        target = torch.zeros(len(self.classes))
        target[[self._numbers[name] for name in names]] = 1
        return target
