"""Ids, names and digests that are the same in every run and on every machine."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
import unicodedata
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import xxhash
from numpy.typing import NDArray

from qupath_bridge.model import Box, BoxArray, PathObject, Plane

__all__ = [
    "TILE_ID_BEGINNING",
    "TILE_UUID_HIGH",
    "annotation_digest",
    "canonical_annotation",
    "comparable_name",
    "json_digest",
    "label_folders",
    "patch_id",
    "patch_name",
    "project_names",
    "run_id",
    "slide_id",
    "slide_of_patch",
    "slug",
    "tile_uuid",
    "tile_uuids",
]

_VERSION_MASK, _VERSION_8 = 0xF000, 0x8000
_VARIANT_MASK, _VARIANT = 0xC << 60, 0x8 << 60

TILE_UUID_HIGH = (
    int.from_bytes(hashlib.sha256(b"qupath-bridge/patches/1").digest()[:8], "big") & ~_VERSION_MASK
) | _VERSION_8
"""The high 64 bits of the id of every tile of this library, by which scripts recognise them."""

TILE_ID_BEGINNING = str(uuid.UUID(int=TILE_UUID_HIGH << 64))[:19]
"""The same bits as the beginning of the text of such an id."""

SLUG_LENGTH = 40
"""Longest slug: ``patches/<slide>/<label>/<patch>.png`` leaves 100 of Windows' 260 characters."""

SLUG_BYTES = 64
"""Longest slug in UTF-8: a patch's file name has up to three, and file systems take 255 bytes."""

_WITH_DIGEST = re.compile(r".*-[0-9a-f]{16}")

_RESERVED = {
    *("CON", "PRN", "AUX", "NUL"),
    *(f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"),
}
"""Names that Windows reserves for devices, with any extension."""

_PATCH_ID = re.compile(r"(?P<slide>.+)_x-?\d+_y-?\d+(_w\d+_h\d+)?(_z\d+_t\d+)?", re.ASCII)

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def tile_uuid(entry_id: str, x: int, y: int, w: int, h: int, z: int = 0, t: int = 0) -> str:
    """Return the id of a patch box's tile object in QuPath.

    Parameters
    ----------
    entry_id : str
        QuPath's entry ID.
    x, y, w, h : int, QuPath pixels
    z, t : int
        Plane.

    Returns
    -------
    str
        UUID of version 8; a box has the same id in every run.

    Examples
    --------
    >>> tile_uuid("1", 0, 0, 256, 256)
    '9e0725bf-e8af-8f43-b582-f1c259b1e7f4'
    """
    low = xxhash.xxh3_64_intdigest(f"{entry_id}|{x}|{y}|{w}|{h}|{z}|{t}".encode())
    text = f"{low & ~_VARIANT_MASK | _VARIANT:016x}"
    return f"{TILE_ID_BEGINNING}{text[:4]}-{text[4:]}"


def tile_uuids(
    entry_id: str, boxes: BoxArray, z: NDArray[np.integer], t: NDArray[np.integer]
) -> list[str]:
    """Return :func:`tile_uuid` for many boxes, shape (N, 4), and their planes, shape (N,)."""
    return [
        tile_uuid(entry_id, x, y, w, h, zi, ti)
        for (x, y, w, h), zi, ti in zip(boxes.tolist(), z.tolist(), t.tolist(), strict=True)
    ]


@lru_cache(maxsize=4096)
def slug(text: str) -> str:
    """Return a name that every file system takes.

    Letters (with their marks) and digits of every script, ``.``, ``-`` and ``_``, as NFC; all
    else becomes ``-``. Never empty, at most 40 characters and 64 bytes of UTF-8, no dot at either
    end, no name that Windows reserves. Different texts may have one slug; see
    :func:`label_folders`.

    Examples
    --------
    >>> slug("Tumor: Positive"), slug("Größe/1"), slug("..."), slug("NUL.svs")
    ('Tumor-Positive', 'Größe-1', '_', '_NUL.svs')
    """
    plain = "".join(c if _is_plain(c) else "-" for c in unicodedata.normalize("NFC", text))
    name = _shortened(re.sub("-{2,}", "-", plain).strip("-."))
    if name.split(".", 1)[0].upper() in _RESERVED:
        name = _shortened(f"_{name}")
    return name or "_"


def _is_plain(character: str) -> bool:
    return character in "._-" or unicodedata.category(character)[0] in "LMN"


def _shortened(name: str) -> str:
    cut = name[:SLUG_LENGTH].encode()[:SLUG_BYTES].decode(errors="ignore")
    return cut.rstrip("-.")


def comparable_name(name: str) -> str:
    """Return what is the same for two names that somewhere cannot stand beside each other.

    Case and ways of writing a letter do not count: file systems of Windows and macOS take such
    names for one. Nor does ``.`` for ``-``, which keys in tar shards are written with.

    Examples
    --------
    >>> comparable_name("1_A.svs") == comparable_name("1_a-svs")
    True
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded).replace(".", "-")


def label_folders(labels: Iterable[str]) -> dict[str, str]:
    """Return a folder name for each label of a run, no two alike (:func:`comparable_name`).

    A label whose slug would meet another's gets a digest of its text behind it, so that the
    names do not depend on order. ``_`` is kept for patches without a single label.

    Examples
    --------
    >>> label_folders(["Tumor", "Stroma"])
    {'Stroma': 'Stroma', 'Tumor': 'Tumor'}
    """
    slugs = {label: slug(label) for label in sorted(set(labels))}
    uses = Counter(comparable_name(name) for name in slugs.values())
    return {
        # What looks like a name with a digest gets one too, so that it cannot meet a real one.
        label: f"{name}-{xxhash.xxh3_64_hexdigest(label.encode('utf-8', 'surrogatepass'))}"
        if uses[comparable_name(name)] > 1 or name == "_" or _WITH_DIGEST.fullmatch(name.lower())
        else name
        for label, name in slugs.items()
    }


def slide_id(entry_id: str, name: str, project: str | None = None) -> str:
    """Return the id of a slide in file names: entry ID and a slug of the image name.

    ``project`` is put before them in a run over several projects.

    Examples
    --------
    >>> slide_id("3", "CMU-1 (copy).svs")
    '3_CMU-1-copy-.svs'
    """
    return "_".join(slug(part) for part in (project, entry_id, name) if part is not None)


def patch_id(
    slide_id: str,
    x: int,
    y: int,
    z: int = 0,
    t: int = 0,
    *,
    size: tuple[int, int] | None = None,
) -> str:
    """Return the id of a patch, which is also its file name without the ending.

    ``size`` has width and height of its box, where patches have sizes of their own.

    Examples
    --------
    >>> patch_id("3_CMU-1.svs", 512, -256), patch_id("3_CMU-1.svs", 0, 0, z=2)
    ('3_CMU-1.svs_x512_y-256', '3_CMU-1.svs_x0_y0_z2_t0')
    >>> patch_id("3_a", 0, 5, size=(40, 30))
    '3_a_x0_y5_w40_h30'
    """
    own = "" if size is None else f"_w{size[0]}_h{size[1]}"
    plane = f"_z{z}_t{t}" if z or t else ""
    return f"{slide_id}_x{x}_y{y}{own}{plane}"


def is_patch_id(name: str, slide_id: str, box: Box, plane: Plane) -> bool:
    """Return whether a name is the id of the patch of a box, with or without its size.

    >>> is_patch_id("3_a_x5_y6_w7_h8", "3_a", Box(5, 6, 7, 8), Plane(0, 0))
    True
    """
    place = (slide_id, box.x, box.y, *plane)
    return name in (patch_id(*place), patch_id(*place, size=(box.w, box.h)))


def project_names(folders: Iterable[Path]) -> dict[Path, str]:
    """Return a name for the folder of each project, by its resolved path; no two are equal."""
    places = {folder.resolve() for folder in folders}
    shown = Counter(slug(place.name).lower() for place in places)
    names = {}
    for place in places:
        name = slug(place.name)
        if shown[name.lower()] > 1:
            name += "-" + hashlib.sha256(str(place).encode()).hexdigest()[:8]
        names[place] = name
    return names


def slide_of_patch(name: str) -> str | None:
    """Return the slide ID of a patch ID, which an ending may follow; None for other names.

    >>> slide_of_patch("3_CMU-1.svs_x512_y-256"), slide_of_patch("3_a_x0_y0_z1_t0.ome.tif")
    ('3_CMU-1.svs', '3_a')
    >>> slide_of_patch("notes.txt")
    """
    match = _PATCH_ID.match(name)
    ends = match is not None and name[match.end() :][:1] in {"", "."}
    return match["slide"] if match and ends else None


def patch_name(
    template: str,
    *,
    slide_id: str,
    entry_id: str,
    project: str,
    label_folder: str,
    patch_id: str,
) -> str:
    """Return the file name of a patch by a layout, without an ending.

    Parameters
    ----------
    template : str
        As :func:`qupath_bridge.config.layout_problem` accepts it.
    slide_id, patch_id : str
        As :func:`slide_id` and :func:`patch_id` make them.
    entry_id, project : str
        QuPath's entry ID, and the name of the project's folder.
    label_folder : str
        From :func:`label_folders`, ``_`` for patches without a single label.

    Examples
    --------
    >>> patch_name("patches/{project}/{label}/{patch_id}", slide_id="3_a", entry_id="3",
    ...            project="my study", label_folder="Tumor", patch_id="3_a_x0_y0")
    'patches/my-study/Tumor/3_a_x0_y0'
    """
    return template.format(
        slide_id=slide_id,
        entry_id=slug(entry_id),
        project=slug(project),
        label=label_folder,
        patch_id=patch_id,
    )


def canonical_annotation(annotation: PathObject) -> bytes:
    """Return the bytes of everything of an annotation that affects a plan.

    Id, class, plane and geometry; not the first point and direction of its rings.
    """
    roi = annotation.roi
    head = [annotation.id, annotation.class_path, None if roi is None else [*roi.plane]]
    shape = b"" if roi is None else shapely.normalize(roi.geometry)
    if not isinstance(shape, bytes):
        shape = shapely.to_wkb(shape, byte_order=1, output_dimension=2)
    return _json(head) + b"\n" + shape


def annotation_digest(annotations: Sequence[PathObject]) -> str:
    """Return the digest of a set of annotations, independent of their order.

    Returns
    -------
    str
        ``xxh3_128:<hex>``
    """
    total = xxhash.xxh3_128()
    for record in sorted(xxhash.xxh3_128_digest(canonical_annotation(a)) for a in annotations):
        total.update(record)
    return f"xxh3_128:{total.hexdigest()}"


def json_digest(values: Mapping[str, Any]) -> str:
    """Return the digest of JSON values, independent of the order of their keys.

    Examples
    --------
    >>> json_digest({"a": 1, "b": [2.5]}) == json_digest({"b": [2.5], "a": 1})
    True
    """
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(_json(values))}"


def run_id(now: float | None = None, randomness: bytes | None = None) -> str:
    """Return the id of a new run: a ULID, sortable by its time.

    Parameters
    ----------
    now : float, optional
        Seconds since 1970; the clock's time when not given.
    randomness : bytes, optional
        10 bytes; from the system when not given.

    Examples
    --------
    >>> run_id(0, bytes(10)), run_id(1.5, bytes(10))
    ('00000000000000000000000000', '00000001EW0000000000000000')
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    noise = secrets.token_bytes(10) if randomness is None else randomness
    number = milliseconds << 80 | int.from_bytes(noise, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def _json(value: object) -> bytes:
    text = json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode("utf-8", "surrogatepass")
