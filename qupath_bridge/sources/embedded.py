"""The engine that reads QuPath's own files, without Java and without QuPath."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from qupath_bridge.frozen import thaw
from qupath_bridge.model import ImageData, Slide
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.qpdata.reading import read_bytes, read_image_data

from .base import Project, file_ref
from .project_files import project_files, resolved_slides

__all__ = ["EmbeddedSource"]


class EmbeddedSource:
    """Reads projects of QuPath 0.2.3 to 0.7.0 from their files.

    ``qupath`` is taken as by every source; this one needs no QuPath.
    """

    name = "embedded"

    def __init__(self, *, qupath: Path | str | None = None) -> None:
        pass

    def open(
        self,
        location: Path | str,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path | str] = (),
    ) -> Project:
        """Open a project file, or the folder that holds exactly one.

        Parameters
        ----------
        location : path
            ``project.qpproj``, or its folder; also its URL in object storage.
        slide_map : mapping of str to str, optional
            Beginnings of slide URIs or paths, and what to put in their place.
        search : sequence of paths, optional
            Folders in which to look for slides that are not found otherwise.

        Raises
        ------
        ProjectError
            If the project cannot be read.
        """
        files = project_files(Path(location))
        file = files.read()
        slides, problems = resolved_slides(files, file, slide_map=slide_map, search=search)
        ref = file_ref(file.info.path, self.name, slide_map=slide_map, search=search)
        return Project(file.info, slides, ref, problems)

    def read_file(self, path: Path, *, entry_id: str = "") -> ImageData:
        """Read all objects of one data file, in any folder."""
        return read_image_data(path, entry_id=entry_id, detections=True)

    def edit(
        self,
        source: Path | None,
        target: Path,
        *,
        slide: Slide,
        remove: Collection[str] = (),
        add: Iterable[Tile] = (),
    ) -> None:
        """Write a copy of a data file with tiles removed and added; see :class:`Editor`."""
        from qupath_bridge.qupath.qpdata.splice import splice_tiles

        if source is not None:
            content = splice_tiles(read_bytes(source), remove=remove, add=add, path=source)
        else:
            content = splice_tiles(_new_file(slide), add=add, path=target)
        target.write_bytes(content)

    def start(self) -> None:
        """Do nothing: no process has to start."""

    def close(self) -> None:
        """Do nothing: no process is running."""


def _new_file(slide: Slide) -> bytes:
    """Return the data of a slide that QuPath never saved."""
    from qupath_bridge.qupath.qpdata.splice import WRITABLE
    from qupath_bridge.qupath.qpdata.writing import encode_image_data

    version = slide.project.version or ""
    return encode_image_data(
        ImageData(image_type="UNSET"),
        server=thaw(slide.builder.json),
        qupath_version=version if WRITABLE.match(version) else "0.7.0",
    )
