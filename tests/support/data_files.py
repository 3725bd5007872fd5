"""What tests of data files have in common."""

import pytest

from qupath_bridge.errors import ProjectError
from qupath_bridge.qupath.qpdata import schema
from qupath_bridge.testing.parts import decode_objects


def enum(name):
    """Write a value of the enumeration of image types."""
    return lambda w: w.enum(schema.IMAGE_TYPE, name)


def refused(problem, *children):
    """Assert that a file of these parts is refused, and that the error names the place."""
    for detections in (True, False):
        with pytest.raises(ProjectError, match=problem) as caught:
            decode_objects(*children, detections=detections)
        assert caught.value.offset is not None
