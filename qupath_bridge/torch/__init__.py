"""Datasets for PyTorch: patches of a run, patches straight from slides, bags of features.

They are map-style: an index gives ``(tensor, target)``. Their classes are the same in every worker,
split and process. torch is imported when the first one is made.
"""

from .bags import BagDataset
from .patches import PatchDataset
from .slides import SlideDataset

__all__ = ["BagDataset", "PatchDataset", "SlideDataset"]


def __dir__() -> list[str]:
    return sorted(__all__)
