"""Targets of stain normalisation: from pictures, regions of slides, and saved profiles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from qupath_bridge import registry
from qupath_bridge.errors import BridgeError, UsageError
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import Box
from qupath_bridge.patches import ids
from qupath_bridge.pixels.base import StainSample
from qupath_bridge.readers import open_reader
from qupath_bridge.regular_files import read_regular
from qupath_bridge.schemas import StainProfileRecord, first_fault, parse_json
from qupath_bridge.sources.memory import memory_slide

from .channels import file_view
from .rgb_only import require_rgb
from .stain_sample import read_sample

__all__ = ["load_target", "profile_record"]

_REGION = re.compile(r"(?P<path>.+)#(?P<box>\d+,\d+,\d+,\d+)")
_MOST_BYTES = 1 << 20  # of a saved profile


def load_target(stain: str, references: Sequence[str], mpp: float | None) -> tuple[Any, str]:
    """Return the target that references give, and its digest.

    Parameters
    ----------
    stain : str
        ``NAME[:ARGUMENT]`` of the method.
    references : sequence of str
        One saved profile (``.json``), or pictures and slides, each with ``#X,Y,WIDTH,HEIGHT``
        where a region is meant.
    mpp : float or None
        µm per pixel of the patches.

    Raises
    ------
    UsageError
        If a reference cannot be read, or shows too little tissue.
    """
    stamps = tuple(_stamp(each) for each in references)
    return _load_target(stain, tuple(references), stamps, mpp)


def profile_record(stain: str, references: Sequence[str], mpp: float | None) -> dict[str, Any]:
    """Return the profile of references as a record that :func:`load_target` reads."""
    target, digest = load_target(stain, references, mpp)
    return {
        "schema_version": 1,
        "method": stain,
        "version": registry.create("stain", stain).version,
        "profile": target,
        "reference_digest": digest,
        "references": [Path(_split(each)[0]).name for each in references],
    }


def _split(reference: str) -> tuple[str, Box | None]:
    found = _REGION.fullmatch(reference)
    if found is None:
        return reference, None
    return found["path"], Box(*map(int, found["box"].split(",")))


def _stamp(reference: str) -> tuple[int, int]:
    path = Path(_split(reference)[0])
    try:
        state = path.stat()
    except OSError as error:
        raise UsageError(
            f"The stain reference {path} cannot be read: {error.strerror}.",
            hint="Name a picture, a slide, or a profile in stain_reference.",
        ) from error
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=4)  # every slide of a run asks for the same one
def _load_target(
    stain: str, references: tuple[str, ...], stamps: tuple[Any, ...], mpp: float | None
) -> tuple[Any, str]:
    method = registry.create("stain", stain)
    saved = [each for each in references if each.lower().endswith(".json")]
    if saved and len(references) > 1:
        raise UsageError(
            f"{saved[0]} is a saved profile: it is the only reference then.",
            hint="Name one profile, or pictures and slides.",
        )
    if saved:
        profile = _read_profile(Path(saved[0]), method, stain)
    else:
        profile = method.fit(_pooled([_sample(each, mpp) for each in references]))
    if profile is None:
        raise UsageError(
            f"{', '.join(references)}: too little stained tissue for a stain reference.",
            hint="Choose a region that is full of tissue.",
        )
    return profile, ids.json_digest({"method": stain, "profile": profile})


def _sample(reference: str, mpp: float | None) -> StainSample:
    place, region = _split(reference)
    path = Path(place)
    try:
        with open_reader(path) as reader:
            require_rgb(
                file_view(reader),
                "a stain reference",
                "Name a picture or a slide of stained tissue.",
            )
            builder = memory_slide("0", path.name, path=path).builder
            coordinates = coordinate_map(builder, file_size=reader.size, bounds=reader.bounds)
            whole = Box(0, 0, *coordinates.size)
            region = region or whole
            if (
                region.x + region.w > whole.w
                or region.y + region.h > whole.h
                or not region.w * region.h
            ):
                raise UsageError(
                    f"The region {reference} is not inside the slide, which has "
                    f"{whole.w} x {whole.h} pixels."
                )
            size = reader.pixel_size
            own = None if size is None else sum(size) / 2
            downsample = max(mpp / own, 1.0) if mpp and own else 1.0
            return read_sample(reader, coordinates, region, downsample, reference=True)
    except UsageError:
        raise
    except BridgeError as error:
        raise UsageError(
            f"The stain reference {reference} cannot be read: {error.message}",
            hint="Name a picture, a slide, or a profile in stain_reference.",
        ) from error


def _pooled(samples: Sequence[StainSample]) -> StainSample:
    """Return the pixels of all samples as if they had one white."""
    if len(samples) == 1:
        return samples[0]
    white = np.mean([each.white for each in samples], axis=0)
    parts = [
        np.clip(np.rint(each.pixels * (white / each.white)), 0, 255).astype(np.uint8)
        for each in samples
    ]
    return replace(samples[0], pixels=np.concatenate(parts), white=white)


def _read_profile(path: Path, method: Any, stain: str) -> Any:
    try:
        record = parse_json(read_regular(path, _MOST_BYTES))
        StainProfileRecord.model_validate(record)
        profile = record["profile"]
        method.apply(np.zeros((0, 1, 1, 3), np.uint8), profile, profile)
    except (OSError, ValueError, TypeError, LookupError, np.linalg.LinAlgError) as error:
        problem = first_fault(error) if isinstance(error, ValidationError) else repr(error)
        raise UsageError(
            f"{path} is not a stain profile for {stain}: {problem}.",
            hint="Make one with `qupath-bridge stain-profile`.",
        ) from error
    return profile
