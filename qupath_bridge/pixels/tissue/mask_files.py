"""Tissue as another program found it: ``mask:PATTERN``."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import xxhash
from PIL import Image

from qupath_bridge.errors import PlanError, UsageError
from qupath_bridge.model import MaskArray
from qupath_bridge.pixels.base import SlideView, TissueMap
from qupath_bridge.regular_files import read_regular

from .finding import covers_slide

__all__ = ["MaskTissue"]

ENDINGS = (".png", ".tif", ".tiff")
MODES = ("1", "L", "P", "I;16", "I")
"""One number per pixel, as Pillow calls it."""

MAX_BYTES = 1 << 28
MAX_PIXELS = 50_000_000

_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,7}$")
"""Ending of a slide file. What begins with a digit is part of the name: ``case.01``."""


@dataclass(frozen=True, slots=True)
class MaskTissue:
    """A picture per slide, in which everything but 0 is tissue.

    Parameters
    ----------
    argument : str
        A folder, or a path in which ``{slide}`` stands for the name of the slide, with or without
        its ending, and ``{entry}`` for its entry ID.
    """

    threshold: ClassVar[None] = None
    argument: str | None

    def __post_init__(self) -> None:
        if not self.argument:
            raise UsageError(
                "The tissue 'mask' needs a folder of masks, or a path with {slide} or {entry}.",
                hint="As in mask:masks, or mask:masks/{slide}_tissue.png.",
            )
        unknown = set(re.findall(r"\{[^{}]*\}", self.argument)) - {"{slide}", "{entry}"}
        if unknown:
            raise UsageError(
                f"mask:{self.argument}: {min(unknown)} is not known.",
                hint="A path may have {slide} and {entry} in it.",
            )

    def __call__(self, view: SlideView) -> TissueMap:
        """Return the mask of a slide, at its own resolution."""
        data, place = view.frozen, f"mask:{self.argument}"
        if data is None:
            path = self._file(view.name, view.entry_id)
            data, place = _read(view.name, path), str(path)
        mask = _decoded(view.name, place, data)
        if not covers_slide(mask.shape, view):
            (width, height), (rows, columns) = view.size, mask.shape
            wrong = f"{columns} x {rows} pixels are not the shape of the slide, {width} x {height}"
            raise _problem(view.name, place, wrong)
        if not mask.any():
            raise _problem(view.name, place, "the mask is empty")
        return TissueMap(mask, made_from=f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}")

    def read_for(self, name: str, entry_id: str) -> bytes:
        """Return the file of a slide."""
        return _read(name, self._file(name, entry_id))

    def _file(self, name: str, entry_id: str) -> Path:
        tried = list(dict.fromkeys(self._candidates(name, entry_id)))
        found = [path for path in tried if path.is_file()]
        if len(found) == 1:
            return found[0]
        if found:
            shown = " and ".join(path.name for path in found)
            raise _problem(name, str(found[0].parent), f"{shown} could both be its mask")
        shown = ", ".join(str(path.absolute()) for path in tried)
        raise PlanError(
            f"{name}: it has no mask; looked for {shown}.",
            hint="Add the mask, or leave the slide out with the option entry.",
        )

    def _candidates(self, name: str, entry_id: str) -> Iterator[Path]:
        pattern = str(self.argument)
        name = Path(name).name
        names = dict.fromkeys((_ENDING.sub("", name), name))
        if "{" not in pattern:
            yield from (Path(pattern) / f"{one}{ending}" for one in names for ending in ENDINGS)
            return
        for one in names:
            yield Path(pattern.replace("{slide}", one).replace("{entry}", entry_id))


def _read(name: str, path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        raise _problem(name, str(path), str(error.strerror or error)) from error


def _problem(name: str, place: str, text: str) -> PlanError:
    return PlanError(
        f"{name}: {place}: {text}.",
        hint="A mask is a PNG or TIFF file of the whole slide with one number per pixel, 0 for "
        "what is not tissue.",
    )


def _decoded(name: str, place: str, data: bytes) -> MaskArray:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as picture:
            if picture.mode not in MODES:
                raise _problem(name, place, f"pixels of the kind {picture.mode}, not one number")
            if picture.width * picture.height > MAX_PIXELS:
                million = MAX_PIXELS // 1_000_000
                raise _problem(name, place, f"more than {million} million pixels; make it smaller")
            return np.asarray(np.asarray(picture) != 0)
    except PlanError:
        raise
    except Exception as error:  # damaged files raise what they like
        raise _problem(name, place, f"it cannot be read as a picture ({error})") from error
