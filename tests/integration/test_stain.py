"""Stain normalisation in whole runs."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import ConfigError, UsageError
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import write_slide
from tests.support import channel_truth

STAINS = np.array([[0.62, 0.68, 0.38], [0.15, 0.85, 0.5]])
SIZE = (640, 448)
CONFIG = qb.ExportConfig(size=64, stain="macenko")


def tissue(seed, white=(240, 238, 242), strength=1.0):
    """Blobs of two stains on the left, glass on the right."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    noise = rng.random((height // 8, width // 8, 2)).repeat(8, 0).repeat(8, 1)
    amounts = 2 * noise**2 + rng.random((height, width, 2)) * 0.2
    amounts[:, 384:] = 0
    light = np.asarray(white) * np.exp(-strength * amounts @ STAINS)
    return np.rint(light).astype(np.uint8)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two slides with tissue and one of glass alone."""
    folder = tmp_path_factory.mktemp("stain")
    pictures = [
        tissue(1),
        tissue(2, (250, 244, 230), 0.6),
        np.full((*SIZE[::-1], 3), 240, np.uint8),
    ]
    slides = []
    for number, pixels in enumerate(pictures):
        slides.append(folder / f"slide-{number}.tiff")
        write_slide(slides[-1], pixels, mpp=0.5, tile=64)
    region = Region("Tumor", "POLYGON ((0 0, 640 0, 640 448, 0 448, 0 0))")
    images = [Image(slide, [region], pixel_size=0.5) for slide in slides]
    return build_project(folder / "project", images), slides


def export(study, out, config=CONFIG, **options):
    options.setdefault("workers", 1)
    return qb.export(study[0], out, config, provenance=False, command=["test"], **options)


def digests(run):
    return {row["patch_id"]: row["digest"] for row in run.table().to_pylist()}


def facts_of(out, slide_id):
    table = pq.read_table(out / "index" / f"slide_id={slide_id}")
    return json.loads(table.schema.metadata[b"qupath_bridge.facts"])["stain"]


def test_slides_get_one_colour_and_glass_is_kept(study, tmp_path):
    run = export(study, tmp_path / "out")
    raw = export(study, tmp_path / "raw", qb.ExportConfig(size=64))
    rows = run.table().to_pylist()
    means = {}
    for row in rows:
        glass = row["slide_name"] == "slide-2.tiff" or row["x_qupath"] >= 384
        assert row["stain_kept_raw"] is glass, row["patch_id"]
        if not glass:
            for out in ("out", "raw"):
                pixels = np.asarray(Picture.open(tmp_path / out / row["path"])).reshape(-1, 3)
                means.setdefault((out, row["slide_name"]), []).append(pixels.mean(axis=0))
    spread = {
        out: np.abs(
            np.mean(means[out, "slide-0.tiff"], 0) - np.mean(means[out, "slide-1.tiff"], 0)
        ).max()
        for out in ("out", "raw")
    }
    assert spread["out"] < 0.2 * spread["raw"]
    before, after = digests(raw), digests(run)
    same = {name for name in after if before[name] == after[name]}
    assert same == {row["patch_id"] for row in rows if row["stain_kept_raw"]}
    assert qb.verify(run).ok
    warnings = {slide["slide_name"]: slide["warnings"] for slide in run}
    assert not warnings["slide-0.tiff"]
    assert "Too little stained tissue" in warnings["slide-2.tiff"][0]


def test_facts_say_what_was_done(study, tmp_path):
    run = export(study, tmp_path / "out")
    facts = [facts_of(tmp_path / "out", slide["slide_id"]) for slide in run]
    assert facts[0]["method"] == "macenko"
    assert facts[0]["white"] == facts[0]["profile"]["white"] == [240, 238, 242]
    cosines = (np.array(facts[0]["profile"]["vectors"]) * STAINS).sum(1) / np.linalg.norm(
        STAINS, axis=1
    )
    assert (np.degrees(np.arccos(cosines.clip(-1, 1))) < 3).all()
    assert (facts[0]["reference_digest"], facts[2]["profile"]) == (None, None)


def test_colours_are_learned_where_the_run_finds_tissue(tmp_path):
    """Green ink is on the right of the slide, and what is drawn as tissue on the left."""
    pixels = tissue(1)
    pixels[100:, 384:] = np.random.default_rng(1).integers(
        (20, 140, 60), (50, 170, 90), (348, 256, 3)
    )
    slide = write_slide(tmp_path / "slide.tiff", pixels, mpp=0.5, tile=64)
    regions = [
        Region("Tissue", "POLYGON ((0 0, 320 0, 320 448, 0 448, 0 0))"),
        Region("Tumor", "POLYGON ((0 0, 640 0, 640 448, 0 448, 0 0))"),
    ]
    project = build_project(tmp_path / "project", [Image(slide, regions, pixel_size=0.5)])
    angles = {}
    for name in ("qupath:Tissue", "none"):
        with qb.open_project(project) as opened:
            (plan,) = qb.plan(opened, CONFIG.replace(tissue=name))
        vectors = np.array(plan.stain.profile["vectors"])
        cosines = (vectors * STAINS).sum(1) / np.linalg.norm(STAINS, axis=1)
        angles[name] = np.degrees(np.arccos(cosines.clip(-1, 1))).max()
    assert angles["qupath:Tissue"] < 3
    assert angles["none"] > 6, angles


def test_bytes_are_the_same_again(study, tmp_path):
    """With two workers, in processes, after an interruption; also with augmentation."""
    config = CONFIG.replace(stain_augment=0.1)
    expected = digests(export(study, tmp_path / "one", config))
    assert expected != digests(export(study, tmp_path / "plain"))
    assert digests(export(study, tmp_path / "two", config, workers=2)) == expected
    in_processes = export(study, tmp_path / "processes", config, runner="processes", workers=2)
    assert digests(in_processes) == expected
    out = tmp_path / "two"
    shutil.rmtree(next((out / "patches").iterdir()))
    again = export(study, out, config, resume=True)
    assert digests(again) == expected
    assert qb.verify(again).ok


def test_verify_reads_normalised_patches_again(study, tmp_path):
    run = export(study, tmp_path / "out")
    row = next(row for row in run.table().to_pylist() if not row["stain_kept_raw"])
    path = tmp_path / "out" / row["path"]
    # A patch without normalisation, with its digest in the index, is not seen by digests alone.
    facts = facts_of(tmp_path / "out", row["path"].split("/")[1])
    assert facts["profile"] is not None
    pixels = np.asarray(Picture.open(path)).copy()
    Picture.fromarray(255 - pixels).save(path)
    assert [finding.kind for finding in qb.verify(run).findings] == ["changed"]


@pytest.fixture
def reference(tmp_path):
    path = tmp_path / "reference.png"
    Picture.fromarray(tissue(7, (245, 245, 245), 1.3)).save(path)
    return path


def test_a_reference_and_its_saved_profile_give_the_same(study, tmp_path, reference):
    by_picture = export(study, tmp_path / "picture", CONFIG.replace(stain_reference=[reference]))
    profile = qb.stain_profile(reference, tmp_path / "profile.json", stain="macenko")
    config = CONFIG.replace(stain_reference=str(profile))
    by_profile = export(study, tmp_path / "profile", config)
    assert digests(by_picture) == digests(by_profile)
    assert by_picture.record["run_digest"] == by_profile.record["run_digest"]
    assert digests(by_picture) != digests(export(study, tmp_path / "standard"))
    slide = by_picture.report["slides"][0]["slide_id"]
    record = json.loads(profile.read_text())
    assert facts_of(tmp_path / "picture", slide)["reference_digest"] == record["reference_digest"]
    profile.unlink()
    assert qb.verify(by_profile).ok  # the partition has what verify needs


def test_another_reference_is_another_plan(study, tmp_path, reference):
    config = CONFIG.replace(stain_reference=[str(reference)])
    with qb.open_project(study[0]) as project:
        before = qb.plan(project, config)[0].digest
        assert qb.plan(project, config)[0].digest == before
        moved = reference.rename(tmp_path / "moved.png")
        assert qb.plan(project, config.replace(stain_reference=[str(moved)]))[0].digest == before
        Picture.fromarray(tissue(8)).save(moved)
        changed = qb.plan(project, config.replace(stain_reference=[str(moved)]))[0]
        assert changed.digest != before


def test_references_can_be_regions_and_several(study, tmp_path, reference):
    region = f"{study[1][0]}#0,0,384,448"
    one = qb.stain_profile(region, tmp_path / "one.json", stain="reinhard")
    both = qb.stain_profile([region, reference], tmp_path / "both.json", stain="reinhard")
    profiles = [json.loads(path.read_text())["profile"] for path in (one, both)]
    assert profiles[0] != profiles[1]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere.png", "nowhere.png cannot be read: No such file"),
        ("glass", "too little stained tissue for a stain reference"),
        ("region", "is not inside the slide, which has 640 x 448 pixels"),
        ("other.json", "other.json is not a stain profile for macenko"),
        ("broken.json", "broken.json is not a stain profile for macenko"),
        ("channels", "RGB pixels of 8 bit are needed for a stain reference"),
    ],
)
def test_references_that_cannot_be_used_are_named(study, tmp_path, reference, words):
    (tmp_path / "broken.json").write_text("{")
    record = {"schema_version": 1, "method": "reinhard", "version": "1", "reference_digest": "x",
              "profile": {"mean": [1, 2, 3]}, "references": []}  # fmt: skip
    (tmp_path / "other.json").write_text(json.dumps(record))
    names = {
        "glass": str(study[1][2]),
        "region": f"{study[1][0]}#600,0,100,100",
        "channels": str(channel_truth.FOLDER / "images" / "ij-u8-c3.tif"),
    }
    place = names.get(reference, str(tmp_path / reference))
    with pytest.raises(UsageError) as caught:
        qb.stain_profile(place, tmp_path / "new.json", stain="macenko")
    assert words in str(caught.value)


def test_options_of_stain_need_a_method():
    for name, value in (("stain_reference", ["a.png"]), ("stain_augment", 0.1)):
        with pytest.raises(ConfigError, match=f"{name} needs stain"):
            qb.ExportConfig(**{name: value})


def test_qupath_vectors_come_from_the_entry(study, tmp_path):
    """Without any in QuPath, slides keep their colours, with the next step in the warning."""
    run = export(study, tmp_path / "out", qb.ExportConfig(size=64, stain="qupath"))
    assert all(row["stain_kept_raw"] for row in run.table().to_pylist())
    assert "Set the image type in QuPath" in run.report["slides"][0]["warnings"][0]
