"""Arrays as files of torch, which alone writes them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .features import FeatureArray

__all__ = ["has_torch", "write_tensor"]


def has_torch() -> bool:
    """Return whether torch is installed."""
    return find_spec("torch") is not None


def write_tensor(path: Path, values: FeatureArray) -> None:
    """Write an array as a tensor, as ``torch.save`` does."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.from_numpy(values), path)
