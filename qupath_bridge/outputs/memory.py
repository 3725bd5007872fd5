"""An output in memory: for tests, and for results that are used in the same process."""

from __future__ import annotations

from typing import NoReturn

from qupath_bridge.errors import UsageError
from qupath_bridge.stores.memory import SCHEME, MemoryStore

from .folder import FolderOutput

__all__ = ["MemoryOutput"]


class MemoryOutput(FolderOutput):
    """The files of the output ``folder``, in memory.

    What is written stays until the process ends, or until ``output.store.forget()``.

    Parameters
    ----------
    url : str or MemoryStore, optional
        ``memory://NAME``, or a store; a new name when not given.
    argument : None
        The output ``memory`` takes none.

    Raises
    ------
    UsageError
        If the URL is that of another place, or there is an argument.
    """

    name = "memory"
    in_process = True
    """Other processes cannot open it; runners that use some refuse it."""

    def __init__(self, url: str | MemoryStore | None = None, argument: str | None = None) -> None:
        if isinstance(url, str) and not url.lower().startswith(SCHEME):
            raise UsageError(
                f"The output 'memory' does not write to {url}.",
                hint=f"Name {SCHEME}NAME, or use the output 'folder'.",
            )
        super().__init__(url if isinstance(url, MemoryStore) else MemoryStore(url), argument)

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            f"The memory output {self.url} cannot be used by another process.",
            hint="Use threads, or the output 'folder'.",
        )
