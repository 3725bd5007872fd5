"""Seconds and memory for the tiles of 100,000 patches, compared with the geojson package."""

import argparse
import json
import time
import tracemalloc
from pathlib import Path

from qupath_bridge.model import Box
from qupath_bridge.patches.ids import tile_uuid
from qupath_bridge.qupath import geojson


def tile(number):
    x, y = number % 400 * 256, number // 400 * 256
    return geojson.Tile(
        id=tile_uuid("1", x, y, 256, 256),
        box=Box(x, y, 256, 256),
        name=f"1_slide.svs_x{x}_y{y}",
        class_path="Tumor",
        color=(200, 0, 0),
        measurements={"qb: label share": number / 1e5, "qb: margin": 0.5, "qb: Tumor": 0.75},
        metadata={
            "qb.run": "01M873",
            "qb.path": f"patches/{number}.png",
            "qb.digest": "xxh3_128:0",
        },
    )


def seconds(work):
    began = time.process_time()
    work()
    return time.process_time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--json", help="file to write the numbers to")
    arguments = parser.parse_args()

    tracemalloc.start()
    size = len(geojson.tiles_geojson(map(tile, range(arguments.tiles))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    duration = seconds(lambda: geojson.tiles_geojson(map(tile, range(arguments.tiles))))
    few = list(map(tile, range(2_000)))
    objects = geojson.loads(json.dumps({"type": "FeatureCollection", "features": [
        {"type": "Feature", "id": t.id, "properties": {"objectType": "tile"},
         "geometry": {"type": "Polygon", "coordinates": [[
             [t.box.x, t.box.y], [t.box.x + 256, t.box.y], [t.box.x + 256, t.box.y + 256],
             [t.box.x, t.box.y + 256], [t.box.x, t.box.y]]]}} for t in few]}))  # fmt: skip
    ratio = seconds(lambda: geojson.dumps(objects)) / seconds(lambda: geojson.tiles_geojson(few))
    print(f"{arguments.tiles:,} tiles: {duration:.2f} s, {size / 1e6:.1f} MB, "
          f"peak {peak / 1e6:.0f} MB")  # fmt: skip
    print(f"the geojson package's model takes {ratio:.1f} times as long per tile")
    if arguments.json:
        with Path(arguments.json).open("w", encoding="utf-8") as file:
            json.dump(
                {"seconds": duration, "bytes": size, "peak": peak, "model_ratio": ratio}, file
            )


if __name__ == "__main__":
    main()
