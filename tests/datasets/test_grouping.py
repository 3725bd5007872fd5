"""Which slides belong together, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.datasets.grouping import components, group_slides, join_groups, similar_values
from qupath_bridge.datasets.run_slides import RunSlide, values_of
from qupath_bridge.errors import UsageError


@given(st.lists(st.sets(st.integers(0, 8), min_size=1, max_size=3), max_size=9))
def test_components_are_what_any_chain_of_shared_keys_connects(items):
    """Each item grows by what it shares a key with, until nothing changes."""
    expected = []
    for keys in items:
        reached = set(keys)
        while any(reached & other and not other <= reached for other in items):
            reached = reached.union(*(other for other in items if reached & other))
        members = [at for at, other in enumerate(items) if reached & other]
        if members not in expected:
            expected.append(members)
    assert components(items) == expected


def slide(number, patient, file=None, **metadata):
    known = {"patient": patient} if patient else {}
    return RunSlide(
        f"{number}_s", f"s{number}", "study", file, f"digest of {file or number}",
        known | metadata, {"Tumor": 2},
    )  # fmt: skip


def names(groups):
    return [(group.name, [each.slide_id for each in group.slides]) for group in groups]


def test_slides_of_one_value_are_one_group():
    slides = [slide(1, "B"), slide(2, "A"), slide(3, "B")]
    assert names(group_slides(slides, "patient")) == [("A", ["2_s"]), ("B", ["1_s", "3_s"])]


def test_groups_that_share_a_slide_file_are_joined_through_others_too():
    slides = [
        slide(1, "A", "one.svs"), slide(2, "B", "one.svs"), slide(3, "B", "two.svs"),
        slide(4, "C", "two.svs"), slide(5, "D", "three.svs"),
    ]  # fmt: skip
    joined, alone = group_slides(slides, "patient")
    assert (joined.name, joined.values) == ("A + B + C", ("A", "B", "C"))
    assert joined.shared == ("one.svs", "two.svs")
    assert (alone.name, alone.shared) == ("D", ())


def test_a_value_that_looks_like_a_joined_name_gets_another():
    slides = [slide(1, "A", "x"), slide(2, "B", "x"), slide(3, "A + B")]
    assert len({group.name for group in group_slides(slides, "patient")}) == 2


def test_slides_without_a_known_file_are_not_joined():
    slides = [
        RunSlide(f"{n}", f"s{n}", None, None, None, {"patient": f"P{n}"}, {"": 1}) for n in (1, 2)
    ]
    assert len(group_slides(slides, "patient")) == 2


def test_all_slides_without_a_value_are_listed_at_once():
    slides = [slide(1, "A"), slide(2, None), slide(3, " "), slide(4, "B")]
    with pytest.raises(UsageError) as caught:
        values_of(slides, "patient")
    assert caught.value.message == (
        "2 slides without a value of 'patient':\n  s2 (2_s)\n  s3 (3_s)"
    )


def test_an_unknown_key_names_those_that_are_known():
    with pytest.raises(
        UsageError, match=r"no slide|No slide .*'patent'; there is 'age', 'patient'"
    ):
        values_of([slide(1, "A", age="7")], "patent")


def test_columns_of_the_index_are_keys_unless_metadata_have_that_name():
    slides = [slide(1, "A"), slide(2, "B")]
    assert values_of(slides, "slide_id") == {"1_s": "1_s", "2_s": "2_s"}
    slides = [slide(1, "A", project="X"), slide(2, "B", project="Y")]
    assert values_of(slides, "project") == {"1_s": "X", "2_s": "Y"}


def test_groups_of_one_site_are_one_unit_and_a_group_of_two_sites_joins_them():
    slides = [slide(1, "A"), slide(2, "B"), slide(3, "B"), slide(4, "C"), slide(5, "D")]
    sites = {"1_s": "x", "2_s": "x", "3_s": "y", "4_s": "y", "5_s": "z"}
    joined, alone = join_groups(group_slides(slides, "patient"), sites)
    assert (joined.name, joined.values, joined.sites) == ("x + y", ("A", "B", "C"), ("x", "y"))
    assert (alone.name, alone.values) == ("z", ("D",))


def test_values_that_look_like_one_are_told():
    assert similar_values(["TCGA-1", "tcga-1", "TCGA-2", "X"]) == [("TCGA-1", "tcga-1")]
