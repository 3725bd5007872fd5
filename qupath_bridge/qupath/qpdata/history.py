"""Stains, workflow and properties of an image."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

from qupath_bridge.qupath.javaio.descriptors import ClassDesc
from qupath_bridge.qupath.javaio.grammar import OBJECT
from qupath_bridge.qupath.javaio.stream import JavaObject, Ref
from qupath_bridge.schemas import parse_json

from .values import MAX_SHOWN, Values

__all__ = ["read_properties", "read_stains", "read_workflow", "stain_numbers"]

_STEPS = "qupath.lib.plugins.workflow."
_PLUGIN_STEP = ("name", "pluginClass", "arg", "scriptBefore", "scriptAfter")
_TWO_INTS = struct.Struct(">ii")


def read_stains(values: Values, desc: ClassDesc, offset: int) -> Mapping[str, Any]:
    """Read opened ``ColorDeconvolutionStains``; see :func:`stain_numbers`."""
    node = values.stream.read_rest(desc, offset)
    nodes = node.nodes()
    return stain_numbers(values.named(nodes[0] if nodes else None, "stains as text"))


def stain_numbers(text: str) -> Mapping[str, Any]:
    """Return QuPath's text about stains as numbers.

    Parameters
    ----------
    text : str
        As stored. Decimal commas, which some locales write, are read too.

    Returns
    -------
    mapping
        ``text``; and if it can be read: ``name``, ``stains`` (each with ``name`` and
        ``vector``, optical densities of red, green and blue, not normalised) and
        ``background`` (red, green, blue).

    Examples
    --------
    >>> stain_numbers('{"Name": "x", "Stain 1": "DAB", "Values 1": "0,5 0.5 0"}')["stains"]
    ({'name': 'DAB', 'vector': (0.5, 0.5, 0.0)},)
    """
    try:
        stored = parse_json(text)
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        return {"text": text}
    stains = [
        {"name": str(stored.get(f"Stain {i}")), "vector": _parse_numbers(stored[f"Values {i}"])}
        for i in (1, 2, 3)
        if f"Values {i}" in stored
    ]
    return {
        "text": text,
        "name": stored.get("Name"),
        "stains": tuple(stains),
        "background": _parse_numbers(stored.get("Background", "")),
    }


def _parse_numbers(text: object) -> tuple[float, ...]:
    return tuple(_parse_number(part.replace(",", ".")) for part in str(text).split())


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_workflow(values: Values) -> tuple[Mapping[str, Any], ...]:
    """Read the steps of an opened ``Workflow``, one mapping per step; no step is run.

    Each mapping has ``class`` and, as QuPath's class stores them, ``name``, ``script``, ``map``,
    ``pluginClass``, ``arg``, ``scriptBefore``, ``scriptAfter``, ``classifierPath``.
    """
    stream = values.stream
    _, count = _TWO_INTS.unpack(stream.block(8))
    if not 0 <= count <= stream.size - stream.pos:
        raise stream.error(f"{count} workflow steps", "no more than the file has bytes")
    steps: list[Mapping[str, Any]] = []
    known: dict[int, Mapping[str, Any]] = {}
    for _ in range(count):
        if stream.peek() == OBJECT:
            steps.append(_read_step(values))
            continue
        node = stream.read()
        if not isinstance(node, Ref):
            values.wrong(node, "a workflow step")
        if node.handle not in known:
            known[node.handle] = _read_small_step(values, node)
        steps.append(known[node.handle])
    stream.end_object()
    return tuple(steps)


def _read_step(values: Values) -> Mapping[str, Any]:
    stream = values.stream
    start = stream.pos
    handle, desc = stream.open_object()
    stream.skip_remaining(desc)
    if stream.pos - start > MAX_SHOWN:
        return {"class": desc.name.removeprefix(_STEPS)}
    return _read_small_step(values, Ref(handle))


def _read_small_step(values: Values, ref: Ref) -> Mapping[str, Any]:
    node = values.stream.resolve(ref)
    if not isinstance(node, JavaObject):
        values.wrong(node, "a workflow step")
    shown: dict[str, Any] = {"class": node.desc.name.removeprefix(_STEPS)}
    if node.desc.name == f"{_STEPS}SimplePluginWorkflowStep":
        texts = (values.text(item) for item in node.nodes())
        shown.update(zip(_PLUGIN_STEP, texts, strict=False))
    else:
        shown.update({name: values.plain(item) for name, item in node.fields.items()})
    return shown


def read_properties(values: Values, desc: ClassDesc) -> Mapping[str, Any]:
    """Read an opened ``HashMap`` of an image's properties.

    Texts, numbers, lists and maps become Python values; for any other value, only the class is
    returned, as ``{"class": name}``.
    """
    stream = values.stream
    found: dict[str, Any] = {}
    for step in desc.steps:
        if step.layout is not None:
            stream.skip_bytes(step.layout.size)
        elif step.names:
            stream.skip()
        else:
            _, count = _TWO_INTS.unpack(stream.block(8))
            if not 0 <= count <= stream.size - stream.pos:
                raise stream.error(f"{count} properties", "no more than the file has bytes")
            for _ in range(count):
                key = values.shown()
                found[str(key)] = values.shown()
            stream.end_object()
    return found
