"""Changing the colours of patches: pixel by pixel, or through a table of all colours."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import MaskArray, PixelArray

from .light import FAINT, FULL

__all__ = ["PALE", "STRIP", "Planes", "Recolour", "change_colours"]

PALE = 0.02
"""Share of stained pixels that a patch needs; with less it stays as it is."""
STRIP = 1 << 14
"""Pixels at a time: their planes stay in the cache, and matrices take no second thread for them."""

Planes = NDArray[np.float32]
Recolour = Callable[[int, NDArray[np.uint8], Planes, Planes], Planes]
"""Called with the number of a patch, and of :data:`STRIP` of its pixels or fewer the gray levels of
red, green and blue, shape (3, n), the light (each level and 1), and room for the new light, which
it writes. It returns the optical densities, the sums of three channels, shape (n,)."""

_Strip = Callable[[int, NDArray[np.uint8], NDArray[np.uint8]], int]
"""Called with the number of a patch and some of its pixels, shape (n, 3); writes the new ones into
the second array, and returns how many have too little stain to change wholly."""

_REDS = 256  # colours that are computed together: all reds of a green and a blue
_KNOWN, _WEAK = 1 << 24, 2 << 24  # a colour is in the table; one with too little stain


def change_colours(
    batch: PixelArray, recolour: Recolour, same: Hashable | None
) -> tuple[PixelArray, MaskArray]:
    """Return patches with other colours, and which of them were kept as they are.

    Pixels with an optical density below :data:`~.light.FAINT` stay; up to :data:`~.light.FULL` they
    are mixed. A patch with less than :data:`PALE` of pixels above it stays as it is. A patch gets
    the same bytes wherever it is in a batch, and whatever came before.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
    recolour : Recolour
    same : hashable or None
        What decides how colours change, the same for all patches. Calls with equal values share a
        table, 64 MiB at most, in which each colour is computed once. None if patches differ in it.

    Returns
    -------
    patches : array, shape (N, H, W, 3), uint8
    kept : array, shape (N,), bool
    """
    made: PixelArray = np.empty(batch.shape, np.uint8)
    kept: MaskArray = np.zeros(len(batch), np.bool_)
    pixels = batch.shape[1] * batch.shape[2]
    room = min(STRIP, pixels)
    change = _by_pixel(recolour, room) if same is None else _by_table(recolour, room, same)
    for number, patch in enumerate(batch):
        before, after = patch.reshape(-1, 3), made[number].reshape(-1, 3)
        faint = 0
        for start in range(0, pixels, STRIP):
            strip = slice(start, start + STRIP)
            faint += change(number, before[strip], after[strip])
        if faint > (1 - PALE) * pixels:
            after[:], kept[number] = before, True
    return made, kept


class _Room(NamedTuple):
    """Arrays for a strip, shape (3, n), made once: making them anew takes as long as the rest."""

    levels: NDArray[np.uint8]
    light: Planes
    changed: Planes

    @classmethod
    def of(cls, pixels: int) -> _Room:
        light, changed = np.empty((2, 3, pixels), np.float32)
        return cls(np.empty((3, pixels), np.uint8), light, changed)

    def part(self, pixels: int) -> _Room:
        return _Room(self.levels[:, :pixels], self.light[:, :pixels], self.changed[:, :pixels])


def _recolour_levels(number: int, recolour: Recolour, room: _Room) -> MaskArray:
    """Turn the levels in the room into new ones; return which have too little stain."""
    levels, light, changed = room
    np.copyto(light, levels)
    light += np.float32(1)
    kept = np.float32(FULL) - recolour(number, levels, light, changed)
    faint: MaskArray = kept > 0
    if faint.any():
        kept *= np.float32(1 / (FULL - FAINT))
        light -= changed
        light *= np.clip(kept, 0, 1, out=kept)
        changed += light
    changed -= np.float32(0.5)  # 1 less, and half a level more: cutting off rounds
    np.copyto(levels, changed, casting="unsafe")
    return faint


def _by_pixel(recolour: Recolour, pixels: int) -> _Strip:
    """Return what changes strips of at most that many pixels, each on its own."""
    space = _Room.of(pixels)

    def change(number: int, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> int:
        room = space.part(len(before))
        _copy_channels(before, room.levels.T)
        faint = _recolour_levels(number, recolour, room)
        _copy_channels(room.levels.T, after)
        return int(np.count_nonzero(faint))

    return change


def _copy_channels(pixels: NDArray[np.uint8], into: NDArray[np.uint8]) -> None:
    """Copy the first three columns: one by one, which numpy does four times as fast as at once."""
    for channel in range(3):
        into[:, channel] = pixels[:, channel]


@lru_cache(maxsize=2)
def _table(same: Hashable) -> NDArray[np.uint32]:
    """Return the table of new colours, at first all zero, which takes no memory yet.

    The entry of a colour is at red + 256 green + 65,536 blue: the new colour in the same order,
    and :data:`_KNOWN` or :data:`_WEAK`. Threads may write the same entry twice, the same value.
    """
    return np.zeros(1 << 24, np.uint32)


def _by_table(recolour: Recolour, pixels: int, same: Hashable) -> _Strip:
    """Return what looks up the pixels of strips, and computes the colours that are new."""
    table = _table(same)
    places, entries = np.zeros(pixels, "<i8"), np.empty(pixels, "<u4")

    def change(_: int, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> int:
        place, entry = places[: len(before)], entries[: len(before)]
        _copy_channels(before, place.view(np.uint8).reshape(-1, 8))
        np.take(table, place, out=entry, mode="clip")
        if entry.min() < _KNOWN:
            _add(table, np.unique(place[entry < _KNOWN] // _REDS), recolour)
            np.take(table, place, out=entry, mode="clip")
        _copy_channels(entry.view(np.uint8).reshape(-1, 4), after)
        return int(np.count_nonzero(entry >= _WEAK))

    return change


def _add(table: NDArray[np.uint32], rows: NDArray[Any], recolour: Recolour) -> None:
    """Put all reds of greens and blues into the table; a row is green + 256 blue.

    Always as many at a time: the last bits of a product of matrices may depend on their size.
    """
    at_a_time = STRIP // _REDS
    room = _Room.of(STRIP)
    for start in range(0, len(rows), at_a_time):
        row = np.resize(rows[start : start + at_a_time], at_a_time)[:, None]
        room.levels[0] = np.tile(np.arange(_REDS, dtype=np.uint8), at_a_time)
        room.levels[1:] = np.repeat(np.hstack([row % 256, row // 256]).T, _REDS, axis=1)
        faint = _recolour_levels(0, recolour, room)
        red, green, blue = room.levels.astype(np.uint32)
        entry = red + (green << 8) + (blue << 16) + np.where(faint, _WEAK, _KNOWN).astype(np.uint32)
        table.reshape(-1, _REDS)[row[:, 0]] = entry.reshape(-1, _REDS)
