"""The OME-XML of a TIFF file: planes, channels, pixel size, objective."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from xml.etree import ElementTree

from qupath_bridge.errors import ReadError

from .level_sizes import positive_number

__all__ = ["OmeChannel", "OmeImage", "read_ome_xml"]

_MICROMETRES = {
    "µm": 1.0,  # micro sign, as in OME-XML
    "\u03bcm": 1.0,  # Greek mu, as some writers have it
    "um": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25_400.0,
}


@dataclass(frozen=True, slots=True)
class OmeChannel:
    """A channel of an OME-XML: its name, if it has one, and its values per pixel."""

    name: str | None
    samples: int


class OmeImage:
    """The first image of an OME-XML."""

    def __init__(self, root: ElementTree.Element, image: ElementTree.Element) -> None:
        self._root, self._image = root, image
        self._pixels = next(_children(image, "Pixels"), ElementTree.Element("Pixels"))

    @cached_property
    def channels(self) -> tuple[OmeChannel, ...]:
        """The channels in their order."""
        return tuple(
            OmeChannel(channel.get("Name"), _count(channel.get("SamplesPerPixel")))
            for channel in _children(self._pixels, "Channel")
        )

    @property
    def page_count(self) -> int:
        """Number of pages of a TIFF file that the planes of all channels take."""
        return _pages_named(self._pixels)

    @property
    def pages_of_all(self) -> int:
        """The largest number of pages that any image of the OME-XML names."""
        images = _children(self._root, "Image")
        every = (pixels for image in images for pixels in _children(image, "Pixels"))
        return max(map(_pages_named, every), default=1)

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """µm per pixel along x and y; None if it does not say both."""
        sizes = []
        for axis in "XY":
            number = positive_number(self._pixels.get(f"PhysicalSize{axis}"))
            unit = _MICROMETRES.get(self._pixels.get(f"PhysicalSize{axis}Unit", "µm"))
            sizes.append(None if number is None or unit is None else number * unit)
        x, y = sizes
        return None if x is None or y is None else (x, y)

    @property
    def objective_power(self) -> float | None:
        """Nominal magnification of the objective that the image names."""
        wanted = next((ref.get("ID") for ref in _children(self._image, "ObjectiveSettings")), None)
        power = None
        for instrument in _children(self._root, "Instrument"):
            for objective in _children(instrument, "Objective"):
                if wanted is not None and objective.get("ID") == wanted:
                    power = positive_number(objective.get("NominalMagnification"))
        return power


def read_ome_xml(xml: str, label: str) -> OmeImage:
    """Return the first image of an OME-XML.

    Parameters
    ----------
    xml : str
    label : str
        What messages call the slide.

    Raises
    ------
    ReadError
        If it cannot be parsed, or has no image.
    """
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314  # expat bounds what entities expand to
    except (ElementTree.ParseError, ValueError) as error:
        raise ReadError(
            f"{label}: its OME-XML cannot be read: {error}.", hint="Is the copy complete?"
        ) from error
    image = next(_children(root, "Image"), None)
    if image is None:
        raise ReadError(
            f"{label}: its OME-XML has no image.",
            hint="It is a part of an image in several files; join them into one OME-TIFF.",
        )
    return OmeImage(root, image)


def _children(element: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    """Yield the children with a tag, whatever the version of the schema."""
    return (child for child in element if child.tag.rpartition("}")[2] == tag)


def _pages_named(pixels: ElementTree.Element) -> int:
    """Return how many pages an image names, by its size or by one of its ``TiffData``."""
    count = 1
    for axis in "CZT":
        count *= _count(pixels.get(f"Size{axis}"))
    first = next(_children(pixels, "Channel"), ElementTree.Element("Channel"))
    runs = [
        _count(data.get(name))
        for data in _children(pixels, "TiffData")
        for name in ("PlaneCount", "NumPlanes")
    ]
    return max(count // _count(first.get("SamplesPerPixel")), *runs, 1)


def _count(text: str | None) -> int:
    """Return a whole number of at least 1; 1 if there is none."""
    return max(int(text), 1) if text is not None and text.isascii() and text.isdigit() else 1
