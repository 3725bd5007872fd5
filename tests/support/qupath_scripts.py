"""Runs the scripts for QuPath as ``QuPath script`` does, with the Python of the tests."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import qupath_bridge as qb
from qupath_bridge.model import ObjectType
from qupath_bridge.outputs.index import list_partitions, read_partition
from qupath_bridge.stores.local import LocalStore

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "groovy_scripts"
IMPORT, EXPORT = SCRIPTS / "import_provenance.groovy", SCRIPTS / "export_patches.groovy"
REMOVE, COLLECT = SCRIPTS / "remove_patches.groovy", SCRIPTS / "collect_corrections.groovy"
CHECK = SCRIPTS / "check_setup.groovy"
IMAGE = "slide 1.tiff"


@dataclass(frozen=True)
class Output:
    """What QuPath printed on stdout and stderr."""

    status: int
    out: str
    err: str

    @property
    def last_line(self):
        return self.err.strip().splitlines()[-1]


class QuPath:
    """A real QuPath, run without its window and with preferences of its own."""

    def __init__(self, found, folder):
        self.found = found
        self.folder = folder
        # Scripts take PYTHONPATH away: this Python is the one of the tests all the same.
        self.python = folder / "bin, ä" / "python"
        self.python.parent.mkdir()
        write_program(
            self.python, f"import os, sys\nos.environ['PYTHONPATH'] = {str(ROOT)!r}\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n",
        )  # fmt: skip

    @property
    def keeps_metadata(self):
        """Whether this QuPath keeps metadata of tiles, as 0.6 and newer."""
        return tuple(map(int, self.found.version.split(".")[:2])) >= (0, 6)

    def run(self, script, project, *arguments, image=IMAGE, save=False, environment=None):
        command = [
            str(self.found.java),
            "-Xmx2g",
            # A short run of Java starts twice as fast so, and again with an archive of its classes.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-XX:+IgnoreUnrecognizedVMOptions",
            "-XX:+AutoCreateSharedArchive",
            f"-XX:SharedArchiveFile={self.folder / 'classes.jsa'}",
            f"-Djava.util.prefs.userRoot={self.folder}",
            "-cp",
            str(self.found.jars / "*"),
            "qupath.QuPath",
            "script",
            *([f"--project={project}"] if project else []),
            *([f"--image={image}"] if image else []),
            *(["--save"] if save else []),
            *(f"--args={argument}" for argument in arguments),
            str(script),
        ]
        own = {"QUPATH_BRIDGE_PYTHON": str(self.python), "QUPATH_BRIDGE_HOME": str(self.folder)}
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=800, check=False,
            env={**os.environ, **own, **(environment or {})},
        )  # fmt: skip
        return Output(done.returncode, done.stdout, done.stderr)

    def script(self, *arguments, **more):
        """Run a script that ends well; return what it printed."""
        done = self.run(*arguments, **more)
        assert done.status == 0, done.out + done.err
        return done.out

    def written(self, name, text):
        script = self.folder / f"{name}.groovy"
        script.write_text(text, encoding="utf-8")
        return script


def write_program(path, text):
    """Write a Python program that can be started by its path."""
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)


def result(study, script, entry_id="1"):
    """What a script says came of an image."""
    folder = study.project.parent / "qupath_bridge" / "results" / script
    return json.loads((folder / f"{entry_id}.json").read_text(encoding="utf-8"))


def results(study, script):
    folder = study.project.parent / "qupath_bridge" / "results" / script
    return {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}


def rows(out):
    store = LocalStore(out)
    return [
        row for name in list_partitions(store) for row in read_partition(store, name).to_pylist()
    ]


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def objects(study, entry_id="1"):
    """Everything of an image but our tiles, and our tiles by id.

    QuPath wrote them; reading them with its own classes would start it once more each time.
    """
    with qb.open_project(study.project, engine="embedded") as project:
        read = project[entry_id].read(detections=True).objects
    tiles = {o.id: o for o in read if o.object_type is ObjectType.TILE}
    return [o for o in read if o.id not in tiles], tiles
