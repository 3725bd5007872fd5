"""Warnings about slides that give no patch."""

import pytest

from qupath_bridge.pipeline.empty import warn_of_empty

GOOD = ("good", 4, {"edge": 9})


@pytest.mark.parametrize(
    ("slides", "warnings"),
    [
        ([], []),
        ([GOOD], []),
        ([("a", 0, {"edge": 1, "no_label": 2}), ("b", 0, {"edge": 3})],
         ["No patch is kept: 4 edge, 2 no_label."]),
        ([("a", 0, {})], ["No patch is kept: none fits."]),
        ([GOOD, ("a", 0, {"edge": 1, "no_label": 2, "quality": 0})],
         ["a: no patch is kept, mainly by no_label (2 of 3)."]),
        ([GOOD, ("a", 0, {})], ["a: no patch is kept, none fits."]),
        ([GOOD, *((f"e{n}", 0, {"edge": 2}) for n in range(12)), ("a", 0, {"outside": 1})],
         ["12 of 14 slides give no patch, mainly by edge: "
          "e0, e1, e2, e3, e4, e5, e6, e7, e8, e9 and 2 more.",
          "1 of 14 slides give no patch, mainly by outside: a."]),
    ],
)  # fmt: skip
def test_slides_without_patches_are_told_with_the_main_reason(slides, warnings):
    assert list(warn_of_empty(slides)) == warnings
