"""Scripts and extension in QuPath's user folder: nothing of the user is lost."""

import hashlib
import json
import sys

import pytest

from qupath_bridge import api
from qupath_bridge._version import __version__
from qupath_bridge.cli import main
from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.testing.projects import tree_hashes
from tests.support.qupath_scripts import SCRIPTS

NAMES = sorted(path.name for path in SCRIPTS.glob("*.groovy"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home ä"
    (folder / "QuPath" / "v0.7").mkdir(parents=True)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.delenv("QUPATH_BRIDGE_HOME", raising=False)
    return folder


@pytest.fixture
def jar(tmp_path):
    path = tmp_path / "qupath-extension-patch-bridge-1.2.3.jar"
    path.write_bytes(b"jar")
    return path


def scripts_of(home, version="v0.7"):
    folder = home / "QuPath" / version / "scripts" / "Patch_bridge"
    return {path.name: path.read_bytes() for path in folder.glob("*.groovy")}


def test_scripts_go_to_each_version_of_qupath(home):
    (home / "QuPath" / "v0.5").mkdir()
    (home / "QuPath" / "logs").mkdir()
    done = api.install_scripts()

    shipped = {name: (SCRIPTS / name).read_bytes() for name in NAMES}
    assert len(shipped) == 5
    assert scripts_of(home) == scripts_of(home, "v0.5") == shipped
    assert [each.action for each in done] == ["written"] * 11
    setup = json.loads((home / ".qupath-bridge" / "setup.json").read_text(encoding="utf-8"))
    assert setup == {"python": sys.executable, "version": __version__}
    assert {each.action for each in api.install_scripts()} == {"unchanged"}


def test_a_script_that_the_user_changed_is_kept(home):
    api.install_scripts()
    folder = home / "QuPath" / "v0.7" / "scripts" / "Patch_bridge"
    mine = folder / "export_patches.groovy"
    mine.write_bytes(b"my settings")

    done = api.install_scripts()

    (kept,) = (each for each in done if each.action != "unchanged")
    assert (kept.action, kept.path) == ("kept a copy", mine)
    assert kept.copy.read_bytes() == b"my settings"
    assert mine.read_bytes() == (SCRIPTS / mine.name).read_bytes()
    # A second change gets a place of its own.
    mine.write_bytes(b"other settings")
    again = next(each for each in api.install_scripts() if each.copy)
    assert again.copy != kept.copy
    assert kept.copy.read_bytes() == b"my settings"


def test_a_script_of_an_older_version_is_updated_without_a_copy(home):
    api.install_scripts()
    folder = home / "QuPath" / "v0.7" / "scripts" / "Patch_bridge"
    (folder / "check_setup.groovy").write_bytes(b"older")
    record = json.loads((folder / ".qupath-bridge.json").read_text("utf-8"))
    record["files"]["check_setup.groovy"] = hashlib.sha256(b"older").hexdigest()
    (folder / ".qupath-bridge.json").write_text(json.dumps(record), encoding="utf-8")

    actions = {each.path.name: each.action for each in api.install_scripts()}

    assert actions["check_setup.groovy"] == "updated"
    assert scripts_of(home).keys() == set(NAMES)


def test_the_extension_replaces_its_other_versions_only(home, jar):
    extensions = home / "QuPath" / "v0.7" / "extensions"
    extensions.mkdir()
    (extensions / "qupath-extension-patch-bridge-1.0.0.jar").write_bytes(b"old")
    (extensions / "qupath-extension-stardist-0.6.0.jar").write_bytes(b"other")

    api.install_scripts(jar=jar)

    assert {path.name for path in extensions.iterdir()} == {
        jar.name,
        "qupath-extension-stardist-0.6.0.jar",
    }
    with pytest.raises(UsageError, match="is not the extension"):
        api.install_scripts(jar=extensions / "qupath-extension-stardist-0.6.0.jar")


def test_nothing_is_written_in_a_dry_run(home, jar, capsys):
    before = tree_hashes(home)
    assert main(["scripts", "install", "--dry-run", "--jar", str(jar)]) == 0
    assert tree_hashes(home) == before
    out = capsys.readouterr().out
    assert out.count("written: ") == 7
    assert "Nothing was changed." in out


def test_what_was_installed_goes_and_what_is_the_users_stays(home, jar):
    before = tree_hashes(home)
    api.install_scripts(jar=jar)
    folder = home / "QuPath" / "v0.7" / "scripts" / "Patch_bridge"
    (folder / "check_setup.groovy").write_bytes(b"mine")

    assert {each.action for each in api.uninstall_scripts(dry_run=True)} == {
        "removed", "left: changed",
    }  # fmt: skip
    assert len(scripts_of(home)) == 5
    api.uninstall_scripts()

    assert scripts_of(home) == {"check_setup.groovy": b"mine"}
    (folder / "check_setup.groovy").unlink()
    api.uninstall_scripts()
    left = tree_hashes(home).keys() - before.keys()
    assert set(map(str, left)) == {".qupath-bridge/setup.json"}


def test_a_python_that_was_set_up_stays_while_it_is_there(home, tmp_path):
    python = tmp_path / "python"
    python.write_text("", encoding="utf-8")
    setup = home / ".qupath-bridge" / "setup.json"
    setup.parent.mkdir()
    setup.write_text(json.dumps({"python": str(python), "version": "0"}), encoding="utf-8")
    api.install_scripts()
    assert json.loads(setup.read_text("utf-8"))["python"] == str(python)
    python.unlink()
    api.install_scripts()
    assert json.loads(setup.read_text("utf-8"))["python"] == sys.executable


def test_a_folder_is_needed(home, tmp_path, capsys):
    (home / "QuPath" / "v0.7").rmdir()
    with pytest.raises(MissingDependencyError, match="No QuPath folder"):
        api.install_scripts()
    with pytest.raises(UsageError, match="There is no folder"):
        api.install_scripts([tmp_path / "no"])
    folder = tmp_path / "my folder"
    folder.mkdir()
    assert main(["scripts", "install", "--qupath-dir", str(folder), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert len([each for each in files if each["path"].startswith(str(folder))]) == 5
    assert main(["scripts", "install", "--uninstall", "--jar", "x"]) == 2
