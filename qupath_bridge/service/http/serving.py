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
    own = {"log_config": None} if settings.log_format == "json" else {"log_level": "warning"}
    uvicorn.run(
        create_app(service),
        host=settings.host,
        port=settings.port,
        **own,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
