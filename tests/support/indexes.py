"""Outputs with an index that was made by hand: any slides, boxes and pictures, in milliseconds."""

import json
from dataclasses import dataclass, field

import numpy as np
import xxhash

from qupath_bridge.codecs import RGB_PIXELS, get_encoder
from qupath_bridge.config import Settings
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import PatchRef
from qupath_bridge.outputs.index import FIELDS, make_table, with_facts
from qupath_bridge.patches.ids import patch_id, tile_uuid
from qupath_bridge.pipeline import records
from qupath_bridge.pipeline.survey import Survey

WRITTEN = None
"""Pixels of the written patches, if they are not those of their boxes."""
PLACES = ("path", "offset", "length")


@dataclass
class Patch:
    """A patch: its box in the slide file, its label, and its pixels."""

    x: int = 0
    y: int = 0
    size: int = 32
    label: str | None = "Tumor"
    pixels: np.ndarray | None = None
    z: int = 0


@dataclass
class FakeSlide:
    """A slide of an index; ``file`` names the slide file, and stands for its content."""

    name: str
    metadata: dict[str, str] = field(default_factory=dict)
    patches: list[Patch] = field(default_factory=lambda: [Patch()])
    file: str | None = None

    @property
    def slide_id(self):
        return f"1_{self.name}"


def columns_of(slide, placed, channels=RGB_PIXELS.channels):
    """Return the columns of the rows of a slide; ``placed`` has location and payload."""
    count = len(slide.patches)
    content = (slide.file or slide.name).encode()
    same = {
        "run_id": "R", "entry_id": "1", "slide_name": slide.name, "col": 0, "row": 0, "t": 0,
        "downsample": 1.0, "read_level": 0, "mpp": 0.5, "label_source": "rule",
        "project": "study", "slide_file": slide.file or f"{slide.name}.svs",
        "slide_digest": f"xxh3_128:{xxhash.xxh3_128_hexdigest(content)}",
        "metadata": slide.metadata, "shares": {}, "region_ids": [],
        "channels": list(channels),
    }  # fmt: skip
    columns = {name: [same.get(name)] * count for name in FIELDS}
    boxes = [(p.x, p.y, p.size, p.size) for p in slide.patches]
    for kind in ("qupath", "slide"):
        for axis, values in zip("xywh", zip(*boxes, strict=True), strict=True):
            columns[f"{axis}_{kind}"] = list(values)
    columns["width"] = columns["height"] = [WRITTEN or p.size for p in slide.patches]
    columns["dtype"] = [
        RGB_PIXELS.dtype if p.pixels is None else str(p.pixels.dtype) for p in slide.patches
    ]
    columns["z"] = [p.z for p in slide.patches]
    columns["label"] = [p.label for p in slide.patches]
    columns["patch_id"] = [name_of(slide, p) for p in slide.patches]
    columns["tile_uuid"] = [tile_uuid(slide.name, *box) for box in boxes]
    columns["path"] = [location.path for location, _ in placed]
    columns["offset"] = [location.offset for location, _ in placed]
    columns["length"] = [location.length for location, _ in placed]
    columns["digest"] = [f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}" for _, data in placed]
    return columns


def name_of(slide, patch):
    """Return the id of a patch."""
    return patch_id(slide.slide_id, patch.x, patch.y, patch.z)


def noise(seed, size=32):
    """Return pixels that are like no others: smooth blobs, as tissue has."""
    coarse = np.random.default_rng(list(str(seed).encode())).integers(0, 256, (8, 8, 3))
    return np.kron(coarse, np.ones((size // 8, size // 8, 1))).astype(np.uint8)


def write_output(place, slides, container="folder", *, channels=RGB_PIXELS.channels, facts=None):
    """Write a finished run with these slides; one that is there is brought up to date.

    ``facts`` are what each partition says of its slide.
    """
    output = open_output(str(place), container)
    png = get_encoder("png")
    rows = {}
    for slide in slides:
        output.begin(slide.slide_id)
        placed = []
        for n, patch in enumerate(slide.patches):
            pixels = (
                noise(f"{slide.name} {n}", WRITTEN or patch.size)
                if patch.pixels is None
                else patch.pixels
            )
            payload = pixels if output.accepts == "array" else png.encode(pixels)
            name = f"patches/{slide.slide_id}/{name_of(slide, patch)}.png"
            location = output.write(
                PatchRef(slide.slide_id, name_of(slide, patch), name, {}), payload
            )
            placed.append((location, payload if isinstance(payload, bytes) else payload.tobytes()))
        columns = columns_of(slide, placed, channels)
        table = make_table(columns, metadata={"run_id": "R"})
        output.commit(slide.slide_id, with_facts(table, facts or {}))
        values = {name: value for name, value in columns.items() if name not in PLACES}
        text = json.dumps(values, default=str)
        rows[slide.slide_id] = xxhash.xxh3_64_hexdigest(text.encode())
    for gone in set(output.slides()) - rows.keys():
        output.remove(gone)
    settings = Settings.parse({"size": 32, "container": container})
    record = records.run_record(
        "R", Survey((), FrozenDict(), ()), settings,
        projects=[], command=[], started=records.timestamp(),
    )  # fmt: skip
    record |= {"state": "complete", "finished": records.timestamp(), "rows": rows}
    output.put(records.RUN_FILE, records.dump_json(record))
    return output
