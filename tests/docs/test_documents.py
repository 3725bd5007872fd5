"""Every command and every Python block of README and docs runs, in the order in which it stands."""

import importlib.util
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge import registry
from qupath_bridge._version import __version__
from qupath_bridge.cli import main
from qupath_bridge.outputs import index

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *DOCS]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(document):
    return BLOCK.findall(document.read_text(encoding="utf-8"))


def commands(text):
    """Yield each command of a console block with the output that is shown of it."""
    assert text.startswith("$ "), f"{text!r} does not begin with a command"
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield shlex.split(command), shown


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with the projects ``study`` and ``plex``, as the documents have them."""
    shutil.copytree(ROOT / "example_projects" / "skin", tmp_path / "study")
    shutil.copytree(ROOT / "example_projects" / "plex", tmp_path / "plex")
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("qupath_bridge")
    level, handlers = logger.level, logging.getLogger().handlers[:]
    yield tmp_path
    logger.setLevel(level)
    logging.getLogger().handlers[:] = handlers


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path == README else [])
        for path in DOCUMENTS
    ],
)
def test_commands_and_code_run(document, study, capsys):
    for kind, text in blocks(document):
        if kind == "python":
            exec(compile(text, document.name, "exec"), {"__name__": document.stem})
            continue
        for words, shown in commands(text):
            capsys.readouterr()
            run_command(words)
            if shown:
                assert shows(shown, capsys.readouterr().out), f"{words} prints something else"


def run_command(words):
    if words[0] == "make":
        # Whole installations: that the target exists is what can be seen from here, and the
        # command of this library that it runs.
        dry = ["make", "--no-print-directory", "-n", *words[1:]]
        # As a person calls it, also where the tests themselves are run by make.
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        done = subprocess.run(dry, cwd=ROOT, check=True, capture_output=True, text=True, env=env)
        recipe = done.stdout
        words = shlex.split(recipe.splitlines()[-1])
        if Path(words[0]).name == "qupath-bridge":
            run_command(["qupath-bridge", *words[1:]])
    elif words[0] == "pip":
        assert words == ["pip", "install", "."]
        assert (ROOT / "pyproject.toml").is_file()
    else:
        assert words[0] == "qupath-bridge", words
        assert main(words[1:]) == 0, words


def shows(shown, printed):
    """Return whether a text is what a document shows of it; ``…`` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), printed, re.DOTALL)


def test_a_document_that_shows_another_output_fails():
    assert shows("31 patches in …\n", "31 patches in /tmp/out\n")
    assert not shows("31 patches in …\n", "32 patches in /tmp/out\n")
    assert not shows("31 patches\n", "31 patches\nand more\n")


def test_readme_shows_the_output_of_its_first_command():
    kind, text = blocks(README)[0]
    (words, shown), *_ = commands(text)
    assert (kind, words) == ("console", ["make", "demo"])
    assert "patches written" in shown


def test_recipe_of_the_readme_goes_on_without_a_missing_slide(study):
    project = study / "study" / "project.qpproj"
    record = json.loads(project.read_text(encoding="utf-8"))
    (entry,) = record["images"]
    gone = json.loads(json.dumps(entry).replace("CMU-1-Small-Region", "gone"))
    gone["entryID"] = 2
    record["images"].append(gone)
    record["lastID"] = 2
    project.write_text(json.dumps(record), encoding="utf-8")
    shutil.copytree(study / "study" / "data" / "1", study / "study" / "data" / "2")

    (recipe,) = (text for kind, text in blocks(README) if kind == "python")
    names = {"__name__": "recipe"}
    exec(compile(recipe, "README.md", "exec"), names)
    run = names["run"]
    assert [failure.slide_name for failure in names["plans"].failures] == ["gone.svs"]
    assert [failure.slide_name for failure in run.failures] == ["gone.svs"]
    assert names["table"].num_rows == run.written > 0
    (written_to,) = run.provenance
    assert written_to.parent.resolve() == (study / "study" / "qupath_bridge" / "runs").resolve()
    (recorded,) = run.record["projects"]
    assert recorded["name"] in {"embedded", "paquo"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        place = document.parent / target if target else document
        assert place.exists(), f"{document.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{document.name} links to {target}#{anchor}"


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_readme_links_to_every_document(document):
    assert f"](docs/{document.name})" in README.read_text(encoding="utf-8")


def test_the_table_of_options_is_current():
    spec = importlib.util.spec_from_file_location(
        "options_table", ROOT / "tests" / "docs" / "options_table.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH.read_text(encoding="utf-8") == module.rendered(), (
        "run python tests/docs/options_table.py"
    )


def test_the_index_columns_are_all_explained():
    named = re.findall(r"`([^`]+)`", section("provenance.md", "The index"))
    assert [name for name in index.COLUMN_NAMES if name not in named] == []
    assert f"{index.QC_PREFIX}<measure>" in named
    # In the order in which they stand.
    assert [name for name in dict.fromkeys(named) if name in index.COLUMN_NAMES][:10] == [
        "slide_id", "run_id", "entry_id", "slide_name", "patch_id", "tile_uuid", "col", "row",
        "x_qupath", "y_qupath",
    ]  # fmt: skip


def section(document, title):
    text = text_of(f"docs/{document}")
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_keys_of_run_json_and_of_the_facts_are_all_explained(study):
    run = qb.export("study", "patches", qb.ExportConfig(size=512), provenance=False)
    named = set(re.findall(r"`([^`]+)`", section("provenance.md", "run.json")))
    assert set(run.record) <= named
    assert {key for project in run.record["projects"] for key in project} <= named
    (slide,) = run.open().slides()
    table = run.open().table(slide)
    named = set(re.findall(r"`([^`]+)`", section("provenance.md", "The index")))
    assert set(index.facts_of(table)) <= named
    notes = set(index.metadata_of(table)) - {"schema_version"}
    assert {f".{name}" for name in notes} <= named


def test_the_reasons_for_dropping_are_all_explained_in_order():
    table = section("labels.md", "Why a patch is dropped")
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [str(r) for r in qb.Reason]


def test_the_table_of_parts_is_that_of_the_registry():
    rows = re.findall(
        r"^\| (\w+) \| `(\S+)` \| (.*?) \| `(\S+)` \|$",
        section("architecture.md", "Exchangeable parts"),
        re.MULTILINE,
    )
    assert [kind for kind, *_ in rows] == [kind for kind in registry.KINDS if kind != "model"]
    for kind, protocol, built_in, contract in rows:
        parts = [part.name for part in registry.parts(kind) if part.origin == "built in"]
        assert built_in == (", ".join(parts) or "–"), kind
        for place in (protocol, contract):
            assert (ROOT / "qupath_bridge" / place).is_file(), place


def test_the_packages_of_the_architecture_are_those_that_exist():
    first_cells = re.findall(r"^\| (`.*?) \|", section("architecture.md", "Packages"), re.MULTILINE)
    named = {name.rstrip("/") for cell in first_cells for name in re.findall(r"`(\S+?)`", cell)}
    there = {path.stem for path in (ROOT / "qupath_bridge").iterdir() if path.stem[0] != "_"}
    assert named == there - {"py"}


NAMED = r"`((?:tests|qupath_bridge|qupath|roundtrip)/[\w/]+\.py)`"


@pytest.mark.parametrize("place", sorted(set(re.findall(NAMED, text_of("docs/architecture.md")))))
def test_files_that_the_architecture_names_exist(place):
    # tests/outputs/test_tar.py and the like
    assert (ROOT / place).is_file() or (ROOT / "qupath_bridge" / place).is_file()


def test_every_function_of_the_api_is_in_the_python_page():
    functions = [
        name
        for name in qb.__all__
        if callable(getattr(qb, name)) and not isinstance(getattr(qb, name), type)
    ]
    text = text_of("docs/python.md")
    assert [name for name in functions if f"`{name}" not in text] == []


def test_contributing_names_the_targets_of_the_makefile():
    makefile = text_of("Makefile")
    for target in re.findall(r"`make ([\w-]+)`", text_of("CONTRIBUTING.md")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def cited():
    """Return the plain ``key: value`` lines of CITATION.cff, at the top level."""
    return dict(re.findall(r"^([\w-]+): *(.*)$", text_of("CITATION.cff"), re.MULTILINE))


def test_citation_has_what_the_format_requires():
    values = cited()
    assert {"cff-version", "message", "title", "authors"} <= set(values)
    assert values["cff-version"] == "1.2.0"
    known = {
        "abstract", "authors", "cff-version", "contact", "date-released", "doi", "identifiers",
        "keywords", "license", "license-url", "message", "preferred-citation", "references",
        "repository", "repository-artifact", "repository-code", "title", "type", "url", "version",
    }  # fmt: skip
    assert set(values) <= known
    assert "\t" not in text_of("CITATION.cff")


def test_citation_agrees_with_the_package():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    values = cited()
    assert values["version"] == __version__
    assert values["license"] == project["license"]
    (author,) = project["authors"]
    assert f"  - name: {author['name']}\n" in text_of("CITATION.cff")
