"""Charts: what is drawn is in proportion, and nothing from outside is taken for a sign of HTML."""

import xml.etree.ElementTree as ElementTree

import pytest

from qupath_bridge.reporting.charts import Bar, Range, bars, histogram_chart, ranges, strip, swatch

HOSTILE = '<script>alert("1")</script>&\u202e\'x'


def parsed(chart):
    return ElementTree.fromstring(str(chart))


def rects(chart, key="width"):
    return [float(one.get(key)) for one in parsed(chart).iter("rect")]


def test_bars_are_in_proportion_and_say_their_values():
    chart = bars("Patches", [Bar("A", 1000, (200, 0, 0)), Bar("B", 250), Bar("C", 0)])
    long, short, none = rects(chart)
    assert long / short == pytest.approx(4, abs=0.01)
    assert 0 < none <= 1  # a bar of 0 can be seen as one
    texts = [one.text for one in parsed(chart).iter("text")]
    assert texts == ["A", "1,000", "B", "250", "C", "0"]
    assert parsed(chart).get("aria-label") == "Patches: A 1,000; B 250; C 0"
    assert [one.get("fill") for one in parsed(chart).iter("rect")] == ["#c80000", None, None]


def test_parts_of_a_strip_fill_it():
    widths = rects(strip("Labels", [Bar("A", 30), Bar("B", 10)]))
    assert widths == [pytest.approx(120), pytest.approx(40)]
    assert not strip("Labels", [])


def test_bars_of_a_histogram_stand_at_their_shares():
    counts = [0] * 20
    counts[10], counts[19] = 4, 8
    chart = histogram_chart("Share", counts)
    assert rects(chart, "height") == [pytest.approx(30), pytest.approx(60)]
    axis = next(parsed(chart).iter("line"))
    left, right = float(axis.get("x1")), float(axis.get("x2"))
    middle, last = rects(chart, "x")
    assert (middle - left) / (right - left) == pytest.approx(0.5, abs=0.01)
    assert (last - left) / (right - left) == pytest.approx(0.95, abs=0.01)
    assert "0.5 to 0.55: 4, 0.95 to 1: 8" in parsed(chart).get("aria-label")


def test_dots_of_a_range_stand_at_their_values_and_far_ones_are_marked():
    rows = [Range("a", 0.0, 2.0, 4.0), Range("b", 6.0, 8.0, 10.0, True, "slide-2")]
    chart = ranges("focus", rows, [5.0])
    near, far = (float(one.get("cx")) for one in parsed(chart).iter("circle"))
    lines = list(parsed(chart).iter("line"))
    limit = next(float(one.get("x1")) for one in lines if one.get("class") == "limit")
    assert (near + far) / 2 == pytest.approx(limit, abs=0.1)
    assert [one.get("class") for one in parsed(chart).iter("g")] == ["near", "far"]
    assert [one.get("href") for one in parsed(chart).iter("a")] == ["#slide-2"]
    assert "b 8 (far from the others)" in parsed(chart).get("aria-label")


@pytest.mark.parametrize("values", [[], [(0.0, 0.0, 0.0)], [(-1.0, 0.0, 1.0)] * 3])
def test_a_range_of_any_values_can_be_drawn(values):
    parsed(ranges("focus", [Range("a", *each) for each in values]))


@pytest.mark.parametrize(
    "chart",
    [
        bars(HOSTILE, [Bar(HOSTILE, 3)]),
        strip(HOSTILE, [Bar(HOSTILE, 3)]),
        histogram_chart(HOSTILE, [1, 2]),
        ranges(HOSTILE, [Range(HOSTILE, 0, 1, 2, False, "slide-1")]),
    ],
    ids=["bars", "strip", "histogram", "ranges"],
)
def test_names_are_texts_only(chart):
    assert "<script" not in chart
    assert "\u202e" not in chart
    assert {one.tag for one in parsed(chart).iter()} <= {
        "svg", "g", "a", "text", "rect", "line", "circle",
    }  # fmt: skip
    assert '<script>alert("1")' in parsed(chart).get("aria-label")


def test_a_swatch_has_an_edge_that_shows_white():
    (square,) = parsed(swatch((255, 255, 255))).iter("rect")
    assert (square.get("class"), square.get("fill")) == ("edge", "#ffffff")
