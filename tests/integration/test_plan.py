from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import BridgeError, ConfigError, OutputError, PlanError, SlideError
from qupath_bridge.geometry import validity
from qupath_bridge.model import ClassInfo, Reason
from qupath_bridge.pipeline.estimate import estimate
from qupath_bridge.pipeline.plan import total_counts
from qupath_bridge.pipeline.planning import plan_slides
from qupath_bridge.pipeline.preview import LONGEST_SIDE, render_preview
from qupath_bridge.pipeline.preview_legend import HEAD
from qupath_bridge.pipeline.survey import survey, survey_plans
from qupath_bridge.testing.projects import Image, Region, build_memory_project, cropped, rotated
from qupath_bridge.testing.slides import write_slide

SKIN = Path(__file__).parents[2] / "example_projects" / "skin"


def slide_of(path, regions=(), **options):
    return build_memory_project([Image(path, list(regions), **options)]).slides[0]


@pytest.fixture
def slide(two_slides, draw):
    return build_memory_project(draw.images(two_slides)).slides[0]


def test_a_plan_knows_what_it_was_made_of(slide):
    plan = qb.plan(slide, qb.ExportConfig(size=60, mpp=1.0, min_share=0.3))
    assert plan.grid.box_width == 120
    assert (plan.mpp, plan.downsample, plan.read_level) == (1.0, 2.0, 0)
    assert plan.pixel_size == qb.PixelSize(0.5, 0.5, "project")
    assert plan.dropped[Reason.EDGE] == 6 * 5 - 5 * 4
    assert len(plan) + sum(plan.dropped.values()) == 6 * 5
    assert plan.report.skipped == {"points": 1, "unclassified": 1}
    assert sum(plan.label_counts().values()) == len(plan)


def test_a_slide_that_is_not_there(slide):
    lost = replace(slide, path=None, tried=("as stored: /a/b.svs",))
    with pytest.raises(SlideError, match="/a/b.svs") as caught:
        qb.plan(lost)
    for option in ("search", "slide_map"):
        assert f"option {option}" in caught.value.hint
    (failure,) = plan_slides([lost], qb.ExportConfig()).failures
    assert (failure.entry_id, failure.hint) == (slide.entry_id, caught.value.hint)


def test_without_pixel_size_microns_cannot_be(tmp_path, draw):
    path = tmp_path / "bare.tiff"
    write_slide(path, draw.texture(1))
    bare = slide_of(path, pixel_size=None)
    with pytest.raises(PlanError, match="has no pixel size") as caught:
        qb.plan(bare, qb.ExportConfig(mpp=0.5))
    for way_out in ("QuPath", "pixel_size", "level_zero"):
        assert way_out in caught.value.hint
    assert qb.plan(bare, qb.ExportConfig(mpp=0.5, size=50, pixel_size=0.25)).grid.box_width == 100
    assert qb.plan(bare, qb.ExportConfig(size=50)).mpp is None
    with pytest.raises(PlanError, match="Magnification"):
        qb.plan(bare, qb.ExportConfig(magnification=10))


def test_pixel_sizes_that_disagree_are_reported(two_slides):
    wrong = slide_of(two_slides[0], pixel_size=0.25)
    assert (
        "the project says 0.25 µm, the slide says 0.5 µm"
        in qb.plan(wrong, qb.ExportConfig(size=50)).warnings[0]
    )


def test_a_pixel_size_in_another_unit_fails_that_slide_alone(two_slides):
    sizes = zip(two_slides, (0.5, 250.0), strict=True)
    project = build_memory_project([Image(path, pixel_size=size) for path, size in sizes])
    slides = project.slides
    plans = qb.plan(slides, qb.ExportConfig(size=50))
    (failure,) = plans.failures
    assert failure.slide_name == slides[1].name
    assert "250 µm, as the project says" in failure.error
    assert "the option pixel_size" in failure.hint
    assert len(qb.plan(slides, qb.ExportConfig(size=50, pixel_size=0.25))) == 2
    with pytest.raises(ConfigError, match="pixel_size: should be less than or equal to 100"):
        qb.ExportConfig(pixel_size=250)
    (inspection,) = qb.inspect(project)
    assert any("250 µm, as the project says" in text for text in inspection.problems)


def test_only_planes_that_can_be_read(slide):
    with pytest.raises(PlanError, match="plane 1,0"):
        qb.plan(slide, qb.ExportConfig(plane=["1,0"]))


def test_unclassified_regions_can_be_an_error(slide):
    with pytest.raises(PlanError, match="have no class"):
        qb.plan(slide, qb.ExportConfig(unclassified="error"))


def test_big_repairs_need_permission(two_slides, monkeypatch):
    """None is known; should GEOS lose area, nothing is labelled by what is left."""
    tied = slide_of(
        two_slides[0], [("Tumor", "POLYGON ((0 0, 200 200, 200 0, 0 200, 0 0))")], pixel_size=0.5
    )
    assert qb.plan(tied, qb.ExportConfig(size=50)).report.repairs[0].change == 0
    monkeypatch.setattr(validity, "_filled_area", lambda geometry: 21_000.0)
    with pytest.raises(PlanError, match="crosses itself"):
        qb.plan(tied, qb.ExportConfig(size=50))
    plan = qb.plan(tied, qb.ExportConfig(size=50, allow_repair=True))
    assert len(plan.report.repairs) == 1


def test_a_recorded_size_that_does_not_fit_is_refused(slide):
    with pytest.raises(SlideError, match=r"701 x 500.*700 x 500"):
        qb.plan(replace(slide, width=701))


def test_different_pixel_sizes_without_mpp_are_warned_of(two_slides):
    sizes = zip(two_slides, (0.5, 0.25), strict=True)
    slides = build_memory_project([Image(path, pixel_size=size) for path, size in sizes]).slides
    config = qb.ExportConfig(size=50)
    plans = qb.plan(slides, config)
    for surveyed in (survey_plans(plans, config), survey(slides, config)):
        (warning,) = surveyed.warnings
        assert "0.25 to 0.5" in warning
        assert "Set mpp" in warning
    assert survey_plans(plans[:1], config).warnings == ()
    (mixture,) = survey(slides, qb.ExportConfig(size=50, mpp=0.5)).warnings
    assert "Patches of 1 of 2 slides are resampled" in mixture
    assert survey(slides, qb.ExportConfig(size=50, mpp=1.0)).warnings == ()
    assert survey(slides, qb.ExportConfig(size=50, pixel_size=0.5)).warnings == ()


def test_class_names_are_checked_over_all_slides(two_slides, draw):
    """A class that one slide or one project has is known; one that nothing has is an error."""
    first, second = draw.images(two_slides)
    second = replace(second, regions=[Region("Nerve", "POLYGON ((0 0, 90 0, 90 90, 0 0))")])
    slides = build_memory_project([first, second]).slides
    for name in ("Stroma", "Nerve"):
        assert survey(slides, qb.ExportConfig(within=[name])).warnings == ()
    with pytest.raises(ConfigError, match="Stroma"):
        survey(slides, qb.ExportConfig(within=["Stoma"]))
    with pytest.raises(ConfigError, match="Stroma"):
        qb.plan(slides, qb.ExportConfig(exclude=["Stoma"]))
    known = replace(slides[0].project, classes=(*slides[0].project.classes, ClassInfo("Vein")))
    slides = [replace(slide, project=known) for slide in slides]
    (warning,) = survey(slides, qb.ExportConfig(exclude=["Vein"])).warnings
    assert "Vein" in warning


def test_class_that_is_found_nowhere_is_a_warning_while_a_slide_is_unread(two_slides, draw):
    first, second = build_memory_project(draw.images(two_slides)).slides
    lost = replace(second, path=None)
    config = qb.ExportConfig(size=50, within=["Nerve"])
    surveyed = survey([first, lost], config)
    for warnings in (
        surveyed.warnings,
        qb.plan([first, lost], config).warnings[:1],
        qb.plan(first, config).warnings,
    ):
        (warning,) = warnings
        assert warning.startswith("within: no class 'Nerve'")
        assert "other slides may have it" in warning
    # A class that is there is no warning, whatever else is unread.
    assert qb.plan(first, qb.ExportConfig(size=50, within=["Stroma"])).warnings == ()
    assert surveyed.slides[0].problem is None
    assert "was not found" in surveyed.slides[1].problem


def test_every_label_has_a_folder_before_the_first_pixel(two_slides, draw):
    slides = build_memory_project(draw.images(two_slides), classes=["Tumor", "Nerve: A"]).slides
    labels = survey(slides, qb.ExportConfig(background="Rest", unclassified="as=Other")).labels
    assert set(labels) == {"Tumor", "Necrosis", "Stroma", "Nerve: A", "Rest", "Other"}
    assert len({folder.lower() for folder in labels.values()}) == len(labels)


def test_tissue(tmp_path):
    pixels = np.full((400, 400, 3), 245, np.uint8)
    pixels[:, 200:] = (180, 60, 140)
    path = tmp_path / "half.tiff"
    write_slide(path, pixels, mpp=0.5)
    half = slide_of(path, [("All", "POLYGON ((0 0, 400 0, 400 400, 0 400, 0 0))")], pixel_size=0.5)
    plan = qb.plan(half, qb.ExportConfig(size=100, tissue="otsu"))
    assert plan.dropped[Reason.NO_TISSUE] == 8
    assert set(plan.table.boxes[:, 0].tolist()) == {200, 300}
    assert plan.table.tissue_share.tolist() == [1.0] * 8
    same = qb.plan(half, qb.ExportConfig(size=100, tissue="saturation"))
    assert len(same) == 8
    assert same.table.tissue_share.tolist() == [1.0] * 8
    for threshold, patches in (("0.66", 8), (0.67, 0)):  # the saturation is 1 - 60 / 180
        config = qb.ExportConfig(size=100, tissue="saturation", tissue_threshold=threshold)
        assert len(qb.plan(half, config)) == patches
    with pytest.raises(ConfigError, match="tissue = otsu takes no tissue_threshold"):
        qb.ExportConfig(tissue="otsu", tissue_threshold=0.3)


def test_tissue_from_edge_to_edge_is_kept_with_a_note(tmp_path):
    pixels = np.full((400, 400, 3), (200, 150, 180), np.uint8)
    pixels[:, 100:] = (180, 60, 140)
    slide = slide_of(write_slide(tmp_path / "full.tiff", pixels, mpp=0.5), pixel_size=0.5)
    for method in ("otsu", "saturation"):
        plan = qb.plan(slide, qb.ExportConfig(size=100, tissue=method, labels=False))
        assert len(plan) == 16
        assert any("No glass is found" in text for text in plan.warnings)
    assert qb.plan(slide, qb.ExportConfig(size=100, labels=False)).warnings == ()


@pytest.mark.parametrize("value", ["most", "1", 1, -0.1, "nan", True, "inf"])
def test_a_tissue_threshold_is_otsu_or_a_number_below_1(value):
    with pytest.raises(
        ConfigError, match="tissue_threshold: should (be otsu, or a number|not be true or false)"
    ):
        qb.ExportConfig(tissue_threshold=value)


def test_saturation_keeps_the_patches_of_a_real_slide():
    """The regions follow the tissue; all patches inside them are mostly tissue."""
    with qb.open_project(SKIN) as project:
        plans = {
            name: qb.plan(project.slides[0], qb.ExportConfig(size=128, mpp=0.5, tissue=name))
            for name in ("none", "saturation", "otsu")
        }
    # All but a few in loose stroma, which is glass by more than a half.
    assert {name: len(plan) for name, plan in plans.items()} == {
        "none": 111, "saturation": 103, "otsu": 107
    }  # fmt: skip


def test_counts_and_estimate(two_slides, draw):
    plans = plan_slides(
        build_memory_project(draw.images(two_slides)).slides, qb.ExportConfig(size=50)
    )
    labels, reasons = total_counts(plans)
    assert sum(labels.values()) == sum(map(len, plans))
    assert set(reasons) <= {str(reason) for reason in Reason}
    guess = estimate(plans)
    # 50 x 50 noisy pixels of 3 bytes: PNG cannot shrink them much.
    assert 2000 < guess.bytes / sum(map(len, plans)) < 9000
    assert guess.seconds > 0
    assert guess.sample == 12
    assert estimate([]).sample == 0
    empty = qb.plan(slide_of(two_slides[0]), qb.ExportConfig(size=50))
    assert len(empty) == 0
    assert estimate([empty, plans[0]]).sample == 12


@pytest.mark.parametrize("wrappers", [(), (rotated(90),), (cropped(100, 50, 400, 300),)])
def test_the_preview_shows_regions_and_patches(two_slides, wrappers):
    region = Region("Tumor", "POLYGON ((20 20, 220 20, 220 220, 20 220, 20 20))", color=None)
    one = slide_of(
        two_slides[0],
        [region, Region("Tumor", "POINT (300 250)"), Region(None, "LINESTRING (0 0, 9 9)"),
         Region("Tumor", "POLYGON ((0 0, 9 0, 9 9, 0 0))", plane=(1, 0))],
        wrappers=wrappers, pixel_size=0.5,
    )  # fmt: skip
    plan = qb.plan(one, qb.ExportConfig(size=50))
    picture = np.asarray(render_preview(plan))
    plain = np.asarray(
        render_preview(replace(plan, annotations=(), table=plan.table.take(slice(0))))
    )
    width, height = plan.coordinates.size
    shown = slice(HEAD, HEAD + height)
    changed = (picture[shown, :width] != plain[shown, :width]).any(-1)
    assert changed[60:190, 60:190].mean() > 0.9, "patches are filled"
    assert changed[20, 30:200].all(), "the outline is drawn"
    assert not changed[260:, 350:].any(), "nothing is drawn where nothing is"
    assert max(picture.shape[:2]) <= LONGEST_SIDE + 200


def test_a_preview_goes_into_a_file(slide, tmp_path):
    plan = qb.plan(slide, qb.ExportConfig(size=50))
    plan.preview(tmp_path / "new" / "plan.png")
    with Picture.open(tmp_path / "new" / "plan.png") as picture:
        assert picture.format == "PNG"
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes.png").write_text("mine")
    for name, problem in (
        ("folder.png", "is a folder"), ("notes.png", "not a PNG or JPEG"), ("plan.gif", r"\.png"),
    ):  # fmt: skip
        with pytest.raises(OutputError, match=problem):
            plan.preview(tmp_path / name)
    assert (tmp_path / "notes.png").read_text() == "mine"


def test_a_preview_never_goes_into_the_project(study):
    with qb.open_project(study.project) as project:
        plan = qb.plan(project.slides[0], qb.ExportConfig(size=50))
    with pytest.raises(OutputError, match="must end in .png"):
        plan.preview(study.project)
    with pytest.raises(OutputError, match="belongs to the QuPath project"):
        plan.preview(study.project.parent / "data" / "plan.png")


def test_boxes_beyond_any_slide_are_refused(slide):
    with pytest.raises(PlanError, match="far larger"):
        qb.plan(slide, qb.ExportConfig(size=16384, mpp=1e4, pixel_size=0.01))


def test_the_digest_knows_what_decides(slide, two_slides):
    config = qb.ExportConfig(size=50)
    plan = qb.plan(slide, config)
    assert plan.digest_values() == qb.plan(slide, config).digest_values()
    other = replace(slide, _load=lambda detections: qb.ImageData())
    assert qb.plan(other, config).digest_values() != plan.digest_values()
    assert "tiff" not in str(plan.digest_values()["coordinates"]), "no path takes part"


def test_every_failure_is_one_of_ours(slide, tmp_path):
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"II*\0 no slide at all")
    with pytest.raises(BridgeError, match="broken.svs"):
        qb.plan(replace(slide, path=broken))
