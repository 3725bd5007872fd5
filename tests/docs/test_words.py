"""One word for one thing, and plain English: the part of it that a program can hold.

CONTRIBUTING.md has the table of words. Each pattern below stands for a phrase that readers
stumbled over; the text behind it says what to write instead.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "qupath_bridge", "tests", "docs", "groovy_scripts", "benchmarks", "example_projects",
    "examples",
)  # fmt: skip
SUFFIXES = {".py", ".md", ".groovy", ".ipynb"}
PRODUCT = sorted((ROOT / "qupath_bridge").rglob("*.py"))
FILES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")),
    )
    if path.suffix in SUFFIXES and path != Path(__file__) and path.name != "CONTRIBUTING.md"
)

THING = "row|line|file|object|tile|picture|number|folder|entry|text|box|backup"
ONE_A = r"slide|image|patch|line|row|box|tile|region|class|key|file|plane"
PHRASES = {
    r"\b(lay|lays|laid|lies|lain)\b": "write, is in, is on",
    r"(?<!there )\b(is|are|was|were) no\b(?!\s+(#\s+)?(longer|more)\b)": "is not a, has no",
    rf"\bone \*?({THING})\*?( object)? an? ({ONE_A})\b": "one row per patch",
    r"\bparsed past\b|\bpassed over\b": "skipped",
    r"\bunasked\b": "unexpected",
    r"\bwitness(es)?\b|\bengine-and-editor\b": "verifiers; source, editor",
    r"\bRooms\b": "packages",
    r"\bframes?\b(?!: )": "coordinate map; message",
    r"\bsinks\b|\bsink-plus-index\b": "outputs",
    r"\bnot what was meant\b": "failed verification",
    r"\blook, and save\b": "check it, and save it",
    r"\bgo(es)? on with\b|\bgoing on with\b": "continue",
    r"\bgives? (the|a) file back\b": "close the file",
    r"\bsay exactly one\b|\bmake room\b": "pass exactly one; free disk space",
    r"\bis no name\b|\bknows no run\b": "invalid; no run X in Y",
    r"\btakes? (patches )?away\b": "drops, removes",
    r"\bNone where\b": "None if",
    r"\b(Occupant|lay_run|repainted|relabelled|_Scene)\b": "a name that says what it is",
}
ALLOWED = {
    ("qupath_bridge/cli/app.py", "frame"),  # Python's own, of a signal handler
    ("qupath_bridge/service/http/guards.py", "frame"),  # a word of security policies
    ("qupath_bridge/service/http/web_page.py", "frame"),
    ("qupath_bridge/readers/tiff_stacks.py", "frames"),  # ImageJ's word for time points
    ("tests/qupath/geojson/test_geojson.py", "lies"),  # shapely's message
}
BEGINNINGS = re.compile(r"(What|Which|Whether|How|Where|Who|That|All that)\b")
PARTICIPLES = {"told", "laid", "ours", "theirs", "going", "staying"}
UNCLEAR = {"_one", "_each", "_those", "_look", "_own", "_map", "_change"}


def named(path):
    return path.relative_to(ROOT).as_posix()


def docstrings(tree):
    """Yield line and text of each docstring, and of each text below an assignment."""
    for node in ast.walk(tree):
        for one in getattr(node, "body", []) if isinstance(getattr(node, "body", 0), list) else []:
            text = one.value if isinstance(one, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield one.lineno, text.value.strip()


def names(tree):
    """Yield line and name of whatever is assigned to or taken as a parameter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def found_phrases(text):
    for pattern, instead in PHRASES.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield text.count("\n", 0, match.start()) + 1, match[0], instead


@pytest.mark.parametrize("folder", ["", *FOLDERS])
def test_phrases_are_plain(folder):
    wrong = [
        f"{named(path)}:{line}: {phrase!r}; write: {instead}"
        for path in FILES
        if (named(path).partition("/")[0] if "/" in named(path) else "") == folder
        for line, phrase, instead in found_phrases(path.read_text(encoding="utf-8"))
        if (named(path), phrase.lower()) not in ALLOWED
    ]
    assert not wrong, "\n".join(wrong)


def test_docstrings_begin_with_a_verb_or_a_noun():
    wrong = [
        f"{named(path)}:{line}: {text.splitlines()[0]}"
        for path in PRODUCT
        # Docstrings of tests are sentences about what is tested.
        if "contracts" not in path.parts
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if BEGINNINGS.match(text)
    ]
    assert not wrong, "\n".join(wrong)


def test_names_of_values_are_nouns_and_names_of_functions_say_something():
    wrong = []
    for path in PRODUCT:
        if "roundtrip" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        wrong += [f"{named(path)}:{n}: {name}" for n, name in names(tree) if name in PARTICIPLES]
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        wrong += [f"{named(path)}:{f.lineno}: {f.name}" for f in functions if f.name in UNCLEAR]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "The run is laid into the project.", "That is no name.", "one row a patch",
        "one *tile* object a patch", "The image's frame.", "None where it is not known",
        "Go on with it.", "objects that are parsed past",
    ],
)  # fmt: skip
def test_the_patterns_find_what_they_stand_for(text):
    assert list(found_phrases(text))


@pytest.mark.parametrize(
    "text",
    ["There is no run.", "It is no longer there.", "one row per patch", "None if it is unknown"],
)
def test_the_patterns_leave_plain_sentences(text):
    assert not list(found_phrases(text))
