"""Tissue of a slide: which pixels of a map show it, and which share of a box.

A method (:class:`~qupath_bridge.pixels.base.TissueMethod`, an exchangeable part) finds the tissue
on a map of the whole slide; :func:`find_tissue` turns what it says into a mask.
"""

from .color import BRIGHT, DARK, saturation, stain_saturation
from .finding import GLASS, Tissue, find_tissue, otsu_threshold
from .shares import TissueShares, tissue_shares

__all__ = [
    "BRIGHT",
    "DARK",
    "GLASS",
    "Tissue",
    "TissueShares",
    "find_tissue",
    "otsu_threshold",
    "saturation",
    "stain_saturation",
    "tissue_shares",
]
