"""Write-backs, undos and work in QuPath one after the other: what is shown at the end."""

import os
import shutil
import stat
import struct
from dataclasses import replace

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import InterruptedRunError, OutputError
from qupath_bridge.patches.ids import tile_uuid
from qupath_bridge.qupath.geojson import tiles_geojson
from qupath_bridge.qupath.qpdata.splice import splice_tiles
from qupath_bridge.roundtrip import file_state, slide_change
from qupath_bridge.roundtrip import write_back as module
from qupath_bridge.roundtrip.backups import backups_of
from qupath_bridge.roundtrip.comparing import tile_hashes
from qupath_bridge.sources.embedded import EmbeddedSource
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.testing.projects import Image, build_project
from tests.support.run_folders import write_run

from .test_write_back import (
    CONFIG,
    USERS,
    bytes_of,
    change_in_qupath,
    data_file,
    export,
    sample_tiles,
    shown,
    tiles_of,
    undo,
    write,
)

OTHER = CONFIG.replace(map={"Tumor": "Cancer"})  # the same boxes, with other labels
FINE = CONFIG.replace(size=60)  # other boxes


def runs_shown(study, entry_id="1"):
    return {run for _, run in shown(study, entry_id).values()}


def pointers(study):
    with qb.open_project(study.project, engine="embedded") as project:
        return [slide.metadata.get("qupath_bridge.run") for slide in project.slides]


# --- the order of runs ---------------------------------------------------------------------------


def test_a_run_that_was_undone_does_not_come_back_with_the_undo_of_another(study):
    first, second = export(study), export(study, 2, FINE)
    old = bytes_of(study)
    write(study, first)
    write(study, second, replace=True)
    undo(study, first)
    assert runs_shown(study) == {second}
    undo(study, second)
    assert bytes_of(study) == old


def test_what_a_run_replaced_comes_back_through_one_that_was_undone(study):
    """The second replaced the first, the third the second: without both, the first is shown."""
    first, second, third = export(study), export(study, 2, OTHER), export(study, 3, FINE)
    write(study, first)
    with_first = shown(study)
    write(study, second, replace=True)
    write(study, third, replace=True)
    undo(study, second)
    assert runs_shown(study) == {third}
    undo(study, third)
    assert shown(study) == with_first


def test_what_a_later_run_would_have_replaced_does_not_come_back(study):
    first, second, third = export(study), export(study, 2, OTHER), export(study, 3, FINE)
    write(study, first)
    write(study, second, replace=True)
    write(study, third, replace=True)
    with_third = shown(study)
    undo(study, second)
    change_in_qupath(study, add=[USERS])
    undo(study, second)
    assert shown(study) == with_third


def test_undo_takes_all_tiles_of_a_run_that_was_completed_later(study):
    """Some were deleted in QuPath, and a second write-back put them back."""
    run_id = export(study)
    write(study, run_id)
    some = [tile.id for tile in tiles_of(study, run_id)][:8]
    change_in_qupath(study, remove=set(some))
    write(study, run_id, discard_corrections=True)
    assert len(shown(study)) == len(tiles_of(study, run_id))
    undo(study, run_id)
    assert shown(study) == {}


def test_tiles_that_a_person_deleted_do_not_come_back_with_an_undo(study):
    first, second = export(study), export(study, 2, FINE)
    write(study, first)
    write(study, second, replace=True)
    undo(study, second)
    some = {tile.id for tile in tiles_of(study, first)[:5]}
    change_in_qupath(study, remove=some)
    left = shown(study)
    write(study, second)
    undo(study, second)
    assert shown(study) == left


def test_every_state_between_is_restored_byte_by_byte(study):
    """Where nobody else wrote, an undo gives the bytes of before, however many came between."""
    first, second = export(study), export(study, 2, FINE)
    states = [bytes_of(study)]
    for run_id in (first, second):
        write(study, run_id)
        states.append(bytes_of(study))
    undo(study, second)
    assert bytes_of(study) == states[1]
    write(study, second)
    assert bytes_of(study) == states[2]
    undo(study, second)
    undo(study, first)
    assert bytes_of(study) == states[0]


def test_runs_of_the_same_boxes_are_taken_out_one_after_the_other(study):
    """What came back with the undo of the third is gone with that of the second."""
    runs = [export(study, i, CONFIG.replace(map={"Tumor": f"Cancer {i}"})) for i in (1, 2, 3)]
    states = []
    for run_id in runs:
        write(study, run_id)
        change_in_qupath(study, add=[USERS])  # the old bytes are of no use
        states.append(shown(study))
        change_in_qupath(study, remove={USERS.id})
    for run_id, state in zip(runs[:0:-1], states[1::-1], strict=True):
        undo(study, run_id)
        assert shown(study) == state
    undo(study, runs[0])
    assert shown(study) == {}


# --- copies of images ----------------------------------------------------------------------------


def add_copy(study, draw, entry_id=3):
    """Add a third image that is a copy of the first with its data, as QuPath's Duplicate does."""
    first, second = draw.images(study.slides)
    content = [data_file(study, i).read_bytes() for i in ("1", "2")]
    copy = replace(first, entry_id=entry_id, name="copy")
    study.redraw(replace(first, entry_id=1), replace(second, entry_id=2), copy)
    for i, data in zip(("1", "2", str(entry_id)), [*content, content[0]], strict=True):
        data_file(study, i).write_bytes(data)


def test_the_copy_of_an_image_loses_the_tiles_too(study, draw):
    run_id = export(study)
    write(study, run_id)
    add_copy(study, draw)
    assert len(shown(study, "3")) == len(tiles_of(study, run_id))
    assert {e.entry_id: e.state for e in undo(study, run_id).entries} == {
        "1": "written", "2": "written", "3": "written",
    }  # fmt: skip
    assert shown(study, "3") == {}


def test_an_image_that_was_added_again_has_its_tiles_once(study, draw):
    """The new run knows the image by its new ID; the data have the tiles of the old one."""
    run_id = export(study)
    write(study, run_id)
    add_copy(study, draw)
    corrected = tiles_of(study, run_id)[3]
    path = data_file(study, "3")
    path.write_bytes(
        splice_tiles(
            path.read_bytes(),
            remove={corrected.id},
            add=[corrected._replace(class_path="Corrected")],
        )
    )
    again = export(study, 2, OTHER)  # neither settings nor output are those of the first
    done = {entry.entry_id: entry for entry in write(study, again).entries}["3"]
    boxes = {tile.box for tile in tiles_of(study, again, "3")}
    assert boxes == {tile.box for tile in tiles_of(study, run_id)}
    assert len(shown(study, "3")) == len(boxes)
    assert done.corrected == 1
    assert shown(study, "3")[corrected.id] == ("Corrected", run_id)
    ids = {tile_uuid("3", *box) for box in boxes}
    assert len(ids & shown(study, "3").keys()) == len(boxes) - 1


# --- earlier versions ----------------------------------------------------------------------------


@pytest.mark.parametrize("same", ["output", "settings"])
def test_an_earlier_version_leaves_no_tiles(study, draw, same):
    """A region is gone: the boxes that only the earlier version lists go; other runs stay."""
    other = export(study, 9, FINE)
    out, later = study.folder / "out1", study.folder / ("out1" if same == "output" else "out2")
    first = qb.export(study.project, out, CONFIG).run_id
    write(study, other)
    write(study, first)
    with_first = shown(study)
    image, second = draw.images(study.slides)
    data = bytes_of(study)
    study.redraw(replace(image, regions=image.regions[:2]), second)
    config = CONFIG if same == "settings" else CONFIG.replace(min_share=0.5)
    if same == "output":
        shutil.rmtree(out)
    new = qb.export(study.project, later, config).run_id
    for entry_id, content in zip("12", data, strict=True):
        data_file(study, entry_id).write_bytes(content)
    listed = {tile.id for tile in tiles_of(study, new)}
    gone = {i for i, (_, run) in with_first.items() if run == first} - listed
    assert len(gone) > 5
    entry = write(study, new).entries[0]
    assert runs_shown(study) == {other, new}
    assert {i for i, (_, run) in shown(study).items() if run == new} == listed
    assert dict(entry.other_runs) == {other: len(tiles_of(study, other))}
    undo(study, new)
    assert shown(study) == with_first


# --- finding a run -------------------------------------------------------------------------------


@pytest.mark.parametrize("known", ["backups", "tiles"])
def test_undo_needs_neither_the_folder_of_the_run_nor_its_output(study, known, capsys):
    old = bytes_of(study)
    run_id = export(study)
    write(study, run_id)
    out = study.folder / "out1"
    shutil.rmtree(out)
    shutil.rmtree(study.project.parent / "qupath_bridge" / "runs")
    if known == "tiles":
        shutil.rmtree(study.project.parent / "qupath_bridge")
    name = str(out) if known == "backups" else run_id
    assert main(["write-back", str(study.project), "--undo", name, "--force"]) == 0
    assert shown(study) == shown(study, "2") == {}
    if known == "backups":
        assert bytes_of(study) == old
    capsys.readouterr()
    nowhere = "01M8BHDERQFPMZ0CE5ZGYATB93"
    assert main(["write-back", str(study.project), "--undo", nowhere, "--force"]) == 5
    assert f"No run {nowhere}" in capsys.readouterr().err


# --- what is recorded ----------------------------------------------------------------------------


def test_an_undo_that_changes_nothing_leaves_no_backup(study):
    """Two runs with the same boxes share their ids: which run was replaced is told by the tiles."""
    run_id, other = export(study), export(study, 2, CONFIG.replace(map={"Tumor": "Cancer"}))
    ids = {tile.id for tile in tiles_of(study, run_id)}
    assert ids == {tile.id for tile in tiles_of(study, other)}
    never_written = undo(study, run_id)
    write(study, run_id)
    assert undo(study, run_id).backup is not None
    write(study, run_id, replace=True)
    folders = [backup.folder for backup in backups_of(study.project.parent)]
    for done in (never_written, undo(study, other)):
        assert {entry.state for entry in done.entries} == {"unchanged"}
        assert done.backup is None
    assert [backup.folder for backup in backups_of(study.project.parent)] == folders
    undo(study, run_id)
    again = undo(study, run_id)
    assert ({entry.state for entry in again.entries}, again.backup) == ({"unchanged"}, None)


def test_an_undo_of_a_replaced_run_is_recorded_once(study):
    """It changes nothing now, but the run must not come back when its successor is taken out."""
    run_id, other = export(study), export(study, 2, CONFIG.replace(map={"Tumor": "Cancer"}))
    write(study, run_id)
    write(study, other)
    recorded, again = undo(study, run_id), undo(study, run_id)
    for done in (recorded, again):
        assert {entry.state for entry in done.entries} == {"unchanged"}
    assert recorded.backup is not None
    assert again.backup is None
    undo(study, other)
    assert shown(study) == {}


# --- backups -------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_prunes_the_oldest_backup(study, monkeypatch):
    run_id, other = export(study), export(study, 2, FINE)
    first = write(study, run_id).backup
    monkeypatch.setattr("qupath_bridge.roundtrip.backups.timestamp", lambda: "1999-01-01T00:00:00Z")
    second = write(study, other, keep=1)
    assert second.pruned == (first,)
    assert second.backup.is_dir()
    assert [b.folder for b in backups_of(study.project.parent)] == [second.backup]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_mode_and_group_of_the_data_stay(study, mode):
    run_id, path = export(study), data_file(study)
    path.chmod(mode)
    groups = [group for group in os.getgroups() if group != path.stat().st_gid]
    if os.geteuid() == 0:
        groups.append(4321)
    if groups:
        os.chown(path, -1, groups[0])
    wanted = mode, path.stat().st_gid
    stored = write(study, run_id).backup / "1.qpdata"
    for file in (path, stored):
        assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_gid) == wanted
    undo(study, run_id)
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == wanted


# --- others who write ----------------------------------------------------------------------------


class Saves:
    """Let somebody save the data of an image at a moment between two steps of ours."""

    def __init__(self, monkeypatch, study, owner, name, *, when=lambda *a: True):
        self.content = splice_tiles(data_file(study).read_bytes(), add=[USERS])
        self.done = False
        real = getattr(owner, name)

        def step(*args, **options):
            value = real(*args, **options)
            if not self.done and when(*args):
                self.done = True
                new = data_file(study).with_name("new")
                new.write_bytes(self.content)
                new.replace(data_file(study))
            return value

        monkeypatch.setattr(owner, name, step)


def test_a_save_at_any_moment_of_the_last_checks_is_never_overwritten(study, monkeypatch):
    """After each look at a file behind the making of the copy, up to the last one."""
    run_id = export(study)
    steps = [
        (slide_change, "_store"),
        (slide_change, "check_unchanged"),  # of the project file, then of the data
        (slide_change, "_check_in_place"),
    ]
    old = data_file(study).read_bytes()
    for owner, name in steps:
        with monkeypatch.context() as patch:
            passed = []

            def when(*arguments, name=name, passed=passed):
                passed.append(arguments)
                return name != "_check_in_place" or len(passed) == 2  # the first is at the begin

            saves = Saves(patch, study, owner, name, when=when)
            first = write(study, run_id).entries[0]
        assert saves.done
        assert first.state == "failed", name
        assert "was changed by somebody else" in first.problem
        assert first.problem.endswith("The slide has the data that somebody else wrote.")
        assert data_file(study).read_bytes() == saves.content
        data_file(study).write_bytes(old)


def test_a_save_that_keeps_size_and_bytes_of_the_first_look_is_seen(study, tmp_path):
    """Another file at the place is another inode, whatever its time says."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    before = file_state.FileState.of(path)
    file_state.check_same_file(path, before, hint="")
    other = tmp_path / "other"
    other.write_bytes(b"new")
    os.utime(other, (1_000_000_000, 1_000_000_000))
    other.replace(path)
    with pytest.raises(OutputError, match="changed by somebody else"):
        file_state.check_same_file(path, before, hint="")
    with pytest.raises(OutputError, match="changed by somebody else"):
        file_state.check_unchanged(path, before, hint="", reread=False)


def test_a_file_that_was_just_written_is_read_again(tmp_path):
    """Its time of change may be too coarse to show a second write."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    before = file_state.FileState.of(path)
    facts = path.stat()
    with path.open("r+b") as file:
        file.write(b"new")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(OutputError, match="changed by somebody else"):
        file_state.check_unchanged(path, before, hint="", reread=False)


def test_an_untouched_file_beside_an_interrupted_save_is_the_old_one(study):
    run_id = export(study)
    data_file(study).with_name("data.qpdata.bkp").write_bytes(b"x")
    problem = write(study, run_id).entries[0].problem
    assert problem.endswith("The slide has its old data.")


# --- an interrupt --------------------------------------------------------------------------------


def test_an_interrupt_says_what_was_written_and_how_to_undo_it(study, monkeypatch, capsys):
    run_id, old = export(study), bytes_of(study)
    real = module.change_slide

    def interrupted(session, slide, plan):
        if slide.entry_id == "2":
            raise KeyboardInterrupt
        return real(session, slide, plan)

    monkeypatch.setattr(module, "change_slide", interrupted)
    with pytest.raises(InterruptedRunError, match=r"1 slide was written: slide 1.tiff \(ID 1\)"):
        write(study, run_id)
    command = ["write-back", str(study.project), "--run", run_id, "--direct", "--force"]
    assert undo(study, run_id, slides=[]).entries == ()
    assert main(command) == 130
    said = capsys.readouterr().err
    assert "no slide was written" in said  # the first one was there already
    monkeypatch.undo()
    assert not undo(study, run_id).failed
    monkeypatch.setattr(module, "change_slide", interrupted)
    assert main(command) == 130
    said = capsys.readouterr().err
    assert "1 slide was written: slide 1.tiff (ID 1)" in said
    assert f"qupath-bridge write-back {study.project} --undo {run_id}" in said
    monkeypatch.undo()
    assert main(["write-back", str(study.project), "--undo", run_id, "--force"]) == 0
    assert bytes_of(study) == old


# --- pointers in the project ---------------------------------------------------------------------


def test_the_metadata_of_images_names_the_run_that_is_shown(study):
    first, second = export(study), export(study, 2, FINE)
    before = study.project.read_text(encoding="utf-8")
    with qb.open_project(study.project, engine="embedded") as project:
        (one,) = [slide for slide in project.slides if slide.entry_id == "1"]
    write(study, first)
    assert pointers(study) == [first, first]
    write(study, second, slides=[one])
    assert pointers(study) == [second, first]
    undo(study, first)
    assert pointers(study) == [second, None]
    write(study, first)
    assert pointers(study) == [first, first]
    undo(study, second)
    assert pointers(study) == [first, first]
    undo(study, first)
    assert pointers(study) == [None, None]
    assert study.project.read_text(encoding="utf-8") == before


def test_a_slide_that_failed_keeps_its_pointer(study):
    run_id = export(study)
    data_file(study).write_bytes(b"broken")
    assert [entry.state for entry in write(study, run_id).entries] == ["failed", "written"]
    assert pointers(study) == [None, run_id]


def test_a_dry_run_and_a_second_time_leave_the_project_file(study):
    run_id = export(study)
    before = study.project.read_bytes()
    write(study, run_id, dry_run=True)
    assert study.project.read_bytes() == before
    write(study, run_id)
    facts = study.project.stat()
    write(study, run_id)
    assert study.project.stat() == facts


# --- tiles that are there already ----------------------------------------------------------------


def test_tiles_that_qupath_saved_with_32_bits_are_there_already(study):
    """A person may also have added a measurement, a colour or a lock; only a class counts."""
    run_id = export(study, config=FINE)
    rounded = [
        tile._replace(
            measurements={
                **{
                    name: struct.unpack("f", struct.pack("f", v))[0]
                    for name, v in tile.measurements.items()
                },
                "added in QuPath": 7.0,
            }
        )
        for tile in tiles_of(study, run_id)
    ]
    wanted = {tile.id: tile.measurements for tile in tiles_of(study, run_id)}
    assert any(
        tile.measurements[name] != value
        for tile in rounded
        for name, value in wanted[tile.id].items()
    )
    change_in_qupath(study, add=rounded)
    before = data_file(study).read_bytes()
    first = write(study, run_id).entries[0]
    assert (first.state, first.corrected, first.added) == ("unchanged", 0, 0)
    assert data_file(study).read_bytes() == before


def test_tiles_are_compared_with_32_bits_after_a_change(study):
    tile = tiles_of(study, export(study))[0]
    double, single = (tile._replace(measurements={"a": v}) for v in (0.1, 0.10000000149011612))
    other = tile._replace(measurements={"a": 0.1001})
    assert tile_hashes([double]) == tile_hashes([single]) != tile_hashes([other])


# --- cost ----------------------------------------------------------------------------------------


def cost(folder, images, monkeypatch, slide):
    """Return bytes hashed and bytes put into records by a write-back of so many images."""
    path = build_project(
        folder, [Image(slide, size=(700, 500), entry_id=i + 1) for i in range(images)]
    )
    os.utime(path, (1_000_000_000, 1_000_000_000))
    tiles = {str(i + 1): tiles_geojson(sample_tiles(str(i + 1), "R")) for i in range(images)}
    write_run(folder / "qupath_bridge" / "runs" / "R", "R", tiles)
    hashed, put = [], []
    real_digest, real_put = file_state.content_digest, LocalStore.put

    def digest(content):
        hashed.append(len(content))
        return real_digest(content)

    def put_data(store, name, data, **options):
        put.append(len(data))
        return real_put(store, name, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(file_state, "content_digest", digest)
        patch.setattr(LocalStore, "put", put_data)
        with qb.open_project(path, engine="embedded") as project:
            done = module.write_back(project, "R", EmbeddedSource(), running=())
    assert {entry.state for entry in done.entries} == {"written"}
    return sum(hashed) - path.stat().st_size, sum(put), len(hashed) + len(put)


def test_the_cost_grows_with_the_number_of_images(tmp_path, monkeypatch, two_slides):
    """Neither the project file nor the list of all changes is gone through for each image."""
    few = cost(tmp_path / "few", 8, monkeypatch, two_slides[0])
    many = cost(tmp_path / "many", 32, monkeypatch, two_slides[0])
    for small, large in zip(few, many, strict=True):
        assert large < 4.5 * small
