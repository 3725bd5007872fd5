"""Projects in object storage; a store in memory stands for a bucket."""

import json
import shutil
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import (
    BridgeError,
    MissingDataError,
    OutputError,
    ProjectError,
    UsageError,
)
from qupath_bridge.outputs import open_output
from qupath_bridge.patches.corrections import Correction, to_lines
from qupath_bridge.pipeline.records import load_facts, load_finished
from qupath_bridge.sources import entries
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.projects import Image, build_project
from qupath_bridge.urls import shown
from tests.support.buckets import upload
from tests.support.run_content import facts_of, index_rows, patch_files

CONFIG = qb.ExportConfig(size=50, edge="pad")


@pytest.fixture
def url(bucket, local):
    """URL of the same project in a bucket."""
    upload(local, bucket.url)
    return f"{bucket.url}/study/project.qpproj"


@pytest.fixture
def asked(monkeypatch):
    """Number of requests by their kind, and the name or folder in the bucket."""
    found = Counter()
    for kind in ("get", "get_range", "state", "exists", "list", "children", "size"):
        real = getattr(MemoryStore, kind)

        def count(self, name="", *more, _kind=kind, _real=real):
            place = f"{self.url}/{name}".removeprefix("memory://").partition("/")[2]
            found[_kind, place] += 1
            return _real(self, name, *more)

        monkeypatch.setattr(MemoryStore, kind, count)
    return found


def content(place):
    """Return the patches of a run, its rows and its digests."""
    digests = [(facts["annotation_digest"], facts["plan_digest"]) for facts in facts_of(place)]
    whole = load_finished(open_output(place))["config_digest"]
    return patch_files(place), index_rows(place), digests, whole


# --- the same as on a disk ------------------------------------------------------------------


def test_a_project_in_a_bucket_makes_the_same_patches(local, bucket, url, tmp_path, cache_folder):
    qb.export(local / "study", tmp_path / "disk", CONFIG)
    shutil.rmtree(local)  # no file of the bucket can be found here
    for source in (url, f"{bucket.url}/study", f"{bucket.url}/study/"):
        out = tmp_path / uuid.uuid4().hex
        run = qb.export(source, out, CONFIG)
        assert content(out) == content(tmp_path / "disk")
        assert len(content(out)[0]) > 10
    assert run.provenance == (out / "provenance",)
    assert {slide["project"] for slide in run.record["slides"]} == {url}
    assert run.record["projects"][0]["path"] == url
    texts = b"".join(path.read_bytes() for path in out.rglob("*.json"))
    assert str(cache_folder).encode() not in texts
    assert b"memory:/" not in texts.replace(b"memory://", b"")
    assert qb.verify(run).ok


def test_resume_and_update_of_a_project_in_a_bucket(local, bucket, url, tmp_path, two_slides, draw):
    out = tmp_path / "out"
    qb.export(url, out, CONFIG)
    assert qb.export(url, out, CONFIG, resume=True).run_id == qb.Run.load(out).run_id
    folder = local / "again"
    slides = [local / "slides" / path.name for path in two_slides]
    build_project(folder, draw.images(slides, (0, 15)), stored_at="/example/again")
    upload(folder, f"{bucket.url}/study")
    updated = qb.export(url, out, CONFIG, update=True)
    assert updated.written > 0
    shutil.rmtree(local / "study")
    folder.rename(local / "study")
    qb.export(local / "study", tmp_path / "disk", CONFIG)
    assert content(out)[:3] == content(tmp_path / "disk")[:3]


def test_collected_corrections_count_as_on_a_disk(local, bucket, tmp_path):
    first = qb.export(local / "study", tmp_path / "first", CONFIG, provenance=False)
    row = first.table().to_pylist()[0]
    output = first.open()
    facts = load_facts(output.rows(row["slide_id"]), row["slide_id"])
    said = Correction(
        "corrected",
        qb.Box(row["x_qupath"], row["y_qupath"], row["w_qupath"], row["h_qupath"]),
        before=row["label"], after="Necrosis", run_id=first.run_id, rule_label=row["label"],
        fingerprint=facts["fingerprint"]["digest"], time="2026-01-01T00:00:00Z",
    )  # fmt: skip
    place = local / "study/qupath_bridge/corrections/1/01ARZ3NDEKTSV4RRFFQ69G5FAV.jsonl"
    place.parent.mkdir(parents=True)
    place.write_bytes(to_lines([("1", said)]))
    upload(local, bucket.url)
    qb.export(local / "study", tmp_path / "disk", CONFIG)
    qb.export(f"{bucket.url}/study", tmp_path / "out", CONFIG)
    assert content(tmp_path / "out") == content(tmp_path / "disk")
    assert content(tmp_path / "out") != content(tmp_path / "first")
    bucket.put("study/qupath_bridge/corrections/1/x.jsonl", b"{")
    with pytest.raises(ProjectError, match=f"{bucket.url}/study/qupath_bridge/corrections/1/x"):
        qb.export(f"{bucket.url}/study", tmp_path / "damaged", CONFIG)


# --- what is asked for ----------------------------------------------------------------------


def test_listing_a_thousand_slides_asks_for_the_project_alone(local, bucket, asked, tmp_path):
    slide = next((local / "slides").iterdir())
    images = [Image(slide, [], size=(20, 10))] * 1000
    shutil.rmtree(local / "study")
    build_project(local / "study", images, stored_at="/example/study")
    upload(local, bucket.url)
    asked.clear()
    with qb.open_project(f"{bucket.url}/study/project.qpproj") as project:
        assert len(project) == 1000
        assert {each.path_origin for each in project} == {"relative"}
        assert not [place for _, place in asked if place.startswith("study/data/1")]
        # Those of a store in memory ask for others of their own.
        assert sum(n for (kind, _), n in asked.items() if kind in {"get_range", "children"}) <= 5
        assert sum(asked.values()) < 30
        asked.clear()
        assert project["77"].read().annotations == ()
        assert {place.rpartition("/")[0] for _, place in asked} == {"study/data/77"}
    asked.clear()
    qb.open_project(f"{bucket.url}/study/project.qpproj")
    assert not [place for kind, place in asked if kind == "get_range"]  # the copies are there


def test_an_entry_is_copied_once_and_only_where_it_is_used(url, asked, tmp_path):
    run = qb.export(url, tmp_path / "out", CONFIG, selection=qb.Selection(entry=["2"]))
    assert run.written > 0
    read = Counter({place: n for (kind, place), n in asked.items() if kind == "get_range"})
    assert read["study/data/2/data.qpdata"] == read["study/data/2/summary.json"] == 1
    assert not [place for place in read if place.startswith("study/data/1/")]


def test_sizes_that_the_project_lacks_are_asked_for(local, bucket, url, asked):
    values = json.loads(bucket.get("study/project.qpproj"))
    for image in values["images"]:
        del image["serverBuilder"]["metadata"]
    bucket.put("study/project.qpproj", json.dumps(values).encode())
    bucket.put("study/data/2/summary.json", b"{}")
    first, second = qb.open_project(url)
    assert (first.width, first.height) == (700, 500)
    assert second.width is None


# --- changes --------------------------------------------------------------------------------


def test_what_is_saved_meanwhile_is_read(url, bucket, local, two_slides, draw):
    project = qb.open_project(url)
    before = project["2"].read()
    build_project(local / "again", draw.images(two_slides, (0, 15)), stored_at="/example/study")
    bucket.put("study/data/2/data.qpdata", (local / "again/data/2/data.qpdata").read_bytes())
    after = project["2"].read()
    assert len(before.annotations) == len(after.annotations) > 1
    assert before.objects != after.objects


def test_two_versions_are_never_mixed(url, bucket, monkeypatch, local, two_slides, draw):
    build_project(local / "again", draw.images(two_slides, (0, 15)), stored_at="/example/study")
    new = (local / "again/data/2/data.qpdata").read_bytes()
    real, left = MemoryStore.get_range, [1]

    def replaced(self, name, *more):
        data = real(self, name, *more)
        if name.endswith("data.qpdata") and left:
            left.pop()
            bucket.put("study/data/2/data.qpdata", new)
        return data

    monkeypatch.setattr(MemoryStore, "get_range", replaced)
    monkeypatch.setattr(entries, "PAUSES", (0.001,))
    project = qb.open_project(url)
    image = project["2"].read()
    assert not left
    monkeypatch.undo()
    assert image.objects == qb.open_project(local / "again")["2"].read().objects


def test_data_that_never_rest_are_refused(url, bucket, monkeypatch):
    real = MemoryStore.get_range

    def replaced(self, name, *more):
        data = real(self, name, *more)
        if name.endswith("data.qpdata"):
            bucket.put("study/data/2/data.qpdata", uuid.uuid4().bytes)
        return data

    monkeypatch.setattr(MemoryStore, "get_range", replaced)
    with pytest.raises(ProjectError, match="was replaced while it was copied") as caught:
        qb.open_project(url)["2"].read()
    assert f"{bucket.url}/study/data/2" in str(caught.value)


def test_the_next_opening_sees_a_project_that_was_saved(url, bucket):
    assert len(qb.open_project(url)) == 2
    values = json.loads(bucket.get("study/project.qpproj"))
    del values["images"][1]
    bucket.put("study/project.qpproj", json.dumps(values).encode())
    assert len(qb.open_project(url)) == 1


# --- what is missing or damaged -------------------------------------------------------------


def test_errors_name_the_files_in_the_bucket(url, bucket, cache_folder):
    bucket.put("study/data/1/data.qpdata", b"damaged")
    with pytest.raises(ProjectError) as caught:
        qb.open_project(url)["1"].read()
    assert str(caught.value).startswith(f"{bucket.url}/study/data/1/data.qpdata: ")
    assert str(cache_folder) not in str(caught.value)
    bucket.put("study/classifiers/classes.json", b"[")
    with pytest.raises(ProjectError) as caught:
        qb.open_project(url)
    assert str(caught.value).startswith(f"{bucket.url}/study/classifiers/classes.json: ")
    bucket.put("study/project.qpproj", b"{}")
    with pytest.raises(ProjectError, match=f"{url}: not a QuPath project"):
        qb.open_project(url)


def test_a_backup_is_read_in_the_place_of_data(url, bucket, cache_folder):
    bucket.put("study/data/1/data.qpdata.bkp", bucket.get("study/data/1/data.qpdata"))
    wanted = qb.open_project(url)["1"].read().objects
    bucket.delete("study/data/1/data.qpdata")
    image = qb.open_project(url)["1"].read()
    assert image.objects == wanted
    (problem,) = image.problems
    assert f"{bucket.url}/study/data/1/data.qpdata is missing" in problem


def test_entries_without_data(url, bucket):
    for name in list(bucket.list("study/data/1/")):
        bucket.delete(name)
    project = qb.open_project(url)
    with pytest.raises(MissingDataError, match="Copy the folder data/1") as caught:
        project["1"].read()
    assert f"{bucket.url}/study/data/1: " in str(caught.value)
    bucket.put("study/data/1/thumbnail.jpg", b"")
    assert project["1"].read().objects == ()
    # Of a slide that QuPath saved with annotations the data are lost.
    bucket.delete("study/data/2/data.qpdata")
    with pytest.raises(ProjectError, match="QuPath saved .* annotations here, but only 0"):
        project["2"].read()
    for name in list(bucket.list("study/data/")):
        bucket.delete(name)
    project = qb.open_project(url)
    assert any(f"{bucket.url}/study/data: " in text for text in project.problems)
    with pytest.raises(MissingDataError) as caught:
        project["1"].read()
    assert caught.value.whole_project


def test_no_project(bucket, url):
    for place in (f"{bucket.url}/none/project.qpproj", f"{bucket.url}/none/"):
        with pytest.raises(ProjectError, match=place.rstrip("/")):
            qb.open_project(place)
    bucket.put("study/other.qpproj", b"{}")
    with pytest.raises(ProjectError, match="found 2 project files"):
        qb.open_project(f"{bucket.url}/study")


def test_folders_of_projects(local, bucket, url, tmp_path):
    upload(local / "study", f"{bucket.url}/all/first")
    upload(local / "study", f"{bucket.url}/all/second")
    assert [str(path.parent.name) for path in qb.api.find_projects(f"{bucket.url}/all")] == [
        "first", "second",
    ]  # fmt: skip
    found = qb.inspect(f"{bucket.url}/all")
    assert [each.project["name"] for each in found] == ["first", "second"]


# --- where the slides are -------------------------------------------------------------------


def test_slides_are_not_looked_for_outside_of_the_bucket(local, bucket, tmp_path):
    """A project at the top of a bucket has no place that is two folders above it."""
    upload(local / "study", bucket.url)
    bucket.put(next((local / "slides").iterdir()).name, b"")
    shutil.rmtree(local / "slides")
    found, lost = qb.open_project(f"{bucket.url}/project.qpproj")
    assert {found.path_origin, lost.path_origin} == {"beside", None}
    assert all(bucket.url in text for text in lost.tried if text.startswith("beside"))
    assert not [text for text in lost.tried if text.startswith("relative")]


def test_slides_of_this_machine_and_mapped_ones(local, bucket, url, tmp_path):
    old, new = "/example/slides", str(local / "slides")
    project = qb.open_project(url, slide_map={old: new})
    assert [slide.path.parent for slide in project] == [local / "slides"] * 2
    for path in (local / "slides").iterdir():
        bucket.delete(f"slides/{path.name}")
    project = qb.open_project(url, search=[local])
    assert [slide.path_origin for slide in project] == ["searched"] * 2
    project = qb.open_project(url, slide_map={old: f"{bucket.url}/elsewhere"})
    assert [slide.path_origin for slide in project] == ["mapped"] * 2


# --- what writes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["write-back", "--run", "OUT"],
        ["write-back", "--run", "OUT", "--direct"],
        ["write-back", "--undo", "OUT"],
        ["corrections"],
        ["corrections", "--collect"],
        ["predictions", "--table", "TABLE", "--name", "x"],
    ],
)
def test_commands_that_write_refuse_the_url(url, bucket, words, capsys, tmp_path):
    names = sorted(bucket.list())
    qb.export(url, tmp_path / "out", CONFIG)
    table = tmp_path / "table.csv"
    table.write_text("patch_id,tumor\n1,0.5\n")
    places = {"OUT": str(tmp_path / "out"), "TABLE": str(table)}
    words = [places.get(word, word) for word in words]
    for target in (url, places["OUT"]) if words[0] == "predictions" else (url,):
        assert main([words[0], target, *words[1:]]) == 2
        said = capsys.readouterr().err
        assert f"{url} is in object storage" in said
        assert "Copy the folder of the project to this machine" in said
    assert sorted(bucket.list()) == names


def test_provenance_is_beside_the_patches(local, url, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--size", "50", "--edge", "pad", "--out"]
    assert main(["export", url, *words, str(out)]) == 0
    said = capsys.readouterr()
    assert f"Provenance for QuPath in {out / 'provenance'}" in said.out
    assert "The project is in object storage, where nothing is written" in said.err
    qb.export(local / "study", tmp_path / "disk", CONFIG)
    (written,) = (local / "study/qupath_bridge/runs").iterdir()
    names = {path.name for path in written.iterdir()}
    assert {path.name for path in (out / "provenance").iterdir()} == names > {"run.json"}


def test_status_finds_runs_beside_their_patches(
    local, bucket, url, tmp_path, capsys, two_slides, draw
):
    assert main(["status", url]) == 0
    assert "--run OUT" in capsys.readouterr().out
    for out in (tmp_path / "out", f"{bucket.url}/out"):
        run = qb.export(url, out, CONFIG)
        (found,) = qb.status(url, runs=[Path(out)])
        assert (found.run_id, found.state, len(found.entries)) == (run.run_id, "current", 2)
        assert shown(found.folder) == f"{out}/provenance"
    build_project(local / "new", draw.images(two_slides, (0, 15)), stored_at="/example/study")
    bucket.put("study/data/2/data.qpdata", (local / "new/data/2/data.qpdata").read_bytes())
    assert main(["status", url, "--run", str(out), "--exit-code"]) == 1
    said = capsys.readouterr().out
    assert "slide 2.tiff (entry 2): stale" in said
    assert f"qupath-bridge export {url} --out {out}" in said
    # A project that was uploaded with its runs shows them, too.
    other = qb.export(local / "study", tmp_path / "disk", CONFIG)
    upload(local, bucket.url)
    states = {each.run_id: each.state for each in qb.status(url, runs=[out])}
    assert states == {run.run_id: "current", other.run_id: "current"}
    with pytest.raises(OutputError, match="is not of memory://"):
        qb.status(url, runs=[tmp_path / "disk"])
    qb.export(url, tmp_path / "bare", CONFIG, provenance=False)
    with pytest.raises(OutputError, match="has no provenance of memory://"):
        qb.status(url, runs=[tmp_path / "bare"])


def test_a_damaged_run_in_a_bucket_is_named_by_its_place(bucket, url):
    """And not by that of the copy, which is gone when somebody reads the message."""
    out = f"{bucket.url}/out"
    qb.export(url, out, CONFIG)
    (name,) = (name for name in bucket.list("out/provenance/") if name.endswith("/run.json"))
    bucket.put(name, b"{}")
    (found,) = qb.status(url, runs=[out])
    assert shown(found.folder) == f"{out}/provenance"
    assert f"{out}/provenance" in found.problem
    assert tempfile.gettempdir() not in found.problem
    assert "write-back" not in found.problem


@pytest.mark.parametrize("kind", [str, Path])
def test_an_output_in_a_bucket_is_known_however_its_url_is_given(bucket, url, tmp_path, kind):
    """The message is about the project that the run is of."""
    out = f"{bucket.url}/out"
    qb.export(url, out, CONFIG)
    table = tmp_path / "table.csv"
    table.write_text("patch_id,tumor\n1,0.5\n")
    with pytest.raises(BridgeError, match=f"{url} is in object storage"):
        qb.predictions(kind(out), table, name="x")


def test_an_output_in_the_projects_own_folders_is_refused(url, bucket):
    for place in ("study", "study/data/out", "study/qupath_bridge/runs/out"):
        with pytest.raises(OutputError, match="belongs to the QuPath project itself"):
            qb.export(url, f"{bucket.url}/{place}", CONFIG)


def test_other_commands(url, capsys, tmp_path):
    assert main(["inspect", url]) == 0
    assert url in capsys.readouterr().out
    assert main(["plan", url, "--size", "50", "--preview", str(tmp_path / "plan.png")]) == 0
    assert main(["inspect", url, "--json"]) == 0
    assert "memory:/" not in capsys.readouterr().out.replace("memory://", "")
    run = qb.export(url, tmp_path / "out", CONFIG)
    assert main(["report", run.url]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "memory:/" not in page.replace("memory://", "")
    assert "not found" not in page
    patch = run.table()["path"][0].as_py()
    capsys.readouterr()
    assert main(["lineage", str(tmp_path / "out" / patch)]) == 0
    assert url in capsys.readouterr().out
    with pytest.raises(UsageError, match="is in object storage"):
        qb.corrections(url)
