"""Measurements of an object as a mapping that needs little more memory than the file's bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

from qupath_bridge.frozen import shorten

__all__ = ["Measurements", "Names"]


class Names:
    """Names of measurements, shared by objects with the same names."""

    __slots__ = ("_index", "names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._index: dict[str, int] | None = None

    def __reduce__(self) -> tuple[type[Names], tuple[tuple[str, ...]]]:
        return type(self), (self.names,)

    @property
    def index(self) -> Mapping[str, int]:
        """Position of each name; for equal names the first. Computed at first use."""
        if self._index is None:
            index: dict[str, int] = {}
            for i, name in enumerate(self.names):
                index.setdefault(name, i)
            self._index = index
        return self._index


class Measurements(Mapping[str, float]):
    """Numbers by name, in the file's order. Equal to a mapping of the same content.

    NaN is equal to NaN here, so that what was read twice is the same.

    Parameters
    ----------
    names : Names
    values : array of float
        One for each name, with the precision of the file.

    Examples
    --------
    >>> Measurements(Names(("Area", "Length")), array("d", [2.0, 0.5]))
    {'Area': 2.0, 'Length': 0.5}
    """

    __slots__ = ("_names", "_values")

    def __init__(self, names: Names, values: array[float]) -> None:
        self._names = names
        self._values = values

    @property
    def shared_names(self) -> Names:
        """The shared names."""
        return self._names

    def packed(self) -> tuple[tuple[str, ...], bytes]:
        """Return the names and the bytes of the numbers as doubles, in order."""
        names, values = self._names.names, self._values
        if len(self._names.index) < len(names):  # for repeated names, the first counts
            names = tuple(self._names.index)
            values = array("d", self.values())
        return names, values.tobytes() if values.typecode == "d" else array("d", values).tobytes()

    def __getitem__(self, name: str) -> float:
        return self._values[self._names.index[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.index)

    def __len__(self) -> int:
        return len(self._names.index)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and all(
            name in other and _equal(value, other[name]) for name, value in self.items()
        )

    __hash__ = None  # type: ignore[assignment]  # as all mappings that are compared by content

    def __reduce__(self) -> tuple[type[Measurements], tuple[Names, array[float]]]:
        return type(self), (self._names, self._values)

    def __repr__(self) -> str:
        return shorten(repr(dict(self)), "}")


def _equal(one: float, other: object) -> bool:
    return one == other or (one != one and other != other)  # both NaN
