"""The choice of an engine: QuPath's own classes where a QuPath can be started, else our reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from qupath_bridge.errors import BridgeError, MissingDependencyError
from qupath_bridge.model import ImageData, Slide
from qupath_bridge.qupath.jvm.installation import (
    Candidate,
    Installation,
    find_installations,
    first_usable,
)

from .base import Engine, Project

__all__ = ["AutoEngine", "EngineChoice", "choose"]


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine is used, and why; ``installation`` is the QuPath that it uses, if any."""

    name: str
    reason: str
    installation: Installation | None = None


def choose(candidates: Sequence[Candidate] | None = None) -> EngineChoice:
    """Return the engine that ``auto`` stands for, as far as can be told without starting Java.

    Parameters
    ----------
    candidates : sequence of Candidate, optional
        Installations; those of this machine when not given.
    """
    found = find_installations() if candidates is None else candidates
    usable = first_usable(found)
    if usable is None or usable.installation is None:
        problem = next((each.problem for each in found if each.problem is not None), None)
        return EngineChoice("embedded", problem or "no QuPath is found on this machine")
    reason = f"QuPath {usable.installation.version} in {usable.installation.folder}"
    passed = found[: list(found).index(usable)]
    notes = "".join(f"; not the one of {each.source}: {each.problem}" for each in passed)
    return EngineChoice("paquo", f"{reason} ({usable.source}){notes}", usable.installation)


def _paquo(installation: Installation) -> Engine:
    from .paquo import PaquoEngine

    return PaquoEngine(installation)


def _embedded() -> Engine:
    from .embedded import EmbeddedEngine

    return EmbeddedEngine()


class AutoEngine:
    """Reads through QuPath where it can, and by itself where that fails: a run is never lost.

    Java that cannot be started is one line in ``Project.problems``. When it ends over an image,
    that image and those that are read after it are read by the engine embedded, and each says so
    in ``ImageData.problems``.

    Parameters
    ----------
    qupath : path, optional
        The folder of the one to use.
    candidates : sequence of Candidate, optional
        Installations; those of this machine when not given.
    paquo, embedded : callable, optional
        Make the engines; others in tests.
    """

    name = "auto"

    def __init__(
        self,
        *,
        qupath: Path | str | None = None,
        candidates: Sequence[Candidate] | None = None,
        paquo: Callable[[Installation], Engine] = _paquo,
        embedded: Callable[[], Engine] = _embedded,
    ) -> None:
        self.choice = choose(
            find_installations(configured=qupath) if candidates is None else candidates
        )
        self._named = qupath is not None
        self._paquo = paquo
        self._embedded = embedded

    def open(
        self,
        path: Path,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path] = (),
    ) -> Project:
        """Open a project; the result names the engine that reads it, and why it does.

        Raises
        ------
        ProjectError
            If the project cannot be read without QuPath: then it cannot be with it either.
        """
        ours = self._embedded().open(path, slide_map=slide_map, search=search)
        installation = self.choice.installation
        if installation is None:
            # Whoever names a QuPath has to hear that it is not used.
            told = (self.choice.reason,) if self._named else ()
            return replace(ours, problems=(*ours.problems, *told), reason=self.choice.reason)
        try:
            theirs = self._paquo(installation).open(path, slide_map=slide_map, search=search)
        except BridgeError as error:
            reason = f"QuPath could not be used: {error}"
            return replace(ours, problems=(*ours.problems, reason), reason=reason)
        read = _Reading()
        slides = tuple(
            replace(slide, load=partial(read, slide, ours.slide(slide.entry_id)))
            for slide in theirs.slides
        )
        return replace(theirs, slides=slides, reason=self.choice.reason)


class _Reading:
    """Reads through QuPath until it ends over an image, and by ourselves from then on.

    A Java that crashed once would crash, or be waited for, at every other image too.
    """

    def __init__(self) -> None:
        self._ended: str | None = None

    def __call__(self, slide: Slide, spare: Slide, detections: bool) -> ImageData:
        from qupath_bridge.qupath.jvm.process import EngineDiedError

        if self._ended is None:
            try:
                return slide.load(detections)
            except (EngineDiedError, MissingDependencyError) as error:
                self._ended = str(error)
        image = spare.load(detections)
        problem = f"It was read by the engine embedded, for QuPath's classes ended: {self._ended}"
        return replace(image, problems=(*image.problems, problem))
