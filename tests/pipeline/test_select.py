from dataclasses import replace

import pytest

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import ConfigError
from qupath_bridge.pipeline.select import select_slides
from qupath_bridge.sources.memory import memory_slide

SLIDES = [
    replace(memory_slide("1", "A.svs"), metadata={"patient": "P1"}, tags=("good",)),
    replace(memory_slide("2", "B [1].svs"), metadata={"patient": "P2"}),
    replace(memory_slide("13", "A.svs"), metadata={"patient": "P2"}, tags=("good", "new")),
]


def chosen(**options):
    return [s.entry_id for s in select_slides(SLIDES, ExportConfig.parse(options))]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, ["1", "2", "13"]),
        ({"entry": "13"}, ["13"]),
        ({"entry": "A.svs"}, ["1", "13"]),
        ({"entry": ["B*", "1"]}, ["1", "2"]),
        ({"entry": "B [1].svs"}, ["2"]),
        ({"where": ["patient=P2"]}, ["2", "13"]),
        ({"tag": "good", "where": ["patient=P2"]}, ["13"]),
        ({"tag": ["good", "new"]}, ["13"]),
    ],
)
def test_what_is_chosen(options, ids):
    assert chosen(**options) == ids


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"entry": "C.svs"}, "there is 'A.svs'"),
        ({"entry": ["1", "4"]}, "no image matches '4'"),
        ({"where": ["patient=P3"]}, "no image has patient = 'P3'; there is 'P1', 'P2'"),
        ({"where": ["patent=P3"]}, "named 'patent'; there is 'patient'"),
        ({"tag": "bad"}, "no image has the tag 'bad'; there is 'good', 'new'"),
        ({"tag": "new", "where": ["patient=P1"]}, "no image meets all of these"),
    ],
)
def test_nothing_is_never_silent(options, words):
    with pytest.raises(ConfigError) as caught:
        chosen(**options)
    assert words in str(caught.value)


def test_an_empty_project():
    with pytest.raises(ConfigError, match="Add images to it in QuPath"):
        select_slides([], ExportConfig())
