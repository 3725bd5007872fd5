"""Descriptions of Parquet files for Hugging Face's ``datasets``: which column is a picture, labels.

The metadata of each file say which of ``image`` and the masks are pictures. The card of the whole
output, README.md, numbers the labels: the order is that of their names, one for all files, and
stands there from the beginning of the run.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from PIL import Image

__all__ = ["CARD", "card_of", "notes_of"]

CARD = "README.md"

_KEY = b"huggingface"


def notes_of(pictures: Mapping[str, bytes]) -> dict[bytes, bytes]:
    """Return the metadata of a file, from the bytes of its first patch and masks by column."""
    features = {name: {"_type": "Image"} for name, data in pictures.items() if _is_picture(data)}
    return {_KEY: json.dumps({"info": {"features": features}}).encode()}


def _is_picture(data: bytes) -> bool:
    """Return whether Pillow opens a picture as a whole: one page, with the values that it has."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return (
                picture.mode in {"L", "P", "RGB", "I;16"} and getattr(picture, "n_frames", 1) == 1
            )
    except (OSError, ValueError):
        return False


def card_of(schema: pa.Schema, labels: Iterable[str]) -> bytes:
    """Return the card of an output: its files, and their columns as features.

    Parameters
    ----------
    schema : Schema
        Of a file; its metadata are those of :func:`notes_of`.
    labels : iterable of str
        Labels of the run. If there are any, the column ``label`` gets their numbers.
    """
    features = {field.name: _feature(field.type) for field in schema}
    known = json.loads(schema.metadata[_KEY])["info"]["features"]
    features |= {name: {"dtype": "image"} for name in known}
    names = {str(number): name for number, name in enumerate(sorted(labels))}
    if names:
        numbered = {"class_label": {"names": names}}
        several = pa.types.is_list(schema.field("label").type)
        features["label"] = {"list" if several else "dtype": numbered}
    files = [{"split": "train", "path": "patches/*/*.parquet"}]
    card = {
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"features": [{"name": name, **kind} for name, kind in features.items()]},
    }
    # JSON is YAML, too.
    text = json.dumps(card, indent=1, ensure_ascii=False)
    return f"---\n{text}\n---\n\n{_ABOUT}\n".encode()


_ABOUT = (
    "Patches of whole-slide images, written by qupath-bridge. `run.json` says from what, and how."
)


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """Return a type as the card writes it."""
    if pa.types.is_struct(kind):
        return {"struct": [{"name": each.name, **_feature(each.type)} for each in kind]}
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner.get("struct") or inner["dtype"]}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind))}
