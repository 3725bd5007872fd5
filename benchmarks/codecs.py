"""Patches per second of this library's encoders and of others, on real tissue; one thread and two.

Each row is the best of several rounds, in which the rows take turns: other programs on the machine
disturb all of them alike.
"""

import argparse
import io
import json
import threading
import time
from pathlib import Path

import numpy as np
from imagecodecs import deflate_encode
from isal import isal_zlib
from PIL import Image

from qupath_bridge.codecs import get_encoder
from qupath_bridge.model import Box
from qupath_bridge.readers import open_reader

SLIDE = Path(__file__).parents[1] / "example_projects" / "skin" / "CMU-1-Small-Region.svs"


def tissue():
    with open_reader(SLIDE) as reader:
        return [
            np.ascontiguousarray(reader.read(Box(x, y, 256, 256), (256, 256))[0])
            for x in range(900, 1700, 256)
            for y in range(800, 2600, 256)
        ]


def pillow(kind, **options):
    def encode(pixels):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


def filtered(kind):
    """Return a function that gives the rows of a PNG file, each with one of the five filters."""

    def rows_of(pixels):
        height, width, _ = pixels.shape
        rows = pixels.reshape(height, 3 * width)
        left, above, corner = (np.zeros_like(rows) for _ in range(3))
        left[:, 3:], above[1:], corner[1:, 3:] = rows[:, :-3], rows[:-1], rows[:-1, :-3]
        rest = np.empty((height, 1 + 3 * width), np.uint8)
        rest[:, 0] = ("none", "left", "up", "average", "paeth").index(kind)
        np.subtract(rows, predicted(kind, left, above, corner), out=rest[:, 1:], casting="unsafe")
        return rest

    return rows_of


def predicted(kind, left, above, corner):
    if kind == "average":
        return (left & above) + ((left ^ above) >> 1)
    if kind == "paeth":
        a, b, c = (each.astype(np.int16) for each in (left, above, corner))
        to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
        nearest = np.where(to_b <= to_c, b, c)
        return np.where((to_a <= to_b) & (to_a <= to_c), a, nearest)
    return {"none": np.zeros_like(left), "left": left, "up": above}[kind]


def seconds(encode, patches, threads=1):
    """Return the time in which each of some threads encodes all patches."""

    def work():
        for pixels in patches:
            encode(pixels)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def measured(rows, patches, rounds):
    """Return for each row patches per second, those of two threads, and bytes per patch."""
    one, two = dict.fromkeys(rows, float("inf")), dict.fromkeys(rows, float("inf"))
    for _ in range(rounds):
        for name, encode in rows.items():
            one[name] = min(one[name], seconds(encode, patches))
            two[name] = min(two[name], seconds(encode, patches, 2))
    count = len(patches)
    size = {name: sum(len(encode(p)) for p in patches) / count for name, encode in rows.items()}
    return {name: (count / one[name], 2 * count / two[name], size[name]) for name in rows}


def show(found, base):
    for name, (speed, both, size) in found.items():
        print(
            f"{name:24} {speed:7,.0f} p/s {speed / found[base][0]:6.2f} x"
            f"   2 threads {both / speed:5.2f} x {size / 1024:7.1f} KiB"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--choice", action="store_true", help="compare filters and levels for PNG")
    parser.add_argument("--json", help="file to write the numbers to")
    arguments = parser.parse_args()
    patches = tissue()
    if arguments.choice:
        rows = {}
        for kind in ("none", "left", "up", "average", "paeth"):
            lines = [filtered(kind)(pixels) for pixels in patches]
            found = measured({f"{kind}: filter": filtered(kind)}, patches, arguments.rounds)
            show(found, f"{kind}: filter")
            rows = {f"{kind}: libdeflate 1": lambda line: deflate_encode(line, level=1)}
            for level in range(4):
                rows[f"{kind}: igzip {level}"] = lambda line, level=level: isal_zlib.compress(
                    line, level
                )
            show(measured(rows, lines, arguments.rounds), f"{kind}: libdeflate 1")
        return
    rows = {
        "PNG, Pillow's default": pillow("PNG"),
        "PNG, Pillow level 1": pillow("PNG", compress_level=1),
        "PNG, qupath-bridge": get_encoder("png").encode,
        "JPEG q90, Pillow": pillow("JPEG", quality=90),
        "JPEG q90, qupath-bridge": get_encoder("jpeg", quality=90).encode,
        "JPEG q90 4:4:4": get_encoder("jpeg", quality=90, subsampling="444").encode,
        "TIFF, qupath-bridge": get_encoder("tiff").encode,
        "WebP, qupath-bridge": get_encoder("webp").encode,
        "JPEG XL, qupath-bridge": get_encoder("jxl").encode,
    }
    found = measured(rows, patches, arguments.rounds)
    show(found, "PNG, Pillow's default")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
