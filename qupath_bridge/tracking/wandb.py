"""Weights & Biases: a run as an artifact, its features as artifacts beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qupath_bridge.errors import MissingDependencyError, OutputError

from .base import TrackedDataset

__all__ = ["WandbTracker"]

PROJECT = "qupath-bridge"
"""Name of the project if ``WANDB_PROJECT`` does not give one."""


class WandbTracker:
    """Sends datasets to Weights & Biases, or writes what can be sent later.

    Its own settings decide where to: ``WANDB_API_KEY``, ``WANDB_ENTITY``, ``WANDB_PROJECT``,
    ``WANDB_MODE=offline``. Nothing about the machine, its code and the command is sent.

    Parameters
    ----------
    project : str, optional
        Wins over ``WANDB_PROJECT``.

    Raises
    ------
    MissingDependencyError
        If wandb is not installed.
    """

    def __init__(self, project: str | None = None) -> None:
        if find_spec("wandb") is None:
            raise MissingDependencyError(
                "The tracker 'wandb' needs wandb, which is not installed.",
                hint="pip install 'qupath-bridge[wandb]'.",
            )
        self.project = project or os.environ.get("WANDB_PROJECT") or PROJECT

    def send(self, dataset: TrackedDataset) -> str:
        """Record a dataset and its features; see :class:`~.base.Tracker`."""
        import wandb

        try:
            with self._begin(dataset) as run:
                self._log(run, dataset.name, "dataset", dataset.facts, dataset.files)
                for each in dataset.features:
                    name, files = f"{dataset.name}-{each.name}", {"record.json": each.record}
                    self._log(run, name, "features", each.facts, files)
                place = Path(run.dir).parent if run.offline else run.url
        except (wandb.Error, OSError) as error:
            raise OutputError(
                f"Weights & Biases does not take the dataset: {error}.",
                hint="Log in with `wandb login`, or set WANDB_MODE=offline and send it later with "
                "`wandb sync`.",
            ) from error
        return str(place)

    def _begin(self, dataset: TrackedDataset) -> Any:
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            host="",
        )
        return wandb.init(
            project=self.project,
            job_type="dataset",
            name=dataset.name,
            config={
                "dataset": dict(dataset.facts),
                "labels": dict(dataset.labels),
                "export": dict(dataset.config),
            },
            settings=settings,
            reinit="create_new",
        )

    def _log(
        self, run: Any, name: str, kind: str, facts: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        import wandb

        artifact = wandb.Artifact(name, type=kind, metadata=dict(facts))
        for file, content in files.items():
            with artifact.new_file(file, mode="wb") as opened:
                opened.write(content)
        run.log_artifact(artifact, aliases=[f"run-{facts['run_id']}"] if "run_id" in facts else [])
