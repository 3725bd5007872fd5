"""QuPath's real window on a virtual display, driven from inside by Groovy."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from xml.sax.saxutils import quoteattr

from qupath_bridge.roundtrip.qupath_preferences import NODE, _folder_name

DRIVE = Path(__file__).parents[1] / "extension" / "drive.groovy"
START = 240  # seconds until the window stands
QUIET = {  # no questions at the start
    "showStartupMessage": "false",
    "showExtensionManagerOnStartup": "false",
    "showLicenseMessageOnStartup": "false",
    "autoUpdateCheck": "NONE",
}


class WindowError(RuntimeError):
    """What went wrong inside QuPath."""


class QuPathWindow:
    """A QuPath that stands on a display of its own.

    Parameters
    ----------
    installation : Installation
    jar : Path
        The extension.
    project : Path
        Project file that is opened.
    image : str
        Name of the image that is opened.
    folder : Path
        New folder for its user directory, preferences and files.
    environ : mapping of str to str
        Variables besides this process's.
    """

    def __init__(self, installation, jar, project, image, folder, environ):
        self.folder = folder
        self._numbers = itertools.count(1)
        self._drive = folder / "drive"
        self._drive.mkdir(parents=True)
        self._processes = []
        try:
            self.display = self._start_display()
            self._start(installation, jar, project, image, environ)
        except BaseException:
            self.close()
            raise

    def run(self, script, seconds=280):
        """Run Groovy in QuPath, and return what its last line gives, as JSON has it."""
        name = f"{next(self._numbers):04}.groovy"
        part = self._drive / f"{name}.new"
        part.write_text(script, encoding="utf-8")
        part.rename(self._drive / name)
        answer = self._drive / f"{name}.json"
        self._wait(answer, seconds, name)
        result = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in result:
            raise WindowError(result["error"])
        return result.get("value")

    def shot(self, name):
        """Take a picture of the whole display, where a program for it is there."""
        if shutil.which("import"):
            time.sleep(0.5)
            target = str(self.folder / f"{name}.png")
            command = ["import", "-display", self.display, "-window", "root", target]
            subprocess.run(command, check=False)

    @property
    def log(self):
        """What QuPath wrote."""
        return (self.folder / "qupath.log").read_text(encoding="utf-8", errors="replace")

    def close(self):
        for process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def _popen(self, command, **rest):
        process = subprocess.Popen(command, start_new_session=True, **rest)
        self._processes.append(process)
        return process

    def _start_display(self):
        read, write = os.pipe()
        screen = ["-screen", "0", "1400x900x24", "-nolisten", "tcp"]
        with (self.folder / "display.log").open("w") as log:
            self._popen(
                ["Xvfb", "-displayfd", str(write), *screen],
                pass_fds=[write], stdout=log, stderr=log,
            )  # fmt: skip
            os.close(write)
            with os.fdopen(read) as numbers:
                display = f":{numbers.readline().strip()}"
            if shutil.which("openbox"):
                environ = {**os.environ, "DISPLAY": display}
                self._popen(["openbox"], env=environ, stdout=log, stderr=log)
        return display

    def _start(self, installation, jar, project, image, environ):
        home, user = self.folder / "home", self.folder / "home" / "QuPath"
        (user / "extensions").mkdir(parents=True)
        shutil.copy(jar, user / "extensions")
        version = ".".join(installation.version.split(".")[:2])
        place = home / ".java" / ".userPrefs" / _folder_name(NODE) / _folder_name(version)
        place.mkdir(parents=True)
        entries = "".join(
            f"<entry key={quoteattr(key)} value={quoteattr(value)}/>"
            for key, value in {**QUIET, "userPath": str(user)}.items()
        )
        (place / "prefs.xml").write_text(
            '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
            '<!DOCTYPE map SYSTEM "http://java.sun.com/dtd/preferences.dtd">\n'
            f'<map MAP_XML_VERSION="1.0">{entries}</map>\n',
            encoding="utf-8",
        )
        options = [
            f"-Djava.util.prefs.userRoot={home}",
            f"-Duser.home={home}",
            f"-Dqupath.startup.script={DRIVE}",
            f"-Ddrive.folder={self._drive}",
            "-Dprism.order=sw",
        ]
        command = [str(installation.launcher), "--quiet", "-p", str(project)]
        variables = {
            **os.environ,
            "DISPLAY": self.display,
            "JAVA_TOOL_OPTIONS": " ".join(f'"{each}"' for each in options),
            "LC_ALL": "C.UTF-8",
            **environ,
        }
        with (self.folder / "qupath.log").open("w") as log:
            self._popen(command, env=variables, stdout=log, stderr=log)
        self._wait(self._drive / "ready", START, "the start")
        self.run(
            f"""
            until({START}) {{
                // QuPath 0.5 asks, though it finds the image beside the project.
                def dialog = stage('Update URIs')?.scene?.root
                dialog?.lookupAll('.button')?.find {{ it.text == 'Apply changes' }}?.fire()
                gui().project
            }}
            def entry = gui().project.imageList.find {{ it.imageName == {json.dumps(image)} }}
            fx {{ gui().openImageEntry(entry) }}
            until({START}) {{ gui().imageData != null }}"""
        )

    def _wait(self, file, seconds, what):
        end = time.monotonic() + seconds
        while not file.exists():
            if self._processes[-1].poll() is not None or time.monotonic() > end:
                raise WindowError(f"no end of {what}; QuPath's log ends so:\n{self.log[-3000:]}")
            time.sleep(0.05)
