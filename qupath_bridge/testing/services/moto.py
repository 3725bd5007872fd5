"""An object store that speaks S3, in memory."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from qupath_bridge.errors import MissingDependencyError

from .server import HOST, Server

__all__ = ["Moto"]


class Moto(Server):
    """A server of the package ``moto``; see `Server`. What it holds is gone when it stops."""

    name: ClassVar[str] = "moto"

    def __init__(self, folder: Path) -> None:
        if any(importlib.util.find_spec(name) is None for name in ("moto", "flask", "flask_cors")):
            raise MissingDependencyError(
                "The server of moto is not installed.", hint="pip install 'moto[server]'"
            )
        super().__init__(folder)

    @property
    def url(self) -> str:
        """Address of the endpoint."""
        return f"http://{HOST}:{self.port}"

    @property
    def variables(self) -> Mapping[str, str]:
        """Variables that clients of S3 read from the environment; any key is right."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def prepare(self) -> None:
        """Do nothing: it keeps all in memory."""

    def command(self) -> Sequence[str]:
        """Return the server in the foreground."""
        return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]
