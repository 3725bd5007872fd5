"""Features of the patches of a run, made by an encoder: ``features/<name>/`` in the output."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qupath_bridge._version import __version__
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import OneLine
from qupath_bridge.outputs.base import Output
from qupath_bridge.parallel import available_cores, ordered_map
from qupath_bridge.pipeline.records import RUN_SCHEMA_VERSION, load_finished, timestamp
from qupath_bridge.stores import local_path

from .encoder_fit import check_fit
from .encoders import FeatureEncoder, open_encoder
from .feature_files import (
    FeatureFormat,
    FeatureNote,
    StoredFeatures,
    check_format,
    patches_digest,
    read_features,
    write_features,
)
from .feature_records import FeatureRecord, check_same, file_of, read_record, write_record
from .fold_tables import check_name, index_digest
from .layouts.base import RunRows, SlideRows
from .patch_reading import PATCH_COLUMNS, read_patch

__all__ = ["FeatureFiles", "FeatureType", "make_features"]

FeatureType = Literal["float16", "float32"]
_PIECE = 1 << 20
_ROWS = 1024
"""Rows of the index that become dictionaries at once."""


@dataclass(frozen=True, slots=True, repr=False)
class FeatureFiles(OneLine):
    """Features of a run.

    Attributes
    ----------
    name : str
    place : str
        Folder or URL of the files.
    patches : int
        Number of patches that have features.
    width : int
        Numbers per patch.
    provider : str
        What ran the encoder, as onnxruntime calls it.
    made, renewed, kept : tuple of str
        Slides without a file before, slides whose file was made anew since it was stale or
        damaged, and slides whose file is up to date.
    gone : tuple of str
        Slides that the run has no more; their files are not used.
    """

    name: str
    place: str
    patches: int
    width: int
    provider: str
    made: tuple[str, ...]
    renewed: tuple[str, ...]
    kept: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Values that hold for all slides."""

    run: RunRows
    encoder: FeatureEncoder
    record: FeatureRecord
    batch: int
    progress: Callable[[int], None]


def make_features(
    output: Output,
    encoder: Path,
    *,
    name: str | None,
    format: FeatureFormat,  # noqa: A002
    dtype: FeatureType,
    batch: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> FeatureFiles:
    """Make the features of all patches of a run; what is up to date is kept.

    Raises
    ------
    UsageError
        If encoder and patches do not fit, or features are not finite numbers.
    MissingDependencyError
        If a library is not installed.
    OutputError
        If there is no finished run, if a patch cannot be read, or if there are features of this
        name from another encoder.
    """
    check_format(format)
    if dtype not in get_args(FeatureType):
        raise UsageError(f"No features are {dtype!r}.", hint="Use float32 or float16.")
    if batch < 1:
        raise UsageError("A batch has less than one patch.", hint="Use 1 or more.")
    run = RunRows(output, load_finished(output))
    opened = open_encoder(encoder)
    wanted = opened.about.name if name is None else name
    check_name(wanted, "features")
    record = _record(run, opened, wanted, check_fit(run, opened.about), format, dtype)
    before = read_record(output, wanted)
    check_same(before, record)
    total = sum(slide.table.num_rows for slide in run.slides())
    job = _Job(run, opened, record, batch, _counter(total, on_progress))
    return _make_all(job, before)


def _record(
    run: RunRows,
    encoder: FeatureEncoder,
    name: str,
    mpp: tuple[float, float],
    format: str,  # noqa: A002
    dtype: str,
) -> FeatureRecord:
    return FeatureRecord(
        schema_version=RUN_SCHEMA_VERSION,
        name=name,
        state="running",
        run_id=run.record["run_id"],
        index_digest=index_digest(run.output),
        encoder=encoder.about.model_dump(mode="json"),
        encoder_digest=encoder.about.encoder_digest,
        mpp=list(mpp),
        format=format,
        dtype=dtype,
        tool=f"qupath-bridge {__version__}",
        runtime=encoder.runtime,
        provider=encoder.provider,
        width=None,
        slides={},
        finished=None,
    )


def _counter(total: int, on_progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        if on_progress:
            on_progress(done, total)

    return count


def _make_all(job: _Job, before: FeatureRecord | None) -> FeatureFiles:
    output, record = job.run.output, job.record
    earlier = {} if before is None else before.slides
    write_record(output, record.model_copy(update={"slides": earlier}))
    slides: dict[str, int] = {}
    widths: dict[int, str] = {}
    found: dict[str, list[str]] = {"made": [], "renewed": [], "kept": []}
    for slide in job.run.slides():
        action, width = _make_slide(job, slide)
        found[action].append(slide.slide_id)
        slides[slide.slide_id] = slide.table.num_rows
        widths.setdefault(width, slide.slide_id)
    if len(widths) > 1:
        raise UsageError(
            f"The encoder gives {' and '.join(map(str, widths))} numbers per patch: "
            f"{', '.join(widths.values())}.",
            hint="Use one whose results have one length.",
        )
    (width,) = widths
    done = {"state": "complete", "width": width, "slides": slides, "finished": timestamp()}
    write_record(output, record.model_copy(update=done))
    return FeatureFiles(
        name=record.name,
        place=_place(output, record.name),
        patches=sum(slides.values()),
        width=width,
        provider=record.provider,
        gone=tuple(sorted(earlier.keys() - slides.keys())),
        **{action: tuple(ids) for action, ids in found.items()},
    )


def _place(output: Output, name: str) -> str:
    folder = local_path(output.url)
    return f"{output.url}/features/{name}" if folder is None else str(folder / "features" / name)


def _make_slide(job: _Job, slide: SlideRows) -> tuple[Literal["made", "renewed", "kept"], int]:
    """Make the features of a slide where they are not up to date; return their width, too."""
    output, record = job.run.output, job.record
    file = file_of(record.name, f"{slide.slide_id}.{record.format}")
    note = _note(job, slide)
    there = output.has(file)
    if there and (stored := _current(output, file, slide, note)) is not None:
        job.progress(slide.table.num_rows)
        return "kept", stored.values.shape[1]
    values = _encode(job, slide)
    ids = slide.table.column("patch_id").to_pylist()
    _write(output, file, StoredFeatures(ids, values, note), record)
    return "renewed" if there else "made", values.shape[1]


def _note(job: _Job, slide: SlideRows) -> FeatureNote:
    record = job.record
    resolutions = slide.table.column("mpp").unique().to_pylist()
    return FeatureNote(
        schema_version=record.schema_version,
        run_id=record.run_id,
        slide_id=slide.slide_id,
        patches_digest=patches_digest(slide.table),
        encoder_digest=record.encoder_digest,
        encoder=record.encoder,
        mpp=[min(resolutions), max(resolutions)],
        dtype=record.dtype,
        tool=record.tool,
        runtime=record.runtime,
        provider=record.provider,
    )


def _current(
    output: Output, file: str, slide: SlideRows, note: FeatureNote
) -> StoredFeatures | None:
    """Return the features that a slide has; None if they are damaged, or of something else."""
    folder = local_path(output.url)
    source = io.BytesIO(output.get(file)) if folder is None else folder / file
    try:
        stored = read_features(source, Path(file).suffix, file)
    except UsageError:
        return None
    was = stored.note
    same = (
        was is not None
        and was.patches_digest == note.patches_digest
        and was.encoder_digest == note.encoder_digest
        and str(stored.values.dtype) == note.dtype
        and stored.ids == slide.table.column("patch_id").to_pylist()
    )
    return stored if same else None


def _encode(job: _Job, slide: SlideRows) -> NDArray[Any]:
    """Return the features of a slide, shape (N, D), in the order of its rows."""
    output, raw = job.run.output, job.run.config.format == "raw"
    rows = slide.table.select(PATCH_COLUMNS)
    each = (row for part in rows.to_batches(_ROWS) for row in part.to_pylist())
    pixels = ordered_map(
        lambda row: read_patch(output, row, raw=raw),
        each,
        workers=max(available_cores(), output.at_once),
    )
    values: NDArray[Any] | None = None
    with closing(pixels):
        for start in range(0, rows.num_rows, job.batch):
            stop = min(start + job.batch, rows.num_rows)
            found = job.encoder.encode(np.stack([next(pixels) for _ in range(start, stop)]))
            if values is None:
                values = np.empty((rows.num_rows, found.shape[1]), job.record.dtype)
            with np.errstate(over="ignore"):  # said below
                values[start:stop] = found
            _check_finite(values[start:stop], slide.slide_id, job.record)
            job.progress(stop - start)
    assert values is not None  # noqa: S101  # there are no slides without patches
    return values


def _check_finite(values: NDArray[Any], slide_id: str, record: FeatureRecord) -> None:
    if not np.isfinite(values).all():
        raise UsageError(
            f"Features of {slide_id} are not finite numbers in {record.dtype}.",
            hint="Use float32; numbers of 16 bits overflow above 65,504."
            if record.dtype == "float16"
            else "Look at the encoder, and at mean and std in its description.",
        )


def _write(output: Output, file: str, stored: StoredFeatures, record: FeatureRecord) -> None:
    """Write the file of a slide, whole or not at all."""
    format: Any = record.format  # noqa: A001
    try:
        with tempfile.TemporaryFile() as made:
            write_features(made, stored, format)
            made.seek(0)
            output.put(file, iter(lambda: made.read(_PIECE), b""), durable=True)
    except OSError as error:
        raise OutputError(
            f"{file} in {output.describe()} cannot be written: {error.strerror or error}.",
            hint="Free disk space, also in the folder of temporary files.",
        ) from error
