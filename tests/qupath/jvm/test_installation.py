"""Finding a QuPath: made-up installations of three platforms, and a real one where there is one."""

import platform
import struct
import sys
from pathlib import Path

import pytest

from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.qupath.jvm import installation as installation_module
from qupath_bridge.qupath.jvm.installation import (
    TESTED,
    VARIABLES,
    architecture,
    find_installations,
    find_qupath,
    first_usable,
    python_architecture,
    same_architecture,
)
from qupath_bridge.sources.auto import choose

USUAL_PLACES = dict(installation_module._PLACES)  # before they are hidden from the tests
JAVA = "java.exe" if sys.platform == "win32" else "java"
HOME = "Contents/runtime/Contents/Home"
LAYOUTS = {  # jars, runtime, launcher, the library in the runtime
    "linux": ("lib/app", "lib/runtime", "bin/QuPath", "lib/server/libjvm.so"),
    "windows": ("app", "runtime", "QuPath-0.7.0.exe", "bin/server/jvm.dll"),
    "mac": ("Contents/app", HOME, "Contents/MacOS/QuPath-0.7.0", "lib/libjli.dylib"),
}


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)


def install(folder, layout="linux", version="0.7.0", *, java=True, library=b""):
    """Make up an installation; ``library`` is what the library of its Java holds."""
    jars, runtime, launcher, name = LAYOUTS[layout]
    touch(folder / jars / f"qupath-core-{version}.jar")
    touch(folder / jars / "qupath-core-processing-9.jar")
    touch(folder / launcher)
    if java:
        touch(folder / runtime / "bin" / JAVA)
    if library is not None:
        touch(folder / runtime / name)
        (folder / runtime / name).write_bytes(library)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variable", VARIABLES)
def test_installation_named_by_a_variable(tmp_path, layout, variable):
    jars, runtime, launcher, library = LAYOUTS[layout]
    folder = install(tmp_path / "My Programs é 中" / "QuPath", layout)
    for named in (folder, folder / launcher):
        found = find_qupath({variable: str(named)})
        assert found.library == folder / runtime / library
        assert (found.folder, found.version) == (folder, "0.7.0")
        assert (found.jars, found.launcher) == (folder / jars, folder / launcher)
        assert found.java({}) == folder / runtime / "bin" / JAVA


def test_installation_variables_in_order(tmp_path):
    first, second = install(tmp_path / "a"), install(tmp_path / "b")
    environ = {VARIABLES[1]: str(second), VARIABLES[0]: str(first)}
    assert find_qupath(environ).folder == first


def test_installation_in_usual_places(tmp_path):
    (tmp_path / "QuPath-9.9").mkdir()
    install(tmp_path / "QuPath-0.8 really old", version="0.6.0")
    newest = install(tmp_path / "QuPath-0.7.0")
    assert find_qupath({}, [str(tmp_path / "QuPath*")]).folder == newest


@pytest.mark.parametrize(("system", "layout", "name"), [
    ("Linux", "linux", "opt/QuPath"),
    ("Darwin", "mac", "Applications/QuPath-0.7.0-arm64.app"),
    ("Windows", "windows", "AppData/Local/QuPath-0.7.0"),
])  # fmt: skip
def test_installation_in_usual_places_per_platform(tmp_path, monkeypatch, system, layout, name):
    folder = install(tmp_path / name, layout)
    places = [f"{tmp_path}/{place.lstrip('~/')}" for place in USUAL_PLACES[system]]
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(installation_module, "_PLACES", {system: places})
    (candidate,) = find_installations({})
    assert (candidate.path, candidate.source) == (folder, "usual place")
    assert find_qupath({}).folder == folder


def test_installations_are_listed_once(tmp_path):
    folder = install(tmp_path / "QuPath")
    environ = {VARIABLES[0]: str(folder / "bin" / "QuPath"), VARIABLES[1]: str(folder)}
    (candidate,) = find_installations(environ, [str(tmp_path / "QuPath*")])
    assert candidate.source == VARIABLES[0]


def test_installation_pattern_with_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder = install(tmp_path / "QuPath")
    assert find_qupath({}, configured="~/QuPath").folder == folder


def test_installation_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(installation_module, "_find_jars", refuse)
    (candidate,) = find_installations({VARIABLES[0]: str(tmp_path)})
    assert "cannot be read: Permission denied" in candidate.problem


def test_installation_uses_java_from_elsewhere(tmp_path):
    folder = install(tmp_path / "QuPath", java=False)
    touch(tmp_path / "jdk" / "bin" / JAVA)
    environ = {VARIABLES[0]: str(folder), "PATH": str(tmp_path / "nowhere")}
    found = find_qupath(environ)
    with pytest.raises(MissingDependencyError, match="No java program"):
        found.java(environ)
    jdk = tmp_path / "jdk"
    for name, value in (("JAVA_HOME", jdk), ("PATH", jdk / "bin")):
        assert found.java({**environ, name: str(value)}) == jdk / "bin" / JAVA


def test_installation_not_found_is_an_error(tmp_path):
    with pytest.raises(MissingDependencyError, match=VARIABLES[0]):
        find_qupath({}, [str(tmp_path / "QuPath*")])
    with pytest.raises(MissingDependencyError, match="it contains no qupath-core jar"):
        find_qupath({VARIABLES[0]: str(tmp_path / "wrong")})


def elf(machine):
    return b"\x7fELF\2\1\1" + bytes(11) + struct.pack("<H", machine) + bytes(40)


def portable(machine):
    return (
        b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + struct.pack("<4sH", b"PE", machine)
    )


HEADERS = {
    elf(0x3E): "x86_64",
    elf(0xB7): "aarch64",
    elf(0x99): None,
    portable(0x8664): "x86_64",
    portable(0xAA64): "aarch64",
    struct.pack("<II", 0xFEEDFACF, 0x0100000C): "aarch64",
    struct.pack("<II", 0xFEEDFACF, 0x01000007): "x86_64",
    struct.pack(">II", 0xCAFEBABE, 2): "universal",
    struct.pack(">II", 0xCAFEBABE, 61): None,  # a Java class
    b"": None,
    b"\x7fELF": None,
    b"MZ": None,
    b"#!/bin/sh": None,
}


@pytest.mark.parametrize("header", HEADERS)
def test_architecture_of_library_headers(header):
    assert architecture(header) == HEADERS[header]


def test_architecture_of_this_python():
    built_for = architecture(Path(sys.executable).resolve().read_bytes())
    assert same_architecture(built_for, platform.machine())
    assert same_architecture(python_architecture(), platform.machine())


def test_architecture_of_a_python_not_built_for_the_machine(tmp_path, monkeypatch):
    """As on Windows for ARM, where the machine says ARM64 to a Python of x86_64."""
    program = tmp_path / "python"
    program.write_bytes(portable(0x8664))
    monkeypatch.setattr(platform, "machine", lambda: "ARM64")
    monkeypatch.setattr(sys, "executable", str(program))
    assert python_architecture() == "x86_64"
    for content in (struct.pack(">II", 0xCAFEBABE, 2), b""):  # both, and not to be known
        program.write_bytes(content)
        assert python_architecture() == "ARM64"
    program.unlink()
    assert python_architecture() == "ARM64"


def test_installation_problems(tmp_path):
    ours = 0x3E if platform.machine() in {"x86_64", "AMD64"} else 0xB7
    other = {0x3E: 0xB7, 0xB7: 0x3E}[ours]
    install(tmp_path / "QuPath 7", library=elf(ours))
    install(tmp_path / "QuPath 7 é other", library=elf(other))
    install(tmp_path / "QuPath-10", version="0.10.0", library=elf(ours))
    install(tmp_path / "QuPath-9", version="0.9.2", library=elf(ours))
    install(tmp_path / "QuPath-3", version="0.3.2", library=elf(ours))
    install(tmp_path / "QuPath-rc", version="0.7.0-rc1", library=elf(ours))
    install(tmp_path / "QuPath-1", version="0.1.2", library=elf(ours))
    install(tmp_path / "QuPath no Java", version="0.6.0", library=None)
    found = find_installations({}, [str(tmp_path / "QuPath*")])
    assert [c.installation.version for c in found] == [
        "0.10.0", "0.9.2", "0.7.0", "0.7.0", "0.7.0-rc1", "0.6.0", "0.3.2", "0.1.2",
    ]  # fmt: skip
    problems = {c.path.name: c.problem for c in found}
    assert problems["QuPath 7"] is None
    assert "Install the build of QuPath, or of Python, that matches" in problems["QuPath 7 é other"]
    assert "comes without Java" in problems["QuPath no Java"]
    for name, version in (
        ("QuPath-10", "0.10.0"), ("QuPath-3", "0.3.2"), ("QuPath-rc", "0.7.0-rc1"),
        ("QuPath-1", "0.1.2"),
    ):  # fmt: skip
        assert f"QuPath {version} was not tested" in problems[name]
        assert "the engine embedded" in problems[name]
        assert all(each in problems[name] for each in TESTED)
        assert ("older than what paquo supports" in problems[name]) == (name == "QuPath-1")
    assert choose(found).installation.folder.name == "QuPath 7"
    assert choose([c for c in found if c.problem]).name == "embedded"


def test_installation_named_in_the_configuration_comes_first(tmp_path):
    first, second, usual = (install(tmp_path / name) for name in ("a", "b", "QuPath"))
    environ = {VARIABLES[0]: str(second)}
    found = find_installations(environ, [str(tmp_path / "QuPath*")], configured=first)
    assert [(c.source, c.path) for c in found] == [
        ("configuration", first), (VARIABLES[0], second), ("usual place", usual),
    ]  # fmt: skip
    assert choose([]).reason == "no QuPath is found on this machine"


def test_installation_named_in_the_configuration_is_never_replaced(tmp_path):
    old = install(tmp_path / "old", version="0.3.2")
    usual, places = install(tmp_path / "QuPath"), [str(tmp_path / "QuPath*")]
    with pytest.raises(MissingDependencyError, match=r"configuration: QuPath 0\.3\.2 was not"):
        find_qupath({}, places, configured=old)
    assert first_usable(find_installations({}, places, configured=old)) is None
    environ = {VARIABLES[1]: str(old)}
    assert find_qupath(environ, places).folder == usual
    reason = choose(find_installations(environ, places)).reason
    assert f"{usual} (usual place); not the one of {VARIABLES[1]}: QuPath 0.3.2" in reason
    with pytest.raises(MissingDependencyError, match=rf"{VARIABLES[1]}: QuPath 0\.3\.2 was not"):
        find_qupath(environ)


@pytest.mark.qupath
def test_groovy_scripts_run_with_qupath(tmp_path, installation):
    script = tmp_path / "a script.groovy"
    version = "qupath.lib.common.GeneralTools.getPackageVersion(qupath.lib.objects.PathObject)"
    script.write_text(f"println args[0] + ' é ' + {version}", encoding="utf-8")
    assert installation.groovy(script, ["x y"]).startswith("x y é ")
    script.write_text("throw new RuntimeException('on purpose')", encoding="utf-8")
    with pytest.raises(RuntimeError, match="on purpose"):
        installation.groovy(script)
