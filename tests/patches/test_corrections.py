"""Corrections: the last statement about a box, and their JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import Box, Plane
from qupath_bridge.patches.corrections import (
    Correction,
    from_json,
    from_lines,
    latest_corrections,
    to_json,
    to_lines,
)

LINE = (
    '{"entry_id":"7","kind":"corrected","box":[0,-16,256,256],"plane":[1,2],"before":"Tumor",'
    '"after":"Größe: 肿瘤","run_id":"01J","rule_label":["A","B"],"fingerprint":"xxh3_128:0f",'
    '"time":"2026-01-02T03:04:05Z","reviewer":null}'
)


def said(kind="corrected", box=(0, 0, 8, 8), **changes):
    values = {
        "before": "Tumor", "after": "Stroma", "run_id": "01J", "rule_label": "Tumor",
        "fingerprint": "xxh3_128:0f", "time": "2026-01-02T03:04:05Z",
    } | changes  # fmt: skip
    return Correction(kind, Box(*box), **values)


def test_a_line_is_a_correction():
    assert from_json(json.loads(LINE)) == (
        "7",
        Correction(
            kind="corrected",
            box=Box(0, -16, 256, 256),
            before="Tumor",
            after="Größe: 肿瘤",
            run_id="01J",
            rule_label=("A", "B"),
            fingerprint="xxh3_128:0f",
            time="2026-01-02T03:04:05Z",
            plane=Plane(1, 2),
            reviewer=None,
        ),
    )


def test_a_correction_is_a_line():
    assert to_lines([from_json(json.loads(LINE))]) == LINE.encode() + b"\n"


texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**31), 2**31 - 1)
corrections = st.builds(
    Correction,
    kind=st.sampled_from(["corrected", "confirmed", "rejected", "withdrawn"]),
    box=st.builds(Box, numbers, numbers, st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1)),
    before=st.none() | texts,
    after=st.none() | texts,
    run_id=st.text("0123456789ABC", min_size=1),
    rule_label=st.none() | texts | st.lists(texts).map(tuple),
    fingerprint=texts,
    time=texts,
    plane=st.builds(Plane, st.integers(0, 9), st.integers(0, 9)),
    reviewer=st.none() | texts,
)


@given(st.lists(st.tuples(st.sampled_from(["1", "20"]), corrections)))
def test_files_keep_corrections_and_their_order(given_ones):
    assert from_lines(to_lines(given_ones), "c.jsonl") == tuple(given_ones)


def test_plane_and_reviewer_may_be_left_out():
    values = to_json("7", said())
    del values["plane"], values["reviewer"]
    assert from_json(values) == ("7", said())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"kind": "moved"}, "kind"),
        ({"box": [0, 0, 8]}, "box"),
        ({"box": [0, 0, 8, 0]}, "box"),
        ({"box": [0, 0, 8, 8.0]}, "box"),
        ({"box": [0, 0, True, 8]}, "box"),
        ({"plane": [0, -1]}, "plane"),
        ({"plane": None}, "plane"),
        ({"entry_id": 7}, "entry_id"),
        ({"entry_id": "../7"}, "entry_id"),
        ({"run_id": "a/b"}, "run_id"),
        ({"after": 3}, "after"),
        ({"rule_label": [None]}, "rule_label"),
        ({"lable": "Tumor"}, "lable"),
        ({"reviewer": 1}, "reviewer"),
    ],
)
def test_what_is_not_a_correction_is_refused_with_its_line(changes, fault):
    line = json.dumps({**to_json("7", said()), **changes}).encode()
    with pytest.raises(ProjectError, match=rf"c\.jsonl: line 3 is not a correction: {fault}"):
        from_lines(to_lines([("7", said())]) + b"\n" + line, "c.jsonl")


@pytest.mark.parametrize("key", ["kind", "box", "before", "after", "rule_label", "time"])
def test_what_a_correction_says_must_be_there(key):
    values = to_json("7", said())
    del values[key]
    with pytest.raises(ValueError, match=f"^{key}: "):
        from_json(values)


@pytest.mark.parametrize("line", [b"{", b"\xff", b"[]", b"null", b"[" * 100_000])
def test_what_is_not_json_is_refused_with_its_line(line):
    with pytest.raises(ProjectError, match="line 1 is not a correction"):
        from_lines(line, "c.jsonl")


def test_half_of_a_character_is_refused_with_its_line():
    """JSON can say it with an escape, and no file in UTF-8 can hold it again."""
    text = json.dumps(to_json("7", said(after="\U0001f600")))
    assert from_lines(text.encode(), "c.jsonl")[0][1].after == "\U0001f600"
    half = text.replace(r"\ude00", "")
    assert json.loads(half)["after"] == "\ud83d"
    with pytest.raises(ProjectError, match="line 1 is not a correction: a text has half of a char"):
        from_lines(half.encode(), "c.jsonl")


def test_the_last_statement_about_a_box_on_a_plane_holds():
    first, other = said(after="A"), said(box=(8, 0, 8, 8))
    above, last = said(plane=Plane(1, 0)), said(after="B")
    assert latest_corrections([first, other, above, last]) == {
        (Box(0, 0, 8, 8), Plane(0, 0)): last,
        (Box(8, 0, 8, 8), Plane(0, 0)): other,
        (Box(0, 0, 8, 8), Plane(1, 0)): above,
    }


def test_withdrawn_leaves_nothing_until_somebody_says_something_again():
    gone = said("withdrawn")
    assert latest_corrections([said(), gone]) == {}
    assert latest_corrections([said(), gone, said("rejected")]) == {
        (Box(0, 0, 8, 8), Plane(0, 0)): said("rejected")
    }


def test_a_correction_that_somebody_else_confirms_stays_a_correction():
    place = (Box(0, 0, 8, 8), Plane(0, 0))
    first = said(after="B")
    agrees = said("confirmed", before="B", after="B", reviewer="other")
    assert latest_corrections([first, agrees]) == {place: first}
    of_another = said("confirmed", before="C", after="C")
    assert latest_corrections([first, of_another]) == {place: of_another}
