"""Live annotations: what takes the place of what is saved."""

import json
from dataclasses import replace

import pytest
import shapely

from qupath_bridge.errors import MissingDataError, ProjectError
from qupath_bridge.model import ImageData, ObjectType, PathObject, Roi, RoiKind
from qupath_bridge.sources.live import with_live_annotations
from qupath_bridge.sources.memory import memory_slide


def drawn(name, kind, parent=-1):
    roi = Roi(RoiKind.RECTANGLE, shapely.box(0, 0, 8, 8))
    return PathObject(name, kind, "Tumor", name=name, roi=roi, parent=parent)


SAVED = ImageData(
    (drawn("A-1", ObjectType.TMA_CORE), drawn("old", ObjectType.ANNOTATION, parent=0)),
    digest="xxh3_128:0",
    problems=("something odd",),
)


def text(*kinds):
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.box(0, 0, 4, 4)),
            "properties": {"objectType": kind, "name": kind},
        }
        for kind in kinds
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def read(content, load=lambda detections: SAVED):
    slide = replace(memory_slide("3", "a.tif"), _load=load)
    return with_live_annotations(slide, content).read()


def test_annotations_are_the_live_ones_and_cores_the_saved_ones():
    data = read(text("annotation", "detection", "tile", "annotation"))
    assert [each.name for each in data.annotations] == ["annotation", "annotation"]
    assert [each.name for each in data.tma_cores] == ["A-1"]
    assert {each.object_type for each in data.objects} == {
        ObjectType.ANNOTATION, ObjectType.TMA_CORE,
    }  # fmt: skip
    assert data.problems == SAVED.problems
    assert {each.parent for each in data.objects} == {-1}


def test_cores_may_be_live_too():
    assert [each.name for each in read(text("tmaCore")).tma_cores] == ["tmaCore"]


def test_a_slide_whose_data_were_not_copied_has_the_live_annotations():
    def missing(detections):
        raise MissingDataError("gone")

    assert len(read(text("annotation"), missing).annotations) == 1


def test_other_faults_of_the_saved_data_are_not_hidden():
    def damaged(detections):
        raise ProjectError("damaged")

    with pytest.raises(ProjectError, match="damaged"):
        read(text("annotation"), damaged)


def test_live_text_that_is_not_geojson_names_the_slide():
    with pytest.raises(ProjectError, match=r"a\.tif \(entry 3\): its live annotations cannot"):
        read(b"{}")
