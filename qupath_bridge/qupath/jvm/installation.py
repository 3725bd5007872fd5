"""Finds the QuPath installations of this machine, and says which of them can be used."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qupath_bridge.errors import MissingDependencyError

__all__ = [
    "TESTED",
    "VARIABLES",
    "Candidate",
    "Installation",
    "architecture",
    "find_installations",
    "find_qupath",
    "first_usable",
    "python_architecture",
    "same_architecture",
]

TESTED = ("0.4", "0.5", "0.6", "0.7")
"""Versions of QuPath with which the engine paquo was really run."""

CONFIGURED = "configuration"
"""The source of a candidate that the user named for this very run."""

VARIABLES = ("QUPATH_BRIDGE_QUPATH", "PAQUO_QUPATH_DIR")
"""Environment variables that may name the folder of QuPath, or its launcher."""

_PLACES = {
    "Linux": ("/opt/QuPath*", "/usr/local/QuPath*", "~/QuPath*", "~/.local/share/QuPath*"),
    "Darwin": ("/Applications/QuPath*.app", "~/Applications/QuPath*.app"),
    "Windows": ("~/AppData/Local/QuPath*", "C:/Program Files/QuPath*"),
}
_JARS = ("lib/app", "app", "Contents/app")
_RUNTIMES = ("lib/runtime", "runtime", "Contents/runtime/Contents/Home")
_LIBRARIES = ("lib/server/libjvm.so", "bin/server/jvm.dll", "lib/libjli.dylib")
_LAUNCHERS = ("bin/QuPath", "QuPath*.exe", "Contents/MacOS/QuPath*")
_CORE = re.compile(r"qupath-core-(\d+\.\d+[\w.-]*)\.jar")
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(.*)")
_HEADER = 4096  # bytes of a library that tell its architecture
_OLDEST = (0, 2)  # of which paquo 0.9 says that it is supported; it warns of older ones

_ELF = {0x3E: "x86_64", 0xB7: "aarch64", 0x03: "x86"}
_MACHO = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
_PE = {0x8664: "x86_64", 0xAA64: "aarch64", 0x14C: "x86"}
_SAME = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "x86", "i686": "x86"}


@dataclass(frozen=True, slots=True)
class Installation:
    """A QuPath on this machine.

    Attributes
    ----------
    folder : Path
    jars : Path
        The folder of its jar files.
    library : Path or None
        Its Java, as the library that is loaded; None where it comes without.
    launcher : Path or None
        The program that users start.
    version : str or None
        As its jar is named.
    """

    folder: Path
    jars: Path
    library: Path | None = None
    launcher: Path | None = None
    version: str | None = None

    @property
    def architecture(self) -> str | None:
        """For which processors its Java was built: ``x86_64``, ``aarch64``, …; None if unknown."""
        return None if self.library is None else _architecture_of(self.library)

    def java(self, environ: Mapping[str, str] | None = None) -> Path:
        """Return a ``java`` program that can run it: its own, or another one of the machine.

        Raises
        ------
        MissingDependencyError
            If there is none.
        """
        environ = os.environ if environ is None else environ
        program = "java.exe" if sys.platform == "win32" else "java"
        homes = [self.folder / place for place in _RUNTIMES]
        if environ.get("JAVA_HOME"):
            homes.append(Path(environ["JAVA_HOME"]))
        for home in homes:  # QuPath's own runtime usually comes without the program
            if (home / "bin" / program).exists():
                return home / "bin" / program
        on_path = shutil.which(program, path=environ.get("PATH"))
        if on_path is None:
            raise MissingDependencyError(
                f"{self.folder} has no java program, and there is none on the path.",
                hint="Install a Java of the version that this QuPath needs.",
            )
        return Path(on_path)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where a QuPath was looked for.

    Attributes
    ----------
    source : str
        Who named it: :data:`CONFIGURED`, a variable, or ``usual place``.
    path : Path
        As it was named.
    installation : Installation or None
        What is there.
    problem : str or None
        Why it cannot be used, and what to do; None where nothing is known against it.
    """

    source: str
    path: Path
    installation: Installation | None = None
    problem: str | None = None


def find_installations(
    environ: Mapping[str, str] | None = None,
    places: Sequence[str] | None = None,
    configured: Path | str | None = None,
) -> list[Candidate]:
    """Return every place that may hold a QuPath, each once, the one to ask first at the top.

    Parameters
    ----------
    environ : mapping of str to str, optional
        The environment; this process's when not given. The variables of :data:`VARIABLES` count.
    places : sequence of str, optional
        Patterns of folders to look at; the platform's usual ones when not given. Of these the
        newest version comes first.
    configured : path, optional
        The folder that the configuration names; it comes before all others.
    """
    environ = os.environ if environ is None else environ
    named = [(CONFIGURED, str(configured))] if configured else []
    named += [(name, environ[name]) for name in VARIABLES if environ.get(name)]
    found = [_candidate(source, Path(path)) for source, path in named]
    usual = [_candidate("usual place", path) for path in _usual(places)]
    return _each_once([*found, *sorted(usual, key=_newest, reverse=True)])


def first_usable(candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the candidate to use; None where there is none.

    What the configuration names counts, or nothing does: another QuPath in its place would be a
    surprise.
    """
    for candidate in candidates:
        if candidate.installation is not None and candidate.problem is None:
            return candidate
        if candidate.source == CONFIGURED:
            return None
    return None


def find_qupath(
    environ: Mapping[str, str] | None = None,
    places: Sequence[str] | None = None,
    configured: Path | str | None = None,
) -> Installation:
    """Return the first QuPath that can be used, in the order of :func:`find_installations`.

    Raises
    ------
    MissingDependencyError
        If there is none, or the one that the configuration names cannot be used; the message says
        of every one why not.
    """
    found = find_installations(environ, places, configured)
    candidate = first_usable(found)
    if candidate is not None and candidate.installation is not None:
        return candidate.installation
    if found:
        asked = found[:1] if configured else found
        raise MissingDependencyError("\n".join(f"{each.source}: {each.problem}" for each in asked))
    raise MissingDependencyError(
        "no QuPath is found on this machine.",
        hint=f"{VARIABLES[0]} can name the folder of one. The engine embedded needs none.",
    )


def architecture(header: bytes) -> str | None:
    """Return for which processors a program or library was built, from its first bytes.

    Knows ELF (Linux), Mach-O (macOS) and PE (Windows); None for everything else.
    """
    if header[:4] == b"\x7fELF" and len(header) >= 20:
        order = "little" if header[5] == 1 else "big"
        return _ELF.get(int.from_bytes(header[18:20], order))  # type: ignore[arg-type]
    if header[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"):
        return _MACHO.get(int.from_bytes(header[4:8], "little"))
    if header[:4] == b"\xca\xfe\xba\xbe" and int.from_bytes(header[4:8], "big") < 20:
        return "universal"
    if header[:2] == b"MZ" and len(header) >= 64:
        at = int.from_bytes(header[60:64], "little")
        if header[at : at + 4] == b"PE\0\0":
            return _PE.get(int.from_bytes(header[at + 4 : at + 6], "little"))
    return None


def same_architecture(one: str, other: str) -> bool:
    """Return whether two names mean the same processors.

    >>> same_architecture("amd64", "x86_64")
    True
    """
    one, other = one.lower(), other.lower()
    return "universal" in (one, other) or _SAME.get(one, one) == _SAME.get(other, other)


def python_architecture() -> str:
    """Return for which processors this Python was built, which need not be the machine's own."""
    built_for = _architecture_of(Path(sys.executable).resolve())
    return platform.machine() if built_for in (None, "universal") else built_for


def _architecture_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return architecture(file.read(_HEADER))
    except OSError:
        return None


def _each_once(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Leave out what was named before: a variable often names one of the usual places."""
    found: dict[Path, Candidate] = {}
    for each in candidates:
        folder = each.path if each.installation is None else each.installation.folder
        found.setdefault(folder.resolve(), each)
    return list(found.values())


def _usual(places: Sequence[str] | None) -> Iterator[Path]:
    for pattern in _PLACES.get(platform.system(), ()) if places is None else places:
        path = Path(pattern).expanduser()
        yield from (each for each in path.parent.glob(path.name) if _jars(each))


def _newest(candidate: Candidate) -> tuple[tuple[int, ...], bool, str]:
    """Order by version: 0.10 is newer than 0.9, and a release than its candidates."""
    version = candidate.installation.version if candidate.installation else None
    match = _VERSION.fullmatch(version or "")
    if match is None:
        return (), False, candidate.path.name
    return tuple(int(number or 0) for number in match.groups()[:3]), not match[4], match[4]


def _jars(folder: Path) -> Path | None:
    if folder.name == "Contents":  # of a macOS bundle, which is found as a whole
        return None
    for place in _JARS:
        if any((folder / place).glob("qupath-core-[0-9]*.jar")):
            return folder / place
    return None


def _candidate(source: str, named: Path) -> Candidate:
    """Look at a folder, or around the launcher in it."""
    place = named.expanduser().absolute()
    try:
        for folder in (place, *place.parents):
            jars = _jars(folder)
            if jars is not None:
                installation = _installation(folder, jars)
                return Candidate(source, named, installation, _problem(installation))
    except OSError as error:
        problem = f"{named} cannot be looked at: {error.strerror}. Name another folder."
        return Candidate(source, named, problem=problem)
    return Candidate(
        source,
        named,
        problem=f"{named} is not in a QuPath installation: no qupath-core jar is near it. Name "
        "the folder that has lib/app (Linux), app (Windows) or Contents (macOS).",
    )


def _installation(folder: Path, jars: Path) -> Installation:
    names = (_CORE.fullmatch(path.name) for path in sorted(jars.iterdir()))
    launchers = (path for place in _LAUNCHERS for path in sorted(folder.glob(place)))
    libraries = (folder / home / name for home in _RUNTIMES for name in _LIBRARIES)
    return Installation(
        folder=folder,
        jars=jars,
        library=next((path for path in libraries if path.is_file()), None),
        launcher=next(launchers, None),
        version=next((match[1] for match in names if match), None),
    )


def _problem(installation: Installation) -> str | None:
    """Return why the engine paquo cannot use an installation; None if nothing is known."""
    version, built_for, python = (
        installation.version,
        installation.architecture,
        python_architecture(),
    )
    if not _tested(version):
        return (
            f"QuPath {version or 'of an unknown version'} {_untested(version)}. Install QuPath "
            f"{_listed('or')} beside it, or use `--engine embedded`, which needs no QuPath "
            "and reads projects of 0.2.3 to 0.7.0."
        )
    if installation.library is None:
        return (
            f"QuPath {version} in {installation.folder} comes without a Java, which paquo needs. "
            "Install the package of QuPath that has one."
        )
    if built_for is not None and not same_architecture(built_for, python):
        return (
            f"QuPath {version} in {installation.folder} is built for {built_for}, this Python "
            f"for {python}. Install the build of QuPath, or of Python, that matches."
        )
    return None


def _tested(version: str | None) -> bool:
    """Return whether a version is a release of a tested series; candidates of one are not."""
    match = _VERSION.fullmatch(version or "")
    return match is not None and not match[4] and f"{match[1]}.{match[2]}" in TESTED


def _listed(word: str) -> str:
    return f"{', '.join(TESTED[:-1])} {word} {TESTED[-1]}"


def _untested(version: str | None) -> str:
    match = _VERSION.fullmatch(version or "")
    if match and (int(match[1]), int(match[2])) < _OLDEST:
        return "was not tested with the engine paquo, and is older than what paquo supports"
    return f"was not tested with the engine paquo, only {_listed('and')} were"
