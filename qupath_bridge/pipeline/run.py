"""A run: what was committed to an output folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge.stores.local import LocalStore

from . import records
from .plan import Failure

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Progress", "Run"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: patches done and in all, and the slide at work."""

    done: int
    total: int
    slide_name: str


@dataclass(frozen=True, slots=True)
class Run:
    """What was committed.

    Attributes
    ----------
    out : Path
        The output folder.
    record : mapping
        ``run.json`` as written.
    report : mapping
        ``report.json`` as written.
    """

    out: Path
    record: Mapping[str, Any]
    report: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The sortable id of the run."""
        return str(self.record["run_id"])

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The slides that failed, and why."""
        return tuple(
            Failure(f["entry_id"], f["slide_name"], f["error"], f["next"])
            for f in self.report["failures"]
        )

    @property
    def written(self) -> int:
        """Number of patches that the run wrote or found unchanged."""
        return int(self.report["written"])

    def table(self) -> pa.Table:
        """Return the index, one row a patch, as an Arrow table."""
        from qupath_bridge.outputs import index

        return index.read_index(LocalStore(self.out))

    @classmethod
    def load(cls, out: Path | str) -> Run:
        """Read a finished run back from its output folder.

        Raises
        ------
        OutputError
            If there is no finished run.
        """
        store = LocalStore(Path(out))
        record = records.load_finished(store)
        return cls(Path(out), record, records.load_record(store, records.REPORT_FILE))
