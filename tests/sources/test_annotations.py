"""Slides without a project, and regions from GeoJSON files that belong to slides by name."""

import json
import pickle
import sys
import unicodedata
from dataclasses import replace

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import ProjectError, ReadError, UsageError
from qupath_bridge.model import ObjectType
from qupath_bridge.sources import get_source, open_project, open_source
from qupath_bridge.sources.annotations import annotate
from qupath_bridge.sources.memory import memory_project, memory_slide
from qupath_bridge.testing.projects import Image, Region, build_project, tree_hashes
from qupath_bridge.testing.slides import write_slide

EMPTY = '{"type": "FeatureCollection", "features": []}'


def square(class_name, x=0, size=128, **properties):
    ring = [[x, 0], [x + size, 0], [x + size, size], [x, size], [x, 0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": class_name, "color": [1, 2, 3]}, **properties},
    }


def write(path, *features):
    path.write_text(
        json.dumps({"type": "FeatureCollection", "features": list(features)}), encoding="utf-8"
    )
    return path


@pytest.fixture
def folder(tmp_path, draw):
    """A folder with two slides, A.tiff and B.tiff, and an empty one for GeoJSON files."""
    (tmp_path / "regions").mkdir()
    (tmp_path / "slides").mkdir()
    for number, name in enumerate("AB"):
        write_slide(tmp_path / "slides" / f"{name}.tiff", draw.texture(number + 1), mpp=0.5)
    return tmp_path


def classes(project):
    return [{a.class_path for a in slide.read().annotations} for slide in project]


# --- names ------------------------------------------------------------------------------------


def named(*names):
    return memory_project([memory_slide(str(n), name) for n, name in enumerate(names, 1)])


@pytest.mark.parametrize(
    ("slide", "file"),
    [
        ("A.svs", "A.geojson"),
        ("A.svs", "A.svs.geojson"),
        ("A.svs", "A.json"),
        ("A.svs", "A.GEOJSON"),
        ("A.ome.tif", "A.geojson"),
        ("A.ome.tif", "A.ome.geojson"),
        ("A", "A.geojson"),
        ("case.01", "case.01.geojson"),
        (unicodedata.normalize("NFC", "é.svs"), unicodedata.normalize("NFD", "é.geojson")),
    ],
)
def test_geojson_file_belongs_to_a_slide_by_its_name(tmp_path, slide, file):
    write(tmp_path / file, square("Tumor"))
    write(tmp_path / "another.geojson", square("Stroma"))
    other = named(slide, "B.svs")
    project = annotate(other, tmp_path)
    assert {a.class_path for a in project.slides[0].read().annotations} == {"Tumor"}
    assert project.problems == (f"{tmp_path}: no slide has the name of another.geojson; not used.",)


@pytest.mark.parametrize("file", ["a.geojson", "AA.geojson", "case.geojson", "A.txt", ".A.geojson"])
def test_geojson_file_of_another_name_belongs_to_no_slide(tmp_path, file):
    write(tmp_path / file, square("Tumor"))
    with pytest.raises(
        UsageError, match="no GeoJSON file has the name of a slide; there is 'A.svs'"
    ):
        annotate(named("A.svs", "case.01"), tmp_path)


def test_geojson_file_may_have_the_name_of_the_slide_file(tmp_path):
    write(tmp_path / "scan 7.geojson", square("Tumor"))
    slides = [memory_slide("1", "Patient 1", path=tmp_path / "scan 7.svs"), memory_slide("2", "B")]
    moved = replace(slides[0], path=None, uri="file:/C:/x/scan%207.svs")
    for first in (slides[0], moved):
        project = annotate(memory_project([first, slides[1]]), tmp_path)
        assert {a.class_path for a in project["Patient 1"].read().annotations} == {"Tumor"}


def test_slide_without_a_geojson_file_fails_and_the_others_do_not(tmp_path):
    write(tmp_path / "A.geojson", square("Tumor"))
    project = annotate(named("A.svs", "B.svs"), tmp_path)
    assert project.problems == ()
    assert project["A.svs"].read().annotations
    with pytest.raises(ProjectError, match=r"name of the slide B\.svs \(entry 2\)") as caught:
        project["B.svs"].read()
    assert "B.svs.geojson" in caught.value.hint


def test_two_geojson_files_for_a_slide_are_an_error(tmp_path):
    for name in ("A.geojson", "A.svs.json"):
        write(tmp_path / name, square("Tumor"))
    write(tmp_path / "B.geojson", square("Stroma"))
    project = annotate(named("A.svs", "B.svs"), tmp_path)
    with pytest.raises(ProjectError, match=r"A\.svs\.json and A\.geojson have the name"):
        project["A.svs"].read()
    assert project["B.svs"].read().annotations


def test_geojson_file_for_two_slides_is_an_error(tmp_path):
    write(tmp_path / "A.geojson", square("Tumor"))
    project = annotate(named("A.svs", "A.tif"), tmp_path)
    for slide in project:
        with pytest.raises(ProjectError, match="has the name of several slides"):
            slide.read()
    (tmp_path / "A.geojson").unlink()
    write(tmp_path / "A.svs.geojson", square("Tumor"))
    write(tmp_path / "A.tif.geojson", square("Stroma"))
    assert classes(annotate(named("A.svs", "A.tif"), tmp_path)) == [{"Tumor"}, {"Stroma"}]


def twins(tmp_path, *names):
    """Slides of one slide file, A.svs, under these names."""
    return memory_project(
        [memory_slide(str(n), name, path=tmp_path / "A.svs") for n, name in enumerate(names, 1)]
    )


@pytest.mark.parametrize(("first", "file"), [("A.svs", "A"), ("A.svs", "A.svs"), ("A", "A")])
def test_slide_file_in_two_entries_has_a_geojson_file_by_each_name(tmp_path, first, file):
    write(tmp_path / f"{file}.geojson", square("Tumor"))
    write(tmp_path / "never.geojson", square("Stroma"))
    project = annotate(twins(tmp_path, first, "never"), tmp_path)
    assert classes(project) == [{"Tumor"}, {"Stroma"}]
    assert project.problems == ()


def test_name_of_a_slide_is_not_that_of_another_slide_file(tmp_path):
    write(tmp_path / "A.geojson", square("Tumor"))
    project = annotate(twins(tmp_path, "A.svs", "never"), tmp_path)
    assert {a.class_path for a in project["A.svs"].read().annotations} == {"Tumor"}
    with pytest.raises(ProjectError, match="no GeoJSON file has the name of the slide never") as e:
        project["never"].read()
    assert "never.geojson" in e.value.hint


def test_whole_name_counts_before_the_name_without_its_ending(tmp_path):
    write(tmp_path / "A.geojson", square("Tumor"))
    write(tmp_path / "A.svs.geojson", square("Stroma"))
    assert classes(annotate(named("A", "A.svs"), tmp_path)) == [{"Tumor"}, {"Stroma"}]


def test_name_of_a_shared_slide_file_belongs_to_none_of_its_slides(tmp_path):
    write(tmp_path / "A.geojson", square("Tumor"))
    write(tmp_path / "x.geojson", square("Stroma"))
    project = annotate(twins(tmp_path, "x", "y"), tmp_path)
    assert {a.class_path for a in project["x"].read().annotations} == {"Stroma"}
    with pytest.raises(ProjectError, match="has the name of several slides") as caught:
        project["y"].read()
    assert "such as y.geojson" in caught.value.hint
    write(tmp_path / "y.geojson", square("Necrosis"))
    project = annotate(twins(tmp_path, "x", "y"), tmp_path)
    assert classes(project) == [{"Stroma"}, {"Necrosis"}]
    (problem,) = project.problems
    assert "A.geojson" in problem and "files of their own names; not used" in problem


def test_slides_of_the_same_name_are_ambiguous(tmp_path):
    write(tmp_path / "A.svs.geojson", square("Tumor"))
    for slide in annotate(twins(tmp_path, "A.svs", "A.svs"), tmp_path):
        with pytest.raises(ProjectError, match="has the name of several slides") as caught:
            slide.read()
        assert caught.value.hint == (
            "Rename the slides in QuPath, so that each has a name of its own."
        )


def test_cost_of_finding_geojson_files_grows_with_the_number_of_slides(tmp_path, monkeypatch):
    """For each slide, not for each pair of slide and file."""
    looks = []
    module = sys.modules[annotate.__module__]
    real = module._stems
    monkeypatch.setattr(module, "_stems", lambda name: looks.append(name) or real(name))
    for number in range(200):
        (tmp_path / f"{number}.geojson").write_text(EMPTY)
    for number in (50, 200):
        looks.clear()
        annotate(named(*[f"{n}.svs" for n in range(number)]), tmp_path)
        assert 0 < len(looks) <= 10 * number


def test_one_geojson_file_for_the_only_slide_needs_no_name(tmp_path):
    path = write(tmp_path / "regions of today.geojson", square("Tumor"))
    assert classes(annotate(named("A.svs"), path)) == [{"Tumor"}]
    with pytest.raises(UsageError, match="no GeoJSON file has the name of a slide"):
        annotate(named("A.svs", "B.svs"), path)
    named_one = write(tmp_path / "B.geojson", square("Stroma"))
    project = annotate(named("A.svs", "B.svs"), named_one)
    assert {a.class_path for a in project["B.svs"].read().annotations} == {"Stroma"}
    with pytest.raises(ProjectError, match="nobody can know"):
        project["A.svs"].read()


def test_many_unused_geojson_files_are_counted(tmp_path):
    write(tmp_path / "A.geojson", square("Tumor"))
    for number in range(15):
        (tmp_path / f"x{number:02}.geojson").write_text(EMPTY)
    (problem,) = annotate(named("A.svs", "B.svs"), tmp_path).problems
    assert "x00.geojson" in problem and "x10" not in problem and "and 5 more" in problem


def test_place_without_geojson_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        annotate(named("A.svs"), tmp_path / "none")
    with pytest.raises(UsageError, match="no GeoJSON file"):
        annotate(named("A.svs"), tmp_path)


def test_geojson_replaces_what_the_project_has(tmp_path, study):
    before = tree_hashes(study.project.parent)
    regions = tmp_path / "regions"
    regions.mkdir()
    write(
        regions / "slide 1.geojson",
        square("Mine", childObjects=[square("Cell", objectType="cell")]),
    )
    (regions / "slide 2.geojson").write_text(EMPTY)
    with open_project(study.project, engine="embedded", annotations=regions) as project:
        first, second = project
        assert [a.class_path for a in first.read().objects] == ["Mine"]
        assert first.read().skipped == {ObjectType.CELL: 1}
        assert len(first.read(detections=True).objects) == 2
        assert second.read().objects == ()
        assert project.ref.annotations == str(regions)
        with pickle.loads(pickle.dumps(project)) as copy:
            assert copy.slides[0].read() == first.read()
        with open_source(project.ref) as again:
            assert again.ref == project.ref
            assert again.slides[0].read() == first.read()
        assert qb.SourceRef.from_json(json.loads(json.dumps(project.ref.as_json()))) == project.ref
    assert tree_hashes(study.project.parent) == before


def test_bad_features_are_skipped_only_if_asked(folder):
    path = write(folder / "regions" / "A.geojson", square("Tumor"), square("T", name=None))
    slide = folder / "slides" / "A.tiff"
    with pytest.raises(ProjectError, match=r"features\[1\]: properties.name.*skip_bad_features"):
        qb.slide(slide, annotations=path).read()
    data = qb.slide(slide, annotations=path, skip_bad_features=True).read()
    assert len(data.annotations) == 1
    assert "1 feature skipped" in data.problems[0]
    with pytest.raises(UsageError, match="annotations names none"):
        open_project(slide, skip_bad_features=True)
    with pytest.raises(qb.ConfigError, match="needs annotations"):
        qb.RunOptions(skip_bad_features=True)


# --- slides without a project -----------------------------------------------------------------


def test_folder_of_slides_is_listed(folder):
    slides = folder / "slides"
    (slides / "notes.txt").write_text("no slide")
    (slides / "bad.svs").write_bytes(b"II*\0" + b"\xff" * 500)
    (slides / ".hidden.tiff").write_bytes((slides / "A.tiff").read_bytes())
    project = get_source("slides").open(slides)
    # A file that a slide format's name belongs to is never left out without a word: it fails.
    assert [slide.name for slide in project] == ["A.tiff", "B.tiff", "bad.svs"]
    assert all(slide.read().objects == () for slide in project)
    plans = qb.plan(project, qb.ExportConfig(size=64, labels=False))
    assert [failure.slide_name for failure in plans.failures] == ["bad.svs"]
    assert project.info.plain
    assert (project.info.folder, project.info.name) == (slides, "slides")


def test_entry_ids_stay_when_slides_move_and_fit_qupath(folder):
    slides = folder / "slides"
    before = {s.name: s.entry_id for s in get_source("slides").open(slides)}
    assert len(set(before.values())) == 2
    assert all(0 <= int(each) < 1 << 63 for each in before.values())
    (slides / "B.tiff").rename(folder / "C.tiff")
    assert qb.slide(folder / "C.tiff").entry_id == before["B.tiff"]
    assert get_source("slides").open(slides)["A.tiff"].entry_id == before["A.tiff"]


def test_equal_slides_in_a_folder_are_refused(folder):
    slides = folder / "slides"
    (slides / "copy.tiff").write_bytes((slides / "A.tiff").read_bytes())
    with pytest.raises(ProjectError, match=r"A\.tiff and copy\.tiff are the same slide"):
        get_source("slides").open(slides)


def test_what_is_not_a_slide_is_refused(folder):
    with pytest.raises(ProjectError, match="no QuPath project and no slide"):
        get_source("slides").open(folder / "regions")
    with pytest.raises(ReadError):
        qb.slide(write(folder / "a.geojson"))
    with pytest.raises(ProjectError, match="not a slide file"):
        qb.slide(folder)
    with pytest.raises(UsageError, match="slide_map and search would not be used"):
        get_source("slides").open(folder / "slides", search=[folder])
    with pytest.raises(UsageError, match="the engine embedded cannot read it"):
        open_project(folder / "slides", engine="embedded", annotations=folder / "regions")


def test_slide_with_geojson_is_planned_and_exported(folder):
    path = write(folder / "any name.geojson", square("Tumor"), square("Stroma", x=256))
    slide = qb.slide(folder / "slides" / "A.tiff", annotations=path)
    config = qb.ExportConfig(size=64)
    plan = qb.plan(slide, config)
    assert plan.label_counts() == {"Tumor": 4, "Stroma": 4}  # 128 px squares, 64 px patches
    run = qb.export(slide, folder / "out", config, workers=1)
    assert run.label_counts() == {"Stroma": 4, "Tumor": 4}
    assert qb.verify(run).ok
    # There is no project: what QuPath imports is beside the patches, and nowhere else.
    assert run.provenance == (folder / "out" / "provenance",)
    assert len(qb.geojson.load(run.provenance[0] / f"{slide.entry_id}.geojson.gz")) == 8
    assert {each.name for each in folder.iterdir()} == {
        "slides", "regions", "any name.geojson", "out",
    }  # fmt: skip
    assert sorted(each.name for each in (folder / "slides").iterdir()) == ["A.tiff", "B.tiff"]


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_folder_of_slides_with_geojson_from_the_command_line(folder, capsys, runner):
    regions = folder / "regions"
    write(regions / "A.geojson", square("Tumor"))
    write(regions / "B.tiff.geojson", square("Stroma"))
    write(regions / "C.geojson", square("Necrosis"))
    out = folder / "out"
    words = [str(folder / "slides"), "--annotations", str(regions), "--size", "64"]
    words += ["--runner", runner, "--workers", "1"]
    assert main(["export", *words, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "8 patches in" in printed.out
    assert f"warning: {regions}: no slide has the name of C.geojson; not used." in printed.err
    assert qb.Run.load(out).label_counts() == {"Stroma": 4, "Tumor": 4}
    # Without its file a slide fails, and has no patches that say "nothing was drawn here".
    (regions / "B.tiff.geojson").unlink()
    more = ["--background", "normal", "--out", str(folder / "out 2")]
    assert main(["export", *words, *more]) == 1
    assert "no GeoJSON file has the name of the slide B.tiff" in capsys.readouterr().err
    run = qb.Run.load(folder / "out 2")
    assert [slide["slide_name"] for slide in run] == ["A.tiff"]
    assert run.label_counts()["normal"] > 0


def test_slide_without_a_geojson_file_is_exported_without_labels(folder):
    write(folder / "regions" / "A.geojson", square("Tumor"))
    with open_project(folder / "slides", annotations=folder / "regions") as project:
        plans = qb.plan(project, qb.ExportConfig(size=64))
        assert [failure.slide_name for failure in plans.failures] == ["B.tiff"]
        plans = qb.plan(project, qb.ExportConfig(size=64, labels=False))
        assert [plan.slide.name for plan in plans] == ["A.tiff", "B.tiff"]
        assert len(plans["A.tiff"]) == len(plans["B.tiff"]) > 0


def test_folder_with_slides_and_projects_below_is_ambiguous(folder):
    write(folder / "regions" / "A.geojson", square("Tumor"))
    image = Image(folder / "slides" / "A.tiff")
    build_project(folder / "slides" / "study", [image])
    options = qb.RunOptions(annotations=folder / "regions")
    with pytest.raises(UsageError, match="has slides, and QuPath projects in its folders"):
        qb.plan(folder / "slides", qb.ExportConfig(size=64), options=options)
    (folder / "slides" / "B.tiff").unlink()
    (folder / "slides" / "A.tiff").rename(folder / "A.tiff")
    options = options.replace(search=(str(folder),))
    plans = qb.plan(folder / "slides", qb.ExportConfig(size=64), options=options)
    assert [plan.slide.entry_id for plan in plans] == ["1"]


def test_status_compares_with_the_same_geojson(tmp_path, study, capsys):
    regions = tmp_path / "regions"
    regions.mkdir()
    for number in (1, 2):
        write(regions / f"slide {number}.geojson", square("Tumor"))
    words = ["--annotations", str(regions)]
    out = ["--out", str(tmp_path / "out")]
    assert main(["export", str(study.project), "--size", "64", *words, *out]) == 0
    capsys.readouterr()
    assert main(["status", str(study.project), "--exit-code", *words]) == 0
    # The run knows its files: nobody has to name them again.
    assert main(["status", str(study.project), "--exit-code"]) == 0
    write(regions / "slide 1.geojson", square("Tumor", x=64))
    assert main(["status", str(study.project), "--exit-code", *words]) == 1
    capsys.readouterr()
    assert main(["status", str(study.project), "--exit-code"]) == 1
    assert f"--annotations={regions}" in capsys.readouterr().out  # how to bring it up to date


@pytest.mark.parametrize("way", ["--resume", "--update"])
def test_run_with_geojson_never_continues_with_what_the_project_has(tmp_path, study, capsys, way):
    regions = tmp_path / "regions"
    regions.mkdir()
    for number in (1, 2):
        write(regions / f"slide {number}.geojson", square("Tumor"))
    words = ["export", str(study.project), "--size", "64", "--out", str(tmp_path / "out")]
    assert main([*words, "--annotations", str(regions)]) == 0
    before = tree_hashes(tmp_path / "out")
    capsys.readouterr()
    assert main([*words, way]) == 5
    assert f"annotations was '{regions}' and is None" in capsys.readouterr().err
    assert tree_hashes(tmp_path / "out") == before
    assert main([*words, way, "--annotations", str(regions)]) == 0


def test_project_without_data_takes_its_regions_from_geojson(folder):
    build_project(
        folder / "study", [Image(folder / "slides" / "A.tiff", [Region("X", "POINT (1 1)")])]
    )
    import shutil

    shutil.rmtree(folder / "study" / "data")
    write(folder / "regions" / "A.geojson", square("Tumor"))
    options = qb.RunOptions(annotations=folder / "regions", engine="embedded")
    plans = qb.plan(folder / "study", qb.ExportConfig(size=64), options=options)
    assert plans.label_counts() == {"Tumor": 4}
