"""One file per patch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qupath_bridge.config import ExportConfig, layout_problem
from qupath_bridge.errors import OutputError
from qupath_bridge.patches.ids import slide_of_patch
from qupath_bridge.schemas import parse_json
from qupath_bridge.stores.uploads import Uploads

from .base import Location, PatchRef
from .names import NameLog
from .row_batches import FOLDERS
from .stored import StoredOutput, no_argument

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

__all__ = ["FolderOutput"]


@dataclass(frozen=True, slots=True)
class _Slide:
    """A slide that is being written: all names that were begun, and the files under way."""

    uploads: Uploads
    names: NameLog = field(default_factory=NameLog)


class FolderOutput(StoredOutput[_Slide]):
    """Writes each patch as a file of its own, under the name that the layout gives it.

    Masks have the names of their patches, in folders of their own.

    Parameters
    ----------
    place : str, Path or Store
        A folder, a URL, or a store.
    argument : None
        The output ``folder`` takes none.

    Raises
    ------
    UsageError
        If there is an argument.
    """

    name = "folder"
    holds_masks = True

    def __init__(self, place: str | Path | Store, argument: str | None = None) -> None:
        no_argument(self.name, argument)
        super().__init__(place)

    def _start(self, slide_id: str) -> _Slide:
        return _Slide(Uploads(self.store))

    def _write(self, pending: _Slide, patch: PatchRef, payload: bytes) -> Location:
        pending.names.append(patch.name)  # first: a write that fails half-way is taken back too
        pending.uploads.put(patch.name, payload)
        return Location(patch.name)

    def _finish(self, pending: _Slide) -> Mapping[str, str]:
        pending.uploads.finish()
        return {}

    def _cancel(self, pending: _Slide) -> None:
        pending.uploads.cancel()

    def _files(self, pending: _Slide) -> NameLog:
        return pending.names

    def _slide_of(self, name: str) -> str | None:
        return slide_of_patch(name.rpartition("/")[2])

    def _own_names(self) -> re.Pattern[str]:
        return layout_pattern(_layout_of(self.store))

    def _has_slide_folders(self) -> bool:
        return _layout_of(self.store).startswith("patches/{slide_id}/")


def layout_pattern(template: str) -> re.Pattern[str]:
    """Return a pattern of the file names of a layout, of patches and of their masks.

    Examples
    --------
    >>> pattern = layout_pattern("patches/{slide_id}/{label}/{patch_id}")
    >>> bool(pattern.fullmatch("patches/3_a.svs/Tumor/3_a.svs_x0_y-9.png"))
    True
    >>> bool(pattern.fullmatch("patches/3_a.svs/Tumor/4_b.svs_x0_y0.png"))
    False
    """
    seen: set[str] = set()

    def group(field: re.Match[str]) -> str:
        name = field[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        if name != "patch_id":
            return rf"(?P<{name}>[^/\s]+)"
        # A slide ID is an entry ID and a name, with "_" between them.
        slide = "(?P=slide_id)" if "slide_id" in seen else r"[^/\s]+_[^/\s]+"
        return f"(?P<patch_id>{slide}{_POSITION})"

    _, _, below = template.partition("/")
    text = re.sub(r"\\\{([a-z_]+)\\\}", group, re.escape(below))
    return re.compile(rf"(?:{'|'.join(FOLDERS)})/{text}(\.[A-Za-z0-9]+)+")


_POSITION = r"_x-?[0-9]+_y-?[0-9]+(?:_z[0-9]+_t[0-9]+)?"


def _layout_of(store: Store) -> str:
    """Return the layout of the run that is in a store, the default where none is said."""
    try:
        layout = parse_json(store.get("run.json"))["config"]["layout"]
    except (OutputError, ValueError, KeyError, TypeError):
        layout = None
    known = isinstance(layout, str) and layout_problem(layout) is None
    return layout if known else str(ExportConfig.model_fields["layout"].default)
