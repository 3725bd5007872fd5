"""Roles of classes, and the decision rules."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.errors import ConfigError
from qupath_bridge.model import LabelRule
from qupath_bridge.patches.labels import EPSILON, check_class_names, decide
from qupath_bridge.patches.roles import label_of, label_ranks, role_of
from qupath_bridge.patches.table import Ragged


def lists(rows, names, *, values=True):
    """Make Ragged rows from dicts of share by name, or from lists of names."""
    entries = [
        (row, names.index(name), content[name] if values else None)
        for row, content in enumerate(rows)
        for name in sorted(content)
    ]
    return Ragged.of(
        np.array([e[0] for e in entries], np.int64),
        np.array([e[1] for e in entries], np.int64),
        len(rows),
        np.array([e[2] for e in entries], np.float64) if values else None,
    )


def labels(rule, rows, names=("A", "B", "C"), owners=None):
    """Decide, and return label (or list), source, share and margin by row."""
    held = None if owners is None else lists(owners, names, values=False)
    decision = decide(rule, names, lists(rows, names), held)
    named = [[names[code] for code in decision.labels.row(k)] for k in range(len(rows))]
    return (
        named,
        decision.source.tolist(),
        [None if math.isnan(v) else v for v in decision.share],
        [None if math.isnan(v) else round(v, 9) for v in decision.margin],
    )


# --- majority ---


def test_majority_rule():
    rows = [{"A": 0.2, "B": 0.6, "C": 0.1}, {"C": 0.5}, {"A": 0.4, "B": 0.4}, {}]
    assert labels(LabelRule(), rows) == (
        [["B"], ["C"], [], []],
        [0, 0, -1, -1],
        [0.6, 0.5, None, None],
        [0.4, 0.5, None, None],
    )


@pytest.mark.parametrize(
    ("share", "enough"),
    [(0.5, True), (0.5 - EPSILON / 2, True), (0.5 - 2 * EPSILON, False), (0.49, False)],
)
def test_label_limits_have_a_tolerance_of_epsilon(share, enough):
    for rule in ("majority", "threshold"):
        named, *_ = labels(LabelRule(rule=rule), [{"A": share}])
        assert named == [["A"] if enough else []]


@pytest.mark.parametrize(
    ("difference", "winner"), [(0, "A"), (EPSILON / 2, "A"), (2 * EPSILON, "B")]
)
def test_label_shares_that_differ_by_less_than_epsilon_tie(difference, winner):
    named, _, share, margin = labels(
        LabelRule(min_share=0.4), [{"A": 0.45, "B": 0.45 + difference}]
    )
    assert named == [[winner]]
    assert share[0] == pytest.approx(0.45)
    assert abs(margin[0]) <= 3 * EPSILON


def test_label_ties_are_resolved_by_priority_then_code_point():
    rows = [{"a": 0.5, "B": 0.5}, {"B": 0.5, "é": 0.5}, {"a": 0.5, "é": 0.5}]
    names = ("B", "a", "é")
    assert labels(LabelRule(), rows, names)[0] == [["B"], ["B"], ["a"]]
    rule = LabelRule(priority=("é", "a"))
    assert labels(rule, rows, names)[0] == [["a"], ["é"], ["é"]]


def test_label_priority_decides_only_ties():
    assert labels(LabelRule(priority=("A",)), [{"A": 0.2, "B": 0.7}])[0] == [["B"]]


def test_min_share_0_still_needs_a_share():
    assert labels(LabelRule(min_share=0.0), [{"C": 1e-6}, {}])[0] == [["C"], []]
    assert labels(LabelRule(min_share=0.0, rule="threshold"), [{"C": 1e-6}, {}])[0] == [["C"], []]


# --- centre ---


def test_centre_rule_ignores_shares_and_may_have_a_negative_margin():
    rows = [{"A": 0.1, "B": 0.8}, {"A": 0.1}, {}, {"B": 0.9}]
    owners = [["A"], ["A"], ["C"], []]
    assert labels(LabelRule(rule="centre"), rows, owners=owners) == (
        [["A"], ["A"], ["C"], []],
        [0, 0, 0, -1],
        [0.1, 0.1, 0.0, None],
        [-0.7, 0.1, 0.0, None],
    )


def test_centre_rule_with_several_owners_is_a_tie():
    rows, owners = [{"B": 0.9, "C": 1.0}], [["B", "C"]]
    assert labels(LabelRule(rule="centre"), rows, owners=owners)[0] == [["B"]]
    rule = LabelRule(rule="centre", priority=("C",))
    assert labels(rule, rows, owners=owners)[0] == [["C"]]


# --- lists ---


def test_threshold_and_any_rules_give_lists_in_the_order_of_rank():
    rows = [{"A": 0.3, "B": 0.1, "C": 0.6}, {"B": 0.01}, {}]
    assert labels(LabelRule(rule="threshold", min_share=0.3), rows) == (
        [["A", "C"], [], []],
        [0, -1, -1],
        [None] * 3,
        [None] * 3,
    )
    rule = LabelRule(rule="any", priority=("C", "B"))
    assert labels(rule, rows)[0] == [["C", "B", "A"], ["B"], []]


# --- background ---


@pytest.mark.parametrize("rule", ["majority", "centre", "threshold", "any"])
def test_background_is_the_label_of_unlabelled_boxes(rule):
    rows, owners = [{"A": 0.9}, {}, {"C": 0.8}], [["A"], [], ["C"]]
    named, source, share, margin = labels(LabelRule(rule=rule, background="B"), rows, owners=owners)
    assert named == [["A"], ["B"], ["C"]]
    assert source == [0, 1, 0]
    assert (share[1], margin[1]) == (None, None)


def test_background_may_be_the_name_of_a_class():
    named, source, *_ = labels(LabelRule(background="A"), [{"A": 0.9}, {"A": 0.2}])
    assert (named, source) == ([["A"], ["A"]], [0, 1])


@given(
    st.lists(st.dictionaries(st.sampled_from("ABC"), st.floats(1e-6, 1), max_size=3), max_size=6),
    st.sampled_from(["majority", "threshold", "any"]),
    st.floats(0, 1),
    st.permutations("ABC").map(lambda p: tuple(p[:2])),
)
def test_label_rules_equal_their_plain_definition(rows, rule, least, priority):
    """The sentences of the contract, one box at a time."""
    order = [*priority, *sorted(set("ABC") - set(priority))]
    expected = []
    for shares in rows:
        if rule == "majority":
            best = max(shares.values(), default=0)
            winners = [x for x in order if x in shares and best - shares[x] < EPSILON]
            expected.append(winners[:1] if shares and best >= least - EPSILON else [])
        else:
            limit = least - EPSILON if rule == "threshold" else EPSILON
            expected.append([x for x in order if x in shares and shares[x] >= limit])
    assert labels(LabelRule(rule=rule, min_share=least, priority=priority), rows)[0] == expected


def test_label_rules_without_boxes():
    for rule in ("majority", "centre", "threshold", "any"):
        assert labels(LabelRule(rule=rule, background="A"), [])[0] == []


# --- roles ---


@pytest.mark.parametrize(
    ("path", "rule", "kind", "label"),
    [
        ("Tumor", {}, "label", "Tumor"),
        ("Tumor: Positive", {}, "label", "Tumor: Positive"),
        ("Ignore*", {}, "excluded", None),
        ("Region*", {}, "context", None),
        ("Other*", {}, "ignored", None),
        ("Ignore*: Fold", {}, "label", "Ignore*: Fold"),
        ("Tumor: Ignore*", {}, "ignored", None),
        (None, {}, "unclassified", None),
        (None, {"unclassified": "error"}, "unclassified", None),
        (None, {"unclassified": "as", "unclassified_as": "X"}, "label", "X"),
        (None, {"unclassified": "as", "unclassified_as": "X", "rename": {"X": "Y"}}, "label", "Y"),
        (None, {"unclassified": "as", "unclassified_as": "X", "exclude": ("X",)}, "excluded", None),
        # exclude adds to Ignore*
        ("Fold", {"exclude": ("Fold",)}, "excluded", None),
        ("Ignore*", {"exclude": ("Fold",)}, "excluded", None),
        ("Fold: Small", {"exclude": ("Fold",)}, "label", "Fold: Small"),
        ("Region*", {"exclude": ("Region*",)}, "excluded", None),
        # naming a class in map takes it out of the defaults
        ("Ignore*", {"rename": {"Ignore*": "Dirt"}}, "label", "Dirt"),
        ("Region*", {"rename": {"Region*": "Field"}}, "label", "Field"),
        ("Other*", {"rename": {"Other*": "Other"}}, "label", "Other"),
        ("Ignore*", {"rename": {"Ignore*": "Dirt"}, "exclude": ("Ignore*",)}, "excluded", None),
        # roles are matched before mapping, by class path
        ("Tumor", {"rename": {"Tumor": "Ignore*"}}, "label", "Ignore*"),
        ("Tumor", {"rename": {"Tumor": "T"}, "exclude": ("T",)}, "label", "T"),
        # a wildcard names the children, not the ignored ones
        ("Tumor: Edge*", {"rename": {"Tumor: *": "T"}}, "ignored", None),
    ],
)
def test_roles_of_classes(path, rule, kind, label):
    role = role_of(path, LabelRule(**rule))
    assert (role.kind, role.label) == (kind, label)


@pytest.mark.parametrize(
    ("path", "rule", "within"),
    [
        ("Tumor", {}, False),
        ("Tumor", {"within": ("Tumor",)}, True),
        ("Tumor: A", {"within": ("Tumor",)}, False),
        ("Region*", {"within": ("Region*",)}, True),
        ("Other*", {"within": ("Other*",)}, True),
        ("Ignore*", {"within_any": True}, True),
        (None, {"within_any": True}, True),
        (None, {"within": ("Tumor",)}, False),
        (None, {"unclassified": "as", "unclassified_as": "X", "within": ("X",)}, True),
    ],
)
def test_within_classes(path, rule, within):
    role = role_of(path, LabelRule(**rule))
    assert role.within is within
    if within:
        assert role.acts


def test_within_class_still_labels():
    assert role_of("Tumor", LabelRule(within=("Tumor",))).label == "Tumor"


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("A: B", "exact"),
        ("A: C", "wild"),
        ("A: C: D", "wild"),
        ("A: L: M", "longer"),
        ("A", "A"),
        ("AB: C", "AB"),
        ("B: C", "B"),
        ("B", "B"),
    ],
)
def test_map_prefers_exact_name_then_wildcard_then_rollup(path, label):
    rename = {"A: *": "wild", "A: B": "exact", "A: L: *": "longer"}
    assert label_of(path, LabelRule(rename=rename, rollup=True)) == label


def test_map_keeps_the_class_path_without_rollup():
    assert label_of("B: C", LabelRule(rename={"A": "X"})) == "B: C"


def test_label_ranks():
    assert label_ranks(["a", "B", "Z"], LabelRule()) == [2, 0, 1]
    assert label_ranks(["B", "Z", "a"], LabelRule(priority=("Z", "nowhere"))) == [1, 0, 2]
    # priority may name a class: its label is meant
    rule = LabelRule(rename={"Tumor": "T"}, priority=("Tumor",))
    assert label_ranks(["S", "T"], rule) == [1, 0]
    # a label that is there goes before a class of that name
    rule = LabelRule(rename={"A": "B"}, priority=("A",))
    assert label_ranks(["A", "B"], rule) == [0, 1]


# --- names of classes ---


def test_unknown_classes_are_all_named_at_once_with_close_matches():
    rule = LabelRule(
        rename={"Tumour": "T", "Immune: *": "I"}, exclude=("Folds",), within=("Regoin*",)
    )
    with pytest.raises(ConfigError) as error:
        check_class_names(rule, ["Tumor", "Stroma"], ["Fold", "Region*"])
    assert [str(fault) for fault in error.value.faults] == [
        "map: no class 'Tumour'; did you mean 'Tumor'?",
        "map: no class 'Immune: *'; the classes are 'Fold', 'Region*', 'Stroma', 'Tumor'",
        "exclude: no class 'Folds'; did you mean 'Fold'?",
        "within: no class 'Regoin*'; did you mean 'Region*'?",
    ]


def test_unused_classes_of_the_project_are_a_warning():
    rule = LabelRule(rename={"A: *": "X"}, exclude=("Fold",), within=("Tumor",))
    assert check_class_names(rule, ["Tumor"], ["Fold", "A: B"]) == (
        "map: no selected image has an annotation of the class 'A: *'.",
        "exclude: no selected image has an annotation of the class 'Fold'.",
    )


def test_check_class_names_accepts_labels_without_a_class():
    rule = LabelRule(
        rename={"Tumor": "T", "A: *": "Any A"},
        unclassified="as",
        unclassified_as="None yet",
        background="Rest",
        priority=("T", "Tumor", "Any A", "None yet", "Rest"),
        within=("None yet",),
    )
    assert check_class_names(rule, ["Tumor", "A: B"]) == ()


def test_unknown_names_in_priority_are_a_warning():
    (warning,) = check_class_names(LabelRule(priority=("Tumour",)), ["Tumor"])
    assert warning == "priority: 'Tumour' is neither a class nor a label; did you mean 'Tumor'?"


def test_wildcards_are_refused_outside_map():
    with pytest.raises(ConfigError, match="exclude: no class 'A: \\*'"):
        check_class_names(LabelRule(exclude=("A: *",)), ["A: B"])
    with pytest.raises(ConfigError, match="no classes are defined"):
        check_class_names(LabelRule(rename={"A: *": "A"}), [])
    with pytest.raises(ConfigError):  # the children, not the parent
        check_class_names(LabelRule(rename={"A: *": "A"}), ["A"])
