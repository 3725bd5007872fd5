"""Words for runs in texts for people: when a run was made, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from qupath_bridge.config import ExportConfig, options

__all__ = ["local_time", "run_words", "settings_words"]


def run_words(run_id: str, record: Mapping[str, Any]) -> str:
    """Return words for a run, as in ``the run of 2026-05-04 10:20 (256 px, 0.5 µm/px)``.

    Parameters
    ----------
    run_id : str
    record : mapping
        Of the run; empty if there is none, and the run is then called by its ID.
    """
    if not record:
        return f"the run {run_id}"
    return f"the run of {local_time(record['started'])} ({settings_words(record['config'])})"


def local_time(time: str) -> str:
    """Return an ISO 8601 time as the clock of this computer shows it; another text as it is."""
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return time


def settings_words(config: Mapping[str, Any]) -> str:
    """Return the size and the pixel size of patches, and all other options that were chosen."""
    return ", ".join(_settings(config))


def _settings(config: Mapping[str, Any]) -> Iterator[str]:
    default = ExportConfig().as_json()
    if config.get("margin") is None and config.get("per_region") != "picture":
        yield f"{config.get('size')} px"
    if config.get("mpp") is not None:
        yield f"{config['mpp']:g} µm/px"
    elif config.get("magnification") is None:
        yield "full resolution"
    for option in options():
        name = option.name
        if name in ("size", "mpp") or name not in default or config.get(name) == default[name]:
            continue
        yield f"{name.replace('_', ' ')} {_shown(config.get(name))}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
