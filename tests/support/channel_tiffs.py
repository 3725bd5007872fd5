"""TIFF files with channels, written from arrays, and their pixels as they are read."""

import numpy as np
import tifffile

from qupath_bridge.model import FIRST_PLANE, Box
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.tiles import TileReader

SIZE = (150, 110)
WHOLE = Box(0, 0, *SIZE)


def noise(shape, dtype, seed=1):
    """Values over the whole range of a type; of floats some small, some large, some negative."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "f":
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 6, shape)).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max, shape, dtype, endpoint=True)


def smooth(shape, dtype):
    """Values that predictors and compressions find something in."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    planes = np.arange(np.prod(shape[:-2])).reshape(*shape[:-2], 1, 1)
    return (100 + planes * 7 + np.sin(x / 9) * 40 + np.cos(y / 7) * 40).astype(dtype)


def write_ome(path, pixels, axes, *, names=None, levels=1, **options):
    """Write an OME-TIFF; lower levels are every second pixel of the one before."""
    metadata = {"axes": axes}
    if names is not None:
        metadata["Channel"] = {"Name": list(names)}
    options = {"photometric": "minisblack", "tile": (64, 64), **options}
    with tifffile.TiffWriter(path, ome=True, byteorder=options.pop("byteorder", None)) as writer:
        for level in range(levels):
            step = 2**level
            part = (
                pixels[..., ::step, ::step]
                if axes.endswith("YX")
                else pixels[..., ::step, ::step, :]
            )
            writer.write(
                part, subifds=levels - 1 if level == 0 else None, subfiletype=int(level > 0),
                metadata=metadata if level == 0 else None, **options,
            )  # fmt: skip
    return path


def last(pixels):
    """Return (C, H, W) as (H, W, C)."""
    return np.moveaxis(pixels, 0, -1)


def whole(path, plane=FIRST_PLANE, **options):
    """Read all of level 0."""
    with open_reader(path) as reader:
        assert type(reader) is TileReader
        pixels, mask = reader.read(Box(0, 0, *reader.size), reader.size, plane, **options)
        assert mask is None
        return pixels


def write_qptiff(path, pixels, names, *, levels=3, dtype=None):
    """Write pages as PerkinElmer does: channels, a thumbnail, lower levels, a label."""
    xml = (
        '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription>'
        "<Name>{}</Name><Color>255,0,0</Color><Objective>20x</Objective>"
        "</PerkinElmer-QPI-ImageDescription>"
    )
    common = {
        "photometric": "minisblack", "metadata": None, "software": "PerkinElmer-QPI",
        "dtype": dtype,
        "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER",
    }  # fmt: skip
    with tifffile.TiffWriter(path) as writer:
        for plane, name in zip(pixels, names, strict=True):
            writer.write(
                plane, tile=(64, 64), compression="lzw", description=xml.format(name), **common
            )
        small = np.zeros((20, 30, 3), np.uint8)
        writer.write(
            small, photometric="rgb", metadata=None, subfiletype=1, software="PerkinElmer-QPI"
        )
        for level in range(1, levels):
            for plane, name in zip(pixels, names, strict=True):
                part = plane[:: 2**level, :: 2**level]
                writer.write(
                    part, tile=(64, 64), compression="lzw", subfiletype=1,
                    description=xml.format(name), **common,
                )  # fmt: skip
        writer.write(small, photometric="rgb", metadata=None, software="PerkinElmer-QPI")
    return path
