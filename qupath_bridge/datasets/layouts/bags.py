"""Slides as bags: where the patches of a slide are in its file, and their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from qupath_bridge.errors import BridgeError, OutputError, UsageError
from qupath_bridge.readers import open_reader

from .base import RunRows, SlideRows, Written, no_patches
from .features import FeatureArray, Features

__all__ = ["Bag", "bags_of", "write_arrays", "written_of"]

_ENDINGS = (".ome.tif", ".ome.tiff", ".ome.zarr")
"""Endings with two dots, which are one for slide files."""


@dataclass(frozen=True, slots=True, eq=False)
class Bag:
    """The patches of one slide; all are squares of one size.

    Attributes
    ----------
    slide_id : str
    file : str
        Name of the slide file.
    corners : array, shape (N, 2), int64
        x, y of the upper left corners, level-0 pixels of the slide file.
    side : int
        Of a patch, level-0 pixels of the slide file.
    size : int
        Of a patch as it was written, pixels.
    step : int
        Of the grid, level-0 pixels; ``side`` if patches are on no grid.
    mpp : float or None
        µm per written pixel.
    pixel_size : (float, float) or None
        µm per level-0 pixel, in x and y.
    facts : mapping
        What the partition says of the slide.
    features : array, shape (N, D), float32, or None
        In the order of the corners.
    """

    slide_id: str
    file: str
    corners: NDArray[np.int64]
    side: int
    size: int
    step: int
    mpp: float | None
    pixel_size: tuple[float, float] | None
    facts: Mapping[str, Any]
    features: FeatureArray | None = None

    @property
    def name(self) -> str:
        """The name of the slide file without its ending."""
        lower = self.file.lower()
        whole = next((ending for ending in _ENDINGS if lower.endswith(ending)), None)
        return self.file[: -len(whole)] if whole else self.stem

    @property
    def stem(self) -> str:
        """The name of the slide file without what stands behind its last dot."""
        return Path(self.file).stem

    def file_size(self) -> tuple[int, int]:
        """Return width and height of the slide file, level-0 pixels.

        Raises
        ------
        OutputError
            If the run does not say it, and the slide file cannot be opened.
        """
        found = self.facts["coordinates"]
        (a, b, _), (c, d, _) = found["matrix"]
        width, height = found["size"]
        if found["crop"] is None and found["bounds_offset"] is None:
            if (abs(a), b, c, abs(d)) == (1, 0, 0, 1):
                return width, height
            if (a, abs(b), abs(c), d) == (0, 1, 1, 0):
                return height, width
        try:
            with open_reader(Path(self.facts["path"])) as reader:
                return reader.size
        except BridgeError as error:
            raise OutputError(
                f"{self.slide_id}: the slide file is needed for its size: {error.message}",
                hint="Put it back to where it was when it was exported.",
            ) from error


def bags_of(run: RunRows, features: Features | None = None) -> Iterator[Bag]:
    """Yield the slides of a run as bags, by slide id.

    Raises
    ------
    UsageError
        If patches are not squares of one size on one plane, if two slides have one file, or if a
        patch has no features.
    """
    files: dict[str, str] = {}
    width = None
    for slide in run.slides():
        bag = _bag(slide, None if features is None else features.of(slide))
        other = files.setdefault(bag.name.casefold(), slide.slide_id)
        if other != slide.slide_id:
            raise UsageError(
                f"{other} and {slide.slide_id} have slide files of one name: {bag.file}. A bag is "
                "named by the slide file.",
                hint="Export them into two runs, with the option entry.",
            )
        if bag.features is not None:
            if width not in {None, bag.features.shape[1]}:
                raise UsageError(
                    f"The features of {slide.slide_id} have {bag.features.shape[1]} numbers, those "
                    f"of other slides {width}.",
                    hint="Make them all with one encoder.",
                )
            width = bag.features.shape[1]
        yield bag


def _bag(slide: SlideRows, features: FeatureArray | None) -> Bag:
    table, grid = slide.table, slide.facts["grid"]
    sides = _only(slide, "w_slide", "h_slide")
    (size,) = _only(slide, "width", "height")[:1]
    if any(pc.max(table.column(axis)).as_py() for axis in ("z", "t")):
        raise UsageError(
            f"{slide.slide_id} has patches of several planes, which this layout does not know.",
            hint="Export one plane, the first one: plane 0,0.",
        )
    pixel_size = slide.facts["coordinates"]["pixel_size"]
    corners = [table.column(name).to_numpy() for name in ("x_slide", "y_slide")]
    return Bag(
        slide_id=slide.slide_id,
        file=table.column("slide_file")[0].as_py() or slide.slide_id,
        corners=np.stack(corners, axis=1).astype(np.int64),
        side=sides[0],
        size=size,
        step=sides[0] if grid["placed"] else round(grid["step"][0] * sides[0] / grid["box"][0]),
        mpp=table.column("mpp")[0].as_py(),
        pixel_size=None if pixel_size is None else (pixel_size["x"], pixel_size["y"]),
        facts=slide.facts,
        features=features,
    )


def _only(slide: SlideRows, *names: str) -> Sequence[int]:
    """Return the one value that columns have in all rows."""
    values = {value for name in names for value in slide.table.column(name).unique().to_pylist()}
    if len(values) > 1:
        raise UsageError(
            f"The patches of {slide.slide_id} are not squares of one size: {names[0]} and "
            f"{names[1]} have the values {', '.join(map(str, sorted(values)[:5]))}.",
            hint="Export a grid of squares.",
        )
    return [*values]


def write_arrays(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    attributes: Mapping[str, Mapping[str, Any]],
    *,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a new HDF5 file of arrays that can grow, as CLAM and TRIDENT make them.

    Parameters
    ----------
    path : Path
    arrays : mapping of str to array
        By name; more rows can be added later.
    attributes : mapping of str to mapping
        Of the arrays.
    about : mapping, optional
        Attributes of the file.
    """
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            rest = values.shape[1:]
            array = file.create_dataset(
                name, data=values, chunks=(32, *rest), maxshape=(None, *rest)
            )
            array.attrs.update(attributes.get(name, {}))
        file.attrs.update(about or {})


def written_of(bags: Sequence[int], what: str, warnings: Sequence[str], **record: Any) -> Written:
    """Return what was written, from the number of patches of each bag.

    Raises
    ------
    UsageError
        If there was none.
    """
    if not bags:
        raise no_patches(what, {})
    return Written(sum(bags), len(bags), warnings=tuple(warnings), record=record)
