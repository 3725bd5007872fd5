"""Slides in a bucket: read in place by ranges, against copied whole; few patches, and all.

    python -m benchmarks.in_place [--side 32768] [--latency 0 20] [--few 20] [--rate 80]
        [--repeats 3] [--json]

A slide is served by a process on this machine that waits before each answer and sends no faster
than one stream of a bucket. Each line is an export into a new folder with an empty cache, the
best of several.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import qupath_bridge as qb
from benchmarks.common import bucket, machine, slides

WAYS = (("copy", 1), ("ranges", 1), ("ranges", 4))
"""How slides come, and the workers per core: who waits for a bucket needs no core."""


def main(words=None):
    """Measure, and print a table or JSON."""
    options = parse(words)
    with tempfile.TemporaryDirectory(prefix="in-place-") as folder:
        slide = options.slide or slides.write_slide(Path(folder) / "slide.svs", options.side)
        size = slide.stat().st_size
        lines = [
            {"latency_ms": latency, **found}
            for latency in options.latency
            for found in measure(slide, Path(folder), latency, options)
        ]
    found = {"slide_bytes": size, "machine": machine.describe(), "lines": lines}
    print(json.dumps(found, indent=1) if options.json else table(found))


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, help="a slide, instead of one that is made")
    parser.add_argument("--side", type=int, default=32768, help="of the slide that is made, px")
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 20], help="milliseconds")
    parser.add_argument("--rate", type=float, default=80, help="MB/s of one stream")
    parser.add_argument("--few", type=int, default=20, help="patches, instead of all")
    parser.add_argument("--repeats", type=int, default=3, help="the best time counts")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def measure(slide, folder, latency, options):
    """Yield the best of several exports of each kind."""
    served = bucket.bucket(slide.parent, latency=latency / 1000, rate=options.rate * 1e6)
    with served as variables:
        os.environ.update(variables)
        for most in (options.few, None):
            tries = [
                [export(f"s3://bucket/{slide.name}", folder, *way, most) for way in WAYS]
                for _ in range(options.repeats)  # in turn, so that noise meets all
            ]
            for own in zip(*tries, strict=True):
                yield min(own, key=lambda found: found["seconds"])


def export(url, folder, way, per_core, most):
    """Export in a folder of its own; return what it took."""
    workers = per_core * machine.cores()
    config = qb.ExportConfig(
        size=256, mpp=0.5, labels=False, tissue="otsu", max_per_slide=most, format="jpeg",
        container="tar",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        began = time.perf_counter()
        run = qb.export(
            url, place / "out", config,
            fetch=way, workers=workers, cache=place / "cache", profile=True, progress="none",
        )  # fmt: skip
        seconds = time.perf_counter() - began
    assert not run.failures, run.failures
    return {
        "patches": run.written,
        "fetch": way,
        "workers": workers,
        "seconds": round(seconds, 2),
        **run.profile.amounts,
    }


def table(found):
    """Return what was measured as a table."""
    rows = [
        "| latency | patches | `--fetch` | workers | time | requests | MB fetched | of the slide "
        "| pixels: fetched ÷ needed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in found["lines"]:
        requests = sum(value for name, value in line.items() if name.endswith("_requests"))
        came = sum(value for name, value in line.items() if name.endswith("_bytes"))
        needed = line.get("pixel_bytes_needed")
        times = f"{line['pixel_bytes'] / needed:.2f}" if needed else "–"
        rows.append(
            f"| {line['latency_ms']:g} ms | {line['patches']:,} | {line['fetch']} "
            f"| {line['workers']} | {line['seconds']:.1f} s | {requests:,} | {came / 1e6:,.1f} "
            f"| {came / found['slide_bytes']:.0%} | {times} |"
        )
    here = found["machine"]
    return "\n".join(
        [
            *rows,
            "",
            f"A slide of {found['slide_bytes'] / 1e6:,.0f} MB; {here['processor']}, "
            f"{here['cores']} cores, Python {here['python']}.",
        ]
    )


if __name__ == "__main__":
    main()
