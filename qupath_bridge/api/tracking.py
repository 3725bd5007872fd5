"""Function that tells a service of a dataset."""

from __future__ import annotations

from qupath_bridge import registry
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.run import Run
from qupath_bridge.tracking.base import Tracked

from .opening import Place, output_of

__all__ = ["track"]


def track(run: Run | Output | Place, to: str = "wandb", *, name: str | None = None) -> Tracked:
    """Record a run, and the features that were made of it, with a service.

    Records, counts and a small picture of some patches are sent, and never the patches. Slides have
    the names that the run has for them: pseudonyms stay pseudonyms.

    Parameters
    ----------
    run : Run, Output, path or URL
        A finished run.
    to : str
        ``wandb``, or another registered tracker.
    name : str, optional
        Of the dataset; that of the output when not given.

    Raises
    ------
    UsageError
        If there is no such tracker.
    MissingDependencyError
        If the package of the tracker is not installed.
    OutputError
        If there is no finished run, or the service does not take it.

    Examples
    --------
    >>> made = track("patches", to="wandb")                             # doctest: +SKIP
    >>> made.digest                                                     # doctest: +SKIP
    'xxh3_128:0f1e2d3c4b5a69788796a5b4c3d2e1f0'
    """
    from qupath_bridge.tracking.recording import dataset_record

    tracker = registry.create("tracker", to)
    dataset = dataset_record(output_of(run), name)
    place = tracker.send(dataset)
    features = tuple(each.name for each in dataset.features)
    return Tracked(dataset.name, dataset.digest, features, place)
