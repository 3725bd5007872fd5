"""Which channels of a slide are exported: what the project says against what the file has."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import CoordinateError, PlanError, SlideError
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import FIRST_PLANE, Box, Plane, ServerBuilder
from qupath_bridge.pipeline.channels import ChannelView, file_view, slide_view
from qupath_bridge.pipeline.patch_pixels import PatchPixels
from qupath_bridge.pipeline.pixels import read_patch, read_patches, read_thumbnail
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.sources.memory import memory_slide

NAMES = ("DAPI", "CD3", "CD8", "AF")
COLORS = ((0, 0, 255), (255, 128, 0), (1, 2, 3), (255, 255, 255))
URI = {"builderType": "uri", "uri": "file:/a.tif", "args": []}
STAINS = {
    "stain1": {"name": "Hematoxylin", "r": 0.65, "g": 0.70, "b": 0.29},
    "stain2": {"name": "DAB", "r": 0.27, "g": 0.57, "b": 0.78},
    "stain3": {"name": "Residual", "r": 0.71, "g": -0.64, "b": 0.29},
    **dict.fromkeys(("maxRed", "maxGreen", "maxBlue"), 255.0),
}


def array(channels=4, dtype="uint16", planes=None, size=(12, 20), seed=1):
    shape = (*(planes or ()), *size, channels)
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def slide(channels=NAMES, pixel_type="UINT16", is_rgb=False, builder=URI, **more):
    made = memory_slide("1", "a.tif", path=Path("/a.tif"), builder=ServerBuilder(builder))
    return replace(made, channels=channels, pixel_type=pixel_type, is_rgb=is_rgb, **more)


def view(this, reader, **options):
    return slide_view(this, ExportConfig(**options), reader)


def reader(channels=NAMES, dtype="uint16", **more):
    return MemoryReader(array(len(channels), dtype, **more), channels=channels)


def test_names_and_colours_are_those_of_the_project_also_where_they_were_renamed():
    own = reader(("Channel 1", "Channel 2", "Channel 3", "Channel 4"))
    shown = view(slide(channel_colors=COLORS), own)
    assert (shown.names, shown.colors, shown.dtype) == (NAMES, COLORS, "uint16")
    assert shown.file_names == ("Channel 1", "Channel 2", "Channel 3", "Channel 4")
    assert not shown.is_rgb
    assert view(slide(), own).colors == ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 224, 0))


def test_without_a_word_of_the_project_channels_are_those_of_the_file():
    shown = view(slide((), None, None), reader())
    assert (shown.names, shown.dtype, shown.indices) == (NAMES, "uint16", (0, 1, 2, 3))
    assert view(slide(("", "T cells", "", ""), None, None), reader()).names == (
        "DAPI", "T cells", "CD8", "AF",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("recorded", "problem"),
    [
        (slide(NAMES[:3]), "another number of channels"),
        (slide((*NAMES, "x")), "another number of channels"),
        (slide(pixel_type="UINT8"), "another type of pixels"),
        (slide(pixel_type="UINT32"), "another type of pixels"),
        (slide(pixel_type="WHAT"), "another type of pixels"),
        (slide((), "FLOAT32"), "another type of pixels"),
        (slide(("CD3", "DAPI", "CD8", "AF")), "the same channels in another order"),
        (slide(("Red", "Green", "Blue"), "UINT8", True), "another number of channels"),
    ],
)
def test_channels_that_are_not_those_of_the_file_are_refused_with_both(recorded, problem):
    with pytest.raises(SlideError, match=problem) as caught:
        view(recorded, reader())
    text = caught.value.message
    assert text.startswith("a.tif: QuPath recorded ")
    assert "4 channels (DAPI, CD3, CD8, AF) of uint16" in text
    assert ", ".join(recorded.channels) in text
    assert str(recorded.pixel_type) in text


@pytest.mark.parametrize(
    ("chosen", "indices"),
    [((), (0, 1, 2, 3)), (("AF", "dapi"), (3, 0)), ((2,), (1,)), (("CD8", "CD8"), (2, 2))],
)
def test_channels_are_chosen_by_name_or_number_in_the_order_that_is_given(chosen, indices):
    shown = view(slide(channel_colors=COLORS), reader(), channels=chosen)
    assert shown.indices == indices
    assert shown.names == tuple(NAMES[i] for i in indices)
    assert shown.colors == tuple(COLORS[i] for i in indices)
    assert shown.whole.names == NAMES


def test_an_unknown_channel_is_an_error_of_the_slide_with_all_names():
    with pytest.raises(PlanError, match="a.tif: No channel is called 'CD4'.*1 DAPI, 2 CD3"):
        view(slide(), reader(), channels=["CD4"])


@pytest.mark.parametrize(
    ("channels", "is_rgb", "dtype", "chosen", "expected"),
    [
        (None, None, "uint8", (), True),
        (None, True, "uint8", (), True),
        (None, False, "uint8", (), False),
        (("a", "b", "c"), None, "uint8", (), False),
        (("a", "b", "c"), True, "uint8", (), True),
        (None, None, "uint16", (), False),
        (None, True, "uint8", ("Red",), False),
        (None, True, "uint8", (3, 2, 1), False),
    ],
)
def test_what_is_rgb(channels, is_rgb, dtype, chosen, expected):
    own = MemoryReader(array(3, dtype), channels=channels)
    assert view(slide((), None, is_rgb), own, channels=chosen).is_rgb is expected


def chain(*steps):
    """Return a builder over the file; each step is a mapping of its keys."""
    builder = URI
    for step in steps:
        builder = {**step, "builder": builder}
    return builder


def recorded(names, pixel_type):
    colors = range(len(names))
    channels = [{"name": n, "color": c} for n, c in zip(names, colors, strict=True)]
    return {"metadata": {"channels": channels, "pixelType": pixel_type, "isRGB": False}}


def test_steps_take_their_channels_by_the_names_that_the_project_gave_the_step_before():
    file = reader()
    builder = chain(
        {"builderType": "color", "transforms": [{"channelName": "Nuclei"}, {"channel": 1}]}
    )
    renamed = {**URI, **recorded(("Nuclei", "T", "CD8", "AF"), "UINT16")}
    shown = view(slide((), None, None, {**builder, "builder": renamed}), file)
    assert (shown.names, shown.dtype, shown.colors) == (
        ("Nuclei", "T"),
        "float32",
        ((0, 0, 0), (0, 0, 1)),
    )
    pixels, _ = read_patch(file, mapping(builder), Box(0, 0, 20, 12), (20, 12), view=shown)
    np.testing.assert_array_equal(pixels, array()[..., :2].astype(np.float32))


def test_what_is_recorded_of_a_step_is_compared_with_what_the_step_makes():
    step = {"builderType": "typeConvert", "pixelType": "UINT8"}
    with pytest.raises(SlideError, match="the step 'typeConvert' has another type of pixels"):
        view(slide(builder=chain(step)), reader())
    wrong = {**URI, **recorded(NAMES, "UINT8")}
    with pytest.raises(SlideError, match="the file has another type of pixels"):
        view(slide((), None, builder={**step, "builder": wrong}), reader())
    assert view(slide(pixel_type="UINT8", builder=chain(step)), reader()).dtype == "uint8"


def mapping(builder, size=(20, 12)):
    return coordinate_map(ServerBuilder(builder), file_size=size, bounds=None)


ROTATED = {"builderType": "rotated", "rotation": "ROTATE_90"}
CROPPED = {
    "builderType": "cropped",
    "region": {"x": 3, "y": 2, "width": 8, "height": 9, "z": 0, "t": 0},
}


def test_chosen_channels_of_a_turned_and_cropped_image_are_read_where_qupath_shows_them():
    pixels = array()
    own = MemoryReader(pixels, channels=NAMES)
    turned = np.rot90(pixels, -1)[2:11, 3:11][..., [2, 0]]
    coordinates = mapping(chain(ROTATED, CROPPED))
    shown = view(slide(builder=chain(ROTATED, CROPPED)), own, channels=("CD8", "DAPI"))
    found, mask = read_patch(own, coordinates, Box(0, 0, 8, 9), (8, 9), view=shown)
    np.testing.assert_array_equal(found, turned)
    assert mask is None
    found, mask = read_patch(own, coordinates, Box(-2, -1, 8, 9), (8, 9), view=shown)
    np.testing.assert_array_equal(found[1:, 2:], turned[:8, :6])
    assert not found[~mask].any()
    assert mask.sum() == 8 * 6


class Asked(MemoryReader):
    """Notes the channels that it is asked for."""

    asked = None

    def read_many(self, boxes, size, plane=FIRST_PLANE, channels=None):
        self.asked = channels
        return super().read_many(boxes, size, plane, channels)


@pytest.mark.parametrize(
    ("chosen", "asked"), [((), None), (("AF",), (3,)), ((4, 1), (3, 0)), ((1, 2, 3, 4), None)]
)
def test_only_what_is_exported_is_asked_of_the_reader(chosen, asked):
    own = Asked(array(), channels=NAMES)
    shown = view(slide(), own, channels=chosen)
    read_patches(own, mapping(URI), np.array([[0, 0, 4, 4]]), (4, 4), view=shown)
    assert own.asked == asked


def test_the_background_goes_through_the_steps_too():
    """White outside an image of RGB has no stain, so that separated stains are 0 there."""
    step = {"builderType": "color_deconvolved", "stains": STAINS, "channels": [1, 2]}
    own = MemoryReader(array(3, "uint8"))
    shown = view(slide((), None, None, chain(step)), own)
    found, mask = read_patch(own, mapping(chain(step)), Box(15, 0, 10, 12), (10, 12), view=shown)
    assert found.shape == (12, 10, 2)
    np.testing.assert_array_equal(found[~mask], np.zeros((60, 2), np.float32))
    assert found[mask].any(axis=0).all()


def test_a_step_applies_to_resampled_pixels_as_in_qupath():
    pixels = array(2, "uint8")
    own = MemoryReader(pixels, channels=("a", "b"))
    step = {"builderType": "color", "transforms": [{"combineType": "MAXIMUM"}]}
    shown = view(slide((), None, None, chain(step)), own)
    found, _ = read_patch(own, mapping(chain(step)), Box(0, 0, 20, 12), (10, 6), view=shown)
    sums = pixels.reshape(6, 2, 10, 2, 2).astype(int).sum(axis=(1, 3))
    np.testing.assert_array_equal(found[..., 0], ((sums + 2) // 4).max(axis=-1))


def test_an_affine_image_has_as_many_channels_as_are_exported():
    half = {"m00": 1, "m10": 0, "m01": 0, "m11": 1, "m02": 0.5, "m12": 0}
    builder = chain({"builderType": "affine", "transform": half})
    own = MemoryReader(
        np.broadcast_to(np.arange(20.0)[None, :, None] * [1, 10, 100, 0.5], (12, 20, 4)).copy(),
        channels=NAMES,
    )
    shown = view(slide((), None, None, builder), own, channels=("CD8", "AF"))
    found, _ = read_patch(own, mapping(builder), Box(4, 3, 6, 5), (6, 5), view=shown)
    ramp = np.broadcast_to((np.arange(4, 10) - 0.5)[None, :, None] * [100, 0.5], (5, 6, 2))
    np.testing.assert_allclose(found, ramp)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_projection_takes_the_largest_value_of_all_slices_of_the_time_point(dtype):
    stack = array(2, dtype, planes=(2, 3))
    own = MemoryReader(stack, channels=("a", "b"))
    shown = view(slide((), None, None), own, projection="max", channels=("b",))
    boxes, coordinates = np.array([[0, 0, 20, 12]]), mapping(URI)
    for t in (0, 1):
        for z in (0, 2):
            found, mask = read_patches(own, coordinates, boxes, (20, 12), Plane(z, t), shown)
            assert (found.dtype, mask) == (stack.dtype, None)
            np.testing.assert_array_equal(found[0], stack[t].max(axis=0)[..., 1:])
    plain = view(slide((), None, None), own)
    found, _ = read_patches(own, coordinates, boxes, (20, 12), Plane(2, 1), plain)
    np.testing.assert_array_equal(found[0], stack[1, 2])


def test_a_slice_without_a_number_does_not_hide_the_others_in_a_projection():
    stack = np.full((1, 2, 3, 3, 1), np.nan, np.float32)
    stack[0, 0, 1, 1] = -5
    own = MemoryReader(stack)
    shown = view(slide((), None, None), own, projection="max")
    found, _ = read_patch(own, mapping(URI, (3, 3)), Box(0, 0, 3, 3), (3, 3), view=shown)
    assert found[1, 1, 0] == -5
    assert np.isnan(found).sum() == 8


def test_a_projection_comes_after_the_steps():
    """The largest amount of a stain is where the light is least."""
    stack = array(3, "uint8", planes=(1, 2))
    step = {"builderType": "color_deconvolved", "stains": STAINS, "channels": [1]}
    own = MemoryReader(stack)
    one = slide((), None, None, chain(step))
    box, coordinates = (Box(0, 0, 20, 12), (20, 12)), mapping(chain(step))
    slices = [read_patch(own, coordinates, *box, Plane(z), view(one, own))[0] for z in (0, 1)]
    found, _ = read_patch(own, coordinates, *box, view=view(one, own, projection="max"))
    np.testing.assert_array_equal(found, np.maximum(*slices))
    assert (slices[0] < slices[1]).any()
    assert (slices[0] > slices[1]).any()


def test_a_small_picture_has_the_channels_and_the_plane_that_are_asked_for():
    stack = array(4, planes=(1, 2))
    own = MemoryReader(stack, channels=NAMES)
    shown = view(slide(), own, channels=("CD3",))
    found, scale = read_thumbnail(own, mapping(URI), 20, Plane(1), shown)
    np.testing.assert_array_equal(found, stack[0, 1][..., 1:2])
    assert scale == (1, 1)


class Passing(MemoryReader):
    """Has JPEG tiles that can be passed through."""

    def read_encoded(self, boxes, size, plane):
        return [b"tile of one slice"] * len(boxes)


@pytest.mark.parametrize(
    ("builder", "options", "passed"),
    [
        (URI, {}, True),
        (URI, {"projection": "max"}, False),
        (URI, {"channels": ("Blue", "Green", "Red")}, False),
        (
            {
                "builderType": "typeConvert",
                "pixelType": "UINT8",
                "builder": {
                    "builderType": "color",
                    "transforms": [{"combineType": "MAXIMUM"}] * 3,
                    "builder": URI,
                },
            },
            {},
            False,
        ),
    ],
)
def test_a_file_tile_is_a_patch_only_where_nothing_is_done_to_its_pixels(builder, options, passed):
    own = Passing(array(3, "uint8", planes=(1, 2)))
    names = () if builder == URI else ("Red", "Green", "Blue")
    asked = {"size": 4, "format": "jpeg", "passthrough": "auto", **options}
    chosen = ExportConfig(**asked)
    shown = slide_view(slide(names, "UINT8", True, builder), chosen, own)
    producer = PatchPixels(mapping(builder), shown, chosen, None, own)
    (patch,) = producer.read(own, np.array([[0, 0, 4, 4]])).patches
    assert isinstance(patch, bytes) is passed


@pytest.mark.parametrize(
    ("builder", "chosen", "expected"),
    [
        (URI, (), 4 * 2),
        (URI, ("AF", "CD3"), 2 * 2),
        (chain({"builderType": "color", "transforms": [{"combineType": "MEAN"}]}), (), 4 * 2),
        (chain({"builderType": "color", "transforms": [{"channel": 1}]}), (), 4),
    ],
)
def test_memory_is_counted_by_what_is_read_or_made_if_that_is_more(builder, chosen, expected):
    own = reader()
    shown = view(slide((), None, None, builder), own, channels=chosen)
    assert shown.pixel_bytes(own.dtype) == expected


def test_a_view_is_a_value():
    step = {"builderType": "color_deconvolved", "stains": STAINS, "channels": [2]}
    shown = view(
        slide((), None, None, chain(step)), MemoryReader(array(3, "uint8")), projection="max"
    )
    again = ChannelView.from_json(json.loads(json.dumps(shown.as_json())))
    assert again == shown == pickle.loads(pickle.dumps(shown))
    assert hash(again) == hash(shown)
    assert "\n" not in repr(shown)


def test_what_decides_pixels_and_names_is_in_the_digest_and_colours_are_not():
    own = reader()
    base = view(slide(channel_colors=COLORS), own).digest_values()
    assert view(slide(), own).digest_values() == base
    for other in (
        view(slide((*NAMES[:3], "x")), own),
        view(slide(), own, channels=(1, 2)),
        view(slide(), own, projection="max"),
    ):
        assert other.digest_values() != base


def test_a_file_alone_is_shown_as_it_is():
    assert file_view(MemoryReader(array(3, "uint8"))).is_rgb
    assert file_view(reader()).names == NAMES


@pytest.mark.parametrize(
    "kind",
    ["channels", "normalized", "swapRedBlue", "sparse", "sliced", "z_projected", "z_concatenated"],
)
def test_steps_that_cannot_be_followed_are_refused_by_name(kind):
    with pytest.raises(CoordinateError, match=f"the step '{kind}'"):
        view(slide(builder=chain({"builderType": kind})), reader())


@pytest.mark.parametrize(
    "step",
    [
        {"builderType": "typeConvert", "pixelType": "UINT32"},
        {"builderType": "typeConvert"},
        {"builderType": "color_deconvolved", "stains": STAINS, "channels": [4]},
        {"builderType": "color_deconvolved", "stains": {**STAINS, "stain3": None}},
        {"builderType": "color_deconvolved", "stains": {**STAINS, "maxRed": 0}},
        {"builderType": "color_deconvolved"},
        {"builderType": "color"},
        {"builderType": "color", "transforms": []},
        {"builderType": "color", "transforms": [{"channel": -1}]},
        {"builderType": "color", "transforms": [{"channelName": 3}]},
        {"builderType": "color", "transforms": [{"stains": STAINS, "stainNumber": 0}]},
        {"builderType": "color", "transforms": [{"channelNamesToCoefficients": {"DAPI": "x"}}]},
        {"builderType": "color", "transforms": [{"channelIndicesToCoefficients": 3}]},
        {"builderType": "color", "transforms": [3]},
    ],
)
def test_a_step_whose_keys_cannot_be_used_is_refused(step):
    with pytest.raises(CoordinateError, match="The project's entry of this image cannot be used"):
        view(slide((), None, None, chain(step)), MemoryReader(array(3, "uint8")))


def test_a_way_to_make_channels_that_is_unknown_is_refused():
    step = {"builderType": "color", "transforms": [{"someday": 1}]}
    with pytest.raises(CoordinateError, match="unknown: someday"):
        view(slide((), None, None, chain(step)), reader())


def test_all_three_stains_are_shown_where_none_is_named():
    step = {"builderType": "color_deconvolved", "stains": STAINS}
    shown = view(slide((), None, None, chain(step)), MemoryReader(array(3, "uint8")))
    assert shown.names == ("Hematoxylin", "DAB", "Residual")
