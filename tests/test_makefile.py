"""The Makefile where an environment cannot be made."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# As Debian's Python without its package python3-venv: half an environment, and an error.
PYTHON = """\
#!/bin/sh
test "$1" = -c && exit 0
echo "$@" >> calls
mkdir -p .venv/bin && touch .venv/bin/python
exit 1
"""


@pytest.mark.skipif(not (shutil.which("make") and shutil.which("sh")), reason="make is missing")
def test_half_an_environment_is_made_again(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    for _ in range(2):
        words = ["make", "demo", f"PYTHON={python}"]
        assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert calls == ["-m venv .venv"] * 2
