"""A slide of many fluorescence channels whose tiles are a few, listed again and again."""

import struct
from xml.sax.saxutils import quoteattr

import imagecodecs
import numpy as np

TILE = 256
CHANNELS = 33
MPP = 0.5
DISTINCT = 24  # tiles that differ
LEVELS = (1, 4, 16)
DEFLATE, HORIZONTAL = 8, 2


def make_tiles():
    """Make distinct tiles of 16-bit counts: noise of a camera, and cells that glow."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:TILE, :TILE]
    for number in range(DISTINCT):
        light = np.full((TILE, TILE), 90.0)
        for cx, cy, size, height in zip(
            rng.uniform(0, TILE, number), rng.uniform(0, TILE, number),
            rng.uniform(4, 12, number), rng.uniform(200, 4000, number), strict=True,
        ):  # fmt: skip
            light += height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * size**2))
        yield rng.poisson(light).astype(np.uint16)


def tile_of(channel, index):
    """Return which of the distinct tiles stands at a place of a channel."""
    return (index * 7 + channel * 5) % DISTINCT


def write_slide(path, side, channels=CHANNELS):
    """Write a pyramid of 16-bit channels as BigTIFF with OME-XML and SubIFDs, and return its path.

    Each tile is stored once, whatever the number of channels and the size: a slide of 20,000 px
    with 33 channels has 26 GB of pixels, and a file of less than 100 MB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        places = []
        for tile in make_tiles():
            data = imagecodecs.deflate_encode(imagecodecs.delta_encode(tile, axis=-1).tobytes(), 6)
            places.append((file.tell(), len(data)))
            file.write(data)
        links, first = [], 0
        for channel in range(channels):
            lower = [_write_directory(file, side // scale, channel, places) for scale in LEVELS[1:]]
            xml = ome_xml(side, channels) if channel == 0 else None
            place = _write_directory(file, side, channel, places, [at for at, _ in lower], xml)
            links.append(place)
            first = first or place[0]
        ends = [at for at, _ in links[1:]] + [0]
        for (_, link), after in zip(links, ends, strict=True):
            file.seek(link)
            file.write(struct.pack("<Q", after))
        file.seek(8)
        file.write(struct.pack("<Q", first))
    return path


def ome_xml(side, channels):
    """Return the description of the image."""
    named = "".join(
        f"<Channel ID={quoteattr(f'Channel:0:{n}')} Name={quoteattr(f'Marker {n + 1}')} "
        'SamplesPerPixel="1"/>'
        for n in range(channels)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{side}" '
        f'SizeY="{side}" SizeC="{channels}" SizeZ="1" SizeT="1" PhysicalSizeX="{MPP}" '
        f'PhysicalSizeY="{MPP}">{named}<TiffData IFD="0" PlaneCount="{channels}"/>'
        "</Pixels></Image></OME>"
    )


def _write_directory(file, side, channel, places, lower=(), description=None):
    """Write a directory; return its place, and that of the link to the next one."""
    across = -(-side // TILE)
    chosen = [places[tile_of(channel, index)] for index in range(across * across)]
    tags = {
        254: ("I", [0 if lower else 1]),
        256: ("I", [side]),
        257: ("I", [side]),
        258: ("H", [16]),
        259: ("H", [DEFLATE]),
        262: ("H", [1]),
        277: ("H", [1]),
        317: ("H", [HORIZONTAL]),
        322: ("I", [TILE]),
        323: ("I", [TILE]),
        324: ("Q", [offset for offset, _ in chosen]),
        325: ("I", [length for _, length in chosen]),
    }
    if lower:
        tags[330] = ("Q", list(lower))
    if description:
        tags[270] = ("s", [description.encode() + b"\0"])
    kinds = {"H": 3, "I": 4, "Q": 16, "s": 2}
    entries = []
    for code, (kind, values) in sorted(tags.items()):
        if kind == "s":
            (data,), count = values, len(values[0])
        else:
            data, count = struct.pack(f"<{len(values)}{kind}", *values), len(values)
        if len(data) > 8:
            where = file.tell()
            file.write(data)
            data = struct.pack("<Q", where)
        entries.append(struct.pack("<HHQ8s", code, kinds[kind], count, data))
    place = file.tell()
    file.write(struct.pack("<Q", len(entries)) + b"".join(entries) + struct.pack("<Q", 0))
    return place, file.tell() - 8
