"""Metadata of images in the text of a project file."""

import json
from pathlib import Path

import pytest

from qupath_bridge.qupath.files.entry_metadata import set_entry_metadata

SAMPLES = sorted(
    (Path(__file__).parents[2] / "data" / "qupath-samples").glob("v*/project/*.qpproj")
)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.parts[-3])
def test_only_the_metadata_changes_and_comes_back(path):
    """In projects of six versions of QuPath, parsed by another reader of JSON."""
    text = path.read_bytes().decode("utf-8")
    wanted = json.loads(text)
    for image in wanted["images"]:
        if image["entryID"] != 1:
            image["metadata"] = {**image.get("metadata", {}), "a.b": 'x "ä"'}
    values = {str(image["entryID"]): 'x "ä"' for image in wanted["images"]} | {"99": "y"}
    del values["1"]
    changed = set_entry_metadata(text, "a.b", values)
    assert json.loads(changed) == wanted
    lines = set(changed.splitlines()) - set(text.splitlines())
    assert {line.strip().rstrip(",") for line in lines} <= {
        '"a.b": "x \\"ä\\""', '"metadata": {', '"patient": "P1"',
    }  # fmt: skip
    assert set_entry_metadata(changed, "a.b", dict.fromkeys(values)) == text


@pytest.mark.parametrize(
    "text",
    ['{"images":[{"entryID":1}]}', '{"images":[{"metadata":null,"entryID":1}]}',
     '\ufeff{"images":[{"entryID":1,"x":1e400,"y":1.50,"z":{"entryID":2}}],"b":NaN}',
     '{"a":[{"entryID":1}],"images":[{"entryID":1,"metadata":{"k":"}],{"}}]}'],
)  # fmt: skip
def test_texts_of_any_form(text):
    changed = set_entry_metadata(text, "k", {"1": "v"})
    (image,) = json.loads(changed.lstrip("\ufeff"))["images"]
    assert image["metadata"] == {"k": "v"}
    assert changed.startswith(text[:1])
    for part in ("1e400", "1.50", "NaN"):
        assert (part in changed) == (part in text)
    assert set_entry_metadata(changed, "k", {"1": "v"}) == changed


@pytest.mark.parametrize("text", ["", "[]", '{"images":', '{"images":[{"entryID":1}', "{1:2}"])
def test_what_is_no_project_file(text):
    with pytest.raises(ValueError, match="char"):
        set_entry_metadata(text, "k", {"1": "v"})
