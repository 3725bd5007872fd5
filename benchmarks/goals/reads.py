"""Reading alone, in one thread, by processor time: aligned, unaligned, and scaled down."""

import numpy as np
import openslide
from PIL import Image

from qupath_bridge.patches.order import reading_batches
from qupath_bridge.readers import open_reader

from .findings import Finding
from .parts import Parts, decoders

SHIFT = (100, 77)


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


def scaling(bench):
    """Compare patches at half resolution with OpenSlide and Pillow."""
    study = bench.study()
    even = (study.boxes[:, :2] // 256 % 2 == 0).all(axis=1)
    boxes = np.column_stack([study.boxes[even, :2], np.full((even.sum(), 2), 512)])
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
