"""Croissant 1.0 of a run: its files, and the columns of the index as records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from .description import Column, Description

__all__ = ["croissant"]

Node = dict[str, Any]

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
INDEX = "index-partitions"
RECORDS = "patches"

_CR = "cr"
_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject",
    "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField",
    "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip
CONTEXT: Node = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"{_CR}:{term}" for term in _TERMS},
}
"""The context of the format, as a whole: nobody has to fetch it."""


def croissant(made: Description) -> dict[str, Any]:
    """Return the content of ``croissant.json``.

    Columns that no patch has a value of are left out, and so are maps, which Croissant lacks.
    """
    described: Node = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": made.name,
        "description": made.description,
        "datePublished": made.record["finished"],
        "version": "1.0.0",
        "identifier": made.record["run_digest"],
        "distribution": [*_files(made), *_partitions(made)],
        "recordSet": [_records(made)] if made.patches else [],
    }
    if made.license is not None:
        described["license"] = made.license
    if made.creators:
        described["creator"] = [{"@type": "sc:Person", "name": name} for name in made.creators]
    return described


def _files(made: Description) -> Iterator[Node]:
    for file in made.files:
        yield {
            "@type": "cr:FileObject",
            "@id": file.name,
            "name": file.name,
            "contentUrl": file.name,
            "contentSize": f"{file.size} B",
            "encodingFormat": file.media_type,
            "sha256": file.sha256,
        }


def _partitions(made: Description) -> Iterator[Node]:
    if made.patches:
        yield {
            "@type": "cr:FileSet",
            "@id": INDEX,
            "name": INDEX,
            "description": "The index: one Parquet file per slide.",
            "encodingFormat": "application/x-parquet",
            "includes": "index/*/*.parquet",
        }


def _records(made: Description) -> Node:
    return {
        "@type": "cr:RecordSet",
        "@id": RECORDS,
        "name": RECORDS,
        "description": "One record per patch; path is the file in this folder.",
        "key": {"@id": f"{RECORDS}/patch_id"},
        "field": [node for column in made.columns for node in _field(column)],
    }


def _field(column: Column) -> Iterator[Node]:
    kind, repeated = column.kind, pa.types.is_list(column.kind)
    data_type = _data_type(kind.value_type if repeated else kind)
    if data_type is None:
        return
    node: Node = {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/{column.name}",
        "name": column.name,
        "dataType": data_type,
        "source": {"fileSet": {"@id": INDEX}, "extract": {"column": column.name}},
    }
    yield {**node, "repeated": True} if repeated else node


def _data_type(kind: pa.DataType) -> str | None:
    """Return the type of the values of a column; None if Croissant has none."""
    if pa.types.is_string(kind):
        return "sc:Text"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else None
