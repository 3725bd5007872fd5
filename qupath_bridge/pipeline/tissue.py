"""Tissue of a slide in a plan: the map, the share of tissue of boxes, and what is kept of it."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely
import xxhash
from PIL import Image

from qupath_bridge import registry
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import PlanError
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.geometry.coverage import coverage, grid_coverage
from qupath_bridge.geometry.validity import repair
from qupath_bridge.model import (
    BoxArray,
    FloatArray,
    MaskArray,
    ObjectType,
    PathObject,
    PixelArray,
    PixelSize,
    Plane,
    Slide,
)
from qupath_bridge.patches.planning import TissueTest
from qupath_bridge.pixels.base import SlideView
from qupath_bridge.pixels.tissue import TissueShares, find_tissue
from qupath_bridge.pixels.tissue.outlines import outline_mask
from qupath_bridge.qupath.files.classes import pack_rgb
from qupath_bridge.qupath.geojson import dumps
from qupath_bridge.qupath.rois import make_roi
from qupath_bridge.readers.base import Reader

from .channels import ChannelView
from .inputs import digest_of
from .pixels import read_whole

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon

    from qupath_bridge.outputs.base import Output

__all__ = [
    "TISSUE_CLASS",
    "SlideTissue",
    "check_tissue",
    "find_slide_tissue",
    "outline_file",
    "read_tissue_file",
    "tissue_problems",
]

UNKNOWN_SIDE = 2048
"""Pixels of the longer side of the map of a slide without pixel size."""

MAX_PIXELS = 50_000_000
"""Pixels of a map at most."""

TISSUE_CLASS = "Tissue"
TISSUE_COLOR = (0, 130, 200)
_NAMESPACE = uuid.UUID("6f1b6c0e-5c1d-5f0a-9d43-8c9a3f4d2b71")


@dataclass(frozen=True, eq=False)
class SlideTissue:
    """The tissue of a slide, as small as it is kept with a plan and a run.

    Attributes
    ----------
    entry_id : str
    size : (width, height)
        Of the image, QuPath pixels.
    png : bytes
        The mask: a PNG file of one bit per pixel, white where tissue is, of the whole image.
    digest : str
        Of the pixels of the mask, whatever the bytes of the file.
    method : str
        Name of the method.
    mpp : float or None
        µm per pixel of the mask, mean of both axes.
    threshold : float or None
        Above which probabilities are tissue.
    share : float
        Of the whole image.
    note, made_from : str or None
    outline : MultiPolygon or None
        QuPath pixels; None for the sides of the pixels of the mask.
    """

    entry_id: str
    size: tuple[int, int]
    png: bytes = field(repr=False)
    digest: str
    method: str
    mpp: float | None
    threshold: float | None
    share: float
    note: str | None = None
    made_from: str | None = None
    outline: MultiPolygon | None = field(default=None, repr=False)

    @property
    def mask(self) -> MaskArray:
        """The mask, shape (h, w)."""
        return decode_mask(self.png)

    @cached_property
    def geojson(self) -> bytes:
        """The tissue as an annotation that QuPath imports; no feature if there is none."""
        outline = self.outline
        if outline is None:
            mask, (width, height) = self.mask, self.size
            outline = outline_mask(mask, (mask.shape[1] / width, mask.shape[0] / height))
        return _geojson(outline, self.entry_id, self.method)

    def files(self, slide_id: str) -> dict[str, bytes]:
        """Return the side files of a run: the mask, and its outline for QuPath."""
        place = f"tissue/{slide_id}"
        return {f"{place}.png": self.png, f"{place}.geojson": self.geojson}

    def facts(self, slide_id: str) -> dict[str, Any]:
        """Return what the partition of the slide says of it."""
        return {
            "method": self.method,
            "mpp": self.mpp,
            "threshold": self.threshold,
            "share": self.share,
            "file": f"tissue/{slide_id}.png",
            "digest": self.digest,
            "outline": digest_of(self.geojson),
            "note": self.note,
        }


def check_tissue(config: ExportConfig) -> None:
    """Refuse a tissue method that lacks what it needs for all slides, before the first one.

    Raises
    ------
    MissingDependencyError, UsageError
    """
    if config.tissue != "none":
        check = getattr(registry.create("tissue", config.tissue), "check", None)
        if check is not None:
            check()


def read_tissue_file(config: ExportConfig, name: str, entry_id: str) -> bytes | None:
    """Return the file that the tissue method needs for a slide, by its name in the project.

    None if it needs none, or if it is not there: then the slide's own task says so.
    """
    if config.tissue == "none":
        return None
    read = getattr(registry.create("tissue", config.tissue), "read_for", None)
    try:
        return None if read is None else bytes(read(name, entry_id))
    except PlanError:
        return None


def find_slide_tissue(
    slide: Slide,
    slide_id: str,
    config: ExportConfig,
    reader: Reader,
    coordinates: CoordinateMap,
    channels: ChannelView,
    pixel_size: PixelSize | None,
    annotations: Sequence[PathObject],
    frozen: bytes | None = None,
) -> tuple[SlideTissue | None, TissueTest | None]:
    """Return the tissue that the options ask for, and the test of boxes; None without.

    ``frozen`` is what the run has kept of :func:`read_tissue_file`.

    Raises
    ------
    PlanError
        If the method cannot tell, or the map would be too large.
    """
    if config.tissue == "none":
        return None, None
    size = coordinates.size
    shape = map_shape(size, pixel_size, config.tissue_mpp)

    def read(indices: Sequence[int] | None = None) -> PixelArray:
        chosen = channels.whole if indices is None else channels.select(indices)
        plane = Plane(*config.plane[0])
        return read_whole(reader, coordinates, (shape[1], shape[0]), plane, chosen)

    view = SlideView(
        name=slide.name,
        entry_id=slide.entry_id,
        slide_id=slide_id,
        size=size,
        shape=shape,
        mpp=_mpp(size, shape, pixel_size),
        read=read,
        annotations=tuple(annotations),
        channels=channels.all_names,
        is_rgb=channels.whole.is_rgb,
        frozen=frozen,
    )
    method = registry.create("tissue", config.tissue)
    found = find_tissue(method, view, _threshold(config.tissue_threshold))
    outline, test = None, None
    if found.mask is None:
        outline = _dissolved(found.shapes or (), size)
        mask, test = _drawn(outline, view), _test_of(outline)
        share = outline.area / (size[0] * size[1])
    else:
        mask = found.mask
        scale = (mask.shape[1] / size[0], mask.shape[0] / size[1])
        test, share = TissueShares(mask, scale), float(mask.mean())
    tissue = SlideTissue(
        entry_id=slide.entry_id,
        size=size,
        png=encode_mask(mask),
        digest=_digest(mask),
        method=registry.split_argument(config.tissue)[0],
        mpp=_mpp(size, (mask.shape[0], mask.shape[1]), pixel_size),
        threshold=found.threshold,
        share=share,
        note=found.note,
        made_from=found.made_from,
        outline=outline,
    )
    return tissue, test


def _threshold(text: str | None) -> float | Literal["otsu"] | None:
    if text is None or text == "otsu":
        return text  # type: ignore[return-value]  # the validator holds the values
    return float(text)


def map_shape(size: tuple[int, int], pixel_size: PixelSize | None, mpp: float) -> tuple[int, int]:
    """Return height and width of the map of a slide; never more pixels than the slide has.

    Parameters
    ----------
    size : (width, height)
        QuPath pixels.
    pixel_size : PixelSize or None
        Without it, the longer side has :data:`UNKNOWN_SIDE` pixels at most.
    mpp : float
        µm per pixel of the map that are wanted.

    Examples
    --------
    >>> map_shape((1000, 500), PixelSize(0.5, 1.0, "user"), 10), map_shape((9000, 90), None, 10)
    ((50, 50), (20, 2048))
    """
    width, height = size
    if pixel_size is None:
        factors = (min(1.0, UNKNOWN_SIDE / max(size)),) * 2
    else:
        factors = (min(1.0, pixel_size.x / mpp), min(1.0, pixel_size.y / mpp))
    columns, rows = max(1, round(width * factors[0])), max(1, round(height * factors[1]))
    if rows * columns > MAX_PIXELS:
        raise PlanError(
            f"The tissue map would have {columns} x {rows} pixels; "
            f"{MAX_PIXELS // 1_000_000} million are the most.",
            hint="Set tissue_mpp to more µm per pixel.",
        )
    return rows, columns


def _mpp(
    size: tuple[int, int], shape: tuple[int, int], pixel_size: PixelSize | None
) -> float | None:
    if pixel_size is None:
        return None
    return (pixel_size.x * size[0] / shape[1] + pixel_size.y * size[1] / shape[0]) / 2


def _dissolved(shapes: Sequence[Any], size: tuple[int, int]) -> MultiPolygon:
    """Return the union of shapes inside the image."""
    parts = [shape if shape.is_valid else repair(shape)[0] for shape in shapes]
    union = shapely.intersection(shapely.union_all(parts), shapely.box(0, 0, *size))
    polygons = [p for p in shapely.get_parts(union) if p.geom_type == "Polygon" and p.area > 0]
    return shapely.MultiPolygon(polygons).normalize()


def _drawn(outline: MultiPolygon, view: SlideView) -> MaskArray:
    """Return the pixels of the map of which a shape covers at least a half."""
    rows, columns = view.shape
    scaled = shapely.transform(outline, lambda xy: xy * view.scale)
    if scaled.is_empty:
        return np.zeros(view.shape, np.bool_)
    if not scaled.is_valid:  # by rounding
        scaled = repair(scaled)[0]
    shares = grid_coverage(np.arange(columns), np.arange(rows), 1, 1, [scaled])[0]
    return np.asarray(shares >= 0.5)


def _test_of(outline: MultiPolygon) -> TissueTest:
    def test(boxes: BoxArray) -> FloatArray:
        if outline.is_empty:
            return np.zeros(len(boxes))
        return coverage(boxes, [outline])[:, 0]

    return test


def encode_mask(mask: MaskArray) -> bytes:
    """Return a mask as a PNG file of one bit per pixel."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def decode_mask(png: bytes) -> MaskArray:
    """Return the mask of :func:`encode_mask`, shape (h, w)."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
        return np.asarray(picture.convert("1"))


def _digest(mask: MaskArray) -> str:
    height, width = mask.shape
    content = b"%d,%d," % (width, height) + np.packbits(mask).tobytes()
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(content)}"


def _geojson(outline: MultiPolygon, entry_id: str, method: str) -> bytes:
    if outline.is_empty:
        return (dumps(()) + "\n").encode()
    shape = shapely.transform(outline, lambda xy: np.round(xy, 2))
    tissue = PathObject(
        id=str(uuid.uuid5(_NAMESPACE, f"{entry_id}|{method}")),
        object_type=ObjectType.ANNOTATION,
        roi=make_roi(shape if shape.is_valid else repair(shape)[0]),
        class_path=TISSUE_CLASS,
        class_color=pack_rgb(*TISSUE_COLOR),
        name=f"Tissue ({method})",
    )
    return (dumps([tissue]) + "\n").encode()


def outline_file(mask_file: str) -> str:
    """Return the name of the file with the outline of a mask, from that of the mask.

    >>> outline_file("tissue/1_a.svs.png")
    'tissue/1_a.svs.geojson'
    """
    return f"{mask_file.removesuffix('.png')}.geojson"


def tissue_problems(facts: Mapping[str, Any], output: Output) -> Iterator[tuple[str, str | None]]:
    """Yield name and problem of the side files that are not as the run wrote them.

    Parameters
    ----------
    facts : mapping
        What the partition says of the tissue of its slide.
    output : Output
        That has the files. The problem of a file that is not there is None.
    """
    mask = facts["file"]
    checks = ((mask, _mask_problem, "digest"), (outline_file(mask), _outline_problem, "outline"))
    for name, problem_of, key in checks:
        if not output.has(name):
            yield name, None
        elif problem := problem_of(output.get(name), facts[key]):
            yield name, problem


def _mask_problem(png: bytes, digest: str) -> str | None:
    try:
        mask = decode_mask(png)
    except Exception as error:  # noqa: BLE001  # damaged files raise what they like
        return f"it cannot be read as a picture ({error})"
    return None if _digest(mask) == digest else "the mask is not that which the run wrote"


def _outline_problem(content: bytes, digest: str) -> str | None:
    return None if digest_of(content) == digest else "the file is not as the run wrote it"
