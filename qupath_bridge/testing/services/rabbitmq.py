"""RabbitMQ, as Debian installs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from qupath_bridge.errors import MissingDependencyError

from .server import HOST, Server, free_port, is_listening

__all__ = ["RabbitMQ"]

_DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitMQ(Server):
    """A RabbitMQ broker; see `Server`. Its user is ``guest``, with the password ``guest``.

    Erlang's programs look for each other through ``epmd``, which the first of them starts and
    nobody ends. This broker has one of its own, which is stopped with it.
    """

    name: ClassVar[str] = "RabbitMQ"
    user: ClassVar[str | None] = "rabbitmq"

    def __init__(self, folder: Path) -> None:
        self._program = _find_program()
        super().__init__(folder)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._epmd_port = free_port()
        self._distribution_port = free_port()

    @property
    def url(self) -> str:
        """Address for AMQP."""
        return f"amqp://guest:guest@{HOST}:{self.port}//"

    def prepare(self) -> None:
        """Write the configuration."""
        for name in ("mnesia", "logs"):
            (self.folder / name).mkdir()
        self._configuration.write_text(
            f"listeners.tcp.1 = {HOST}:{self.port}\n"
            "log.console = true\n"
            "log.console.level = warning\n"
            "log.file = false\n"
            # A disk that is nearly full would block all who send, and tests would wait for ever.
            "disk_free_limit.absolute = 1MB\n"
        )
        self._plugins.write_text("[].\n")
        self.give_to(self.folder, *self.folder.iterdir())

    def launch(self) -> None:
        """Start ``epmd`` and the broker without waiting for them."""
        if self._epmd is None:
            self.give_to(self.folder)
            self._epmd = self.spawn(["epmd", "-address", HOST, "-port", str(self._epmd_port)])
        super().launch()

    def command(self) -> Sequence[str]:
        """Return the broker in the foreground."""
        return [str(self._program)]

    def environment(self) -> Mapping[str, str]:
        """Return what RabbitMQ's scripts read."""
        return {
            "HOME": str(self.folder),  # of the file .erlang.cookie
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_CONFIG_FILE": str(self._configuration),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._plugins),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_NODENAME": f"bridge{self.port}@localhost",
            "RABBITMQ_PID_FILE": str(self.folder / "rabbitmq.pid"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ("-kernel inet_dist_use_interface {127,0,0,1}"),
        }

    def add_virtual_host(self, name: str) -> None:
        """Make a new virtual host, open to ``guest``."""
        control = str(self._program.parent / "rabbitmqctl")
        self.run([control, "--quiet", "add_vhost", name])
        everything = [".*"] * 3
        self.run([control, "--quiet", "set_permissions", "-p", name, "guest", *everything])

    def is_ready(self) -> bool:
        """Return whether it listens, which it does last."""
        return is_listening(self.port)

    def stop(self) -> None:
        """Stop the broker, then its ``epmd``."""
        super().stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    @property
    def _configuration(self) -> Path:
        return self.folder / "rabbitmq.conf"

    @property
    def _plugins(self) -> Path:
        return self.folder / "enabled_plugins"


def _find_program() -> Path:
    """Return the script that starts the broker as the present user."""
    # Debian's program of the same name in /usr/sbin changes user and folders by itself.
    if sys.platform != "win32" and _DEBIAN.exists() and shutil.which("epmd"):
        return _DEBIAN
    raise MissingDependencyError(
        "RabbitMQ is not installed.", hint="Install Debian's package rabbitmq-server."
    )
