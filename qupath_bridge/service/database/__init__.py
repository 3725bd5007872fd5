"""The database: the state of jobs, and an index of what was committed.

What runs committed is in their outputs; the index repeats it for quick questions, and
:func:`~qupath_bridge.service.database.indexing.index_run` makes it again from an output.
"""

from .engine import Database

__all__ = ["Database"]
