"""An output: one ZIP file per slide, in which patches are stored without compression."""

import re
import tempfile
import weakref
import zipfile

import xxhash

from qupath_bridge.errors import UsageError
from qupath_bridge.outputs.base import Location
from qupath_bridge.outputs.stored import PATCHES, StoredOutput

NAME = re.compile(rf"{PATCHES}(?P<slide>[^/]+)-[0-9a-f]{{16}}\.zip")
UNFINISHED = "unfinished.zip"  # until the name is known
FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the same patches give the same bytes, whenever


class Archive:
    """The ZIP file of a slide while it is written; its name is known when it is complete."""

    def __init__(self, slide_id):
        self.slide_id = slide_id
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # see close
        self.zip = zipfile.ZipFile(self.file, "w")
        self.close = weakref.finalize(self, _close, self.zip, self.file)
        self.name = None


class ZipOutput(StoredOutput):
    """Writes the patches of a slide into ``patches/<slide>-<digest>.zip``.

    The name has the digest of the contents, so that a new file never takes the place of one
    that committed rows list.
    """

    name = "zip"

    def __init__(self, place, argument=None):
        if argument is not None:
            raise UsageError(f"The output 'zip' takes no argument, {argument!r} was given.")
        super().__init__(place)

    def _start(self, slide_id):
        return Archive(slide_id)

    def _write(self, pending, patch, payload):
        pending.zip.writestr(zipfile.ZipInfo(patch.name, FIRST_DATE), payload)
        return Location(UNFINISHED, pending.file.tell() - len(payload), len(payload))

    def _finish(self, pending):
        pending.zip.close()
        if pending.zip.namelist():
            digest = xxhash.xxh3_64()
            for piece in _pieces(pending.file):
                digest.update(piece)
            pending.name = f"{PATCHES}{pending.slide_id}-{digest.hexdigest()}.zip"
            self.store.put(pending.name, _pieces(pending.file), durable=True)
        pending.close()
        return {UNFINISHED: pending.name}

    def _cancel(self, pending):
        pending.close()

    def _files(self, pending):
        return [] if pending.name is None else [pending.name]

    def _slide_of(self, name):
        match = NAME.fullmatch(name)
        return match["slide"] if match else None

    def _own_names(self):
        return NAME


def _close(archive, file):
    archive.close()
    file.close()


def _pieces(file):
    file.seek(0)
    while piece := file.read(1 << 20):
        yield piece
