from dataclasses import replace
from pathlib import Path

import pytest

from qupath_bridge.config import Selection
from qupath_bridge.errors import ConfigError
from qupath_bridge.pipeline.select import select_slides
from qupath_bridge.sources.memory import memory_project, memory_slide


def slide(entry_id, name, tags=(), **metadata):
    return replace(memory_slide(entry_id, name), metadata=metadata, tags=tags)


SLIDES = [
    slide("1", "A.svs", ("good",), patient="P1", block="a"),
    slide("2", "B [1].svs", patient="P2", block="a"),
    slide("13", "A.svs", ("good", "new"), patient="P2", block="b*"),
    slide("4", "*.svs", block="bx"),
]


def selected(*slides, **values):
    return [each.entry_id for each in select_slides(slides or SLIDES, Selection(**values))]


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ({}, ["1", "2", "13", "4"]),
        ({"entry": "13"}, ["13"]),
        ({"entry": "A.svs"}, ["1", "13"]),
        ({"entry": ["B*", "1"]}, ["1", "2"]),
        ({"entry": "B [1].svs"}, ["2"]),
        ({"entry": "?.svs"}, ["1", "13", "4"]),
        ({"entry": "id:13"}, ["13"]),
        ({"entry": "name:A*"}, ["1", "13"]),
        ({"where": ["patient=P2"]}, ["2", "13"]),
        ({"tag": "good", "where": ["patient=P2"]}, ["13"]),
        ({"tag": ["good", "new"]}, ["13"]),
    ],
)
def test_selected_slides(values, ids):
    assert selected(**values) == ids


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        (["patient=P1", "patient=P2"], ["1", "2", "13"]),  # "or" within a key
        (["patient=P2", "block=a"], ["2"]),  # "and" across keys
        (["patient=P1", "patient=P2", "block=a"], ["1", "2"]),
        (["patient=P*"], ["1", "2", "13"]),
        (["patient=P[23]", "block=b?"], ["13"]),
        (["patient=?1", "patient=P2"], ["1", "2", "13"]),
        ({"patient": ["P1", "P2"], "block": "a"}, ["1", "2"]),
    ],
)
def test_where_joins_values_by_or_and_keys_by_and(where, ids):
    assert selected(where=where) == ids


def test_exact_name_or_value_wins_over_a_glob():
    assert selected(entry="*.svs") == ["4"]
    assert selected(entry="name:*.svs") == ["4"]
    assert selected(where=["block=b*"]) == ["13"]


def test_selection_keeps_the_order_of_the_project():
    assert selected(entry=["4", "2", "1"]) == ["1", "2", "4"]


def test_entry_that_is_an_id_and_a_name_is_an_error():
    slides = [slide("1", "A.svs"), slide("2", "1"), slide("3", "3")]
    with pytest.raises(ConfigError) as caught:
        selected(*slides, entry=["1", "no such"])
    assert [fault.place for fault in caught.value.faults] == ["entry", "entry"]
    first = caught.value.faults[0].problem
    assert "'1' is the ID of the slide 'A.svs' and the name of the slide with the ID 2" in first
    assert "id:1 or name:1" in first
    assert selected(*slides, entry="id:1") == ["1"]
    assert selected(*slides, entry="name:1") == ["2"]
    assert selected(*slides, entry="3") == ["3"]  # both, of one slide


def test_entries_of_several_projects():
    one, other = (
        memory_project(
            [memory_slide("1", f"{name}1"), memory_slide("2", f"{name}2")], path=Path(name)
        )
        for name in "ab"
    )
    slides = select_slides([*one, *other], Selection(entry=["a1", "id:2"]))
    assert [each.name for each in slides] == ["a1", "a2", "b2"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"entry": "C.svs"}, "there is 'A.svs', '*.svs'"),
        ({"entry": ["1", "5"]}, "no slide matches '5'"),
        ({"entry": "id:A*"}, "no slide matches 'id:A*'"),
        ({"where": ["patient=P3"]}, "no slide has patient = 'P3'; there is 'P1', 'P2'"),
        ({"where": ["patient=P1", "patient=Q*"]}, "no slide has patient = 'Q*'; there is 'P"),
        ({"where": ["patent=P3"]}, "named 'patent'; there is 'patient'"),
        ({"where": ["zzz=1"]}, "named 'zzz'; there is 'block', 'patient'"),
        ({"tag": "bad"}, "no slide has the tag 'bad'; there is 'good', 'new'"),
        ({"tag": "new", "where": ["patient=P1"]}, "no slide meets all of these"),
    ],
)
def test_selection_of_nothing_is_an_error(values, words):
    with pytest.raises(ConfigError) as caught:
        selected(**values)
    assert words in str(caught.value)
    assert "image" not in str(caught.value)


def test_all_faults_of_a_selection_at_once():
    with pytest.raises(ConfigError) as caught:
        selected(entry=["x", "y"], where=["patient=P9", "no=1"], tag=["t"])
    places = [fault.place for fault in caught.value.faults]
    assert places == ["entry", "entry", "where", "where", "tag"]


def test_project_without_slides():
    with pytest.raises(ConfigError, match="Add images to it in QuPath"):
        select_slides([], Selection())
