"""Arrow in a process of our own: without pandas, which it would import for nothing."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

__all__ = ["import_arrow"]


class _HiddenPandas(MetaPathFinder):
    """Says that pandas is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name, name=name)


def import_arrow() -> None:
    """Import pyarrow, and let it find that there is no pandas.

    At the first value that it converts, pyarrow imports pandas where that is installed, to know
    its classes: a fifth of a second, in which some hundred patches are made. Only for processes
    that are ours alone: pyarrow would take a column of pandas for any sequence afterwards. Whoever
    asks it for a DataFrame still gets one, and ``import pandas`` works as before.
    """
    if "pandas" in sys.modules:
        return
    hidden = _HiddenPandas()
    sys.meta_path.insert(0, hidden)
    try:
        import pyarrow as pa

        pa.array([0])
    finally:
        sys.meta_path.remove(hidden)
