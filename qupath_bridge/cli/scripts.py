"""``scripts install``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qupath_bridge import api
from qupath_bridge.errors import UsageError

from .output import print_json, show

__all__ = ["run_install"]


def run_install(
    folders: Sequence[Path], jar: Path | None, *, dry_run: bool, uninstall: bool, as_json: bool
) -> int:
    """Put scripts and extension into QuPath's user folder, or remove them; say what was done."""
    if uninstall and jar is not None:
        raise UsageError("--jar does not go with --uninstall.")
    if uninstall:
        done = api.uninstall_scripts(folders, dry_run=dry_run)
    else:
        done = api.install_scripts(folders, jar=jar, dry_run=dry_run)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "dry_run": dry_run,
                "files": [
                    {
                        "path": str(each.path),
                        "action": each.action,
                        "copy": None if each.copy is None else str(each.copy),
                    }
                    for each in done
                ],
            }
        )
        return 0
    for each in done:
        copy = "" if each.copy is None else f"; your version of it is {each.copy}"
        show(f"{each.action}: {each.path}{copy}")
    if dry_run:
        show("Nothing was changed.")
    elif not uninstall:
        show("In QuPath: Automate > User scripts... > Patch bridge. Restart QuPath to see them.")
    elif not done:
        show("Nothing of qupath-bridge is there.")
    return 0
