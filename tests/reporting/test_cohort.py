"""All slides together: sums, measures beside each other, rule against pathologist."""

import dataclasses

import pytest

from qupath_bridge.config.quality import QualityRules
from qupath_bridge.model import Reason
from qupath_bridge.patches.confusion import Confusion
from qupath_bridge.reporting.cohort import REASONS, matrix_of, measures_of, totals_of
from qupath_bridge.reporting.views import SlideView


def view(number, **values):
    return SlideView(
        f"slide-{number}", f"{number}_a", f"slide {number}", str(number), "done", **values
    )


def test_every_reason_is_explained():
    assert set(REASONS) == set(map(str, Reason))


def test_slides_are_added_up():
    first = view(
        1, patches=5, labels={"A": 4, "": 1}, colors={"A": (1, 2, 3)}, dropped={"edge": 2},
        shares={"A": (1, 3)}, corrections={"corrected": 2, "refused": {"x*": 3}, "digest": None},
    )  # fmt: skip
    second = view(
        2, patches=7, labels={"B": 6, "A": 1}, dropped={"edge": 1, "no_label": 9},
        shares={"B": (6, 0), "A": (0, 1)}, corrections={"corrected": 1, "refused": {}},
    )  # fmt: skip
    failed = SlideView("slide-3", "3_a", "slide 3", "3", "failed")
    totals = totals_of([first, second, failed])
    assert totals.patches == 12
    assert list(totals.labels.items()) == [("B", 6), ("A", 5), ("", 1)]
    assert list(totals.dropped.items()) == [("no_label", 9), ("edge", 3)]
    assert totals.shares == {"B": (6, 0), "A": (1, 4)}
    assert totals.colors["A"] == (1, 2, 3)
    assert (totals.corrections["corrected"], totals.corrections["refused"]) == (3, 3)


def test_slides_far_from_the_others_are_named_with_the_limits_of_the_run():
    def quality(median):
        return {"focus": {"p5": median - 1, "median": median, "p95": median + 1, "patches": 3}}

    medians = [5.0, 5.2, 4.9, 5.1, 5.05, 0.3]
    slides = [view(n, quality=quality(m)) for n, m in enumerate(medians)] + [view(9)]
    (measure,) = measures_of(slides, QualityRules.of([], {"focus": 0.2}, {"pen": 1.0}))
    assert measure.name == "focus"
    assert measure.far == ("slide 5",)
    assert [row.middle for row in measure.rows] == sorted(medians)
    assert measure.limits == (0.2,)
    assert measures_of([view(1)], QualityRules()) == []


def test_of_slides_of_one_name_the_one_that_is_far_is_marked():
    def quality(median):
        return {"focus": {"p5": median, "median": median, "p95": median, "patches": 3}}

    medians = [5.0, 5.2, 4.9, 5.1, 5.05, 0.3]
    slides = [
        dataclasses.replace(view(n, quality=quality(m)), name="a.svs")
        for n, m in enumerate(medians)
    ]
    (measure,) = measures_of(slides, QualityRules())
    assert [measure.marks(slide.anchor) for slide in slides] == [False] * 5 + [True]
    assert measure.far == ("a.svs",)


def test_rule_against_pathologist_is_a_table():
    matrix = matrix_of(
        [
            Confusion("A", "confirmed", "A", 7), Confusion("A", "corrected", "B", 3),
            Confusion("B", "rejected", None, 2), Confusion(None, "corrected", "A", 1),
            Confusion(("A", "B"), "corrected", ("B",), 4), Confusion("A", "corrected", None, 5),
        ]
    )  # fmt: skip
    assert matrix.columns == ("A", "A, B", "B", "no label", "rejected")
    assert dict(matrix.rows) == {
        "A": (7, 0, 3, 5, 0), "A, B": (0, 0, 4, 0, 0), "B": (0, 0, 0, 0, 2),
        "no label": (1, 0, 0, 0, 0),
    }  # fmt: skip
    assert (matrix.agreed, matrix.looked_at) == (7, 22)
    assert matrix_of([]) is None


@pytest.mark.parametrize("word", ["rejected"])
def test_a_class_with_the_name_of_a_kind_stays_apart(word):
    matrix = matrix_of([Confusion("A", "corrected", word, 2), Confusion("A", "rejected", None, 3)])
    assert matrix.columns == ("A", "rejected", "rejected")
    assert matrix.rows == (("A", (0, 2, 3)),)
