"""Measurements of an object as a mapping that costs little more than the file's own bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

__all__ = ["Measurements", "Names"]


class Names:
    """Names of measurements, shared by the objects that have the same ones."""

    __slots__ = ("_index", "names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._index: dict[str, int] | None = None

    @property
    def index(self) -> Mapping[str, int]:
        """Place of each name; of equal names the first. Made when it is first needed."""
        if self._index is None:
            index: dict[str, int] = {}
            for i, name in enumerate(self.names):
                index.setdefault(name, i)
            self._index = index
        return self._index


class Measurements(Mapping[str, float]):
    """Numbers by name, in the file's order. Equal to a dict of the same content.

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
        """The names, as the objects that have the same ones share them."""
        return self._names

    def packed(self) -> tuple[tuple[str, ...], bytes]:
        """Return the names and the bytes of the numbers as doubles, in order."""
        names, values = self._names.names, self._values
        if len(self._names.index) < len(names):  # some stand twice; the first counts
            names = tuple(self._names.index)
            values = array("d", self.values())
        return names, values.tobytes() if values.typecode == "d" else array("d", values).tobytes()

    def __getitem__(self, name: str) -> float:
        return self._values[self._names.index[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.index)

    def __len__(self) -> int:
        return len(self._names.index)

    def __repr__(self) -> str:
        return repr(dict(self))
