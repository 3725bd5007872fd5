"""The loop around another library: read patches, and save them with Pillow.

The time starts when the slide is open and ends with the last patch, so that slow imports of a
library do not count against it.
"""

import json
import sys
import time
from pathlib import Path

SIZE = 256
OPTIONS = {"png": {}, "jpeg": {"quality": 90}}


def main(patches):
    """Run ``python with_NAME.py SLIDE BOXES.json OUT read|png|jpeg``.

    Parameters
    ----------
    patches : callable
        Called with the slide and the places; a generator of ``(save, read)`` per patch is
        returned: ``read()`` gives an array, ``save(path, options)`` writes a file.
    """
    slide, boxes, out, kind = sys.argv[1:]
    places = [tuple(place) for place in json.loads(Path(boxes).read_text(encoding="utf-8"))]
    Path(out).mkdir(parents=True)
    done = 0
    opened = patches(slide, places)
    began = time.perf_counter()
    cpu = time.process_time()
    for (x, y), (read, save) in zip(places, opened, strict=True):
        if kind == "read":
            done += read().shape[0] == SIZE
        else:
            save(f"{out}/{x}_{y}.{kind}", **OPTIONS[kind])
            done += 1
    print(json.dumps({
        "patches": done,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
    }))  # fmt: skip


def pillow(array):
    """Return how an array is read and saved."""
    from PIL import Image

    return (lambda: array), (lambda path, **options: Image.fromarray(array).save(path, **options))
