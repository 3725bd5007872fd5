"""The contract of a runner: every promise of :class:`qupath_bridge.pipeline.runner.Runner`."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from qupath_bridge.config import ExportConfig, RunOptions
from qupath_bridge.errors import InterruptedRunError, OutputError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import SourceRef
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.pipeline.runner import Runner
from qupath_bridge.pipeline.task import SlideTask
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image, write_slide

__all__ = ["RunnerContract"]

SLIDES = 5
SIZE = 32
SQUARE = "POLYGON ((0 0, 128 0, 128 96, 0 96, 0 0))"


class RunnerContract(ABC):
    """Subclass it, and say how the runner is made."""

    @abstractmethod
    def make(self) -> Runner:
        """Return a new runner."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        """Write a project of five small slides, all of one class."""
        slides = [
            write_slide(tmp_path / f"{n}.tiff", marker_image(128, 96 + n), mpp=0.5, tile=16)
            for n in range(SLIDES)
        ]
        images = [Image(slide, [Region("Tumor", SQUARE)]) for slide in slides]
        return build_project(tmp_path / "project", images)

    def tasks(self, project: Path, out: Path) -> Iterator[SlideTask]:
        """Yield a task for each slide."""
        for number in range(1, SLIDES + 1):
            yield SlideTask(
                source=SourceRef(str(project), "embedded"),
                entry_id=str(number),
                slide_id=f"{number}_slide",
                config=ExportConfig(size=SIZE),
                options=RunOptions(),
                labels=FrozenDict({"Tumor": "Tumor"}),
                output=str(out),
                run_id="01J00000000000000000000000",
            )

    def test_each_task_has_a_result(self, project: Path, tmp_path: Path) -> None:
        """And its patches are committed."""
        results = list(self.make().run(self.tasks(project, tmp_path / "out")))
        assert sorted(result.entry_id for result in results) == ["1", "2", "3", "4", "5"]
        assert all(result.failure is None for result in results)
        assert [result.written for result in results] == [12] * SLIDES
        output = open_output(tmp_path / "out", "folder")
        assert len(output.slides()) == SLIDES

    def test_no_tasks_have_no_results(self) -> None:
        """An empty run is not an error."""
        assert list(self.make().run([])) == []

    def test_a_task_that_is_done_is_not_done_again(self, project: Path, tmp_path: Path) -> None:
        """Carrying out tasks twice changes nothing."""
        for reused in (False, True):
            results = list(self.make().run(self.tasks(project, tmp_path / "out")))
            assert [result.reused for result in results] == [reused] * SLIDES

    def test_a_slide_that_fails_stops_no_other(self, project: Path, tmp_path: Path) -> None:
        """Its result says why."""
        (tmp_path / "2.tiff").write_bytes(b"no slide")
        results = list(self.make().run(self.tasks(project, tmp_path / "out")))
        failed = [result for result in results if result.failure]
        assert [result.entry_id for result in failed] == ["3"]
        assert failed[0].failure is not None
        assert "2.tiff" in failed[0].failure.error
        assert sum(result.written for result in results) == 12 * (SLIDES - 1)

    def test_progress_counts_the_patches_of_each_slide(self, project: Path, tmp_path: Path) -> None:
        """The last report of a slide says that all are done."""
        last: dict[str, tuple[int, int]] = {}

        def listen(slide_id: str, done: int, planned: int) -> None:
            last[slide_id] = (done, planned)

        results = list(self.make().run(self.tasks(project, tmp_path / "out"), progress=listen))
        assert last == {result.slide_id: (12, 12) for result in results}

    def test_cancel_stops_the_run(self, project: Path, tmp_path: Path) -> None:
        """What is committed stays; a new run finishes the rest."""
        token = CancelToken()
        token.cancel()
        with pytest.raises(InterruptedRunError):
            list(self.make().run(self.tasks(project, tmp_path / "out"), cancel=token))
        assert len(open_output(tmp_path / "out", "folder").slides()) < SLIDES
        assert len(list(self.make().run(self.tasks(project, tmp_path / "out")))) == SLIDES

    def test_an_output_that_cannot_be_written_ends_the_run(
        self, project: Path, tmp_path: Path
    ) -> None:
        """No other slide could be written either."""
        (tmp_path / "out").write_text("in the way")
        with pytest.raises(OutputError):
            list(self.make().run(self.tasks(project, tmp_path / "out")))

    def test_tasks_are_taken_when_there_is_room(self, project: Path, tmp_path: Path) -> None:
        """A run of very many slides never holds them all."""
        taken = 0

        def endless() -> Iterator[SlideTask]:
            nonlocal taken
            first = next(self.tasks(project, tmp_path / "out"))
            while True:
                taken += 1
                yield dataclasses.replace(first, slide_id=f"{taken}_slide")

        results = self.make().run(endless())
        next(results)
        close = getattr(results, "close", None)
        if close is not None:
            close()
        assert taken <= 64
