"""Damages data files and reads them: each must be read completely or refused with one error.

Run ``python -m qupath_bridge.testing.fuzz --seconds 600`` for a long search; the ``data.qpdata``
files of given folders are damaged too. A case that fails is written to ``--out`` with its
traceback, and the exit status is 1. The test suite does the same for a short time.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from qupath_bridge.errors import OutputError, ProjectError
from qupath_bridge.model import Box
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.qpdata.reading import decode_image_data
from qupath_bridge.qupath.qpdata.splice import splice_tiles
from qupath_bridge.qupath.qpdata.writing import encode_image_data
from qupath_bridge.roundtrip.comparing import differences, take_inventory, tile_hashes

from .content import full_text
from .data_files import cell_file, every_kind, tissue_microarray

__all__ = ["check_damaged", "damage", "main", "seeds"]

SLOW = 10.0
"""Seconds after which reading a small file counts as a hang."""

_TILE = Tile(id="9e0725bf-e8af-8f43-8000-000000000000", box=Box(0, 0, 5, 5), class_path="Fuzz")
_TAGS = bytes(range(0x70, 0x7F))
_LENGTHS = (0, 1, 0x7FFFFFFF, -1, -0x80000000, 0x00FFFFFF, 0x007E0000)


def seeds() -> list[bytes]:
    """Return small files to damage: all kinds of objects, a TMA grid, consecutive cells."""
    return [
        encode_image_data(every_kind()),
        encode_image_data(tissue_microarray()),
        cell_file(60, measurements=4, distinct=20),
    ]


def _flip(rng: random.Random, data: bytearray, at: int) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray, at: int) -> None:
    data[at] = rng.randrange(256)


def _tag(rng: random.Random, data: bytearray, at: int) -> None:
    data[at] = rng.choice(_TAGS)


def _length(rng: random.Random, data: bytearray, at: int) -> None:
    data[at : at + 4] = struct.pack(">i", rng.choice(_LENGTHS))


def _reference(rng: random.Random, data: bytearray, at: int) -> None:
    data[at : at + 5] = b"q" + struct.pack(">i", 0x7E0000 + rng.randrange(400))


def _cut(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + rng.choice((1, 2, 5, rng.randrange(1, 200)))]


def _copy(rng: random.Random, data: bytearray, at: int) -> None:
    start, count = rng.randrange(len(data)), rng.choice((1, 5, rng.randrange(1, 400)))
    data[at:at] = data[start : start + count]


def _truncate(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at:]


_DAMAGES: tuple[Callable[[random.Random, bytearray, int], None], ...] = (
    _flip, _byte, _tag, _length, _reference, _cut, _copy, _truncate,
)  # fmt: skip


def damage(rng: random.Random, data: bytes) -> bytes:
    """Return a copy of a file with one to four damaged places."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if damaged:
            rng.choice(_DAMAGES)(rng, damaged, rng.randrange(len(damaged)))
    return bytes(damaged)


def check_damaged(data: bytes) -> str:
    """Read a damaged file in all ways; return ``read`` or ``refused``.

    Raises
    ------
    AssertionError
        If the fast and the step-by-step way differ, reading takes too long, or the error does
        not name a place.
    Exception
        Any other error of the reader.
    """
    outcomes = []
    for detections in (False, True):
        results = []
        for fast in (True, False):
            start = time.perf_counter()
            try:
                image = decode_image_data(data, detections=detections, fast=fast)
                results.append(full_text(image))
            except ProjectError as error:
                if error.offset is None or not 0 <= error.offset <= len(data):
                    raise AssertionError(f"no place in {error!r}") from error
                results.append("refused")
            if time.perf_counter() - start > SLOW:
                raise AssertionError(f"reading {len(data)} bytes took more than {SLOW} s")
        if results[0] != results[1]:
            raise AssertionError("the fast and the step-by-step way differ")
        outcomes.append(results[0])
    _check_splicing(data)
    return "refused" if "refused" in outcomes else "read"


def _check_splicing(data: bytes) -> None:
    """Add a tile and remove it again: if the file allows this, all other content must be equal."""
    try:
        before = decode_image_data(data, detections=True)
        after = decode_image_data(splice_tiles(data, add=[_TILE]), detections=True)
    except (ProjectError, OutputError):
        return
    faults = list(
        differences(take_inventory(before), take_inventory(after), added=tile_hashes([_TILE]))
    )
    if faults or splice_tiles(splice_tiles(data, add=[_TILE]), remove={_TILE.id}) != data:
        raise AssertionError(f"a tile put in changes something: {faults[:3]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Damage data files and read them.")
    parser.add_argument("paths", nargs="*", type=Path, help="data files, or folders with some")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="for the same cases again")
    parser.add_argument("--out", type=Path, default=Path("fuzz-failure.qpdata"))
    options = parser.parse_args(arguments)
    files = seeds()
    for path in options.paths:
        found = sorted(path.rglob("data.qpdata")) if path.is_dir() else [path]
        files += [each.read_bytes() for each in found]
    seed = random.randrange(1 << 32) if options.seed is None else options.seed  # noqa: S311
    rng = random.Random(seed)  # noqa: S311
    counts: Counter[str] = Counter()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        case = damage(rng, rng.choice(files))
        try:
            counts[check_damaged(case)] += 1
        except Exception:  # noqa: BLE001 (any error is reported)
            options.out.write_bytes(case)
            traceback.print_exc()
            print(f"seed {seed}, case {sum(counts.values())}, written to {options.out}")
            return 1
    print(f"seed {seed}: {counts['read']} read whole, {counts['refused']} refused, 0 failures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
