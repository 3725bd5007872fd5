"""Requests of QuPath: what scripts and the extension ask, as JSON files, and the answers.

The command ``qupath-bridge request`` carries them out; :func:`carry_out` does the same for Python.
"""

from __future__ import annotations

from .answering import answer, carry_out, prepare
from .protocol import PROTOCOL, Emit, start_event

__all__ = ["PROTOCOL", "Emit", "answer", "carry_out", "prepare", "start_event"]
