"""Patches per second of this library's encoders and of Pillow's, on real tissue."""

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from qupath_bridge.codecs import get_encoder
from qupath_bridge.model import Box
from qupath_bridge.readers import open_reader

SLIDE = Path(__file__).parents[1] / "example_projects" / "skin" / "CMU-1-Small-Region.svs"


def tissue():
    with open_reader(SLIDE) as reader:
        return [
            reader.read(Box(x, y, 256, 256), (256, 256))[0]
            for x in range(900, 1700, 256)
            for y in range(800, 2600, 256)
        ]


def pillow(kind, **options):
    def encode(pixels):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


def rate(encode, patches, seconds):
    """Return patches per second and bytes per patch."""
    done = size = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for pixels in patches:
            size += len(encode(pixels))
            done += 1
    return done / (time.perf_counter() - began), size / done


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--json", help="file to write the numbers to")
    arguments = parser.parse_args()
    patches = [np.ascontiguousarray(pixels) for pixels in tissue()]
    rows = {
        "PNG, Pillow's default": pillow("PNG"),
        "PNG, Pillow level 1": pillow("PNG", compress_level=1),
        "PNG, qupath-bridge": get_encoder("png").encode,
        "JPEG q90, Pillow": pillow("JPEG", quality=90),
        "JPEG q90, qupath-bridge": get_encoder("jpeg", quality=90).encode,
        "TIFF, qupath-bridge": get_encoder("tiff").encode,
    }
    found = {name: rate(encode, patches, arguments.seconds) for name, encode in rows.items()}
    for name, (speed, size) in found.items():
        base = found["JPEG q90, Pillow" if name.startswith("JPEG") else "PNG, Pillow's default"][0]
        print(f"{name:24} {speed:7,.0f} p/s {size / 1024:7.1f} KiB {speed / base:6.1f} x")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
