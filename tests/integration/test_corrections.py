"""Corrections through a project: found in QuPath's data, kept in files, protected, undone."""

import json
import re
import shutil
from dataclasses import replace

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import UsageError
from qupath_bridge.patches.corrections import to_lines
from qupath_bridge.roundtrip.collecting import examine, keep
from qupath_bridge.roundtrip.corrections import collect_corrections
from qupath_bridge.roundtrip.runs import ProjectRuns
from qupath_bridge.sources import corrections as module
from qupath_bridge.sources.corrections import read_corrections
from qupath_bridge.testing.projects import tree_hashes

from .test_write_back import CONFIG, change_in_qupath, export, shown, tiles_of, undo, write
from .test_write_back_history import FINE, OTHER, add_copy


def bridge(study, *parts):
    return study.project.parent.joinpath("qupath_bridge", *parts)


def say(study, run_id, changes=(), missing=(), entry_id="1"):
    """Give tiles of a run, by their numbers, other classes, and delete some, as a person does."""
    tiles, changes = tiles_of(study, run_id, entry_id), dict(changes)
    now = shown(study, entry_id)
    change_in_qupath(
        study,
        remove={tiles[i].id for i in [*changes, *missing] if tiles[i].id in now},
        add=[tiles[i]._replace(class_path=c, color=(1, 2, 3)) for i, c in changes.items()],
        entry_id=entry_id,
    )
    return tiles


def collect(study, **options):
    with qb.open_project(study.project, engine="embedded") as project:
        return collect_corrections(project.slides, **options)


def stored(study, entry_id="1", **options):
    with qb.open_project(study.project, engine="embedded") as project:
        return read_corrections(project.info, entry_id, **options)


def events(study, entry_id="1"):
    files = sorted(bridge(study, "shown", entry_id).glob("*.json"))
    return [json.loads(path.read_bytes()) for path in files]


def class_of(study, tile, entry_id="1"):
    return shown(study, entry_id)[tile.id][0]


# --- collecting ----------------------------------------------------------------------------------


def test_collecting_writes_one_file_and_twice_changes_nothing(study):
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {3: "Necrosis", 4: None, 5: "Ignore*"}, missing=[6])
    before = tree_hashes(study.folder)
    qb.corrections(study.project)
    assert tree_hashes(study.folder) == before  # a list writes nothing
    (found,) = collect(study, reviewer="Ann")
    assert (found.entry_id, found.collected, found.number("corrected")) == ("1", 4, 2)
    (path,) = bridge(study, "corrections", "1").iterdir()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [(line["kind"], line["before"], line["after"]) for line in lines] == [
        ("corrected", tiles[3].class_path, "Necrosis"),
        ("corrected", tiles[4].class_path, None),
        ("rejected", tiles[5].class_path, "Ignore*"),
        ("rejected", tiles[6].class_path, None),
    ]
    facts = json.loads(bridge(study, "runs", run_id, "1.json").read_bytes())
    for line, tile in zip(lines, tiles[3:7], strict=True):
        assert (line["box"], line["plane"]) == (list(tile.box), list(tile.plane))
        assert (line["rule_label"], line["run_id"]) == (tile.class_path, run_id)
        assert (line["entry_id"], line["reviewer"]) == ("1", "Ann")
        assert line["fingerprint"] == facts["fingerprint"]["digest"]
    after = tree_hashes(study.folder)
    (again,) = collect(study, reviewer="Bob")
    assert (again.collected, again.number("rejected")) == (0, 2)
    assert tree_hashes(study.folder) == after


def test_the_last_statement_about_a_box_counts(study):
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {3: "Necrosis"})
    collect(study, reviewer="Ann")
    say(study, run_id, {3: "Fat"})
    collect(study, reviewer="Bob")
    say(study, run_id, {3: tiles[3].class_path})
    (found,) = collect(study, reviewer="Bob")
    assert [(c.kind, c.before, c.after, c.reviewer) for c in stored(study)] == [
        ("corrected", tiles[3].class_path, "Necrosis", "Ann"),
        ("corrected", "Necrosis", "Fat", "Bob"),
        ("withdrawn", "Fat", tiles[3].class_path, "Bob"),
    ]
    assert (found.number("corrected"), found.withdrawn) == (0, 1)


def test_the_tiles_of_a_duplicated_image_are_counted(study, draw):
    run_id = export(study)
    write(study, run_id)
    say(study, run_id, {3: "Necrosis"})
    add_copy(study, draw)
    found = {each.entry_id: each for each in collect(study)}
    assert (found["1"].collected, found["3"].collected) == (1, 0)
    assert found["3"].foreign == len(tiles_of(study, run_id))
    assert not bridge(study, "corrections", "3").exists()


def test_a_project_that_cannot_be_written(study):
    """What was said is beside the patches, and known from there."""
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {3: "Necrosis"}, missing=[4])
    bridge(study, "corrections").write_bytes(b"in the way")
    bridge(study, "shown").rename(bridge(study, "shown before"))
    bridge(study, "shown").write_bytes(b"in the way")
    (found,) = collect(study)
    assert (found.problem, found.collected) == (None, 1)  # without an event nothing is missing
    beside = study.folder / "out1" / "provenance" / "corrections"
    (said,) = stored(study, beside=[beside])
    assert (said.kind, said.box, said.after) == ("corrected", tiles[3].box, "Necrosis")
    assert [path.suffix for path in (beside / "1").iterdir()] == [".jsonl"]
    before = tree_hashes(study.folder)
    assert collect(study)[0].collected == 0
    assert tree_hashes(study.folder) == before


@pytest.fixture
def beside_two(study, tmp_path):
    """A run over two projects; one was corrected, and can take nothing new any more."""
    other = tmp_path / "other"
    shutil.copytree(study.project.parent, other)
    place = other / study.project.name
    run = qb.export([study.project, place], tmp_path / "both", FINE)
    done = qb.write_back(place, run.run_id, engine="embedded", force=True)
    assert not done.failed
    return replace(study, folder=tmp_path, project=place), run.run_id


@pytest.mark.parametrize("use", ["plan", "export", "update", "status"])
def test_what_is_beside_the_patches_of_several_projects_is_used(beside_two, study, tmp_path, use):
    """Everything that plans looks where collecting has put it."""
    corrected, run_id = beside_two
    tiles = say(corrected, run_id, {3: "Necrosis"}, entry_id="1")
    bridge(corrected, "corrections").write_bytes(b"in the way")
    (found,) = collect(corrected)
    assert found.collected == 1
    assert (tmp_path / "both" / "provenance" / "other" / "corrections" / "1").is_dir()

    if use == "plan":
        (plan, _) = qb.plan(corrected.project, FINE)
        assert plan.corrections.corrected == 1
    elif use == "status":
        (run,) = qb.status(corrected.project)
        assert run.entries[0].label_changed == (tiles[3].name,)
    else:
        places = {"export": ("new", {}), "update": ("both", {"update": True})}
        out, options = places[use]
        run = qb.export([study.project, corrected.project], tmp_path / out, FINE, **options)
        assert run.correction_counts()["corrected"] == 1


def test_an_export_reads_each_correction_once(study, monkeypatch, tmp_path):
    run_id = export(study)
    write(study, run_id)
    say(study, run_id, {3: "Necrosis"})
    collect(study)
    say(study, run_id, {4: "Fat"})
    read = []
    real = module._read
    monkeypatch.setattr(module, "_read", lambda path, entry: read.append(path) or real(path, entry))

    run = qb.export(study.project, tmp_path / "again", CONFIG, provenance=False)

    assert run.correction_counts()["corrected"] == 2
    assert len(read) == 1
    assert len(stored(study)) == 2


def test_a_slide_that_cannot_be_looked_at_does_not_stop_the_others(study):
    run_id = export(study)
    write(study, run_id)
    say(study, run_id, {3: "Necrosis"}, entry_id="2")
    (path,) = bridge(study, "shown", "1").iterdir()
    path.write_bytes(b"{}")
    found = {each.entry_id: each for each in collect(study)}
    assert path.name in found["1"].problem
    assert found["2"].collected == 1
    assert main(["corrections", str(study.project)]) == 1


# --- what write-back keeps -----------------------------------------------------------------------


def test_write_back_keeps_what_was_said(study):
    run_id, other = export(study), export(study, 2, OTHER)
    write(study, run_id)
    tiles = say(study, run_id, {3: "Necrosis", 4: "Ignore*"}, missing=[5])
    first = write(study, run_id).entries[0]
    assert (first.collected, first.corrected, first.rejected) == (3, 1, 2)
    for run, options in ((run_id, {}), (other, {}), (other, {"replace": True}), (run_id, {})):
        done = write(study, run, **options).entries[0]
        assert (done.collected, done.corrected, done.rejected) == (0, 1, 2)
        assert class_of(study, tiles[3]) == "Necrosis"
        assert class_of(study, tiles[4]) == "Ignore*"
        assert tiles[5].id not in shown(study)
        assert len(shown(study)) == len(tiles) - 1
        assert collect(study)[0].collected == 0
    said = stored(study)
    done = write(study, run_id, discard_corrections=True).entries[0]
    assert (done.corrected, done.rejected) == (0, 0)
    assert shown(study) == {t.id: (t.class_path, run_id) for t in tiles}
    assert collect(study)[0].collected == 0
    assert stored(study) == said  # the files stay


def test_a_confirmed_tile_shows_what_the_next_run_says(study):
    """A confirmation gives no label; if the rule says something else it is contested."""
    run_id, other = export(study), export(study, 2, OTHER)
    write(study, run_id)
    tiles = tiles_of(study, run_id)
    assert tiles[0].class_path == "Tumor"
    marked = tiles[0]._replace(measurements={**tiles[0].measurements, "qb: reviewed": 1.0})
    change_in_qupath(study, remove={marked.id}, add=[marked])
    done = write(study, other).entries[0]
    assert (done.collected, done.corrected) == (1, 0)
    assert [said.kind for said in stored(study)] == ["confirmed"]
    assert shown(study)[marked.id] == ("Cancer", other)
    assert collect(study)[0].collected == 0


def test_a_new_run_that_knows_the_correction_takes_the_tile_over(study):
    """Its label is the class that the person gave: nothing has to be kept."""
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {0: "Cancer"})
    assert tiles[0].class_path == "Tumor"
    other = export(study, 2, OTHER)  # it calls a tumour a cancer
    done = write(study, other).entries[0]
    assert (done.collected, done.corrected) == (1, 0)
    assert shown(study)[tiles[0].id] == ("Cancer", other)
    assert collect(study)[0].collected == 0


def test_an_undo_gives_the_remaining_run_with_the_correction(study):
    first, second = export(study), export(study, 2, OTHER)
    write(study, first)
    write(study, second)
    tiles = say(study, second, {3: "Necrosis"}, missing=[4])
    undo(study, second)
    old = {tile.id: (tile.class_path, first) for tile in tiles_of(study, first)}
    old[tiles[3].id] = ("Necrosis", first)
    del old[tiles[4].id]
    assert shown(study) == old
    assert [said.kind for said in stored(study)] == ["corrected", "rejected"]
    assert collect(study)[0].collected == 0
    last = events(study)[-1]
    assert (last["action"], last["run_id"]) == ("remove", second)
    assert (last["removed"], last["added"]) == ({second: len(tiles)}, {first: len(tiles) - 1})
    assert last["classes"] == {tiles[3].id: "Necrosis"}
    undo(study, first)
    assert shown(study) == {}
    write(study, first)
    assert shown(study) == old  # the statements outlive the tiles


def test_the_events_of_a_superseded_run(study):
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {3: "Necrosis"})
    other = export(study, 3)  # the same settings
    write(study, other)
    first, last = events(study)
    assert (first["action"], first["run_id"], first["added"]) == (
        "show", run_id, {run_id: len(tiles)},
    )  # fmt: skip
    assert first["shown"] == [{"run_id": run_id, "without": []}]
    assert (last["added"], last["removed"]) == (
        {other: len(tiles) - 1}, {run_id: len(tiles) - 1},
    )  # fmt: skip
    assert last["classes"] == {tiles[3].id: "Necrosis"}
    assert {each["run_id"] for each in last["shown"]} == {run_id, other}


def test_statements_about_another_slide_file_are_not_kept(study):
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {3: "Necrosis"}, missing=[4])
    (found,) = collect(study)
    path = next(bridge(study, "corrections", "1").iterdir())
    path.write_bytes(
        to_lines(("1", replace(each, fingerprint="another")) for each in stored(study))
    )
    (found,) = qb.corrections(study.project)
    assert found.other_file == 2
    done = write(study, run_id).entries[0]
    assert (done.corrected, done.rejected) == (0, 0)
    assert shown(study) == {t.id: (t.class_path, run_id) for t in tiles}


def test_fresh_ids_do_not_double_the_tiles(study):
    run_id = export(study)
    write(study, run_id)
    tiles = tiles_of(study, run_id)
    renamed = tiles[3]._replace(id="00000000-0000-4000-8000-000000000001", class_path="Necrosis")
    change_in_qupath(study, remove={tiles[3].id}, add=[renamed])
    (found,) = collect(study)
    assert (found.collected, found.number("corrected")) == (1, 1)
    assert "new ID" in found.messages[0]
    write(study, run_id)
    assert tiles[3].id not in shown(study)


def test_an_image_of_which_all_tiles_have_fresh_ids(study):
    """They were dragged into QuPath, so that there is no event either."""
    run_id = export(study)
    ids = (f"00000000-0000-4000-8000-{i:012x}" for i in range(99))
    tiles = [tile._replace(id=i) for tile, i in zip(tiles_of(study, run_id), ids, strict=False)]
    tiles[3] = tiles[3]._replace(class_path="Necrosis")
    change_in_qupath(study, add=tiles)
    (found,) = collect(study)
    assert (found.collected, found.number("corrected")) == (1, 1)


def test_tiles_that_are_missing_among_those_dragged_in_are_counted(study, capsys):
    """No event says that they were there."""
    run_id = export(study)
    tiles = tiles_of(study, run_id)
    change_in_qupath(study, add=tiles[2:])
    assert main(["status", str(study.project)]) == 0
    assert re.search(
        r"slide 1.tiff \(entry 1\): 2 patches of the run of [^()]+ \([^()]+\) have no tile\.",
        capsys.readouterr().out,
    )
    (found,) = collect(study)
    assert (found.collected, found.number("rejected")) == (0, 0)
    # From now on it is known what was there.
    assert collect(study) == ()
    change_in_qupath(study, remove={tiles[3].id})
    (found,) = collect(study)
    assert (found.number("rejected"), found.messages) == (1, ())


def test_what_two_people_say_about_a_patch_is_kept_of_both(study):
    """Enter on a tile that has the mark of the review panel already."""
    run_id = export(study)
    write(study, run_id)
    tile = tiles_of(study, run_id)[3]
    words = {}
    for who in ("Ann", "Bob"):
        words[f"qb.said {who}"] = tile.class_path
        marked = tile._replace(
            measurements={**tile.measurements, "qb: reviewed": 1.0},
            metadata={**tile.metadata, **words},
        )
        change_in_qupath(study, remove={tile.id}, add=[marked])
        (found,) = collect(study, reviewer="Cid")
        assert found.collected == 1
    assert [(c.kind, c.reviewer) for c in stored(study)] == [
        ("confirmed", "Ann"), ("confirmed", "Bob"),
    ]  # fmt: skip
    (agreement,) = qb.corrections(study.project).agreement
    assert (agreement.reviewers, agreement.patches) == (("Ann", "Bob"), 1)
    before = tree_hashes(study.folder)
    assert collect(study, reviewer="Cid")[0].collected == 0
    assert tree_hashes(study.folder) == before


# --- accidents -----------------------------------------------------------------------------------


@pytest.fixture
def unsure(study):
    """A slide of which more tiles are missing than anybody would delete, and one is corrected."""
    run_id = export(study, 1, FINE)
    write(study, run_id)
    tiles = say(study, run_id, {0: "Necrosis"}, missing=range(1, 25))
    assert len(tiles) > 30
    return study, run_id, tiles


def test_an_export_counts_what_is_unsure_and_does_not_apply_it(unsure, tmp_path):
    study, _, tiles = unsure
    run = qb.export(study.project, tmp_path / "again", FINE, provenance=False)
    assert (run.unsure, run.correction_counts()["rejected"]) == (24, 0)
    assert run.written >= len(tiles)


def test_an_import_puts_unsure_tiles_back(unsure):
    study, run_id, tiles = unsure
    (found,) = collect(study)
    assert (found.collected, len(found.unsure), found.number("rejected")) == (1, 24, 0)
    done = write(study, run_id).entries[0]
    assert (done.restored, done.corrected, done.rejected) == (24, 1, 0)
    assert shown(study).keys() == {tile.id for tile in tiles}
    assert collect(study)[0].unsure == ()


def test_accept_stores_what_is_unsure(unsure):
    study, run_id, tiles = unsure
    assert main(["corrections", str(study.project), "--accept", "1", "--reviewer", "Ann"]) == 0
    assert len([c for c in stored(study) if (c.kind, c.reviewer) == ("rejected", "Ann")]) == 24
    assert write(study, run_id).entries[0].rejected == 24
    assert len(shown(study)) == len(tiles) - 24


def test_dismiss_forgets_what_is_unsure(unsure):
    study, run_id, tiles = unsure
    found = qb.corrections(study.project, dismiss=["slide 1.tiff"])
    assert [each.unsure for each in found] == [()]
    assert [c.kind for c in stored(study)] == ["corrected"]
    assert events(study)[-1]["action"] == "dismiss"
    assert [each.unsure for each in qb.corrections(study.project)] == [()]
    write(study, run_id)
    assert len(shown(study)) == len(tiles)
    with pytest.raises(UsageError, match="accepted and dismissed"):
        qb.corrections(study.project, accept=["1"], dismiss=["slide 1.tiff"])


def test_dismissed_classes_are_replaced_by_the_next_import(study):
    run_id = export(study, 1, FINE)
    write(study, run_id)
    tiles = tiles_of(study, run_id)
    assert len(tiles) > 51
    say(study, run_id, dict.fromkeys(range(51), "Other"))
    assert write(study, run_id).entries[0].state == "unchanged"  # unsure, and left alone
    assert len(collect(study)[0].unsure) == 51
    qb.corrections(study.project, dismiss=["1"])
    assert [each.unsure for each in qb.corrections(study.project)] == []
    write(study, run_id)
    assert shown(study) == {t.id: (t.class_path, run_id) for t in tiles}


def test_an_import_that_was_never_saved(study):
    """The event of the second run is there, and its tiles never reached the file."""
    first, second = export(study), export(study, 2, FINE)
    write(study, first)
    saved = bridge(study).parent.joinpath("data", "1", "data.qpdata").read_bytes()
    write(study, second, replace=True)
    bridge(study).parent.joinpath("data", "1", "data.qpdata").write_bytes(saved)
    before = tree_hashes(study.folder)
    found = collect(study)
    assert [(each.collected, each.unsure) for each in found] == [(0, ())]
    (message,) = found[0].messages
    assert "(60 px, full resolution, edge pad, min share 0.4), which were shown" in message
    assert tree_hashes(study.folder) == before


# --- what people see -----------------------------------------------------------------------------


def test_status_says_what_the_newest_run_does_not_know(study, capsys):
    run_id = export(study)
    write(study, run_id)
    say(study, run_id, {3: "Necrosis", 4: "Fat"}, missing=[5])
    before = tree_hashes(study.folder)
    assert main(["status", str(study.project)]) == 0
    assert (
        f"slide 1.tiff (entry 1): 2 patches corrected, 1 rejected since run {run_id}; "
        "export --update applies them" in capsys.readouterr().out
    )
    assert tree_hashes(study.folder) == before  # it reports only
    write(study, run_id)
    other = export(study, 2, OTHER)
    assert main(["status", str(study.project), "--json"]) == 0
    (slide,) = json.loads(capsys.readouterr().out)["corrections"]["slides"]
    assert (slide["run_id"], slide["corrected"], slide["rejected"]) == (other, 2, 1)


def test_a_rule_that_says_something_else_by_now_is_contested(study, draw, capsys):
    """A class that is called otherwise is the same word; another region is another word."""
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {0: "Necrosis"})
    collect(study)
    export(study, 2, OTHER)
    (found,) = qb.corrections(study.project)
    assert (tiles[0].class_path, found.contested) == ("Tumor", ())
    image, second = draw.images(study.slides)
    regions = tuple(
        replace(region, class_path="Fat") if region.class_path == "Tumor" else region
        for region in image.regions
    )
    data = study.project.parent / "data" / "1" / "data.qpdata"
    study.redraw(replace(image, regions=regions), second)
    assert data.exists()
    newest = export(study, 3)
    found = qb.corrections(study.project, entries=["1"])
    (contested,) = found.slides[0].contested
    assert contested.patch == tiles[0].name
    assert main(["status", str(study.project)]) == 0
    assert f"1 patch contested since run {newest}" in capsys.readouterr().out


def test_boxes_of_other_grids_are_counted(study):
    run_id = export(study)
    write(study, run_id)
    say(study, run_id, {3: "Necrosis"}, missing=[4])
    collect(study)
    export(study, 2, FINE)
    (found,) = qb.corrections(study.project)
    assert dict(found.other_grids) == {(100, 100): 2}


def test_two_reviewers_and_their_kappa(study, tmp_path, capsys):
    """Each works on a copy of the project; then one's file is put beside the other's.

    By hand: 3 of 6 alike; by chance (2 * 3 + 3 * 2 + 1 * 1) / 36; kappa (18 - 13) / (36 - 13).
    """
    run_id = export(study)
    write(study, run_id)
    copied = replace(
        study, project=shutil.copytree(study.project.parent, tmp_path / "copy") / study.project.name
    )
    for place, reviewer, classes in (
        (study, "Ann", ["A", "A", "B", "B", "B", "Ignore*"]),
        (copied, "Bob", ["A", "A", "A", "Ignore*", "B", "B"]),
    ):
        say(place, run_id, dict(enumerate(classes)))
        assert collect(place, reviewer=reviewer)[0].collected == 6
    (path,) = bridge(copied, "corrections", "1").iterdir()
    shutil.copy(path, bridge(study, "corrections", "1"))
    assert collect(study, reviewer="Ann")[0].collected == 0
    assert main(["corrections", str(study.project), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agreement"] == [
        {
            "reviewers": ["Ann", "Bob"],
            "patches": 6,
            "disagreements": 3,
            "kappa": pytest.approx(5 / 23),
        }
    ]
    kinds = ["corrected", "corrected", "corrected", "rejected", "corrected", "corrected"]
    assert [each["kind"] for each in found["slides"][0]["items"]] == kinds  # the last word counts
    assert main(["corrections", str(study.project)]) == 0
    line = "Ann and Bob: 6 patches judged by both, 3 differently, kappa 0.22"
    assert line in capsys.readouterr().out


def test_reviewer_needs_something_to_store(study, capsys):
    assert main(["corrections", str(study.project), "--reviewer", "Ann"]) == 2
    assert "--collect" in capsys.readouterr().err


def test_the_command_of_a_project_without_statements(study, capsys):
    export(study)
    assert main(["corrections", str(study.project)]) == 0
    assert "Nobody has said anything" in capsys.readouterr().out


def test_qupath_without_metadata_of_tiles(study):
    """QuPath 0.4 and 0.5 drop it: the events and the measurements tell which run a tile shows."""
    first, second = export(study), export(study, 2, CONFIG.replace(min_share=0.5))
    write(study, first)
    write(study, second, replace=True)
    tiles = tiles_of(study, second)
    plain = [tile._replace(metadata={}) for tile in tiles]
    plain[3] = plain[3]._replace(class_path="Necrosis")
    change_in_qupath(study, remove=shown(study).keys(), add=plain[:-1])
    (found,) = collect(study)
    assert (found.number("corrected"), found.number("rejected"), found.unsure) == (1, 1, ())
    assert {said.run_id for said in stored(study)} == {second}


# --- export --------------------------------------------------------------------------------------


def test_export_collects_first_and_applies(study):
    run_id = export(study)
    write(study, run_id)
    tiles = say(study, run_id, {3: "Necrosis"}, missing=[4])
    out = study.folder / "again"
    with pytest.raises(UsageError, match="reviewer"):
        qb.export(study.project, out, CONFIG, corrections="none", reviewer="Ann")
    run = qb.export(study.project, out, CONFIG, corrections="none", workers=1)
    assert stored(study) == ()
    run = qb.export(study.project, study.folder / "with", CONFIG, reviewer="Ann", workers=1)
    assert [said.reviewer for said in stored(study)] == ["Ann", "Ann"]
    rows = run.table()
    ids, found = (rows.column(name).to_pylist() for name in ("tile_uuid", "label"))
    labels = dict(zip(ids, found, strict=True))
    assert labels[tiles[3].id] == "Necrosis"
    assert tiles[4].id not in labels
    (found,) = qb.corrections(study.project)
    assert all(patch.applied for patch in found.patches)
    assert (found.contested, dict(found.other_grids)) == ((), {})
    done = write(study, run.run_id).entries[0]
    assert (done.collected, done.corrected, done.rejected) == (0, 0, 0)
    assert collect(study)[0].collected == 0


def test_two_people_collect_at_once(study):
    """Both looked before either stored: each has a file of its own, and both count."""
    run_id = export(study)
    write(study, run_id)
    say(study, run_id, {3: "Necrosis"})
    with qb.open_project(study.project, engine="embedded") as project:
        runs, objects = ProjectRuns(project.info), project["1"].read(detections=True).objects
        seen = [examine(runs, "1", objects, reviewer=name) for name in ("Ann", "Bob")]
        for each in seen:
            keep(runs, each)
    assert sorted(said.reviewer for said in stored(study)) == ["Ann", "Bob"]
    assert collect(study)[0].collected == 0
    assert qb.corrections(study.project).agreement[0].disagreements == 0
