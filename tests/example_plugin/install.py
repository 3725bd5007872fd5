"""Install the example package into a folder, without a network and without a build backend.

``python tests/example_plugin/install.py FOLDER``: Python sees the package and its entry points
when FOLDER is on PYTHONPATH. Elsewhere, use ``pip install tests/example_plugin``.
"""

import shutil
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def install(folder):
    """Copy the package, and write the metadata that its wheel would have."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = project["name"].replace("-", "_")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / package, Path(folder) / package, ignore=ignored)
    information = Path(folder) / f"{package}-{project['version']}.dist-info"
    information.mkdir()
    lines = [f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"]
    (information / "METADATA").write_text("".join(lines), encoding="utf-8")
    groups = project["entry-points"].items()
    text = "\n".join(
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""])
        for group, points in groups
    )
    (information / "entry_points.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    install(sys.argv[1])
