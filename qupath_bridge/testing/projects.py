"""Synthetic QuPath projects, on disk and in memory.

>>> image = Image("a.svs", [("Tumor", "POLYGON ((0 0, 9 0, 9 9, 0 0))")], size=(2000, 1000))
>>> project = build_memory_project([image])
>>> [annotation.class_path for annotation in project.slides[0].read().annotations]
['Tumor']
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import openslide
import shapely
import tifffile
from shapely.geometry.base import BaseGeometry

from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.model import (
    FIRST_PLANE,
    ClassInfo,
    ImageData,
    ObjectType,
    PathObject,
    PixelSize,
    Plane,
    ServerBuilder,
    TmaGrid,
)
from qupath_bridge.qupath.files import builders
from qupath_bridge.qupath.files.classes import default_rgb, pack_rgb, unpack_rgb
from qupath_bridge.qupath.project_writer import NewEntry, create_project, stored_uri
from qupath_bridge.qupath.rois import make_roi
from qupath_bridge.sources.base import Project
from qupath_bridge.sources.memory import memory_project, memory_slide

__all__ = [
    "Image",
    "Region",
    "Wrapper",
    "affine",
    "build_memory_project",
    "build_project",
    "cropped",
    "flipped",
    "image_data",
    "rotated",
    "tree_hashes",
]

Builder = dict[str, Any]
Wrapper = Callable[[Builder], Builder]
"""Something that QuPath does to an image before it shows it."""


@dataclass(frozen=True, slots=True)
class _Wrap:
    """A wrapper as a value: the function that makes the builder, and what it is called with."""

    make: Callable[..., Builder]
    options: FrozenDict[str, Any]

    def __call__(self, builder: Builder) -> Builder:
        return self.make(builder, **self.options)


def rotated(degrees: Literal[90, 180, 270]) -> Wrapper:
    """Turn an image clockwise by 90, 180 or 270 degrees."""
    return _Wrap(builders.rotated_builder, FrozenDict(degrees=degrees))


def flipped(flip: Literal["HORIZONTAL", "VERTICAL", "BOTH"]) -> Wrapper:
    """Mirror an image: ``HORIZONTAL``, ``VERTICAL`` or ``BOTH`` (QuPath >= 0.7)."""
    return _Wrap(builders.flipped_builder, FrozenDict(flip=flip))


def cropped(x: int, y: int, width: int, height: int) -> Wrapper:
    """Show a part of an image only."""
    return _Wrap(builders.cropped_builder, FrozenDict(x=x, y=y, width=width, height=height))


def affine(matrix: Sequence[float], width: int, height: int) -> Wrapper:
    """Move an image by (m00, m10, m01, m11, m02, m12)."""
    return _Wrap(
        builders.affine_builder, FrozenDict(matrix=tuple(matrix), width=width, height=height)
    )


@dataclass(frozen=True, slots=True, repr=False)
class Region(OneLine):
    """An object of a synthetic image, an annotation unless ``object_type`` says otherwise.

    Attributes
    ----------
    class_path : str or None
    shape : shapely geometry or WKT
        QuPath pixels of the entry, after all wrappers.
    parent : int or None
        Index of the parent among the image's regions; must come before.
    ellipse : bool
        Whether the ellipse in the shape's bounding box is meant.
    id : str or None
        Made from entry and index when not given: the same each time.
    """

    class_path: str | None
    shape: BaseGeometry | str
    name: str | None = None
    plane: Plane | tuple[int, int] = FIRST_PLANE
    parent: int | None = None
    locked: bool = False
    ellipse: bool = False
    id: str | None = None
    object_type: ObjectType = ObjectType.ANNOTATION
    color: int | None = None
    description: str | None = None
    measurements: Mapping[str, float] = FrozenDict()
    metadata: Mapping[str, str] = FrozenDict()
    nucleus: BaseGeometry | None = None
    missing: bool | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Image(OneLine):
    """An image of a synthetic project.

    Attributes
    ----------
    slide : path, or URI with a scheme
        The slide file; it need not exist when ``size`` is given.
    size : (int, int) or None
        Level 0 as QuPath's reader shows it (cropped to bounds unless ``--no-crop`` is in
        ``args``), pixels; read from the file when not given.
    pixel_size : float, (float, float) or None
        µm per pixel of the file, before wrappers; None for uncalibrated.
    channels : sequence of (name, (red, green, blue))
        As QuPath would have recorded them; RGB of 8 bit when not given.
    pixel_type : str
        QuPath's word for the type of their values.
    wrappers : sequence of Wrapper
        Innermost first: ``[rotated(90), cropped(0, 0, 500, 500)]``.
    regions : sequence of Region, or of (class path, shape)
    saved : bool
        False for an image that was added and never saved: it has no data file.
    """

    slide: Path | str
    regions: Sequence[Region | tuple[str | None, BaseGeometry | str]] = ()
    name: str | None = None
    size: tuple[int, int] | None = None
    pixel_size: float | tuple[float, float] | None = 0.5
    magnification: float | None = None
    levels: Sequence[tuple[float, int, int]] = ()
    size_z: int = 1
    size_t: int = 1
    channels: Sequence[tuple[str, tuple[int, int, int]]] = ()
    pixel_type: str = "UINT8"
    wrappers: Sequence[Wrapper] = ()
    args: Sequence[str] = ()
    provider: str | None = builders.OPENSLIDE
    entry_id: int | None = None
    description: str | None = None
    metadata: Mapping[str, str] = FrozenDict()
    tags: Sequence[str] = ()
    image_type: str | None = "BRIGHTFIELD_H_E"
    tma_grid: TmaGrid | None = None
    saved: bool = True


def build_project(
    folder: Path | str,
    images: Sequence[Image],
    classes: Sequence[str | ClassInfo] | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    stored_at: str | None = None,
    version: str = "0.7.0",
) -> Path:
    """Write a synthetic project; the same call writes the same bytes.

    Parameters
    ----------
    folder : path
        New or empty.
    classes : sequence of str or ClassInfo, optional
        The class list; those of the regions when not given.
    stored_at : str, optional
        Folder that the project claims to have been saved in; slides are then found relative to
        it, so that the whole can be moved.

    Returns
    -------
    Path
        The ``project.qpproj``.
    """
    folder = Path(folder)
    numbered = _numbered(images)
    entries = [
        NewEntry(
            name=_name(image),
            builder=_builder(image, _uri(image, folder, stored_at)),
            data=image_data(image, entry_id) if image.saved else None,
            entry_id=entry_id,
            description=image.description,
            metadata=image.metadata,
            tags=image.tags,
        )
        for entry_id, image in numbered
    ]
    return create_project(
        folder,
        entries,
        _class_list(images, classes),
        metadata=metadata,
        stored_at=stored_at,
        version=version,
    )


def build_memory_project(
    images: Sequence[Image],
    classes: Sequence[str | ClassInfo] | None = None,
    *,
    path: Path | str = "memory.qpproj",
) -> Project:
    """Make the same project without writing anything; slides that do not exist have no path."""
    slides = []
    for entry_id, image in _numbered(images):
        uri = _uri(image, Path(path).parent, None)
        builder = _builder(image, uri)
        shown = builder["metadata"]
        slide = memory_slide(
            str(entry_id),
            _name(image),
            image_data(image, entry_id) if image.saved else ImageData(),
            path=Path(image.slide) if Path(image.slide).exists() else None,
            size=(shown["width"], shown["height"]),
            pixel_size=_pixel_size(shown),
            builder=ServerBuilder(builder),
        )
        slides.append(
            replace(
                slide,
                uri=uri,
                tried=(f"as stored: {image.slide}",),
                description=image.description,
                metadata=image.metadata,
                tags=tuple(image.tags),
                size_z=image.size_z,
                size_t=image.size_t,
                magnification=shown.get("magnification"),
                channels=tuple(channel["name"] for channel in shown["channels"]),
                channel_colors=tuple(unpack_rgb(c["color"]) for c in shown["channels"]),
                pixel_type=shown["pixelType"],
                is_rgb=shown["isRGB"],
                levels=tuple((v["downsample"], v["width"], v["height"]) for v in shown["levels"]),
            )
        )
    return memory_project(slides, path=path, classes=_class_list(images, classes), version="0.7.0")


def image_data(image: Image, entry_id: int = 1) -> ImageData:
    """Return the objects of a synthetic image, depth first."""
    regions = [each if isinstance(each, Region) else Region(*each) for each in image.regions]
    objects: list[PathObject] = []
    for index, parent in _depth_first(regions):
        region = regions[index]
        objects.append(
            PathObject(
                id=region.id or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{entry_id}|{index}")),
                object_type=region.object_type,
                class_path=region.class_path,
                name=region.name,
                roi=make_roi(_shape(region.shape), Plane(*region.plane), ellipse=region.ellipse),
                parent=parent,
                parent_id=None if parent < 0 else objects[parent].id,
                locked=region.locked,
                color=region.color,
                class_color=None if region.class_path is None else _color(region.class_path),
                measurements=FrozenDict(region.measurements),
                metadata=FrozenDict(region.metadata),
                description=region.description,
                nucleus=None if region.nucleus is None else make_roi(region.nucleus),
                missing=region.missing,
            )
        )
    return ImageData(tuple(objects), image_type=image.image_type, tma_grid=image.tma_grid)


def tree_hashes(folder: Path | str) -> dict[str, str]:
    """Return the digest of every file below a folder, to show that nothing was changed."""
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _depth_first(regions: Sequence[Region]) -> Iterator[tuple[int, int]]:
    """Yield each region's index, and its parent's place in the list that this makes."""
    children: dict[int | None, list[int]] = {}
    for index, region in enumerate(regions):
        children.setdefault(region.parent, []).append(index)
    place: dict[int | None, int] = {None: -1}
    stack = children.get(None, [])[::-1]
    while stack:
        index = stack.pop()
        place[index] = len(place) - 1
        yield index, place[regions[index].parent]
        stack.extend(children.get(index, [])[::-1])


def _shape(shape: BaseGeometry | str) -> BaseGeometry:
    return shapely.from_wkt(shape) if isinstance(shape, str) else shape


def _color(class_path: str) -> int:
    return pack_rgb(*default_rgb(class_path))


def _class_list(
    images: Sequence[Image], classes: Sequence[str | ClassInfo] | None
) -> tuple[ClassInfo, ...]:
    if classes is None:
        drawn = (o.class_path for image in images for o in image_data(image).objects)
        classes = list(dict.fromkeys(path for path in drawn if path is not None))
    return tuple(c if isinstance(c, ClassInfo) else ClassInfo(c, _color(c)) for c in classes)


def _numbered(images: Sequence[Image]) -> list[tuple[int, Image]]:
    last = max((image.entry_id or 0 for image in images), default=0)
    free = iter(range(last + 1, last + 1 + len(images)))
    return [(image.entry_id or next(free), image) for image in images]


def _has_scheme(slide: Path | str) -> bool:
    return isinstance(slide, str) and ":/" in slide


def _name(image: Image) -> str:
    return image.name or Path(str(image.slide)).name


def _uri(image: Image, folder: Path, stored_at: str | None) -> str:
    if _has_scheme(image.slide):
        return str(image.slide)
    return stored_uri(image.slide, folder, stored_at)


def _builder(image: Image, uri: str) -> Builder:
    size = image.size or _size(Path(image.slide), "--no-crop" in image.args)
    metadata = builders.image_metadata(
        _name(image),
        *size,
        pixel_size=image.pixel_size,
        levels=image.levels,
        magnification=image.magnification,
        size_z=image.size_z,
        size_t=image.size_t,
        channels=image.channels or builders.RGB,
        pixel_type=image.pixel_type,
        is_rgb=not image.channels,
    )
    builder = builders.uri_builder(uri, metadata, provider=image.provider, args=image.args)
    for wrap in image.wrappers:
        builder = wrap(builder)
    return builder


def _size(slide: Path, whole: bool) -> tuple[int, int]:
    """Return the size of a file as QuPath's readers show it."""
    if openslide.OpenSlide.detect_format(slide) is None:
        with tifffile.TiffFile(slide) as tiff:
            height, width = tiff.series[0].shape[:2]
            return width, height
    with openslide.OpenSlide(slide) as file:
        width, height = file.dimensions
        shown = {} if whole else file.properties
        return (
            int(shown.get("openslide.bounds-width", width)),
            int(shown.get("openslide.bounds-height", height)),
        )


def _pixel_size(metadata: Mapping[str, Any]) -> PixelSize | None:
    sides = [metadata["pixelCalibration"][f"pixel{side}"] for side in ("Width", "Height")]
    if any(side["unit"] != "µm" for side in sides):
        return None
    return PixelSize(sides[0]["value"], sides[1]["value"], "project")
