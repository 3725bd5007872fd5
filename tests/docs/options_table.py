"""Writes docs/options.md from the options that the models declare.

``python tests/docs/options_table.py`` writes the file anew; a test says when that is needed.
"""

from itertools import groupby
from pathlib import Path

from qupath_bridge.config import ExportConfig, RunOptions, Selection, options

PATH = Path(__file__).parents[2] / "docs" / "options.md"

HEAD = """\
# Options

This page is generated from `qupath_bridge/config/`. An option has one name everywhere:
`min_share` in Python and in a TOML file, `--min-share` on the command line. An option that is on by
default has a flag that turns it off (`--no-labels`). Repeated options take several values: a list
in Python and TOML, the flag several times on the command line. All others may stand there once.
Groups are tables of a TOML file; `qupath-bridge config init` writes one with every option.
"""

TABLE = "| option | value | default | meaning |\n|---|---|---|---|\n"

MODELS = (
    (Selection, "which slides"),
    (ExportConfig, "what decides the patches and their bytes"),
    (RunOptions, "how to run"),
)


def rendered():
    """Return the text of docs/options.md."""
    text = HEAD
    for model, meaning in MODELS:
        text += f"\n## {model.__name__}: {meaning}\n"
        own = [option for option in options() if option.name in model.model_fields]
        for group, members in groupby(own, key=lambda option: option.group):
            text += f"\n### [{group}]\n\n{TABLE}"
            text += "".join(map(row, members))
    return text


def row(option):
    value = "true or false" if option.kind == "flag" else code(option.show)
    value += ", repeated" if option.repeated else ""
    return f"| `{option.name}` | {value} | {default(option)} | {escaped(option.description)} |\n"


def default(option):
    value = option.default
    if value is None or value in ((), {}):
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        value = value[0] if isinstance(value[0], tuple) else value
        return code(",".join(map(str, value)))
    return code(str(value))


def code(text):
    return f"`{escaped(text)}`"


def escaped(text):
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(rendered(), encoding="utf-8")
