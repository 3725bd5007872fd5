"""Records of a run: what was asked (``run.json``), facts of each slide, what came of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import platform
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash
from pydantic import ValidationError

from qupath_bridge import registry
from qupath_bridge._version import __version__
from qupath_bridge.codecs import encoder_of
from qupath_bridge.config.masks import mask_kinds
from qupath_bridge.errors import OutputError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs import index
from qupath_bridge.outputs.base import DamagedRowsError, Output
from qupath_bridge.outputs.row_batches import AnyRows, batches_of, row_problem
from qupath_bridge.patches import ids
from qupath_bridge.patches.confusion import add_confusions, read_confusion
from qupath_bridge.patches.mask_classes import classes_json
from qupath_bridge.qupath.files.classes import class_colors
from qupath_bridge.readers.base import BadTile
from qupath_bridge.schemas import Record, RunRecord, SlideFacts, first_fault, parse_json
from qupath_bridge.stores.staging import Fetch
from qupath_bridge.urls import place_text

from .pseudonyms import OPEN, Names
from .quality import find_outliers

if TYPE_CHECKING:
    from qupath_bridge.config import ExportConfig, Settings
    from qupath_bridge.model import PathObject
    from qupath_bridge.stores.base import Store

    from .plan import Failure, Plan
    from .survey import Survey

__all__ = [
    "CLASSES_FILE",
    "REPORT_FILE",
    "RUN_FILE",
    "RUN_SCHEMA_VERSION",
    "annotation_record",
    "bad_tile_warnings",
    "bad_tiles_of",
    "check_named",
    "checked",
    "config_digest",
    "confusion_of",
    "dropped_counts",
    "dump_json",
    "facts_record",
    "load_facts",
    "load_finished",
    "load_record",
    "outliers_of",
    "report_record",
    "run_digest",
    "run_record",
    "slide_report",
    "timestamp",
]

RUN_FILE = "run.json"
REPORT_FILE = "report.json"
CLASSES_FILE = "classes.json"
RUN_SCHEMA_VERSION = 1

LIBRARIES = (
    "numpy",
    "shapely",
    "tifffile",
    "openslide-python",
    "openslide-bin",
    "imagecodecs",
    "isal",
    "Pillow",
    "pyarrow",
    "paquo",
)
_VERSION = re.compile(r"^Version: (\S+)$", re.MULTILINE)


DAMAGED = "It was changed by hand or damaged; export into a new folder."


def timestamp() -> str:
    """Return the time now, UTC, to the millisecond."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dump_json(record: Mapping[str, Any]) -> bytes:
    """Return a record as the bytes of a JSON file, the same for the same record."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    # A path that is not UTF-8 has lone surrogates; as an escape they are valid JSON.
    return (text + "\n").encode("utf-8", "backslashreplace")


def load_record(
    place: Output | Store, name: str, schema: type[Record], *, hint: str = DAMAGED
) -> dict[str, Any]:
    """Return a JSON file that this library wrote, checked by its schema.

    ``hint`` says what to do about a damaged one.

    Raises
    ------
    OutputError
        If it is missing, damaged, or of another version; the message says where and what.
    """
    shown = f"{name} in {_name_of(place)}"
    try:
        record = parse_json(place.get(name))
    except ValueError as error:
        raise OutputError(f"{shown} is not JSON: {error}.", hint=hint) from error
    return checked(record, schema, shown, fault=lambda text: OutputError(text, hint=hint))


def load_facts(rows: AnyRows, slide_id: str) -> dict[str, Any]:
    """Return what a partition says of its slide; facts and rows are checked.

    Raises
    ------
    DamagedRowsError
        If it is damaged, or of another slide.
    OutputError
        If its facts are of a version that this one does not know.
    """
    shown = f"The partition of {slide_id}"
    if problem := row_problem(rows):
        raise DamagedRowsError(f"{shown} is damaged: {problem}.")
    try:
        written = index.facts_of(rows)
    except DamagedRowsError as error:
        raise DamagedRowsError(f"{shown} is damaged: {error.message}.") from error
    facts = checked(written, SlideFacts, shown, fault=DamagedRowsError)
    if facts["slide_id"] != slide_id:
        raise DamagedRowsError(f"{shown} is of the slide {facts['slide_id']}.")
    runs = (batch.column(0).unique().to_pylist() for batch in batches_of(rows, ["run_id"]))
    if any(found != [facts["run_id"]] for found in runs if found):
        raise DamagedRowsError(f"{shown} has rows of another run than {facts['run_id']}.")
    return facts


def checked(
    record: Any,
    schema: type[Record],
    shown: str,
    *,
    fault: Callable[[str], OutputError] = lambda text: OutputError(text, hint=DAMAGED),
) -> dict[str, Any]:
    """Return JSON values if they are what a schema says; ``shown`` is what a message calls them.

    ``fault`` makes the error about damaged ones.

    Raises
    ------
    OutputError
    """
    version = record.get("schema_version") if isinstance(record, dict) else RUN_SCHEMA_VERSION
    if isinstance(version, int) and version != RUN_SCHEMA_VERSION:
        raise OutputError(
            f"{shown} has schema version {version}; this version reads {RUN_SCHEMA_VERSION}.",
            hint="Use the version of qupath-bridge that wrote it, or a newer one.",
        )
    try:
        schema.model_validate(record)
    except ValidationError as error:
        raise fault(f"{shown} is damaged: {first_fault(error)}.") from error
    checked_record: dict[str, Any] = record
    return checked_record


def check_named(record: Mapping[str, Any], *, path: Path, **ids: str) -> None:
    """Check that a record is of the run or slide after which its file or folder is named.

    Raises
    ------
    OutputError
        If it says another id.
    """
    for key, wanted in ids.items():
        if record[key] != wanted:
            raise OutputError(f"{path} is damaged: its {key} is {record[key]!r}.", hint=DAMAGED)


def load_finished(place: Output) -> dict[str, Any]:
    """Return ``run.json`` of a finished run.

    Raises
    ------
    OutputError
        If there is no run, or one that was interrupted.
    """
    if not place.has(RUN_FILE):
        raise OutputError(
            f"{place.describe()} contains no run.", hint="Name the output of an export."
        )
    record = load_record(place, RUN_FILE, RunRecord)
    if record["state"] != "complete":
        raise OutputError(
            f"The run in {_name_of(place)} was interrupted.",
            hint="Finish it: export again with resume.",
        )
    return record


def _name_of(place: Output | Store) -> str:
    return place.describe() if isinstance(place, Output) else place.url


def library_versions() -> dict[str, str | None]:
    """Return the installed versions of the libraries that decide results; None if not there."""
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found = metadata.distribution(name)
            # Parsing the whole of the metadata takes longer than planning a slide.
            line = _VERSION.search(found.read_text("METADATA") or "")
            versions[name] = line[1] if line else found.version
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def config_digest(config: ExportConfig) -> str:
    """Return the digest of a configuration: of all that decides patches, whatever the slides."""
    return ids.json_digest(config.decisive())


def run_digest(plan_digests: Mapping[str, str]) -> str:
    """Return the digest of a finished run, from the plan digest of each slide id.

    Engine, paths, times, container of tasks and machine take no part.
    """
    return ids.json_digest({"slides": sorted(plan_digests.items())})


def run_record(
    run_id: str,
    survey: Survey,
    settings: Settings,
    *,
    projects: Sequence[Mapping[str, Any]],
    command: Sequence[str],
    started: str,
    failures: Sequence[Failure] = (),
    names: Names = OPEN,
) -> dict[str, Any]:
    """Return what ``run.json`` says at the start of a run.

    ``projects`` has the path of each project and what is known of its engine; ``failures`` are
    slides of the run that failed already. All of them are open names; ``names`` hides them.
    """
    config = settings.config
    slides: list[tuple[str | None, ...]] = [
        (
            fact.slide_id,
            fact.slide.entry_id,
            names.hide(fact.slide.name),
            names.hide(fact.slide.project.place),
            fact.annotations_origin,
        )
        for fact in survey.slides
    ]
    hidden = [names.failure(each, ()) for each in failures]
    slides += [(f.slide_id, f.entry_id, f.slide_name, f.project, None) for f in hidden]
    return {
        "schema_version": RUN_SCHEMA_VERSION,
        "run_id": run_id,
        "state": "running",
        "started": started,
        "finished": None,
        "command": names.command(command),
        "tool": {
            "name": "qupath-bridge",
            "version": __version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",
            "libraries": library_versions(),
        },
        "encoder": {
            "name": registry.version("encoder", config.format),
            "portable": encoder_of(config).portable and not mask_kinds(config.masks),
        },
        "projects": [
            {
                **project,
                **{
                    key: names.hide(project[key])
                    for key in ("path", "annotations")
                    if project.get(key)
                },
            }
            for project in projects
        ],
        "selection": names.selection(settings.selection),
        "config": config.as_json(),
        "options": names.options(settings.options),
        "config_digest": config_digest(config),
        "labels": dict(survey.labels),
        "classes": classes_json(survey.classes),
        "slides": [
            {
                "slide_id": slide_id,
                "entry_id": entry_id,
                "slide_name": name,
                "project": project,
                "annotations_origin": origin,
            }
            for slide_id, entry_id, name, project, origin in slides
        ],
        "inputs": None,
        "pseudonyms": names.key_id,
        "rows": {},
        "run_digest": None,
    }


def facts_record(
    plan: Plan,
    run_id: str,
    dropped: Mapping[str, int],
    seconds: float | None = None,
    bad_tiles: Collection[BadTile] = (),
    quality: Mapping[str, Mapping[str, float]] = FrozenDict(),
    fetched: Fetch | None = None,
) -> dict[str, Any]:
    """Return what a partition says of its slide.

    ``dropped`` has the number of patches by reason that reading dropped, ``bad_tiles`` the file
    tiles that were read as background, ``quality`` the summary of each quality measure, and
    ``fetched`` says how the slide came from object storage.
    """
    slide, size, names = plan.slide, plan.pixel_size, plan.names
    return {
        "schema_version": RUN_SCHEMA_VERSION,
        "run_id": run_id,
        "entry_id": slide.entry_id,
        "slide_id": plan.slide_id,
        "slide_name": slide.name,
        "project": names.hide(slide.project.place),
        "uri": slide.uri and names.hide(slide.uri),
        "path": names.hide(place_text(plan.path)),
        "fingerprint": {
            "size": plan.fingerprint.size,
            "digest": plan.fingerprint.digest,
            "mtime_ns": plan.fingerprint.mtime_ns,
        },
        "fetched": fetched,
        "coordinates": {
            **_described(plan),
            "pixel_size": None
            if size is None
            else {"x": size.x, "y": size.y, "origin": size.origin},
        },
        "channels": plan.view.as_json(),
        "display": None if plan.display is None else plan.display.as_json(),
        "parts": dict(plan.parts),
        "plan_digest": plan.digest,
        "annotation_digest": plan.annotation_digest,
        "annotations_origin": plan.annotations_origin,
        "slide_label": plan.slide_label,
        "annotations": {a.id: annotation_record(a) for a in plan.annotations},
        "class_colors": {
            path: list(color)
            for path, color in sorted(class_colors(objects=plan.annotations).items())
        },
        "grid": {
            "box": [plan.grid.box_width, plan.grid.box_height],
            "step": [plan.grid.step_x, plan.grid.step_y],
            "origin": [plan.grid.origin_x, plan.grid.origin_y],
            "placed": None if plan.placement is None else plan.placement.kind,
            "sized": plan.table.sized,
            "mpp": plan.mpp,
            "downsample": plan.downsample,
            "read_level": plan.read_level,
        },
        "counts": {
            "planned": len(plan),
            "by_label": dict(sorted(plan.label_counts().items())),
            "dropped": dropped_counts(plan, dropped),
        },
        "quality": {name: dict(summary) for name, summary in quality.items()},
        "stain": None if plan.stain is None else plan.stain.as_json(),
        "corrections": plan.corrections.as_dict(),
        "regions": {**plan.report.as_dict(), **_objects(plan)},
        "bad_tiles": [list(tile) for tile in sorted(bad_tiles)],
        "tissue": None if plan.tissue is None else plan.tissue.facts(plan.slide_id),
        "warnings": [
            *(names.hide_in(text, [slide]) for text in plan.warnings),
            *bad_tile_warnings(bad_tiles),
        ],
        "seconds": seconds,
    }


def _objects(plan: Plan) -> dict[str, Any]:
    """Return what became of the objects around which patches are made."""
    return {} if plan.placement is None else {"objects": dict(plan.placement.counts)}


def _described(plan: Plan) -> dict[str, Any]:
    """Return the coordinate map of a plan, in which the place of the slide file stands too."""
    described = plan.coordinates.describe()
    return {**described, "builder": _with_uri(described["builder"], plan.names.hide)}


def _with_uri(builder: Mapping[str, Any], hide: Callable[[str], str]) -> dict[str, Any]:
    changed = dict(builder)
    if "uri" in changed:
        changed["uri"] = hide(changed["uri"])
    if "builder" in changed:
        changed["builder"] = _with_uri(changed["builder"], hide)
    return changed


def bad_tiles_of(facts: Mapping[str, Any]) -> set[BadTile]:
    """Return the file tiles that were read as background, as facts of a slide list them."""
    return {BadTile(*tile) for tile in facts["bad_tiles"]}


def bad_tile_warnings(bad_tiles: Collection[BadTile]) -> tuple[str, ...]:
    """Return what a user should know of file tiles that were read as background."""
    if not bad_tiles:
        return ()
    first = min(bad_tiles)
    count = "1 file tile" if len(bad_tiles) == 1 else f"{len(bad_tiles)} file tiles"
    return (
        f"{count} cannot be decoded and became background; the first at column {first.column}, "
        f"row {first.row} of level {first.level}, offset {first.offset}.",
    )


def dropped_counts(plan: Plan, while_reading: Mapping[str, int] = FrozenDict()) -> dict[str, int]:
    """Return the number of dropped patches by reason, those that reading dropped included."""
    counts = Counter({str(reason): n for reason, n in plan.dropped.items()})
    counts.update(while_reading)
    return {reason: n for reason, n in counts.items() if n}


def annotation_record(annotation: PathObject) -> list[str | None]:
    """Return class and digest of one annotation, so that ``status`` can say what changed."""
    shape = ids.canonical_annotation(dataclasses.replace(annotation, class_path=None))
    return [annotation.class_path, xxhash.xxh3_64_hexdigest(shape)]


def slide_report(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report says of a slide: its facts with ``written`` and ``by_label``."""
    return {
        "entry_id": facts["entry_id"],
        "slide_id": facts["slide_id"],
        "slide_name": facts["slide_name"],
        "fetched": facts["fetched"],
        "written": facts["written"],
        "by_label": facts["by_label"],
        "dropped": facts["counts"]["dropped"],
        "regions": facts["regions"],
        "annotations_origin": facts["annotations_origin"],
        "quality": facts["quality"],
        "corrections": facts["corrections"],
        "warnings": facts["warnings"],
        "seconds": facts["seconds"],
    }


def confusion_of(slides: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rule against pathologist over all slides of a report, as JSON values."""
    cells = (cell for slide in slides for cell in slide["corrections"]["confusion"])
    return [cell.as_json() for cell in add_confusions(map(read_confusion, cells))]


def outliers_of(slides: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the slides of a report whose quality stands out, as JSON values."""
    summaries = ((slide["slide_id"], slide["quality"]) for slide in slides)
    return [each.as_json() for each in find_outliers(summaries)]


def report_record(
    run_id: str, slides: Sequence[Mapping[str, Any]], failures: Sequence[Failure]
) -> dict[str, Any]:
    """Return ``report.json``: counts and findings by slide, failures with the next step.

    Parameters
    ----------
    slides : sequence of mapping
        A :func:`slide_report` of each committed slide.
    """
    return {
        "schema_version": RUN_SCHEMA_VERSION,
        "run_id": run_id,
        "written": sum(slide["written"] for slide in slides),
        "slides": list(slides),
        "confusion": confusion_of(slides),
        "quality_outliers": outliers_of(slides),
        "failures": [
            {
                "entry_id": failure.entry_id,
                "slide_id": failure.slide_id,
                "slide_name": failure.slide_name,
                "error": failure.error,
                "next": failure.hint,
                "project": failure.project,
                "missing": failure.missing,
            }
            for failure in failures
        ],
    }
