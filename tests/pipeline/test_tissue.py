"""Tissue in plans and runs: the map, its files, and the methods that take drawn or given masks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import ConfigError, PlanError, UsageError
from qupath_bridge.model import PixelSize, Reason
from qupath_bridge.pipeline import records
from qupath_bridge.pipeline.preview import render_preview
from qupath_bridge.pipeline.preview_legend import TISSUE_INK
from qupath_bridge.pipeline.tissue import map_shape
from qupath_bridge.pixels.tissue.unet import OWN
from qupath_bridge.qupath.geojson import read_geojson
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.testing.projects import Image, build_memory_project, build_project, rotated
from qupath_bridge.testing.slides import write_slide

SIZE = (800, 400)  # width and height
DISC = ((np.indices(SIZE[::-1]) - [[[200]], [[500]]]) ** 2).sum(axis=0) < 150**2


def picture(mask=DISC):
    pixels = np.full((*mask.shape, 3), 245, np.uint8)
    pixels[mask] = (180, 60, 140)
    return pixels


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("tissue") / "a.tiff", picture(), mpp=1.0, levels=3)


def memory_slide(path, regions=(), **options):
    image = Image(path, regions, **{"pixel_size": 1.0, **options})
    return build_memory_project([image]).slides[0]


def plan_of(slide, **options):
    return qb.plan(slide, qb.ExportConfig(**{"size": 50, "labels": False, **options}))


# ---- the map


@pytest.mark.parametrize(
    ("size", "pixel_size", "mpp", "shape"),
    [
        ((100_000, 80_000), (0.25, 0.25), 10, (2000, 2500)),
        ((1000, 1000), (0.5, 0.25), 10, (25, 50)),  # other pixels along y
        ((1000, 500), (20.0, 20.0), 10, (500, 1000)),  # never finer than the slide
        ((3, 3), (0.25, 0.25), 10, (1, 1)),
        ((100_000, 50_000), None, 10, (1024, 2048)),  # without a pixel size
        ((100, 50), None, 10, (50, 100)),
    ],
)
def test_the_map_has_the_wanted_resolution(size, pixel_size, mpp, shape):
    known = None if pixel_size is None else PixelSize(*pixel_size, "user")
    assert map_shape(size, known, mpp) == shape


def test_a_map_that_is_too_large_is_refused():
    with pytest.raises(PlanError, match="10000 x 10000 pixels") as caught:
        map_shape((10_000, 10_000), PixelSize(1.0, 1.0, "user"), 1.0)
    assert "tissue_mpp" in caught.value.hint


@pytest.mark.parametrize(("mpp", "level"), [(1.0, 0), (2.0, 1), (3.0, 1), (4.0, 2), (10.0, 2)])
def test_the_map_is_read_from_the_coarsest_level_that_is_fine_enough(
    mpp, level, slide_file, monkeypatch
):
    whole, *levels = (picture()[::step, ::step] for step in (1, 2, 4))
    reader = MemoryReader(whole, levels=levels, pixel_size=(1.0, 1.0))
    read = set()
    read_rectangle = MemoryReader._read_rectangle

    def spy(self, number, rectangle, plane):
        read.add(number)
        return read_rectangle(self, number, rectangle, plane)

    monkeypatch.setattr(MemoryReader, "_read_rectangle", spy)
    monkeypatch.setattr("qupath_bridge.pipeline.planning.open_reader", lambda *a, **k: reader)
    plan = plan_of(memory_slide(slide_file), tissue="otsu", tissue_mpp=mpp)
    assert read == {level}
    assert plan.tissue.mpp == pytest.approx(mpp, rel=0.01)


def plain_share(mask, scale, box):
    """Return the share of a box, with one sum per pixel of the mask."""
    x, y, w, h = box
    covered = sum(
        max(0, min(x + w, (column + 1) / scale) - max(x, column / scale))
        * max(0, min(y + h, (row + 1) / scale) - max(y, row / scale))
        for row, column in np.argwhere(mask).tolist()
    )
    return covered / (w * h)


def test_shares_are_exact_at_the_resolution_of_the_mask(slide_file):
    plan = plan_of(memory_slide(slide_file), size=33, tissue="saturation", min_tissue=0)
    mask = plan.tissue.mask
    assert mask.shape == (40, 80)
    rows = range(0, len(plan), 37)
    expected = [plain_share(mask, 0.1, plan.table.boxes[row].tolist()) for row in rows]
    np.testing.assert_allclose(plan.table.tissue_share[list(rows)], expected, atol=1e-12)
    assert 0 < min(share for share in expected if share) < 0.9 < max(expected)


def test_a_turned_slide_has_its_tissue_where_quapath_shows_it(slide_file):
    straight = plan_of(memory_slide(slide_file), tissue="otsu")
    turned = plan_of(memory_slide(slide_file, wrappers=[rotated(90)]), tissue="otsu")
    mask = np.rot90(straight.tissue.mask, -1)
    assert turned.tissue.mask.shape == mask.shape
    assert (turned.tissue.mask ^ mask).mean() < 0.01


def test_a_slide_without_pixel_size_has_a_map_of_its_own(tmp_path):
    path = write_slide(tmp_path / "a.tiff", picture())
    plan = plan_of(memory_slide(path, pixel_size=None), tissue="otsu")
    assert plan.tissue.mpp is None
    assert plan.tissue.mask.shape == SIZE[::-1]
    assert plan.tissue.share == pytest.approx(DISC.mean(), rel=0.05)


# ---- in a run


@pytest.fixture
def project(tmp_path):
    files = [write_slide(tmp_path / f"{name}.tiff", picture(), mpp=1.0) for name in "ab"]
    whole = shapely.box(0, 0, *SIZE)
    return build_project(
        tmp_path / "project", [Image(path, [("All", whole)], pixel_size=1.0) for path in files]
    )


def export(project, out, **options):
    config = {
        name: options.pop(name) for name in ("tissue", "tissue_mpp", "entry") if name in options
    }
    entry = config.pop("entry", ())
    return qb.export(
        project,
        out,
        selection=qb.Selection(entry=entry),
        config=qb.ExportConfig(size=50, **{"tissue": "otsu", **config}),
        options=qb.RunOptions(**options),
    )


def facts_of(run):
    output = run.open()
    return {name: records.load_facts(output.rows(name), name) for name in output.slides()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_mask_is_kept_with_the_run(project, tmp_path):
    run = export(project, tmp_path / "out")
    for slide_id, facts in facts_of(run).items():
        tissue = facts["tissue"]
        assert tissue["file"] == f"tissue/{slide_id}.png"
        with Picture.open(tmp_path / "out" / tissue["file"]) as mask:
            assert mask.mode == "1"
            pixels = np.asarray(mask)
        assert pixels.shape == (40, 80)
        blocks = DISC.reshape(40, 10, 80, 10).mean(axis=(1, 3))
        assert ((pixels != (blocks > 0.5)) & (blocks != 0.5)).sum() <= 60  # smoothing, at its edge
        assert tissue["share"] == pixels.mean()
        assert (tissue["method"], tissue["mpp"], tissue["threshold"]) == ("otsu", 10.0, None)
        outline = read_geojson(tmp_path / "out" / "tissue" / f"{slide_id}.geojson", entry_id="1")
        (drawn,) = outline.annotations
        assert drawn.class_path == "Tissue"
        assert drawn.roi.geometry.area == pytest.approx(pixels.sum() * 100)
        y, x = np.indices(pixels.shape) * 10 + 5
        inside = shapely.contains_xy(drawn.roi.geometry, x.ravel(), y.ravel())
        np.testing.assert_array_equal(inside.reshape(pixels.shape), pixels)


def test_a_run_without_tissue_has_no_mask(project, tmp_path):
    run = export(project, tmp_path / "out", tissue="none")
    assert not (tmp_path / "out" / "tissue").exists()
    assert {facts["tissue"] for facts in facts_of(run).values()} == {None}


@pytest.mark.parametrize("ending", ["png", "geojson"])
@pytest.mark.parametrize("harm", ["gone", "changed", "damaged"])
def test_harmed_masks_are_found_and_made_again(project, tmp_path, ending, harm):
    out = tmp_path / "out"
    export(project, out)
    before = contents(out / "tissue")
    path = next((out / "tissue").glob(f"*a.tiff.{ending}"))
    if harm == "gone":
        path.unlink()
    elif harm == "damaged" or ending == "geojson":
        path.write_bytes(path.read_bytes()[:60])
    else:
        Picture.fromarray(~np.asarray(Picture.open(path))).save(path)
    (finding,) = qb.verify(out).findings
    assert finding.path == f"tissue/{path.name}"
    assert finding.kind == ("missing" if harm == "gone" else "changed")
    run = export(project, out, resume=True)
    assert contents(out / "tissue") == before
    assert qb.verify(run).ok


def test_files_of_slides_that_a_run_no_longer_has_go(project, tmp_path):
    out = tmp_path / "out"
    export(project, out)
    assert len(contents(out / "tissue")) == 4
    shutil.rmtree(project.parent)
    whole = shapely.box(0, 0, *SIZE)
    only = [Image(tmp_path / "a.tiff", [("All", whole)], pixel_size=1.0)]
    build_project(project.parent, only)
    export(project, out, update=True)
    assert len(contents(out / "tissue")) == 2
    stray = out / "tissue" / "9_c.tiff.png"
    stray.write_bytes(b"")
    (finding,) = qb.verify(out).findings
    assert (finding.kind, finding.path) == ("unlisted", "tissue/9_c.tiff.png")
    assert qb.clean(out) == 1
    assert not stray.exists()


def test_two_runs_have_the_same_masks_and_digest(project, tmp_path):
    runs = [export(project, tmp_path / name, runner=name) for name in ("threads", "processes")]
    assert runs[0].record["run_digest"] == runs[1].record["run_digest"]
    assert contents(runs[0].out / "tissue") == contents(runs[1].out / "tissue")
    other = export(project, tmp_path / "other", tissue_mpp=20)
    assert other.record["run_digest"] != runs[0].record["run_digest"]


def test_the_project_gets_outlines_for_quapath(project, tmp_path):
    run = export(project, tmp_path / "out", tissue_annotations=True)
    folder = project.parent / "qupath_bridge" / "runs" / run.run_id / "tissue"
    assert sorted(contents(folder)) == ["1.geojson", "2.geojson"]
    own = sorted((tmp_path / "out" / "tissue").glob("*.geojson"))
    assert (folder / "1.geojson").read_bytes() == own[0].read_bytes()
    plain = export(project, tmp_path / "plain")
    assert not (folder.parent.parent / plain.run_id / "tissue").exists()
    with pytest.raises(ConfigError, match="tissue_annotations needs provenance"):
        qb.RunOptions(tissue_annotations=True, provenance=False)


def test_the_preview_shows_the_tissue(slide_file):
    slide = memory_slide(slide_file)
    plain, drawn = (
        np.asarray(render_preview(plan_of(slide, tissue=name, size=900), 800)).astype(int)
        for name in ("none", "otsu")
    )
    columns = np.nonzero((drawn[64:464] == TISSUE_INK).all(axis=2))[1]
    assert abs(columns.min() - 350) < 15
    assert abs(columns.max() - 650) < 15
    assert drawn.shape[0] == plain.shape[0] + 26  # a line of the legend


# ---- qupath:CLASS


TRIANGLE = shapely.Polygon([(103.5, 50), (520.25, 71), (260, 377.75)])
SQUARE = shapely.box(200, 100, 450, 300)


def test_drawn_tissue_counts_exactly(slide_file):
    slide = memory_slide(slide_file, [("Tissue", TRIANGLE), ("Tissue", SQUARE), ("Tumor", SQUARE)])
    plan = plan_of(slide, labels=True, tissue="qupath:Tissue", min_tissue=0.25)
    union = shapely.union(TRIANGLE, SQUARE)
    for row, (x, y, w, h) in enumerate(plan.table.boxes.tolist()):
        share = shapely.intersection(union, shapely.box(x, y, x + w, y + h)).area / (w * h)
        assert plan.table.tissue_share[row] == pytest.approx(share, abs=1e-9)
    assert set(plan.label_counts()) == {"Tumor"}
    assert plan.tissue.share == pytest.approx(union.area / (800 * 400))
    pixels = shapely.contains_xy(union, *(np.indices((40, 80))[::-1].reshape(2, -1) * 10 + 5))
    assert (plan.tissue.mask.ravel() != pixels).sum() <= 30  # a half of the area, or the centre
    drawn = shapely.from_geojson(plan.tissue.geojson.decode()).geoms[0]
    assert drawn.symmetric_difference(union).area < 5


def test_drawn_tissue_labels_where_map_names_it(slide_file):
    slide = memory_slide(slide_file, [("Tissue", SQUARE)])
    options = {"labels": True, "tissue": "qupath:Tissue"}
    assert len(plan_of(slide, **options)) == 0
    assert set(plan_of(slide, **options, map=["Tissue=Any"]).label_counts()) == {"Any"}
    assert set(plan_of(slide, labels=True, tissue="none").label_counts()) == {"Tissue"}


def test_a_slide_without_drawn_tissue_fails_and_says_how_to_make_it(slide_file):
    slide = memory_slide(slide_file, [("Tumor", SQUARE)])
    with pytest.raises(
        PlanError, match=r"a\.tiff: it has no annotation of the class 'Tissue'"
    ) as e:
        plan_of(slide, tissue="qupath:Tissue")
    assert "Pixel classification > Load pixel classifier, then Create objects" in e.value.hint
    with pytest.raises(ConfigError, match="tissue: needs|needs the class"):
        plan_of(slide, tissue="qupath")


def test_a_class_that_nobody_drew_is_refused_before_the_run(project, tmp_path):
    with pytest.raises(ConfigError, match="no slide has an annotation of the class 'Tissue'") as e:
        export(project, tmp_path / "out", tissue="qupath:Tissue")
    assert "Create objects" in str(e.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="did you mean 'All'"):
        export(project, tmp_path / "out", tissue="qupath:Al")


# ---- mask:PATTERN


def write_mask(path, mask=DISC, step=5):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = mask[step // 2 :: step, step // 2 :: step]
    Picture.fromarray(small.astype(np.uint8) * 255).save(path)
    return small


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("m/a.png", "m"),
        ("m/a.tiff", "m"),
        ("m/a.tiff.png", "m"),
        ("m/mask_a.tif", "m/mask_{slide}.tif"),
        ("m/a.tiff_1.png", "m/{slide}_{entry}.png"),
    ],
)
def test_masks_are_found_by_their_names(slide_file, tmp_path, name, pattern):
    small = write_mask(tmp_path / name)
    plan = plan_of(memory_slide(slide_file), tissue=f"mask:{tmp_path}/{pattern}", min_tissue=0)
    np.testing.assert_array_equal(plan.tissue.mask, small)
    assert plan.tissue.mpp == 5.0
    box = plan.table.boxes[0].tolist()
    assert plan.table.tissue_share[0] == pytest.approx(plain_share(small, 0.2, box))


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_masks_of_every_kind_of_number(slide_file, tmp_path, mode):
    values = DISC[::10, ::10]
    if mode == "1":
        file = Picture.fromarray(values)
    elif mode == "I;16":
        file = Picture.fromarray(values.astype(np.uint16))
    else:
        file = Picture.fromarray(values.astype(np.uint8))
        if mode == "P":
            file.putpalette([255, 255, 255, 0, 0, 0])
    file.save(tmp_path / "a.png")
    plan = plan_of(memory_slide(slide_file), tissue=f"mask:{tmp_path}")
    np.testing.assert_array_equal(plan.tissue.mask, values)


def test_wrong_masks_fail_their_slide_by_name(slide_file, tmp_path):
    slide = memory_slide(slide_file)

    def refused(match):
        with pytest.raises(PlanError, match=match) as caught:
            plan_of(slide, tissue=f"mask:{tmp_path}")
        return caught.value

    assert "option entry" in refused(r"^a\.tiff: it has no mask; looked for .*a\.png").hint
    write_mask(tmp_path / "a.png", DISC & False)
    refused(r"^a\.tiff: .*a\.png: the mask is empty")
    write_mask(tmp_path / "a.png", DISC[:, :700])
    refused(r"140 x 80 pixels are not the shape of the slide, 800 x 400")
    Picture.fromarray(picture()).save(tmp_path / "a.png")
    refused("pixels of the kind RGB, not one number")
    (tmp_path / "a.png").write_bytes(b"no picture")
    refused("it cannot be read as a picture")
    write_mask(tmp_path / "a.png")
    write_mask(tmp_path / "a.tif")
    refused(r"a\.png and a\.tif could both be its mask")


def test_the_argument_of_mask_is_checked(slide_file):
    for wrong, match in (("mask", "needs a folder"), ("mask:{id}.png", r"\{id\} is not known")):
        with pytest.raises((ConfigError, UsageError), match=match):
            plan_of(memory_slide(slide_file), tissue=wrong)


def test_the_content_of_a_mask_is_in_the_digest_and_its_place_is_not(slide_file, tmp_path):
    slide = memory_slide(slide_file)
    write_mask(tmp_path / "one" / "a.png")
    write_mask(tmp_path / "two" / "a.png")
    plans = [plan_of(slide, tissue=f"mask:{tmp_path}/{name}") for name in ("one", "two")]
    assert plans[0].digest == plans[1].digest
    other = DISC.copy()
    other[:10, :10] = True
    write_mask(tmp_path / "two" / "a.png", other)
    changed = plan_of(slide, tissue=f"mask:{tmp_path}/two")
    assert changed.digest != plans[0].digest
    assert changed.parts["tissue"].startswith("mask (xxh3_128:")


def test_a_missing_mask_ends_one_slide_and_not_the_run(project, tmp_path):
    write_mask(tmp_path / "masks" / "a.png")
    run = export(project, tmp_path / "out", tissue=f"mask:{tmp_path}/masks")
    (failure,) = run.failures
    assert failure.slide_name == "b.tiff"
    assert len(run) == 1
    assert qb.verify(run).ok
    write_mask(tmp_path / "masks" / "b.png")
    run = export(project, tmp_path / "out", tissue=f"mask:{tmp_path}/masks", resume=True)
    assert run.failures == ()
    assert run.dropped_counts()[Reason.NO_TISSUE] > 0


def digests(run):
    return {row["patch_id"]: row["digest"] for row in run.table().to_pylist()}


def test_a_run_keeps_the_masks_with_which_it_began(project, tmp_path):
    masks, out = tmp_path / "masks", tmp_path / "out"
    for name in ("a", "b"):
        write_mask(masks / f"{name}.png")
    options = {"tissue": f"mask:{masks}"}
    run = export(project, out, **options)
    expected = run.record["run_digest"]
    frozen = {path.name: path.read_bytes() for path in (out / "inputs" / "tissue").iterdir()}
    assert sorted(frozen.values()) == [(masks / "a.png").read_bytes()] * 2
    before = digests(run)
    for name in ("a", "b"):
        write_mask(masks / f"{name}.png", ~DISC)
    shutil.rmtree(next((out / "patches").iterdir()))
    run = export(project, out, **options, resume=True)
    assert run.record["run_digest"] == expected
    assert digests(run) == before
    assert qb.verify(run).ok
    shutil.rmtree(masks)
    assert export(project, out, **options, resume=True).record["run_digest"] == expected
    for name in ("a", "b"):
        write_mask(masks / f"{name}.png", ~DISC)
    changed = export(project, out, **options, update=True)
    assert changed.record["run_digest"] != expected
    assert set(contents(out / "inputs" / "tissue")).isdisjoint(frozen)
    next((out / "inputs" / "tissue").iterdir()).write_bytes(b"other")
    assert {finding.kind for finding in qb.verify(changed).findings} == {"changed"}


def test_a_network_may_be_moved_when_the_run_is_finished(project, tmp_path):
    network, out = tmp_path / "net.onnx", tmp_path / "out"
    for ending in (".onnx", ".json"):
        shutil.copy(OWN.with_suffix(ending), network.with_suffix(ending))
    config = qb.ExportConfig(size=100, tissue=f"unet:{network}", tissue_mpp=10)
    run = qb.export(project, out, config, workers=1)
    network.rename(tmp_path / "moved.onnx")
    assert qb.verify(out).ok
    assert Path(qb.report(out, tmp_path / "report.html")).is_file()
    with qb.open_project(project) as opened:
        (status,) = qb.status(opened)
    assert {entry.state for entry in status.entries} == {"unknown"}
    assert "net.onnx, which is not a file" in status.entries[0].reasons[0]
    for call in (
        lambda: qb.plan(project, config),
        lambda: qb.export(project, tmp_path / "new", config),
    ):
        with pytest.raises(UsageError, match=r"net\.onnx, which is not a file"):
            call()
    assert not (tmp_path / "new").exists()
    assert run.record["config"]["tissue"] == f"unet:{network}"


def test_masks_of_a_run_with_pseudonyms_are_found_and_kept(project, tmp_path):
    """By the real name of the slide; no file of the run has it."""
    for name in ("a", "b"):
        write_mask(tmp_path / "masks" / f"{name}.png")
    options = {"tissue": f"mask:{tmp_path}/masks", "pseudonymise": tmp_path / "keys.json"}
    run = export(project, tmp_path / "out", **options, provenance=False)
    assert run.failures == ()
    names = contents(tmp_path / "out" / "inputs" / "tissue")
    assert set(names.values()) == {(tmp_path / "masks" / "a.png").read_bytes()}
    assert not any("a.tiff" in name or "b.tiff" in name for name in names)
    shutil.rmtree(tmp_path / "masks")
    again = export(project, tmp_path / "out", **options, provenance=False, resume=True)
    assert again.record["run_digest"] == run.record["run_digest"]
