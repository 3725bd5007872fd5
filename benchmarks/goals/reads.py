"""Reading alone, by processor time: aligned, unaligned, scaled down; and steps in two threads."""

import threading
from collections import deque
from functools import partial

import numpy as np
import openslide
from PIL import Image

from benchmarks.common.machine import cores
from qupath_bridge.parallel import ordered_map
from qupath_bridge.patches.order import reading_batches
from qupath_bridge.readers import open_reader

from .findings import Finding
from .parts import Parts, decoders, encoder_of

SHIFT = (100, 77)
BATCH, TIMES = 64, 5  # patches that a thread encodes at once, and how often each is encoded


def in_blocks(boxes, size=(256, 256)):
    """Split boxes as an export does, into blocks of neighbours."""
    cells = (boxes[:, :2] - boxes[:, :2].min(axis=0)) // boxes[0, 2:]
    plane = np.zeros(len(boxes), np.int32)
    batches = reading_batches(*cells.T, plane, plane, 3 * size[0] * size[1])
    return [boxes[batch] for batch in batches]


def read_all(study, boxes, size=(256, 256)):
    """Read boxes as an export does."""
    with open_reader(study.slide) as reader:
        for block in in_blocks(boxes, size):
            reader.read_many(block, size)


def reading(bench):
    """Compare reads with a bare decode loop, and unaligned reads with aligned ones."""
    study = bench.study()
    parts = Parts(study)
    shifted = study.boxes + np.array([*SHIFT, 0, 0])
    works = {name: lambda d=each: parts.decode(d) for name, each in decoders().items()}
    works["aligned"] = lambda: read_all(study, study.boxes)
    works["unaligned"] = lambda: read_all(study, shifted)
    rates = {name: len(study) / spent.cpu for name, spent in bench.best(works).items()}
    bare = max(decoders(), key=lambda name: rates[name])
    return [
        Finding(
            "aligned reads / bare decode loop", rates["aligned"] / rates[bare], goal=0.9,
            note=f"{rates['aligned']:,.0f} of {rates[bare]:,.0f} p/s ({bare})", numbers=rates,
        ),
        Finding(
            "unaligned reads / aligned", rates["unaligned"] / rates["aligned"], goal=0.7,
            note=f"{rates['unaligned']:,.0f} p/s", numbers=rates,
        ),
    ]  # fmt: skip


def _doubled(study):
    """Return boxes of twice the side, on the tiles of the file."""
    even = (study.boxes[:, :2] // 256 % 2 == 0).all(axis=1)
    return np.column_stack([study.boxes[even, :2], np.full((even.sum(), 2), 512)])


def threads(bench):
    """Compare each step that lets other threads run, in two threads and in one."""
    if cores() < 2:
        return []
    study = bench.study(2 * bench.side)  # of short works the start of a thread is a part
    shifted = study.boxes + np.array([*SHIFT, 0, 0])
    reads = {"aligned reads": study.boxes, "unaligned reads": shifted,
             "0.5 from 0.25 µm": _doubled(study)}  # fmt: skip
    steps = {name: partial(_read_in_threads, study, boxes) for name, boxes in reads.items()}
    pixels = Parts(study).pixels * TIMES
    for kind in ("png", "jpeg"):
        steps[f"{kind.upper()} encoding"] = partial(_encode_in_threads, encoder_of(kind), pixels)
    found = []
    for name, step in steps.items():
        times = bench.best({workers: partial(step, workers) for workers in (1, 2)})
        found.append(
            Finding(f"{name}, 2 threads / 1", times[1].wall / times[2].wall, " x", 1.8,
                    numbers={str(workers): spent.wall for workers, spent in times.items()})
        )  # fmt: skip
    return found


def _read_in_threads(study, boxes, workers):
    """Read boxes as an export with some workers does, each with a reader of its own."""
    mine = threading.local()

    def read(block):
        if not hasattr(mine, "reader"):
            mine.reader = open_reader(study.slide)
        mine.reader.read_many(block, (256, 256))

    _finish(ordered_map(read, in_blocks(boxes), workers=workers))


def _encode_in_threads(encode, pixels, workers):
    """Encode patches as an export with some workers does."""
    blocks = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    _finish(ordered_map(lambda block: [encode(each) for each in block], blocks, workers=workers))


def _finish(work):
    """Do all of it, and keep nothing."""
    deque(work, maxlen=0)


def scaling(bench):
    """Compare patches at half resolution with OpenSlide and Pillow."""
    study = bench.study()
    boxes = _doubled(study)
    few = boxes[: max(50, len(boxes) // 8)]

    def plain():
        with openslide.OpenSlide(study.slide) as slide:
            for x, y, _, _ in few.tolist():
                region = slide.read_region((x, y), 0, (512, 512)).convert("RGB")
                np.asarray(region.resize((256, 256), Image.Resampling.LANCZOS))

    times = bench.best({"plain": plain, "ours": lambda: read_all(study, boxes)})
    rates = {"plain": len(few) / times["plain"].cpu, "ours": len(boxes) / times["ours"].cpu}
    note = f"{rates['ours']:,.0f} p/s, Lanczos {rates['plain']:,.0f}"
    return [
        Finding("0.5 from 0.25 µm / OpenSlide + Pillow", rates["ours"] / rates["plain"], " x", 5,
                note=note, numbers=rates),
    ]  # fmt: skip
