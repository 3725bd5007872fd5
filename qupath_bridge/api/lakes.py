"""Functions over several runs below one root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .opening import Place

if TYPE_CHECKING:
    from qupath_bridge.lake.catalog import Catalog


def catalog(root: Place) -> Catalog:
    """List the runs below a folder or URL, from their ``run.json`` and ``report.json`` alone.

    Runs are found by their ``run.json``, at any depth. The time does not depend on the number of
    patches.

    Parameters
    ----------
    root : path or URL
        A folder above outputs of exports, or one output.

    Returns
    -------
    Catalog
        Its ``runs``, and the places that are ``damaged``, which stop nothing. ``find`` looks for
        patches by label, slide, digest and run.

    Raises
    ------
    OutputError
        If no run is below it.

    Examples
    --------
    >>> lake = catalog("s3://bucket/study")                            # doctest: +SKIP
    >>> lake.find(label="Tumor").patches                               # doctest: +SKIP
    5120
    """
    from qupath_bridge.lake.catalog import read_catalog

    return read_catalog(str(root))
