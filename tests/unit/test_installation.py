"""Finding a QuPath: made-up installations of three platforms, and a real one where there is one."""

import sys

import pytest

from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.testing.installation import VARIABLES, find_qupath

JAVA = "java.exe" if sys.platform == "win32" else "java"
LAYOUTS = {  # jars, runtime, launcher
    "linux": ("lib/app", "lib/runtime", "bin/QuPath"),
    "windows": ("app", "runtime", "QuPath-0.7.0.exe"),
    "mac": ("Contents/app", "Contents/runtime/Contents/Home", "Contents/MacOS/QuPath-0.7.0"),
}


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)


def install(folder, layout="linux", version="0.7.0", *, java=True):
    jars, runtime, launcher = LAYOUTS[layout]
    touch(folder / jars / f"qupath-core-{version}.jar")
    touch(folder / jars / "qupath-core-processing-9.jar")
    touch(folder / launcher)
    if java:
        touch(folder / runtime / "bin" / JAVA)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variable", VARIABLES)
def test_named_by_a_variable(tmp_path, layout, variable):
    jars, runtime, launcher = LAYOUTS[layout]
    folder = install(tmp_path / "QuPath", layout)
    for named in (folder, folder / launcher):
        found = find_qupath({variable: str(named)})
        assert (found.folder, found.version) == (folder, "0.7.0")
        assert (found.jars, found.launcher) == (folder / jars, folder / launcher)
        assert found.java == folder / runtime / "bin" / JAVA


def test_the_first_variable_counts(tmp_path):
    first, second = install(tmp_path / "a"), install(tmp_path / "b")
    environ = {VARIABLES[1]: str(second), VARIABLES[0]: str(first)}
    assert find_qupath(environ).folder == first


def test_usual_places(tmp_path):
    (tmp_path / "QuPath-9.9").mkdir()
    install(tmp_path / "QuPath-0.6.0", version="0.6.0")
    newest = install(tmp_path / "QuPath-0.7.0")
    assert find_qupath({}, [str(tmp_path / "QuPath*")]).folder == newest


def test_java_from_elsewhere(tmp_path):
    folder = install(tmp_path / "QuPath", java=False)
    touch(tmp_path / "jdk" / "bin" / JAVA)
    environ = {VARIABLES[0]: str(folder), "PATH": str(tmp_path / "nowhere")}
    with pytest.raises(MissingDependencyError, match="no java program"):
        find_qupath(environ)
    home = find_qupath({**environ, "JAVA_HOME": str(tmp_path / "jdk")})
    on_path = find_qupath({**environ, "PATH": str(tmp_path / "jdk" / "bin")})
    assert home.java == on_path.java == tmp_path / "jdk" / "bin" / JAVA


def test_none(tmp_path):
    with pytest.raises(MissingDependencyError, match=VARIABLES[0]):
        find_qupath({}, [str(tmp_path / "QuPath*")])
    with pytest.raises(MissingDependencyError, match="not in a QuPath installation"):
        find_qupath({VARIABLES[0]: str(tmp_path / "wrong")})


@pytest.mark.qupath
def test_groovy_scripts(tmp_path, installation):
    script = tmp_path / "a script.groovy"
    version = "qupath.lib.common.GeneralTools.getPackageVersion(qupath.lib.objects.PathObject)"
    script.write_text(f"println args[0] + ' é ' + {version}", encoding="utf-8")
    assert installation.groovy(script, ["x y"]).startswith("x y é ")
    script.write_text("throw new RuntimeException('on purpose')", encoding="utf-8")
    with pytest.raises(RuntimeError, match="on purpose"):
        installation.groovy(script)
