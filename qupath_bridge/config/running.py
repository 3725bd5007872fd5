"""Options of running: where things are, what does the work, and how far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from .base import Model
from .declare import option, part
from .values import NO_PAIRS, Here, Pairs, Strings, as_corrections, check_bytes


class RunOptions(Model):
    """Options of running: engine, reader, places, workers. They never change a patch's bytes.

    What is read at another place does, and the plan of a slide says so.

    Raises
    ------
    ConfigError
        With every fault and its place.
    """

    places: ClassVar[bool] = True
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "places": (
            "slide_map",
            "search",
            "annotations",
            "skip_bad_features",
            "metadata",
            "metadata_key",
            "corrections",
            "reviewer",
            "live_annotations",
            "coords",
            "preview",
            "provenance",
            "create_project",
            "tissue_annotations",
        ),
        "privacy": ("pseudonymise", "metadata_keep"),
        "running": (
            "workers",
            "runner",
            "engine",
            "qupath",
            "reader",
            "fetch",
            "cache",
            "cache_size",
            "resume",
            "update",
            "break_lock",
            "progress",
            "profile",
            "track",
        ),
    }

    slide_map: Pairs = option(
        NO_PAIRS,
        "where slides moved: where one fits, they are at no other place; may be repeated",
        show="OLD=NEW",
    )
    search: Strings = option((), "folder in which to look for slides by name", show="DIR")
    annotations: Here = option(
        None,
        "GeoJSON in place of what the project has: a file, or a folder with a file per slide, "
        "found by the slide's name",
        show="PLACE",
    )
    skip_bad_features: bool = option(
        False, "leave out GeoJSON features that cannot be read, and name them"
    )
    metadata: Path | None = option(
        None,
        "table (CSV, Parquet) whose columns are added to the metadata of the slides",
        show="FILE",
    )
    metadata_key: str = option(
        "slide",
        "column of METADATA that says which slide a row is of: by entry ID, name or file, or by "
        "metadata of this name that the slides have, as patient",
        show="COLUMN",
    )
    corrections: Annotated[str, BeforeValidator(as_corrections)] = option(
        "auto",
        "what pathologists said about patches: that of the project, nothing, or a file",
        show="auto|none|FILE",
    )
    reviewer: str | None = option(
        None, "who made the corrections that are collected now", show="NAME"
    )
    live_annotations: Here = option(
        None,
        "unsaved annotations from a QuPath window, in place of the saved ones: a folder with a "
        "file ENTRY_ID.geojson per slide",
        show="DIR",
    )
    coords: Here = option(
        None,
        "patches where another tool took them, instead of a grid: a file of CLAM, TRIDENT, STAMP "
        "or slideflow, or a folder with a file per slide; size comes from there",
        show="PLACE",
    )
    preview: Here = option(
        None,
        "picture of the plan, PNG or JPEG; of several slides plan draws one page, and export one "
        "picture per slide, with its id in the name",
        show="FILE",
    )
    provenance: bool = option(True, "write the run's tiles as GeoJSON into the project")
    tissue_annotations: bool = option(
        False, "write the outlines of the tissue there, too, as annotations that QuPath imports"
    )
    create_project: Here = option(
        None,
        "make a QuPath project over slides that have none, in a new folder, and export from it: "
        "the patches can be seen and corrected there",
        show="DIR",
    )

    pseudonymise: Here = option(
        None,
        "put pseudonyms in place of the names of slides, files and folders; the key file is made "
        "if it is not there, and turns them back",
        show="KEYFILE",
    )
    metadata_keep: Strings = option(
        (), "metadata that pseudonymised patches keep; may be repeated", show="KEY"
    )

    workers: int | None = option(
        None, "number of workers; the number of cores when not given", show="N", ge=1
    )
    runner: Annotated[str, part("runner", argument=True)] = option(
        "threads",
        "what runs the work: threads, processes, or a cluster: dask[:ADDRESS], spark[:MASTER]",
        show="NAME[:ARGUMENT]",
    )
    engine: Annotated[str, part("source")] = option(
        "auto", "what reads and writes the project: QuPath's own classes or our reader", show="NAME"
    )
    qupath: Here = option(
        None, "folder of the QuPath that the engine paquo uses; the newest found", show="DIR"
    )
    reader: Annotated[str, part("reader", besides=("auto",))] = option(
        "auto", "what reads the slide files", show="NAME"
    )
    fetch: Literal["copy", "ranges"] | None = option(
        None,
        "how slides come from object storage: copied whole to the cache, or only what is needed of "
        "them, where their format allows it; QUPATH_BRIDGE_FETCH, else copy",
    )
    cache: Here = option(
        None,
        "folder for copies of slides from object storage; QUPATH_BRIDGE_CACHE, else one of the "
        "user",
        show="DIR",
    )
    cache_size: Annotated[str | None, AfterValidator(check_bytes)] = option(
        None, "most bytes of the cache; QUPATH_BRIDGE_CACHE_SIZE, else 50GB", show="SIZE"
    )
    resume: bool = option(False, "finish a run that was interrupted")
    update: bool = option(False, "export again only what has changed")
    break_lock: bool = option(
        False, "take an output over from a run that seems to be at work there"
    )
    progress: Literal["auto", "jsonl", "none"] = option("auto", "progress on stderr")
    profile: bool = option(False, "say where the time went, step by step, and what the limit is")
    track: Annotated[str, part("tracker", besides=("none",), argument=True)] = option(
        "none",
        "tell a service of the dataset, as wandb: records and counts, a picture of some patches",
        show="none|NAME[:ARGUMENT]",
    )

    def only(self, *names: str) -> RunOptions:
        """Return a copy with the options of these names; all others have their default."""
        return RunOptions(**{name: getattr(self, name) for name in names})

    def changed(self, *besides: str) -> tuple[str, ...]:
        """Return the names of the options that differ from their default, but for some."""
        fields = type(self).model_fields
        return tuple(
            name
            for name, field in fields.items()
            if name not in besides and getattr(self, name) != field.default
        )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.resume and self.update:
            raise ValueError("resume and update exclude each other; give one of them")
        if self.live_annotations is not None and self.annotations is not None:
            raise ValueError("annotations and live_annotations exclude each other; give one")
        if self.skip_bad_features and self.annotations is None:
            raise ValueError("skip_bad_features needs annotations, the GeoJSON files")
        if self.metadata_keep and self.pseudonymise is None:
            raise ValueError("metadata_keep needs pseudonymise, the key file")
        if self.pseudonymise is not None and self.live_annotations is not None:
            raise ValueError(
                "pseudonymise and live_annotations exclude each other: what somebody wrote into "
                "annotations would be kept with the run"
            )
        if self.metadata_key != "slide" and self.metadata is None:
            raise ValueError("metadata_key needs metadata, the table")
        if self.tissue_annotations and not self.provenance:
            raise ValueError("tissue_annotations needs provenance, the run's folder in the project")
        return self
