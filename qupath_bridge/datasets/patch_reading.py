"""Pixels of the patches of a run, from whatever container holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qupath_bridge.codecs import Contents, decode
from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.model import PixelArray
from qupath_bridge.outputs.base import Location, Output, patch_digest

__all__ = ["PATCH_COLUMNS", "read_bytes", "read_patch"]

PLACE, DIGEST = ("path", "offset", "length"), "digest"
"""Columns with the place and the digest of a patch."""

PATCH_COLUMNS = (
    "patch_id", "path", "offset", "length", "width", "height", "mpp", "channels", "dtype", "digest",
)  # fmt: skip
"""Columns of the index that :func:`read_patch` needs."""


def read_patch(output: Output, row: Mapping[str, Any], *, raw: bool) -> PixelArray:
    """Return the pixels of a patch, shape (H, W, C), in their type.

    Parameters
    ----------
    output : Output
    row : mapping
        Of the index, with :data:`PATCH_COLUMNS`.
    raw : bool
        True if the format of the run is ``raw``, as it is in every container of arrays.

    Raises
    ------
    OutputError
        If the patch is not there, or is not what its row says.
    """
    data = read_bytes(output, row, f"patch {row['patch_id']}")
    try:
        return decode(data, (row["width"], row["height"]), Contents.of_row(row), raw=raw)
    except BridgeError as error:
        raise _unreadable(f"patch {row['patch_id']}", error) from error


def read_bytes(
    output: Output,
    row: Mapping[str, Any],
    what: str,
    place: tuple[str, str, str] = PLACE,
    digest: str = DIGEST,
) -> bytes:
    """Return the stored bytes of a patch, or of its mask.

    Parameters
    ----------
    output : Output
    row : mapping
        Of the index.
    what : str
        For messages, as ``patch 1_a_x0_y0``.
    place, digest : str
        Columns that say where the bytes are, and what they are.

    Raises
    ------
    OutputError
        If they are not there, or are not those that the row says.
    """
    try:
        data = output.read(Location(*(row[column] for column in place)))
        if patch_digest(data) != row[digest]:
            raise OutputError("its bytes are not those that were written.")
    except BridgeError as error:
        raise _unreadable(what, error) from error
    return data


def _unreadable(what: str, error: BridgeError) -> OutputError:
    verify = "`qupath-bridge verify` lists everything that is wrong."
    return OutputError(
        f"The {what} cannot be read: {error.message}",
        hint=error.hint if error.may_heal else verify,
        may_heal=error.may_heal,
    )
