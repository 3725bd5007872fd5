"""A file by QuPath 0.7.0 with two objects of one ROI, as its Duplicate command makes them."""

from pathlib import Path

import pytest

from qupath_bridge.model import ObjectType
from qupath_bridge.qupath.qpdata.reading import decode_image_data, read_image_data

FILE = Path(__file__).parents[1] / "data" / "shared-roi" / "data.qpdata"


@pytest.mark.parametrize("fast", [True, False])
def test_shared_roi_is_read_for_each_object(fast):
    data = decode_image_data(FILE.read_bytes(), detections=True, fast=fast)
    (detection,) = [o for o in data.objects if o.object_type is ObjectType.DETECTION]
    twins = [
        o.object_type
        for o in data.objects
        if o.id != detection.id and o.roi.geometry.equals(detection.roi.geometry)
    ]
    assert twins == [ObjectType.TILE]
    assert len({o.id for o in data.objects}) == len(data.objects) == 88


def test_shared_roi_file_annotations_are_read():
    data = read_image_data(FILE)
    assert len(data.annotations) == 6
    assert data.skipped == {ObjectType.TILE: 81, ObjectType.DETECTION: 1}
