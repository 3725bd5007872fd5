"""The request ``check``: what answers, and what it lacks."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from qupath_bridge import registry
from qupath_bridge._version import __version__
from qupath_bridge.errors import BridgeError
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.doctor import checks

from .protocol import PROTOCOL, Emit, Request

__all__ = ["CheckRequest", "check"]

_KINDS = {"tissue": "tissue", "encoder": "encoder", "container": "output"}
"""Kinds of parts that a person chooses from in QuPath: name in the answer, and in the registry."""

_ONLY_IN_PYTHON = {"memory"}
"""Parts of which nothing is left when a request ends."""


class CheckRequest(Request):
    """Ask for version, parts and problems."""


def check(request: CheckRequest, emit: Emit, cancel: Cancel | None = None) -> Mapping[str, Any]:
    """Return version, Python, the parts that can be used, and what is missing."""
    return {
        "version": __version__,
        "protocol": PROTOCOL,
        "python": sys.executable,
        "platform": platform.platform(),
        "parts": {shown: list(_usable(kind)) for shown, kind in _KINDS.items()},
        # Which QuPath there is does not matter here: one is asking.
        "problems": [
            f"{each.name}: {each.found}" + (f"; {each.next}" if each.next else "")
            for each in checks(())
            if each.state == "missing"
        ],
    }


def _usable(kind: str) -> Iterator[str]:
    for name in registry.names(kind):
        if name in _ONLY_IN_PYTHON:
            continue
        try:
            if kind == "tissue":
                registry.create(kind, name)  # one that needs an argument cannot be chosen there
            else:
                registry.load(kind, name)
        except BridgeError:
            continue
        yield name
