"""The picture of a plan."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import qupath_bridge as qb
from qupath_bridge.errors import OutputError
from qupath_bridge.model import Reason
from qupath_bridge.pipeline import preview, preview_legend
from qupath_bridge.pipeline.preview import render_preview
from qupath_bridge.pipeline.preview_layers import draw_patch
from qupath_bridge.pipeline.preview_legend import (
    HEAD,
    at_edge,
    draw_mark,
    edge_of,
    put_text,
    readable,
    scale_length,
    text_length,
)


@pytest.fixture
def plan(study):
    with qb.open_project(study.project) as project:
        return qb.plan(project.slides[0], qb.ExportConfig(size=64))


def test_preview_of_a_small_thumbnail_shows_its_legend_whole(plan):
    thumbnail = 100
    small, large = (np.asarray(render_preview(plan, side)) for side in (thumbnail, 700))
    legend_height = large.shape[0] - 500 - HEAD
    assert small.shape[1] > thumbnail  # the legend is wider than this thumbnail
    legends = [picture[-legend_height:] for picture in (small, large)]
    width = min(legend.shape[1] for legend in legends)
    np.testing.assert_array_equal(legends[0][:, :width], legends[1][:, :width])
    assert (legends[1][:, width:] == 255).all()


def test_preview_is_as_wide_as_a_thumbnail_that_is_wider_than_the_legend(plan):
    assert render_preview(plan, 700).width == 700


@pytest.mark.parametrize(
    ("name", "signature"),
    [("a.png", b"\x89PNG"), ("a.jpg", b"\xff\xd8\xff"), ("a.JPEG", b"\xff\xd8")],
)
def test_preview_is_a_png_or_jpeg_picture(plan, tmp_path, name, signature):
    plan.preview(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(signature)
    plan.preview(tmp_path / name)  # a picture may be replaced
    with Image.open(tmp_path / name) as picture:
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(render_preview(plan))).mean() < 8


def test_preview_must_end_as_a_picture_and_replaces_pictures_only(plan, tmp_path):
    with pytest.raises(OutputError, match=r"Preview must end in \.png, \.jpg, \.jpeg"):
        plan.preview(tmp_path / "plan.gif")
    for name in ("notes.png", "notes.jpg"):
        text = tmp_path / name
        text.write_text("notes", encoding="utf-8")
        with pytest.raises(OutputError, match="exists and is not a PNG or JPEG picture"):
            plan.preview(text)
        assert text.read_text(encoding="utf-8") == "notes"


@pytest.fixture
def texts(monkeypatch):
    """All texts that are drawn, in order."""
    drawn = []

    def text(pen, place, content, font):
        drawn.append(content)
        return put_text(pen, place, content, font)

    for module in (preview, preview_legend):
        monkeypatch.setattr(module, "put_text", text)
    return drawn


@pytest.mark.parametrize("side", [0.3, 1.0, 1.4, 2.0, 3.9])
def test_very_small_boxes_are_filled_and_let_the_tissue_through(side):
    """A slide of 100,000 pixels has boxes of one pixel in its preview."""
    layer = Image.new("RGBA", (20, 20))
    draw_patch(ImageDraw.Draw(layer), (5.0, 6.0, side, side), (200, 0, 0))
    pixels = np.asarray(layer)
    assert tuple(pixels[6, 5, :3]) == (200, 0, 0)
    assert 0 < pixels[..., 3].max() < 160
    assert (pixels[..., 3] > 0).sum() <= (side + 1) ** 2


def test_larger_boxes_have_an_outline():
    layer = Image.new("RGBA", (20, 20))
    draw_patch(ImageDraw.Draw(layer), (5.0, 5.0, 8.0, 8.0), (200, 0, 0))
    alpha = np.asarray(layer)[..., 3]
    assert alpha.max() == 255
    assert 0 < alpha[9, 9] < 100


def test_micrometres_are_written_with_a_stem():
    """The font that comes with Pillow shows a box in place of µ."""
    font = ImageFont.load_default(size=18)
    pictures = {}
    for text in ("5 um", "5 µm"):
        sheet = Image.new("L", (80, 30), 255)
        put_text(ImageDraw.Draw(sheet), (5, 4), text, font)
        pictures[text] = np.asarray(sheet)
    assert text_length(font, "5 µm") == font.getlength("5 um")
    changed = pictures["5 um"] != pictures["5 µm"]
    rows, columns = np.nonzero(changed)
    u = 5 + font.getlength("5 ")
    assert u <= columns.min() <= columns.max() <= u + 4
    baseline, below = 4 + font.getbbox("u")[3], 4 + font.getbbox("p")[3]
    assert rows.max() in range(baseline + 2, below + 1)
    assert (pictures["5 µm"][baseline + 1 : below, columns.min()] < 128).all()


def test_preview_says_name_size_scale_and_what_its_marks_mean(plan, texts):
    render_preview(plan)
    bar, name, scale, *legend = texts
    assert bar == "50 µm"
    assert name == plan.slide.name
    assert scale == "700 x 500 px, 0.5 µm/px; patches of 64 px at 0.5 µm/px, native"
    counts = plan.label_counts()
    assert legend[: len(counts)] == [
        f"{label}: {n} patch{'' if n == 1 else 'es'}" for label, n in counts.items()
    ]
    outlines = [text for text in legend if text.startswith("outline of")]
    assert sum(int(text.split()[2]) for text in outlines) == len(plan.annotations)
    assert any(text.endswith(": no class") for text in outlines)
    dropped = {str(reason): n for reason, n in plan.dropped.items() if n}
    assert legend[len(counts) + len(outlines) :] == [
        f"not written, {reason}: {n} box{'' if n == 1 else 'es'}" for reason, n in dropped.items()
    ]


def test_each_box_of_the_grid_is_kept_or_has_a_reason(plan):
    boxes = plan.grid.boxes()
    (codes,) = plan.reasons
    assert len(codes) == len(boxes)
    reasons = np.array(list(codes))
    kept = boxes[reasons == 255]
    np.testing.assert_array_equal(kept, plan.table.boxes)
    for code, reason in enumerate(Reason):
        inside = 0 if reason is Reason.EDGE else plan.dropped[reason]
        assert (reasons == code).sum() == inside


def test_the_mark_of_a_dropped_box_is_in_its_middle(plan):
    """At full size: 700 x 500 pixels, boxes of 64; a dot for "no label"."""
    bare = replace(plan, annotations=())
    picture = np.asarray(render_preview(bare, 700)).astype(int)[HEAD:]
    hidden = np.asarray(render_preview(replace(bare, reasons=(b"\xff" * len(plan.grid),)), 700))
    changed = np.abs(picture - hidden.astype(int)[HEAD:]).max(axis=-1)[:500] > 0
    for (x, y, w, h), code in zip(plan.grid.boxes().tolist(), plan.reasons[0], strict=True):
        if 12 < y < 400:  # the scale bar covers the lowest
            middle = changed[y + h // 2 - 2 : y + h // 2 + 2, x + w // 2 - 2 : x + w // 2 + 2]
            assert middle.any() == (code != 255)


@pytest.mark.parametrize("edge", ["drop", "pad"])
@pytest.mark.parametrize("stride", [64, 48])
def test_boxes_that_cross_the_edge_have_a_mark(study, texts, edge, stride, monkeypatch):
    """700 x 500 pixels, boxes of 64: by hand, which cross the right and the lower edge."""
    config = qb.ExportConfig(size=64, stride=stride, edge=edge, labels=False)
    with qb.open_project(study.project) as project:
        plan = replace(qb.plan(project.slides[0], config), annotations=())
    crossing = [
        [x, y, 64, 64]
        for y in range(0, 500, stride)
        for x in range(0, 700, stride)
        if x + 64 > 700 or y + 64 > 500
    ]
    assert plan.grid.crossing().tolist() == crossing
    written = plan.table.boxes.tolist()
    cut = crossing if edge == "drop" else [box for box in crossing if box in written]
    assert at_edge(plan).tolist() == cut
    picture = np.asarray(render_preview(plan, 700))[HEAD : HEAD + 500]
    said = {
        "drop": f"not written, edge: {len(cut)} boxes",
        "pad": f"of these padded at the edge: {len(cut)} patches",
    }
    assert [text for text in texts if "edge" in text] == [said[edge]]
    monkeypatch.setattr(preview, "at_edge", lambda plan: np.empty((0, 4), int))
    changed = (picture != np.asarray(render_preview(plan, 700))[HEAD : HEAD + 500]).any(axis=-1)
    for x, y, w, h in crossing:
        wide, high = min(w, 700 - x), min(h, 500 - y)
        middle, radius = (x + wide / 2, y + high / 2), min(wide, high, 24) / 4
        columns = slice(round(middle[0] - radius), round(middle[0] + radius) + 1)
        rows = slice(round(middle[1] - radius), round(middle[1] + radius) + 1)
        if y < 400:  # the scale bar covers the lowest
            assert changed[rows, columns].any() == ([x, y, w, h] in cut)
            changed[rows, columns] = False
    assert not changed[:400].any()


def test_each_reason_has_its_own_mark():
    marks = set()
    for other in list(Reason)[:6]:
        picture = Image.new("RGB", (30, 30), "white")
        draw_mark(ImageDraw.Draw(picture), other, (15, 15), 6)
        marks.add(picture.tobytes())
    assert len(marks) == 6


@pytest.mark.parametrize("color", [(255, 255, 255), (255, 255, 0), (250, 200, 220), (0, 255, 255)])
def test_pale_classes_can_be_read_on_glass(color):
    """Contrast ratio as for large text: 3 to 1 at least between ink or edge and white."""

    def luminance(rgb):
        parts = [v / 255 for v in rgb]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for ink in (readable(color), edge_of(color)):
        assert 1.05 / (luminance(ink) + 0.05) >= 3
    assert readable((0, 0, 120)) == (0, 0, 120)
    assert edge_of((0, 0, 120)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("longest", "known", "found"),
    [
        (1.0, True, (1, "1 µm")),
        (0.7, True, (0.5, "0.5 µm")),
        (499, True, (200, "200 µm")),
        (1000, True, (1000, "1 mm")),
        (6000, True, (5000, "5 mm")),
        (320, False, (200, "200 px")),
    ],
)
def test_scale_bars_have_round_lengths(longest, known, found):
    assert scale_length(longest, known=known) == found


def test_the_scale_bar_is_as_long_as_it_says(plan):
    picture = np.asarray(render_preview(plan, 700))[HEAD : HEAD + 500]
    row = (picture[500 - 14, 12:240] == 0).all(axis=-1)
    assert row.argmin() == 50 / 0.5 + 1  # both ends are drawn
