"""Feature encoders: networks that make a vector of a patch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qupath_bridge.errors import UsageError
from qupath_bridge.model import PixelArray
from qupath_bridge.patches.ids import json_digest
from qupath_bridge.pixels.networks import (
    DescribedNetwork,
    need_onnxruntime,
    network_input,
    open_session,
    read_description,
)
from qupath_bridge.regular_files import read_regular
from qupath_bridge.schemas import FileName

__all__ = ["EncoderDescription", "FeatureEncoder", "open_encoder"]

MAX_BYTES = (2 << 30) - 1
"""Largest ONNX file: the format holds no more in one file."""
_INPUTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_PAGE = "docs/features.md"


class EncoderDescription(DescribedNetwork):
    """``encoder.json``: the file of a feature encoder, what goes in, and what comes out.

    The encoder takes (N, 3, size, size) for any N, float32 or float16, and returns (N, D).

    Attributes
    ----------
    file : str
        Name of the ONNX file, in the folder of this one.
    size : int
        Side of the patches, pixels.
    output : str or None
        Name of the result among several.
    """

    file: FileName
    size: Annotated[int, Field(ge=1, le=8192)]
    output: str | None = None

    @property
    def encoder_digest(self) -> str:
        """Digest of all that decides features: the ONNX file, and how it is used."""
        decisive = {"digest", "mean", "std", "size", "mpp", "output"}
        return json_digest(self.model_dump(mode="json", include=decisive))


@dataclass(frozen=True, slots=True, eq=False)
class FeatureEncoder:
    """A feature encoder that is ready to run.

    Attributes
    ----------
    about : EncoderDescription
    session : onnxruntime.InferenceSession
    output : str
        Name of the result.
    """

    about: EncoderDescription
    session: Any
    output: str

    @property
    def provider(self) -> str:
        """Part of onnxruntime that runs it: ``CPUExecutionProvider``, or the one of CUDA."""
        return str(self.session.get_providers()[0])

    @property
    def runtime(self) -> str:
        """Name and version of the library that runs it."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def encode(self, pixels: PixelArray) -> NDArray[np.floating[Any]]:
        """Return the features of patches, shape (N, D).

        Parameters
        ----------
        pixels : array, shape (N, size, size, 3), uint8

        Raises
        ------
        UsageError
            If the network cannot run, or returns something else.
        """
        source = self.session.get_inputs()[0]
        batch = network_input(pixels, self.about).astype(_INPUTS[source.type], copy=False)
        try:
            (found,) = self.session.run([self.output], {source.name: batch})
        except Exception as error:  # onnxruntime raises kinds of its own
            raise UsageError(
                f"The encoder {self.about.name} cannot run on {batch.shape}: {error}.",
                hint=f"It must take any number of patches: {_PAGE} shows how to make it.",
            ) from error
        made: NDArray[Any] = np.asarray(found)
        if made.ndim != 2 or len(made) != len(pixels) or made.dtype.kind != "f":
            raise UsageError(
                f"The encoder {self.about.name} returned {made.dtype} of the shape {made.shape} "
                f"for {len(pixels)} patches; one vector per patch was wanted.",
                hint="Name another result as output, or pool it in the network.",
            )
        return made


def open_encoder(path: Path) -> FeatureEncoder:
    """Open the encoder that a JSON file describes.

    Raises
    ------
    MissingDependencyError
        If onnxruntime is not installed.
    UsageError
        If a file is missing, the description is damaged or of another file, or the network takes
        or returns something else.
    """
    need_onnxruntime("A feature encoder", "features")
    about = read_description(EncoderDescription, _read(path), shown=str(path), page=_PAGE)
    file = path.parent / about.file
    session = open_session(_read(file), about, str(file))
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _INPUTS:
        kinds = ", ".join(f"{each.name} {each.type}" for each in inputs)
        raise UsageError(
            f"{file} takes {kinds}; one input of float32 or float16 was wanted.",
            hint=f"{_PAGE} shows how to make it.",
        )
    return FeatureEncoder(about, session, _chosen(session, about.output, file))


def _chosen(session: Any, wanted: str | None, file: Path) -> str:
    """Return the name of the result that is wanted, or of the only one."""
    names = [each.name for each in session.get_outputs()]
    if wanted in names or (wanted is None and len(names) == 1):
        return wanted or names[0]
    problem = "has several results" if wanted is None else f"has no result {wanted!r}"
    raise UsageError(f"{file} {problem}: {', '.join(names)}.", hint="Name one of them as output.")


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}.",
            hint=f"Name the JSON file that describes an encoder: {_PAGE}.",
        ) from error
