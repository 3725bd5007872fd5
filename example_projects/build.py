"""Writes the files of the example projects; see README.md in this folder."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from qupath_bridge.model import ClassInfo, ImageData, PathObject
from qupath_bridge.qupath.files.builders import image_metadata, rotated_builder, uri_builder
from qupath_bridge.qupath.files.classes import pack_rgb
from qupath_bridge.qupath.geojson import load
from qupath_bridge.qupath.project_writer import NewEntry, create_project, stored_uri
from qupath_bridge.qupath.rois import make_roi

HERE = Path(__file__).absolute().parent
SLIDE_NAME = "CMU-1-Small-Region.svs"
WIDTH, HEIGHT = 2220, 2967
MPP, MAGNIFICATION = 0.499, 20.0

# A folder that does not exist: QuPath and qupath-bridge then search for the slide relative to the
# project, and the files are the same on every machine.
STORED_AT = "/qupath-bridge/example_projects"

# Metadata key of an annotation's description in QuPath.
DESCRIPTION = "ANNOTATION_DESCRIPTION"

BIO_FORMATS = "qupath.lib.images.servers.bioformats.BioFormatsServerBuilder"
PLEX_NAME, PLEX_SIZE = "plex.ome.tif", (768, 576)
PLEX_CHANNELS = (
    ("DAPI", (0, 96, 255)), ("CD3", (0, 255, 0)), ("CD20", (255, 0, 255)), ("Ki67", (255, 255, 0)),
    ("PanCK", (255, 72, 0)),
)  # fmt: skip

PIGMENTED = "Epithelium: Pigmented"
PIGMENTED_NAMES = {"Epidermis, pigmented", "Rete ridge"}


def read_regions() -> tuple[PathObject, ...]:
    """Return the regions of the slide, each with its description where QuPath keeps it."""
    return tuple(
        replace(each, description=each.metadata.get(DESCRIPTION))
        for each in load(HERE / "demo_regions.json")
    )


def rotate_90(objects: Iterable[PathObject]) -> tuple[PathObject, ...]:
    """Return objects in the coordinates of the slide turned clockwise: (x, y) → (H − y, x)."""
    return tuple(
        replace(
            each,
            roi=make_roi(
                shapely.transform(
                    each.roi.geometry, lambda xy: np.column_stack([HEIGHT - xy[:, 1], xy[:, 0]])
                )
            ),
        )
        for each in objects
        if each.roi is not None
    )


def with_new_ids(objects: Iterable[PathObject], key: str) -> tuple[PathObject, ...]:
    """Return copies with other ids, for another image."""
    return tuple(replace(each, id=str(uuid.uuid5(uuid.UUID(each.id), key))) for each in objects)


def pigmented(objects: Iterable[PathObject]) -> tuple[PathObject, ...]:
    """Return objects; those with brown pigment have the derived class."""
    color = pack_rgb(150, 80, 20)
    return tuple(
        replace(each, class_path=PIGMENTED, class_color=color)
        if each.name in PIGMENTED_NAMES
        else each
        for each in objects
    )


def of_classes(objects: Iterable[PathObject], *classes: str) -> tuple[PathObject, ...]:
    """Return the objects of some classes."""
    return tuple(each for each in objects if each.class_path in classes)


def class_list(objects: Iterable[PathObject]) -> tuple[ClassInfo, ...]:
    """Return the classes of objects, in the order of their first use."""
    colors = {each.class_path: each.class_color for each in objects if each.class_path}
    return tuple(ClassInfo(path, color) for path, color in colors.items())


def slide_builder(project: str) -> dict[str, object]:
    """Return the server builder with which a project opens the slide in ``skin/``."""
    uri = stored_uri(HERE / "skin" / SLIDE_NAME, HERE / project, f"{STORED_AT}/{project}")
    metadata = image_metadata(
        SLIDE_NAME, WIDTH, HEIGHT, pixel_size=MPP, magnification=MAGNIFICATION
    )
    return uri_builder(uri, metadata)


def image(objects: Sequence[PathObject]) -> ImageData:
    """Return the image data of an H&E image with these objects."""
    return ImageData(tuple(objects), image_type="BRIGHTFIELD_H_E")


def build_skin(folder: Path) -> Path:
    """Write the project of the slide itself."""
    regions = read_regions()
    entry = NewEntry(
        SLIDE_NAME,
        slide_builder("skin"),
        image(regions),
        description="Skin, H&E, part of CMU-1 (CC0). Regions drawn for this example.",
        metadata={"patient": "P1", "stain": "H&E"},
        tags=["example"],
    )
    return create_project(folder, [entry], class_list(regions), stored_at=f"{STORED_AT}/skin")


def build_rotated(folder: Path) -> Path:
    """Write the project with a turned image, a derived class, and two images of one name."""
    regions = read_regions()
    plain = slide_builder("rotated")
    turned = with_new_ids(rotate_90(pigmented(regions)), "rotated")
    reader_a = with_new_ids(of_classes(regions, "Epithelium", "Keratin"), "reader A")
    reader_b = with_new_ids(of_classes(regions, "Stroma", "Immune cells"), "reader B")
    entries = [
        NewEntry(
            f"{SLIDE_NAME} - rotated 90",
            rotated_builder(plain, 90),
            image(turned),
            metadata={"patient": "P1"},
        ),
        NewEntry(SLIDE_NAME, plain, image(reader_a), metadata={"patient": "P1", "reader": "A"}),
        NewEntry(SLIDE_NAME, plain, image(reader_b), metadata={"patient": "P1", "reader": "B"}),
    ]
    return create_project(
        folder, entries, class_list([*regions, *turned]), stored_at=f"{STORED_AT}/rotated"
    )


def build_plex(folder: Path) -> Path:
    """Write the project of a slide in five fluorescence channels."""
    first, *others = load(HERE / "plex_regions.json")  # the first surrounds all others
    regions = (first, *(replace(each, parent=0) for each in others))
    width, height = PLEX_SIZE
    uri = stored_uri(HERE / "plex" / PLEX_NAME, HERE / "plex", f"{STORED_AT}/plex")
    metadata = image_metadata(
        PLEX_NAME,
        width,
        height,
        pixel_size=0.5,
        levels=((1.0, width, height), (2.0, width // 2, height // 2)),
        channels=PLEX_CHANNELS,
        pixel_type="UINT16",
        is_rgb=False,
        tile=(128, 128),
    )
    entry = NewEntry(
        PLEX_NAME,
        uri_builder(uri, metadata, provider=BIO_FORMATS, args=("--series", "0")),
        ImageData(regions, image_type="FLUORESCENCE"),
        description="Made-up tissue in five channels.",
    )
    return create_project(folder, [entry], class_list(regions), stored_at=f"{STORED_AT}/plex")


BUILDERS = {"skin": build_skin, "rotated": build_rotated, "plex": build_plex}


def install(name: str, target: Path) -> None:
    """Build a project in a temporary folder, then replace the old files."""
    with tempfile.TemporaryDirectory() as scratch:
        new = BUILDERS[name](Path(scratch) / name).parent
        target.mkdir(parents=True, exist_ok=True)
        for part in sorted(new.iterdir()):
            old = target / part.name
            if old.is_dir():
                shutil.rmtree(old)
            if part.is_dir():
                shutil.copytree(part, old)
            else:
                shutil.copy2(part, old)


def main() -> None:
    """Rebuild the projects, here or below another folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder that holds the projects")
    out = parser.parse_args().out
    for name in BUILDERS:
        install(name, out / name)
        print(out / name / "project.qpproj")


if __name__ == "__main__":
    main()
