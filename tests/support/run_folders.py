"""Folders of runs in a project, made by hand."""

import json

from qupath_bridge.config import Settings
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.pipeline import records
from qupath_bridge.pipeline.survey import Survey
from qupath_bridge.roundtrip.tile_files import digest_of


def record_tiles(folder):
    """Let the record of a run name its tile files as they are now: the run then wrote them."""
    path = folder / "run.json"
    record = json.loads(path.read_bytes())
    record["tiles"] = {
        tiles.name.removesuffix(".geojson.gz"): digest_of(tiles)
        for tiles in folder.glob("*.geojson.gz")
    }
    path.write_text(json.dumps(record), encoding="utf-8")


def write_run(folder, run_id, tiles):
    """Write the folder of a run by hand: its record, and ``{entry id: content of a tile file}``."""
    folder.mkdir(parents=True)
    for entry_id, content in tiles.items():
        (folder / f"{entry_id}.geojson.gz").write_bytes(content)
    empty = Survey((), FrozenDict(), ())
    record = records.run_record(
        run_id, empty, Settings.parse({}), projects=[], command=[], started=records.timestamp()
    )
    project = {"path": "project.qpproj", "annotations": None, "skip_bad_features": False}
    record |= {"projects": [project], "project": project["path"], "out": "", "failures": []}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    record_tiles(folder)
