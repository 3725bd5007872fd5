"""Suggestions for options and values that are not known: what was meant, in our words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

__all__ = ["similar_options", "similar_value", "value_advice"]

SYNONYMS = {
    "size": ("patch_size", "tile_size", "crop_size", "image_size", "width", "height", "px"),
    "stride": ("step", "step_size", "overlap_size", "patch_overlap", "tile_overlap"),
    "mpp": ("resolution", "target_mpp", "spacing", "microns_per_pixel", "downsample", "level"),
    "level_zero": ("level", "full_resolution", "native"),
    "magnification": ("mag", "objective", "power", "zoom", "level"),
    "edge": ("padding", "pad", "border"),
    "map": ("label_map", "class_map", "rename", "mapping", "labels_map", "merge"),
    "exclude": ("ignore", "exclude_classes", "exclude_class", "skip"),
    "within": ("roi", "region", "regions", "inside", "include"),
    "min_share": ("threshold", "min_coverage", "min_overlap", "coverage", "min_area"),
    "min_tissue": ("tissue_share", "min_tissue_share"),
    "background": ("background_label", "negative", "default_label"),
    "format": ("image_format", "ext", "extension", "filetype", "type"),
    "jpeg_quality": ("quality",),
    "jpeg_subsampling": ("subsampling", "chroma_subsampling", "chroma"),
    "container": ("archive", "store", "output_format"),
    "layout": ("template", "filename", "naming"),
    "workers": ("jobs", "threads", "num_workers", "n_workers", "n_jobs", "processes", "cores", "j"),
    "out": ("output", "out_dir", "output_dir", "outdir", "save_dir", "destination", "target"),
    "annotations": ("annotation", "geojson", "geojsons", "regions_file"),
    "entry": ("image", "images", "slide", "slides", "name"),
    "slide_map": ("path_map", "remap", "move"),
    "search": ("slide_dir", "slides_dir", "image_dir", "wsi_dir"),
    "resume": ("continue", "restart"),
    "update": ("overwrite", "force"),
    "preview": ("thumbnail", "plot", "overview"),
    "config": ("settings", "options", "conf"),
}
"""Options by the names that other programs give to theirs."""

VALUES = {
    "jpg": "jpeg", "jpe": "jpeg", "tif": "tiff", "center": "centre", "centroid": "centre",
    "max": "majority", "argmax": "majority", "most": "majority", "padding": "pad", "crop": "drop",
    "smallest": "innermost", "webdataset": "tar", "huggingface": "parquet", "directory": "folder",
    "dir": "folder", "multiprocessing": "processes", "threading": "threads",
}  # fmt: skip
"""Values by other names for the same."""

_NUMBER = re.compile(r"\s*([+-]?[0-9]+(?:[.,][0-9]+)?)\s*(x|%|px|um|µm|μm|mpp|pixels)?\s*", re.I)


def similar_options(name: str, known: Iterable[str]) -> list[str]:
    """Return the known options that a name may stand for, the likeliest first; at most three.

    >>> similar_options("patch-size", ["pixel_size", "size"])
    ['size']
    >>> similar_options("min_shar", ["min_share", "min_tissue"])
    ['min_share']
    """
    plain = _plain(name)
    known = list(known)
    meant = [each for each in known if plain in map(_plain, (each, *SYNONYMS.get(each, ())))]
    if meant:
        return meant[:3]
    by_name = {_plain(each): each for each in known}
    return [by_name[close] for close in difflib.get_close_matches(plain, by_name, n=3, cutoff=0.65)]


def similar_value(value: object, known: Sequence[str]) -> str | None:
    """Return the one known value that a text may stand for, None if there is none.

    >>> similar_value("jpg", ["png", "jpeg"]), similar_value("Centre", ["majority", "centre"])
    ('jpeg', 'centre')
    >>> similar_value("zip", ["folder", "tar"]) is None
    True
    """
    text = str(value).strip().lower()
    lowered = {each.lower(): each for each in known}
    if text in lowered:
        return lowered[text]
    if VALUES.get(text) in known:
        return VALUES[text]
    close = difflib.get_close_matches(text, lowered, n=1)
    return lowered[close[0]] if close else None


def value_advice(name: str, value: object, kind: str) -> str | None:
    """Return what was likely meant by a value that an option does not accept; None if unknown.

    Parameters
    ----------
    name : str
        The option.
    value : object
    kind : str
        ``integer``, ``number`` or ``choice``: what the option accepts.

    >>> value_advice("overlap", "0.5", "choice")
    'it says which class owns shared area; for patches that overlap set stride, such as 128 for \
half of a size of 256'
    >>> value_advice("magnification", "20x", "number"), value_advice("min_share", "50%", "number")
    ('did you mean 20?', 'did you mean 0.5?')
    """
    text = str(value)
    match = _NUMBER.fullmatch(text)
    if name == "overlap" and match:
        return (
            "it says which class owns shared area; for patches that overlap set stride, such as "
            "128 for half of a size of 256"
        )
    if kind == "integer" and (square := re.fullmatch(r"([0-9]+)\s*[x×,]\s*\1", text)):
        return f"patches are squares; did you mean {square[1]}?"
    if kind not in {"integer", "number"} or not isinstance(value, str) or match is None:
        return None
    number = float(match[1].replace(",", "."))
    if match[2] == "%":
        number /= 100
    if kind == "integer" and number != int(number):
        return None
    return f"did you mean {number:g}?"


def _plain(name: str) -> str:
    return name.strip("-").lower().replace("-", "").replace("_", "")
