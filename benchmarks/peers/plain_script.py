"""Labelled patches as a plain script makes them: OpenSlide, shapely and Pillow.

python plain_script.py SLIDE REGIONS.geojson OUT png|jpeg
"""

import json
import sys
from pathlib import Path

import openslide
import shapely

SIZE = 256
OPTIONS = {"png": {}, "jpeg": {"quality": 90}}


def main(slide, regions, out, kind):
    """Write the patches of which a class covers at least half, in a folder per class."""
    features = json.loads(Path(regions).read_text(encoding="utf-8"))["features"]
    polygons = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    names = [feature["properties"]["classification"]["name"] for feature in features]
    tree = shapely.STRtree(polygons)
    for name in set(names):
        (Path(out) / name).mkdir(parents=True)
    written = 0
    with openslide.OpenSlide(slide) as opened:
        width, height = opened.dimensions
        for y in range(0, height - SIZE + 1, SIZE):
            for x in range(0, width - SIZE + 1, SIZE):
                box = shapely.box(x, y, x + SIZE, y + SIZE)
                shares = {}
                for number in tree.query(box, predicate="intersects"):
                    area = polygons[number].intersection(box).area
                    shares[names[number]] = shares.get(names[number], 0) + area / SIZE**2
                if not shares or max(shares.values()) < 0.5:
                    continue
                label = max(shares, key=shares.get)
                patch = opened.read_region((x, y), 0, (SIZE, SIZE)).convert("RGB")
                patch.save(f"{out}/{label}/{x}_{y}.{kind}", **OPTIONS[kind])
                written += 1
    print(written)


if __name__ == "__main__":
    main(*sys.argv[1:])
