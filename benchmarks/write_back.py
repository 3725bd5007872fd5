"""Seconds and memory for writing 100,000 tiles into an image's data, replacing them, and undoing.

Each step is a separate process, as `qupath-bridge write-back` is. ``--engine paquo`` needs a
QuPath, which QUPATH_BRIDGE_QUPATH can name.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import shapely

from qupath_bridge.model import Box
from qupath_bridge.patches.ids import tile_uuid
from qupath_bridge.qupath import geojson
from qupath_bridge.testing.projects import Image, Region, build_project

CALL = """
import json, resource, sys, time
import qupath_bridge as qb
began = time.monotonic()
project, action, run_id, engine, replace = sys.argv[1:]
with qb.open_project(project, engine="embedded") as opened:
    if action == "undo":
        done = qb.undo_write_back(opened, run_id, engine=engine)
    else:
        done = qb.write_back(opened, run_id, engine=engine, replace=replace == "replace")
seconds = time.monotonic() - began
assert not done.failed, done
mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
(entry,) = done.entries
print(json.dumps({"seconds": seconds, "mib": mib, "child_mib": children, "added": entry.added,
                  "removed": entry.removed}))
"""


def tile(number, run_id, side):
    x, y = number % 400 * side, number // 400 * side
    return geojson.Tile(
        id=tile_uuid("1", x, y, side, side),
        box=Box(x, y, side, side),
        name=f"1_slide.svs_x{x}_y{y}",
        class_path=("Tumor", "Stroma", "Necrosis")[number % 3],
        color=(200, 0, number % 3),
        measurements={"qb: label share": number / 1e5, "qb: margin": 0.5, "qb: Tumor": 0.75},
        metadata={"qb.run": run_id, "qb.path": f"patches/{number}.png", "qb.digest": f"x:{number}"},
    )


def write_run(project, run_id, side, count):
    folder = project.parent / "qupath_bridge" / "runs" / run_id
    folder.mkdir(parents=True)
    with (folder / "1.geojson.gz").open("wb") as file:
        geojson.write_tiles(file, (tile(number, run_id, side) for number in range(count)))
    (folder / "run.json").write_text("{}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--engine", default="embedded")
    parser.add_argument("--json", help="file to write the numbers to")
    arguments = parser.parse_args()
    numbers = {}
    with tempfile.TemporaryDirectory() as folder:
        image = Image(
            Path(folder) / "slide.tiff",
            [Region("Tumor", shapely.box(10 * i, 0, 10 * i + 9, 900)) for i in range(100)],
            size=(110_000, 70_000),
            pixel_size=0.25,
        )
        project = build_project(Path(folder) / "project", [image])
        write_run(project, "A", 256, arguments.tiles)
        write_run(project, "B", 255, arguments.tiles)
        for name, action, run_id, replace in (
            ("first write", "write", "A", ""),
            ("the same again", "write", "A", ""),
            ("another grid in its place", "write", "B", "replace"),
            ("undo", "undo", "B", ""),
        ):
            began = time.monotonic()
            command = [sys.executable, "-c", CALL, str(project), action, run_id, arguments.engine]
            result = json.loads(subprocess.check_output([*command, replace]))
            result["process_seconds"] = time.monotonic() - began
            numbers[name] = result
            print(
                f"{name}: {result['seconds']:.1f} s, {result['mib']:.0f} MiB"
                f" (child {result['child_mib']:.0f} MiB),"
                f" +{result['added']:,} -{result['removed']:,} tiles"
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(numbers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
