"""The choice of an engine, and going on when QuPath does not."""

import json
import os
import sys
import time
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest

from qupath_bridge.cli import main
from qupath_bridge.config import ExportConfig, RunOptions
from qupath_bridge.errors import MissingDependencyError, ProjectError
from qupath_bridge.parallel import available_cores
from qupath_bridge.pipeline import doctor
from qupath_bridge.pipeline.doctor import checks
from qupath_bridge.pipeline.planning import plan_slides
from qupath_bridge.qupath.jvm.installation import Candidate, Installation, find_installations
from qupath_bridge.qupath.jvm.process import EngineDiedError, Probe, start
from qupath_bridge.sources.auto import AutoSource, choose
from qupath_bridge.sources.embedded import EmbeddedSource

FOUND = Installation(Path("/q"), Path("/q/lib/app"), version="0.7.0")
THERE = Candidate("usual place", Path("/q"), FOUND)
OLD = Candidate("PAQUO_QUPATH_DIR", Path("/o"), FOUND, "QuPath 0.3.2 was not tested")
TOLD = Probe("0.7.0", "25", "1.6.0", "0.9.0", "amd64", "x86_64")


class Stand(EmbeddedSource):
    """Stands in for the engine paquo: reads, dies, or does not start."""

    name = "paquo"

    def __init__(self, error=None, opens=True):
        self.error, self.opens = error, opens

    def open(self, path, **options):
        if not self.opens:
            raise MissingDependencyError("the JVM was killed by signal 11 (SIGSEGV).")
        project = super().open(path, **options)
        if self.error is None:
            return project

        def die(detections):
            raise self.error

        return replace(project, slides=tuple(replace(s, _load=die) for s in project.slides))


def install(folder, library):
    """Make up a QuPath 0.7.0 that has everything but a Java that runs."""
    names = ("lib/app/qupath-core-0.7.0.jar", "app/qupath-core-0.7.0.jar")
    libraries = ("lib/runtime/lib/server/libjvm.so", "runtime/bin/server/jvm.dll")
    home = "Contents/runtime/Contents/Home/lib/libjli.dylib"
    by_system = {
        "linux": (names[0], libraries[0]),
        "win32": (names[1], libraries[1]),
        "darwin": ("Contents/app/qupath-core-0.7.0.jar", home),
    }
    for name in by_system[sys.platform]:
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(library)
    return folder


def auto(candidates=(THERE,), **options):
    return AutoSource(candidates=candidates, paquo=lambda found: Stand(**options))


def test_what_is_chosen():
    assert choose([]).name == "embedded"
    assert choose([OLD]).reason == OLD.problem
    assert choose([OLD, THERE]).installation is FOUND
    assert "QuPath 0.7.0 in /q (usual place)" in choose([OLD, THERE]).reason.replace("\\", "/")


def test_without_a_qupath(study):
    project = AutoSource(candidates=[]).open(study.project)
    assert (project.engine, project.reason) == ("embedded", "no QuPath is found on this machine")
    assert project.problems == ()


def test_with_one(study):
    project = auto().open(study.project)
    assert project.engine == "paquo"
    assert project.slides[0].read() == EmbeddedSource().open(study.project).slides[0].read()


def test_java_that_does_not_start_is_one_line(study):
    project = auto(opens=False).open(study.project)
    assert project.engine == "embedded"
    assert project.problems == (project.reason,)
    assert "SIGSEGV" in project.reason
    assert len(project.slides[0].read().annotations) == 6


def test_java_that_dies_loses_nothing(study):
    project = auto(error=EngineDiedError("was killed", path="x")).open(study.project)
    image = project.slides[0].read(detections=True)
    assert len(image.annotations) == 6
    assert "was killed" in image.problems[-1]


def test_what_ended_once_is_not_asked_again(study):
    """Neither is a crash waited for twice, nor does any image go unread."""
    asked = []

    class Dying(Stand):
        def open(self, path, **options):
            project = super().open(path, **options)

            def die(slide, detections):
                asked.append(slide.entry_id)
                raise EngineDiedError("the child was killed by signal 9 (SIGKILL)", path="x")

            return replace(
                project, slides=tuple(replace(s, _load=partial(die, s)) for s in project.slides)
            )

    engine = AutoSource(candidates=[THERE], paquo=lambda found: Dying())
    first, second = (slide.read() for slide in engine.open(study.project).slides)
    assert asked == ["1"]
    embedded = EmbeddedSource().open(study.project).slides
    for image, slide in ((first, embedded[0]), (second, embedded[1])):
        assert "engine embedded" in image.problems[-1]
        assert "SIGKILL" in image.problems[-1]
        assert replace(image, problems=image.problems[:-1]) == slide.read()
    again = engine.open(study.project).slides[1]  # another child, another chance
    assert "SIGKILL" in again.read().problems[-1]
    assert asked == ["1", "2"]


def test_closing_closes_the_child(study):
    closed = []

    class Closing(Stand):
        def open(self, path, **options):
            return replace(super().open(path, **options), _close=lambda: closed.append(1))

    with AutoSource(candidates=[THERE], paquo=lambda found: Closing()).open(study.project):
        assert not closed
    assert closed == [1]


def test_a_qupath_that_is_named_and_not_used_is_told(study, tmp_path):
    project = AutoSource(qupath=tmp_path / "no QuPath é").open(study.project)
    assert project.engine == "embedded"
    assert project.problems == (project.reason,)
    assert "it contains no qupath-core jar" in project.reason


def test_a_java_that_is_none(study, tmp_path):
    """The real child process meets a library that is not a library."""
    folder = install(tmp_path / "QuPath é 中", library=b"no library at all")
    project = AutoSource(qupath=folder).open(study.project)
    assert project.engine == "embedded"
    (problem,) = project.problems
    assert str(folder) in problem
    assert "\n" not in problem
    assert len(project.slides[0].read().annotations) == 6
    found = {check.name: check for check in checks(find_installations(configured=folder))}
    assert found["engine"].found == "embedded"
    assert str(folder) in found["engine"].next
    assert main(["doctor", "--qupath", str(folder)]) == 0


def test_a_file_that_qupath_refuses_is_not_read_another_way(study):
    """What is wrong with a file is said, not gone around."""
    project = auto(error=ProjectError("broken", path="x")).open(study.project)
    with pytest.raises(ProjectError, match="broken"):
        project.slides[0].read()


def test_a_run_says_who_read_and_why(study, capsys):
    for engine, reason in (("auto", "no QuPath is found on this machine"), ("embedded", None)):
        out = study.folder / engine
        words = ["export", str(study.project), "--out", str(out), "--engine", engine]
        assert main([*words, "--size", "50", "--no-provenance"]) == 0
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        assert record["options"]["engine"] == engine
        assert record["projects"] == [
            {
                "path": str(study.project), "name": "embedded", "reason": reason,
                "project_version": "0.7.0", "qupath_version": None,
                "annotations": None, "skip_bad_features": False,
            }
        ]  # fmt: skip


def test_digests_do_not_depend_on_the_engine(study):
    config = ExportConfig(size=50)
    dying = auto(error=EngineDiedError("was killed", path="x"))
    projects = [e.open(study.project) for e in (EmbeddedSource(), auto(), dying)]
    named = RunOptions(engine="paquo", qupath="/some/where")
    plans = [plan_slides(project.slides, config) for project in projects]
    plans.append(plan_slides(projects[0].slides, config, named))
    assert len({tuple(one.digest for one in each) for each in plans}) == 1
    assert len({tuple(one.annotation_digest for one in each) for each in plans}) == 1
    assert all(each == plans[0] for each in plans)
    assert any("was killed" in text for text in plans[2][0].warnings)


@pytest.mark.qupath
def test_a_real_qupath(study, installation):
    engine = AutoSource(qupath=installation.installation.folder)
    with engine.open(study.project) as project, EmbeddedSource().open(study.project) as ours:
        assert project.engine == "paquo"
        assert project.problems == ()
        assert project.qupath_version == installation.version
        assert f"QuPath {installation.version} in" in project.reason
        for theirs, own in zip(project.slides, ours.slides, strict=True):
            assert theirs.read(detections=True) == own.read(detections=True)


@pytest.mark.qupath
def test_doctor_starts_a_real_qupath(installation):
    found = {
        c.name: c for c in checks(find_installations(configured=installation.installation.folder))
    }
    assert f"QuPath {installation.version} on Java" in found["QuPath's own classes"].found
    assert found["engine"].found.startswith("paquo: ")
    assert {check.state for check in found.values()} <= {"ok", "optional"}


def test_the_command_line_says_which(study, capsys):
    assert main(["inspect", str(study.project)]) == 0
    assert "engine embedded: no QuPath is found on this machine" in capsys.readouterr().out
    assert main(["inspect", str(study.project), "--json"]) == 0
    assert '"engine_reason": "no QuPath is found on this machine"' in capsys.readouterr().out
    assert main(["inspect", str(study.project), "--engine", "paquo", "--qupath", "/no"]) == 6
    assert "it contains no qupath-core jar" in capsys.readouterr().err


# --- doctor --------------------------------------------------------------------------------------


def look(candidates, answer=TOLD):
    def start(installation, *, timeout):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return {check.name: check for check in checks(candidates, start)}


def test_doctor_without_a_qupath():
    assert look([])["engine"].found == "embedded"


def test_doctor_says_what_would_make_jobs_faster(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "cpu_count", lambda: 1 + available_cores())
    program = tmp_path / ("nvidia-smi.exe" if sys.platform == "win32" else "nvidia-smi")
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = look([])
    assert found["cores"].state == "optional"
    assert found["cores"].found == f"{available_cores()} of {1 + available_cores()}"
    assert "all cores" in found["cores"].next
    assert "pip install 'qupath-bridge[cucim]'" in found["NVIDIA GPU"].next
    monkeypatch.setenv("PATH", "")
    assert "NVIDIA GPU" not in look([])


def test_doctor_says_what_folds_need(monkeypatch):
    found = look([])["folds"]
    assert (found.state, found.next) == ("ok", None)
    known = metadata.version

    def without_scipy(name):
        if name == "scipy":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", without_scipy)
    found = look([])["folds"]
    assert found.state == "optional" and found.found.endswith(", scipy not installed")
    assert "pip install 'qupath-bridge[folds]'" in found.next


def test_doctor_shows_every_qupath():
    found = look([OLD, THERE])
    assert found["QuPath (PAQUO_QUPATH_DIR)"].state == "optional"
    assert found["QuPath (PAQUO_QUPATH_DIR)"].next == OLD.problem
    assert found["QuPath (usual place)"].state == "ok"
    assert found["engine"].found.startswith("paquo: QuPath 0.7.0")
    about = found["QuPath's own classes"].found
    for text in ("QuPath 0.7.0", "Java 25 (amd64)", "JPype 1.6.0", "paquo 0.9.0", "x86_64"):
        assert text in about


def test_doctor_says_why_java_does_not_start():
    found = look([THERE], MissingDependencyError("it was killed by signal 11 (SIGSEGV)."))
    assert found["engine"].found == "embedded"
    assert "SIGSEGV" in found["engine"].next


CHILDREN = {  # what a child may do instead of answering
    "hangs": ("import time; time.sleep(600)", "did not answer within 0.5 s"),
    "is killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "ends": ("raise SystemExit('no Java here')", "no Java here"),
    "babbles": ("print('DEBUG starting' * 99)", "engine 'embedded' needs no QuPath"),
}


@pytest.mark.parametrize("kind", CHILDREN)
def test_doctor_outlives_every_child(kind):
    code, expected = CHILDREN[kind]

    def begin(found, *, timeout):
        return start(found, start_timeout=0.5 if kind == "hangs" else timeout,
                     command=(sys.executable, "-c", code))[1]  # fmt: skip

    began = time.monotonic()
    found = {check.name: check for check in checks([THERE], begin)}
    assert time.monotonic() - began < 30
    assert found["engine"].found == "embedded"
    assert expected in found["engine"].next
    assert "\n" not in found["engine"].next


def test_doctor_outlives_a_child_that_is_no_program(tmp_path):
    def begin(found, *, timeout):
        return start(found, command=(str(tmp_path / "no such program"),))[1]

    found = {check.name: check for check in checks([THERE], begin)}
    assert "could not be started" in found["engine"].next


def test_doctor_reports_whatever_breaks():
    assert look([THERE], RuntimeError("quite unexpected"))["engine"].next == "quite unexpected"


def test_doctor_knows_processors_that_differ():
    told = replace(TOLD, jvm_architecture="aarch64")
    assert "different processors" in look([THERE], told)["QuPath's own classes"].next
    assert look([THERE])["QuPath's own classes"].next is None


def test_doctor_knows_a_python_that_makes_trouble(monkeypatch):
    """Also where Java does not start: that may be the very reason."""
    store = str(Path("C:/Program Files/WindowsApps/PythonSoftwareFoundation.Python.3.12"))
    monkeypatch.setattr(sys, "base_exec_prefix", store)
    versions = {"jpype1": "1.5.1", "paquo": "0.9.0"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    check = look([THERE], MissingDependencyError("it died."))["paquo"]
    assert (check.state, check.found) == ("ok", "0.9.0 (JPype 1.5.1)")
    assert "JPype 1.5.1 is known" in check.next
    assert "Microsoft Store" in check.next


def test_doctor_without_paquo_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert "pip install paquo" in look([])["paquo"].next
    assert main(["doctor"]) == 0


def test_doctor_never_fails(capsys):
    assert main(["doctor"]) == 0
    assert "no QuPath is found" in capsys.readouterr().out
    assert main(["doctor", "--qupath", "/nowhere", "--json"]) == 0
    assert "it contains no qupath-core jar" in capsys.readouterr().out
