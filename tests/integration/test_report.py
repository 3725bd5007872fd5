"""The report of a run: of good runs, and of all that can be missing."""

import base64
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.index import facts_of, with_facts, write_partition
from qupath_bridge.reporting.pictures import DETAILS, first_detail
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import write_slide
from tests.support.pages import Parsed

CONFIG = qb.ExportConfig(size=50, min_share=0.4)
SCRIPT = '<script>alert("name")</script>'
STEERING = "left\u202eright"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, two_slides, draw):
    """The output of a run, which no test changes, with its report."""
    folder = tmp_path_factory.mktemp("finished")
    project = build_project(folder / "study", draw.images(two_slides))
    qb.export(project, folder / "out", CONFIG, workers=1)
    qb.report(folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def page(finished):
    """The report of that run."""
    return read(finished / "report.html")


@pytest.fixture
def out(finished, tmp_path):
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "out", ignore=lambda *_: ["report.html"])
    return tmp_path / "out"


@pytest.fixture
def own(study, tmp_path):
    """The output of a run over a project that the test changes."""
    qb.export(study.project, tmp_path / "own", CONFIG, workers=1)
    return tmp_path / "own"


def read(page):
    return Parsed(Path(page).read_text(encoding="utf-8"))


def report(out, **options):
    return read(qb.report(out, **options))


def change_facts(out, **changes):
    """Write the facts of each slide again with changes: by name, or a function of the facts."""
    output = open_output(out)
    for slide_id in output.slides():
        table = output.table(slide_id)
        facts = facts_of(table)
        new = {k: v(facts) if callable(v) else v for k, v in changes.items()}
        write_partition(output.store, slide_id, with_facts(table, {**facts, **new}))


# --- a good run ----------------------------------------------------------------------------------


def test_a_report_shows_slides_labels_reasons_and_patches(page, finished):
    run, most = qb.Run.load(finished), DETAILS[first_detail(2)].each
    assert len(page.all("details", class_="slide")) == 2
    for slide in run:
        assert slide["slide_name"] in page.text
    for label, number in run.label_counts().items():
        assert f"{label} {number}" in page.text
    for reason, number in run.dropped_counts().items():
        assert (f"{reason} {number}" in page.text) == bool(number)
    shown = page.of_class("patch")
    by_label = [each for each in shown if "href" in each]
    assert len(by_label) == sum(min(n, most) for s in run for n in s["by_label"].values())
    dropped = [n for slide in run for n in slide["dropped"].values()]
    assert len(shown) - len(by_label) == sum(min(n, most) for n in dropped)
    assert "not readable" not in page.text
    assert "not shown" not in page.text.lower()


def test_everything_is_in_the_page(page, finished):
    assert all(address.startswith("data:") for address in page.addresses)
    text = (finished / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|https?:", text)


def test_a_report_is_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all("alt" in image for image in page.all("img"))
    assert all(image["alt"] for image in page.of_class("base"))
    charts = [chart for chart in page.all("svg") if "chart" in chart.get("class", "").split()]
    assert charts
    assert all(chart["aria-label"] and chart["role"] in {"img", "group"} for chart in charts)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    for each in page.all("a"):
        if each.get("href", "").startswith("#"):
            assert each["href"][1:] in ids


def test_links_lead_to_files_also_from_another_folder(finished, tmp_path):
    elsewhere = tmp_path / "pages of runs" / "one.html"
    for page in (finished / "report.html", qb.report(finished, elsewhere)):
        files = read(page).files
        assert {Path(name).name for name in files} >= {"run.json", "report.json", "index.csv"}
        assert len(files) > 20
        for name in files:
            assert (Path(page).parent / name).exists(), name
    assert elsewhere.exists()


def test_a_report_is_the_same_each_time_but_for_its_time(finished, out):
    qb.report(out)
    texts = [(place / "report.html").read_text(encoding="utf-8") for place in (finished, out)]
    made = re.compile(r"Made \S+ by")
    assert made.search(texts[0])
    assert made.sub("", texts[0]) == made.sub("", texts[1])


def test_a_report_changes_nothing_else(own, study):
    def state():
        places = (own, study.project.parent)
        files = (path for place in places for path in place.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.name != "report.html"}

    before = state()
    qb.report(own)
    assert state() == before
    assert qb.verify(own, pixels=0).ok
    qb.export(study.project, own, CONFIG, update=True)  # a report does not hinder an update


def test_patches_are_drawn_where_they_are(finished):
    """The layer of a label has the colour of the class in its patches, and nowhere else."""
    run = qb.Run.load(finished)
    text = (finished / "report.html").read_text(encoding="utf-8")
    rows = run.table().to_pylist()
    slide_id = run.report["slides"][0]["slide_id"]
    for label in ("Tumor", "Stroma"):
        drawn = layer_of(text, label)[..., 3] > 0
        wanted = np.zeros_like(drawn)
        for row in rows:
            if row["slide_id"] == slide_id and row["label"] == label:
                x, y = row["x_qupath"], row["y_qupath"]
                wanted[y : y + 50, x : x + 50] = True
        assert drawn.shape == (500, 700)
        assert (drawn & ~wanted).sum() == 0
        assert (drawn & wanted).sum() > 0.9 * wanted.sum()


def _decoded(uri):
    return base64.b64decode(uri.partition(",")[2])


# --- what can be missing -------------------------------------------------------------------------


def test_a_slide_that_is_gone(study, tmp_path):
    slide = shutil.copy(study.slides[0], tmp_path / "gone.tiff")
    regions = [Region("Tumor", "POLYGON ((0 0, 400 0, 400 400, 0 400, 0 0))")]
    project = build_project(tmp_path / "p", [Image(slide, regions)])
    qb.export(project, tmp_path / "out", CONFIG)
    kept = tmp_path / "kept" / "gone.tiff"
    kept.parent.mkdir()
    shutil.move(slide, kept)
    page = report(tmp_path / "out")
    assert "The slide file was not found" in page.text
    assert "only the places of the patches are drawn" in page.text
    assert "Not shown: the slide file is not there" in page.text
    assert not page.of_class("base")
    assert len([each for each in page.of_class("patch") if "href" in each]) == 24
    # Where it is found again, all is shown.
    page = report(tmp_path / "out", slide_map={str(tmp_path): str(kept.parent)})
    assert "not found" not in page.text
    assert page.of_class("base")
    # Another file in its place is not taken for it.
    write_slide(slide, np.full((500, 700, 3), 200, np.uint8), mpp=0.5, tile=64)
    page = report(tmp_path / "out")
    assert "not the one that was exported" in page.text
    assert not page.of_class("base")


def test_annotations_that_changed_are_not_drawn(own, redrawn):
    redrawn()
    page = report(own)
    assert page.text.count("changed after the export") == 1
    assert page.text.count("Annotations 6") == 1  # of the slide that is as it was
    second = qb.Run.load(own).report["slides"][1]
    unknown = page.text.count("Not shown: these boxes are not known any more")
    assert unknown == len(second["dropped"]) > 0
    assert len(page.of_class("base")) == 2  # the slide itself is the same


def test_a_project_that_is_gone(own, study):
    study.project.rename(study.project.with_suffix(".other"))
    page = report(own)
    assert page.text.count("The project of this slide cannot be opened") == 2
    assert len(page.of_class("base")) == 2


def test_an_output_that_was_moved(out, tmp_path):
    moved = tmp_path / "another place" / "patches"
    moved.parent.mkdir()
    shutil.move(out, moved)
    seen = []
    page = report(moved, on_progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]
    assert "not shown" not in page.text.lower()
    for name in page.files:
        assert (moved / name).exists()


def test_a_run_of_which_slides_failed(study, tmp_path):
    bad = tmp_path / "bad.tiff"
    bad.write_bytes(b"not a slide")
    images = [Image(study.slides[0]), Image(bad, size=(700, 500))]
    project = build_project(tmp_path / "p", images)
    run = qb.export(project, tmp_path / "out", CONFIG.replace(labels=False))
    page = report(tmp_path / "out")
    assert "1 of 2 slides failed" in page.text
    assert " ".join(run.failures[0].error.split()) in page.text
    assert "slides 1 of 2" in page.text or "1 of 2 slides" in page.text
    assert len(page.of_class("base")) == 1


def test_a_run_that_is_not_finished(out):
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    record |= {"state": "running", "finished": None, "rows": {}, "run_digest": None}
    (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (out / "report.json").unlink()
    output = open_output(out)
    output.remove(output.slides()[1])
    page = report(out)
    assert "This run is not finished. 1 of 2 slides are committed" in page.text
    assert "export again with resume" in page.text
    assert "not exported yet" in page.text
    assert len(page.of_class("base")) == 1


def test_rows_that_are_damaged(out):
    output = open_output(out)
    part = out / "index" / f"slide_id={output.slides()[0]}" / "part-0.parquet"
    part.write_bytes(part.read_bytes()[:200])
    page = report(out)
    assert "1 of 2 slides cannot be read from the index" in page.text
    assert "damaged" in page.text
    assert len(page.of_class("base")) == 1


def test_patches_that_are_gone(out):
    for path in (out / "patches").rglob("*_x0_y*"):
        path.unlink()
    page = report(out)
    assert "not readable" in page.text
    assert "cannot be read from the output" in page.text


def test_a_run_without_labels_and_pixel_size(study, tmp_path):
    slide = write_slide(tmp_path / "a.tiff", np.full((300, 400, 3), 128, np.uint8), tile=64)
    project = build_project(tmp_path / "p", [Image(slide, pixel_size=None)])
    qb.export(project, tmp_path / "out", qb.ExportConfig(size=50, labels=False))
    page = report(tmp_path / "out")
    assert "pixel size unknown" in page.text
    assert "without labels" in page.text
    assert "Patches by label" not in page.text
    assert "Label share" not in page.text
    assert not page.all("section", id_="quality")
    assert not page.all("section", id_="corrections")
    assert not page.all("section", id_="stain")


def test_a_run_without_any_patch(study, tmp_path):
    qb.export(study.project, tmp_path / "out", CONFIG.replace(min_share=1.0, size=400))
    page = report(tmp_path / "out")
    assert "No patch was written" in page.text


@pytest.mark.parametrize("container", ["tar", "h5", "zarr"])
def test_patches_of_every_container_are_shown(study, tmp_path, container):
    kind = {} if container == "tar" else {"format": "raw"}
    qb.export(study.project, tmp_path / "out", CONFIG.replace(container=container, **kind))
    page = report(tmp_path / "out")
    assert "not readable" not in page.text
    # A patch in a file of many has no address of its own.
    assert all("href" not in each for each in page.of_class("patch"))
    assert len(page.of_class("patch")) > 50


def test_an_output_that_is_not_a_folder(study):
    output = open_output("memory://report", "memory")
    qb.export(study.project, output, CONFIG)
    place = qb.report(output)
    assert place.endswith("report.html")
    page = Parsed(output.get("report.html").decode())
    assert page.files == []
    assert len(page.of_class("patch")) > 50


# --- what other parts keep with a run ------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory, draw):
    """A run with tissue and quality, over a slide that is white right of x = 400."""
    folder = tmp_path_factory.mktemp("measured")
    pixels = draw.texture(3)
    pixels[:, :400, 1] //= 3
    pixels[:, 400:] = 245
    slide = write_slide(folder / "half.tiff", pixels, mpp=0.5, tile=64)
    project = build_project(folder / "p", [Image(slide)])
    config = qb.ExportConfig(
        size=50, labels=False, tissue="otsu", tissue_mpp=2.0, qc=("blank", "focus")
    )
    qb.export(project, folder / "out", config, workers=1)
    return folder / "out"


def layer_of(text, name):
    """Return the pixels of a layer of the first slide, RGBA."""
    slide = re.search(r'<details class="slide" id="slide-1".*?</details>', text, re.DOTALL)[0]
    names = re.findall(r'<input type="checkbox" data-layer="\d+"[^>]*>.*?<bdi>(.*?)</bdi>', slide)
    number = names.index(name) + 1
    uri = re.search(rf'<img class="layer" data-layer="{number}" src="([^"]*)"', slide)[1]
    with Picture.open(io.BytesIO(_decoded(uri))) as picture:
        return np.asarray(picture.convert("RGBA"))


def test_masks_and_quality_of_a_run_are_shown(measured):
    text = Path(qb.report(measured)).read_text(encoding="utf-8")
    page = Parsed(text)
    veil = layer_of(text, "Tissue mask")[..., 3]
    assert (veil[20:-20, 20:380] == 0).mean() > 0.95
    assert (veil[20:-20, 420:-20] > 0).mean() > 0.95
    (facts,) = (facts_of(table) for table in tables(measured))
    assert f"otsu, {facts['tissue']['share']:.1%} of the slide" in page.text
    assert "at 2 µm per px" in page.text
    assert "Tissue share of the patches" in page.text
    assert page.all("section", id_="quality")
    for name in ("blank", "focus"):
        assert f"{name} median {facts['quality'][name]['median']:,.3g}" in page.text
    assert {Path(name).suffix for name in page.files} >= {".geojson", ".parquet"}


def tables(out):
    output = open_output(out)
    return [output.table(slide_id) for slide_id in output.slides()]


@pytest.mark.parametrize("content", [b"\x89PNG not a picture", None])
def test_a_mask_that_is_damaged_or_gone_is_left_out(measured, tmp_path, content):
    out = tmp_path / "out"
    shutil.copytree(measured, out)
    for mask in (out / "tissue").glob("*.png"):
        mask.unlink()
        if content:
            mask.write_bytes(content)
    assert "Tissue mask" not in report(out).text


class Half:
    """A stain method that makes every patch half as bright."""

    version = "7"

    def __init__(self, argument=None):
        pass

    def fit(self, sample):
        return {"white": [240.0, 241.0, 242.0]}

    def standard(self, profile):
        return profile

    def apply(self, batch, profile, target, draws=None):
        return batch // 2, np.arange(len(batch)) == 0


def test_patches_before_and_after_stain_are_shown(study, tmp_path):
    qb.register("stain", "half", Half)
    qb.export(study.project, tmp_path / "out", CONFIG.replace(stain="half"), workers=1)
    text = Path(qb.report(tmp_path / "out")).read_text(encoding="utf-8")
    assert "half, version 7, glass 240, 241, 242" in text
    assert "kept as they were" in text
    pairs = re.findall(r'<img src="([^"]*)" alt="(Before|After): ', text)
    assert len(pairs) == 24
    means = {"Before": [], "After": []}
    for uri, kind in pairs:
        with Picture.open(io.BytesIO(_decoded(uri))) as picture:
            means[kind].append(np.asarray(picture.convert("RGB")).mean())
    assert np.mean(means["After"]) == pytest.approx(np.mean(means["Before"]) / 2, rel=0.03)


def test_dropped_patches_show_their_measures(study, tmp_path):
    config = CONFIG.replace(qc_min={"saturation": 0.3})
    run = qb.export(study.project, tmp_path / "out", config)
    assert run.dropped_counts()["quality"] > 3
    page = report(tmp_path / "out")
    assert re.search(r"saturation 0\.\d+", page.text)
    assert f"quality {run.dropped_counts()['quality']}" in page.text


def test_corrections_are_a_table(out):
    said = {
        "corrected": 3, "confirmed": 5, "rejected": 1, "contested": 0, "dropped": 0,
        "other_grid": 0, "other_slide": 0, "refused": {}, "digest": None,
        "confusion": [
            {"rule": "Tumor", "kind": "confirmed", "pathologist": "Tumor", "patches": 5},
            {"rule": "Tumor", "kind": "corrected", "pathologist": "Stroma", "patches": 3},
            {"rule": "Stroma", "kind": "rejected", "pathologist": None, "patches": 1},
        ],
    }  # fmt: skip
    change_facts(out, corrections=said)
    page = report(out)
    assert "They agree on 10 of 18 (56 %)" in page.text
    assert "rule Stroma Tumor rejected Stroma · · 2 Tumor 6 10 ·" in page.text


# --- names from files ----------------------------------------------------------------------------


@pytest.fixture
def hostile(study, tmp_path):
    regions = [
        Region(f"Tumor {SCRIPT}", "POLYGON ((0 0, 300 0, 300 500, 0 500, 0 0))"),
        Region(f"{STEERING} & co", "POLYGON ((300 0, 700 0, 700 500, 300 500, 300 0))"),
    ]
    image = Image(
        study.slides[0], regions, name=f"slide {SCRIPT} {STEERING}.svs",
        metadata={f"key {SCRIPT}": f'"><img src=x onerror=alert(1)> {STEERING}'},
    )  # fmt: skip
    other = Image(tmp_path / "it's <b>gone</b>.tiff", size=(9, 9))
    project = build_project(tmp_path / "p", [image, other])
    qb.export(project, tmp_path / "out", CONFIG, command=["export", SCRIPT])
    return tmp_path / "out"


def test_names_from_files_are_texts_only(hostile):
    text = Path(qb.report(hostile)).read_text(encoding="utf-8")
    page = Parsed(text)
    assert len(page.all("script")) == 1
    assert text.count("<script") == 1
    assert not [attrs for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert not [attrs for attrs in page.all("img") if not attrs["src"].startswith("data:")]
    assert "\u202e" not in text
    assert SCRIPT in page.text
    assert r"left\u202eright" in page.text


# --- where it is written -------------------------------------------------------------------------


def test_a_report_replaces_reports_only(out, finished, tmp_path):
    for page in (None, tmp_path / "notes.html"):
        place = page or out / "report.html"
        place.write_text("<p>notes</p>", encoding="utf-8")
        with pytest.raises(OutputError, match="is not a report"):
            qb.report(out, page)
        assert place.read_text(encoding="utf-8") == "<p>notes</p>"
        shutil.copy(finished / "report.html", place)
        qb.report(out, page)


def test_a_report_must_be_an_html_file_outside_of_qupaths_folders(out, tmp_path):
    with pytest.raises(OutputError, match=r"must end in \.html"):
        qb.report(out, tmp_path / "report.pdf")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        qb.report(out, tmp_path / "folder.html")
    project = Path(qb.Run.load(out).record["projects"][0]["path"])
    with pytest.raises(OutputError, match="belongs to the QuPath project"):
        qb.report(out, project.parent / "data" / "report.html")


def test_what_is_not_a_run_is_refused(tmp_path, out):
    with pytest.raises(OutputError, match="contains no run"):
        qb.report(tmp_path / "nothing")
    with pytest.raises(UsageError, match="openslid"):
        qb.report(out, reader="openslid")


def test_a_page_that_cannot_be_written_leaves_the_old_one(out, finished, monkeypatch):
    shutil.copy(finished / "report.html", out / "report.html")
    before = (out / "report.html").read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OutputError):
        qb.report(out)
    assert (out / "report.html").read_bytes() == before


def test_the_command_says_where_the_page_is(out, tmp_path, capsys):
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    other = tmp_path / "page.html"
    assert main(["report", str(out), "--out", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "report": str(other)}
    assert main(["report", str(tmp_path / "nothing")]) == 5


def test_a_run_with_pseudonyms_shows_them_with_and_without_the_key(tmp_path, draw):
    folder = tmp_path / "Mueller 1968"
    folder.mkdir()
    slide = write_slide(folder / "Mueller.tiff", draw.texture(1), mpp=0.5, tile=64)
    regions = [Region("Tumor", "POLYGON ((0 0, 400 0, 400 400, 0 400, 0 0))")]
    image = Image(slide, regions, name="Mueller HE", metadata={"patient": "Mueller"})
    project = build_project(folder / "study", [image])
    key = tmp_path / "key.json"
    qb.export(project, tmp_path / "out", CONFIG, pseudonymise=key)
    for given, found in ((None, False), (key, True)):
        text = Path(qb.report(tmp_path / "out", pseudonymise=given)).read_text(encoding="utf-8")
        page = Parsed(text)
        assert "Mueller" not in text
        assert "1968" not in text
        assert qb.Run.load(tmp_path / "out").record["slides"][0]["slide_name"] in page.text
        assert bool(page.of_class("base")) == found
        assert ("The run has pseudonyms" in page.text) != found
        assert ("Annotations 1" in page.text) == found
    with pytest.raises(UsageError, match="open names"):
        open_names = tmp_path / "open"
        qb.export(project, open_names, CONFIG)
        qb.report(open_names, pseudonymise=key)


def test_labels_of_slides_and_slides_without_a_project(tmp_path, draw):
    """A folder of slides with a table is planned again as the run did."""
    slides = tmp_path / "slides"
    slides.mkdir()
    for number in (1, 2):
        write_slide(slides / f"{number}.tiff", draw.texture(number), mpp=0.5, tile=64)
    table = tmp_path / "labels.csv"
    table.write_text("slide,diagnosis\n1.tiff,naevus\n2.tiff,melanoma\n", encoding="utf-8")
    config = qb.ExportConfig(size=50, label_from="metadata:diagnosis", tissue="otsu")
    run = qb.export(slides, tmp_path / "out", config, metadata=table, metadata_key="slide")
    assert set(run.label_counts()) == {"naevus", "melanoma"}
    table.unlink()  # the run froze what it says
    page = report(tmp_path / "out")
    assert "not drawn" not in page.text
    assert page.text.count("Tissue mask") == 2
    for label, number in run.label_counts().items():
        assert f"{label} {number}" in page.text
    assert "diagnosis naevus" in page.text
