"""Slides of any size with real tissue, written in constant memory.

Blocks of the example slide's tissue, each moved and mirrored by a seeded choice, fill nine blobs;
everything else is white glass. The files are built like Aperio's: JPEG tiles of 256 px, quality
80, colours at half resolution, and levels at a fourth and a sixteenth.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import shapely
import tifffile

SOURCE = Path(__file__).parents[2] / "example_projects" / "skin" / "CMU-1-Small-Region.svs"
TISSUE = (slice(0, 2816), slice(896, 1728))  # rows and columns of SOURCE where tissue is dense
GLASS = 244
TILE = 256
BLOCK = 512
STEP = 16  # the places of blocks in SOURCE, so that every level has whole pixels
DOWNSAMPLES = (1, 4, 16)
MOST_GLASS = 0.1  # of a block
QUALITY = 80
MPP = 0.25
SHARE = 0.28
ACROSS = 3  # blobs along one side
WAVE = 0.15  # by how much a blob's radius varies


@dataclass(frozen=True)
class Blob:
    """A round piece of tissue with a wavy outline; lengths in level-0 pixels."""

    x: float
    y: float
    radius: float
    phase: float

    def reach(self, angle):
        """Return the distance of the outline from the centre in these directions."""
        return self.radius * (1 + WAVE * np.sin(3 * angle + self.phase))

    def covers(self, x, y):
        """Return which points are inside."""
        distance = np.hypot(x - self.x, y - self.y)
        return distance < self.reach(np.arctan2(y - self.y, x - self.x))

    def nearness(self, x, y, reach):
        """Return 1 if a circle around a point is inside, -1 if it is outside, 0 if neither."""
        distance = math.hypot(x - self.x, y - self.y)
        if distance <= reach:
            return 0
        if distance - reach > self.radius * (1 + WAVE):
            return -1
        edge = float(self.reach(math.atan2(y - self.y, x - self.x)))
        slack = reach + 3 * WAVE * self.radius * math.asin(reach / distance)
        return int(distance < edge - slack) - int(distance > edge + slack)

    def outline(self, part=1.0, vertices=400):
        """Return the outline as a polygon, smaller by ``part``."""
        angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
        reach = part * self.reach(angle)
        ring = np.column_stack([self.x + reach * np.cos(angle), self.y + reach * np.sin(angle)])
        return shapely.Polygon(ring.round(2))


def blobs(side, share=SHARE, seed=1):
    """Return the pieces of tissue of a slide; together they cover ``share`` of it."""
    cell = side / ACROSS
    radius = cell * (share / (np.pi * (1 + WAVE**2 / 2))) ** 0.5
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, ACROSS**2)
    return [
        Blob((k % ACROSS + 0.5) * cell, (k // ACROSS + 0.5) * cell, radius, float(phase))
        for k, phase in enumerate(phases)
    ]


class Texture:
    """Tissue at every place of a slide, at every level, without keeping any of it."""

    def __init__(self, side, share=SHARE, seed=1):
        with tifffile.TiffFile(SOURCE) as file:
            tissue = file.pages[0].asarray()[TISSUE]
        self.side = side
        self.blobs = None if share >= 1 else blobs(side, share, seed) if share else []
        self._source = {scale: _shrunk(tissue, scale) for scale in DOWNSAMPLES}
        count = -(-side // BLOCK) + 1
        rng = np.random.default_rng(seed)
        places = _full_places(tissue)
        chosen = places[rng.integers(0, len(places), (count, count))]
        self._rows, self._columns = chosen[..., 0], chosen[..., 1]
        self._mirrored = rng.integers(0, 4, (count, count))

    def tile(self, row, column, scale):
        """Return one file tile, shape (256, 256, 3), uint8, or None if all of it is glass."""
        inside = self._inside(row, column, scale)
        if inside is not None and not inside.any():
            return None
        part = BLOCK // scale
        pixels = np.empty((TILE, TILE, 3), np.uint8)
        step = min(part, TILE)
        for y in range(0, TILE, step):
            for x in range(0, TILE, step):
                pixels[y : y + step, x : x + step] = self._block(
                    row * TILE + y, column * TILE + x, step, scale
                )
        if inside is not None:
            pixels[~inside] = GLASS
        return pixels

    def _block(self, y, x, step, scale):
        part = BLOCK // scale
        place = min(y // part, len(self._rows) - 1), min(x // part, len(self._rows) - 1)
        top, left = self._rows[place] // scale, self._columns[place] // scale
        block = self._source[scale][top : top + part, left : left + part]
        if self._mirrored[place] & 1:
            block = block[::-1]
        if self._mirrored[place] & 2:
            block = block[:, ::-1]
        return block[y % part :, x % part :][:step, :step]

    def _inside(self, row, column, scale):
        """Return the pixels of a tile that are tissue; None if that is all of them."""
        if self.blobs is None:
            return None
        centre = ((column + 0.5) * TILE * scale, (row + 0.5) * TILE * scale)
        near = [blob.nearness(*centre, TILE * scale * 0.5**0.5) for blob in self.blobs]
        if 1 in near:
            return None
        inside = np.zeros((TILE, TILE), bool)
        if 0 in near:
            y = (np.arange(row * TILE, (row + 1) * TILE) + 0.5)[:, None] * scale
            x = (np.arange(column * TILE, (column + 1) * TILE) + 0.5)[None] * scale
            for blob, nearness in zip(self.blobs, near, strict=True):
                if nearness == 0:
                    inside |= blob.covers(x, y)
        return None if inside.all() else inside


def write_slide(path, side, share=SHARE, seed=1, *, finest=1):
    """Write a square slide whose side is ``side`` px; the same arguments make the same file.

    Levels finer than ``finest`` are glass alone: a map of the tissue does not read them.
    """
    texture = Texture(side, share, seed)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    scales = [scale for scale in DOWNSAMPLES if side // scale >= TILE]
    with tifffile.TiffWriter(unfinished, bigtiff=True) as writer:
        for scale in scales:
            length = side // scale
            writer.write(
                _encoded(texture, scale, blank=scale < finest),
                shape=(length, length, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(2, 2),
                planarconfig="contig",
                metadata=None,
                software=False,
                description=f"Aperio Image Library\n{side}x{side} -> {length}x{length}"
                f"|AppMag = {round(10 / MPP)}|MPP = {MPP}",
            )
    unfinished.replace(path)
    return path


def blank_slide(path, side):
    """Write a slide of glass alone: a large plan needs a slide, and no pixels."""
    return write_slide(path, side, share=0)


def overview_slide(path, side):
    """Write a slide whose tissue is in its lower levels alone."""
    return write_slide(path, side, finest=4)


def _encoded(texture, scale, *, blank):
    glass = _jpeg(np.full((TILE, TILE, 3), GLASS, np.uint8))
    count = -(-(texture.side // scale) // TILE)
    for row in range(count):
        for column in range(count):
            pixels = None if blank else texture.tile(row, column, scale)
            yield glass if pixels is None else _jpeg(pixels)


def _jpeg(pixels):
    return bytes(
        imagecodecs.jpeg8_encode(pixels, level=QUALITY, colorspace="RGB", subsampling="420")
    )


def _full_places(tissue):
    """Return the rows and columns of blocks with next to no glass in them, shape (N, 2)."""
    glass = (tissue.min(axis=2) > 215).astype(np.int64)
    height, width = (length // STEP for length in glass.shape)
    cells = glass[: height * STEP, : width * STEP].reshape(height, STEP, width, STEP).sum((1, 3))
    sums = np.pad(cells, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    n = BLOCK // STEP
    in_block = sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]
    return STEP * np.argwhere(in_block < MOST_GLASS * BLOCK**2)


def _shrunk(pixels, scale):
    height, width, _ = (length // scale * scale for length in pixels.shape)
    boxes = pixels[:height, :width].reshape(height // scale, scale, width // scale, scale, 3)
    return boxes.mean(axis=(1, 3)).round().astype(np.uint8)
