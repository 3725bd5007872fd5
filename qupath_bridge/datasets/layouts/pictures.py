"""Patches of a run as files of pictures: linked where they are that already, else copied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from qupath_bridge.codecs import Contents, Encoder, encoder_of, get_encoder
from qupath_bridge.config import ExportConfig
from qupath_bridge.datasets.patch_reading import read_bytes, read_patch
from qupath_bridge.errors import UsageError
from qupath_bridge.outputs.base import Location, Output
from qupath_bridge.stores import local_path

__all__ = ["PictureFiles"]

READABLE = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Endings of files that Pillow opens, and that readers of folders of pictures look for."""


@dataclass(frozen=True, slots=True)
class PictureFiles:
    """Writes patches of one kind of pixels as files.

    Attributes
    ----------
    output : Output
        Where the patches are.
    extension : str
        Ending of the files.
    encoder : Encoder or None
        Makes PNG files of the patches; None if they are files of pictures already.
    raw : bool
        True if the patches are pixels without a header.
    """

    output: Output
    extension: str
    encoder: Encoder | None
    raw: bool

    @classmethod
    def of(cls, output: Output, config: ExportConfig, contents: Contents) -> PictureFiles:
        """Return the writer for patches of a run with these contents.

        Raises
        ------
        UsageError
            If they are not pictures: other than 1 or 3 channels of uint8.
        """
        if contents.dtype != "uint8" or len(contents.channels) not in {1, 3}:
            raise UsageError(
                f"The patches are not pictures: they have {contents}.",
                hint="Export pictures of the channels, with the option composite.",
            )
        own = encoder_of(config, contents).extension
        if PurePath(f"patch{own}").suffix in READABLE:
            return cls(output, own, None, raw=False)
        png = get_encoder("png", contents=contents)
        return cls(output, png.extension, png, raw=config.format == "raw")

    def write(self, row: Mapping[str, Any], target: Path) -> None:
        """Write the patch of a row of the index to ``target``, which is a new file.

        Raises
        ------
        OutputError
            If the patch is not there, or is not what its row says.
        """
        location = Location(row["path"], row["offset"], row["length"])
        if self.encoder is None and _linked(self.output, location, target):
            return
        if self.encoder is None:
            data = read_bytes(self.output, row, f"patch {row['patch_id']}")
        else:
            data = self.encoder.encode(read_patch(self.output, row, raw=self.raw))
        target.write_bytes(data)


def _linked(output: Output, location: Location, target: Path) -> bool:
    """Return whether ``target`` is another name of the patch's file now."""
    place = local_path(output.url)
    if place is None or location.offset is not None:
        return False
    try:
        os.link(place / location.path, target)
    except OSError:  # another file system, or one without links; reading says what else is wrong
        return False
    return True
