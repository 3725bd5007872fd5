"""Pseudonyms: no name gets out, and who has the key works on as before."""

import gzip
import json
import shutil
import stat
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import ConfigError
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import write_slide
from tests.conftest import texture

SECRETS = ("Mueller", "Schmidt", "Anno68", "SITE-9", "Dr. Ann")
"""Parts of every name that must not get out."""
SIZE = "64"


@pytest.fixture
def hospital(tmp_path):
    """A project whose files, folders, names and metadata say who the patients are."""
    folder = tmp_path / "Mueller and Schmidt"
    folder.mkdir()
    ring = "POLYGON ((0 0, 160 0, 160 160, 0 160, 0 0))"
    images = []
    for number, name in enumerate(("Mueller Anno68", "Schmidt Anno68")):
        path = folder / f"{name}.tiff"
        write_slide(path, texture(number + 1, (256, 192)), mpp=0.5)
        metadata = {"patient": f"{name} SITE-9", "grade": str(number)}
        images.append(Image(path, [Region("Tumor", ring)], metadata=metadata))
    project = build_project(folder / "study Anno68", images)
    (folder / "labels Anno68.csv").write_text(
        "patient,outcome,born\nMueller Anno68 SITE-9,good,Anno68-01-02\n"
        "Schmidt Anno68 SITE-9,bad,Anno68-03-04\n"
    )
    return project, folder / "labels Anno68.csv", tmp_path / "key.json", tmp_path / "out"


def run(*words):
    return main([str(word) for word in words])


def everything_in(folder):
    """Yield each name below a folder, and each content as text: compressed ones opened."""
    for path in sorted(folder.rglob("*")):
        yield path.name
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield content.decode("latin-1")
        if path.suffix == ".gz":
            yield gzip.decompress(content).decode("latin-1")
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield json.dumps(table.to_pylist(), default=str, ensure_ascii=False)
            yield str(table.schema.metadata)
        if path.suffix == ".tar":
            with tarfile.open(path) as file:
                yield from file.getnames()
        if path.suffix == ".h5":
            import h5py

            names = []
            with h5py.File(path) as file:
                yield str(dict(file.attrs))
                file.visit(names.append)
                yield from (f"{name} {dict(file[name].attrs)}" for name in names)


def leaks(folder):
    texts = list(everything_in(folder))
    return sorted({secret for secret in SECRETS for text in texts if secret in text})


@pytest.mark.parametrize("container", ["folder", "tar", "h5", "zarr"])
def test_no_name_is_in_any_byte_of_the_output(hospital, tmp_path, container):
    project, table, key, out = hospital
    words = ["--size", SIZE, "--metadata", table, "--metadata-key", "patient"]
    words += ["--label-from", "metadata:outcome", "--container", container, "--reviewer", "Dr. Ann"]
    words += ["--where", "patient=* Anno68 SITE-9", "--preview", tmp_path / "plan.png"]
    open_out = tmp_path / "open"
    assert run("export", project, *words, "--out", open_out) == 0
    assert {"Mueller", "Schmidt", "Anno68", "SITE-9"} <= set(
        leaks(open_out)
    )  # the test can see them
    words += ["--pseudonymise", key, "--metadata-keep", "grade"]
    assert run("export", project, *words, "--out", out) == 0
    assert leaks(out) == []
    rows = qb.Run.load(out).table().to_pylist()
    assert {(row["label"], *map(tuple, row["metadata"])) for row in rows} == {
        ("good", ("grade", "0")), ("bad", ("grade", "1")),
    }  # fmt: skip
    assert all(row["slide_name"].startswith("p-") for row in rows)
    first = qb.Run.load(open_out).table().to_pylist()
    same = ("tile_uuid", "label", "digest", "x_qupath")
    assert sorted([row[k] for k in same] for row in rows) == sorted(
        [row[k] for k in same] for row in first
    )


def test_slides_that_fail_are_not_named_either(hospital, capsys):
    project, _, key, out = hospital
    folder = project.parent.parent
    (folder / "Schmidt Anno68.tiff").write_bytes(b"II*\0" + b"\xff" * 500)
    words = ["export", project, "--size", SIZE, "--out", out, "--pseudonymise", key]
    assert run(*words) == 1
    assert leaks(out) == []
    (failure,) = json.loads((out / "report.json").read_text())["failures"]
    assert failure["slide_name"].startswith("p-")
    (folder / "Schmidt Anno68.tiff").unlink()
    assert run(*words, "--update") == 1
    assert leaks(out) == []
    names = json.loads(key.read_text())["names"]
    (failure,) = json.loads((out / "report.json").read_text())["failures"]
    assert names[failure["slide_name"]] == "Schmidt Anno68.tiff"
    assert names[failure["missing"]] == str(folder / "Schmidt Anno68.tiff")


def test_plain_slides_keep_their_provenance_without_names(hospital, tmp_path):
    project, _, key, out = hospital
    folder = project.parent.parent
    slides = [folder / "Mueller Anno68.tiff", folder / "Schmidt Anno68.tiff"]
    words = ["export", *slides, "--no-labels", "--size", SIZE, "--pseudonymise", key]
    assert run(*words, "--out", out) == 0
    assert list((out / "provenance").rglob("*.geojson.gz"))
    assert leaks(out) == []
    study, bad = tmp_path / "seen", folder / "Schmidt bad Anno68.svs"
    bad.write_bytes(b"II*\0" + b"\xff" * 500)
    words.insert(1, bad)
    assert run(*words, "--out", tmp_path / "out2", "--create-project", study) == 1
    assert leaks(tmp_path / "out2") == []
    (failure,) = json.loads((tmp_path / "out2/report.json").read_text())["failures"]
    assert json.loads(key.read_text())["names"][failure["slide_name"]] == bad.name
    with qb.open_project(study, engine="embedded") as made:  # in QuPath the names are needed
        assert [slide.name for slide in made] == ["Mueller Anno68.tiff", "Schmidt Anno68.tiff"]


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_who_has_the_key_works_on_as_before(hospital, tmp_path, capsys, runner):
    project, _, key, out = hospital
    words = ["export", project, "--size", SIZE, "--out", out, "--pseudonymise", key]
    words += ["--runner", runner, "--workers", "1"]
    assert run(*words) == 0
    assert run(*words, "--resume") == 0
    assert run("status", project, "--exit-code") == 0
    capsys.readouterr()
    assert run("status", project, "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert [entry["slide_name"] for entry in told["entries"]] == [
        "Mueller Anno68.tiff", "Schmidt Anno68.tiff",
    ]  # fmt: skip
    assert run("verify", out, "--pseudonymise", key) == 0
    assert f"{qb.Run.load(out).written} of them against the slides" in capsys.readouterr().out
    assert run("verify", out) == 2
    assert "without their key file nobody knows" in capsys.readouterr().err
    assert run("verify", out, "--pixels", "0") == 0
    assert run("write-back", project, "--run", out, "--direct", "--force") == 0
    assert run(*words, "--update") == 0
    run_id = qb.Run.load(out).run_id
    facts = project.parent / "qupath_bridge/runs" / run_id / "run.json"
    record = json.loads(facts.read_text())
    shutil.rmtree(facts.parent)
    assert run("write-back", project, "--run", out) == 2
    assert "without their key file nobody knows" in capsys.readouterr().err
    assert run("write-back", project, "--run", out, "--pseudonymise", key) == 0
    assert json.loads(facts.read_text()) == record
    assert run("status", project, "--exit-code") == 0
    assert record["options"]["pseudonymise"] == str(key)
    assert record["command"] and not record["command"][0].startswith("p-")


def test_another_key_is_refused(hospital, tmp_path, capsys):
    project, _, key, out = hospital
    words = ["export", project, "--size", SIZE, "--out", out]
    assert run(*words, "--pseudonymise", key) == 0
    other = tmp_path / "other.json"
    assert run(*words, "--pseudonymise", other, "--update") == 5
    assert "was made with pseudonyms of the key" in capsys.readouterr().err
    assert run(*words, "--update") == 5
    assert run("verify", out, "--pseudonymise", other) == 2


def test_key_file_is_made_once_and_only_grows(hospital, tmp_path, capsys):
    project, _, key, out = hospital
    words = ["export", project, "--size", SIZE, "--pseudonymise", key]
    assert run(*words, "--entry", "1", "--out", out) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    first = json.loads(key.read_text())
    assert run(*words, "--out", tmp_path / "more") == 0
    second = json.loads(key.read_text())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert first["key"] == second["key"]
    assert first["names"].items() < second["names"].items()
    ids = {
        row["slide_name"]
        for place in (out, tmp_path / "more")
        for row in qb.Run.load(place).table().to_pylist()
    }
    assert {second["names"][each] for each in ids} == {"Mueller Anno68.tiff", "Schmidt Anno68.tiff"}
    before = key.read_bytes()
    assert run(*words, "--out", tmp_path / "more", "--update") == 0
    mine = tmp_path / "mine.json"
    mine.write_text('{"key": "1"}')
    assert run("export", project, "--pseudonymise", mine, "--out", tmp_path / "no") == 2
    assert mine.read_text() == '{"key": "1"}'
    inside = tmp_path / "no" / "key.json"
    assert run("export", project, "--pseudonymise", inside, "--out", tmp_path / "no") == 2
    assert "would be in the output" in capsys.readouterr().err
    assert json.loads(before)["key"] == first["key"]


def test_options_that_need_each_other():
    with pytest.raises(ConfigError, match="metadata_keep needs pseudonymise"):
        qb.RunOptions(metadata_keep=["x"])
    with pytest.raises(ConfigError, match="exclude each other"):
        qb.RunOptions(pseudonymise="k", live_annotations="d")


def test_label_and_macro_images_are_never_exported(tmp_path):
    """Their pages are magenta; no written pixel is, in patches or previews."""
    pixels = texture(1, (512, 384))
    pixels[..., 1] = np.maximum(pixels[..., 1], 60)
    magenta = np.full((100, 120, 3), (255, 0, 255), np.uint8)
    path = tmp_path / "a.svs"
    text = "Aperio Image Library v11.2.1\n{}|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "metadata": None}
        file.write(pixels, tile=(128, 128), description=text.format("512x384"), **options)
        file.write(pixels[::4, ::4], description=text.format("thumb"), **options)
        file.write(magenta, description="Aperio Image Library\nlabel 120x100",
                   subfiletype=1, **options)  # fmt: skip
        file.write(magenta, description="Aperio Image Library\nmacro 120x100",
                   subfiletype=9, **options)  # fmt: skip
    with tifffile.TiffFile(path) as file:
        assert (file.pages[2].asarray() == magenta).all()
    words = ["--size", "128", "--no-labels", "--tissue", "saturation", "--min-tissue", "0"]
    words += ["--preview", tmp_path / "plan.png", "--out", tmp_path / "out"]
    assert run("export", path, *words, "--create-project", tmp_path / "study") == 0
    from PIL import Image as Picture

    pictures = [*(tmp_path / "out").rglob("*.png"), tmp_path / "plan.png"]
    assert len(pictures) > 12
    for each in pictures:
        shown = np.asarray(Picture.open(each).convert("RGB")).astype(int)
        assert not ((abs(shown - (255, 0, 255))).sum(-1) < 60).any(), each
    assert not list((tmp_path / "study").rglob("*.jpg"))
