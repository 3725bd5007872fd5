"""Function that describes a run in the words of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.run import Run

from .opening import Place, output_of

if TYPE_CHECKING:
    from qupath_bridge.datasets.describing import Described


def describe(
    run: Run | Output | Place,
    formats: Sequence[str] = (),
    *,
    name: str | None = None,
    description: str | None = None,
    license: str | None = None,  # noqa: A002  # as both formats call it
    creators: Sequence[str] = (),
) -> Described:
    """Write RO-Crate and Croissant of a run beside its ``run.json``; nothing else changes.

    Both are made from the records of the run. They have no name that the output does not have:
    pseudonyms stay pseudonyms. After an update, write them again.

    Parameters
    ----------
    run : Run, Output, path or URL
    formats : sequence of str, optional
        ``ro-crate`` (``ro-crate-metadata.json``), ``croissant`` (``croissant.json``); both when
        not given.
    name, description : str, optional
        Of the dataset; from the run when not given.
    license : str, optional
        Address or name of the licence under which others may use it.
    creators : sequence of str, optional
        People who made it.

    Returns
    -------
    Described
        The files, and warnings about what others will miss.

    Raises
    ------
    UsageError
        If there is no such format.
    OutputError
        If there is no finished run, or a record of it is damaged.

    Examples
    --------
    >>> made = describe("patches", license="https://creativecommons.org/licenses/by/4.0/",
    ...                 creators=["Ann Example"])                       # doctest: +SKIP
    >>> made.files                                                      # doctest: +SKIP
    ('ro-crate-metadata.json', 'croissant.json')
    """
    from qupath_bridge.datasets import describing

    return describing.describe(
        output_of(run), formats,
        name=name, description=description, license=license, creators=creators,
    )  # fmt: skip
