"""What tests put into a store that stands for a bucket, and what they ask it or let it do."""

from collections import Counter

from qupath_bridge.readers.in_place import SlideObject
from qupath_bridge.stores import open_store


def upload(folder, url):
    """Put all files of a folder into a store, by their paths below the folder."""
    store = open_store(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())


def replace_alike(store, name):
    """Replace an object by one of the same size that looks the same at its start and end."""
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.put(name, bytes(data))


def note_ranges(patch, kind, note):
    """Call ``note(name, offset, length)`` before a store of a kind reads a part of an object."""
    read = kind.get_range

    def get_range(self, name, offset, length, *state):
        note(name, offset, length)
        return read(self, name, offset, length, *state)

    patch.setattr(kind, "get_range", get_range)


def count_bytes(patch, kind):
    """Return the bytes that stores of a kind are asked for from now on, by the object."""
    asked = Counter()
    note_ranges(patch, kind, lambda name, offset, length: asked.update({name: length}))
    return asked


def when_pixels_are_read(patch, act, slide):
    """Do something once: when pixels of a slide of this name are asked for."""
    read, done = SlideObject.parts, []

    def parts(self, wanted, pool):
        if self.path.name == slide and not done:
            done.append(True)
            act()
        return read(self, wanted, pool)

    patch.setattr(SlideObject, "parts", parts)
