"""Channels of real projects: names, colours, types and pixels against QuPath 0.6.0 and 0.7.0.

``tests/data/channels/README.md`` says how the images, the projects and the truth were made.
"""

import numpy as np
import pytest

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import CoordinateError, SlideError
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import Box, PixelSize, Plane
from qupath_bridge.pipeline.channels import slide_view
from qupath_bridge.pipeline.pixels import read_patch
from qupath_bridge.pipeline.planning import plan_slide
from qupath_bridge.readers import open_reader
from qupath_bridge.sources import open_project
from tests.support.channel_truth import FOLDER, VERSIONS, dtype_of, facts, pixels, unpacked

REFUSED = {
    "joined": (CoordinateError, "'channels', which joins channels of several images"),
    "normalized": (CoordinateError, "'normalized', which changes the pixel values"),
    "projected": (CoordinateError, "'z_projected', which projects a z-stack"),
    "sliced": (CoordinateError, "'sliced', which picks planes of another image"),
    "names exchanged": (SlideError, "the same channels in another order"),
}
READ = [name for name in facts(VERSIONS[0]) if name not in REFUSED]


@pytest.fixture(scope="module", params=VERSIONS)
def project(request):
    """A project of each QuPath version; its slides are beside it."""
    with open_project(FOLDER / f"qupath-{request.param}", engine="embedded") as project:
        yield request.param, project


@pytest.fixture
def opened(project):
    """A function that opens a slide: its view, its map and its reader."""
    version, slides = project
    readers = []

    def opener(name):
        slide = slides[name]
        readers.append(open_reader(slide.path))
        reader = readers[-1]
        coordinates = coordinate_map(slide.builder, file_size=reader.size, bounds=reader.bounds)
        return slide_view(slide, ExportConfig(), reader), coordinates, reader

    yield version, opener
    for reader in readers:
        reader.close()


def test_every_image_of_the_projects_has_truth(project):
    version, slides = project
    assert [slide.name for slide in slides] == list(facts(version))
    assert len(slides) == 51
    assert all(slide.path.parent == FOLDER / "images" for slide in slides)


def test_what_qupath_recorded_is_read(project):
    version, slides = project
    for slide in slides:
        fact = facts(version)[slide.name]
        assert slide.entry_id == fact["id"]
        assert (slide.width, slide.height) == tuple(fact["size"])
        assert (slide.channels, slide.pixel_type) == (
            tuple(name for name, _ in fact["channels"]),
            fact["type"],
        )
        assert slide.channel_colors == tuple(unpacked(color) for _, color in fact["channels"])
        assert slide.pixel_size == PixelSize(*fact["pixel"], "project")


def test_annotations_keep_class_area_and_plane(project):
    version, slides = project
    for slide in slides:
        read = {
            a.id: (a.class_path, a.roi.plane, pytest.approx(a.roi.geometry.area))
            for a in slide.read().annotations
        }
        assert read == {
            fact["id"]: (fact["class"], Plane(fact["z"], 0), fact["area"])
            for fact in facts(version)[slide.name]["annotations"]
        }


@pytest.mark.parametrize("name", READ)
def test_view_is_what_qupath_shows(opened, name):
    version, opener = opened
    fact = facts(version)[name]
    view, coordinates, reader = opener(name)
    assert view.names == tuple(channel for channel, _ in fact["channels"])
    assert view.colors == tuple(unpacked(color) for _, color in fact["channels"])
    assert view.dtype == dtype_of(fact["type"])
    assert view.is_rgb == fact["rgb"]
    assert coordinates.size == tuple(fact["size"])
    assert reader.planes == tuple(fact["planes"])


@pytest.mark.parametrize("name", READ)
def test_pixels_equal_qupaths(opened, name):
    """All pixels of all planes, and of the second level, are bit by bit those of QuPath."""
    version, opener = opened
    view, coordinates, reader = opener(name)
    width, height = coordinates.size
    for reading in facts(version)[name]["pixels"]:
        place, _, downsample = reading.partition("x")
        plane, factor = Plane(*map(int, place.split(","))), float(downsample)
        if factor > 1 and name == "pyramid":
            continue  # QuPath makes that level itself, and interpolates
        truth = pixels(version, name, plane, factor)
        size = int(width // factor), int(height // factor)
        read, mask = read_patch(reader, coordinates, Box(0, 0, width, height), size, plane, view)
        assert mask is None
        assert read.dtype == truth.dtype
        np.testing.assert_array_equal(read, truth, err_msg=f"{name} {reading}")


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(project, name):
    kind, words = REFUSED[name]
    with pytest.raises(kind, match=words) as raised:
        plan_slide(project[1][name], ExportConfig(size=32))
    assert raised.value.hint


def test_names_in_another_order_are_refused_with_both_lists(project):
    with pytest.raises(SlideError) as raised:
        plan_slide(project[1]["names exchanged"], ExportConfig(size=32))
    assert "CD3, DAPI, CD8, PanCK" in raised.value.message
    assert "DAPI, CD3, CD8, PanCK" in raised.value.message
