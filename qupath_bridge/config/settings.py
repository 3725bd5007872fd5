"""All options of a command together, and how they are read from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qupath_bridge.errors import ConfigError, Fault
from qupath_bridge.frozen import OneLine
from qupath_bridge.regular_files import read_regular

from .export import ExportConfig
from .faults import placed, unknown
from .listing import MODELS
from .running import RunOptions
from .selection import Selection
from .tables import flatten

MAX_TOML_BYTES = 1 << 20
"""Largest configuration file: the one with every option and its help has 10 kB."""


@dataclass(frozen=True, slots=True, repr=False)
class Settings(OneLine):
    """All options of a command: which slides, what to make, how to run."""

    selection: Selection
    config: ExportConfig
    options: RunOptions

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "") -> Settings:
        """Check values and share them out to the three models, or raise with every fault at once.

        Raises
        ------
        ConfigError
        """
        groups = {group: names for model in MODELS for group, names in model.groups.items()}
        flat, places, faults = flatten(values, groups)
        known = {name: model for model in MODELS for name in model.model_fields}
        faults += [Fault(name, unknown(name, list(known))) for name in flat if name not in known]
        made: list[Any] = []
        for model in MODELS:
            try:
                made.append(model(**{k: v for k, v in flat.items() if known.get(k) is model}))
            except ConfigError as error:
                faults += [placed(fault, places) for fault in error.faults]
        if faults:
            raise ConfigError(faults).within(source)
        return cls(*made)

    @classmethod
    def load(cls, path: Path | str, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Read a TOML file; ``overrides`` win over it, and None there unsets an option.

        Raises
        ------
        ConfigError
            With every fault of the file and its place.
        """
        path = Path(path)
        try:
            values = tomllib.loads(read_regular(path, MAX_TOML_BYTES).decode("utf-8-sig"))
        except FileNotFoundError:
            raise ConfigError([Fault(str(path), "no such file")]) from None
        except UnicodeDecodeError as error:
            raise ConfigError([Fault(str(path), f"not UTF-8 text: {error}")]) from error
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError([Fault(str(path), str(error))]) from error
        except ValueError as error:  # Python's own limit
            raise ConfigError([Fault(str(path), "a number has too many digits")]) from error
        except RecursionError as error:
            raise ConfigError([Fault(str(path), "nested too deeply")]) from error
        settings = cls.parse(values, source=str(path))
        return settings.replace(**overrides) if overrides else settings

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some options changed, whichever model they belong to.

        None stands for the default.

        Raises
        ------
        ConfigError
        """
        known = {name for model in MODELS for name in model.model_fields}
        values = {
            name: value
            for model in (self.selection, self.config, self.options)
            for name, value in model.model_dump(exclude_unset=True).items()
        }
        unset = {name for name, value in changes.items() if value is None and name in known}
        merged = {**values, **changes}
        return self.parse({name: v for name, v in merged.items() if name not in unset})
