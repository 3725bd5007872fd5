import json
import math

import numpy as np
import pytest

from qupath_bridge.errors import CoordinateError
from qupath_bridge.geometry.chain import read_chain
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import Box, ServerBuilder
from tests.support.builders import affine, cropped, flipped, rotated

OPENSLIDE = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"
BIOFORMATS = "qupath.lib.images.servers.bioformats.BioFormatsServerBuilder"
SIZE = (300, 200)
BOUNDS = Box(30, 20, 120, 90)


def uri(provider=OPENSLIDE, args=(), **more):
    named = {} if provider is None else {"providerClassName": provider}
    return {"builderType": "uri", **named, "uri": "file:/secret/a.svs", "args": list(args), **more}


def turn(builder, degrees, scale=1.0, x=0.0, y=0.0):
    cosine, sine = (f(math.radians(degrees)) * scale for f in (math.cos, math.sin))
    return affine(builder, cosine, sine, -sine, cosine, x, y)


def recorded(builder, width, height):
    return {**builder, "metadata": {"width": width, "height": height, "name": "private"}}


def frame_of(builder, size=SIZE, bounds=None):
    return coordinate_map(ServerBuilder(builder), file_size=size, bounds=bounds)


@pytest.mark.parametrize(
    ("builder", "size", "box"),
    [
        # Where the box (10, 20) + 5 x 7 of QuPath's image is in a file of 300 x 200.
        (uri(), (300, 200), (10, 20, 5, 7)),
        (rotated(uri(), "NONE"), (300, 200), (10, 20, 5, 7)),
        (rotated(uri(), 90), (200, 300), (20, 200 - 10 - 5, 7, 5)),
        (rotated(uri(), 180), (300, 200), (300 - 10 - 5, 200 - 20 - 7, 5, 7)),
        (rotated(uri(), 270), (200, 300), (300 - 20 - 7, 10, 7, 5)),
        (flipped(uri(), "NONE"), (300, 200), (10, 20, 5, 7)),
        (flipped(uri(), "HORIZONTAL"), (300, 200), (300 - 10 - 5, 20, 5, 7)),
        (flipped(uri(), "VERTICAL"), (300, 200), (10, 200 - 20 - 7, 5, 7)),
        (flipped(uri(), "BOTH"), (300, 200), (300 - 10 - 5, 200 - 20 - 7, 5, 7)),
        (cropped(uri(), 40, 50, 100, 80), (100, 80), (50, 70, 5, 7)),
        (cropped(uri(), -4, -5, 100, 80), (100, 80), (6, 15, 5, 7)),
        ({"builderType": "pyramidize", "builder": uri()}, (300, 200), (10, 20, 5, 7)),
        # The origin of an affine step is not moved: only the size is that of the bounding box.
        (affine(uri(), m02=4, m12=-3), (300, 200), (6, 23, 5, 7)),
        (affine(uri(), 0, 1, -1, 0, 200), (200, 300), (20, 200 - 10 - 5, 7, 5)),
        # The cosine of 90 degrees as a float is 6e-17; QuPath rounds that size up, too.
        (turn(uri(), 90, x=200), (201, 300), (20, 200 - 10 - 5, 7, 5)),
        (affine(uri(), 2, 0, 0, 2), (600, 400), (5, 10, 3, 4)),
        # Flipped first, then rotated: not the same as the other way round.
        (rotated(flipped(uri(), "VERTICAL"), 90), (200, 300), (20, 10, 7, 5)),
        (flipped(rotated(uri(), 90), "VERTICAL"), (200, 300), (300 - 20 - 7, 200 - 10 - 5, 7, 5)),
    ],
)
def test_coordinate_map_of_each_builder_step(builder, size, box):
    coordinates = frame_of(builder)
    assert coordinates.size == size
    assert coordinates.slide_box(Box(10, 20, 5, 7)) == Box(*box)
    assert coordinates.slide_boxes(np.array([[10, 20, 5, 7]] * 3)).tolist() == [list(box)] * 3
    assert coordinates.slide_boxes(np.zeros((0, 4), np.int64)).shape == (0, 4)
    points = np.array([[0.0, 0.0], [3.25, 7.5], [100.0, 60.0]])
    np.testing.assert_allclose(
        coordinates.to_qupath(coordinates.to_slide(points)), points, atol=1e-9
    )


@pytest.mark.parametrize(
    ("provider", "args", "offset"),
    [
        (OPENSLIDE, (), (30, 20)),
        ("OpenslideServerBuilder", (), (30, 20)),
        ("openslide", (), (30, 20)),
        ("qupath.lib.images.servers.openslide.OpenslideImageServer", (), (30, 20)),
        (OPENSLIDE, ("--icc-profile",), (30, 20)),
        (OPENSLIDE, ("--no-crop",), None),
        (BIOFORMATS, ("--series", "0"), None),
        ("com.example.NotOpenslideServerBuilder", (), None),
        (None, (), None),
    ],
)
def test_bounds_crop_only_with_openslide(provider, args, offset):
    coordinates = frame_of(uri(provider, args), bounds=BOUNDS)
    x, y = offset or (0, 0)
    assert coordinates.size == ((120, 90) if offset else SIZE)
    assert coordinates.slide_box(Box(1, 2, 3, 4)) == Box(x + 1, y + 2, 3, 4)
    assert coordinates.describe()["bounds_offset"] == (list(offset) if offset else None)


@pytest.mark.parametrize("bounds", [Box(-7, -5, 120, 90), Box(250, 150, 120, 90)])
def test_bounds_are_not_clipped(bounds):
    coordinates = frame_of(uri(), bounds=bounds)
    assert coordinates.size == (120, 90)
    assert coordinates.slide_box(Box(0, 0, 1, 1)) == Box(bounds.x, bounds.y, 1, 1)


def test_bounds_crop_without_a_named_reader_follows_the_recorded_size():
    with_crop = recorded(uri(None), 120, 90)
    assert frame_of(with_crop, bounds=BOUNDS).slide_box(Box(0, 0, 1, 1))[:2] == (30, 20)
    assert "names no reader" in frame_of(with_crop, bounds=BOUNDS).notes[0]
    assert frame_of(recorded(uri(), 120, 90), bounds=BOUNDS).notes == ()
    assert frame_of(recorded(uri(None), *SIZE), bounds=BOUNDS).size == SIZE
    assert frame_of(recorded(uri(None), *SIZE), bounds=BOUNDS).notes == ()
    again = frame_of(frame_of(with_crop, bounds=BOUNDS).describe()["builder"], bounds=BOUNDS)
    assert again.size == (120, 90)


@pytest.mark.parametrize(
    "kind",
    ["channels", "normalized", "swapRedBlue", "sparse", "sliced", "z_projected",
     "z_concatenated", "my.extension", None, 7],
)  # fmt: skip
@pytest.mark.parametrize("wrap", [lambda builder: builder, lambda builder: rotated(builder, 90)])
def test_builder_steps_that_cannot_be_followed_are_refused_by_name(kind, wrap):
    with pytest.raises(CoordinateError, match=repr(kind)) as caught:
        frame_of(wrap({"builderType": kind, "builder": uri()}))
    assert caught.value.hint


STAIN = {"name": "x", "r": 0.6, "g": 0.7, "b": 0.3}
PIXEL_STEPS = [
    {"builderType": "typeConvert", "pixelType": "FLOAT32"},
    {"builderType": "color", "transforms": [{"channel": 1}, {"channelName": "a"}]},
    {
        "builderType": "color_deconvolved",
        "stains": {
            **{f"stain{n}": {**STAIN, "r": n} for n in (1, 2, 3)},
            **dict.fromkeys(("maxRed", "maxGreen", "maxBlue"), 255.0),
        },
        "channels": [2],
    },
]


@pytest.mark.parametrize("step", PIXEL_STEPS)
def test_builder_steps_that_change_pixels_alone_leave_coordinates_as_they_are(step):
    inner = rotated(uri(), 90)
    plain, found = frame_of(inner), frame_of({**step, "builder": inner})
    assert (found.size, found.matrix, found.source) == (plain.size, plain.matrix, plain.source)
    builder = json.loads(json.dumps(found.describe()["builder"]))
    assert {key: builder[key] for key in step} == step
    again = frame_of(builder)
    assert (again.size, again.matrix) == (found.size, found.matrix)
    outside = frame_of(rotated({**step, "builder": uri()}, 90))
    assert (outside.size, outside.matrix) == (plain.size, plain.matrix)


# What picocli 4.7.7 makes of the arguments, with the options of QuPath 0.7's Bio-Formats reader:
# the series is 0 or not set, a name is not given, and nothing else can change the image.
FIRST_IMAGE = [
    (),
    ("--series", "0"),
    ("--series=0",),
    ("-s", "0"),
    ("-s0",),
    ("-s=0",),
    ("--series", "00"),
    ("--series", "+0"),
    ("--series", "-1"),
    ("-s-1",),
    ("--no-crop", "-s", "0"),
    ("--no-crop", "--icc-profile"),
    ("--icc-profile", "--icc-profile-source", "--series.icc"),
]
OTHER_IMAGE = [
    (("--series", "2"), "series 2"),
    (("--series=2",), "series 2"),
    (("-s", "1"), "series 1"),
    (("-s1",), "series 1"),
    (("-s=1",), "series 1"),
    (("--series", "+1"), r"series \+1"),
    (("--series", "01"), "series 01"),
    (("--no-crop", "-s", "1"), "series 1"),
    (("--foo", "--series", "1"), "--foo"),
    (("--series",), r"series \?"),
    (("--series", "one"), "series one"),
    (("--name", "label"), "--name"),
    (("--name=label",), "--name=label"),
    (("-n", "label"), "-n"),
    (("-nlabel",), "-nlabel"),
    (("-s0", "--name", "label"), "--name"),
    (("--dims", "YXC"), "--dims"),
    (("--bfOptions", "zeissczi.autostitch=false"), "--bfOptions"),
    (("--Series", "1"), "--Series"),  # unknown to QuPath, and maybe not to an extension
    (("--series 1",), "--series 1"),
]


@pytest.mark.parametrize(("args", "named"), OTHER_IMAGE)
@pytest.mark.parametrize("provider", [BIOFORMATS, OPENSLIDE, None, "org.example.Other"])
def test_arguments_that_may_show_another_image_are_refused(args, named, provider):
    with pytest.raises(CoordinateError, match=named) as caught:
        frame_of(rotated(uri(provider, args), 90))
    assert caught.value.hint


@pytest.mark.parametrize("args", FIRST_IMAGE)
def test_arguments_that_show_the_first_image_are_accepted(args):
    assert frame_of(uri(BIOFORMATS, args)).size == SIZE
    assert frame_of({**uri(BIOFORMATS), "args": None}).size == SIZE


@pytest.mark.parametrize(
    ("tail", "args", "named"),
    [
        # Bio-Formats takes the series from the URI, if there are no arguments.
        ("#1", (), "series 1"),
        ("?series=2", (), "series 2"),
        ("?name=slide%20two", (), "--name"),
        ("#0", (), None),
        ("?series=0", (), None),
        ("#1", ("--series", "0"), None),
        ("%231", (), None),  # a sign in the name of the file
    ],
)
def test_series_in_the_uri_is_refused(tail, args, named):
    builder = {**uri(BIOFORMATS, args), "uri": f"file:/secret/a.czi{tail}"}
    if named is None:
        assert frame_of(builder).size == SIZE
        return
    with pytest.raises(CoordinateError, match=named):
        frame_of(builder)


@pytest.mark.parametrize(
    ("builder", "named"),
    [
        ({**rotated(uri(), 90), "rotation": "ROTATE_45"}, "ROTATE_45"),
        ({**rotated(uri(), 90), "rotation": 90}, "90"),
        ({**flipped(uri(), "NONE"), "flip": "DIAGONAL"}, "DIAGONAL"),
        (cropped(uri(), 0, 0, 0, 5), "0 x 5"),
        (cropped(uri(), 0, 0, 5, -1), "5 x -1"),
        (cropped(uri(), 0.5, 0, 5, 5), "region"),
        (cropped(uri(), True, 0, 5, 5), "region"),
        ({"builderType": "cropped", "builder": uri()}, "region"),
        ({"builderType": "affine", "builder": uri()}, "transform"),
        (affine(uri(), m00=math.nan), "finite"),
        (affine(uri(), m12=math.inf), "finite"),
        (affine(uri(), m01="1"), "finite"),
        (affine(uri(), 1, 2, 2, 4), "inverse"),
        ({"builderType": "rotated", "rotation": "ROTATE_90"}, "without a file"),
        ({**uri(), "args": "--no-crop"}, "args"),
        ({**uri(), "args": [1]}, "args"),
        ([], "without a file"),
        (turn(turn(uri(), 30), 20), "one affine transformation over another"),
    ],
)
def test_malformed_builder_chains_are_refused(builder, named):
    with pytest.raises(CoordinateError, match=named):
        frame_of(builder)


def test_missing_rotation_and_flip_mean_no_change_as_in_qupath():
    builder = {"builderType": "rotated", "builder": {"builderType": "flipped", "builder": uri()}}
    assert frame_of(builder).slide_box(Box(1, 2, 3, 4)) == Box(1, 2, 3, 4)


def test_too_long_builder_chains_are_refused():
    endless = {"builderType": "pyramidize"}
    endless["builder"] = endless
    with pytest.raises(CoordinateError, match="more than 64 steps"):
        read_chain(endless)
    chain = uri()
    for _ in range(64):
        chain = {"builderType": "pyramidize", "builder": chain}
    with pytest.raises(CoordinateError, match="more than 64 steps"):
        frame_of(chain)
    assert frame_of(chain["builder"]).size == frame_of(uri()).size


def test_check_size_accepts_only_the_recorded_size():
    frame_of(uri()).check_size(SIZE)
    with pytest.raises(CoordinateError, match=r"301 x 200 pixels.* 300 x 200") as caught:
        frame_of(uri()).check_size((301, 200))
    assert "another" in caught.value.hint
    with pytest.raises(CoordinateError, match=r"300 x 200.* 200 x 300"):
        frame_of(rotated(uri(), 90)).check_size(SIZE)


def test_check_size_names_the_other_choice_of_bounds():
    with pytest.raises(CoordinateError, match=r"300 x 200.* 120 x 90") as caught:
        frame_of(uri(), bounds=BOUNDS).check_size(SIZE)
    assert "without the crop" in caught.value.hint
    with pytest.raises(CoordinateError, match=r"90 x 120.* 200 x 300") as caught:
        frame_of(rotated(uri(OPENSLIDE, ["--no-crop"]), 90), bounds=BOUNDS).check_size((90, 120))
    assert "with the crop" in caught.value.hint
    with pytest.raises(CoordinateError) as caught:
        frame_of(uri(), bounds=BOUNDS).check_size((7, 7))
    assert "bounds" not in caught.value.hint


def test_check_size_compares_the_size_inside_a_crop():
    """A crop has the same size over any file, so what is below it must fit too."""
    builder = cropped(recorded(uri(), *SIZE), 0, 0, 50, 50)
    frame_of(builder).check_size((50, 50))
    with pytest.raises(CoordinateError, match=r"300 x 200 pixels for the step 'uri'.* 299 x 200"):
        frame_of(builder, size=(299, 200)).check_size((50, 50))
    with pytest.raises(CoordinateError, match="'uri'") as caught:
        frame_of(builder, bounds=BOUNDS).check_size((50, 50))
    assert "without the crop" in caught.value.hint


@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        (uri(), (0, False)),
        (rotated(uri(), 90), (1, False)),
        (rotated(uri(), 180), (2, False)),
        (flipped(uri(), "BOTH"), (2, False)),
        (rotated(uri(), 270), (3, False)),
        (flipped(uri(), "HORIZONTAL"), (0, True)),
        (flipped(uri(), "VERTICAL"), (2, True)),
        (rotated(flipped(uri(), "HORIZONTAL"), 90), (1, True)),
        (rotated(flipped(uri(), "VERTICAL"), 90), (3, True)),
        (affine(uri(), -1, 0, 0, 1, 300), (0, True)),
        (turn(uri(), 90), (1, False)),
    ],
)
def test_orientation_of_turned_and_mirrored_images(builder, expected):
    coordinates = frame_of(builder)
    assert coordinates.is_right_angle
    assert coordinates.orientation == expected
    assert coordinates.notes == ()
    described = coordinates.describe()
    assert (described["rotation"], described["flip"]) == (expected[0] * 90, expected[1])


@pytest.mark.parametrize(
    "builder",
    [turn(uri(), 30), affine(uri(), 2, 0, 0, 2), affine(uri(), m02=0.5), affine(uri(), m01=0.1),
     affine(uri(), 1, 0, 0, -2)],
)  # fmt: skip
def test_affine_maps_that_are_not_right_angles(builder):
    coordinates = frame_of(builder)
    assert not coordinates.is_right_angle
    assert "affine" in coordinates.notes[0]
    with pytest.raises(CoordinateError, match="no orientation"):
        coordinates.orientation  # noqa: B018


def test_affine_boxes_are_rounded_outwards():
    coordinates = frame_of(turn(uri(), 30, scale=1.5, x=3, y=-2))
    box = Box(40, 50, 64, 32)
    corners = [(x, y) for x in (40, 104) for y in (50, 82)]
    mapped = coordinates.to_slide(np.array(corners))
    x, y, w, h = coordinates.slide_box(box)
    assert (x, y) == tuple(np.floor(mapped.min(axis=0)))
    assert (x + w, y + h) == tuple(np.ceil(mapped.max(axis=0)))
    # Forwards, as QuPath has it: pixel = transform(base pixel).
    cosine, sine = 1.5 * math.cos(math.radians(30)), 1.5 * math.sin(math.radians(30))
    base = np.array([[10.0, 20.0]])
    expected = (cosine * 10 - sine * 20 + 3, sine * 10 + cosine * 20 - 2)
    np.testing.assert_allclose(coordinates.to_qupath(base)[0], expected)
    assert coordinates.size == (
        math.ceil(300 * cosine + 200 * sine),
        math.ceil(300 * sine + 200 * cosine),
    )
    assert coordinates.describe()["rotation"] == pytest.approx(30)


def test_visible_part_of_the_image():
    assert frame_of(rotated(uri(), 90), bounds=BOUNDS).visible == Box(0, 0, 90, 120)
    assert frame_of(cropped(uri(), -10, 190, 50, 60)).visible == Box(10, 0, 40, 10)
    assert frame_of(cropped(uri(), 500, 0, 50, 60)).visible[2] == 0
    # A crop below another does not hide the slide around it; an affine step does.
    inner = cropped(uri(), 100, 100, 50, 50)
    assert frame_of(cropped(inner, -20, -20, 90, 90)).source == Box(0, 0, *SIZE)
    assert frame_of(affine(inner, m02=3)).source == Box(100, 100, 50, 50)


@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        (uri(), (0.25, 0.5)),
        (rotated(uri(), 90), (0.5, 0.25)),
        (rotated(uri(), 180), (0.25, 0.5)),
        (rotated(uri(), 270), (0.5, 0.25)),
        (flipped(uri(), "BOTH"), (0.25, 0.5)),
        (affine(uri(), 2, 0, 0, 4), (0.125, 0.125)),
        (rotated(affine(uri(), 2, 0, 0, 2), 90), (0.25, 0.125)),
        # One step down is half a pixel to the left in the file.
        (affine(uri(), 1, 0, 0.5, 1), (0.25, math.hypot(0.125, 0.5))),
    ],
)
def test_pixel_size_in_the_view_of_the_coordinate_map(builder, expected):
    assert frame_of(builder).pixel_size((0.25, 0.5)) == pytest.approx(expected)
    assert frame_of(builder).pixel_size(None) is None


def test_description_makes_the_same_coordinate_map_again():
    import json

    builder = recorded(
        rotated(flipped(cropped(turn(recorded(uri(), 120, 90), 30), 5, 6, 70, 60), "BOTH"), 90),
        60, 70,
    )  # fmt: skip
    coordinates = frame_of(builder, bounds=BOUNDS)
    described = json.loads(json.dumps(coordinates.describe()))
    assert "private" not in str(described)
    assert described["crop"] == list(coordinates.slide_box(Box(0, 0, *coordinates.size)))
    assert frame_of(builder["builder"], bounds=BOUNDS).describe()["size"] == [70, 60]
    assert frame_of(described["builder"], bounds=BOUNDS) == coordinates
    assert frame_of(uri()).describe()["crop"] is None
    coordinates.describe()["builder"].clear()
    assert coordinates.describe() == described


def test_digest_values_differ_for_different_content_of_equal_maps():
    # An affine step hides what is around the crop below it; a shift of the whole file does not.
    moved = affine(cropped(uri(), 0, 0, *SIZE), m02=40.0)
    whole = cropped(affine(cropped(uri(), 0, 0, 300, 100), m02=40.0), 0, 0, *SIZE)
    assert frame_of(moved).matrix == frame_of(whole).matrix
    assert frame_of(moved).size == frame_of(whole).size
    assert frame_of(moved).digest_values() != frame_of(whole).digest_values()


def test_digest_values_have_no_paths():
    coordinates = frame_of(uri(args=["--icc-profile"]), bounds=BOUNDS)
    assert coordinates.digest_values() == {
        "size": [120, 90],
        "matrix": [[1.0, 0.0, 30.0], [0.0, 1.0, 20.0]],
        "source": [30, 20, 120, 90],
        "icc": True,
    }
    assert frame_of(uri()).digest_values()["icc"] is False
    assert "ICC" in coordinates.notes[0]
