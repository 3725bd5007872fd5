"""Pixels and speed of the reader ``cucim`` on the CPU and on a GPU, beside other readers.

One slide of JPEG tiles with the texture of the example slide, the same boxes for all: patches per
second with one thread and with one per processor, as ratios to OpenSlide with one thread, and how
far the pixels are from OpenSlide's. What is not installed, or has no GPU, is named and left out.
"""

import argparse
import io
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import openslide
import tifffile
from PIL import Image

from qupath_bridge.readers import open_reader

EXAMPLE = Path(__file__).parents[1] / "example_projects" / "skin" / "CMU-1-Small-Region.svs"
TILE = 256
BLOCK = 8  # patches along a side that are handed to a reader together


def write_slide(path, side, quality):
    """Write a slide of JPEG tiles, each a piece of the example slide, turned."""
    with openslide.OpenSlide(EXAMPLE) as slide:
        texture = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    rng = np.random.default_rng(1)

    def tiles():
        for _ in range((side // TILE) ** 2):
            x, y = (int(rng.integers(0, full - TILE)) for full in texture.shape[1::-1])
            piece = np.rot90(texture[y : y + TILE, x : x + TILE], int(rng.integers(4)))
            file = io.BytesIO()
            Image.fromarray(piece).save(file, "JPEG", quality=quality, subsampling=2)
            yield file.getvalue()

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            tiles(), shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), metadata=None,
            photometric="ycbcr", compression="jpeg", subsampling=(2, 2),
        )  # fmt: skip


def blocks(side, offset):
    """Return the boxes of patches, block by block."""
    count = side // TILE - (1 if offset else 0)
    places = [
        [x * TILE + offset, y * TILE + offset, TILE, TILE]
        for top in range(0, count, BLOCK)
        for left in range(0, count, BLOCK)
        for y in range(top, min(top + BLOCK, count))
        for x in range(left, min(left + BLOCK, count))
    ]
    size = BLOCK * BLOCK
    return [np.array(places[i : i + size]) for i in range(0, len(places), size)]


class Registered:
    """A reader of the registry, opened once per thread, outside of the time that is taken."""

    def __init__(self, name, path, threads, *, gpu=True):
        hidden = "qupath_bridge.readers.cucim._GpuDecoder"
        with nullcontext() if gpu else patch(hidden, side_effect=OSError("hidden")):
            self.open = [open_reader(path, name=name) for _ in range(threads)]
        self.about = getattr(self.open[0], "variant", "")
        self.threads = threads

    def read(self, number, boxes):
        return self.open[number].read_many(boxes, (TILE, TILE))[0]


class CucimAlone:
    """cuCIM's own call for batches, with its own threads."""

    def __init__(self, path, workers, device):
        import cucim

        self.image, self.workers, self.device = cucim.CuImage(str(path)), workers, device
        self.threads = 1
        self.about = f"{device}, cuCIM {cucim.__version__}, {workers} workers"
        self.read(0, np.array([[0, 0, TILE, TILE]] * 2))

    def read(self, _, boxes):
        found = self.image.read_region(
            boxes[:, :2].tolist(), (TILE, TILE), 0, num_workers=self.workers,
            batch_size=len(boxes), device=self.device,
        )  # fmt: skip
        (batch,) = found
        if self.device == "cuda":
            import cupy

            return cupy.asnumpy(cupy.asarray(batch))
        return np.array(batch)


def patches_per_second(make, work):
    """Return the best of three, each with readers that hold no pixels yet."""

    def read_share(reader, number):
        for boxes in work[number :: reader.threads]:
            reader.read(number, boxes)

    best = 0.0
    for _ in range(3):
        reader = make()
        began = time.perf_counter()
        with ThreadPoolExecutor(reader.threads) as pool:
            list(pool.map(partial(read_share, reader), range(reader.threads)))
        best = max(best, sum(map(len, work)) / (time.perf_counter() - began))
    return best


def difference(reader, work, path):
    """Return the largest and the mean difference to OpenSlide, over some batches."""
    with openslide.OpenSlide(path) as slide:
        worst, total, count = 0, 0.0, 0
        for boxes in work[:: max(len(work) // 4, 1)]:
            expected = [
                np.asarray(slide.read_region((x, y), 0, (w, h)).convert("RGB"), np.int16)
                for x, y, w, h in boxes.tolist()
            ]
            apart = np.abs(reader.read(0, boxes) - np.stack(expected))
            worst, total, count = (
                max(worst, int(apart.max())),
                total + apart.sum(),
                count + apart.size,
            )
    return worst, total / count


def measure(path, side, threads, offset):
    """Yield a row for each reader and number of threads."""
    work = blocks(side, offset)
    few = work[: max(len(work) // 8, 1)]
    makers = {
        "openslide": (partial(Registered, "openslide"), few),
        "tiles": (partial(Registered, "tiles"), work),
        "cucim, no GPU": (partial(Registered, "cucim", gpu=False), work),
        "cucim": (partial(Registered, "cucim"), work),
        "cuCIM alone, cpu": (partial(CucimAlone, device="cpu"), work),
        "cuCIM alone, cuda": (partial(CucimAlone, device="cuda"), work[:1]),
    }
    for name, (make, boxes) in makers.items():
        for number in sorted({1, threads}):
            try:
                speed = patches_per_second(partial(make, path, number), boxes)
                reader = make(path, number)
                worst, mean = difference(reader, boxes, path)
            except Exception as error:  # noqa: BLE001  # not installed, no GPU, no such reader
                print(f"  {name}: left out: {type(error).__name__}: {error}")
                break
            yield {
                "reader": name, "about": reader.about, "threads": number, "offset": offset,
                "patches_per_second": speed, "max_difference": worst, "mean_difference": mean,
            }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192, help="of the slide, pixels")
    parser.add_argument("--quality", type=int, default=80)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", help="file to write the numbers to")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tiff"
        write_slide(path, arguments.side, arguments.quality)
        for offset in (0, 100):
            print(f"{'patches on the tile grid' if offset == 0 else 'patches 100 px off it'}:")
            first = None
            for row in measure(path, arguments.side, arguments.threads, offset):
                first = first or row["patches_per_second"]
                row["ratio"] = row["patches_per_second"] / first
                rows.append(row)
                print(
                    f"  {row['reader']:18} {row['threads']:3} threads {row['ratio']:7.1f} x "
                    f"openslide, {row['patches_per_second']:9,.0f} patches/s, pixels differ by "
                    f"{row['max_difference']} at most, {row['mean_difference']:.2g} in the mean "
                    f"{row['about'] and '(' + row['about'] + ')'}",
                    flush=True,
                )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
