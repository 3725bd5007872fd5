"""Class names: what QuPath takes off, splits, refuses. The answers are those of QuPath 0.7.0."""

import json
import sys

import pytest

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import ProjectError
from qupath_bridge.qupath import geojson
from qupath_bridge.qupath.files.classes import class_from_json, class_problem, strip_name

NBSP = "\N{NO-BREAK SPACE}"
REFUSED = ValueError

JAVA_WHITESPACE = """
    0009 000a 000b 000c 000d 001c 001d 001e 001f 0020 1680 2000 2001 2002 2003 2004 2005 2006 2008
    2009 200a 2028 2029 205f 3000
"""
"""Every code point of which ``Character.isWhitespace`` is true in Java 25."""

COLOR = {"color": [1, 2, 3]}
OLD_COLOR = {"colorRGB": -1}

CLASSES = [
    ("Tumor", "Tumor"),
    ("Tumor:", "Tumor"),
    ("Tumor::", "Tumor"),
    (":", None),
    ("::", None),
    ("", REFUSED),
    (" ", REFUSED),
    (":Tumor", REFUSED),
    ("Tumor: ", REFUSED),
    ("Tumor::Positive", REFUSED),
    (" Tumor : Positive ", "Tumor: Positive"),
    (f"Tumeur{NBSP}", f"Tumeur{NBSP}"),
    (NBSP, NBSP),
    ("Tumor\u2003", "Tumor"),
    ("Tumor\u2007", "Tumor\u2007"),
    ("a\nb", REFUSED),
    (None, None),
    ({}, None),
    ({"names": [], **COLOR}, None),
    ({"name": None, "names": ["A"], **COLOR}, "A"),
    ({"name": "A", "names": ["B", "C"], **COLOR}, "A"),
    ({"name": "A:", **COLOR}, "A"),
    ({"name": "", **COLOR}, REFUSED),
    ({"names": ["A", " B "], **COLOR}, "A: B"),
    ({"names": ["A: B"], **COLOR}, REFUSED),
    ({"names": ["A", ""], **COLOR}, REFUSED),
    ({"names": ["A", None], **COLOR}, REFUSED),
    ({"names": "A", **COLOR}, REFUSED),
    ({"name": 5, **COLOR}, "5"),
    ({"name": True, **COLOR}, "true"),
    ({"name": ["A"], **COLOR}, REFUSED),
    ({"name": None, **COLOR}, None),
    ({"name": "A", **OLD_COLOR}, "A"),
    (OLD_COLOR, None),
    ({"names": ["A", "B"], **OLD_COLOR}, None),
    ({"name": "B", "parentClass": {"name": "A"}, **OLD_COLOR}, "A: B"),
    ({"parentClass": {"name": "A"}}, REFUSED),
    ({"name": "B:C", "parentClass": {"name": "A"}}, REFUSED),
    ({"name": "X", "parentClass": None}, "X"),
    (COLOR, REFUSED),
    (5, REFUSED),
    (["A"], REFUSED),
    # QuPath refuses these for want of a colour.
    ({"name": "A"}, "A"),
    ({"names": []}, None),
    ({"names": ["A", "B"]}, "A: B"),
]


def test_white_space_is_that_of_java():
    expected = {chr(int(code, 16)) for code in JAVA_WHITESPACE.split()}
    stripped = {
        chr(code) for code in range(sys.maxunicode + 1) if strip_name(f"x{chr(code)}") == "x"
    }
    assert stripped == expected


@pytest.mark.parametrize(("raw", "expected"), CLASSES, ids=lambda value: ascii(value)[:40])
def test_classification_in_json_is_read_as_by_qupath(raw, expected):
    feature = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [1, 2]},
        "properties": {"classification": raw},
    }
    if expected is REFUSED:
        with pytest.raises(ValueError, match="class"):
            class_from_json(raw)
        with pytest.raises(ProjectError, match="class"):
            geojson.loads(json.dumps(feature))
        return
    assert class_from_json(raw) == expected
    (read,) = geojson.loads(json.dumps(feature))
    assert read.class_path == expected


def test_no_break_space_is_a_part_of_a_name_when_written_and_in_options():
    assert class_problem(f"Tumeur{NBSP}") is None
    assert class_problem("Tumeur ") == "class 'Tumeur ' would become 'Tumeur'"
    config = ExportConfig.parse({"map": [f" Tumeur{NBSP} = T"], "priority": f"A, B{NBSP}"})
    assert config.map == {f"Tumeur{NBSP}": "T"}
    assert config.priority == ("A", f"B{NBSP}")
