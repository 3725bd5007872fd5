"""Splits of an output: the tables, what a split keeps, and what makes it stale."""

import csv
import io
import itertools
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.errors import MissingDependencyError, OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.stores.memory import MemoryStore
from tests.conftest import write_slides
from tests.support import indexes
from tests.support.indexes import FakeSlide, Patch

LABELS = ("Tumor", "Stroma")


def cohort(patients=12, sites=4):
    """Two slides per patient, with more patches of one label for every third patient."""
    return [
        FakeSlide(
            f"s{n:02}", {"patient": f"P{n // 2:02}", "site": "ABCDEFGH"[n // 2 % sites]},
            [Patch(40 * k, label=LABELS[(k + n) % 3 == 0]) for k in range(1 + n % 4)],
        )
        for n in range(2 * patients)
    ]  # fmt: skip


@pytest.fixture
def out():
    """An output in memory, which needs no disk."""
    store = MemoryStore()
    yield store.url
    store.forget()


def write_output(place, slides, container="memory"):
    return indexes.write_output(place, slides, container)


def content(out, name):
    return open_output(out).get(f"splits/{name}")


def rows(out, name="folds"):
    return list(csv.DictReader(io.StringIO(content(out, f"{name}.csv").decode())))


def folds_by(slides, split, key):
    """Return the folds of each value of a key, from the slides that were written."""
    found = {}
    for slide in slides:
        found.setdefault(slide.metadata[key], set()).add(split.folds[slide.slide_id])
    return found


# --- a new split ---------------------------------------------------------------------------------


def test_a_split_keeps_patients_whole_and_counts_what_folds_have(out):
    slides = cohort()
    write_output(out, slides)
    split = qb.split(out, folds=3, by="patient", stratify="label", test=0.25)
    assert set(split.folds.values()) == {"0", "1", "2", "test"}
    assert all(len(folds) == 1 for folds in folds_by(slides, split, "patient").values())
    for fold, counts in split.counts.items():
        own = [slide for slide in slides if split.folds[slide.slide_id] == fold]
        labels = [patch.label for slide in own for patch in slide.patches]
        assert counts.slides == len(own) and counts.patches == len(labels)
        assert counts.groups == len({slide.metadata["patient"] for slide in own})
        assert dict(counts.by_label) == {name: labels.count(name) for name in sorted(set(labels))}
    assert list(split.counts) == ["0", "1", "2", "test"]
    assert len(split) == split.new == 24 and split.method == "scikit-learn"
    assert repr(split) == "Split('folds', 24 slides, 0: {}, 1: {}, 2: {}, test: {})".format(
        *(each.slides for each in split.counts.values())
    )


def test_the_tables_have_one_row_per_slide_and_say_the_same(out):
    slides = cohort()
    write_output(out, slides)
    split = qb.split(out, folds=3, by="patient", name="mine")
    expected = [
        {"slide_id": s.slide_id, "group": s.metadata["patient"], "fold": split.folds[s.slide_id]}
        for s in slides
    ]
    assert split.files == ("splits/mine.parquet", "splits/mine.csv")
    assert rows(out, "mine") == expected
    table = pq.read_table(pa.BufferReader(content(out, "mine.parquet")))
    assert table.to_pylist() == expected


def test_the_same_call_gives_the_same_bytes_whatever_the_order_of_slides():
    """Slides and their metadata written in another order, by another run."""
    slides = cohort()
    made = []
    for _ in range(2):
        store = MemoryStore()
        write_output(store.url, slides)
        random.Random(1).shuffle(slides)
        for _ in range(2):  # making it again changes nothing
            qb.split(store.url, folds=4, by="patient", stratify="label", test=0.2, seed=7)
            qb.split(store.url, folds=2, by="patient", preserve="site", name="sites")
        names = ("folds.parquet", "folds.csv", "sites.parquet", "sites.csv")
        made.append([content(store.url, name) for name in names])
        store.forget()
    assert made[0] == made[1]


def test_the_tables_of_a_finished_split_are_not_replaced_by_others(out):
    write_output(out, cohort())
    before = qb.split(out, folds=3, by="patient")
    with pytest.raises(OutputError, match="another split 'folds' already"):
        qb.split(out, folds=4, by="patient")
    assert rows(out)[0]["fold"] == before.folds["1_s00"]


@pytest.mark.parametrize("container", ["folder", "tar", "h5", "zarr"])
def test_every_container_holds_splits(tmp_path, container):
    out = tmp_path
    output = write_output(out, cohort(2), container)
    qb.split(out, folds=2, by="patient")
    assert qb.check_leakage(out).ok
    table = qb.read_index(out, split="folds")
    assert set(table.column("fold").to_pylist()) == {"0", "1"}
    assert output.sweep() == 0 and list(output.unlisted()) == []
    assert len(rows(out)) == 4


def test_slides_that_share_a_slide_file_are_joined_and_it_is_said(out):
    slides = cohort()
    slides[0].file = slides[5].file = "one.svs"  # of the patients P00 and P02
    write_output(out, slides)
    split = qb.split(out, folds=3, by="patient")
    assert len({split.folds[f"1_s{n:02}"] for n in (0, 1, 4, 5)}) == 1
    assert {split.groups[f"1_s{n:02}"] for n in (0, 1, 4, 5)} == {"P00 + P02"}
    listed = [row["slide_id"] for row in rows(out)]
    assert listed == sorted(listed) and len(listed) == 24
    assert split.joined == ("P00 + P02: one group, as they share the slide file one.svs",)


def test_sites_stay_whole_and_the_balance_is_the_best_there_is(out):
    slides = cohort(12, sites=6)
    write_output(out, slides)
    split = qb.split(out, folds=3, by="patient", stratify="label", preserve="site")
    assert split.method == "exact"
    sites = folds_by(slides, split, "site")
    assert all(len(folds) == 1 for folds in sites.values())

    def unbalanced(fold_of):
        """Return the sum of what folds lack or have too much, in parts of each label."""
        total = 0
        for label in LABELS:
            counts = [0, 0, 0]
            for slide in slides:
                own = sum(patch.label == label for patch in slide.patches)
                counts[fold_of[slide.metadata["site"]]] += own
            total += sum(abs(number / sum(counts) - 1 / 3) for number in counts)
        return total

    ways = itertools.product(range(3), repeat=6)
    best = min(unbalanced(dict(zip("ABCDEF", way, strict=True))) for way in ways)
    found = unbalanced({site: int(min(folds)) for site, folds in sites.items()})
    assert found == pytest.approx(best, abs=0.01)  # weights are rounded to thousandths


def test_a_patient_of_two_sites_keeps_them_together_and_it_is_said(out):
    slides = cohort()
    slides[1].metadata["site"] = "B"
    write_output(out, slides)
    split = qb.split(out, folds=2, by="patient", preserve="site")
    assert split.joined == ("A + B: in one fold, as a group is of several of them",)
    assert folds_by(slides, split, "site")["A"] == folds_by(slides, split, "site")["B"]


def test_more_sites_than_can_be_solved_are_balanced_and_it_is_said(out):
    slides = [FakeSlide(f"s{n:02}", {"patient": f"P{n}", "site": f"S{n}"}) for n in range(42)]
    write_output(out, slides)
    split = qb.split(out, folds=3, by="patient", preserve="site")
    assert split.method == "balanced"
    assert [counts.slides for counts in split.counts.values()] == [14, 14, 14]
    assert "more than 40" in split.warnings[0]


def test_slides_are_stratified_by_their_metadata(out):
    slides = cohort()
    for n, slide in enumerate(slides):
        slide.metadata["diagnosis"] = "benign" if n // 2 < 4 else "malignant"
    write_output(out, slides)
    split = qb.split(out, folds=4, by="patient", stratify="diagnosis")
    found = [(s.metadata["diagnosis"], split.folds[s.slide_id]) for s in slides]
    assert {fold: found.count(("benign", fold)) for fold in "0123"} == dict.fromkeys("0123", 2)


def test_slides_without_patches_are_in_no_fold(out):
    run = write_output(out, cohort(4))
    run.begin("1_empty")
    run.commit("1_empty", run.table("1_s00").slice(0, 0))
    assert "1_empty" not in qb.split(out, folds=2, by="patient").folds


# --- what is refused or told ---------------------------------------------------------------------


def test_values_that_are_missing_are_listed_at_once(out):
    slides = cohort()
    for n in (3, 8):
        del slides[n].metadata["patient"]
    write_output(out, slides)
    with pytest.raises(UsageError, match=r"2 slides without.*\n  s03 \(1_s03\)\n  s08 \(1_s08\)"):
        qb.split(out, folds=3, by="patient")
    assert not open_output(out).has("splits/folds.csv")


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"folds": 5}, "There are 4 groups by 'patient' for 5 folds. Use at most 4 folds"),
        (
            {"folds": 4, "test": 0.2},
            "4 groups by 'patient' for 4 folds and a test set. Use at most 3",
        ),
        ({"folds": 3, "preserve": "site"}, "2 groups by 'site' for 3 folds. Use at most 2 folds"),
    ],
)
def test_too_few_groups_are_refused_with_the_numbers(out, wanted, problem):
    write_output(out, cohort(4, sites=2))
    with pytest.raises(UsageError) as caught:
        qb.split(out, by="patient", **wanted)
    assert problem in str(caught.value)


def test_sites_that_patients_join_are_told_where_they_are_too_few(out):
    slides = cohort(2, sites=2)
    slides[0].metadata["site"], slides[1].metadata["site"] = "A", "B"
    write_output(out, slides)
    with pytest.raises(UsageError) as caught:
        qb.split(out, folds=2, by="patient", preserve="site")
    assert str(caught.value) == (
        "There is 1 group by 'site' for 2 folds, as groups of 'patient' join 2 values. "
        "Export more slides, or use another key."
    )


def test_labels_that_few_groups_have_are_told(out):
    slides = cohort()
    slides[0].patches[0].label = "Rare"
    write_output(out, slides)
    split = qb.split(out, folds=3, by="patient", stratify="label")
    assert split.warnings == ("Only 1 group has 'Rare': some folds are without it.",)


def test_patients_that_are_written_in_two_ways_are_told(out):
    slides = cohort()
    slides[0].metadata["patient"] = "p 01"
    write_output(out, slides)
    (told,) = qb.split(out, folds=3, by="patient").warnings
    assert told == "Values of 'patient' that look like one, and are not: 'P01', 'p 01'."


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"folds": 1, "by": "patient"}, "1 folds cannot be made"),
        ({"folds": 3}, "needs the number of folds, and the key"),
        ({"folds": 3, "by": "patient", "test": 1.5}, "cannot have the share 1.5"),
        ({"folds": 3, "by": "patient", "name": "../up"}, "cannot be the name of a split"),
        ({"folds": 3, "by": "nobody"}, "No slide of the run has the metadata 'nobody'"),
        ({"extend": True, "folds": 3}, "folds would not be used"),
    ],
)
def test_wrong_arguments_are_refused(out, wanted, problem):
    write_output(out, cohort(3))
    with pytest.raises(UsageError, match=problem):
        qb.split(out, **wanted)


def test_stratifying_by_labels_that_nobody_gave_is_refused(out):
    slides = cohort()
    for slide in slides:
        slide.patches = [Patch(label=None)]
    write_output(out, slides)
    with pytest.raises(UsageError, match="No patch has a label"):
        qb.split(out, folds=3, by="patient", stratify="label")


@pytest.mark.parametrize(("module", "name"), [("sklearn", None), ("scipy", "site")])
def test_what_is_not_installed_is_named(out, monkeypatch, module, name):
    write_output(out, cohort())
    for each in (module, f"{module}.model_selection", f"{module}.optimize"):
        monkeypatch.setitem(__import__("sys").modules, each, None)
    with pytest.raises(
        MissingDependencyError, match="Folds need .*pip install 'qupath-bridge.folds"
    ):
        qb.split(out, folds=2, by="patient", preserve=name)


# --- after an update -----------------------------------------------------------------------------


def test_a_stale_split_is_refused_until_it_is_extended(out):
    slides = cohort()
    write_output(out, slides)
    before = qb.split(out, folds=3, by="patient", stratify="label", test=0.2)
    more = [
        FakeSlide("s90", {"patient": "P00", "site": "A"}),  # of a patient that is there
        FakeSlide("s91", {"patient": "P90", "site": "A"}),
        FakeSlide("s92", {"patient": "P91", "site": "A"}),
    ]
    write_output(out, [*slides[1:], *more])
    for call in (
        lambda: qb.read_index(out, split="folds"),
        lambda: qb.check_leakage(out, "folds"),
    ):
        with pytest.raises(OutputError, match=r"stale.*3 slides with patches came, 1 went"):
            call()
    after = qb.split(out, extend=True)
    kept = before.folds.keys() & after.folds.keys()
    assert {each: after.folds[each] for each in kept} == {each: before.folds[each] for each in kept}
    assert after.folds["1_s90"] == before.folds["1_s01"]
    assert (after.new, len(after), len(kept)) == (3, 26, 23)
    assert qb.check_leakage(out, "folds").ok
    assert qb.split(out, extend=True).new == 0


def test_groups_that_were_gone_for_a_while_get_their_fold_back(out):
    slides = cohort()
    write_output(out, slides)
    before = qb.split(out, folds=3, by="patient")
    write_output(out, slides[:2])
    assert len(qb.split(out, extend=True)) == 2
    for n, slide in enumerate(slides[12:]):  # not the same slides, but the same patients
        slide.name = f"again{n:02}"
    write_output(out, slides)
    after = qb.split(out, extend=True)
    folds = list(before.folds.values())
    assert [after.folds[slide.slide_id] for slide in slides] == folds


def test_new_groups_go_where_they_are_lacking(out):
    slides = [FakeSlide(f"s{n}", {"patient": f"P{n}"}, [Patch(40 * k) for k in range(size)])
              for n, size in enumerate((6, 5, 2))]  # fmt: skip
    write_output(out, slides)
    before = qb.split(out, folds=3, by="patient")
    slides += [FakeSlide(f"n{n}", {"patient": f"N{n}"}) for n in range(4)]
    write_output(out, slides)
    after = qb.split(out, extend=True)
    assert {after.folds[f"1_n{n}"] for n in range(4)} <= {
        before.folds["1_s2"],
        before.folds["1_s1"],
    }
    assert sorted(counts.patches for counts in after.counts.values()) == [5, 6, 6]


def test_groups_of_two_folds_that_become_one_are_refused_with_their_places(out):
    slides = cohort()
    write_output(out, slides)
    split = qb.split(out, folds=3, by="patient")
    other = next(s for s in slides if split.folds[s.slide_id] != split.folds["1_s00"])
    slides[0].file = other.file = "one.svs"
    write_output(out, slides)
    with pytest.raises(UsageError) as caught:
        qb.split(out, extend=True)
    assert f"s00 (1_s00) in {split.folds['1_s00']}" in caught.value.message
    assert f"patient {other.metadata['patient']!r} in {split.folds[other.slide_id]}" in (
        caught.value.message
    )


def test_an_extended_split_keeps_sites_whole(out):
    slides = cohort()
    write_output(out, slides)
    before = qb.split(out, folds=2, by="patient", preserve="site")
    slides.append(FakeSlide("s99", {"patient": "P99", "site": "C"}))
    write_output(out, slides)
    after = qb.split(out, extend=True)
    of_site = next(s for s in slides if s.metadata["site"] == "C")
    assert after.folds["1_s99"] == before.folds[of_site.slide_id]


def test_an_update_with_new_pixels_makes_a_split_stale_and_one_without_change_does_not(
    study, tmp_path, redrawn
):
    """A real run: two slides, which are their own patients."""
    config = qb.ExportConfig(size=200, min_share=0.1)
    run = qb.export(study.project, tmp_path / "out", config, workers=1)
    qb.split(run, folds=2, by="slide_id")
    qb.export(study.project, tmp_path / "out", config, update=True, workers=1)
    assert qb.check_leakage(run, pixels=0).ok
    redrawn(60)
    qb.export(study.project, tmp_path / "out", config, update=True, workers=1)
    with pytest.raises(OutputError, match="stale"):
        qb.check_leakage(run)
    qb.split(run, extend=True)
    assert qb.check_leakage(run, pixels=0).ok
    assert qb.verify(run).ok


def test_a_run_with_pseudonyms_is_split_by_what_it_lets_out(tmp_path):
    write_slides(tmp_path / "slides", "ABC")
    table = tmp_path / "t.csv"
    lines = [f"slides/{name}.tiff,P{n},x" for n, name in enumerate("ABC")]
    table.write_text("\n".join(["path,patient,secret", *lines]))
    run = qb.export(
        table, tmp_path / "out", qb.ExportConfig(size=128), pseudonymise=tmp_path / "key.json",
        metadata_keep=["patient"], workers=1,
    )  # fmt: skip
    split = qb.split(run, folds=3, by="patient")
    assert sorted(split.groups.values()) == ["P0", "P1", "P2"]
    with pytest.raises(UsageError, match=r"there is 'patient'.*metadata_keep"):
        qb.split(run, folds=3, by="secret", name="x")


# --- tables --------------------------------------------------------------------------------------


def test_an_edited_csv_file_is_refused_beside_ours(out):
    write_output(out, cohort())
    qb.split(out, folds=3, by="patient")
    output, name = open_output(out), "splits/folds.csv"
    output.put(name, output.get(name).replace(b",0\n", b",1\n", 1))
    with pytest.raises(OutputError, match="not what the Parquet file beside it says"):
        qb.read_index(out, split="folds")
    output.store.delete("splits/folds.parquet")  # it is a table made by hand then
    assert qb.read_index(out, split="folds").num_rows


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"PAR1", lambda data: b""])
def test_a_damaged_table_is_one_clear_error(out, damage):
    write_output(out, cohort())
    qb.split(out, folds=3, by="patient")
    open_output(out).put("splits/folds.parquet", damage(content(out, "folds.parquet")))
    with pytest.raises(OutputError, match="is damaged"):
        qb.split(out, extend=True)


def test_a_split_that_is_not_there_says_how_to_make_it(out):
    write_output(out, cohort())
    with pytest.raises(OutputError, match="no split 'x'"):
        qb.check_leakage(out, "x")


def test_a_table_made_by_hand_cannot_be_extended(out):
    write_output(out, cohort(2))
    open_output(out).put("splits/own.csv", b"slide_id,fold\n1_s00,a\n")
    with pytest.raises(OutputError, match="made by hand"):
        qb.split(out, name="own", extend=True)


# --- the command ---------------------------------------------------------------------------------


def test_the_command_prints_what_folds_have(out, capsys):
    slides = cohort(4)
    slides[0].file = slides[7].file = "one.svs"
    write_output(out, slides)
    assert main(["split", out, "--folds", "2", "--by", "patient", "--stratify=label"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["fold", "groups", "slides", "patches", "Stroma", "Tumor"]
    assert [line.split()[0] for line in lines[1:3]] == ["0", "1"]
    assert lines[3].startswith("joined: P00 + P03: one group")
    assert main(["split", out, "--extend", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["new"] == 0 and set(record["folds"]) == {"0", "1"}
    assert record["folds"]["0"].keys() == {"groups", "slides", "patches", "by_label"}
    assert main(["split", out, "--folds", "9", "--by", "patient"]) == 2
    assert "3 groups by 'patient' for 9 folds" in capsys.readouterr().err
