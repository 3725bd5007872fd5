"""Real servers on this machine, for tests and for a person who tries the service.

Each has a data folder of its own and free ports of 127.0.0.1, and is stopped by its process id:
what else runs on the machine is neither used nor touched. ``python -m
qupath_bridge.testing.services`` starts them all.
"""

from .moto import Moto
from .postgresql import PostgreSQL
from .rabbitmq import RabbitMQ
from .server import Server, ServerError, free_port

__all__ = ["Moto", "PostgreSQL", "RabbitMQ", "Server", "ServerError", "free_port"]
