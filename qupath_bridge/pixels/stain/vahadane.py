"""Stain vectors by sparse factorisation without negative numbers (Vahadane et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.model import FloatArray
from qupath_bridge.pixels.base import StainSample

from .macenko import plane_vectors
from .separation import SeparationMethod

__all__ = ["VahadaneStain"]

SPARSITY = 0.1
"""Weight of the sum of amounts against the squared error."""

_MOST = 8000  # pixels


def _dictionary_learning() -> Any:
    try:
        from sklearn.decomposition import MiniBatchDictionaryLearning
    except ImportError as error:
        raise MissingDependencyError(
            "The stain 'vahadane' needs scikit-learn, which is not installed.",
            hint="Install it with: pip install 'qupath-bridge[stain]'.",
        ) from error
    return MiniBatchDictionaryLearning


@dataclass(frozen=True, slots=True)
class VahadaneStain(SeparationMethod):
    """Two vectors with which most pixels have mainly one stain. No argument."""

    name = "vahadane"

    def find(self, density: FloatArray, sample: StainSample) -> FloatArray | None:
        """Return two vectors, found from those of Macenko's method on."""
        learning = _dictionary_learning()
        start = plane_vectors(density)
        if start is None:
            return None
        chosen = density[:: -(-len(density) // _MOST)]
        model = learning(
            2,
            alpha=SPARSITY,
            max_iter=20,
            batch_size=1024,
            fit_algorithm="cd",
            transform_algorithm="lasso_cd",
            positive_code=True,
            positive_dict=True,
            dict_init=np.maximum(start, 0),
            random_state=0,
            shuffle=True,
        )
        vectors: FloatArray = model.fit(chosen).components_
        return vectors if vectors[0, 0] > vectors[1, 0] else vectors[::-1]
