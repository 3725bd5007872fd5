"""Leaks that were planted, one of each kind, and splits that have none."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.codecs import decode, get_encoder
from qupath_bridge.datasets.box_overlaps import overlaps
from qupath_bridge.datasets.similar_patches import Looks, look_of, similar_pairs
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.stores.memory import MemoryStore
from tests.support.indexes import FakeSlide, Patch, noise, write_output


@pytest.fixture
def out():
    store = MemoryStore()
    yield store.url
    store.forget()


def checked(out, slides, folds, *, key="slide_id", **options):
    """Write an output and a table of folds by hand, and check it."""
    write_output(out, slides, "memory")
    lines = [f"{key},fold", *(f"{place},{fold}" for place, fold in folds.items())]
    open_output(out).put("splits/own.csv", "\n".join(lines).encode())
    return qb.check_leakage(out, "own", **options)


def found(result):
    return [(leak.kind, leak.first, leak.second, leak.folds) for leak in result.leaks]


def two_slides(**changes):
    return [
        FakeSlide("a", {"patient": "P1", "site": "X"}),
        FakeSlide("b", {"patient": "P2", "site": "X"}, **changes),
    ]


APART = {"1_a": "train", "1_b": "test"}


def test_slides_that_share_nothing_are_clean(out):
    result = checked(out, two_slides(), APART, by="patient")
    assert result.ok and found(result) == []
    assert dict(result.counts) == dict.fromkeys(
        ("group", "file", "overlap", "identical", "similar"), 0
    )
    assert (result.patches, result.compared, result.not_checked) == (2, 2, ())


def test_a_patient_on_two_sides_is_found(out):
    slides = two_slides()
    slides[1].metadata["patient"] = "P1"
    result = checked(out, slides, APART, by="patient")
    assert found(result) == [("group", "1_b", "1_a", ("test", "train"))]
    assert result.leaks[0].shared == "patient 'P1'" and not result.ok


def test_a_group_of_the_table_on_two_sides_is_found(out):
    write_output(out, two_slides(), "memory")
    open_output(out).put("splits/own.csv", b"slide_id,group,fold\n1_a,G,0\n1_b,G,1\n")
    assert found(qb.check_leakage(out, "own")) == [("group", "1_a", "1_b", ("0", "1"))]


def test_a_slide_file_on_two_sides_is_found(out):
    slides = two_slides(file="a", patches=[Patch(500)])
    slides[0].file = "a"
    result = checked(out, slides, APART, by="patient")
    assert found(result) == [("file", "1_b", "1_a", ("test", "train"))]
    assert result.leaks[0].shared.startswith("slide file a (xxh3_128:")


def test_patches_of_one_slide_on_two_sides_are_found_once(out):
    slide = FakeSlide("a", {"patient": "P1"}, [Patch(x) for x in (0, 40, 80)])
    folds = {"1_a_x0_y0": "0", "1_a_x40_y0": "1", "1_a_x80_y0": "1"}
    result = checked(out, [slide], folds, key="patch_id", by="patient")
    assert found(result) == [
        ("group", "1_a", "1_a", ("0", "1")), ("file", "1_a", "1_a", ("0", "1")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "shared"),
    [
        (Patch(31, 31), "1 x 1 pixels at 31, 31"),
        (Patch(8, 4, 64), "24 x 28 pixels at 8, 4"),
        (Patch(32, 0), None),  # it only touches
        (Patch(0, 0, z=1), None),  # it is on another plane
    ],
)
def test_patches_that_share_pixels_across_folds_are_found(out, place, shared):
    """Two entries of one slide file, as two scenes of a study or two projects have."""
    slides = two_slides(file="one", patches=[place])
    slides[0].file = "one"
    result = checked(out, slides, APART)
    own = [leak for leak in result.leaks if leak.kind == "overlap"]
    assert [leak.shared for leak in own] == ([] if shared is None else [shared])
    for leak in own:
        assert leak.first == "1_a_x0_y0" and leak.second.startswith("1_b_x")
        assert leak.folds == ("train", "test")


def test_equal_boxes_of_different_files_do_not_overlap(out):
    assert checked(out, two_slides(), APART).counts["overlap"] == 0


def test_patches_with_the_same_bytes_are_found_without_reading_all(out):
    pixels = noise("same")
    slides = two_slides(patches=[Patch(80, 40, pixels=pixels)])
    slides[0].patches.append(Patch(40, pixels=pixels))
    result = checked(out, slides, APART, pixels=0)
    assert found(result) == [("identical", "1_a_x40_y0", "1_b_x80_y40", ("train", "test"))]
    assert result.compared == 0 and "similar" not in result.counts
    assert result.not_checked == (
        "groups: the table does not say by which key; name it (by)",
        "similar patches: 0 of 3 were compared",
    )


def test_equal_patches_of_one_slide_file_are_no_copies(out):
    """The file on two sides is the leak, and it is told as such."""
    slides = two_slides(file="a", patches=[Patch(500, pixels=noise("same"))])
    slides[0].file, slides[0].patches[0].pixels = "a", noise("same")
    result = checked(out, slides, APART, by="patient")
    assert [kind for kind, *_ in found(result)] == ["file"]


def copies(pixels):
    """Return what somebody may have done to a picture before it was scanned into a study again."""
    jpeg = decode(get_encoder("jpeg", quality=60).encode(pixels))
    return {
        "another compression": jpeg,
        "brighter": np.clip(pixels * 0.8 + 40, 0, 255).astype(np.uint8),
        "another size": np.kron(pixels, np.ones((2, 2, 1), np.uint8)),
        "noise": np.clip(pixels + np.random.default_rng(0).normal(0, 6, pixels.shape), 0, 255)
        .astype(np.uint8),
    }  # fmt: skip


@pytest.mark.parametrize("kind", list(copies(noise(1))))
def test_patches_that_show_the_same_are_found(out, kind):
    copy = copies(noise("same"))[kind]
    slides = two_slides(patches=[Patch(), Patch(80, size=len(copy), pixels=copy)])
    slides[0].patches.append(Patch(40, pixels=noise("same")))
    result = checked(out, slides, APART)
    assert found(result) == [("similar", "1_a_x40_y0", "1_b_x80_y0", ("train", "test"))]
    assert result.leaks[0].shared.startswith("alike to ")


def test_empty_patches_are_no_copies_of_each_other(out):
    glass = np.full((32, 32, 3), 240, np.uint8)
    shaded = glass - np.arange(32, dtype=np.uint8)[:, None, None] // 2
    slides = two_slides(patches=[Patch(40, pixels=glass), Patch(80, pixels=shaded)])
    slides[0].patches += [Patch(40, pixels=glass), Patch(80, pixels=shaded - 9)]
    result = checked(out, slides, APART)
    assert result.ok and result.flat == 4


def test_a_site_that_was_to_stay_whole_is_checked(out):
    """A split of ours whose table somebody damaged on purpose: both files say the same."""
    slides = [FakeSlide(f"s{n}", {"patient": f"P{n}", "site": "ABC"[n // 2]}) for n in range(6)]
    output = write_output(out, slides, "memory")
    split = qb.split(out, folds=3, by="patient", preserve="site")
    assert qb.check_leakage(out).ok
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(output.get("splits/folds.parquet")))
    folds = [split.folds["1_s2"], *table.column("fold").to_pylist()[1:]]
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(2, "fold", pa.array(folds)), sink)
    output.put("splits/folds.parquet", sink.getvalue().to_pybytes())
    output.store.delete("splits/folds.csv")
    (leak,) = qb.check_leakage(out).leaks
    assert leak.kind == "site" and leak.shared == "site 'A'"
    assert {leak.first, leak.second} == {"1_s0", "1_s1"}


def test_a_sample_is_spread_evenly_and_said(out):
    slides = [FakeSlide(f"s{n}", {}, [Patch(40 * k) for k in range(10)]) for n in range(2)]
    seen = []
    result = checked(
        out, slides, {"1_s0": "0", "1_s1": "1"}, pixels=5, by="slide_id",
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert (result.compared, result.patches) == (5, 20)
    assert result.not_checked == ("similar patches: 5 of 20 were compared",)
    assert seen == [(5, 5)]


def test_slides_that_a_table_leaves_out_are_in_no_fold(out):
    slides = [*two_slides(), FakeSlide("c", {"patient": "P1"})]
    result = checked(out, slides, {**APART, "1_c": ""}, by="patient")
    assert result.ok and result.patches == 2


def test_nothing_in_any_fold_is_clean_and_a_run_without_patches_is_refused(out):
    result = checked(out, two_slides(), {"1_a": "", "1_b": ""}, by="patient")
    assert result.ok and result.patches == result.compared == 0
    write_output(out, [], "memory")
    with pytest.raises(OutputError, match="no patches to compare"):
        qb.check_leakage(out, "own")


def test_a_slide_that_a_table_does_not_list_is_refused(out):
    with pytest.raises(UsageError, match=r"1 slide of the run .*\n  1_b"):
        checked(out, two_slides(), {"1_a": "0"})


def test_a_patch_that_cannot_be_read_is_an_error(out):
    output = write_output(out, two_slides(), "memory")
    output.put("splits/own.csv", b"slide_id,fold\n1_a,0\n1_b,1\n")
    output.put("patches/1_a/1_a_x0_y0.png", b"nothing")
    with pytest.raises(OutputError, match="1_a_x0_y0 cannot be read"):
        qb.check_leakage(out, "own")


def test_a_run_that_is_not_finished_is_refused_with_folds_made_by_hand_too(out):
    output = write_output(out, two_slides(), "memory")
    output.put("splits/own.csv", b"slide_id,fold\n1_a,0\n1_b,1\n")
    record = json.loads(output.get("run.json")) | {"state": "running", "finished": None}
    output.put("run.json", json.dumps(record).encode())
    with pytest.raises(OutputError, match="was interrupted"):
        qb.check_leakage(out, "own")


def test_a_random_split_of_overlapping_patches_leaks_everywhere(out):
    """What many scripts do: each patch into a fold of its own. Counted by hand, pair by pair."""
    slide = FakeSlide("a", {"patient": "P"}, [Patch(x, y) for x in range(0, 128, 16)
                                              for y in range(0, 64, 16)])  # fmt: skip
    rng = np.random.default_rng(3)
    folds = {f"1_a_x{p.x}_y{p.y}": int(rng.integers(3)) for p in slide.patches}
    expected = sum(
        abs(a.x - b.x) < 32 and abs(a.y - b.y) < 32
        and folds[f"1_a_x{a.x}_y{a.y}"] != folds[f"1_a_x{b.x}_y{b.y}"]
        for a, b in itertools.combinations(slide.patches, 2)
    )  # fmt: skip
    result = checked(out, [slide], folds, key="patch_id", by="patient", pixels=0)
    assert result.counts["overlap"] == expected > 50
    assert result.counts["group"] == result.counts["file"] == 3


def test_leaks_beyond_a_thousand_are_counted(out, capsys):
    slide = FakeSlide("a", {}, [Patch(x) for x in range(90)])
    folds = {f"1_a_x{x}_y0": x % 2 for x in range(90)}
    result = checked(out, [slide], folds, key="patch_id", by="slide_id", pixels=0)
    pairs = itertools.combinations(range(90), 2)
    expected = sum(abs(a - b) < 32 and a % 2 != b % 2 for a, b in pairs)
    assert result.counts["overlap"] == expected > 1000
    assert sum(leak.kind == "overlap" for leak in result.leaks) == 1000
    assert main(["check-leakage", out, "--split", "own", "--pixels", "0"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"and {expected - 20} more of the kind overlap; --json lists the first 1000" in lines[-4]
    assert sum(line.startswith("overlap") for line in lines) == 20


# --- boxes and pictures --------------------------------------------------------------------------

COORDINATES = st.integers(-40, 40)
BOXES = st.lists(
    st.tuples(COORDINATES, COORDINATES, st.integers(1, 30), st.integers(1, 30), st.integers(0, 2)),
    max_size=12,
)


@settings(max_examples=40)
@given(BOXES)
def test_overlaps_are_those_of_every_pair(boxes):
    expected = {
        (i, j)
        for (i, a), (j, b) in itertools.combinations(enumerate(boxes), 2)
        if a[4] != b[4]
        and all(max(a[k], b[k]) < min(a[k] + a[k + 2], b[k] + b[k + 2]) for k in (0, 1))
    }
    table = np.array(boxes, np.int64).reshape(-1, 5)
    pairs = [tuple(pair) for part in overlaps(table[:, :4], table[:, 4]) for pair in part.tolist()]
    assert set(pairs) == expected and len(pairs) == len(expected)


def test_similar_pairs_are_found_in_every_block(monkeypatch):
    monkeypatch.setattr("qupath_bridge.datasets.similar_patches._BLOCK", 7)
    pictures = [noise(n % 20) for n in range(40)]
    looks = Looks.of([look_of(picture) for picture in pictures])
    sides = np.array([0] * 20 + [1] * 20)
    pairs = np.concatenate(list(similar_pairs(looks, sides, np.arange(40))))
    assert sorted(map(tuple, pairs.tolist())) == [(n, n + 20) for n in range(20)]
    assert not list(similar_pairs(looks, sides, np.zeros(40, int)))  # of one file


def test_patches_of_16_bits_and_one_channel_are_compared():
    picture = noise(3).mean(axis=2, keepdims=True)
    eight, sixteen = picture.astype(np.uint8), (picture * 200).astype(np.uint16)
    looks = Looks.of([look_of(eight), look_of(sixteen)])
    assert len(list(similar_pairs(looks, np.array([0, 1]), np.array([0, 1])))) == 1


# --- the command ---------------------------------------------------------------------------------


def test_the_command_lists_leaks_with_both_places_and_exits_with_1(out, capsys):
    slides = two_slides(file="a")
    slides[0].file = "a"
    checked(out, slides, APART)
    assert main(["check-leakage", out, "--split", "own", "--by", "site"]) == 1
    text = capsys.readouterr().out
    assert [line.split()[:5] for line in text.splitlines()[1:4]] == [
        ["group", "test", "1_b", "train", "1_a"],
        ["file", "test", "1_b", "train", "1_a"],
        ["overlap", "train", "1_a_x0_y0", "test", "1_b_x0_y0"],
    ]
    assert text.splitlines()[-1].endswith("3 leaks.")
    assert main(["check-leakage", out, "--split", "own", "--by", "site", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["counts"] == {"group": 1, "file": 1, "overlap": 1, "identical": 0, "similar": 0}
    assert record["leaks"][0]["folds"] == ["test", "train"]


def test_the_command_says_that_nothing_was_found(out, capsys):
    checked(out, two_slides(), APART)
    assert main(["check-leakage", out, "--split", "own"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "not checked: groups: the table does not say by which key; name it (by).",
        "2 patches in folds, 2 of them compared by what they show: no leak found.",
    ]
