"""Slides of many channels: reading beside a bare decode loop, and the memory of an export."""

import os

import imagecodecs
import numpy as np
import shapely
import tifffile

from benchmarks.common.channel_slides import CHANNELS, MPP, TILE, write_slide
from qupath_bridge.patches.order import reading_batches
from qupath_bridge.readers import open_reader
from qupath_bridge.testing.projects import Image, Region, build_project

from .findings import Finding

MOST_SIDE = 20_000
SPEED, MEMORY = 0.8, 500
SIDE_OF_SAMPLE = 10  # patches along a side of what is read
SIDE_OF_EXPORT = 10
PATCH = 300  # not the size of a tile: then decoded tiles are kept for neighbours
FEW = (3, 17, 30)
SHIFT = (100, 77)


def channels(bench):
    """Compare reads with a bare decode loop, and measure the most memory of an export."""
    side = min(bench.side, MOST_SIDE)
    slide = bench.folder / "channels" / f"{side}-{CHANNELS}.ome.tif"
    if not slide.exists():
        write_slide(slide, side)
    return [*reading(bench, slide, side), memory(bench, slide, side)]


def reading(bench, slide, side):
    """Compare reads of all channels and of a few with a bare loop over the same tiles.

    The time to open the file, which has a directory per channel and level, is a line of its own.
    """
    boxes = grid(side, SIDE_OF_SAMPLE)
    every, few = places(slide, boxes, range(CHANNELS)), places(slide, boxes, FEW)
    with open_reader(slide) as reader:
        works = {
            "open": lambda: open_reader(slide).close(),
            "bare": lambda: bare(slide, every),
            "aligned": lambda: read(reader, boxes),
            "bare, few": lambda: bare(slide, few),
            "few": lambda: read(reader, boxes, FEW),
            "unaligned": lambda: read_anew(slide, boxes + np.array([*SHIFT, 0, 0])),
        }
        spent = {name: each.cpu for name, each in bench.best(works).items()}
    spent["unaligned"] -= spent["open"]
    rates = {name: len(boxes) / seconds for name, seconds in spent.items()}
    return [
        Finding(
            f"{CHANNELS} channels: reads / bare decode loop", rates["aligned"] / rates["bare"],
            goal=SPEED, note=f"{rates['aligned']:.1f} of {rates['bare']:.1f} p/s", numbers=rates,
        ),
        Finding(
            f"{len(FEW)} of {CHANNELS} channels: reads / bare decode loop",
            rates["few"] / rates["bare, few"], goal=SPEED,
            note=f"{rates['few']:.0f} of {rates['bare, few']:.0f} p/s", numbers=rates,
        ),
        Finding(
            f"{CHANNELS} channels: unaligned reads / aligned",
            rates["unaligned"] / rates["aligned"], note=f"{rates['unaligned']:.1f} p/s",
        ),
        Finding(f"{CHANNELS} channels: opening the file", spent["open"], " s"),
    ]  # fmt: skip


def memory(bench, slide, side):
    """Measure the most memory of one export with two workers, all processes together."""
    folder = slide.parent / f"project-{side}"
    project = folder / "project.qpproj"
    length = min(SIDE_OF_EXPORT * PATCH, side)
    if not project.exists():
        region = Region("Tumor", shapely.box(0, 0, length, length))
        names = [(f"Marker {number}", (0, 255, 0)) for number in range(1, CHANNELS + 1)]
        image = Image(
            slide, [region], pixel_size=MPP, channels=names, pixel_type="UINT16", provider=None
        )
        build_project(folder, [image])
    taken = bench.run_export(
        project, "--size", str(PATCH), "--format", "npy", "--workers", "2", memory=True,
        place=bench.disk,
    )  # fmt: skip
    count = (length // PATCH) ** 2
    note = f"{count} patches of {PATCH} px, 2 workers, {taken.seconds:.0f} s"
    name = f"memory of {CHANNELS} channels at {side:,} px"
    return Finding(name, taken.mib, " MiB", MEMORY, True, note=note)


def grid(side, count):
    """Return boxes of tiles in the middle of a slide, shape (N, 4)."""
    start = side // TILE // 2 - count // 2
    x, y = np.meshgrid(np.arange(start, start + count), np.arange(start, start + count))
    corners = np.column_stack([x.ravel(), y.ravel()]) * TILE
    return np.column_stack([corners, np.full_like(corners, TILE)])


def places(slide, boxes, chosen):
    """Return offset and length of the tile of each box in some channels."""
    with tifffile.TiffFile(slide) as file:
        pages = [file.pages[channel] for channel in chosen]
        across = -(-pages[0].imagewidth // TILE)
        numbers = (boxes[:, 1] // TILE * across + boxes[:, 0] // TILE).tolist()
        return [(p.dataoffsets[n], p.databytecounts[n]) for n in numbers for p in pages]


def bare(slide, tiles):
    """Read and decode tiles, and do nothing with them."""
    out = np.empty((TILE, TILE), np.uint16)
    data = out.reshape(-1).view(np.uint8)
    handle = os.open(slide, os.O_RDONLY)
    try:
        for offset, length in tiles:
            imagecodecs.deflate_decode(os.pread(handle, length, offset), out=data)
            imagecodecs.delta_decode(out, axis=-1, out=out)
    finally:
        os.close(handle)


def read(reader, boxes, chosen=None):
    """Read boxes as an export does, in batches of neighbours."""
    cells = (boxes[:, :2] - boxes[:, :2].min(axis=0)) // TILE
    plane = np.zeros(len(boxes), np.int32)
    size = TILE * TILE * 2 * (CHANNELS if chosen is None else len(chosen))
    for batch in reading_batches(*cells.T, plane, plane, size):
        reader.read_many(boxes[batch], (TILE, TILE), channels=chosen)


def read_anew(slide, boxes):
    """Open a slide, whose tiles nobody keeps yet, and read boxes."""
    with open_reader(slide) as reader:
        read(reader, boxes)
