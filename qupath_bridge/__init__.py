"""QuPath annotations to labelled patches, and back."""

from __future__ import annotations

from ._version import __version__

__all__ = ["__version__"]
