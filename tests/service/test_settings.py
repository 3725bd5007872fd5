"""Settings from the environment, a file and the caller."""

import re
from pathlib import Path

import pytest

from qupath_bridge.errors import ConfigError
from qupath_bridge.service.settings import ServiceSettings, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "service.md"
SECRET = "a-secret-of-many-letters"


def test_the_environment_wins_over_the_file(tmp_path):
    file = tmp_path / "service.toml"
    file.write_text('sources = ["/a", "/b"]\noutputs = ["s3://bucket/runs"]\nport = 1\n')
    environment = {
        "QUPATH_BRIDGE_SERVICE_CONFIG": str(file),
        "QUPATH_BRIDGE_PORT": "2",
        "QUPATH_BRIDGE_TASK_SECONDS": "7.5",
        "QUPATH_BRIDGE_QUPATH": "/elsewhere",  # belongs to somebody else
    }
    found = load_settings(environment)
    assert found.sources == ("/a", "/b")
    assert found.outputs == ("s3://bucket/runs",)
    assert (found.port, found.task_seconds) == (2, 7.5)
    assert load_settings(environment, port=3).port == 3
    assert load_settings({"QUPATH_BRIDGE_SOURCES": "/c;/d"}).sources == ("/c", "/d")


def test_all_faults_are_named_and_no_secret_is_shown(tmp_path):
    file = tmp_path / "service.toml"
    file.write_text('prot = 1\nattempts = 0\ntoken = "short-one"\n')
    with pytest.raises(ConfigError) as caught:
        load_settings({}, file)
    places = {fault.place for fault in caught.value.faults}
    assert places == {"service: attempts", "service: token", "service: prot"}
    assert "did you mean port?" in str(caught.value)
    assert "short-one" not in str(caught.value)
    settings = ServiceSettings(token=SECRET, database=f"postgresql://me:{SECRET}@host/name")
    assert SECRET not in f"{settings!r} {settings} {settings.as_json()}"


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path):
    for name, content in (("gone.toml", None), ("bad.toml", "sources = [")):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=name):
            load_settings({}, tmp_path / name)


def test_the_page_explains_every_setting():
    rows = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    named = {name.strip("`") for row in rows for name in row.split(", ")}
    assert set(ServiceSettings.model_fields) <= named
