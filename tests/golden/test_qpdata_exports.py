"""Comparison of the samples' data files with QuPath's own GeoJSON exports of them.

The exports are read here as plain JSON, by nothing of ours.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from qupath_bridge.qupath.qpdata.reading import read_image_data

SAMPLES = Path(__file__).parents[1] / "data" / "qupath-samples"
EXPORTS = {
    "v0.2.3": "objects.gson-array.geojson",
    **dict.fromkeys(("v0.3.2", "v0.4.4", "v0.5.1", "v0.6.0", "v0.7.0"), "objects.fc.geojson"),
}
OLD_TYPES = {
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathTileObject": "tile",
}


def features(version):
    exported = json.loads((SAMPLES / version / EXPORTS[version]).read_text(encoding="utf-8"))
    return exported["features"] if isinstance(exported, dict) else exported


def facts(feature):
    """Type, class, name, lock and plane of a feature of any version."""
    properties = feature["properties"]
    kind = properties.get("objectType") or properties.get("object_type")
    plane = feature["geometry"].get("plane", {"c": -1, "z": 0, "t": 0})
    return (
        kind or OLD_TYPES[feature["id"]],
        class_path(properties.get("classification")),
        properties.get("name"),
        properties.get("isLocked", False),
        (plane["c"], plane["z"], plane["t"]),
    )


def class_path(stored):
    names = []
    while stored:
        names[:0] = stored.get("names") or [stored["name"]]
        stored = stored.get("parentClass")
    return ": ".join(names) or None


def measurements(feature):
    stored = feature["properties"].get("measurements") or {}
    pairs = (
        stored.items() if isinstance(stored, dict) else ((m["name"], m["value"]) for m in stored)
    )
    return {name: float(value) for name, value in pairs}


def distance(ours, theirs):
    """Difference of area or symmetric difference, px² a vertex; for lines the largest step."""
    if theirs.area > 0:
        difference = ours.symmetric_difference(theirs).area
        worst = max(difference, abs(ours.area - theirs.area))
        return worst / shapely.get_num_coordinates(theirs)
    mine, other = shapely.get_coordinates(ours), shapely.get_coordinates(theirs)
    return np.abs(mine - other).max() if mine.shape == other.shape else np.inf


@pytest.mark.parametrize("version", EXPORTS)
def test_data_files_have_every_exported_feature(version):
    image = read_image_data(SAMPLES / version / "project/data/1/data.qpdata", detections=True)
    left = list(image.objects)
    exported = features(version)
    assert len(exported) == 15
    for feature in exported:
        drawn = shapely.geometry.shape(feature["geometry"])
        for each in left:
            roi = each.roi
            plane = (roi.channel, roi.plane.z, roi.plane.t)
            read = (each.object_type, each.class_path, each.name, each.locked, plane)
            if read == facts(feature) and distance(roi.geometry, drawn) <= 0.01:
                break
        else:
            pytest.fail(f"not read: {feature}")
        left.remove(each)
        if version >= "v0.4":
            assert (each.id, each.id_origin) == (feature["id"], "qupath")
        else:
            assert each.id_origin == "derived"
        wanted = measurements(feature)
        assert dict(each.measurements) == pytest.approx(wanted, rel=0, abs=0, nan_ok=True)
        if feature.get("nucleusGeometry"):
            nucleus = shapely.geometry.shape(feature["nucleusGeometry"])
            assert distance(each.nucleus.geometry, nucleus) <= 0.01
    # cells are in no export, and no QuPath can export lines of several parts
    assert sorted(o.roi.geometry.geom_type for o in left) == [
        "MultiLineString",
        "Polygon",
        "Polygon",
    ]
    assert [o.object_type for o in left].count("cell") == 2


@pytest.mark.parametrize("version", EXPORTS)
def test_data_file_ids_are_the_same_with_and_without_detections(version):
    path = SAMPLES / version / "project/data/1/data.qpdata"
    full = read_image_data(path, entry_id="1", detections=True)
    regions = read_image_data(path, entry_id="1")
    assert [o.id for o in regions.objects] == [o.id for o in full.annotations]
    assert len({o.id for o in full.objects}) == len(full.objects)
    assert sum(regions.skipped.values()) == len(full.objects) - len(regions.objects)
