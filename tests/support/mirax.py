"""Small MIRAX slides: a file, and a folder of its name with description, index and tiles."""

import struct

import imagecodecs
import numpy as np

ID = "0" * 32


def write_mirax(path, pixels, *, tile=64, levels=2, mpp=0.25):
    """Write a slide whose sides are whole tiles on all levels, each half as large as the last.

    Returns
    -------
    Path
        The file that is opened.
    """
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(b"\xff\xd8\xff\xe0")  # scanners write a small picture
    height, width = (side // tile for side in pixels.shape[:2])
    data, entries = bytearray(b"\0" * 37), []
    for level in range(levels):
        step = 2**level
        entries.append(list(_tiles(data, _smaller(pixels, step), tile, width, step)))
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_index(entries))
    (folder / "Slidedat.ini").write_text(_description(width, height, tile, levels, mpp))
    return path


def _smaller(pixels, step):
    height, width = pixels.shape[0] // step, pixels.shape[1] // step
    parts = pixels.reshape(height, step, width, step, 3).astype(np.uint16)
    return parts.mean(axis=(1, 3)).astype(np.uint8)


def _tiles(data, pixels, tile, width, step):
    """Append the tiles of a level; yield number, place and length of each."""
    for top in range(0, pixels.shape[0], tile):
        for left in range(0, pixels.shape[1], tile):
            content = imagecodecs.png_encode(pixels[top : top + tile, left : left + tile])
            number = top // tile * step * width + left // tile * step
            yield number, len(data), len(content)
            data += content


def _index(levels):
    head = b"01.02" + ID.encode()
    table = len(head) + 8
    lists = table + 4 * len(levels)
    pointers, body = [], b""
    for entries in levels:
        place = lists + len(body)
        pointers.append(place)
        page = struct.pack("<2i", len(entries), 0)
        page += b"".join(struct.pack("<4i", *entry, 0) for entry in entries)
        body += struct.pack("<2i", 0, place + 8) + page
    return (
        head + struct.pack("<2i", table, table) + struct.pack(f"<{len(levels)}i", *pointers) + body
    )


def _description(width, height, tile, levels, mpp):
    lines = [
        "[GENERAL]",
        f"SLIDE_ID = {ID}",
        f"IMAGENUMBER_X = {width}",
        f"IMAGENUMBER_Y = {height}",
        "OBJECTIVE_MAGNIFICATION = 40",
        "CameraImageDivisionsPerSide = 1",
        "[HIERARCHICAL]",
        "INDEXFILE = Index.dat",
        "HIER_COUNT = 1",
        "NONHIER_COUNT = 0",
        "HIER_0_NAME = Slide zoom level",
        f"HIER_0_COUNT = {levels}",
    ]
    for level in range(levels):
        lines += [
            f"HIER_0_VAL_{level} = ZoomLevel_{level}",
            f"HIER_0_VAL_{level}_SECTION = LAYER_0_LEVEL_{level}_SECTION",
        ]
    for level in range(levels):
        lines += [
            f"[LAYER_0_LEVEL_{level}_SECTION]",
            "OVERLAP_X = 0",
            "OVERLAP_Y = 0",
            f"MICROMETER_PER_PIXEL_X = {mpp * 2**level}",
            f"MICROMETER_PER_PIXEL_Y = {mpp * 2**level}",
            "IMAGE_FILL_COLOR_BGR = 16777215",
            f"DIGITIZER_WIDTH = {tile}",
            f"DIGITIZER_HEIGHT = {tile}",
            f"IMAGE_CONCAT_FACTOR = {min(level, 1)}",
            "IMAGE_FORMAT = PNG",
        ]
    lines += ["[DATAFILE]", "FILE_COUNT = 1", "FILE_0 = Data0000.dat", ""]
    return "\n".join(lines)
