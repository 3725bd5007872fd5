"""The parts of an export, each alone: the limit that a whole export is measured against."""

import importlib.util
import os
import tempfile
import threading
from functools import cached_property
from itertools import cycle
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from qupath_bridge.codecs import get_encoder

SAMPLE = 500


def decoders():
    """Return the JPEG decoders that are installed, by name."""
    found = {"imagecodecs": imagecodecs.jpeg8_decode}
    if importlib.util.find_spec("simplejpeg"):
        import simplejpeg

        found["simplejpeg"] = lambda data: simplejpeg.decode_jpeg(data, "RGB")
    return found


class Parts:
    """Bare loops over the file tiles of a study's patches."""

    def __init__(self, study):
        self.study = study
        with tifffile.TiffFile(study.slide) as file:
            page = file.pages[0]
            tile = page.tilewidth
            across = -(-page.imagewidth // tile)
            columns, rows = study.boxes[:, 0] // tile, study.boxes[:, 1] // tile
            numbers = rows * across + columns
            self.places = [(page.dataoffsets[n], page.databytecounts[n]) for n in numbers]

    def read(self):
        """Read the bytes of each tile."""
        file = os.open(self.study.slide, os.O_RDONLY)
        try:
            for offset, length in self.places:
                os.pread(file, length, offset)
        finally:
            os.close(file)

    def decode(self, decoder):
        """Read and decode each tile."""
        file = os.open(self.study.slide, os.O_RDONLY)
        try:
            for offset, length in self.places:
                decoder(os.pread(file, length, offset))
        finally:
            os.close(file)

    def decode_twice(self, decoder):
        """Do so in two threads at once: what a second worker can gain on this machine now."""
        threads = [threading.Thread(target=self.decode, args=(decoder,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @cached_property
    def pixels(self):
        """Some patches, evenly spread: more would fill the memory."""
        decoder = decoders()["imagecodecs"]
        file = os.open(self.study.slide, os.O_RDONLY)
        try:
            step = -(-len(self.places) // SAMPLE)
            return [
                np.ascontiguousarray(decoder(os.pread(file, length, offset)))
                for offset, length in self.places[::step]
            ]
        finally:
            os.close(file)

    def encode(self, encoder):
        """Encode the sample."""
        for pixels in self.pixels:
            encoder(pixels)

    def write(self, files, folder):
        """Write one file per patch, with the contents of these, and remove nothing."""
        place = Path(tempfile.mkdtemp(dir=folder))
        names = [f"{place}/{number}" for number in range(len(self.places))]
        for name, data in zip(names, cycle(files), strict=False):
            with open(name, "wb") as file:  # noqa: PTH123  # the quickest way is the limit
                file.write(data)
        return place


def serial_limit(*rates):
    """Return the rate of one worker that does one step after the other at these rates."""
    return 1 / sum(1 / rate for rate in rates)


def encoder_of(name, quality=90):
    """Return the function with which this library encodes a patch."""
    return get_encoder(name, quality=quality).encode
