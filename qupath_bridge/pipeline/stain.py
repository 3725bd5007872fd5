"""Stain normalisation of one slide: a sample of its tissue, its profile, and the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from qupath_bridge import registry
from qupath_bridge.config import ExportConfig
from qupath_bridge.frozen import freeze, thaw
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import Box, BoxArray, FloatArray, MaskArray, PixelArray, Plane
from qupath_bridge.patches.grid import Grid
from qupath_bridge.pixels.base import StainSample
from qupath_bridge.readers.base import Reader

from .channels import ChannelView
from .stain_reference import load_target
from .stain_sample import read_sample

__all__ = ["Normaliser", "StainPlan", "plan_stain"]

Normaliser = Callable[[PixelArray, FloatArray | None], tuple[PixelArray, MaskArray]]


@dataclass(frozen=True, slots=True)
class StainPlan:
    """Colours of a slide and of the target, and the method between them: JSON values.

    Attributes
    ----------
    method, version : str
        ``NAME[:ARGUMENT]`` of the method, and its version.
    profile : mapping or None
        Colours of the slide; None if it has too little tissue, and stays as it is.
    target : mapping or None
    reference_digest : str or None
        Of the target, where it comes from a reference.
    augment : float
        By how much the colours of each patch may differ from the target, in parts.
    """

    method: str
    version: str
    profile: Any
    target: Any
    reference_digest: str | None = None
    augment: float = 0.0

    def __post_init__(self) -> None:
        for name in ("profile", "target"):
            object.__setattr__(self, name, freeze(getattr(self, name)))

    def as_json(self) -> dict[str, Any]:
        """Return the facts of the slide."""
        white = self.profile.get("white") if isinstance(self.profile, Mapping) else None
        return {
            "method": self.method,
            "version": self.version,
            "profile": thaw(self.profile),
            "target": thaw(self.target),
            "reference_digest": self.reference_digest,
            "white": thaw(white),
            "augment": self.augment,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any] | None) -> StainPlan | None:
        """Return what :meth:`as_json` gave; None for None."""
        if facts is None:
            return None
        return cls(**{name: value for name, value in facts.items() if name != "white"})

    def normaliser(self) -> Normaliser:
        """Return what normalises batches of the slide; the method is made once.

        It takes patches (N, H, W, 3) and their :meth:`draws`, and returns normalised patches, and
        which were kept as they are, shape (N,).
        """
        if self.profile is None:
            return lambda batch, _: (batch, np.ones(len(batch), np.bool_))
        method = registry.create("stain", self.method)

        def apply(batch: PixelArray, draws: FloatArray | None) -> tuple[PixelArray, MaskArray]:
            made, kept = method.apply(batch, self.profile, self.target, draws)
            return made, np.asarray(kept, np.bool_)

        return apply

    def draws(self, slide: str, boxes: BoxArray, plane: Plane) -> FloatArray | None:
        """Return the random numbers of patches, shape (N, 4): the same whenever and wherever.

        Parameters
        ----------
        slide : str
            Digest of the slide file.
        boxes : array, shape (N, 4)
        plane : Plane
        """
        if not self.augment:
            return None
        names = (f"{slide} {box} {tuple(plane)}" for box in boxes.tolist())
        seeds = (xxhash.xxh3_64_intdigest(name.encode()) for name in names)
        draws = [np.random.default_rng(seed).uniform(-1, 1, 4) for seed in seeds]
        return np.array(draws).reshape(-1, 4) * self.augment


def plan_stain(
    config: ExportConfig,
    reader: Reader,
    coordinates: CoordinateMap,
    view: ChannelView,
    grid: Grid,
    stains: Mapping[str, Any] | None,
    tissue: MaskArray | None = None,
) -> tuple[StainPlan, tuple[str, ...]]:
    """Return the stain normalisation of a slide, and warnings.

    Parameters
    ----------
    config : ExportConfig
    reader, coordinates, view, grid
        Of the slide.
    stains : mapping or None
        The stains that QuPath has for the image.
    tissue : array, shape (h, w), bool, or None
        Where the run has found tissue on the whole slide.

    Raises
    ------
    UsageError
        If a reference cannot be used.
    """
    method = registry.create("stain", config.stain)
    sample = read_sample(
        reader,
        coordinates,
        Box(0, 0, *coordinates.size),
        grid.box_width / config.size,
        plane=Plane(*config.plane[0]),
        view=view,
        stains=stains,
        tissue=tissue,
    )
    profile = method.fit(sample)
    target, digest = None, None
    if config.stain_reference:
        target, digest = load_target(config.stain, config.stain_reference, grid.mpp)
    elif profile is not None:
        target = method.standard(profile)
    plan = StainPlan(config.stain, method.version, profile, target, digest, config.stain_augment)
    return plan, () if profile is not None else (_why_raw(config, sample),)


def _why_raw(config: ExportConfig, sample: StainSample) -> str:
    if registry.split_argument(config.stain)[0] == "qupath" and sample.vectors is None:
        return (
            "QuPath has no stain vectors for this image: its colours stay as they are. Set the "
            "image type in QuPath (Brightfield), and save."
        )
    return "Too little stained tissue is found on this slide: its colours stay as they are."
