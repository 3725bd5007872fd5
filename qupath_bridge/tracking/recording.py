"""A finished run as a dataset that a tracker can send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from qupath_bridge.config import ExportConfig
from qupath_bridge.datasets.feature_records import FOLDER, file_of, read_record
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.records import REPORT_FILE, RUN_FILE, load_finished
from qupath_bridge.pipeline.run import Run
from qupath_bridge.stores import open_store

from .base import TrackedDataset, TrackedFeatures
from .contact_sheet import contact_sheet

__all__ = ["dataset_record"]

SHEET = "contact_sheet.png"
LONGEST = 100
"""Letters of a name."""


def dataset_record(output: Output, name: str | None = None) -> TrackedDataset:
    """Return a finished run as a dataset.

    With pseudonyms, the place of the output is left out: it is somebody's choice of words.

    Parameters
    ----------
    output : Output
    name : str, optional
        Of the dataset; that of the output when not given, the run id with pseudonyms.

    Raises
    ------
    OutputError
        If there is no finished run, or a record of it is damaged.
    """
    record = load_finished(output)
    run = Run.load(output)
    secret = record["pseudonyms"] is not None
    own = record["run_id"] if secret else output.url.rstrip("/").rpartition("/")[2]
    digest = record["run_digest"]
    facts = {
        "run_id": record["run_id"],
        "digest": digest,
        "config_digest": record["config_digest"],
        "patches": run.written,
        "slides": len(run),
        "qupath_bridge": record["tool"]["version"],
        "finished": record["finished"],
        **({} if secret else {"place": output.url}),
    }
    sheet = contact_sheet(output, raw=record["config"]["format"] == "raw")
    files = {file: output.get(file) for file in (RUN_FILE, REPORT_FILE)}
    return TrackedDataset(
        name=_name(name or own),
        digest=digest,
        facts=facts,
        config=_changed(record["config"]),
        labels=run.label_counts(),
        files=files if sheet is None else {**files, SHEET: sheet},
        features=tuple(_features(output, record["run_id"], digest)),
    )


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:LONGEST].strip("-.") or "patches"


def _changed(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are not the default ones."""
    usual = ExportConfig().as_json()
    return {name: value for name, value in config.items() if value != usual.get(name)}


def _features(output: Output, run_id: str, digest: str) -> Iterator[TrackedFeatures]:
    """Yield the features in the output that were made of this run, and are complete."""
    for name in _names(output):
        found = read_record(output, name)
        if found is None or found.state != "complete" or found.run_id != run_id:
            continue
        facts = {
            "dataset": digest,
            "encoder": found.encoder_digest,
            "numbers": found.width,
            "dtype": found.dtype,
            "format": found.format,
            "patches": sum(found.slides.values()),
            "slides": len(found.slides),
        }
        yield TrackedFeatures(_name(name), facts, output.get(file_of(name, "record.json")))


def _names(output: Output) -> list[str]:
    found = open_store(output.url).children(FOLDER)
    return [name[len(FOLDER) : -1] for name in found if name.endswith("/")]
