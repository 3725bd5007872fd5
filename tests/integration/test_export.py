import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import openslide
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image as Picture

import qupath_bridge as qb
from qupath_bridge.errors import InterruptedRunError, OutputError, ReadError, UsageError
from qupath_bridge.outputs import index
from qupath_bridge.pipeline import export as export_module
from qupath_bridge.pipeline import plan as plan_module
from qupath_bridge.pipeline.export import export
from qupath_bridge.pipeline.plan import Failure, plan_slides
from qupath_bridge.pipeline.run import Run
from qupath_bridge.pipeline.verify import verify
from qupath_bridge.runners.local import ThreadRunner
from qupath_bridge.testing.projects import tree_hashes

CONFIG = qb.ExportConfig(size=50, edge="pad", min_share=0.4)


def plans_of(study, config=CONFIG):
    with qb.open_project(study.project) as project:
        plans, failures = plan_slides(project.slides, config)
    assert not failures
    return plans


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
    for slide in record["slides"]:
        slide.pop("seconds")
    for key in ("run_id", "started", "finished", "command"):
        record.pop(key)
    for key in ("resume", "update", "workers"):
        record["config"].pop(key)
    report.pop("run_id")
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
        export(plans, tmp_path / f"out{workers}", runner=ThreadRunner(workers))
    same(tmp_path / "out1", tmp_path / "out2")
    same(tmp_path / "out1", tmp_path / "out8")


def test_a_run_can_be_read_back(study, tmp_path):
    run = export(plans_of(study), tmp_path / "out")
    again = Run.load(tmp_path / "out")
    assert (again.run_id, again.written, again.failures) == (run.run_id, run.written, ())
    with pytest.raises(OutputError, match="holds no run"):
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
    with pytest.raises(UsageError, match="nothing to export"):
        export([], tmp_path / "out")
    plans = plans_of(study)
    with pytest.raises(UsageError, match="twice"):
        export([plans[0], plans[0]], tmp_path / "out")
    other = dataclasses.replace(plans[1], config=CONFIG.replace(size=60))
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
    with pytest.raises(OutputError, match="--resume.*--update"):
        export(plans_of(study), tmp_path / "out")
    assert tree_hashes(tmp_path / "out") == before
    for name in ("resume", "update"):
        with pytest.raises(OutputError, match="no run to go on with"):
            export(plans_of(study, CONFIG.replace(**{name: True})), tmp_path / "new")


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
    run = export(plans_of(study, CONFIG.replace(resume=True)), tmp_path / "cut")
    assert run.record["state"] == "complete"
    same(tmp_path / "whole", tmp_path / "cut")


def test_resume_looks_at_finished_slides(study, tmp_path):
    plans = plans_of(study)
    export(plans, tmp_path / "whole")
    export(plans, tmp_path / "cut")
    patches = sorted((tmp_path / "cut" / "patches").rglob("*.png"))
    patches[3].unlink()
    patches[-3].write_bytes(b"no picture")
    export(plans_of(study, CONFIG.replace(resume=True)), tmp_path / "cut")
    same(tmp_path / "whole", tmp_path / "cut")


def test_resume_does_not_read_what_is_done(study, tmp_path, monkeypatch):
    export(plans_of(study), tmp_path / "out")
    monkeypatch.setattr(plan_module, "read_patch", None)
    export(plans_of(study, CONFIG.replace(resume=True)), tmp_path / "out")


def test_resume_with_other_options_names_them(study, tmp_path, redrawn):
    export(plans_of(study), tmp_path / "out")
    with pytest.raises(OutputError, match=r"min_share was 0\.4 and is 0\.6"):
        export(plans_of(study, CONFIG.replace(resume=True, min_share=0.6)), tmp_path / "out")
    with pytest.raises(OutputError, match=r"image slide 2.tiff is missing now"):
        export(plans_of(study, CONFIG.replace(resume=True))[:1], tmp_path / "out")
    redrawn()
    with pytest.raises(OutputError, match="the annotations of slide 2.tiff changed"):
        export(plans_of(study, CONFIG.replace(resume=True)), tmp_path / "out")


def test_update_equals_a_new_export_and_reads_only_what_changed(
    study, tmp_path, redrawn, monkeypatch
):
    redrawn(40)
    export(plans_of(study), tmp_path / "out")
    redrawn(0)
    plans = plans_of(study)
    export(plans, tmp_path / "new")
    reads = []
    real = plan_module.read_patch
    monkeypatch.setattr(
        plan_module, "read_patch", lambda *values: reads.append(values) or real(*values)
    )
    run = export(plans_of(study, CONFIG.replace(update=True)), tmp_path / "out")
    same(tmp_path / "new", tmp_path / "out")
    assert 0 < len(reads) < run.written / 4
    with qb.open_project(study.project) as project:
        assert project.slides  # the project still opens


def test_an_interrupted_update_can_be_resumed(study, tmp_path, redrawn):
    export(plans_of(study), tmp_path / "out")
    redrawn()
    export(plans_of(study), tmp_path / "new")
    for stop in (1, 150):
        with pytest.raises(Stop):
            export(
                plans_of(study, CONFIG.replace(update=True)), tmp_path / "out",
                on_progress=stop_after(stop),
            )  # fmt: skip
    export(plans_of(study, CONFIG.replace(resume=True)), tmp_path / "out")
    same(tmp_path / "new", tmp_path / "out")


def test_update_with_a_replaced_slide_reads_again(study, tmp_path, two_slides):
    plans = plans_of(study)
    export(plans, tmp_path / "out")
    moved = tmp_path / "copy.tiff"
    shutil.copy(two_slides[1], moved)
    swapped = [
        dataclasses.replace(plan, slide=dataclasses.replace(plan.slide, path=moved))
        for plan in plans[:1]
    ]
    fresh = [qb.plan(swapped[0].slide, CONFIG), plans[1]]
    export(fresh, tmp_path / "new")
    update = [dataclasses.replace(p, config=CONFIG.replace(update=True)) for p in fresh]
    export(update, tmp_path / "out")
    same(tmp_path / "new", tmp_path / "out")


def test_update_with_another_selection_would_lose_images(study, tmp_path):
    export(plans_of(study), tmp_path / "out")
    before = tree_hashes(tmp_path / "out")
    with pytest.raises(OutputError, match=r"other options: entry was \[\]"):
        config = CONFIG.replace(update=True, entry="1")
        export(plans_of(study, config)[:1], tmp_path / "out")
    assert tree_hashes(tmp_path / "out") == before


def test_update_of_a_slide_that_fails_keeps_what_is_committed(
    study, tmp_path, redrawn, monkeypatch
):
    redrawn(40)
    export(plans_of(study), tmp_path / "out")
    before = tree_hashes(tmp_path / "out" / "patches")
    redrawn(0)

    def damaged(*values):
        raise ReadError("tile 7 is damaged.")

    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "read_patch", damaged)
        run = export(plans_of(study, CONFIG.replace(update=True)), tmp_path / "out")
    assert [failure.entry_id for failure in run.failures] == ["2"]
    assert tree_hashes(tmp_path / "out" / "patches") == before
    assert verify(tmp_path / "out").ok
    export(plans_of(study, CONFIG.replace(update=True)), tmp_path / "out")
    export(plans_of(study), tmp_path / "new")
    same(tmp_path / "new", tmp_path / "out")


def test_update_while_a_slide_is_missing_keeps_its_patches(study, tmp_path):
    whole = export(plans_of(study), tmp_path / "out")
    plans = plans_of(study, CONFIG.replace(update=True))
    gone = Failure.of(plans[1].slide, ReadError("the drive is not connected."))
    run = export(plans[:1], tmp_path / "out", failures=[gone])
    assert run.table().num_rows == whole.written
    assert [slide["entry_id"] for slide in run.record["slides"]] == ["1", "2"]
    assert verify(tmp_path / "out").ok


def test_an_unchanged_patch_is_not_written_again(study, tmp_path):
    export(plans_of(study), tmp_path / "out")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    export(plans_of(study, CONFIG.replace(update=True)), tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")} == times


@pytest.mark.parametrize(
    "place", ["", "data/9", "scripts", "qupath_bridge", "qupath_bridge/runs/x"]
)
def test_places_of_the_project_are_refused(study, place):
    folder = study.project.parent
    before = tree_hashes(folder)
    with pytest.raises(OutputError, match="place of the QuPath project") as caught:
        export(plans_of(study), folder / place)
    assert "qupath_bridge" in caught.value.hint
    assert tree_hashes(folder) == before
    export(plans_of(study), folder / "qupath_bridge" / "patches")


def test_update_drops_images_that_are_gone_and_keeps_strangers(study, tmp_path):
    export(plans_of(study), tmp_path / "out")
    note = tmp_path / "out" / "patches" / "notes.txt"
    note.write_text("mine")
    run = export(plans_of(study, CONFIG.replace(update=True))[:1], tmp_path / "out")
    assert {row["entry_id"] for row in run.table().to_pylist()} == {"1"}
    assert not list((tmp_path / "out" / "patches").rglob("2_*.png"))
    assert note.read_text() == "mine"


def test_one_unreadable_slide_among_ten(study, tmp_path, monkeypatch):
    plans = plans_of(study)
    ten = [
        dataclasses.replace(
            plans[0], slide_id=f"{n}_s",
            slide=dataclasses.replace(plans[0].slide, entry_id=str(n), name=f"s{n}"),
        )
        for n in range(10)
    ]  # fmt: skip
    real = plan_module.read_patch
    count = len(plans[0])
    calls = iter(range(10**6))

    def sometimes(*values):
        if next(calls) == 3 * count + 70:
            raise ReadError("tile 7 is damaged.", hint="Scan it again.")
        return real(*values)

    monkeypatch.setattr(plan_module, "read_patch", sometimes)
    run = export(ten, tmp_path / "out")
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
    with pytest.raises(InterruptedRunError, match="Stopped at slide 1") as caught:
        export(plans, tmp_path / "cut", runner=ThreadRunner(4), on_progress=listen)
    assert "--resume" in caught.value.hint
    assert threading.active_count() == before
    export(plans_of(study, CONFIG.replace(resume=True)), tmp_path / "cut")
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
    config = CONFIG.replace(resume=(tmp_path / "cut" / "run.json").exists())
    export(plans_of(study, config), tmp_path / "cut")
    same(tmp_path / "whole", tmp_path / "cut")


def test_the_index_is_what_counts(study, tmp_path):
    """Between the patches of a slide and its index, nothing of it exists."""
    plans = plans_of(study)
    with pytest.raises(Stop):
        export(plans, tmp_path / "out", on_progress=stop_after(len(plans[0])))
    store = export_module.LocalStore(tmp_path / "out")
    assert list(index.list_partitions(store)) == []
    assert list((tmp_path / "out" / "patches").rglob("*.png"))
