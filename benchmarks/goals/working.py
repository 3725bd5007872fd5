"""Work without pixels: labels, plans, and reading projects."""

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import labels
from benchmarks.common import slides
from benchmarks.common.processes import bridge, run
from qupath_bridge.geometry.coverage import grid_entries
from qupath_bridge.geometry.edges import Outlines
from qupath_bridge.testing.data_files import cell_file
from qupath_bridge.testing.projects import Image, Region, build_project

from .findings import Finding

READ = """
import sys, qupath_bridge as qb
path, images = sys.argv[1:]
with qb.open_project(path, engine="embedded") as project:
    count = sum(len(slide.read(detections=True).objects) for slide in project.slides[:int(images)])
    print(len(project.slides), count)
"""
PLAN = """
import sys, qupath_bridge as qb
(plan,) = qb.plan(sys.argv[1])
print(len(plan.table))
"""
TISSUE = """
import sys, qupath_bridge as qb
(plan,) = qb.plan(sys.argv[1], qb.ExportConfig(size=1024, labels=False, tissue=sys.argv[2]))
if plan.tissue:
    print(f"{plan.tissue.share:.3f}", plan.tissue.mask.shape, len(plan.tissue.geojson))
"""
IMPORT = "import qupath_bridge as qb; qb.open_project, qb.plan"
ENTRIES, READ_ENTRIES, CELLS = 1000, 100, 1000


def labelling(bench):
    """Measure exact labels, their error, and their growth with polygons."""
    length = 1000 * labels.BOX
    few = labels.compare("100", labels.stars(100, 2000, length), 1000, 5000)
    many = labels.compare("10,000", labels.stars(10_000, 200, length), 1000, 5000)
    rate = few["patches_per_second"]["grid, one label"]
    slower = many["patches_per_second"]["grid, one label"]
    error = max(few["largest_error"], many["largest_error"])
    starts = np.arange(1000) * labels.BOX
    seconds = {}
    for count in (10_000, 20_000):
        polygons = labels.stars(count, 200, length)
        outlines = Outlines.of(polygons, np.arange(count))
        seconds[count], _ = labels.seconds(
            lambda o=outlines: grid_entries(starts, starts, labels.BOX, labels.BOX, o)
        )
    ratio = seconds[20_000] / seconds[10_000]
    return [
        Finding("labels, 1 M boxes, 100 polygons", rate / 1e6, " M/s", 1, numbers=few,
                note=f"{few['ratio_to_tree']:,.0f} x STRtree + intersection"),
        Finding("labels, 1 M boxes, 10,000 polygons", slower / 1e6, " M/s", 1, numbers=many,
                note=f"{many['ratio_to_tree']:,.0f} x STRtree + intersection"),
        Finding("labels: largest error of a share", error, "", 1e-9, True),
        Finding("polygons x 2: label time", ratio, " x", 2, True, numbers={
            f"{count:,}": spent for count, spent in seconds.items()}),
    ]  # fmt: skip


def planning(bench):
    """Measure a plan of a 100,000 px slide with 10,000 annotations, as a whole command."""
    side, count = 100_000, 10_000
    slide = bench.folder / "studies" / "blank" / "blank.svs"
    if not slide.exists():
        slides.blank_slide(slide, side)
    regions = [
        Region("ABCDE"[number % 5], polygon)
        for number, polygon in enumerate(labels.stars(count, 200, side))
    ]
    with tempfile.TemporaryDirectory() as folder:
        project = build_project(Path(folder) / "p", [Image(slide, regions, pixel_size=slides.MPP)])
        words = [sys.executable, "-c"]
        times = bench.best(
            {
                "plan": lambda: run([*words, PLAN, project]),
                "import": lambda: run([*words, IMPORT]),
                "command": lambda: bridge("plan", project),
            }
        )
    spent = times["plan"].cpu - times["import"].cpu
    note = f"processor time, annotations read; the whole command {times['command'].wall:.1f} s"
    return [Finding("plan, 100,000 px, 10,000 annotations", spent, " s", 2, True, note=note)]


def tissue(bench):
    """Measure the tissue map of a slide of 100,000 px, with its outline for QuPath."""
    slide = bench.folder / "studies" / "overview" / "overview.svs"
    if not slide.exists():
        slides.overview_slide(slide, 100_000)
    with tempfile.TemporaryDirectory() as folder:
        project = build_project(Path(folder) / "p", [Image(slide, [], pixel_size=slides.MPP)])
        words = [sys.executable, "-c", TISSUE, project]
        times = bench.best(
            {name: lambda name=name: run([*words, name]) for name in ("otsu", "none")}
        )
        memory = run([*words, "otsu"], memory=True).mib
    spent = times["otsu"].cpu - times["none"].cpu
    return [
        Finding("tissue map, 100,000 px, otsu", spent, " s", 3, True,
                note="processor time: read, threshold, clean, outline"),
        Finding("tissue map, 100,000 px: memory", memory, " MiB", 500, True,
                note="the whole process"),
    ]  # fmt: skip


def projects(bench):
    """Measure listing 1,000 entries, and reading data files with cells."""
    with tempfile.TemporaryDirectory(dir=bench.memory) as folder:
        image = Image(Path(folder) / "slide.tiff", size=(100_000, 80_000), saved=False)
        project = build_project(Path(folder) / "many", [image] * ENTRIES)
        data = cell_file(CELLS, measurements=10)
        for number in range(1, READ_ENTRIES + 1):
            place = project.parent / "data" / str(number)
            place.mkdir(parents=True, exist_ok=True)
            (place / "data.qpdata").write_bytes(data)
        words = [sys.executable, "-c", READ, project]
        times = bench.best(
            {
                "list": lambda: run([*words, "0"]),
                "read": lambda: run([*words, str(READ_ENTRIES)]),
                "import": lambda: run([sys.executable, "-c", IMPORT]),
            }
        )
    megabytes = len(data) * READ_ENTRIES / 1e6
    reading = times["read"].cpu - times["list"].cpu
    # Each is the least of several, and both are mostly the start: the difference may be below zero.
    listing = max(times["list"].cpu - times["import"].cpu, 0.0)
    return [
        Finding(f"list {ENTRIES:,} entries", listing, " s", 1, True,
                note="processor time without start-up"),
        Finding("read .qpdata with all objects", megabytes / reading, " MB/s", 20,
                note=f"{READ_ENTRIES * CELLS:,} cells in {READ_ENTRIES} files, processor time"),
    ]  # fmt: skip
