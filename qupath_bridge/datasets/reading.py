"""The index of a run as a table of other libraries, with the folds of a split."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa

from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.outputs import index
from qupath_bridge.outputs.base import Output

from .fold_tables import check_fresh, fold_column, read_folds

__all__ = ["TableKind", "read_index"]

TableKind = Literal["arrow", "pandas", "polars"]


def read_index(output: Output, *, split: str | None = None, to: TableKind = "arrow") -> Any:
    """Return the rows of all slides, one row per patch.

    Parameters
    ----------
    output : Output
    split : str, optional
        Name of a split: its folds become the column ``fold``, null for what is in no fold.
    to : str
        ``arrow``, ``pandas`` or ``polars``.

    Raises
    ------
    OutputError
        If rows are damaged; if there is no such split, or it is stale.
    UsageError
        If a table that was made by hand does not list everything, or ``to`` is something else.
    MissingDependencyError
        If that library is not installed.
    """
    convert = {"arrow": _unchanged, "pandas": _to_pandas, "polars": _to_polars}.get(to)
    if convert is None:
        raise UsageError(f"An index cannot become {to!r}.", hint="Use arrow, pandas or polars.")
    rows = index.read_index(output)
    if split is not None:
        table = read_folds(output, split)
        check_fresh(output, table)
        rows = rows.append_column("fold", fold_column(rows, table))
    return convert(rows)


def _unchanged(rows: pa.Table) -> pa.Table:
    return rows


def _to_pandas(rows: pa.Table) -> Any:
    """Return a DataFrame: whole numbers stay whole, texts are texts, maps are dictionaries."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingDependencyError(
            "pandas is not installed.", hint="pip install pandas."
        ) from error
    kinds = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.string(): pd.StringDtype(),
    }
    return rows.to_pandas(types_mapper=kinds.get, maps_as_pydicts="strict")


def _to_polars(rows: pa.Table) -> Any:
    """Return a DataFrame of the types that Polars has for those of Arrow."""
    try:
        import polars as pl
    except ImportError as error:
        raise MissingDependencyError(
            "Polars is not installed.", hint="pip install polars."
        ) from error
    return pl.from_arrow(rows)
