"""A reader of PPM pictures: binary, 8 bits, as slides of one level."""

import re
from pathlib import Path

import numpy as np

from qupath_bridge.errors import ReadError
from qupath_bridge.readers.fingerprints import file_fingerprint
from qupath_bridge.readers.levels import LevelReader

HEADER = re.compile(rb"P6\s(?:# mpp ([0-9.]+)\n)?(\d+)\s(\d+)\s255\s")


class PpmReader(LevelReader):
    """Reads a PPM picture. The comment ``# mpp 0.5`` in it gives µm per pixel."""

    def __init__(self, path):
        self._path = Path(path)
        try:
            data = self._path.read_bytes()
        except OSError as error:
            raise ReadError(f"{path}: {error.strerror}.", hint="Is it a file?") from error
        header = HEADER.match(data)
        if header is None:
            raise ReadError(
                f"{path}: not a binary PPM picture of 8 bits.",
                hint="Write it as P6 with the greatest value 255.",
            )
        mpp, width, height = header.groups()
        shape = (int(height), int(width), 3)
        if len(data) < header.end() + np.prod(shape):
            raise ReadError(f"{path}: the file ends too early.", hint="Is the copy complete?")
        self._pixels = np.frombuffer(data, np.uint8, np.prod(shape), header.end()).reshape(shape)
        super().__init__(
            str(path),
            [(shape[1], shape[0])],
            pixel_size=None if mpp is None else (float(mpp), float(mpp)),
        )

    @staticmethod
    def can_open(path):
        """Return 3 for a PPM picture: this reader was made for it."""
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            return 3 if file.read(2) == b"P6" else 0

    @property
    def fingerprint(self):
        """The fingerprint of the file as it is now."""
        return file_fingerprint(self._path)

    def _read_rectangle(self, level, rectangle, plane):
        x, y, w, h = rectangle
        return self._pixels[y : y + h, x : x + w], None

    def __reduce__(self):
        return PpmReader, (self._path,)
