"""Slides that belong together: of one patient, of one slide file, of one site."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from qupath_bridge.frozen import OneLine

from .run_slides import RunSlide, values_of

__all__ = ["Group", "Unit", "components", "group_slides", "join_groups", "similar_values"]


@dataclass(frozen=True, slots=True, repr=False)
class Group(OneLine):
    """Slides that have to be on one side of a split.

    Attributes
    ----------
    name : str
        The value of the key; of a joined group all values, with `` + `` between them.
    values : tuple of str
        Values of the key, sorted; several if their slides share a slide file.
    slides : tuple of RunSlide
    """

    name: str
    values: tuple[str, ...]
    slides: tuple[RunSlide, ...]

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the slide files that several slides of the group have."""
        digests = Counter(slide.slide_digest for slide in self.slides)
        digests[None] = 0
        files = {s.slide_file or s.slide_name for s in self.slides if digests[s.slide_digest] > 1}
        return tuple(sorted(files))


@dataclass(frozen=True, slots=True, repr=False)
class Unit(OneLine):
    """Groups that are put into a fold together: those of one site, or a group alone.

    ``sites`` has several values if a group is of several sites.
    """

    name: str
    groups: tuple[Group, ...]
    sites: tuple[str, ...] = ()

    @property
    def slides(self) -> tuple[RunSlide, ...]:
        """The slides of all its groups."""
        return tuple(slide for group in self.groups for slide in group.slides)

    @property
    def values(self) -> tuple[str, ...]:
        """The values of all its groups."""
        return tuple(value for group in self.groups for value in group.values)


def components(items: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Return the positions of items that share a key, directly or through others.

    >>> components([("a",), ("b",), ("a", "c"), ("c",)])
    [[0, 2, 3], [1]]
    """
    parent = list(range(len(items)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = at = parent[parent[at]]
        return at

    first: dict[Hashable, int] = {}
    for at, keys in enumerate(items):
        for key in keys:
            one, other = sorted((root(at), root(first.setdefault(key, at))))
            parent[other] = one
    found: defaultdict[int, list[int]] = defaultdict(list)
    for at in range(len(items)):
        found[root(at)].append(at)
    return list(found.values())


def group_slides(slides: Sequence[RunSlide], by: str) -> tuple[Group, ...]:
    """Return the slides in groups: those with one value of a key, or with one slide file.

    Patches of one slide are in one group, so that patches that share pixels are, too.

    Raises
    ------
    UsageError
        If slides have no value of the key.
    """
    values = values_of(slides, by)
    keys = [
        [("value", values[s.slide_id]), *([("file", s.slide_digest)] if s.slide_digest else [])]
        for s in slides
    ]
    groups: list[Group] = []
    names: set[str] = set()
    for positions in components(keys):
        members = tuple(slides[at] for at in positions)
        own = tuple(sorted({values[slide.slide_id] for slide in members}))
        groups.append(Group(_unused(" + ".join(own), names), own, members))
    return tuple(sorted(groups, key=lambda group: group.values))


def join_groups(groups: Sequence[Group], site_of: Mapping[str, str] | None) -> tuple[Unit, ...]:
    """Return groups as units: each alone, or those of one site together.

    Parameters
    ----------
    groups : sequence of Group
    site_of : mapping of str to str, optional
        The site of each slide id.
    """
    if site_of is None:
        return tuple(Unit(group.name, (group,)) for group in groups)
    sites = [sorted({site_of[slide.slide_id] for slide in group.slides}) for group in groups]
    units: list[Unit] = []
    names: set[str] = set()
    for positions in components(sites):
        own = sorted({site for at in positions for site in sites[at]})
        members = tuple(groups[at] for at in positions)
        units.append(Unit(_unused(" + ".join(own), names), members, tuple(own)))
    return tuple(sorted(units, key=lambda unit: unit.name))


def _unused(name: str, taken: set[str]) -> str:
    """Return a name that no other has; a value may look like a joined name."""
    while name in taken:
        name += " +"
    taken.add(name)
    return name


def similar_values(values: Iterable[str]) -> list[tuple[str, ...]]:
    """Return values that differ by case and spaces alone: likely one patient, written twice.

    >>> similar_values(["P1", "p 1", "P2"])
    [('P1', 'p 1')]
    """
    alike: defaultdict[str, set[str]] = defaultdict(set)
    for value in values:
        alike["".join(value.split()).casefold()].add(value)
    return [tuple(sorted(found)) for _, found in sorted(alike.items()) if len(found) > 1]
