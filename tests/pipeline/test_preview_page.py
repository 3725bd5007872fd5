"""One page with the pictures of several plans."""

from PIL import Image

import qupath_bridge as qb
from qupath_bridge import api
from qupath_bridge.pipeline.preview_page import COLUMNS, GAP, page_of


def test_pictures_stand_in_rows_and_none_covers_another():
    colours = [(10 * n, 5, 200) for n in range(7)]
    cells = [Image.new("RGB", (40 + n, 30 - n), colour) for n, colour in enumerate(colours)]
    page = page_of(cells)  # 3 columns: 7 pictures in 3 rows
    counted = {colour: n for n, colour in page.getcolors(1 << 20)}
    assert [counted[colour] for colour in colours] == [
        (40 + n) * (30 - n) for n in range(len(cells))
    ]
    assert page.size == (43 + 44 + 45 + 4 * GAP, 30 + 27 + 24 + 4 * GAP)
    assert page_of(cells[:1]).size == (40 + 2 * GAP, 30 + 2 * GAP)
    many = page_of([Image.new("RGB", (5, 5))] * 100)
    assert many.width == COLUMNS * (5 + GAP) + GAP


def test_page_says_which_slide_cannot_be_read(study, tmp_path, monkeypatch):
    with qb.open_project(study.project) as project:
        plans = qb.plan(project, qb.ExportConfig(size=64))
    gone = [plans[0], type(plans[1])(**vars(plans[1]))]
    slide = plans[1].slide
    object.__setattr__(gone[1], "slide", slide.__class__(**{
        name: getattr(slide, name) for name in slide.__dataclass_fields__ if name != "path"
    }, path=tmp_path / "gone.tiff"))  # fmt: skip
    page = tmp_path / "page.png"
    assert api.draw_previews(gone, page)[1] == (
        f"slide 2.tiff: no preview: {tmp_path / 'gone.tiff'}: no such file. Was the slide moved "
        "or renamed? Is the drive connected?",
    )
    assert page.is_file()
    assert api.draw_previews([], page) == ((), ())
