"""Pictures through Pillow: JPEG, PNG and BMP files with 8-bit RGB pixels."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin

from qupath_bridge.errors import ReadError
from qupath_bridge.model import Box, Plane

from .background import blend_alpha
from .base import Fingerprint, Pixels
from .fingerprints import file_fingerprint
from .level_sizes import plausible_pixel_size
from .levels import LevelReader

__all__ = ["MAX_PIXELS", "PillowReader"]

MAX_PIXELS = 1 << 27
"""The largest picture that is read, 134 million pixels.

A picture is decoded as a whole: this one takes 1 GB then, and 400 MB afterwards. A file of a few
bytes can say that it has any size.
"""

_FORMATS: Mapping[bytes, type[ImageFile.ImageFile]] = {
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_MODES = ("RGB", "RGBA", "P")
_OTHER_SLIDES = (".mrxs",)
"""Slides that begin with a small JPEG picture of themselves."""
_INCH = 25_400.0  # µm


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class _Picture:
    pixels: Any
    mask: Any


_decoded: WeakValueDictionary[tuple[object, ...], _Picture] = WeakValueDictionary()
_lock = threading.Lock()


class PillowReader(LevelReader):
    """Reads a JPEG, PNG or BMP picture as a slide of one level.

    The picture is decoded at the first read, once for all readers of it in this process. Pixels
    stay as the file has them: a note of a camera that the picture should be turned is ignored, as
    QuPath ignores it. Transparent pixels show the background.

    Parameters
    ----------
    path : path

    Raises
    ------
    ReadError
        If it is another format, has pixels of another type, or is larger than
        :data:`MAX_PIXELS`.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        with _open(self._path) as picture:
            _check(picture, self._path)
            size, density = picture.size, picture.info.get("dpi")
        super().__init__(str(path), [size], pixel_size=_pixel_size(density))
        self._picture: _Picture | None = None

    @staticmethod
    def can_open(path: Path) -> int:
        """Return 2 for a JPEG, PNG or BMP file, 0 for others."""
        return 0 if _format_of(path) is None else 2

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file as it is now; read again each time."""
        return file_fingerprint(self._path)

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self._path,)

    def _read_rectangle(self, level: int, rectangle: Box, plane: Plane) -> Pixels:
        if self._picture is None:
            self._picture = self._decode()
        x, y, w, h = rectangle
        place = np.s_[y : y + h, x : x + w]
        mask = self._picture.mask
        if mask is None or mask[place].all():
            return self._picture.pixels[place], None
        return self._picture.pixels[place], mask[place]

    def _decode(self) -> _Picture:
        with _lock:
            try:
                state = self._path.stat()
                key = (self._path.absolute(), state.st_size, state.st_mtime_ns, self.background)
                found = _decoded.get(key)
                if found is None:
                    with _open(self._path) as picture:
                        _check(picture, self._path)
                        clear = picture.mode == "RGBA" or "transparency" in picture.info
                        array = np.asarray(picture.convert("RGBA" if clear else "RGB"))
                    pixels, mask = blend_alpha(array, self.background) if clear else (array, None)
                    found = _decoded[key] = _Picture(pixels, mask)
            except ReadError:
                raise
            except Exception as error:  # damaged data raises whatever its codec raises
                raise ReadError(
                    f"{self._path}: cannot be decoded: {error}.",
                    hint="The file is damaged, or not copied completely.",
                ) from error
        if found.pixels.shape[:2] != (self.size[1], self.size[0]):
            raise ReadError(f"{self._path}: the file was replaced.", hint="Open it again.")
        return found

    def _close(self) -> None:
        self._picture = None


def _format_of(path: Path) -> type[ImageFile.ImageFile] | None:
    if path.suffix.lower() in _OTHER_SLIDES or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError:
        return None
    return next((kind for mark, kind in _FORMATS.items() if head.startswith(mark)), None)


def _open(path: Path) -> ImageFile.ImageFile:
    """Open a picture without decoding it; not by ``Image.open``, which has a size limit too."""
    kind = _format_of(path)
    if kind is None:
        raise ReadError(f"{path}: not a JPEG, PNG or BMP file.", hint="Is the copy complete?")
    try:
        return kind(path)
    except Exception as error:
        raise ReadError(
            f"{path}: its header cannot be read: {error}.", hint="Is the copy complete?"
        ) from error


def _check(picture: ImageFile.ImageFile, path: Path) -> None:
    """Refuse pixels of another type, and pictures that are too large to decode."""
    raw = str(picture.tile[0][3]) if picture.tile else ""
    if picture.mode not in _MODES or ";16B" in raw:
        kind = f"16-bit {picture.mode}" if ";16B" in raw else picture.mode
        raise ReadError(
            f"{path}: a picture with pixels of type {kind}; this reader reads 8-bit RGB.",
            hint="Convert the picture to RGB, or export patches from within QuPath.",
        )
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ReadError(
            f"{path}: a picture of {width} x {height} pixels, which would be decoded as a whole; "
            f"the limit is {MAX_PIXELS / 1e6:.0f} million pixels.",
            hint="Write it as a tiled TIFF, for example with `vips tiffsave --tile --pyramid`.",
        )


def _pixel_size(density: Any) -> tuple[float, float] | None:
    """Return µm per pixel from pixels per inch, None if it is a screen's or printer's."""
    try:
        x, y = (_INCH / float(value) for value in density)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return plausible_pixel_size(x, y)
