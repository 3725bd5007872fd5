"""``config init``, ``config show`` and ``config check``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qupath_bridge.config import GROUPS, ExportConfig
from qupath_bridge.errors import ConfigError, OutputError

from .options import configuration
from .output import print_json, say

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
    print(path)
    return 0


def commented_config() -> str:
    """Return the text of a configuration file that says what every option does."""
    lines = [
        "# Options of qupath-bridge plan and export. A line that starts with # shows the default;",
        "# take the # away to set another value. A flag on the command line wins over this file.",
    ]
    for group, names in GROUPS.items():
        lines += ["", f"[{group}]"]
        for name in names:
            field = ExportConfig.model_fields[name]
            lines.append(f"# {field.description}")
            default = field.default
            lines.append(
                f"# {name} is not set" if default is None else f"# {name} = {_toml(default)}"
            )
    return "\n".join(lines) + "\n"


def run_show(given: tuple[Path | None, Mapping[str, Any]], *, as_json: bool) -> int:
    """Print the values that are in force."""
    values = json.loads(configuration(given).model_dump_json())
    if as_json:
        print_json(values)
        return 0
    for group, names in GROUPS.items():
        print(f"[{group}]")
        for name in names:
            none = values[name] is None
            print(f"# {name} is not set" if none else f"{name} = {_toml(values[name])}")
        print()
    return 0


def run_check(path: Path, *, as_json: bool) -> int:
    """Report all faults of a file at once; 0 when there are none, else 3."""
    try:
        ExportConfig.load(path)
    except ConfigError as error:
        if as_json:
            faults = [{"place": f.place, "problem": f.problem} for f in error.faults]
            print_json({"schema_version": 1, "faults": faults})
        else:
            for fault in error.faults:
                say(f"error: {fault}")
        return error.exit_code
    if as_json:
        print_json({"schema_version": 1, "faults": []})
    else:
        print(f"{path} is fine.")
    return 0


def _toml(value: object) -> str:
    """Return a value as TOML text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
