"""TIFF files with other numbers in their directories."""

import struct

import tifffile


def set_tag(path, name, index, value, page=0):
    """Change one number of a tag of a page, in place."""
    with tifffile.TiffFile(path) as file:
        tag = file.pages[page].tags[name]
        kind = file.byteorder + {3: "H", 4: "I", 16: "Q"}[int(tag.dtype)]
        place = tag.valueoffset + index * struct.calcsize(kind)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack(kind, value))
