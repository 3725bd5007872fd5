"""Pictures of slides with channels, for people: previews and reports."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.pipeline.preview import render_preview
from qupath_bridge.pipeline.preview_legend import HEAD
from qupath_bridge.pixels.composite import composite
from qupath_bridge.pixels.display_ranges import auto_range
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support import stacks

pytestmark = pytest.mark.usefixtures("stack_reader")


def shown(pixels, channels=(0, 1, 2, 3)):
    """Return pixels of a small slide as QuPath shows them."""
    colors = [stacks.COLORS[n] for n in channels]
    ranges = [auto_range(pixels[..., n]) for n in channels]
    return composite(pixels[..., list(channels)], colors, ranges), colors, ranges


def plan_of(stack_study, **options):
    with qb.open_project(stack_study.project) as project:
        config = qb.ExportConfig(**{"size": 64, "format": "npy", **options})
        return qb.plan(project.slides[0], config, options=qb.RunOptions(reader="stack"))


@pytest.mark.parametrize("channels", [(0, 1, 2, 3), (2, 0)])
def test_previews_are_composites_in_the_colours_of_the_project(stack_study, channels):
    plan = plan_of(stack_study, channels=[stacks.NAMES[n] for n in channels], within="Nothing")
    assert not len(plan)
    picture = np.asarray(render_preview(plan))
    expected, *_ = shown(stack_study.pixels, channels)
    # Where neither marks nor outlines nor the scale are drawn.
    found = picture[HEAD + 6 : HEAD + 26, 6:26]
    np.testing.assert_array_equal(found, expected[6:26, 6:26])
    right = picture[HEAD + 70 : HEAD + 86, 230:246]
    np.testing.assert_array_equal(right, expected[70:86, 230:246])


def test_previews_show_the_plane_that_is_exported(tmp_path):
    pixels = stacks.stack(planes=(2, 3))
    stack_study = stacks.stack_study(tmp_path / "stack_study", pixels)
    plan = plan_of(stack_study, plane=(2, 1), within="Nothing")
    picture = np.asarray(render_preview(plan))
    # QuPath's ranges are those of the slice and time point in the middle.
    middle, chosen = pixels[1, 1], pixels[1, 2]
    ranges = [auto_range(middle[..., n]) for n in range(4)]
    expected = composite(chosen, stacks.COLORS, ranges)
    np.testing.assert_array_equal(picture[HEAD + 6 : HEAD + 26, 6:26], expected[6:26, 6:26])


def test_previews_of_rgb_slides_are_as_they_were(tmp_path):
    path = write_slide(tmp_path / "a.tiff", marker_image(320, 240), mpp=0.5)
    from qupath_bridge.testing.projects import Image, build_memory_project

    slide = build_memory_project([Image(path)]).slides[0]
    for composite_ in (False, True):
        config = qb.ExportConfig(size=64, within="Nothing", composite=composite_)
        plan = qb.plan(slide, config)
        assert plan.display is None
        picture = np.asarray(render_preview(plan))
        np.testing.assert_array_equal(
            picture[HEAD + 6 : HEAD + 26, 6:26], marker_image(320, 240)[6:26, 6:26]
        )


def pictures_of(page):
    found = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", page)
    return [Picture.open(io.BytesIO(base64.b64decode(text))) for text in found]


def export(stack_study, out, **options):
    config = qb.ExportConfig(**{"size": 64, "format": "npy", **options})
    run = qb.export(stack_study.project, out, config, reader="stack", workers=1)
    assert not run.failures
    return run


def near(picture, expected):
    """Return whether a lossy picture shows an array."""
    found = np.asarray(picture.convert("RGB")).astype(int)
    return found.shape == expected.shape and np.abs(found - expected).mean() < 4


@pytest.mark.parametrize("options", [{}, {"container": "zarr"}, {"composite": True}])
def test_reports_show_slide_and_patches_as_composites(stack_study, options, tmp_path):
    options = {"format": "npy", **options}
    if "container" in options:
        options.pop("format")
    export_options = {**options}
    config = qb.ExportConfig(size=64, **export_options)
    run = qb.export(stack_study.project, tmp_path / "out", config, reader="stack", workers=1)
    qb.report(tmp_path / "out", reader="stack")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    pictures = pictures_of(page)
    expected, colors, ranges = shown(stack_study.pixels)
    assert near(pictures[0], expected)
    for row in run.table().to_pylist():
        x, y, w, h = (row[f"{side}_qupath"] for side in "xywh")
        patch = composite(stack_study.pixels[y : y + h, x : x + w], colors, ranges)
        assert any(near(each, patch) for each in pictures[1:])
    low, high = (f"{value:.4g}" for value in ranges[0])
    assert f"DAPI ({low} to {high})" in page


def test_a_report_without_the_slide_file_shows_patches_as_composites(tmp_path):
    stack_study = stacks.stack_study(tmp_path / "stack_study")
    run = export(stack_study, tmp_path / "out", channels=["CD3"])
    stack_study.slide.unlink()
    qb.report(tmp_path / "out", reader="stack")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    rows = [row for row in run.table().to_pylist() if row["label"] == "Tumor"]
    patches = [
        stack_study.pixels[
            r["y_qupath"] : r["y_qupath"] + 64, r["x_qupath"] : r["x_qupath"] + 64, 1:2
        ]
        for r in rows
    ]
    limits = auto_range(np.concatenate([patch.ravel() for patch in patches]))
    for patch in patches:
        expected = composite(patch, [stacks.COLORS[1]], [limits])
        assert any(near(each, expected) for each in pictures_of(page))
