"""A run: what was committed to an output."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import count, one_line
from qupath_bridge.model import Reason
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Output
from qupath_bridge.patches.confusion import Confusion, read_confusion
from qupath_bridge.schemas import ReportRecord
from qupath_bridge.stores import local_path

from . import records
from .plan import Failure
from .profile import Profile

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Run"]


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished run.

    Its length is the number of slides, iteration gives what the report says of each, and a slide
    is found by entry ID, slide id or name. Two runs are equal when their ids and digests are.

    Attributes
    ----------
    url : str
        The output; ``file:///…`` for a folder.
    record : mapping
        ``run.json`` as written.
    report : mapping
        ``report.json`` as written.
    provenance : tuple of Path
        Folders to which this call wrote the tiles for QuPath; ``s3:/bucket/…`` in object storage.
    previews : tuple of str
        Pictures that this call drew.
    warnings : tuple of str
        What the user should know; those of slides stand in the report.
    unsure : int
        Patches whose change in QuPath can be an accident; it was not applied.
    profile : Profile or None
        Where the time of this call went, if the options asked for it.
    """

    url: str
    record: Mapping[str, Any]
    report: Mapping[str, Any]
    provenance: tuple[Path, ...] = ()
    previews: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unsure: int = 0
    profile: Profile | None = None

    @property
    def out(self) -> Path:
        """The output folder.

        Raises
        ------
        UsageError
            If the output is not a folder of this machine; ``url`` names it.
        """
        path = local_path(self.url)
        if path is None:
            raise UsageError(f"{self.url} is not a folder.", hint="Use run.url or run.open().")
        return path

    @property
    def place(self) -> str:
        """The output as messages call it: the whole path of a folder, or the URL."""
        path = local_path(self.url)
        return self.url if path is None else str(path.resolve())

    @property
    def run_id(self) -> str:
        """The sortable id of the run."""
        return str(self.record["run_id"])

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The slides that failed, and why."""
        return tuple(
            Failure(
                entry_id=f["entry_id"],
                slide_name=f["slide_name"],
                error=f["error"],
                hint=f["next"],
                slide_id=f["slide_id"],
                project=f["project"],
                missing=f["missing"],
            )
            for f in self.report["failures"]
        )

    @property
    def written(self) -> int:
        """Number of patches that the run wrote or found unchanged."""
        return int(self.report["written"])

    def label_counts(self) -> dict[str, int]:
        """Return the number of patches by label."""
        counts: dict[str, int] = {}
        for slide in self:
            for label, number in slide["by_label"].items():
                counts[label] = counts.get(label, 0) + number
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def dropped_counts(self) -> dict[str, int]:
        """Return the number of patches that were not written, by reason; 0 for the others."""
        counts = {str(reason): 0 for reason in Reason}
        for slide in self:
            for reason, number in slide["dropped"].items():
                counts[reason] = counts.get(reason, 0) + number
        return counts

    def correction_counts(self) -> dict[str, int]:
        """Return the number of corrected, confirmed, rejected and contested patches."""
        kinds = ("corrected", "confirmed", "rejected", "contested")
        return {kind: sum(slide["corrections"][kind] for slide in self) for kind in kinds}

    def confusion(self) -> tuple[Confusion, ...]:
        """Return what the rule and pathologists say of the patches that pathologists looked at."""
        return tuple(map(read_confusion, self.report["confusion"]))

    def open(self) -> Output:
        """Open the output, to read patches back."""
        return open_output(self.url)

    def table(self) -> pa.Table:
        """Return the index, one row per patch, as an Arrow table."""
        from qupath_bridge.outputs.index import read_index

        return read_index(self.open())

    @classmethod
    def load(cls, out: Path | str | Output) -> Run:
        """Read a finished run back from its output.

        Raises
        ------
        OutputError
            If there is no finished run.
        """
        output = out if isinstance(out, Output) else open_output(out)
        record = records.load_finished(output)
        report = records.load_record(output, records.REPORT_FILE, ReportRecord)
        return cls(output.url, record, report)

    def __len__(self) -> int:
        return len(self.report["slides"])

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.report["slides"])

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        found = [
            slide
            for slide in self.report["slides"]
            if key in {slide["entry_id"], slide["slide_id"], slide["slide_name"]}
        ]
        if len(found) != 1:
            problem = "No slide" if not found else "More than one slide"
            raise UsageError(f"{problem} of run {self.run_id} is called {key!r}.")
        slide: Mapping[str, Any] = found[0]
        return slide

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.run_id, self.url, self.record["run_digest"]

    def __repr__(self) -> str:
        failed = len(self.failures)
        return one_line(
            "Run",
            f"{self.run_id!r}, {count(self.written, 'patch', 'patches')} of "
            f"{count(len(self), 'slide')}",
            f"{count(failed, 'slide')} failed" if failed else None,
            out=self.place if len(self.place) <= 80 else f"…{self.place[-79:]}",
        )

    def _repr_html_(self) -> str:
        """Return counts and place for notebooks."""
        rows = "".join(
            f"<tr><td>{html.escape(label)}</td><td>{number}</td></tr>"
            for label, number in self.label_counts().items()
        )
        return (
            f"<p>{html.escape(repr(self))}</p>"
            f"<table><tr><th>label</th><th>patches</th></tr>{rows}</table>"
        )
