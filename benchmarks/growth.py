"""Time and memory of runs whose patches double, as a table and as JSON.

    python benchmarks/growth.py [--patches 25000] [--doublings 2] [--slides 1] [--json FILE]

Slides are one colour and patches 16 px, so that what grows with the number of patches shows, not
what grows with pixels. Each command runs as a process of its own; its time is that of the
processor, its memory the largest that it had.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile

from qupath_bridge.testing.projects import Image, Region, build_project

SIZE = 16
TILE = 256


def write_blank_slide(path, side):
    """Write a slide of one colour, ``side`` pixels wide and high, tile by tile."""
    tile = np.full((TILE, TILE, 3), 230, np.uint8)
    count = math.ceil(side / TILE) ** 2
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            (tile for _ in range(count)),
            shape=(side, side, 3), dtype=np.uint8, photometric="rgb", tile=(TILE, TILE),
            compression="deflate", resolution=(20_000, 20_000), resolutionunit="CENTIMETER",
            software=False,
        )  # fmt: skip
    return path


def write_study(folder, patches, slides):
    """Write a project in which two classes share each slide; return its file."""
    folder.mkdir(parents=True)
    columns = round(math.sqrt(patches / slides))
    side = columns * SIZE
    half = side // 2 + SIZE // 3  # so that a column of patches has shares of both
    regions = [
        Region("Tumor", f"POLYGON ((0 0, {half} 0, {half} {side}, 0 {side}, 0 0))"),
        Region("Stroma", f"POLYGON (({half} 0, {side} 0, {side} {side}, {half} {side}, {half} 0))"),
    ]
    images = [
        Image(write_blank_slide(folder / f"slide-{n}.tif", side), regions, size=(side, side))
        for n in range(slides)
    ]
    return build_project(folder / "project", images), columns**2 * slides


def measure(*arguments):
    """Run the command line; return the seconds of the processor, and the largest memory in MB."""
    process = subprocess.Popen([sys.executable, "-m", "qupath_bridge", *map(str, arguments)],
                               stdout=subprocess.DEVNULL)  # fmt: skip
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} ended with {process.returncode}.")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return {"seconds": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / unit}


def run(folder, patches, slides):
    """Return the measures of each command for one number of patches."""
    project, count = write_study(folder / "study", patches, slides)
    out = folder / "out"
    options = ("--size", SIZE, "--level-zero")
    return count, {
        "plan": measure("plan", project, *options),
        "export": measure("export", project, "--out", out, *options, "--container", "tar"),
        "verify": measure("verify", out, "--pixels", 0),
        "status": measure("status", project),
        "resume": measure(
            "export", project, "--out", out, *options, "--container", "tar", "--resume"
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=25_000, help="of the smallest run (25000)")
    parser.add_argument("--doublings", type=int, default=2, help="how often they double (2)")
    parser.add_argument("--slides", type=int, default=1, help="that share the patches (1)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    rows = []
    for step in range(options.doublings + 1):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(run(Path(folder), options.patches << step, options.slides))
    print(f"{'command':10s}" + "".join(f"{count:>22,}" for count, _ in rows))
    for name in rows[0][1]:
        cells = [found[name] for _, found in rows]
        shown = "".join(f"{cell['seconds']:12.1f} s{cell['mb']:6.0f} MB" for cell in cells)
        ratios = [b["seconds"] / a["seconds"] for a, b in pairwise(cells)]
        grown = [
            (b["mb"] - a["mb"]) * 1e6 / (more - less)
            for ((less, _), (more, _)), (a, b) in zip(pairwise(rows), pairwise(cells), strict=True)
        ]
        print(f"{name:10s}{shown}   x {', '.join(f'{r:.2f}' for r in ratios)}"
              f"   bytes per patch {', '.join(f'{g:.0f}' for g in grown)}")  # fmt: skip
    if options.json:
        record = [{"patches": count, "slides": options.slides, **found} for count, found in rows]
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
