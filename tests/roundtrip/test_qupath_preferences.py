"""Where QuPath's preferences are, and which project they name."""

import plistlib
import sys
from pathlib import Path

import pytest

from qupath_bridge.roundtrip import qupath_preferences as module

# As Java 25 named them for QuPath 0.7.0 on Linux: "io.github.qupath" and "0.7".
NODE = """_!'k!bw!u!'c!a@"0!'g!d@"i!#4!c@"1!(!!}@"0!'g="""
VERSION = "_!$!!.g!3"

XML = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<!DOCTYPE map SYSTEM "http://java.sun.com/dtd/preferences.dtd">
<map MAP_XML_VERSION="1.0">
  <entry key="recentProject1" value="file:/data/older/project.qpproj"/>
  <entry key="recentProject0" value="{uri}"/>
</map>
"""


def write(root, text, version=VERSION):
    path = root / ".java" / ".userPrefs" / NODE / version / "prefs.xml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture(autouse=True)
def linux(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "linux")


@pytest.mark.parametrize("own_root", [False, True])
def test_last_project_in_the_files_of_linux(tmp_path, own_root):
    write(tmp_path, XML.format(uri="file:/data/My%20study%20%C3%A4/project.qpproj"))
    write(tmp_path, XML.format(uri="file:///old/project.qpproj"), version="_!$!!.g!#")
    home, root = (Path("/nowhere"), tmp_path) if own_root else (tmp_path, None)
    assert module.last_projects(home, root) == {
        Path("/data/My study ä/project.qpproj"), Path("/old/project.qpproj"),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "<map>", XML.format(uri=""), XML.format(uri="https://a/b")])
def test_preferences_that_name_no_project(tmp_path, text):
    write(tmp_path, text)
    assert module.last_projects(tmp_path) == set()
    assert module.last_projects(tmp_path / "nothing") == set()


@pytest.mark.skipif(sys.platform == "win32", reason="paths of macOS")
def test_last_project_in_the_property_list_of_macos(tmp_path, monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "darwin")
    path = tmp_path / "Library" / "Preferences" / "com.apple.java.util.prefs.plist"
    path.parent.mkdir(parents=True)
    nodes = {"io.github.qupath/": {"0.7/": {"recentProject0": "file:/data/project.qpproj"}}}
    path.write_bytes(plistlib.dumps({"/": nodes}))
    assert module.last_projects(tmp_path) == {Path("/data/project.qpproj")}


def test_user_folders_in_the_files_of_linux(tmp_path):
    text = XML.format(uri="").replace(
        '"recentProject1" value="file:/data/older/project.qpproj"',
        '"userPath" value="/home/m/My QuPath, ä"',
    )
    write(tmp_path, text)
    write(tmp_path, XML.format(uri=""), version="_!$!!.g!#")
    assert module.user_folders(tmp_path) == {Path("/home/m/My QuPath, ä")}
    assert module.user_folders(tmp_path / "nothing") == set()
