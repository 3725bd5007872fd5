"""Networks in ONNX files: what describes one, and what makes it ready to run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.model import PixelArray
from qupath_bridge.schemas import first_fault

__all__ = [
    "PROVIDERS", "DescribedNetwork", "need_onnxruntime", "network_input", "open_session",
    "read_description",
]  # fmt: skip

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Providers of onnxruntime, best first. Others are not used: their results differ more."""

Three = Annotated[tuple[float, float, float], Field(strict=False)]


class DescribedNetwork(BaseModel):
    """Base of the descriptions of ONNX files.

    A network takes (N, 3, H, W), red, green and blue as ``(value / 255 - mean) / std``.

    Attributes
    ----------
    mpp : float
        µm per pixel that it was trained for.
    mean, std : three numbers
    licence, digest : str
        ``digest`` is ``xxh3_128:`` and 32 digits, of the ONNX file.
    """

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="forbid")

    name: str
    version: str
    mpp: Annotated[float, Field(gt=0)]
    mean: Three
    std: Three
    licence: str
    digest: str
    note: str | None = None

    @model_validator(mode="after")
    def _check_std(self) -> DescribedNetwork:
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        return self


Description = TypeVar("Description", bound=DescribedNetwork)


def need_onnxruntime(what: str, extra: str) -> None:
    """Refuse what cannot run without onnxruntime.

    Raises
    ------
    MissingDependencyError
    """
    if find_spec("onnxruntime") is None:
        raise MissingDependencyError(
            f"{what} needs onnxruntime.",
            hint=f"Install it with: pip install 'qupath-bridge[{extra}]'.",
        )


def read_description(
    schema: type[Description], text: bytes, *, shown: str, page: str
) -> Description:
    """Return the description of a network from its JSON text.

    Parameters
    ----------
    schema : type
    text : bytes
    shown : str
        What messages call the file.
    page : str
        Document that lists what it holds.

    Raises
    ------
    UsageError
        If it is damaged.
    """
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(
            f"{shown}: its description is damaged: {first_fault(error)}.",
            hint=f"{page} lists what it holds.",
        ) from error


def open_session(model: bytes, about: DescribedNetwork, shown: str) -> Any:
    """Return a session of onnxruntime for the bytes of an ONNX file.

    Raises
    ------
    UsageError
        If the description is of another file, or the file cannot be loaded.
    """
    import onnxruntime

    digest = f"xxh3_128:{xxhash.xxh3_128_hexdigest(model)}"
    if about.digest != digest:
        raise UsageError(
            f"{shown}: its description is of another file: it says {about.digest}, the file has "
            f"{digest}.",
            hint="Correct the digest if both belong together.",
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.use_deterministic_compute = True
    available = onnxruntime.get_available_providers()
    wanted = [name for name in PROVIDERS if name in available]
    try:
        return onnxruntime.InferenceSession(model, options, providers=wanted)
    except Exception as error:  # onnxruntime raises kinds of its own
        raise UsageError(
            f"{shown} cannot be loaded: {error}.",
            hint="It must be one ONNX file, with its weights inside.",
        ) from error


def network_input(pixels: PixelArray, about: DescribedNetwork) -> NDArray[np.float32]:
    """Return pixels (N, H, W, 3), uint8, as a network takes them: (N, 3, H, W), float32."""
    mean, std = (np.array(values, np.float32) for values in (about.mean, about.std))
    return np.ascontiguousarray(
        ((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
    )
