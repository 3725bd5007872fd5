"""Serving the API with uvicorn."""

from __future__ import annotations

import uvicorn

from qupath_bridge.service.opened import Service

from .app import create_app
from .guards import check_open_address

__all__ = ["serve"]


def serve(service: Service) -> None:
    """Answer requests until the program is interrupted.

    Raises
    ------
    UsageError
        If everybody could ask from other machines.
    """
    settings = service.settings
    check_open_address(settings)
    uvicorn.run(
        create_app(service),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
