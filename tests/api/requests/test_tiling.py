"""The request ``tiles``: what QuPath removes and adds."""

import gzip
import json
import re
from dataclasses import replace

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import UsageError
from qupath_bridge.qupath.geojson import load

A_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d"


@pytest.fixture
def run(ask):
    """A function that exports, and returns run ID and the ids of the first slide's tiles."""

    def export(**options):
        value = ask("export", options={"size": 100, "workers": 1, **options})
        table = qb.Run.load(value["out"]).table().to_pylist()
        ids = {row["tile_uuid"]: row for row in table if row["entry_id"] == "1"}
        return value["run_id"], ids

    return export


@pytest.fixture
def show(ask, tmp_path):
    """A function that shows a run as QuPath would: the features that the image then has."""

    def show(live=None, **fields):
        place = tmp_path / "live.geojson"
        if live is not None:
            collection = {"type": "FeatureCollection", "features": list(live.values())}
            place.write_text(json.dumps(collection), encoding="utf-8")
            fields["live_tiles"] = str(place)
        value = ask("tiles", entry="1", add=str(tmp_path / "add ä.geojson.gz"), **fields)
        shown = {i: f for i, f in (live or {}).items() if i not in value["remove"]}
        if value["add"]:
            with gzip.open(value["add"], "rt", encoding="utf-8") as file:
                new = {f["id"]: f for f in json.load(file)["features"]}
            assert not new.keys() & shown.keys()
            shown |= new
            assert len(new) == value["added"]
        assert len(value["remove"]) == value["removed"]
        return value, shown

    return show


def test_tiles_of_the_newest_run_come(run, show, study):
    run(size=64)
    run_id, rows = run()
    value, shown = show(action="show")

    assert value["run"] == run_id
    assert shown.keys() == rows.keys()
    for tile_id, feature in shown.items():
        assert feature["properties"]["classification"]["name"] == rows[tile_id]["label"]
        assert feature["properties"]["name"] == rows[tile_id]["patch_id"]
    # QuPath reads the file.
    assert {o.id for o in load(value["add"])} == rows.keys()
    again, same = show(shown, action="show")
    assert (again["added"], again["removed"], same) == (0, 0, shown)
    assert re.fullmatch(
        rf"slide 1\.tiff: The patches of the run of {A_TIME} \(100 px, full resolution\) are there "
        r"already\.",
        again["messages"][0],
    )


@pytest.fixture
def forget():
    """A function that takes the metadata of tiles away, as QuPath 0.4 and 0.5 do."""

    def forget(shown):
        for feature in shown.values():
            feature["properties"].pop("metadata", None)
        return shown

    return forget


def test_tiles_without_metadata_are_known_by_their_measurements(run, show, forget):
    run(size=100)
    second, _ = run(size=50)
    _, shown = show(action="show")
    forget(shown)
    again, same = show(shown, action="show")
    assert (again["added"], again["removed"], same) == (0, 0, shown)
    value, left = show(shown, action="remove")
    assert (value["run"], value["pointer"], left) == (second, None, {})


def test_tiles_of_an_earlier_version_go_without_metadata_too(run, show, forget, study, draw):
    run(size=50)
    _, shown = show(action="show")
    image, other = draw.images(study.slides)
    study.redraw(replace(image, regions=image.regions[2:]), other)
    _, rows = run(size=50)
    assert shown.keys() - rows.keys()
    _, now = show(forget(shown), action="show")
    assert now.keys() == rows.keys()


def test_a_corrected_tile_is_kept_unless_it_is_to_go(run, show):
    _, rows = run()
    _, shown = show(action="show")
    first = min(shown)
    shown[first]["properties"]["classification"] = {"name": "Corrected", "color": [1, 2, 3]}

    value, kept = show(shown, action="show")
    assert (value["corrected_kept"], value["removed"], kept) == (1, 0, shown)
    assert any("Kept the class that somebody gave 1 tile" in text for text in value["messages"])

    value, replaced = show(shown, action="show", discard_corrections=True)
    assert value["remove"] == [first]
    assert replaced[first]["properties"]["classification"]["name"] == rows[first]["label"]


def test_tiles_of_another_run_stay_or_are_replaced(run, show):
    old, old_rows = run(size=64)
    new, new_rows = run()
    _, shown = show(action="show", run=old)
    value, both = show(shown, action="show", run=new)
    assert both.keys() == old_rows.keys() | new_rows.keys()
    assert value["other_runs"] == {old: len(old_rows)}

    _, replaced = show(both, action="show", run=new, replace=True)
    assert replaced.keys() == new_rows.keys()

    value, left = show(both, action="remove")
    assert (value["run"], left.keys()) == (new, old_rows.keys())
    _, nothing = show(both, action="remove", replace=True)
    assert nothing == {}


def test_the_message_of_a_removal_says_whose_tiles_came_back(run, show):
    old, old_rows = run()
    new, new_rows = run(within="Tumor")
    assert new_rows.keys() < old_rows.keys()
    _, shown = show(action="show", run=old)
    _, shown = show(shown, action="show", run=new)
    value, left = show(shown, action="remove", run=new)
    assert left.keys() == old_rows.keys()
    number = len(new_rows)
    of_new, of_old = (
        rf"the run of {A_TIME} \(100 px, full resolution{more}\)" for more in (", within Tumor", "")
    )
    removed, back = value["messages"][:2]
    assert re.fullmatch(rf"slide 1\.tiff: Removed {number} tiles of {of_new}\.", removed)
    came = "came back: they were there before"
    assert re.fullmatch(rf"slide 1\.tiff: {number} tiles of {of_old} {came}\.", back)


def test_faults_are_named(run, show):
    with pytest.raises(UsageError, match="No run has patches of slide 1.tiff"):
        show(action="show")
    run_id, _ = run(entry="id:2")
    with pytest.raises(UsageError, match=f"The run {run_id} has nothing of slide 1.tiff"):
        show(action="show", run=run_id)
    with pytest.raises(UsageError, match="There is no run x in"):
        show(action="show", run="x")
    with pytest.raises(UsageError, match="shows no patches"):
        show(action="remove")


def test_the_name_of_the_added_tiles_says_that_they_are_packed(run, ask, tmp_path):
    run()
    with pytest.raises(UsageError, match=r"must end in \.geojson\.gz"):
        ask("tiles", entry="1", action="show", add=str(tmp_path / "add.geojson"))
    assert not (tmp_path / "add.geojson").exists()


def test_what_is_shown_is_recorded(run, show, study):
    """The next comparison with QuPath's data starts from it."""
    first, _ = run(size=64)
    run_id, _ = run()
    _, shown = show(action="show", run=first)
    _, shown = show(shown, action="show")
    show(shown, action="show")  # the same again is nothing new
    show(shown, action="remove")

    folder = study.project.parent / "qupath_bridge" / "shown" / "1"
    events = [json.loads(path.read_text("utf-8")) for path in sorted(folder.iterdir())]
    assert [(event["action"], event["run_id"]) for event in events] == [
        ("show", first), ("show", run_id), ("remove", run_id),
    ]  # fmt: skip
