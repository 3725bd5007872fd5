"""What QuPath read from the projects of ``tests/qupath/channels.groovy``: packed, and found again.

``python tests/support/channel_truth.py FOLDER`` packs the values in ``FOLDER/raw-<version>`` into
``FOLDER/truth``.
"""

import hashlib
import json
import shutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parents[1] / "data" / "channels"
VERSIONS = ("0.6.0", "0.7.0")
SHOWN = (
    "ij-u8-c1.tif", "ij-u8-c3.tif", "ij-u16-c4.tif", "u8-c7.ome.tif", "u16-c7-z3.ome.tif",
    "u16-c33.ome.tif", "f32-c3.ome.tif", "recoloured", "display set", "stains",
)  # fmt: skip
"""Entries whose picture in QuPath's viewer is kept."""
TYPES = {"INT8": np.int8, "FLOAT32": np.float32, "FLOAT64": np.float64}


def dtype_of(name):
    """Return the type of values that QuPath calls so."""
    return np.dtype(TYPES.get(name, name.lower()))


@cache
def facts(version):
    """Return what QuPath said of each entry, by its name."""
    read = json.loads((FOLDER / "truth" / f"{version}.json").read_text(encoding="utf-8"))
    return {fact["name"]: fact for fact in read}


@cache
def _stored():
    with np.load(FOLDER / "truth" / "pixels.npz") as file:
        return dict(file)


def pixels(version, name, plane=(0, 0), downsample=1):
    """Return what QuPath reads from a whole entry, (H, W, C), in its type."""
    return _stored()[facts(version)[name]["pixels"][key(plane, downsample)]]


def shown(name):
    """Return the picture that QuPath 0.7.0 shows of an entry, (H, W, 3)."""
    with Image.open(FOLDER / "truth" / f"{name}.png") as picture:
        return np.asarray(picture.convert("RGB"))


def unpacked(color):
    """Return red, green and blue of a packed colour."""
    return color >> 16 & 255, color >> 8 & 255, color & 255


def key(plane, downsample):
    """Return the name of one reading: z, t and downsample."""
    return f"{plane[0]},{plane[1]}x{downsample:g}"


def read_values(folder, fact):
    """Read the files that the script wrote of an entry.

    Returns
    -------
    dict of key to array, shape (H, W, C), of QuPath's type
        Whole planes. A part of each was read alone too, and is the same.
    """
    found, parts = {}, []
    for read in fact["reads"]:
        values = np.fromfile(folder / read["file"], ">f8").reshape(read["shape"])
        values = np.moveaxis(values, 0, -1)
        native = np.ascontiguousarray(values).astype(dtype_of(fact["type"]))
        np.testing.assert_array_equal(native.astype(np.float64), values)
        name = key((read["z"], read["t"]), read["downsample"])
        if (read["x"], read["y"]) == (0, 0):
            found[name] = native
        else:
            parts.append((name, read, native))
    for name, read, native in parts:
        height, width = native.shape[:2]
        x, y = read["x"], read["y"]
        np.testing.assert_array_equal(native, found[name][y : y + height, x : x + width])
    return found


def pack(folder):
    """Write ``truth`` from what both versions read: equal arrays once, under their digest."""
    folder = Path(folder)
    (folder / "truth").mkdir(exist_ok=True)
    arrays = {}
    for version in VERSIONS:
        raw = folder / f"raw-{version}"
        listed = json.loads((raw / "facts.json").read_text(encoding="utf-8"))
        for fact in listed:
            fact["pixels"] = {}
            for name, values in read_values(raw, fact).items():
                told = f"{values.dtype} {values.shape}".encode() + values.tobytes()
                digest = hashlib.sha256(told).hexdigest()[:16]
                fact["pixels"][name] = digest
                arrays[digest] = values
            del fact["reads"]
            if version == VERSIONS[-1]:
                keep_files(raw, folder / "truth", fact)
        lines = ",\n".join(json.dumps(fact, ensure_ascii=False) for fact in listed)
        (folder / "truth" / f"{version}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    np.savez_compressed(folder / "truth" / "pixels.npz", **dict(sorted(arrays.items())))


def keep_files(raw, truth, fact):
    """Keep some of QuPath's pictures, and its own TIFF files of a region."""
    if fact["name"] in SHOWN:
        shutil.copy(raw / f"{fact['id']}.png", truth / f"{fact['name']}.png")
    if (raw / f"{fact['id']}.tif").exists():
        shutil.copy(raw / f"{fact['id']}.tif", truth / f"region of {fact['name']}")


if __name__ == "__main__":
    pack(sys.argv[1])
