"""Shards: tar files as WebDataset reads them, each patch with its record behind it."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec
import xxhash

from .base import Location, PatchRef
from .shards import DEFAULT_SIZE, Shard, check_whole, parse_size
from .stored import PATCHES, StoredOutput

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

__all__ = ["TarOutput", "header", "sample_key"]

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_SHARD = re.compile(rf"{PATCHES}(?P<slide>[^/]+)-[0-9a-f]{{16}}-[0-9]{{6,}}\.tar")


@dataclass(slots=True)
class _Slide:
    """A slide that is being written; ``final`` has the names of its complete shards."""

    slide_id: str
    shard: Shard | None = None
    final: dict[str, str] = field(default_factory=dict)
    broken: bool = False


class TarOutput(StoredOutput[_Slide]):
    """Writes the patches of a slide into shards ``patches/<slide>-<digest>-<number>.tar``.

    A sample is two members, ``<key>.<ending>`` with the patch and ``<key>.json`` with its record,
    and ``<key>.mask.png`` or ``<key>.mask_instance.png`` for its masks; all stand in one shard.
    The bytes of a shard depend on what is in it only (no times, no owners), and its name has
    their digest: other contents never take the place of a shard that committed rows list. As the
    digest is known at the end, ``write`` gives a placeholder for the path, which ``commit``
    replaces.

    Parameters
    ----------
    place : str, Path or Store
        A folder, a URL, or a store.
    argument : str, optional
        Largest size of a shard: ``256MB`` (default), ``1GB``, ``64MiB``. A sample that is larger
        gets a shard of its own.

    Raises
    ------
    UsageError
        If the argument is not a size.
    """

    name = "tar"
    wants_records = True
    holds_masks = True

    def __init__(self, place: str | Path | Store, argument: str | None = None) -> None:
        self.shard_size = DEFAULT_SIZE if argument is None else parse_size(self.name, argument)
        super().__init__(place, argument)

    def _start(self, slide_id: str) -> _Slide:
        return _Slide(slide_id)

    def _write(self, pending: _Slide, patch: PatchRef, payload: bytes) -> Location:
        key = sample_key(patch.slide_id, patch.patch_id)
        kind = "" if patch.mask is None else f".{patch.mask.column}"
        head = header(f"{key}{kind}{_ending(patch)}", len(payload))
        sample = b"".join((head, payload, bytes(-len(payload) % _BLOCK)))
        if patch.mask is None:
            record = _record(patch)
            named = header(f"{key}.json", len(record))
            sample = b"".join((sample, named, record, bytes(-len(record) % _BLOCK)))
        check_whole(pending.slide_id, broken=pending.broken)
        pending.broken = True  # until all of this is done
        shard = pending.shard
        full = shard is not None and shard.size + len(sample) + len(_END) > self.shard_size
        if full and patch.mask is None:  # a mask stays with its patch
            self._complete(pending)
            shard = None
        if shard is None:
            shard = pending.shard = self._new_shard(pending)
        offset = shard.size + len(head)
        shard.write(sample)
        pending.broken = False
        return Location(shard.placeholder, offset, len(payload))

    def _new_shard(self, pending: _Slide) -> Shard:
        placeholder = f"{PATCHES}{pending.slide_id}-unfinished-{len(pending.final):06d}.tar"
        return Shard(self.store.draft(PATCHES.rstrip("/")), placeholder)

    def _complete(self, pending: _Slide) -> None:
        """Give the shard that is being written its name."""
        if pending.shard is None:
            return
        shard = pending.shard
        shard.write(_END)
        number = len(pending.final)
        name = f"{PATCHES}{pending.slide_id}-{shard.digest.hexdigest()}-{number:06d}.tar"
        pending.final[shard.placeholder] = name  # first: a rename that fails is taken back too
        shard.draft.publish(name, durable=True)
        pending.shard = None

    def _finish(self, pending: _Slide) -> Mapping[str, str]:
        check_whole(pending.slide_id, broken=pending.broken)
        pending.broken = True
        self._complete(pending)
        pending.broken = False
        return pending.final

    def _cancel(self, pending: _Slide) -> None:
        if pending.shard is not None:
            pending.shard.draft.discard()

    def _files(self, pending: _Slide) -> list[str]:
        return list(pending.final.values())

    def _slide_of(self, name: str) -> str | None:
        match = _SHARD.fullmatch(name)
        return match["slide"] if match else None

    def _own_names(self) -> re.Pattern[str]:
        return _SHARD


def sample_key(slide_id: str, patch_id: str) -> str:
    """Return the key of a patch in a shard: its id with ``-`` for ``.``.

    WebDataset cuts member names at the first dot. A patch ID that does not continue the slide
    ID without dots gets a digest, so that no two patches of a slide have one key.

    Examples
    --------
    >>> sample_key("3_CMU-1.svs", "3_CMU-1.svs_x512_y-256")
    '3_CMU-1-svs_x512_y-256'
    """
    key = patch_id.replace(".", "-")
    if patch_id.startswith(slide_id) and "." not in patch_id[len(slide_id) :]:
        return key
    return f"{key}-{xxhash.xxh3_64_hexdigest(patch_id.encode())}"


def _ending(patch: PatchRef) -> str:
    """Return the ending of a patch's file name; its id may have dots too."""
    file = patch.name.rpartition("/")[2]
    if file.startswith(f"{patch.patch_id}."):
        return file[len(patch.patch_id) :]
    return PurePosixPath(file).suffix or ".bin"


_RECORD = msgspec.json.Encoder(order="sorted", enc_hook=dict)
"""Of records: null for numbers that JSON does not have, objects also for other mappings."""


def _record(patch: PatchRef) -> bytes:
    values = {**(patch.record or {}), "patch_id": patch.patch_id, "slide_id": patch.slide_id}
    return _RECORD.encode(values)


def header(name: str, size: int) -> bytes:
    """Return the header of a member: no time and no owner, whoever writes it.

    The same bytes as ``tarfile`` gives. Names and sizes that fit in the oldest form of a header,
    which are almost all, are put into a header that is ready but for them.
    """
    if len(name) > _NAME or not name.isascii() or size >= _SIZES:
        info = tarfile.TarInfo(name)
        info.size = size
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    file, length = name.encode().ljust(_NAME, b"\0"), b"%011o" % size
    checksum = b"%06o" % (_SUM + sum(file) + sum(length))
    return b"".join((file, _OWNER, length, _TIME, checksum, _REST))


_NAME, _SIZES = 100, 8**11
_PLAIN = tarfile.TarInfo().tobuf()
_OWNER, _TIME, _REST = _PLAIN[100:124], _PLAIN[135:148], _PLAIN[154:]
_SUM = sum(_OWNER) + sum(_TIME) + sum(_PLAIN[156:]) + 8 * ord(" ")
"""Sum of the bytes that stay; those of the sum itself count as spaces."""
