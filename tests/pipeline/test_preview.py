"""The picture of a plan."""

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.errors import OutputError
from qupath_bridge.pipeline.preview import render_preview


@pytest.fixture
def plan(study):
    with qb.open_project(study.project) as project:
        return qb.plan(project.slides[0], qb.ExportConfig(size=64))


def test_preview_of_a_small_thumbnail_shows_its_legend_whole(plan):
    thumbnail = 100
    small, large = (np.asarray(render_preview(plan, side)) for side in (thumbnail, 700))
    legend_height = large.shape[0] - 500
    assert small.shape[1] > thumbnail  # the legend is wider than this thumbnail
    legends = [picture[-legend_height:] for picture in (small, large)]
    width = min(legend.shape[1] for legend in legends)
    np.testing.assert_array_equal(legends[0][:, :width], legends[1][:, :width])
    assert (legends[1][:, width:] == 255).all()


def test_preview_is_as_wide_as_a_thumbnail_that_is_wider_than_the_legend(plan):
    assert render_preview(plan, 700).width == 700


def test_preview_must_be_a_png_file_and_replaces_pictures_only(plan, tmp_path):
    with pytest.raises(OutputError, match=r"Preview must end in \.png"):
        plan.preview(tmp_path / "plan.jpg")
    text = tmp_path / "notes.png"
    text.write_text("notes", encoding="utf-8")
    with pytest.raises(OutputError, match="exists and is not a PNG picture"):
        plan.preview(text)
    assert text.read_text(encoding="utf-8") == "notes"
