"""Choice of an engine: QuPath's own classes if a QuPath can be started, else our reader."""

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

from .base import Project, Source

__all__ = ["AutoSource", "EngineChoice", "choose"]


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine that is used, and why; ``installation`` is the QuPath that it uses, if any."""

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


def _paquo(installation: Installation) -> Source:
    from .paquo import PaquoSource

    return PaquoSource(installation)


def _embedded() -> Source:
    from .embedded import EmbeddedSource

    return EmbeddedSource()


class AutoSource:
    """Reads through QuPath if possible, else with the engine embedded: a run is never lost.

    If Java cannot be started, ``Project.problems`` says so. If it ends while it reads a slide,
    this slide and all later ones are read by the engine embedded, and each says so in
    ``ImageData.problems``.

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
        paquo: Callable[[Installation], Source] = _paquo,
        embedded: Callable[[], Source] = _embedded,
    ) -> None:
        self.choice = choose(
            find_installations(configured=qupath) if candidates is None else candidates
        )
        self._named = qupath is not None
        self._paquo = paquo
        self._embedded = embedded

    def open(
        self,
        location: Path | str,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path | str] = (),
    ) -> Project:
        """Open a project; the result names the engine that reads it, and why it does.

        Raises
        ------
        ProjectError
            If the project cannot be read without QuPath: then it cannot be with it either.
        """
        plain = self._embedded().open(location, slide_map=slide_map, search=search)
        installation = self.choice.installation
        if installation is None:
            # Whoever names a QuPath has to know that it is not used.
            notes = (self.choice.reason,) if self._named else ()
            return replace(plain, problems=(*plain.problems, *notes), reason=self.choice.reason)
        try:
            project = self._paquo(installation).open(location, slide_map=slide_map, search=search)
        except BridgeError as error:
            reason = f"QuPath could not be used: {error}"
            return replace(plain, problems=(*plain.problems, reason), reason=reason)
        read = _Reading()
        spares = {slide.entry_id: slide for slide in plain.slides}
        slides = tuple(
            replace(slide, _load=partial(read, slide, spares[slide.entry_id]))
            for slide in project.slides
        )
        return replace(project, slides=slides, reason=self.choice.reason)


class _Reading:
    """Reads through QuPath until its process ends, and with the engine embedded from then on.

    A Java that crashed once would crash, or time out, at every other slide too.
    """

    def __init__(self) -> None:
        self._ended: str | None = None

    def __call__(self, slide: Slide, spare: Slide, detections: bool) -> ImageData:
        from qupath_bridge.qupath.jvm.process import EngineDiedError

        if self._ended is None:
            try:
                return slide.read(detections=detections)
            except (EngineDiedError, MissingDependencyError) as error:
                self._ended = str(error)
        image = spare.read(detections=detections)
        problem = f"Read by the engine embedded, because QuPath's process ended: {self._ended}"
        return replace(image, problems=(*image.problems, problem))
