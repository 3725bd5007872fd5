"""Small slides of many channels and types, for QuPath and for us: each value tells its place.

``python tests/support/channel_images.py FOLDER`` writes them. What QuPath read from them is in
``tests/data/channels``.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

MICRONS = 0.5
DISCS = 7
MARKERS = ("DAPI", "CD3", "CD8", "PanCK", "CD20", "Ki67", "FoxP3")
COLORS = (0x0000FF, 0x00FF00, 0xFF0000, 0x00FFFF, 0xFF00FF, 0xFFFF00, 0xFF8000)
SPECIAL = (np.nan, -0.5, 0.5, 1.5, 2.5, -1.5, 254.5, 255.5, 65534.5, 70000, -40000, 3e9)


@dataclass(frozen=True)
class Image:
    """A slide file: its name, its pixels (T, Z, H, W, C), and how it is written."""

    name: str
    pixels: np.ndarray
    write: Any
    channels: tuple[str, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def save(self, folder):
        self.write(Path(folder) / self.name, self)


def counts(channels, planes=(1, 1), size=(120, 96)):
    """Values of 16 bit (T, Z, H, W, C): a slope, and discs that lie elsewhere in each channel."""
    (slices, times), (width, height) = planes, size
    y, x = np.mgrid[:height, :width]
    pixels = np.empty((times, slices, height, width, channels), np.int64)
    for t, z, c in np.ndindex(times, slices, channels):
        values = 200 + 50 * c + 10 * z + 300 * t + x + 2 * y
        for disc in range(DISCS):
            right, down = (31 * disc + 23 * c) % width, (29 * disc + 13 * c + 7 * z) % height
            radius = 6 + (disc + c) % 5
            near = radius**2 - (x - right) ** 2 - (y - down) ** 2
            values = values + np.maximum(near, 0) * 2000 // radius**2
        pixels[t, z, :, :, c] = values
    pixels[..., 0, 0, :] = 0
    return pixels


def bytes_of(values):
    return np.minimum(values // 12, 255).astype(np.uint8)


def words_of(values):
    words = values.astype(np.uint16)
    words[..., 1, 1, :] = 65535
    return words


def floats_of(values, kind=np.float32):
    floats = ((values - 900) / 7).astype(kind)
    floats[..., 2, : len(SPECIAL), 0] = SPECIAL
    return floats


def stained(size=(120, 96)):
    """A picture in the colours of H&E, (1, 1, H, W, 3)."""
    first, second = np.moveaxis(counts(2, size=size)[0, 0] / 2500, -1, 0)
    density = np.stack(
        [0.65 * first + 0.1 * second, 0.7 * first + 0.9 * second, 0.3 * first + 0.3 * second]
    )
    rgb = np.rint(np.moveaxis(243 * np.exp(-1.5 * np.maximum(density, 0)), 0, -1))
    rgb[0, :4] = [[0, 0, 0], [255, 255, 255], [1, 2, 3], [255, 0, 128]]
    return rgb.astype(np.uint8)[None, None]


def write_imagej(path, image):
    """Write what ImageJ writes: planes one after the other, not compressed.

    With the option ``one_page``, one page describes all planes, as in files of more than 4 GB.
    """
    metadata = {"unit": "um", "axes": "TZCYX", "spacing": 2.0}
    if image.channels:
        metadata["Labels"] = list(image.channels)
    pixels = np.moveaxis(image.pixels, -1, 2)
    if image.options.get("rgb"):
        metadata["axes"], pixels = "TZCYXS", image.pixels[:, :, None]
    tifffile.imwrite(
        path, pixels, imagej=True, metadata=metadata,
        resolution=(1 / MICRONS, 1 / MICRONS), resolutionunit=1,
        truncate=image.options.get("one_page", False),
    )  # fmt: skip


def write_ome(path, image):
    """Write an OME-TIFF: planar pages, tiles, a pyramid in SubIFDs if it has levels."""
    options = dict(image.options)
    levels, interleaved = options.pop("levels", 1), options.pop("interleaved", False)
    byteorder = options.pop("byteorder", "<")
    channel = {"Name": list(image.channels)} if image.channels else {}
    if options.pop("colors", True) and not interleaved:
        channel["Color"] = [
            int(np.int64(rgb << 8 | 255).astype(np.int32)) for rgb in colors(len(image.channels))
        ]
    metadata = {
        "axes": "TZYXS" if interleaved else options.pop("axes", "TCZYX"),
        "Name": options.pop("title", "picture"),
        "PhysicalSizeX": MICRONS, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": MICRONS, "PhysicalSizeYUnit": "µm",
        **({"Channel": channel} if channel else {}),
    }  # fmt: skip
    if image.pixels.shape[1] > 1:
        metadata |= {"PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": "µm"}
    pixels = image.pixels
    if not interleaved:
        order = [("T", "Z", "Y", "X", "C").index(axis) for axis in metadata["axes"]]
        pixels = np.transpose(pixels, order)
    common = {
        "tile": options.pop("tile", (64, 64)), "compression": options.pop("compression", "zlib"),
        "photometric": options.pop("photometric", "minisblack"), **options,
    }  # fmt: skip
    with tifffile.TiffWriter(path, ome=True, byteorder=byteorder) as file:
        file.write(pixels, metadata=metadata, subifds=levels - 1, **common)
        for level in range(1, levels):
            small = pixels[(..., slice(None, None, 2**level), slice(None, None, 2**level))]
            if interleaved:
                small = pixels[..., :: 2**level, :: 2**level, :]
            file.write(small, subfiletype=1, metadata=None, **common)


def write_qptiff(path, image):
    """Write the layout of PerkinElmer's fluorescence files: pages of a level, then a thumbnail."""

    def described(kind, number=None):
        name = "" if number is None else f"<Name>{image.channels[number]}</Name>"
        rgb = "" if number is None else COLORS[number]
        color = "" if number is None else f"<Color>{rgb >> 16},{rgb >> 8 & 255},{rgb & 255}</Color>"
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n<PerkinElmer-QPI-ImageDescription>'
            "<DescriptionVersion>2</DescriptionVersion>"
            "<AcquisitionSoftware>VectraPolaris</AcquisitionSoftware>"
            f"<ImageType>{kind}</ImageType>{name}{color}"
            "<IsUnmixedComponent>False</IsUnmixedComponent><ExposureTime>1000</ExposureTime>"
            "<Objective>20x</Objective></PerkinElmer-QPI-ImageDescription>"
        )

    pages = np.moveaxis(image.pixels[0, 0], -1, 0)
    per_cm = 1e4 / MICRONS
    common = {"software": "PerkinElmer-QPI", "metadata": None, "contiguous": False}
    with tifffile.TiffWriter(path) as file:
        for factor, kind in ((1, "FullResolution"), (2, "ReducedResolution")):
            for number, page in enumerate(pages):
                file.write(
                    page[::factor, ::factor], tile=(64, 64), compression="lzw",
                    photometric="minisblack", subfiletype=int(factor > 1),
                    description=described(kind, number), resolutionunit=3,
                    resolution=(per_cm / factor, per_cm / factor), **common,
                )  # fmt: skip
            if factor == 1:
                thumbnail = np.moveaxis(pages[:3, ::4, ::4], 0, -1)
                if thumbnail.dtype != np.uint8:
                    thumbnail = (thumbnail >> 4).clip(0, 255).astype(np.uint8)
                file.write(
                    np.ascontiguousarray(thumbnail), photometric="rgb", subfiletype=1,
                    description=described("Thumbnail"), **common,
                )  # fmt: skip


def colors(number):
    return [COLORS[index % len(COLORS)] for index in range(number)]


WIDE = (160, 128)
IMAGES = (
    Image("ij-u8-c1.tif", bytes_of(counts(1)), write_imagej),
    Image("ij-u8-c3.tif", bytes_of(counts(3)), write_imagej),
    Image("ij-u16-c4.tif", words_of(counts(4)), write_imagej, MARKERS[:4]),
    Image("ij-f32-c3.tif", floats_of(counts(3)), write_imagej),
    Image(
        "ij-u16-c2-z3-t2.tif", words_of(counts(2, (3, 2), (72, 60))), write_imagej,
        options={"one_page": True},
    ),
    Image("ij-rgb.tif", stained(), write_imagej, options={"rgb": True}),
    Image(
        "u8-c7.ome.tif", bytes_of(counts(7, size=WIDE)), write_ome, MARKERS,
        {"levels": 2, "predictor": 2},
    ),
    Image(
        "u16-c4.ome.tif", words_of(counts(4, size=WIDE)), write_ome, MARKERS[:4],
        {"levels": 2, "compression": "lzw", "predictor": 2, "axes": "TZCYX"},
    ),
    Image(
        "u16-c7-z3.ome.tif", words_of(counts(7, (3, 1), (96, 80))), write_ome, MARKERS,
        {"axes": "CTZYX", "predictor": 2, "tile": (32, 32)},
    ),
    Image(
        "u16-c2-z3-t2.ome.tif", words_of(counts(2, (3, 2), (72, 60))), write_ome, MARKERS[:2],
        {"axes": "ZCTYX", "tile": (32, 32)},
    ),
    Image(
        "f32-c3.ome.tif", floats_of(counts(3, size=WIDE)), write_ome, MARKERS[:3],
        {"levels": 2},
    ),
    Image(
        "f64-c1.ome.tif", floats_of(counts(1), np.float64), write_ome, MARKERS[:1], {"tile": None}
    ),
    Image(
        "i16-c2.ome.tif", (counts(2) - 1000).astype(np.int16), write_ome, MARKERS[:2],
        {"byteorder": ">", "compression": None},
    ),
    Image("u32-c1.ome.tif", counts(1).astype(np.uint32) * 70001, write_ome, MARKERS[:1]),
    Image(
        "u16-rgb.ome.tif", words_of(counts(3)), write_ome,
        options={"interleaved": True, "photometric": "rgb"},
    ),
    Image("u16-c33.ome.tif", words_of(counts(33, size=(64, 48))), write_ome,
          tuple(f"Marker {number}" for number in range(1, 34)), {"predictor": 2, "tile": (32, 32)}),
    Image("fluorescence.qptiff", bytes_of(counts(4, size=WIDE)), write_qptiff, MARKERS[:4]),
)  # fmt: skip


def write_images(folder):
    for image in IMAGES:
        image.save(folder)


if __name__ == "__main__":
    write_images(sys.argv[1])
