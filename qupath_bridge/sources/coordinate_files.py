"""Coordinates of patches that other tools wrote: CLAM, TRIDENT, STAMP and slideflow.

What a file is, is told from what is in it. A file belongs to a slide by its name, as GeoJSON files
do (:mod:`.annotations`).
"""

from __future__ import annotations

import json
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.frozen import OneLine
from qupath_bridge.model import FloatArray, Slide
from qupath_bridge.regular_files import MAX_RECORD_BYTES, read_regular

from .annotations import slide_stems

__all__ = ["Coordinates", "find_coordinate_files", "read_coordinates"]

HDF5, NPZ = ".h5", ".index.npz"
CONFIG = "bags_config.json"
SHOWN = 3
"""Slides that a message names."""

Unit = Literal["px", "um"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Coordinates(OneLine):
    """Places where a tool took the patches of one slide. All are squares of one size.

    Attributes
    ----------
    tool : str
        ``clam``, ``trident``, ``stamp`` or ``slideflow``.
    size : int
        Side of a patch as the tool hands it to an encoder, pixels.
    side : float
        Side of a patch on the slide, in ``side_in``.
    side_in, places_in : "px" or "um"
        Level-0 pixels of the slide file, or µm.
    centred : bool
        Whether ``places`` are centres, not upper left corners.
    places : array, shape (N, 2), float64
        x and y, in ``places_in``.
    """

    tool: str
    size: int
    side: float
    side_in: Unit
    places_in: Unit
    centred: bool
    places: FloatArray

    def to_bytes(self) -> bytes:
        """Return them as JSON; equal coordinates give equal bytes."""
        record = {
            "tool": self.tool,
            "size": self.size,
            "side": self.side,
            "side_in": self.side_in,
            "places_in": self.places_in,
            "centred": self.centred,
            "places": self.places.tolist(),
        }
        return json.dumps(record, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Coordinates:
        """Return what :meth:`to_bytes` wrote."""
        record = json.loads(content)
        places = np.asarray(record.pop("places"), np.float64).reshape(-1, 2)
        return cls(**record, places=places)


def find_coordinate_files(place: Path, slides: Sequence[Slide]) -> list[Path]:
    """Return the coordinate file of each slide.

    Parameters
    ----------
    place : Path
        A file, or a folder that has one file per slide in it, or in its folder ``patches``. A file
        for the only slide may have any name.
    slides : sequence of N Slide

    Returns
    -------
    list of N Path

    Raises
    ------
    UsageError
        If there is no such place, or if a slide has no file or several.
    """
    if place.is_file() and len(slides) == 1:
        return [place]
    named: dict[str, list[Path]] = {}
    for path in _files(place):
        for stem in _stems(path.name):
            named.setdefault(stem, []).append(path)
    found = [_named(named, slide) for slide in slides]
    for count, problem in ((0, "no file"), (2, "several files")):
        wrong = [
            slide.name
            for slide, files in zip(slides, found, strict=True)
            if min(len(files), 2) == count
        ]
        if wrong:
            more = "" if len(wrong) <= SHOWN else f" and {len(wrong) - SHOWN} others"
            raise UsageError(
                f"coords: {place} has {problem} of {', '.join(wrong[:SHOWN])}{more}.",
                hint="The file of the slide A.svs is A.h5, A_patches.h5 or A.index.npz. Leave "
                "slides without one out with entry or where.",
            )
    return [files[0] for files in found]


def _named(named: Mapping[str, list[Path]], slide: Slide) -> list[Path]:
    """Return the files that have a name of a slide; of several names, the longest counts."""
    return next((named[stem] for stem in slide_stems(slide) if stem in named), [])


def _files(place: Path) -> list[Path]:
    """Return the files at a place that can have coordinates, sorted."""
    if place.is_file():
        return [place]
    below = place / "patches"
    try:
        found = [path for path in sorted(place.iterdir()) if _can_have(path)]
        if not found and below.is_dir():
            found = [path for path in sorted(below.iterdir()) if _can_have(path)]
    except OSError as error:
        raise UsageError(
            f"coords: {place}: {error.strerror}.",
            hint="Name a file with coordinates of CLAM, TRIDENT, STAMP or slideflow, or a folder "
            "that holds one per slide.",
        ) from error
    return found


def _can_have(path: Path) -> bool:
    return path.name.endswith((HDF5, NPZ)) and not path.name.startswith(".") and path.is_file()


def _stems(name: str) -> Iterator[str]:
    name = unicodedata.normalize("NFC", name)
    stem = name.removesuffix(NPZ) if name.endswith(NPZ) else name.removesuffix(HDF5)
    yield stem
    if stem.endswith("_patches"):
        yield stem.removesuffix("_patches")


def read_coordinates(path: Path) -> Coordinates:
    """Read the coordinates of one slide.

    Raises
    ------
    UsageError
        If the file cannot be read, or has no coordinates of a tool that is known.
    MissingDependencyError
        If h5py is needed and not installed.
    """
    try:
        found = _slideflow(path) if path.name.endswith(NPZ) else _hdf5(path)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"coords: {path} cannot be read: {error}.",
            hint="Name a file with coordinates of CLAM, TRIDENT, STAMP or slideflow.",
        ) from error
    if not (found.size >= 1 and found.side > 0 and np.isfinite(found.side)):
        raise UsageError(f"coords: {path}: its patches have no size: {found.size}, {found.side}.")
    if not np.isfinite(found.places).all():
        raise UsageError(f"coords: {path}: some coordinates are not numbers.")
    return found


def _hdf5(path: Path) -> Coordinates:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"coords: {path} needs h5py, which is not installed.",
            hint="pip install 'qupath-bridge[h5]'.",
        ) from error
    with h5py.File(path, "r") as file:
        if "coords" not in file:
            raise ValueError("it has no coordinates: no array coords")
        array = file["coords"]
        own, whole = dict(array.attrs), dict(file.attrs)
        places = _places(array[()])
    if "tile_size_um" in whole:
        return _stamp(whole, places)
    if "patch_size_level0" in own:
        return _trident(own, places)
    if "patch_level" in own:
        return _clam(own, places)
    raise ValueError(
        "its coordinates do not say how large patches are, as CLAM, TRIDENT and STAMP do"
    )


def _places(values: NDArray[Any]) -> FloatArray:
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "iuf":
        raise ValueError(f"its coordinates are {values.dtype} of shape {values.shape}, not (N, 2)")
    return values.astype(np.float64)


def _stamp(about: Mapping[str, Any], places: FloatArray) -> Coordinates:
    if _text(about.get("unit", "um")) != "um":
        raise ValueError(f"its unit is {_text(about['unit'])}, not um")
    size = int(about["tile_size_px"])
    return Coordinates("stamp", size, float(about["tile_size_um"]), "um", "um", False, places)


def _trident(about: Mapping[str, Any], places: FloatArray) -> Coordinates:
    side = float(about["patch_size_level0"])
    return Coordinates("trident", int(about["patch_size"]), side, "px", "px", False, places)


def _clam(about: Mapping[str, Any], places: FloatArray) -> Coordinates:
    size, level = int(about["patch_size"]), int(about["patch_level"])
    if level and "downsample" not in about:
        raise ValueError(f"its patches are of level {level}, and it has no downsample")
    downsample = float(np.ravel(about["downsample"])[0]) if level else 1.0
    return Coordinates("clam", size, size * downsample, "px", "px", False, places)


def _slideflow(path: Path) -> Coordinates:
    with np.load(path, allow_pickle=False) as arrays:
        places = _places(arrays["arr_0"])
    config = path.parent / CONFIG
    try:
        about = json.loads(read_regular(config, MAX_RECORD_BYTES))
    except FileNotFoundError as error:
        raise ValueError(f"{CONFIG}, which says how large patches are, is not beside it") from error
    size, side = int(about["tile_px"]), float(about["tile_um"])
    return Coordinates("slideflow", size, side, "um", "px", True, places)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
