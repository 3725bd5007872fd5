"""Functions over several runs below one root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qupath_bridge.outputs.shards import DEFAULT_SIZE, parse_size

from .opening import Place

if TYPE_CHECKING:
    from qupath_bridge.lake.catalog import Catalog
    from qupath_bridge.lake.compacting import Compacted


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


def compact(
    root: Place,
    out: Place,
    *,
    by: Sequence[str] = ("project", "label"),
    file_size: int | str = DEFAULT_SIZE,
    images: bool = False,
) -> Compacted:
    """Copy the patches of all complete runs below a root into few Parquet files.

    The copy is for programs that read tables: pyarrow.dataset, DuckDB, Polars, Spark. It has the
    rows of all indexes, and where asked the bytes of the patches, in the folders
    ``OUT/data/<version>/project_key=…/label_key=…``. Rows are sorted by slide in each. The runs
    stay as they are. A copy that was interrupted goes on when it is called again; one that is there
    and whole is left as it is; an older one is replaced when the new one is complete.

    Parameters
    ----------
    root : path or URL
        As for :func:`catalog`.
    out : path or URL
        A new place, or an earlier copy.
    by : sequence of str
        ``project``, ``label``, both or neither.
    file_size : int or str
        Size at which a file ends, in bytes or as ``256MB``.
    images : bool
        Whether the bytes of the patches are copied too, into the column ``image``.

    Returns
    -------
    Compacted

    Raises
    ------
    OutputError
        If a place below the root is damaged, a run is there twice or changes meanwhile, or the new
        place holds something else.
    UsageError
        If patches have several labels and ``by`` has ``label``, or a size is not one.
    """
    from qupath_bridge.lake.catalog import read_catalog
    from qupath_bridge.lake.compacting import compact_lake

    size = parse_size("file size", str(file_size))
    lake = read_catalog(str(root))
    return compact_lake(lake, str(out), by=by, file_size=size, images=images)
