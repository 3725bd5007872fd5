import math

import pytest

from qupath_bridge.errors import PlanError
from qupath_bridge.geometry.calibration import check_pixel_size, resolve_pixel_size
from qupath_bridge.model import PixelSize

PROJECT = PixelSize(0.25, 0.25, "project")


@pytest.mark.parametrize(
    ("user", "project", "slide", "expected"),
    [
        (0.4, PROJECT, (0.5, 0.5), PixelSize(0.4, 0.4, "user")),
        (None, PROJECT, (0.25, 0.25), PROJECT),
        (None, None, (0.5, 0.5), PixelSize(0.5, 0.5, "slide")),
        (None, PROJECT, None, PROJECT),
        (0.4, None, None, PixelSize(0.4, 0.4, "user")),
        (None, None, None, None),
        (None, None, (0.0, 0.5), None),
        (None, None, (math.nan, 0.5), None),
        (None, None, (math.inf, 0.5), None),
        (None, PROJECT, (-1.0, 0.5), PROJECT),
    ],
)
def test_pixel_size_is_the_users_then_the_projects_then_the_slides(user, project, slide, expected):
    assert resolve_pixel_size(user, project, slide)[0] == expected


@pytest.mark.parametrize(
    ("slide", "reported"),
    [
        ((0.25, 0.25), False),
        ((0.2525, 0.25), False),  # 1 % is not more than 1 %
        ((0.2475248, 0.25), False),
        ((0.2526, 0.25), True),
        ((0.25, 0.2526), True),
        ((0.247, 0.247), True),
        ((0.5, 0.5), True),
    ],
)
def test_pixel_sizes_that_differ_are_reported(slide, reported):
    size, notes = resolve_pixel_size(None, PROJECT, slide)
    assert size == PROJECT
    assert len(notes) == reported
    if reported:
        assert "0.25 µm" in notes[0] and f"{slide[0]:g}" in notes[0] and f"{slide[1]:g}" in notes[0]


@pytest.mark.parametrize(
    ("project", "slide", "reported"),
    [
        (PROJECT, (0.5, 0.5), "project says 0.25 µm"),
        (None, (0.5, 0.3), "slide says 0.5 x 0.3 µm"),
        (PixelSize(0.3, 0.302, "project"), (0.5, 0.5), None),
        (None, None, None),
    ],
)
def test_pixel_size_of_the_user_is_reported_if_it_differs(project, slide, reported):
    size, notes = resolve_pixel_size(0.3, project, slide)
    assert size == PixelSize(0.3, 0.3, "user")
    assert len(notes) == (reported is not None)
    assert all("0.3 µm as given" in note and reported in note for note in notes)


@pytest.mark.parametrize("origin", ["project", "slide"])
def test_pixel_sizes_that_are_not_square_are_reported(origin):
    pair = (0.25, 0.26)
    project = PixelSize(*pair, "project") if origin == "project" else None
    size, notes = resolve_pixel_size(None, project, pair)
    assert size == PixelSize(*pair, origin)
    assert len(notes) == 1
    assert "not square" in notes[0] and "0.26" in notes[0] and origin in notes[0]
    assert resolve_pixel_size(None, None, (0.25, 0.2524))[1] == ()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (PixelSize(250.0, 250.0, "project"), "250 µm, as the project says"),
        (PixelSize(0.25, 100.5, "slide"), "0.25 x 100.5 µm, as the slide says"),
        (PixelSize(0.0099, 0.25, "project"), "0.0099 x 0.25 µm, as the project says"),
        (PixelSize(1e-7, 1e-7, "user"), "1e-07 µm, as this run says"),
    ],
)
def test_pixel_sizes_that_no_slide_has_are_refused(size, text):
    with pytest.raises(PlanError, match="a slide has 0.01 to 100 µm") as caught:
        check_pixel_size(size)
    assert text in caught.value.message
    assert "the option pixel_size" in caught.value.hint


@pytest.mark.parametrize("side", [None, 0.01, 0.25, 100.0])
def test_pixel_sizes_of_slides_are_believed(side):
    check_pixel_size(None if side is None else PixelSize(side, side, "project"))
