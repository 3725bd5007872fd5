"""Speed of reading data files: annotations among many cells, and whole hierarchies.

Run ``python benchmarks/qpdata_read.py [--cells N] [--json FILE] [DATA.qpdata ...]``. Without files
it makes one of 100,000 cells with two outlines and 30 measurements each. Times are processor time
of one core, the best of some runs; a loop of plain Python shows the speed of the machine.
"""

import argparse
import json
import platform
import time
from pathlib import Path

from qupath_bridge.qupath.javaio.stream import JavaStream
from qupath_bridge.qupath.qpdata.reading import decode_image_data
from qupath_bridge.testing.data_files import cell_file

WAYS = {
    "grammar only, step by step": lambda data: skip_all(data),
    "annotations, step by step": lambda data: decode_image_data(data, fast=False),
    "annotations": decode_image_data,
    "all objects, step by step": lambda data: decode_image_data(data, detections=True, fast=False),
    "all objects": lambda data: decode_image_data(data, detections=True),
}


def skip_all(data):
    stream = JavaStream(data)
    stream.block(data[5])
    while not stream.at_end:
        stream.skip()


def best(work, runs):
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def loop():
    total = 0
    for number in range(1_000_000):
        total += number
    return total


def main():
    parser = argparse.ArgumentParser(description="Measure the reading of data files.")
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    options = parser.parse_args()
    files = {path.as_posix(): path.read_bytes() for path in options.paths}
    files = files or {f"{options.cells:,} cells": cell_file(options.cells)}
    results = {
        "python": platform.python_version(),
        "ns_per_loop": round(best(loop, 5) * 1000, 1),
        "files": [],
    }
    print(f"Python {results['python']}, {results['ns_per_loop']} ns per turn of an empty loop")
    for name, data in files.items():
        megabytes = len(data) / 1e6
        print(f"\n{name}: {megabytes:.1f} MB")
        for way, read in WAYS.items():
            seconds = best(lambda read=read, data=data: read(data), options.runs)
            speed = megabytes / seconds
            print(f"  {way:<28} {seconds:8.3f} s {speed:9.1f} MB/s")
            results["files"].append(
                {
                    "file": name,
                    "bytes": len(data),
                    "way": way,
                    "seconds": seconds,
                    "mb_per_s": speed,
                }
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
