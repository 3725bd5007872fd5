"""One table of the parts that can be exchanged: readers, encoders, outputs, runners and the like.

A part has a kind and a name. It is found in this order: what :func:`register` was given in this
process, what comes with qupath-bridge, and what installed packages offer as entry points of the
group ``qupath_bridge.<kind>`` (``qupath_bridge.reader``, ...). Nothing is imported before it is
used, and a package that cannot be imported breaks only what asks for its part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "KINDS",
    "Part",
    "check",
    "create",
    "is_registered",
    "load",
    "names",
    "parts",
    "register",
    "split_argument",
    "version",
]

KINDS = (
    "source", "reader", "encoder", "tissue", "quality", "stain", "output", "store", "runner",
    "queue", "tracker", "model",
)  # fmt: skip
"""Kinds of parts. The protocol of each kind is in the ``base`` module of its package."""


@dataclass(frozen=True, slots=True)
class Part:
    """An exchangeable part that is known, whether or not it can be loaded.

    Attributes
    ----------
    kind, name : str
    reference : str
        ``module:attribute`` of its factory; empty for one that was registered in this process.
    origin : str
        ``built in``, ``registered``, or the name of the package that offers it.
    install : str or None
        The command that installs what it needs.
    """

    kind: str
    name: str
    reference: str
    origin: str
    install: str | None = None


def _built_in(kind: str, name: str, reference: str, install: str | None = None) -> Part:
    return Part(kind, name, f"qupath_bridge.{reference}", "built in", install)


_PIXELS = "pip install tifffile imagecodecs"
_CLOUD = "pip install 'qupath-bridge[cloud]'"
_WANDB = "pip install 'qupath-bridge[wandb]'"
_SERVICE = "pip install 'qupath-bridge[service]'"
_BUILT_IN: Mapping[tuple[str, str], Part] = {
    (part.kind, part.name): part
    for part in (
        _built_in("source", "auto", "sources.auto:AutoSource"),
        _built_in("source", "embedded", "sources.embedded:EmbeddedSource"),
        _built_in("source", "paquo", "sources.paquo:PaquoSource", "pip install paquo"),
        _built_in("source", "memory", "sources.memory:MemorySource"),
        _built_in("source", "slides", "sources.slides:SlidesSource"),
        _built_in(
            "reader",
            "openslide",
            "readers.openslide:OpenSlideReader",
            "pip install openslide-python openslide-bin",
        ),
        _built_in("reader", "tiles", "readers.tiles:TileReader", _PIXELS),
        _built_in("reader", "pillow", "readers.pillow:PillowReader", "pip install Pillow"),
        _built_in("reader", "cucim", "readers.cucim:CucimReader", "pip install cucim-cu12"),
        _built_in("encoder", "png", "codecs.png:PngEncoder", "pip install isal"),
        _built_in("encoder", "jpeg", "codecs.jpeg:JpegEncoder", _PIXELS),
        _built_in("encoder", "tiff", "codecs.tiff:TiffEncoder", _PIXELS),
        _built_in("encoder", "ome-tiff", "codecs.ome_tiff:OmeTiffEncoder", _PIXELS),
        _built_in("encoder", "npy", "codecs.npy:NpyEncoder"),
        _built_in("encoder", "raw", "codecs.raw:RawEncoder"),
        _built_in("encoder", "webp", "codecs.webp:WebpEncoder", "pip install imagecodecs"),
        _built_in("encoder", "jxl", "codecs.jxl:JxlEncoder", "pip install imagecodecs"),
        _built_in("tissue", "saturation", "pixels.tissue.by_color:SaturationTissue"),
        _built_in("tissue", "otsu", "pixels.tissue.by_color:OtsuTissue"),
        _built_in("tissue", "double-pass", "pixels.tissue.double_pass:DoublePassTissue"),
        _built_in(
            "tissue",
            "unet",
            "pixels.tissue.unet:UnetTissue",
            "pip install 'qupath-bridge[unet]'",
        ),
        _built_in("tissue", "signal", "pixels.tissue.signal:SignalTissue"),
        _built_in("tissue", "qupath", "pixels.tissue.annotated:AnnotatedTissue"),
        _built_in("tissue", "mask", "pixels.tissue.mask_files:MaskTissue"),
        _built_in("quality", "saturation", "pixels.quality:mean_saturation"),
        _built_in("quality", "blank", "pixels.quality:blank"),
        _built_in("quality", "dark", "pixels.quality:dark"),
        _built_in("quality", "pen", "pixels.quality:pen"),
        _built_in("quality", "focus", "pixels.focus:focus"),
        _built_in("quality", "sharpness", "pixels.focus:sharpness"),
        _built_in("quality", "blockiness", "pixels.jpeg_blocks:blockiness"),
        _built_in("stain", "macenko", "pixels.stain.macenko:MacenkoStain"),
        _built_in("stain", "reinhard", "pixels.stain.reinhard:ReinhardStain"),
        _built_in("stain", "vahadane", "pixels.stain.vahadane:VahadaneStain"),
        _built_in("stain", "qupath", "pixels.stain.qupath:QuPathStain"),
        _built_in("output", "folder", "outputs.folder:FolderOutput"),
        _built_in("output", "tar", "outputs.tar:TarOutput"),
        _built_in("output", "h5", "outputs.h5:H5Output", "pip install 'qupath-bridge[h5]'"),
        _built_in("output", "zarr", "outputs.zarr:ZarrOutput"),
        _built_in("output", "parquet", "outputs.parquet:ParquetOutput"),
        _built_in("output", "memory", "outputs.memory:MemoryOutput"),
        _built_in("store", "file", "stores.local:LocalStore.from_url"),
        _built_in("store", "memory", "stores.memory:MemoryStore"),
        *(
            _built_in("store", scheme, "stores.cloud:CloudStore", _CLOUD)
            for scheme in ("s3", "gs", "az")
        ),
        _built_in("runner", "threads", "runners.threads:ThreadRunner"),
        _built_in("runner", "processes", "runners.processes:ProcessRunner"),
        _built_in("queue", "embedded", "service.queues.embedded:EmbeddedQueue", _SERVICE),
        _built_in("tracker", "wandb", "tracking.wandb:WandbTracker", _WANDB),
    )
}
_registered: dict[tuple[str, str], Callable[..., Any]] = {}


def register(kind: str, name: str, factory: Callable[..., Any]) -> None:
    """Make a part known in this process, in place of any other of its name.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    name : str
        What options call it; without a colon.
    factory : callable
        What :func:`load` returns. For the runner ``processes`` it has to be importable.

    Raises
    ------
    UsageError
        If there is no such kind, or the name has a colon.
    """
    _check_kind(kind)
    if not name or ":" in name:
        raise UsageError(f"{name!r} cannot be the name of a part: it is empty or has a colon.")
    _registered[kind, name] = factory


def is_registered(kind: str, name: str) -> bool:
    """Return whether :func:`register` was given this part in this process."""
    return (kind, name) in _registered


def parts(kind: str) -> tuple[Part, ...]:
    """Return the parts of a kind: registered ones, built-in ones, then those of other packages."""
    _check_kind(kind)
    found = {name: Part(kind, name, "", "registered") for each, name in _registered if each == kind}
    for part in _BUILT_IN.values():
        if part.kind == kind:
            found.setdefault(part.name, part)
    for point in _entry_points(kind):
        origin = point.dist.name if point.dist else "another package"
        found.setdefault(point.name, Part(kind, point.name, point.value, origin))
    return tuple(found.values())


def names(kind: str) -> tuple[str, ...]:
    """Return the names of the parts of a kind, as :func:`parts` lists them."""
    return tuple(part.name for part in parts(kind))


def check(kind: str, name: str) -> None:
    """Refuse a name that no part of a kind has.

    Raises
    ------
    UsageError
        With the names that there are.
    """
    _need(kind, name)


def load(kind: str, name: str) -> Callable[..., Any]:
    """Return the factory of a part.

    Raises
    ------
    UsageError
        If no part of this kind has the name; the message lists those that there are.
    MissingDependencyError
        If it cannot be imported; the hint is the command that installs what is missing.
    """
    _check_kind(kind)
    if (kind, name) in _registered:
        return _registered[kind, name]
    part = _need(kind, name)
    module, _, attribute = part.reference.partition(":")
    try:
        found: Any = import_module(module)
        for step in attribute.split("."):
            found = getattr(found, step)
    except Exception as error:  # other packages raise what they like
        reason = (
            str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        )
        hint = f"Install it with: {part.install}." if part.install else None
        if part.origin != "built in":
            hint = f"Update or remove the package {part.origin!r}."
        raise MissingDependencyError(
            f"The {kind} {name!r} ({part.origin}) cannot be loaded: {reason}.", hint=hint
        ) from error
    return found  # type: ignore[no-any-return]


def version(kind: str, name: str) -> str:
    """Return the name of a part, with package and version where it is not built in.

    >>> version("encoder", "png")
    'png'
    """
    part = _find(kind, name)
    if part is None or part.origin in {"built in", "registered"}:
        return name
    from importlib.metadata import version as version_of

    return f"{name} ({part.origin} {version_of(part.origin)})"


def create(kind: str, text: str) -> Any:
    """Return the part that ``NAME[:ARGUMENT]`` describes: its factory, called with the argument.

    For the kinds whose factories take one argument or None: tissue, stain and tracker.

    >>> create("tissue", "otsu")
    OtsuTissue()

    Raises
    ------
    UsageError
        If there is no such part, or it does not take this argument.
    MissingDependencyError
        If it cannot be imported.
    """
    name, argument = split_argument(text)
    return load(kind, name)(argument)


def split_argument(text: str) -> tuple[str, str | None]:
    """Split ``NAME[:ARGUMENT]`` at the first colon.

    >>> split_argument("otsu"), split_argument("mask:a:b")
    (('otsu', None), ('mask', 'a:b'))
    """
    name, colon, argument = text.partition(":")
    return name, argument if colon else None


def _need(kind: str, name: str) -> Part:
    part = _find(kind, name)
    if part is None:
        known = ", ".join(names(kind)) or "none"
        raise UsageError(f"No {kind} is called {name!r}.", hint=f"Known: {known}.")
    return part


def _find(kind: str, name: str) -> Part | None:
    """Return a part by name. What other packages bring is looked up last: it takes time."""
    if (kind, name) in _registered:
        return Part(kind, name, "", "registered")
    built_in = _BUILT_IN.get((kind, name))
    return built_in or next((part for part in parts(kind) if part.name == name), None)


def _entry_points(kind: str) -> tuple[EntryPoint, ...]:
    return _all_entry_points().get(kind, ())


@cache
def _all_entry_points() -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return what other packages bring, by kind; the packages are gone through once."""
    from importlib.metadata import entry_points

    points = entry_points()
    return {
        kind: tuple(sorted(points.select(group=f"qupath_bridge.{kind}"), key=lambda p: p.name))
        for kind in KINDS
    }


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"No kind of part is called {kind!r}.", hint=f"Known: {', '.join(KINDS)}.")
