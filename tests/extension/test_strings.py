"""The bundle of the extension's texts has each text that the code shows, once, and no other."""

import re
from collections import Counter
from pathlib import Path

EXTENSION = Path(__file__).parents[2] / "qupath_extension"
BUNDLE = "bridge-core/src/main/resources/qupath/ext/patchbridge/strings.properties"
LITERAL = re.compile(r"""'(?:[^'\\\n]|\\.)'|"((?:[^"\\\n]|\\.)*)\"""")
"""A text in Java; a single character such as '"' is read past."""


def read_texts():
    lines = (EXTENSION / BUNDLE).read_text(encoding="utf-8").splitlines()
    return [line.partition(" = ")[::2] for line in lines if line and not line.startswith("#")]


def read_sources():
    return [
        path.read_text(encoding="utf-8")
        for path in EXTENSION.glob("bridge-*/src/main/java/**/*.java")
    ]


def test_each_text_stands_once():
    texts = read_texts()
    assert [key for key, count in Counter(key for key, _ in texts).items() if count > 1] == []
    assert [key for key, text in texts if not text.strip()] == []


def test_each_text_that_the_code_names_is_there():
    keys = {key for key, _ in read_texts()}
    named = {
        key
        for source in read_sources()
        for key in re.findall(r'Strings\.get\(\s*"([^"]+)"\s*[,)]', source)
    }
    assert named
    assert named - keys == set()


def test_no_text_is_left_that_the_code_does_not_name():
    literals = {text for source in read_sources() for text in LITERAL.findall(source)}
    beginnings = tuple(text for text in literals if re.fullmatch(r"[a-z-]+\.([a-z_-]+\.)*", text))
    unused = [
        key
        for key, _ in read_texts()
        if key not in literals
        and not (beginnings and key.startswith(beginnings))
        and not (
            key.endswith(".hint") and key.removesuffix(".hint") in literals and ".hint" in literals
        )
    ]
    assert unused == []


def test_percent_signs_stand_for_values():
    for key, text in read_texts():
        assert not re.search(r"%(?!(,d|\.\d+[fg]|d|s|%))", text), key
