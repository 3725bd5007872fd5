"""The settings of the service: one immutable value, from the environment and a TOML file."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from qupath_bridge.config.base import Model
from qupath_bridge.errors import ConfigError, Fault
from qupath_bridge.regular_files import read_regular

__all__ = ["ServiceSettings", "load_settings"]

PREFIX = "QUPATH_BRIDGE_"
"""Beginning of the environment variables: ``QUPATH_BRIDGE_DATABASE`` is ``database``."""

FILE_VARIABLE = f"{PREFIX}SERVICE_CONFIG"
"""Environment variable that names the TOML file."""

MAX_FILE_BYTES = 1 << 20

TOKEN_LENGTH = 16
"""Fewest characters of a token."""


def _texts(value: Any) -> Any:
    """Return a list; a text from the environment has its parts between semicolons."""
    if isinstance(value, str):
        return [part for part in value.split(";") if part]
    return value


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < TOKEN_LENGTH:  # a message must not repeat it
        raise ValueError(f"needs at least {TOKEN_LENGTH} characters")
    return value


Token = Annotated[SecretStr, AfterValidator(_long_enough)]
Roots = Annotated[tuple[str, ...], BeforeValidator(_texts)]


class ServiceSettings(Model):
    """Places of the state of the service, what it may touch, and its limits.

    Secrets (``database``, ``broker``, ``token``) are never shown.

    Attributes
    ----------
    database : SecretStr
        URL as SQLAlchemy takes it; an SQLite file in the data folder of the user by default.
    queue : str
        Name of a registered queue: ``embedded`` keeps messages in the database.
    broker : SecretStr or None
        URL of the broker, for queues that have one.
    sources, outputs : tuple of str
        Roots, below which sources and outputs of jobs have to be. Nothing is allowed without
        them.
    token : SecretStr or None
        What clients send. None lets everybody in, which only a loopback address may do.
    host, port
        Where the API listens.
    log_format : "text" or "json"
        Lines for people, or for a program that collects them.
    task_seconds : float
        Longest time for one slide; its process is ended then.
    memory_mb : int or None
        Address space of the process of a slide, in MiB, where the system can limit it.
    attempts : int
        Times that a slide is tried when its process dies, hangs, or its output fails.
    lease_seconds : float
        Silence after which a worker counts as dead, and its slide is given to another.
    retry_seconds : float
        Wait before the second attempt; each further one waits twice as long.
    max_body_bytes : int
        Largest request.
    requests_per_minute : int
        Of one client.
    page_size : int
        Most entries of one page.
    """

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    places: ClassVar[bool] = True

    database: SecretStr = Field(default_factory=lambda: SecretStr(default_database()))
    queue: str = "embedded"
    broker: SecretStr | None = None
    sources: Roots = ()
    outputs: Roots = ()
    token: Token | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8350, ge=0, lt=65536)
    log_format: Literal["text", "json"] = "text"
    task_seconds: float = Field(default=3600.0, gt=0)
    memory_mb: int | None = Field(default=None, ge=256)
    attempts: int = Field(default=3, ge=1)
    lease_seconds: float = Field(default=60.0, gt=0)
    retry_seconds: float = Field(default=5.0, ge=0)
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    requests_per_minute: int = Field(default=600, ge=1)
    page_size: int = Field(default=500, ge=1, le=10_000)


def default_database() -> str:
    """Return the URL of the SQLite file in the data folder of the user."""
    return f"sqlite:///{(_data_folder() / 'service.sqlite').as_posix()}"


def _data_folder() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "qupath-bridge"


def load_settings(
    environ: Mapping[str, str] | None = None, file: Path | None = None, **changes: Any
) -> ServiceSettings:
    """Return the settings of a TOML file, of the environment, and of the caller; the last wins.

    Parameters
    ----------
    environ : mapping, optional
        Environment variables; those of this process when not given.
    file : Path, optional
        The TOML file; ``QUPATH_BRIDGE_SERVICE_CONFIG`` names it when not given.
    **changes
        Single settings; None leaves a setting as it is.

    Raises
    ------
    ConfigError
        With every fault and its place. Values of secrets are not repeated.
    """
    environ = os.environ if environ is None else environ
    place = file or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    values: dict[str, Any] = {} if place is None else _read(place)
    for name in ServiceSettings.model_fields:
        if given := environ.get(f"{PREFIX}{name.upper()}"):
            values[name] = given
    values |= {name: value for name, value in changes.items() if value is not None}
    return ServiceSettings.parse(values, source="service")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_regular(path, MAX_FILE_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError) as error:  # no text, no TOML
        raise ConfigError([Fault(str(path), str(error))]) from error
