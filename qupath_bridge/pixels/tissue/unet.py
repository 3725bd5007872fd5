"""Tissue by a network: ``unet``, or ``unet:FILE.onnx``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from qupath_bridge.errors import UsageError
from qupath_bridge.model import PixelArray
from qupath_bridge.pixels.base import SlideView, TissueMap
from qupath_bridge.pixels.networks import (
    DescribedNetwork,
    need_onnxruntime,
    network_input,
    open_session,
    read_description,
)
from qupath_bridge.regular_files import read_regular

__all__ = ["NetworkDescription", "UnetTissue", "tile_starts", "tile_weights"]

OWN = Path(__file__).parent / "models" / "tissue_unet.onnx"
"""The network that comes with the package."""

MAX_BYTES = 1 << 30
SAME_MPP = 1.25
"""Ratio of resolutions up to which a network can take a map as it is."""


class NetworkDescription(DescribedNetwork):
    """The JSON file beside an ONNX file: what goes in, and what comes out.

    The network takes (N, 3, H, W) float32 and returns (N, channels, H, W).

    Attributes
    ----------
    tile, overlap, multiple : int
        Side of the squares that go in, and by how much they overlap, pixels. ``tile`` is a
        multiple of ``multiple``.
    channel : int
        Of the result: that of the tissue.
    activation : str
        What still has to be applied to the result: ``none`` where it is a probability.
    """

    tile: Annotated[int, Field(ge=16, le=4096)]
    overlap: Annotated[int, Field(ge=0)]
    multiple: Annotated[int, Field(ge=1)] = 1
    channel: Annotated[int, Field(ge=0)] = 0
    activation: Literal["none", "sigmoid", "softmax"] = "none"

    @model_validator(mode="after")
    def _check_together(self) -> NetworkDescription:
        if self.tile % self.multiple or self.overlap * 2 > self.tile:
            raise ValueError("tile must be a multiple of multiple, overlap half of it at most")
        return self


class _Network(NamedTuple):
    session: Any
    about: NetworkDescription
    made_from: str


@dataclass(frozen=True, slots=True)
class UnetTissue:
    """Probabilities of a network that onnxruntime runs.

    Parameters
    ----------
    argument : str or None
        An ONNX file, beside which a JSON file of the same name describes it; None for the small
        one that comes with the package, which is experimental.
    """

    threshold: ClassVar[float] = 0.5
    argument: str | None = None

    def __post_init__(self) -> None:
        need_onnxruntime("The tissue 'unet'", "unet")

    def check(self) -> None:
        """Refuse a network whose files are not there."""
        for path in self._files():
            if not path.is_file():
                raise UsageError(
                    f"The tissue 'unet' needs {path}, which is not a file.",
                    hint="Name an ONNX file; a JSON file of the same name describes it.",
                )

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return OWN if self.argument is None else Path(self.argument)

    def __call__(self, view: SlideView) -> TissueMap:
        """Return the probability of tissue; of a finer map at the resolution of the network."""
        self.check()
        network = _load(*(read_regular(p, MAX_BYTES) for p in self._files()), str(self.path))
        pixels, note = _at_resolution(view, network.about)
        return TissueMap(_probabilities(network, pixels), note=note, made_from=network.made_from)

    def _files(self) -> tuple[Path, Path]:
        return self.path, self.path.with_suffix(".json")


@lru_cache(maxsize=2)
def _load(model: bytes, text: bytes, shown: str) -> _Network:
    """Return a network that is ready to run; its files are read each time, and compared."""
    about = read_description(NetworkDescription, text, shown=shown, page="docs/tissue.md")
    session = open_session(model, about, shown)
    both = xxhash.xxh3_128_hexdigest(model + text)
    provider = session.get_providers()[0]
    return _Network(session, about, f"xxh3_128:{both}, {provider}")


def _at_resolution(view: SlideView, about: NetworkDescription) -> tuple[PixelArray, str | None]:
    """Return the map at the resolution of a network, or coarser with a remark."""
    pixels = view.read_rgb("unet")
    if view.mpp is None:
        return pixels, f"The slide has no pixel size: it counts as {about.mpp:g} µm per map pixel."
    factor = view.mpp / about.mpp
    if factor > SAME_MPP:
        return pixels, (
            f"The map has {view.mpp:.4g} µm per pixel, and the network is made for {about.mpp:g}."
        )
    if factor >= 1 / SAME_MPP:
        return pixels, None
    size = max(1, round(view.shape[1] * factor)), max(1, round(view.shape[0] * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)), None


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin that cover a length; the last ends at its end.

    >>> tile_starts(100, 40, 10), tile_starts(30, 40, 10)
    ([0, 30, 60], [0])
    """
    last = max(0, length - tile)
    return [*range(0, last, tile - overlap), last]


def tile_weights(tile: int, overlap: int) -> NDArray[np.float32]:
    """Return the weight of each pixel of a tile: 1, less towards its edges, never 0."""
    distance = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 1
    ramp = np.minimum(distance / (overlap + 1), 1).astype(np.float32)
    return np.asarray(ramp[:, None] * ramp)


def _probabilities(network: _Network, pixels: PixelArray) -> NDArray[np.float32]:
    height, width = pixels.shape[:2]
    about = network.about
    more = [(0, max(0, about.tile - side)) for side in (height, width)]
    padded = np.pad(pixels, [*more, (0, 0)], mode="symmetric")
    sums = np.zeros(padded.shape[:2], np.float32)
    totals = np.zeros_like(sums)
    weights = tile_weights(about.tile, about.overlap)
    for place, found in _tiles(network, padded):
        sums[place] += found * weights
        totals[place] += weights
    return np.asarray(np.clip(sums / totals, 0, 1)[:height, :width])


def _tiles(
    network: _Network, pixels: PixelArray
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
    about = network.about
    source = network.session.get_inputs()[0].name
    starts = (tile_starts(side, about.tile, about.overlap) for side in pixels.shape[:2])
    rows, columns = starts
    for y in rows:
        for x in columns:
            place = slice(y, y + about.tile), slice(x, x + about.tile)
            part = network_input(pixels[place][None], about)
            (result, *_) = network.session.run(None, {source: part})
            yield place, _activated(result[0], about)


def _activated(result: NDArray[np.float32], about: NetworkDescription) -> NDArray[np.float32]:
    wanted = (about.channel, about.tile, about.tile)
    if result.ndim != 3 or result.shape[1:] != wanted[1:] or result.shape[0] <= about.channel:
        raise UsageError(
            f"The network {about.name} returned an array of shape {result.shape}; channel "
            f"{about.channel} of {about.tile} x {about.tile} pixels was wanted."
        )
    if about.activation == "softmax":
        powers = np.exp(result - result.max(axis=0))
        result = powers / powers.sum(axis=0)
    chosen = result[about.channel]
    return np.asarray(1 / (1 + np.exp(-chosen)) if about.activation == "sigmoid" else chosen)
