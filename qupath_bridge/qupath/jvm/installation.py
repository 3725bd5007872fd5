"""Finds the QuPath installations of this machine, and decides which of them can be used."""

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
"""Versions of QuPath with which the engine paquo was tested."""

CONFIGURED = "configuration"
"""The source of a candidate that the user named for this run."""

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
_HEADER = 4096  # bytes at the beginning of a library, which hold its architecture
_OLDEST = (0, 2)  # oldest version that paquo 0.9 supports; it warns of older ones

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
        Its Java, as the library that is loaded; None if it comes without Java.
    launcher : Path or None
        The program that users start.
    version : str or None
        As in the name of its jar.
    """

    folder: Path
    jars: Path
    library: Path | None = None
    launcher: Path | None = None
    version: str | None = None

    @property
    def architecture(self) -> str | None:
        """Architecture of its Java: ``x86_64``, ``aarch64``, …; None if unknown."""
        return None if self.library is None else _architecture_of(self.library)

    def java(self, environ: Mapping[str, str] | None = None) -> Path:
        """Return a ``java`` program that can run it: its own, or another one on the machine.

        Raises
        ------
        MissingDependencyError
            If no such program is found.
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
                f"No java program found in {self.folder} or on the PATH.",
                hint="Install a Java of the version that this QuPath needs.",
            )
        return Path(on_path)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where QuPath was searched for.

    Attributes
    ----------
    source : str
        Where the path comes from: :data:`CONFIGURED`, a variable, or ``usual place``.
    path : Path
        As it was given.
    installation : Installation or None
        The installation found there; None if there is no QuPath.
    problem : str or None
        Why it cannot be used, and what to do; None if no problem is known.
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
    """Return every place that may hold a QuPath, each once, the preferred one first.

    Parameters
    ----------
    environ : mapping of str to str, optional
        The environment; this process's when not given. The variables of :data:`VARIABLES` count.
    places : sequence of str, optional
        Patterns of folders to search; the platform's usual ones when not given. Of these the
        newest version comes first.
    configured : path, optional
        The folder that the configuration names; it comes before all others.
    """
    environ = os.environ if environ is None else environ
    named = [(CONFIGURED, str(configured))] if configured else []
    named += [(name, environ[name]) for name in VARIABLES if environ.get(name)]
    found = [_check_place(source, Path(path)) for source, path in named]
    usual = [_check_place("usual place", path) for path in _find_usual_folders(places)]
    return _without_repeats([*found, *sorted(usual, key=_version_key, reverse=True)])


def first_usable(candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the candidate to use; None if no candidate can be used.

    A QuPath that the configuration names is never replaced by another one.
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
        If none can be used, or the one that the configuration names cannot be used; the message
        gives the reason for each.
    """
    found = find_installations(environ, places, configured)
    candidate = first_usable(found)
    if candidate is not None and candidate.installation is not None:
        return candidate.installation
    if found:
        refused = found[:1] if configured else found
        problems = "\n".join(f"{each.source}: {each.problem}" for each in refused)
        raise MissingDependencyError(problems)
    raise MissingDependencyError(
        "no QuPath is found on this machine.",
        hint=f"{VARIABLES[0]} can name the folder of one. The engine embedded needs none.",
    )


def architecture(header: bytes) -> str | None:
    """Return the architecture of a program or library, from its first bytes.

    Reads ELF (Linux), Mach-O (macOS) and PE (Windows); None for all other formats.
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
    """Return whether two names mean the same architecture.

    >>> same_architecture("amd64", "x86_64")
    True
    """
    one, other = one.lower(), other.lower()
    return "universal" in (one, other) or _SAME.get(one, one) == _SAME.get(other, other)


def python_architecture() -> str:
    """Return the architecture of this Python, which can differ from the machine's own."""
    built_for = _architecture_of(Path(sys.executable).resolve())
    return platform.machine() if built_for in (None, "universal") else built_for


def _architecture_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return architecture(file.read(_HEADER))
    except OSError:
        return None


def _without_repeats(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Leave out repeated folders: a variable often names one of the usual places."""
    found: dict[Path, Candidate] = {}
    for each in candidates:
        folder = each.path if each.installation is None else each.installation.folder
        found.setdefault(folder.resolve(), each)
    return list(found.values())


def _find_usual_folders(places: Sequence[str] | None) -> Iterator[Path]:
    for pattern in _PLACES.get(platform.system(), ()) if places is None else places:
        path = Path(pattern).expanduser()
        yield from (each for each in path.parent.glob(path.name) if _find_jars(each))


def _version_key(candidate: Candidate) -> tuple[tuple[int, ...], bool, str]:
    """Return a sort key: 0.10 is newer than 0.9, and a release is newer than its candidates."""
    version = candidate.installation.version if candidate.installation else None
    match = _VERSION.fullmatch(version or "")
    if match is None:
        return (), False, candidate.path.name
    return tuple(int(number or 0) for number in match.groups()[:3]), not match[4], match[4]


def _find_jars(folder: Path) -> Path | None:
    if folder.name == "Contents":  # of a macOS bundle, which is found as a whole
        return None
    for place in _JARS:
        if any((folder / place).glob("qupath-core-[0-9]*.jar")):
            return folder / place
    return None


def _check_place(source: str, named: Path) -> Candidate:
    """Check a folder and the folders above it, so that a launcher can be named too."""
    place = named.expanduser().absolute()
    try:
        for folder in (place, *place.parents):
            jars = _find_jars(folder)
            if jars is not None:
                installation = _read_installation(folder, jars)
                return Candidate(source, named, installation, _find_problem(installation))
    except OSError as error:
        problem = f"{named} cannot be read: {error.strerror}. Name another folder."
        return Candidate(source, named, problem=problem)
    return Candidate(
        source,
        named,
        problem=f"No QuPath found in {named}: it contains no qupath-core jar. Name "
        "the folder that has lib/app (Linux), app (Windows) or Contents (macOS).",
    )


def _read_installation(folder: Path, jars: Path) -> Installation:
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


def _find_problem(installation: Installation) -> str | None:
    """Return why the engine paquo cannot use an installation; None if no problem is known."""
    version, built_for, python = (
        installation.version,
        installation.architecture,
        python_architecture(),
    )
    if not _is_tested(version):
        return (
            f"QuPath {version or 'of an unknown version'} {_explain_untested(version)}. Install "
            f"QuPath {_list_tested('or')} beside it, or use the engine embedded, which needs no "
            "QuPath and reads projects of 0.2.3 to 0.7.0."
        )
    if installation.library is None:
        return (
            f"QuPath {version} in {installation.folder} comes without Java, which paquo needs. "
            "Install the package of QuPath that includes Java."
        )
    if built_for is not None and not same_architecture(built_for, python):
        return (
            f"QuPath {version} in {installation.folder} is built for {built_for}, this Python "
            f"for {python}. Install the build of QuPath, or of Python, that matches."
        )
    return None


def _is_tested(version: str | None) -> bool:
    """Return whether a version is a release of a tested series; release candidates are not."""
    match = _VERSION.fullmatch(version or "")
    return match is not None and not match[4] and f"{match[1]}.{match[2]}" in TESTED


def _list_tested(word: str) -> str:
    return f"{', '.join(TESTED[:-1])} {word} {TESTED[-1]}"


def _explain_untested(version: str | None) -> str:
    match = _VERSION.fullmatch(version or "")
    if match and (int(match[1]), int(match[2])) < _OLDEST:
        return "was not tested with the engine paquo, and is older than what paquo supports"
    return f"was not tested with the engine paquo, only {_list_tested('and')} were"
