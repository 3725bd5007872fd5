"""Puts a release into ``catalog.json``: ``python qupath_extension/catalog.py OWNER/NAME``.

QuPath's extension manager loads the jar from the addresses that the catalogue names, and takes
those of github.com only. Until there is a release, the catalogue names none: an address that
nobody owns yet could be somebody else's tomorrow.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CATALOG = ROOT / "catalog.json"
VERSIONS = {"min": "v0.5.0", "max": "v0.7", "excludes": []}
"""Versions of QuPath in which the jar works."""


def with_release(catalog: dict, repository: str, version: str) -> dict:
    """Return a catalogue with a release of the extension, the newest first.

    Parameters
    ----------
    catalog : dict
        As QuPath reads it; a release of this version is replaced.
    repository : str
        ``owner/name`` of the repository that has the jar.
    version : str
        Version of jar and Python package.

    Raises
    ------
    ValueError
        If the repository is not named so.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise ValueError(f"{repository!r} is not the name of a repository: write OWNER/NAME.")
    (extension,) = catalog["extensions"]
    home, name = f"https://github.com/{repository}", f"v{version}"
    release = {
        "name": name,
        "main_url": f"{home}/releases/download/{name}/qupath-extension-patch-bridge-{version}.jar",
        "required_dependency_urls": [],
        "optional_dependency_urls": [],
        "javadoc_urls": [],
        "version_range": VERSIONS,
    }
    older = [each for each in extension["releases"] if each["name"] != name]
    released = {**extension, "homepage": home, "releases": [release, *older]}
    return {**catalog, "extensions": [released]}


def main(repository: str) -> None:
    """Put the release of this version into the catalogue."""
    text = (ROOT / "qupath_bridge" / "_version.py").read_text("utf-8")
    version = text.split('"')[-2]
    catalog = with_release(json.loads(CATALOG.read_bytes()), repository, version)
    CATALOG.write_text(json.dumps(catalog, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (TypeError, ValueError) as error:
        sys.exit(f"error: {error}\nUse: python qupath_extension/catalog.py OWNER/NAME")
