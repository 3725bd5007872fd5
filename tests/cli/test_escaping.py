"""Names from files in what people read: no control character reaches the terminal."""

import logging

import pytest

from qupath_bridge.cli import output
from qupath_bridge.frozen import escape_controls

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
