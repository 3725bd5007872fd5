"""Comparison of the engines: opening, the first annotations, a million objects, and memory.

Each number comes from a separate process. The engine paquo needs a QuPath, which
QUPATH_BRIDGE_QUPATH can name; without one only the engine embedded is measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from qupath_bridge.qupath.jvm.installation import find_installations
from qupath_bridge.testing.data_files import cell_file
from qupath_bridge.testing.projects import Image, build_project

CALL = """
import json, resource, sys, time
began = time.monotonic()
import qupath_bridge as qb
qb.open_project  # loads what reading needs
imported = time.monotonic() - began
path, engine, detections, images = sys.argv[1:]
began = time.monotonic()
with qb.open_project(path, engine=engine) as project:
    opened = time.monotonic() - began
    first = None
    count = 0
    for slide in project.slides[: int(images) or None]:
        count += len(slide.read(detections=detections == "all").objects)
        first = first or time.monotonic() - began
    seconds = time.monotonic() - began
mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({"import": imported, "open": opened, "first": first, "all": seconds,
                  "objects": count, "mib": mib, "child_mib": child}))
"""


def measure(path, engine, detections, images=0):
    command = [sys.executable, "-c", CALL, str(path), engine, detections, str(images)]
    return json.loads(subprocess.check_output(command))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--cells", type=int, default=5_600, help="cells of one image")
    parser.add_argument("--json", help="file to write the numbers to")
    arguments = parser.parse_args()
    usable = any(c.installation is not None and c.problem is None for c in find_installations())
    engines = ["embedded", "paquo"] if usable else ["embedded"]
    real = Path(__file__).parents[1] / "tests" / "data" / "real" / "qupath-0.7.0-project"
    numbers = {}
    with tempfile.TemporaryDirectory() as folder:
        image = Image(Path(folder) / "slide.tiff", size=(100_000, 80_000), saved=False)
        many = build_project(Path(folder) / "many", [image] * arguments.images)
        data = cell_file(arguments.cells, measurements=10)
        for number in range(1, arguments.images + 1):
            place = many.parent / "data" / str(number)
            place.mkdir(parents=True, exist_ok=True)
            (place / "data.qpdata").write_bytes(data)
        for name, path, detections in (
            ("5 images with 100 regions, annotations", real, "annotations"),
            (f"{arguments.images} images, annotations", many, "annotations"),
            (f"{arguments.images} images, all objects", many, "all"),
        ):
            for engine in engines:
                result = measure(path, engine, detections)
                numbers[f"{name}, {engine}"] = result
                print(
                    f"{name}, {engine}: open {result['open']:.2f} s,"
                    f" first image {result['first']:.2f} s,"
                    f" all {result['all']:.1f} s ({result['objects']:,} objects),"
                    f" {result['mib']:.0f} MiB, child {result['child_mib']:.0f} MiB"
                )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(numbers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
