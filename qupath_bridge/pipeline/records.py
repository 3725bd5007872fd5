"""``run.json`` and ``report.json``: what was asked, on what, with what, and what came of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import xxhash

from qupath_bridge._version import __version__
from qupath_bridge.errors import OutputError
from qupath_bridge.patches import ids

if TYPE_CHECKING:
    from qupath_bridge.config import ExportConfig
    from qupath_bridge.model import PathObject
    from qupath_bridge.stores.base import Store

    from .plan import Failure, Plan

__all__ = [
    "REPORT_FILE",
    "RUN_FILE",
    "RUN_SCHEMA_VERSION",
    "dump_json",
    "load_finished",
    "load_record",
    "plan_digest",
    "report_record",
    "run_record",
    "slide_record",
    "timestamp",
]

RUN_FILE = "run.json"
REPORT_FILE = "report.json"
RUN_SCHEMA_VERSION = 1

LIBRARIES = (
    "numpy",
    "shapely",
    "tifffile",
    "openslide-python",
    "openslide-bin",
    "imagecodecs",
    "pyarrow",
    "paquo",
)


def timestamp() -> str:
    """Return the time now, UTC, to the millisecond."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dump_json(record: Mapping[str, Any]) -> bytes:
    """Return a record as the bytes of a JSON file, the same for the same record."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    # A path that is no UTF-8 holds lone surrogates; as an escape they are valid JSON.
    return (text + "\n").encode("utf-8", "backslashreplace")


def load_record(store: Store, name: str, required: Sequence[str] = ()) -> dict[str, Any]:
    """Return a JSON record of a store, or raise OutputError naming what is wrong with it."""
    try:
        record = json.loads(store.get(name))
    except ValueError as error:
        raise OutputError(
            f"{name} in {_place(store)} is not JSON: {error}.",
            hint="It was changed by hand or damaged; export into a new folder.",
        ) from error
    if not isinstance(record, dict):
        raise OutputError(
            f"{name} in {_place(store)} is not a JSON object.", hint="Export into a new folder."
        )
    missing = [key for key in required if key not in record]
    if missing:
        raise OutputError(
            f"{name} in {_place(store)} lacks {', '.join(missing)}.",
            hint="It was changed by hand or damaged.",
        )
    version = record.get("schema_version")
    if version != RUN_SCHEMA_VERSION:
        raise OutputError(
            f"{name} in {_place(store)} has schema version {version!r}; this version reads "
            f"{RUN_SCHEMA_VERSION}.",
            hint="Use the version of qupath-bridge that wrote it, or a newer one.",
        )
    return record


def load_finished(store: Store) -> dict[str, Any]:
    """Return ``run.json`` of a finished run.

    Raises
    ------
    OutputError
        If there is no run, or one that was interrupted.
    """
    if not store.exists(RUN_FILE):
        raise OutputError(
            f"{_place(store)} holds no run.", hint="Name the folder that was given to --out."
        )
    record = load_record(store, RUN_FILE)
    if record["state"] != "complete":
        raise OutputError(
            f"The run in {_place(store)} was interrupted.",
            hint="Finish it with export --resume.",
        )
    return record


def _place(store: Store) -> object:
    return getattr(store, "root", "memory")


def library_versions() -> dict[str, str | None]:
    """Return the installed versions of the libraries that decide results; None if not there."""
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def plan_digest(plans: Sequence[Plan], config: ExportConfig) -> str:
    """Return the digest of what decides an export: configuration, slides, annotations.

    Running options, paths, times, engine and machine take no part.
    """
    slides = sorted((plan.digest_values() for plan in plans), key=lambda s: str(s["entry_id"]))
    return ids.json_digest({"config": config.digest_values(), "slides": slides})


def run_record(
    run_id: str,
    plans: Sequence[Plan],
    config: ExportConfig,
    *,
    command: Sequence[str],
    engine: Mapping[str, Any],
    started: str,
) -> dict[str, Any]:
    """Return what ``run.json`` says at the start of a run."""
    return {
        "schema_version": RUN_SCHEMA_VERSION,
        "run_id": run_id,
        "state": "running",
        "started": started,
        "finished": None,
        "command": list(command),
        "tool": {
            "name": "qupath-bridge",
            "version": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "libraries": library_versions(),
        },
        "engine": dict(engine),
        "config": json.loads(config.model_dump_json()),
        "plan_digest": plan_digest(plans, config),
        "slides": [slide_record(plan) for plan in plans],
    }


def slide_record(plan: Plan) -> dict[str, Any]:
    """Return what ``run.json`` says of one slide."""
    slide, size = plan.slide, plan.pixel_size
    return {
        "entry_id": slide.entry_id,
        "slide_id": plan.slide_id,
        "slide_name": slide.name,
        "uri": slide.uri,
        "path": str(plan.path),
        "fingerprint": {
            "size": plan.fingerprint.size,
            "digest": plan.fingerprint.digest,
            "mtime_ns": plan.fingerprint.mtime_ns,
        },
        "coordinates": {
            **plan.coordinates.describe(),
            "pixel_size": None
            if size is None
            else {"x": size.x, "y": size.y, "origin": size.origin},
        },
        "digest": ids.json_digest(plan.digest_values()),
        "annotation_digest": plan.annotation_digest,
        "annotations": {a.id: annotation_record(a) for a in plan.annotations},
        "grid": {
            "box": [plan.grid.box_width, plan.grid.box_height],
            "step": [plan.grid.step_x, plan.grid.step_y],
            "origin": [plan.grid.origin_x, plan.grid.origin_y],
            "mpp": plan.mpp,
            "downsample": plan.downsample,
            "read_level": plan.read_level,
        },
        "counts": {"kept": len(plan), **counts_record(plan)},
        "seconds": None,
    }


def annotation_record(annotation: PathObject) -> list[str | None]:
    """Return class and digest of one annotation, so that ``status`` can say what changed."""
    shape = ids.canonical_annotation(dataclasses.replace(annotation, class_path=None))
    return [annotation.class_path, xxhash.xxh3_64_hexdigest(shape)]


def counts_record(plan: Plan) -> dict[str, Any]:
    """Return the counts of one plan by label and by reason."""
    return {
        "by_label": dict(sorted(plan.label_counts().items())),
        "dropped": {str(reason): n for reason, n in plan.dropped.items() if n},
    }


def report_record(
    run_id: str, plans: Sequence[Plan], failures: Sequence[Failure]
) -> dict[str, Any]:
    """Return ``report.json``: counts and findings by slide, failures with the next step."""
    failed = {failure.entry_id for failure in failures}
    done = [plan for plan in plans if plan.slide.entry_id not in failed]
    return {
        "schema_version": RUN_SCHEMA_VERSION,
        "run_id": run_id,
        "written": sum(len(plan) for plan in done),
        "slides": [
            {
                "entry_id": plan.slide.entry_id,
                "slide_id": plan.slide_id,
                "slide_name": plan.slide.name,
                "written": len(plan),
                **counts_record(plan),
                "regions": plan.report.as_dict(),
                "warnings": list(plan.warnings),
            }
            for plan in done
        ],
        "failures": [
            {
                "entry_id": failure.entry_id,
                "slide_name": failure.slide_name,
                "error": failure.error,
                "next": failure.hint,
            }
            for failure in failures
        ],
    }
