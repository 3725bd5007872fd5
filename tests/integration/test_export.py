import dataclasses
import io
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openslide
import psutil
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import (
    InterruptedRunError,
    OutputError,
    PlanError,
    ProjectError,
    ReadError,
    UsageError,
)
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.folder import FolderOutput
from qupath_bridge.pipeline import patch_pixels
from qupath_bridge.pipeline.plan import Failure, Plans
from qupath_bridge.pipeline.run import Run
from qupath_bridge.testing.projects import Image, Region, build_project, tree_hashes
from qupath_bridge.testing.slides import marker_image, write_slide

CONFIG = qb.ExportConfig(size=50, edge="pad", min_share=0.4)


def plans_of(study, config=CONFIG):
    with qb.open_project(study.project) as project:
        plans = qb.plan(project, config)
    assert not plans.failures
    return plans


def export(source, out, config=None, **options):
    return qb.export(source, out, config, provenance=False, command=["test"], **options)


@pytest.fixture
def reads(monkeypatch):
    """The boxes that are read, and a function that may raise instead of the n-th of them."""
    real = patch_pixels.read_patches
    state = SimpleNamespace(boxes=[], fail=lambda number: None)

    def read(reader, coordinates, boxes, size, plane, view):
        for box in boxes.tolist():
            state.fail(len(state.boxes))
            state.boxes.append(tuple(box))
        return real(reader, coordinates, boxes, size, plane, view)

    monkeypatch.setattr(patch_pixels, "read_patches", read)
    return state


def content(out):
    """Everything that a run wrote, without its id and its times."""
    out = Path(out)
    files = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    record = json.loads(files.pop("run.json"))
    report = json.loads(files.pop("report.json"))
    run_id = record["run_id"]
    for key in ("run_id", "started", "finished", "command", "options"):
        record.pop(key)
    # Plans do not know why an engine was taken.
    record["projects"] = [(each["path"], each["name"]) for each in record["projects"]]
    report.pop("run_id")
    for slide in report["slides"]:
        slide.pop("seconds")
    partitions = {}
    for name in [name for name in files if name.endswith(".parquet")]:
        table = pa.parquet.ParquetFile(pa.BufferReader(files.pop(name))).read()
        partitions[name] = table.drop_columns(["run_id"])
    files["index.csv"] = files["index.csv"].replace(run_id.encode(), b"RUN")
    return files, record, report, partitions


def same(left, right):
    left, right = content(left), content(right)
    assert left[0].keys() == right[0].keys()
    for part, other in zip(left, right, strict=True):
        for key, value in part.items():
            equal = value.equals(other[key]) if isinstance(value, pa.Table) else value == other[key]
            assert equal, key
        assert part.keys() == other.keys()


def test_the_index_tells_the_truth(study, tmp_path):
    plans = plans_of(study)
    run = export(plans, tmp_path / "out")
    table = run.table()
    assert run.written == table.num_rows == sum(len(plan) for plan in plans) > 100
    rows = table.to_pylist()
    slides = {str(number + 1): openslide.OpenSlide(str(p)) for number, p in enumerate(study.slides)}
    for row in rows[:: len(rows) // 25]:
        shown = np.asarray(Picture.open(tmp_path / "out" / row["path"]).convert("RGB"))
        box = (row["x_slide"], row["y_slide"], row["w_slide"], row["h_slide"])
        size = slides[row["entry_id"]].dimensions
        inside = (min(box[0] + box[2], size[0]) - box[0], min(box[1] + box[3], size[1]) - box[1])
        truth = slides[row["entry_id"]].read_region(box[:2], 0, inside).convert("RGB")
        assert np.array_equal(shown[: inside[1], : inside[0]], np.asarray(truth))
        assert (shown[inside[1] :] == 255).all()
        assert (shown[:, inside[0] :] == 255).all()
        assert row["label"] in row["path"]
        assert dict(row["shares"])[row["label"]] == row["label_share"] >= 0.4 - 1e-9
        assert row["run_id"] == run.run_id
    order = [(row["slide_id"], row["z"], row["t"], row["row"], row["col"]) for row in rows]
    assert order == sorted(order)
    for slide in slides.values():
        slide.close()


def test_csv_and_parquet_say_the_same(study, tmp_path):
    run = export(plans_of(study), tmp_path / "out")
    rows = run.table().to_pylist()
    csv = pyarrow.csv.read_csv(tmp_path / "out" / "index.csv").to_pylist()
    assert len(csv) == len(rows)
    assert next(iter(csv[0])) == "slide_id"
    for left, right in zip(csv, rows, strict=True):
        assert left["patch_id"] == right["patch_id"]
        assert left["label_share"] == right["label_share"]
        assert json.loads(left["shares"]) == dict(right["shares"])
        assert json.loads(left["region_ids"]) == right["region_ids"]


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
def test_workers_do_not_matter(study, tmp_path, kind):
    plans = plans_of(study, CONFIG.replace(format=kind))
    for workers in (1, 2, 8):
        export(plans, tmp_path / f"out{workers}", workers=workers)
    same(tmp_path / "out1", tmp_path / "out2")
    same(tmp_path / "out1", tmp_path / "out8")


def test_a_run_can_be_read_back(study, tmp_path):
    run = export(plans_of(study), tmp_path / "out")
    again = Run.load(tmp_path / "out")
    assert (again.run_id, again.written, again.failures) == (run.run_id, run.written, ())
    with pytest.raises(OutputError, match="contains no run"):
        Run.load(tmp_path)


def test_multi_label_and_unlabelled_runs_have_one_folder(study, tmp_path):
    run = export(plans_of(study, CONFIG.replace(rule="any")), tmp_path / "any")
    assert run.table().schema.field("label").type == pa.list_(pa.string())
    run = export(plans_of(study, CONFIG.replace(labels=False)), tmp_path / "none")
    assert run.table().column("label").null_count == run.written
    for name in ("any", "none"):
        folders = {path.parent.name for path in (tmp_path / name / "patches").rglob("*.png")}
        assert folders == {"_"}


def test_nothing_to_export(study, tmp_path):
    with pytest.raises(UsageError, match="Nothing to export"):
        export([], tmp_path / "out")
    plans = plans_of(study)
    with pytest.raises(UsageError, match="More than one plan"):
        export([plans[0], plans[0]], tmp_path / "out")
    other = plans_of(study, CONFIG.replace(size=60))[1]
    with pytest.raises(UsageError, match="different configurations"):
        export([plans[0], other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["notes.txt", "patches/x.png", "run.json.old"])
def test_a_folder_with_anything_else_is_refused(study, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match="not a run"):
        export(plans_of(study), tmp_path / "out")
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [path]


def test_a_folder_with_a_run_is_refused(study, tmp_path):
    export(plans_of(study), tmp_path / "out")
    before = tree_hashes(tmp_path / "out")
    with pytest.raises(OutputError, match="resume.*update"):
        export(plans_of(study), tmp_path / "out")
    assert tree_hashes(tmp_path / "out") == before
    with pytest.raises(OutputError, match="no run to resume"):
        export(plans_of(study), tmp_path / "new", resume=True)


def test_update_of_an_empty_output_starts_a_run(study, tmp_path):
    export(plans_of(study), tmp_path / "new", update=True)
    export(plans_of(study), tmp_path / "out")
    same(tmp_path / "new", tmp_path / "out")


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 99}'])
def test_a_damaged_record_is_refused(study, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(text)
    with pytest.raises(OutputError, match="run.json"):
        export(plans_of(study), tmp_path / "out")


class Stop(Exception):
    pass


def stop_after(count):
    def listen(progress):
        if progress.done >= count:
            raise Stop

    return listen


@pytest.mark.parametrize("part", [0, 0.3, 0.5, 0.8, 1])
def test_resume_gives_what_an_uninterrupted_run_gives(study, tmp_path, part):
    plans = plans_of(study)
    written = export(plans, tmp_path / "whole").written
    with pytest.raises(Stop):
        export(plans, tmp_path / "cut", on_progress=stop_after(int(part * written)))
    with pytest.raises(OutputError, match="interrupted"):
        Run.load(tmp_path / "cut")
    run = export(plans_of(study), tmp_path / "cut", resume=True)
    assert run.record["state"] == "complete"
    same(tmp_path / "whole", tmp_path / "cut")


def test_resume_looks_at_finished_slides(study, tmp_path):
    plans = plans_of(study)
    export(plans, tmp_path / "whole")
    export(plans, tmp_path / "cut")
    patches = sorted((tmp_path / "cut" / "patches").rglob("*.png"))
    patches[3].unlink()
    patches[-3].write_bytes(b"no picture")
    export(plans_of(study), tmp_path / "cut", resume=True)
    same(tmp_path / "whole", tmp_path / "cut")


def test_resume_does_not_read_what_is_done(study, tmp_path, reads):
    export(plans_of(study), tmp_path / "out")
    reads.boxes.clear()
    export(plans_of(study), tmp_path / "out", resume=True)
    assert reads.boxes == []


def change_rows(out, slide_id, change):
    """Write other rows for a slide, as somebody who edits an index would."""
    output = open_output(out)
    table = output.table(slide_id)
    path = Path(out) / "index" / f"slide_id={slide_id}" / "part-0.parquet"
    pa.parquet.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.slice(0, 50),
        lambda table: table.set_column(
            table.column_names.index("label"), "label", pa.array(["WRONG"] * table.num_rows)
        ),
        lambda table: table.set_column(
            table.column_names.index("x_qupath"),
            "x_qupath",
            pa.array([0] * table.num_rows, pa.int32()),
        ),
    ],
    ids=["rows cut off", "labels changed", "boxes changed"],
)
def test_resume_believes_no_rows_that_the_plan_does_not_give(study, tmp_path, change):
    plans = plans_of(study)
    export(plans, tmp_path / "whole")
    export(plans, tmp_path / "out")
    change_rows(tmp_path / "out", plans[0].slide_id, change)
    run = export(plans, tmp_path / "out", resume=True)
    assert run.written == plans.patches
    same(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize("first", [True, False], ids=["slide at work", "slide that is committed"])
def test_patches_that_somebody_removes_during_a_run_are_noticed(study, tmp_path, first):
    plans = plans_of(study)
    export(plans, tmp_path / "whole")
    removed = []

    def remove(progress):
        patches = sorted((tmp_path / "out" / "patches").rglob("*.png"))
        if not removed and len(patches) > 64 and progress.slides_done == (0 if first else 1):
            removed.extend(patches[:20])
            for path in removed:
                path.unlink()

    with pytest.raises(OutputError, match="20 .* were removed while") as caught:
        export(plans, tmp_path / "out", on_progress=remove)
    assert "Resume" in caught.value.hint
    assert export(plans, tmp_path / "out", resume=True).written == plans.patches
    same(tmp_path / "whole", tmp_path / "out")


def test_patches_of_rows_that_were_cut_off_stay_while_their_slide_is_missing(study, tmp_path):
    out = tmp_path / "out"
    plans = plans_of(study)
    export(plans, out)
    there = sorted((out / "patches").rglob("*.png"))
    change_rows(out, plans[0].slide_id, lambda table: table.slice(0, 50))
    qb.export(study.project, out, CONFIG, resume=True, slide_map={str(study.slides[0]): "/nowhere"})
    assert sorted((out / "patches").rglob("*.png")) == there
    assert not qb.verify(out).ok
    assert qb.export(study.project, out, CONFIG, resume=True).written == len(there)
    assert qb.verify(out).ok


def test_edited_labels_are_still_found_after_a_resume_without_their_slide(study, tmp_path):
    out = tmp_path / "out"
    plans = plans_of(study)
    export(plans, out)
    labels = pa.array(["Stroma"] * len(plans[0]))
    change_rows(
        out,
        plans[0].slide_id,
        lambda table: table.set_column(table.column_names.index("label"), "label", labels),
    )
    before = [finding.path for finding in qb.verify(out).findings]
    qb.export(study.project, out, CONFIG, resume=True, slide_map={str(study.slides[0]): "/nowhere"})
    after = [finding.path for finding in qb.verify(out).findings]
    assert plans[0].slide_id in str(before)
    assert plans[0].slide_id in str(after)


def test_resume_with_other_options_names_them(study, tmp_path):
    export(plans_of(study), tmp_path / "out")
    with pytest.raises(OutputError, match=r"min_share was 0\.4 and is 0\.6"):
        export(plans_of(study, CONFIG.replace(min_share=0.6)), tmp_path / "out", resume=True)
    with pytest.raises(OutputError, match=r"entry was \[\] and is \['1'\]"):
        export(
            study.project, tmp_path / "out", CONFIG, resume=True,
            selection=qb.Selection(entry="1"),
        )  # fmt: skip


def test_resume_makes_slides_again_whose_annotations_changed(study, tmp_path, redrawn, reads):
    redrawn(40)
    export(plans_of(study), tmp_path / "out")
    redrawn(0)
    export(plans_of(study), tmp_path / "new")
    reads.boxes.clear()
    run = export(plans_of(study), tmp_path / "out", resume=True)
    assert 0 < len(reads.boxes) < run.written / 4
    same(tmp_path / "new", tmp_path / "out")


def test_update_equals_a_new_export_and_reads_only_what_changed(study, tmp_path, redrawn, reads):
    redrawn(40)
    export(plans_of(study), tmp_path / "out")
    redrawn(0)
    export(plans_of(study), tmp_path / "new")
    reads.boxes.clear()
    run = export(plans_of(study), tmp_path / "out", update=True)
    same(tmp_path / "new", tmp_path / "out")
    assert 0 < len(reads.boxes) < run.written / 4


def test_an_interrupted_update_can_be_resumed(study, tmp_path, redrawn):
    export(plans_of(study), tmp_path / "out")
    redrawn()
    export(plans_of(study), tmp_path / "new")
    for stop in (1, 150):
        with pytest.raises(Stop):
            export(plans_of(study), tmp_path / "out", update=True, on_progress=stop_after(stop))
    export(plans_of(study), tmp_path / "out", resume=True)
    same(tmp_path / "new", tmp_path / "out")


def copy_slides(tmp_path, two_slides):
    """Copy the slides, so that a test can replace them."""
    folder = tmp_path / "swapped"
    folder.mkdir()
    for number, source in enumerate(two_slides, start=1):
        shutil.copy(source, folder / f"slide {number}.tiff")
    return folder


def test_update_with_a_replaced_slide_reads_again(tmp_path, two_slides, draw):
    folder = copy_slides(tmp_path, two_slides)
    slides = [folder / "slide 1.tiff", folder / "slide 2.tiff"]
    project = build_project(tmp_path / "project", draw.images(slides))
    export(project, tmp_path / "out", CONFIG)
    shutil.copy(two_slides[1], slides[0])
    export(project, tmp_path / "new", CONFIG)
    export(project, tmp_path / "out", CONFIG, update=True)
    same(tmp_path / "new", tmp_path / "out")


def test_a_slide_that_is_replaced_after_planning_fails(tmp_path, two_slides, draw):
    folder = copy_slides(tmp_path, two_slides)
    slides = [folder / "slide 1.tiff", folder / "slide 2.tiff"]
    with qb.open_project(build_project(tmp_path / "project", draw.images(slides))) as project:
        plans = qb.plan(project, CONFIG)
        shutil.copy(two_slides[1], slides[0])
        run = export(plans, tmp_path / "out")
    assert [failure.entry_id for failure in run.failures] == ["1"]
    assert "changed after planning" in run.failures[0].error


def test_a_slide_that_is_replaced_while_it_is_read_fails(tmp_path, two_slides, draw, reads):
    folder = copy_slides(tmp_path, two_slides)
    slides = [folder / "slide 1.tiff", folder / "slide 2.tiff"]
    project = build_project(tmp_path / "project", draw.images(slides))

    def replace(number):
        if number == 5:
            slides[0].unlink()
            shutil.copy(two_slides[1], slides[0])

    reads.fail = replace
    run = export(project, tmp_path / "out", CONFIG, workers=1)
    assert [failure.entry_id for failure in run.failures] == ["1"]
    assert "replaced while it was read" in run.failures[0].error
    assert open_output(tmp_path / "out").slides() == ["2_slide-2.tiff"]
    assert not list((tmp_path / "out" / "patches").rglob("1_*.png"))


def test_update_with_another_selection_would_lose_slides(study, tmp_path):
    export(study.project, tmp_path / "out", CONFIG)
    before = tree_hashes(tmp_path / "out")
    with pytest.raises(OutputError, match=r"other options: entry was \[\]"):
        export(
            study.project, tmp_path / "out", CONFIG, update=True,
            selection=qb.Selection(entry="1"),
        )  # fmt: skip
    assert tree_hashes(tmp_path / "out") == before


def test_update_of_a_slide_that_fails_keeps_what_is_committed(study, tmp_path, redrawn, reads):
    redrawn(40)
    export(plans_of(study), tmp_path / "out")
    before = tree_hashes(tmp_path / "out" / "patches")
    redrawn(0)

    def damaged(number):
        raise ReadError("tile 7 is damaged.")

    reads.fail = damaged
    run = export(plans_of(study), tmp_path / "out", update=True)
    assert [failure.entry_id for failure in run.failures] == ["2"]
    assert tree_hashes(tmp_path / "out" / "patches") == before
    assert qb.verify(tmp_path / "out", pixels=0).ok
    reads.fail = lambda number: None
    export(plans_of(study), tmp_path / "out", update=True)
    export(plans_of(study), tmp_path / "new")
    same(tmp_path / "new", tmp_path / "out")


def test_update_with_another_project_would_remove_all(study, tmp_path, two_slides, draw):
    export(study.project, tmp_path / "out", CONFIG)
    before = tree_hashes(tmp_path / "out")
    other = build_project(
        tmp_path / "other",
        [replace(i, entry_id=n) for n, i in enumerate(draw.images(two_slides), 7)],
    )
    with pytest.raises(OutputError, match="of other slides, which this export would remove: 1_"):
        export(other, tmp_path / "out", CONFIG, update=True)
    assert tree_hashes(tmp_path / "out") == before


def test_update_while_a_slide_is_missing_keeps_its_patches(study, tmp_path):
    whole = export(plans_of(study), tmp_path / "out")
    plans = plans_of(study)
    gone = Failure.of(plans[1].slide, ReadError("the drive is not connected."))
    run = export(Plans(plans[:1], [gone]), tmp_path / "out", update=True)
    assert run.table().num_rows == whole.written
    assert [slide["entry_id"] for slide in run] == ["1"]
    assert [failure.entry_id for failure in run.failures] == ["2"]
    assert qb.verify(tmp_path / "out").ok


def test_an_unchanged_patch_is_not_written_again(study, tmp_path):
    export(plans_of(study), tmp_path / "out")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    export(plans_of(study), tmp_path / "out", update=True)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")} == times


@pytest.mark.parametrize(
    "place", ["", "data/9", "scripts", "qupath_bridge", "qupath_bridge/runs/x"]
)
def test_places_of_the_project_are_refused(study, place):
    folder = study.project.parent
    before = tree_hashes(folder)
    with pytest.raises(OutputError, match="belongs to the QuPath project") as caught:
        export(plans_of(study), folder / place)
    assert "qupath_bridge" in caught.value.hint
    assert tree_hashes(folder) == before
    export(plans_of(study), folder / "qupath_bridge" / "patches")


def test_update_removes_slides_that_are_gone_and_keeps_foreign_files(study, tmp_path):
    export(plans_of(study), tmp_path / "out")
    note = tmp_path / "out" / "patches" / "notes.txt"
    note.write_text("mine")
    run = export(list(plans_of(study)[:1]), tmp_path / "out", update=True)
    assert {row["entry_id"] for row in run.table().to_pylist()} == {"1"}
    assert not list((tmp_path / "out" / "patches").rglob("2_*.png"))
    assert note.read_text() == "mine"


def test_one_unreadable_slide_among_ten(study, tmp_path, reads):
    with qb.open_project(study.project) as project:
        slide = project.slides[0]
        ten = [dataclasses.replace(slide, entry_id=str(n), name=f"s{n}") for n in range(10)]
        plans = qb.plan(ten, CONFIG)
    count = len(plans[0])

    def fail(number):
        if number == 3 * count + 70:
            reads.fail = lambda number: None
            raise ReadError("tile 7 is damaged.", hint="Scan it again.")

    reads.fail = fail
    run = export(plans, tmp_path / "out", workers=1)
    assert [failure.entry_id for failure in run.failures] == ["3"]
    assert "tile 7" in json.dumps(run.report)
    assert run.written == 9 * count == run.table().num_rows
    assert not list((tmp_path / "out" / "patches").rglob("3_s*.png"))


def test_an_interrupt_stops_all_threads_and_can_be_resumed(study, tmp_path, monkeypatch):
    plans = plans_of(study)
    export(plans, tmp_path / "whole")

    def listen(progress):
        if progress.done > 10:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(InterruptedRunError, match="0 of 2 slides") as caught:
        export(plans, tmp_path / "cut", workers=4, on_progress=listen)
    assert "resume" in caught.value.hint
    assert threading.active_count() == before
    export(plans_of(study), tmp_path / "cut", resume=True)
    same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("full_at", [0, 3, 90, 150])
def test_a_full_disk_leaves_nothing_half(study, tmp_path, monkeypatch, full_at):
    plans = plans_of(study)
    export(plans, tmp_path / "whole")
    writes = iter(range(10**6))
    real = os.replace

    def replace(source, target):
        if next(writes) >= full_at:
            raise OSError(28, "No space left on device")
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(OutputError, match="No space left"):
            export(plans, tmp_path / "cut")
    for path in (tmp_path / "cut" / "patches").rglob("*.png"):
        Picture.open(path).load()
    resume = (tmp_path / "cut" / "run.json").exists()
    export(plans_of(study), tmp_path / "cut", resume=resume)
    same(tmp_path / "whole", tmp_path / "cut")


def test_the_index_is_what_counts(study, tmp_path):
    """Between the patches of a slide and its index, nothing of it exists."""
    plans = plans_of(study)
    with pytest.raises(Stop):
        export(plans, tmp_path / "out", on_progress=stop_after(len(plans[0])))
    assert open_output(tmp_path / "out", "folder").slides() == []
    assert not list((tmp_path / "out" / "patches").rglob("*.png"))


def test_a_class_that_comes_while_a_run_is_at_work_fails_its_slide(study, tmp_path, draw):
    """The folder of each label is fixed before the first pixel; a resumed run takes it in."""
    first, second = draw.images(study.slides)
    nerve = [dataclasses.replace(region, class_path="Nerve") for region in second.regions[:1]]

    listened = []

    def listen(progress):
        if progress.slides_done == 0 and not listened:
            study.redraw(first, dataclasses.replace(second, regions=nerve))
        listened.append(progress)

    run = export(study.project, tmp_path / "out", CONFIG, workers=1, on_progress=listen)
    (failure,) = run.failures
    assert (failure.entry_id, failure.hint) == ("2", "Resume the run.")
    assert "Nerve came as a label after the run began" in failure.error
    run = export(study.project, tmp_path / "out", CONFIG, resume=True)
    assert set(run["2"]["by_label"]) == {"Nerve"}
    export(study.project, tmp_path / "new", CONFIG)
    same(tmp_path / "new", tmp_path / "out")


@pytest.mark.slow
def test_processes_write_the_bytes_that_threads_write(study, tmp_path):
    threads = export(study.project, tmp_path / "threads", CONFIG, runner="threads", workers=2)
    processes = export(study.project, tmp_path / "processes", CONFIG, runner="processes", workers=2)
    same(tmp_path / "threads", tmp_path / "processes")
    assert processes.record["run_digest"] == threads.record["run_digest"] is not None


@pytest.mark.parametrize("container", ["folder", "tar", "tar:20kB"])
def test_each_container_can_be_resumed_updated_and_verified(
    study, tmp_path, redrawn, reads, container
):
    config = CONFIG.replace(container=container)
    redrawn(40)
    plans = plans_of(study, config)
    whole = export(plans, tmp_path / "whole")
    with pytest.raises(Stop):
        export(plans, tmp_path / "out", on_progress=stop_after(len(plans[0]) + 20))
    export(plans, tmp_path / "out", resume=True)
    same(tmp_path / "whole", tmp_path / "out")
    table = Run.load(tmp_path / "out").table()
    assert table.num_rows == whole.written == plans.patches
    assert qb.verify(tmp_path / "out").ok
    redrawn(0)
    reads.boxes.clear()
    run = export(plans_of(study, config), tmp_path / "out", update=True)
    assert 0 < len(reads.boxes) < run.written / 4
    export(plans_of(study, config), tmp_path / "new")
    same(tmp_path / "new", tmp_path / "out")
    result = qb.verify(run)
    assert (result.ok, result.files, result.pixels) == (True, run.written, run.written)


def test_a_memory_output_can_be_read_back(study):
    run = export(
        plans_of(study, CONFIG.replace(container="memory")), "memory://test-export", workers=2
    )
    assert qb.verify(run).ok
    row = run.table().to_pylist()[0]
    payload = run.open().read(qb.Location(row["path"], row["offset"], row["length"]))
    assert Picture.open(io.BytesIO(payload)).size == (50, 50)


def test_a_patch_of_low_quality_is_dropped_with_its_reason(study, tmp_path, reads, monkeypatch):
    # The slides of the study have no glass, and pale places that look like it.
    monkeypatch.setattr(patch_pixels, "_glass_cast", lambda *_: None)
    whole = export(plans_of(study), tmp_path / "whole")
    values = {}
    for row in whole.table().to_pylist():
        pixels = np.asarray(Picture.open(tmp_path / "whole" / row["path"]).convert("HSV"))
        values[row["patch_id"]] = pixels[..., 1].mean() / 255
    limit = sorted(values.values())[len(values) // 2]
    config = CONFIG.replace(qc_min={"saturation": limit})
    run = export(plans_of(study, config), tmp_path / "out")
    dropped = run.dropped_counts()["quality"]
    assert run.written + dropped == whole.written
    assert abs(dropped - len(values) // 2) <= 3  # Pillow rounds saturation to 8 bits
    rows = run.table().to_pylist()
    assert all(row["qc_saturation"] >= limit for row in rows)
    for row in rows[::20]:
        assert row["qc_saturation"] == pytest.approx(values[row["patch_id"]], abs=0.01)
    output = open_output(tmp_path / "out")
    reasons = [
        output.dropped(slide_id).column("reason").to_pylist() for slide_id in output.slides()
    ]
    assert sum(map(len, reasons)) == dropped
    reads.boxes.clear()
    export(plans_of(study, config), tmp_path / "out", resume=True)
    assert reads.boxes == []
    assert qb.verify(tmp_path / "out").ok


@pytest.mark.parametrize(
    ("layout", "folders"),
    [("patches/{label}/{patch_id}", 1), ("patches/{slide_id}/{label}/{patch_id}", 2),
     ("patches/{entry_id}/{project}/{patch_id}", 2)],
)  # fmt: skip
def test_layout_names_the_files(study, tmp_path, layout, folders):
    run = export(plans_of(study, CONFIG.replace(layout=layout)), tmp_path / "out")
    row = run.table().to_pylist()[0]
    names = {**row, "label": "Tumor", "project": "study"}
    assert row["path"] == layout.format(**names) + ".png"
    assert len(Path(row["path"]).parents) == folders + 2
    assert qb.verify(run).ok
    assert len({row["path"] for row in run.table().to_pylist()}) == run.written


def test_a_second_run_is_told_who_writes(study, tmp_path):
    plans = plans_of(study)

    def listen(progress):
        with pytest.raises(OutputError, match=f"process {os.getpid()}"):
            export(plans, tmp_path / "out", update=True)

    export(plans, tmp_path / "out", on_progress=listen)


def test_clean_removes_what_abandoned_runs_left(study, tmp_path, monkeypatch):
    plans = plans_of(study)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        for cleaning in ("abort", "sweep"):  # as a process that is killed
            patch.setattr(FolderOutput, cleaning, lambda *values, **options: 0)
        export(plans, tmp_path / "out", on_progress=stop_after(len(plans[0]) + 70))
    left = len(list((tmp_path / "out" / "patches").rglob("2_*.png")))
    assert left > 0
    assert qb.clean(tmp_path / "out") == left
    assert not list((tmp_path / "out" / "patches").rglob("2_*.png"))
    assert list((tmp_path / "out" / "patches").rglob("1_*.png"))
    export(plans, tmp_path / "out", resume=True)
    assert qb.verify(tmp_path / "out").ok


def test_too_little_space_is_said_before_anything_is_written(study, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=20_000))
    with pytest.raises(OutputError, match="free"):
        export(plans_of(study), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.png"))


def test_several_projects_are_one_run(study, tmp_path, two_slides, draw):
    other = build_project(tmp_path / "other", draw.images(two_slides))
    run = export([study.project, other], tmp_path / "out", CONFIG)
    rows = run.table().to_pylist()
    assert {row["project"] for row in rows} == {"study", "other"}
    assert {row["slide_id"] for row in rows} == {
        f"{project}_{n}_slide-{n}.tiff" for project in ("study", "other") for n in (1, 2)
    }
    assert len({row["path"] for row in rows}) == len(rows) == run.written
    assert len({row["slide_digest"] for row in rows}) == 2
    assert qb.verify(run).ok
    qb.export([study.project, other], tmp_path / "out", CONFIG, update=True)
    for project in (study.project, other):
        (state,) = qb.status(project)
        assert (state.state, len(state.entries)) == ("current", 2)


# --- what can be exported ------------------------------------------------------------------------


def test_everything_that_names_slides_can_be_exported(study, tmp_path):
    """A path, its folder, a project, its slides, and plans make the same patches."""
    with qb.open_project(study.project) as project:
        sources = {
            "path": study.project,
            "text": str(study.project),
            "folder": study.project.parent,
            "project": project,
            "slides": project.slides,
            "list": list(project),
            "plans": qb.plan(project, CONFIG),
            "plans of a path": qb.plan(study.project, CONFIG),
            "list of plans": [qb.plan(slide, CONFIG) for slide in project],
        }
        runs = {}
        for name, source in sources.items():
            config = None if "plans" in name else CONFIG
            runs[name] = export(source, tmp_path / name, config)
            same(tmp_path / "path", tmp_path / name)
        one = export(project["2"], tmp_path / "one", CONFIG)
    assert {slide["entry_id"] for slide in one} == {"2"}
    assert len({run.record["run_digest"] for run in runs.values()}) == 1
    projects = [run.record["projects"] for run in runs.values()]
    for (record,) in projects:
        assert (record["path"], record["name"]) == (str(study.project), "embedded")
    # Who opens the project also knows why this engine was taken.
    assert "no QuPath is found" in projects[0][0]["reason"]


def test_a_folder_of_projects_is_one_run(study, tmp_path, two_slides, draw):
    folder = tmp_path / "cohort"
    for name in ("a", "b"):
        build_project(folder / name, draw.images(two_slides))
    (folder / "notes").mkdir()
    run = export(folder, tmp_path / "out", CONFIG)
    assert [p["path"] for p in run.record["projects"]] == [
        str(folder / name / study.project.name) for name in ("a", "b")
    ]
    assert len(run) == 4
    assert len(qb.plan(folder, CONFIG)) == 4
    with pytest.raises(ProjectError, match="No project and no slide found"):
        export(folder / "notes", tmp_path / "none", CONFIG)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("planned", [False, True], ids=["from the project", "from plans"])
def test_a_missing_slide_never_ends_a_study(study, tmp_path, draw, planned):
    """It is in the report with what to do next; then a resumed run takes it in."""
    gone = tmp_path / "gone.tiff"
    second = dataclasses.replace(draw.images(study.slides)[1], slide=gone, size=(700, 500))
    study.redraw(draw.images(study.slides)[0], second)
    plans = qb.plan(study.project, CONFIG)
    assert [plan.slide.entry_id for plan in plans] == ["1"]
    assert [failure.entry_id for failure in plans.failures] == ["2"]
    run = export(plans if planned else study.project, tmp_path / "out", None if planned else CONFIG)
    (failure,) = run.failures
    assert (failure.entry_id, failure.error) == ("2", plans.failures[0].error)
    (written,) = json.loads((tmp_path / "out" / "report.json").read_bytes())["failures"]
    assert (written["slide_id"], written["project"]) == ("2_gone.tiff", str(study.project))
    assert "option search" in written["next"]
    assert len(plans[0]) == run.written
    assert [slide["slide_id"] for slide in run.record["slides"]] == [
        "1_slide-1.tiff",
        "2_gone.tiff",
    ]
    shutil.copy(study.slides[1], gone)
    source = qb.plan(study.project, CONFIG) if planned else study.project
    run = export(source, tmp_path / "out", None if planned else CONFIG, resume=True)
    assert run.failures == ()
    export(study.project, tmp_path / "new", CONFIG)
    same(tmp_path / "new", tmp_path / "out")


def test_plans_of_which_none_succeeded_leave_a_report_and_say_the_first_reason(study, tmp_path):
    study.redraw(*[Image(tmp_path / f"gone {n}.tiff", size=(700, 500)) for n in (1, 2)])
    plans = qb.plan(study.project, CONFIG)
    assert (len(plans), len(plans.failures)) == (0, 2)
    with pytest.raises(UsageError, match="no slide could be planned") as caught:
        export(plans, tmp_path / "out")
    assert "gone 1.tiff" in caught.value.hint
    assert str(tmp_path / "out") in caught.value.message
    # From the project it is a run in which every slide failed, with the same report.
    run = export(study.project, tmp_path / "other", CONFIG)
    assert (run.written, len(run.failures)) == (0, 2)
    reports, found = [], [tmp_path / "out", tmp_path / "other"]
    for out in found:
        report = json.loads((out / "report.json").read_bytes())
        reports.append({key: value for key, value in report.items() if key != "run_id"})
        record = json.loads((out / "run.json").read_bytes())
        assert (record["state"], record["config"]["size"]) == ("complete", CONFIG.size)
    assert reports[0] == reports[1]
    with pytest.raises(UsageError, match="no slide was planned"):
        export(qb.Plans([], plans.failures), tmp_path / "new")


def test_plans_bring_their_slides_and_configuration(study, tmp_path):
    plans = plans_of(study)
    for wrong in ({"selection": qb.Selection(entry="1")}, {"config": CONFIG.replace(size=60)}):
        with pytest.raises(UsageError, match="have their slides and configuration already"):
            qb.export(plans, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_projects_of_one_name_are_told_apart(tmp_path, two_slides, draw):
    projects = [
        build_project(tmp_path / place / "study", draw.images(two_slides)) for place in "ab"
    ]
    run = export(projects, tmp_path / "out", CONFIG)
    rows = run.table().to_pylist()
    names = {row["project"] for row in rows}
    assert len(names) == 2
    assert all(name.startswith("study-") for name in names)
    assert len({(row["project"], row["tile_uuid"]) for row in rows}) == len(rows)
    assert len({row["tile_uuid"] for row in rows}) == len(rows) // 2


def test_cancel_token_stops_a_run(study, tmp_path):
    token = qb.CancelToken()
    with pytest.raises(InterruptedRunError):
        export(
            plans_of(study), tmp_path / "out", cancel=token,
            on_progress=lambda progress: token.cancel(),
        )  # fmt: skip
    export(plans_of(study), tmp_path / "whole")
    export(plans_of(study), tmp_path / "out", resume=True)
    same(tmp_path / "whole", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_number_of_slides(tmp_path):
    """RSS after 2,000 slides is that after 500."""
    slide = write_slide(tmp_path / "one.tiff", marker_image(64, 64), mpp=0.5, tile=16)
    square = "POLYGON ((0 0, 64 0, 64 64, 0 64, 0 0))"
    images = [Image(slide, [Region("Tumor", square)], name=f"s{n}") for n in range(2000)]
    project = build_project(tmp_path / "project", images)
    process, sizes = psutil.Process(), {}

    def listen(progress):
        if progress.slides_done in (500, 2000):
            sizes[progress.slides_done] = process.memory_info().rss

    export(project, tmp_path / "out", qb.ExportConfig(size=32), on_progress=listen, workers=1)
    assert sizes[2000] - sizes[500] < 30 << 20


def test_plan_read_gives_the_pixels_that_are_written(study, tmp_path):
    plan = plans_of(study)[0]
    run = export([plan], tmp_path / "out")
    rows = run.table().to_pylist()
    with qb.open_reader(plan.path) as reader:
        for number in (0, len(plan) - 1):
            written = np.asarray(Picture.open(tmp_path / "out" / rows[number]["path"]))
            assert np.array_equal(plan.read(number, reader), written)
    strict = plans_of(study, CONFIG.replace(qc_min={"saturation": 1}))[0]
    with qb.open_reader(plan.path) as reader, pytest.raises(PlanError, match="quality"):
        strict.read(0, reader)
