"""Names from files in what people read: no control character reaches the terminal."""

import json
import logging
import re
import string
import tomllib
from pathlib import Path

import pytest

from qupath_bridge import cli
from qupath_bridge.cli import main, output
from qupath_bridge.frozen import escape_controls
from qupath_bridge.testing.projects import Image, Region, build_project

EVIL = "a\x1b[2J\x07\x9b1m\u202eb\u2028c\rd\ne"
SEEN = r"a\x1b[2J\x07\x9b1m\u202eb\u2028c\x0dd\x0ae"


@pytest.mark.parametrize("text", ["Größe 中 😀", "بافت\u200cها", "Tumeur\u00a0", "a b: c/d\\e"])
def test_names_of_every_script_stay(text):
    assert escape_controls(text) == text


def test_lines_and_tables_escape_all_controls(capsys):
    output.show(EVIL)
    output.print_table(("name",), [(EVIL,)])
    assert capsys.readouterr().out == f"{SEEN}\nname\n{SEEN}\n"


def test_a_line_break_in_a_message_is_no_new_message(capsys):
    output.set_level(0)
    try:
        output.say("warning: x\nerror: all is lost")
        logging.getLogger("qupath_bridge").error("x\nerror: y\x1b[1m")
    finally:
        output.reset_level()
    assert capsys.readouterr().err.splitlines() == [
        "warning: x", "  error: all is lost", "error: x", r"  error: y\x1b[1m",
    ]  # fmt: skip


def test_json_escapes_them_too_and_says_the_same(capsys):
    text = f"é\x7f\u061c\u200f\u2066{EVIL}"
    output.print_json({text: [text]})
    printed = capsys.readouterr().out
    # RFC 8259: any sign of the basic plane may be written as \u and four digits.
    assert [sign for sign in printed if sign != "\n" and sign not in string.printable] == ["é"] * 2
    assert json.loads(printed) == {text: [text]}


def test_no_command_prints_past_the_escaping():
    """All lines go through the functions of output.py and streams.py."""
    folder = Path(cli.__file__).parent
    printing = {
        path.name: re.findall(r"(?<![\w.])print\(", path.read_text("utf-8"))
        for path in folder.glob("*.py")
    }
    assert {name for name, found in printing.items() if found} == {
        "app.py", "output.py", "streams.py",
    }  # fmt: skip


def test_a_path_in_settings_and_in_a_new_file_is_escaped(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["config", "init", f"{EVIL}.toml"]) == 0
    assert capsys.readouterr().out == f"{SEEN}.toml\n"
    assert cli.main(["config", "check", f"{EVIL}.toml"]) == 0
    assert capsys.readouterr().out == f"{SEEN}.toml is fine.\n"
    Path("x.toml").write_text(f"[labels.map]\n{json.dumps(EVIL)} = {json.dumps(EVIL)}\n")
    assert cli.main(["config", "show", "--config", "x.toml"]) == 0
    shown = capsys.readouterr().out
    assert output.CONTROLS.search(shown.replace("\n", "")) is None
    assert tomllib.loads(shown)["labels"]["map"] == {EVIL: EVIL}


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["Tumeur", "Tumeur\u00a0"], ["Tumeur", r"Tumeur\xa0"]),
        (["a b", "a\u202fb", "a\u00a0b"], ["a b", r"a\u202fb", r"a\xa0b"]),
        (["zero", "ze\u200bro"], ["zero", r"ze\u200bro"]),
        (["caf\u00e9", "cafe\u0301"], ["caf\u00e9", r"cafe\u0301"]),
        # What looks like nothing else stays as it is.
        (["a\u00a0b", "c"], ["a\u00a0b", "c"]),
        (["a\u00a0b", "a\u00a0b"], ["a\u00a0b", "a\u00a0b"]),
    ],
)
def test_names_that_look_alike_are_told_apart_in_tables(names, shown):
    lines = output.table(("label", "patches"), [(name, n) for n, name in enumerate(names)])
    found = [line.rpartition(" ")[0].rstrip(" ") for line in lines[1:]]
    assert found == shown


def test_the_classes_of_a_project_are_told_apart(tmp_path, two_slides, capsys):
    regions = [
        Region(name, f"POLYGON (({x} 0, {x + 90} 0, {x + 90} 90, {x} 90, {x} 0))")
        for name, x in (("Tumeur", 0), ("Tumeur\u00a0", 200))
    ]
    project = build_project(tmp_path / "nbsp", [Image(two_slides[0], regions)])
    for words in (["inspect"], ["plan", "--size", "64"]):
        assert main([words[0], str(project), *words[1:]]) == 0
        out = capsys.readouterr().out
        assert "\nTumeur " in out
        assert "\nTumeur\\xa0 " in out
