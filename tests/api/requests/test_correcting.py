"""The request ``corrections``, and corrections on their way through the other requests."""

import gzip
import json

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import UsageError

OPTIONS = {"size": 100, "workers": 1}


@pytest.fixture
def changed(ask, tmp_path):
    """Tiles of the first slide as QuPath has them after one got another class: its feature."""
    ask("export", options=OPTIONS)
    shown = tmp_path / "shown.geojson.gz"
    ask("tiles", action="show", entry="1", add=str(shown))
    collection = json.loads(gzip.decompress(shown.read_bytes()))
    feature = next(
        f for f in collection["features"] if f["properties"]["classification"]["name"] == "Tumor"
    )
    feature["properties"]["classification"] = {"name": "Stroma", "color": [150, 200, 150]}
    live = tmp_path / "live.geojson"
    live.write_text(json.dumps(collection), encoding="utf-8")
    value = ask(
        "tiles", action="show", entry="1", live_tiles=str(live), add=str(tmp_path / "a.geojson"),
        reviewer="A. Ä",
    )  # fmt: skip
    assert (value["collected"], value["corrected_kept"]) == (1, 1)
    assert (value["added"], value["removed"]) == (0, 0)
    return feature


def test_what_a_person_said_is_listed_and_exported(ask, changed):
    found = ask("corrections", action="list")
    (slide,) = found["slides"]
    # Nothing was saved in QuPath: that the other tiles are missing may mean anything.
    (item,) = (each for each in slide["items"] if each["state"] == "collected")
    ring = changed["geometry"]["coordinates"][0]
    assert (slide["entry"], slide["corrected"], slide["rejected"]) == ("1", 1, 0)
    assert item["patch"] == changed["properties"]["name"]
    assert (item["before"], item["after"], item["reviewer"]) == ("Tumor", "Stroma", "A. Ä")
    assert item["box"] == [*map(int, ring[0]), 100, 100]
    assert ask("corrections", action="list", entries=["2"])["slides"] == []

    value = ask("export", options=OPTIONS, reviewer="B")
    assert value["corrections"]["applied"] == 1
    assert value["corrections"]["unsure"] == slide["unsure"] > 0
    table = qb.Run.load(value["out"]).table().to_pylist()
    row = next(row for row in table if row["tile_uuid"] == changed["id"])
    assert (row["label"], row["rule_label"], row["label_source"]) == (
        "Stroma", "Tumor", "corrected",
    )  # fmt: skip
    without = ask("export", options={**OPTIONS, "corrections": "none"}, reviewer="B")
    assert without["corrections"]["applied"] == 0

    counted = {
        name: ask("preview", entry="1", options={**OPTIONS, **more})["labels"]["Stroma"]["count"]
        for name, more in (("with", {}), ("without", {"corrections": "none"}))
    }
    assert counted["with"] == counted["without"] + 1


def test_an_unknown_image_is_refused(ask):
    with pytest.raises(UsageError, match="no image with the ID 9"):
        ask("corrections", action="collect", entries=["9"])
