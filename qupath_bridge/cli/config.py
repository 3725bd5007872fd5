"""``config init``, ``config show`` and ``config check``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from qupath_bridge.config import Settings, options
from qupath_bridge.errors import ConfigError, OutputError

from .options import Given
from .output import json_text, print_json, say, show

__all__ = ["commented_config", "run_check", "run_init", "run_show"]


def run_init(path: Path) -> int:
    """Write a commented file with every option at its default."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(commented_config())
    except FileExistsError:
        raise OutputError(f"{path} exists already.", hint="Name a new file.") from None
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    show(str(path))
    return 0


def commented_config() -> str:
    """Return the text of a configuration file that describes every option."""
    lines = [
        "# Options of qupath-bridge plan and export. A line that starts with # shows the default;",
        "# remove the # to set another value. A flag on the command line wins over this file.",
    ]
    for group, members in groupby(options(), key=lambda option: option.group):
        lines += ["", f"[{group}]"]
        for option in members:
            lines.append(f"# {option.description}")
            unset = option.default is None
            value = "is not set" if unset else f"= {_toml(option.default)}"
            lines.append(f"# {option.name} {value}")
    return "\n".join(lines) + "\n"


def run_show(given: Given, *, as_json: bool) -> int:
    """Print the values that are in force."""
    settings = given.settings()
    values = {
        **settings.selection.as_json(),
        **settings.config.as_json(),
        **settings.options.as_json(),
    }
    if as_json:
        print_json(values)
        return 0
    for group, members in groupby(options(), key=lambda option: option.group):
        show(f"[{group}]")
        for option in members:
            value = values[option.name]
            unset = value is None
            show(f"# {option.name} is not set" if unset else f"{option.name} = {_toml(value)}")
        show()
    return 0


def run_check(path: Path, *, as_json: bool) -> int:
    """Report all faults of a file at once; 0 when there are none, else 3."""
    try:
        Settings.load(path)
    except ConfigError as error:
        if as_json:
            faults = [{"place": f.place, "problem": f.problem} for f in error.faults]
            print_json({"schema_version": 1, "faults": faults})
        else:
            for fault in error.faults:
                say(f"error: {fault}", logging.ERROR)
        return error.exit_code
    if as_json:
        print_json({"schema_version": 1, "faults": []})
    else:
        show(f"{path} is fine.")
    return 0


def _toml(value: object) -> str:
    """Return a value as TOML text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return json_text(str(value))
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
