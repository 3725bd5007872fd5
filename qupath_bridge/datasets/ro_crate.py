"""RO-Crate 1.1 of a run: the dataset, its files, and the process that made them from slides.

It follows the profile *Process Run Crate*: an action has the slides as its objects, this program as
its instrument, and the dataset as its result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from .description import Description

__all__ = ["ro_crate"]

Entity = dict[str, Any]

VERSION = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
METADATA_FILE = "ro-crate-metadata.json"

_ABOUT = {
    "run.json": "What was asked of the run: all options, versions, digests",
    "report.json": "Counts and findings by slide",
    "index.csv": "One row per patch, for people and spreadsheets",
    "classes.json": "Values of the labels in masks",
    "index": "One row per patch, as Parquet, one partition per slide",
    "patches": "The patches",
    "masks": "Masks of classes, one per patch",
    "instances": "Masks of single objects, one per patch",
    "splits": "Folds of the slides",
    "features": "Features of the patches, one folder per encoder",
    "tissue": "Masks and outlines of tissue",
    "dropped": "Patches that were dropped for their quality",
    "inputs": "Inputs as they were at the start of the run",
}


def ro_crate(made: Description) -> dict[str, Any]:
    """Return the content of ``ro-crate-metadata.json``."""
    graph = [
        _descriptor(),
        _root(made),
        *_files(made),
        *_folders(made),
        *_process(made),
        *_slides(made),
        *_people(made),
    ]
    return {"@context": f"{VERSION}/context", "@graph": graph}


def _reference(identity: str) -> Entity:
    return {"@id": identity}


def _descriptor() -> Entity:
    return {
        "@id": METADATA_FILE,
        "@type": "CreativeWork",
        "conformsTo": _reference(VERSION),
        "about": _reference("./"),
    }


def _root(made: Description) -> Entity:
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": _reference(PROFILE),
        "name": made.name,
        "description": made.description,
        "datePublished": made.record["finished"],
        "identifier": made.record["run_digest"],
        "hasPart": [_reference(file.name) for file in made.files]
        + [_reference(f"{folder}/") for folder in made.folders],
        "mentions": _reference(_action_id(made)),
    }
    if made.license is not None:
        root["license"] = _reference(made.license) if _is_address(made.license) else made.license
    if made.creators:
        root["creator"] = [_reference(_person_id(name)) for name in made.creators]
    return root


def _files(made: Description) -> Iterator[Entity]:
    for file in made.files:
        yield {
            "@id": file.name,
            "@type": "File",
            "name": file.name,
            "description": _ABOUT[file.name],
            "encodingFormat": file.media_type,
            "contentSize": str(file.size),
            "sha256": file.sha256,
        }


def _folders(made: Description) -> Iterator[Entity]:
    for folder in made.folders:
        yield {
            "@id": f"{folder}/",
            "@type": "Dataset",
            "name": folder,
            "description": _ABOUT.get(folder, folder),
        }


def _process(made: Description) -> Iterator[Entity]:
    record, tool = made.record, made.record["tool"]
    program = f"#{quote(str(tool['name']))}-{quote(str(tool['version']))}"
    yield {
        "@id": _action_id(made),
        "@type": "CreateAction",
        "name": f"Export of patches, run {record['run_id']}",
        "description": " ".join(record["command"]),
        "instrument": _reference(program),
        "object": [_reference(_slide_id(slide.slide_id)) for slide in made.slides],
        "result": _reference("./"),
        "startTime": record["started"],
        "endTime": record["finished"],
        "actionStatus": _reference("http://schema.org/CompletedActionStatus"),
    }
    yield {
        "@id": program,
        "@type": "SoftwareApplication",
        "name": tool["name"],
        "version": tool["version"],
    }


def _slides(made: Description) -> Iterator[Entity]:
    for slide in made.slides:
        yield {
            "@id": _slide_id(slide.slide_id),
            "@type": "CreativeWork",
            "name": slide.slide_name,
            "description": f"Whole-slide image; {slide.patches} patches of it are in the dataset",
            "identifier": f"xxh3_128:{slide.digest}",
            "size": f"{slide.size} bytes",
        }


def _people(made: Description) -> Iterator[Entity]:
    if made.license is not None and _is_address(made.license):
        yield {"@id": made.license, "@type": "CreativeWork", "name": made.license}
    for name in made.creators:
        yield {"@id": _person_id(name), "@type": "Person", "name": name}


def _is_address(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _action_id(made: Description) -> str:
    return f"#run-{made.record['run_id']}"


def _slide_id(slide_id: str) -> str:
    return f"#slide-{quote(slide_id, safe='')}"


def _person_id(name: str) -> str:
    return f"#person-{quote(name, safe='')}"
