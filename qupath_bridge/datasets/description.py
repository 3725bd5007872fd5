"""Values that a description of a run is made from, in whatever format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

__all__ = ["Column", "DescribedFile", "DescribedSlide", "Description"]


class Column(NamedTuple):
    """A column of the index that has values."""

    name: str
    kind: pa.DataType


class DescribedSlide(NamedTuple):
    """A slide: its fingerprint, the bytes of its file, and its patches."""

    slide_id: str
    slide_name: str
    digest: str
    size: int
    patches: int


class DescribedFile(NamedTuple):
    """A file of an output: media type, bytes, SHA-256."""

    name: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Description:
    """A run, as others are told of it. It has no more names than the output itself.

    Attributes
    ----------
    name, description : str
    license : str or None
        Address or name of a licence.
    creators : tuple of str
    record : mapping
        ``run.json``.
    slides : tuple of DescribedSlide
    files : tuple of DescribedFile
    folders : tuple of str
        Those that are there.
    columns : tuple of Column
    patches : int
    """

    name: str
    description: str
    license: str | None
    creators: tuple[str, ...]
    record: Mapping[str, Any]
    slides: tuple[DescribedSlide, ...]
    files: tuple[DescribedFile, ...]
    folders: tuple[str, ...]
    columns: tuple[Column, ...]
    patches: int
