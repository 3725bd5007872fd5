"""Sizes and pixels of every kind of coordinates, against those that a real QuPath shows."""

import json

import numpy as np
import pytest
from PIL import Image

from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import Box, ServerBuilder
from qupath_bridge.pipeline.pixels import read_patch
from qupath_bridge.readers.memory import MemoryReader
from qupath_bridge.testing.slides import marker_image
from tests.support.builders import affine, cropped, flipped, rotated

pytestmark = pytest.mark.qupath

SIZE = (330, 207)
BOX = Box(60, 50, 96, 72)

READ = """
import com.google.gson.Gson
import com.google.gson.JsonParser
import java.awt.image.BufferedImage
import javax.imageio.ImageIO
import qupath.lib.images.servers.ImageServerBuilder
import qupath.lib.io.GsonTools
import qupath.lib.regions.RegionRequest
Class.forName('qupath.lib.scripting.QP')  // registers QuPath's readers of JSON
def folder = new File(args[0])
def job = JsonParser.parseString(new File(folder, 'job.json').getText('UTF-8')).getAsJsonObject()
def (x, y, w, h) = job.getAsJsonArray('box').collect { it.getAsInt() }
def answer = job.getAsJsonObject('chains').entrySet().collectEntries { chain ->
    def server = GsonTools.getInstance()
        .fromJson(chain.value, ImageServerBuilder.ServerBuilder).build()
    def tile = server.readRegion(RegionRequest.createInstance(server.getPath(), 1d, x, y, w, h))
    def rgb = new BufferedImage(w, h, BufferedImage.TYPE_INT_RGB)
    rgb.createGraphics().drawImage(tile, 0, 0, null)
    ImageIO.write(rgb, 'PNG', new File(folder, chain.key + '.png'))
    [chain.key, [server.getWidth(), server.getHeight()]]
}
new File(folder, 'answer.json').setText(new Gson().toJson(answer), 'UTF-8')
"""


def turned(builder, degrees, scale=1.0, x=0.0, y=0.0):
    cosine, sine = (f(np.radians(degrees)) * scale for f in (np.cos, np.sin))
    return affine(builder, *map(float, (cosine, sine, -sine, cosine, x, y)))


def chains(uri, version):
    file = {"builderType": "uri", "uri": uri, "args": []}
    made = {
        "plain": file,
        "crop": cropped(file, 40, 20, 200, 150),
        "crop of a rotated crop": cropped(
            rotated(cropped(file, 40, 20, 200, 180), 270), 10, 20, 150, 160
        ),
        "rotated crop": rotated(cropped(file, 40, 20, 200, 150), 180),
        "shift": affine(file, 1, 0, 0, 1, 20, -11),
        "mirror": affine(file, -1, 0, 0, 1, SIZE[0], 0),
        "quarter": affine(file, 0, 1, -1, 0, SIZE[1], 0),
        "quarter by cosine": turned(file, 90, x=SIZE[1]),
        "half by cosine": turned(file, 180, x=SIZE[0], y=SIZE[1]),
        "shift of a crop": affine(cropped(file, 40, 20, 200, 150), 1, 0, 0, 1, 80, 30),
        "two shifts": affine(affine(file, 1, 0, 0, 1, 100, 0), 1, 0, 0, 1, -80, 66),
        "turned": turned(file, 33, 1, 120, -20),
        "turned and enlarged": turned(file, -20, 1.7, 0, 90),
        "sheared": affine(file, 1, 0.2, 0.3, 1.1, 3.5, -4.25),
        "rotation of a turned one": rotated(turned(file, 33, 1, 120, -20), 90),
        "crop of a turned one": cropped(turned(file, 33, 1, 120, -20), 20, 30, 200, 160),
    }
    made |= {f"rotated {n}": rotated(file, n) for n in ("NONE", 90, 180, 270)}
    if version >= (0, 7):
        made |= {f"flip {n}": flipped(file, n) for n in ("NONE", "HORIZONTAL", "VERTICAL", "BOTH")}
        made["flip, then rotation"] = rotated(flipped(file, "VERTICAL"), 90)
        made["rotation, then flip"] = flipped(rotated(file, 90), "VERTICAL")
    return made


@pytest.fixture(scope="module")
def qupath(tmp_path_factory, installation):
    """The chains, what QuPath says of each, and the folder of its pixels."""
    folder = tmp_path_factory.mktemp("coordinates")
    Image.fromarray(marker_image(*SIZE)).save(folder / "slide.png")
    version = tuple(int(part) for part in (installation.version or "0.0").split(".")[:2])
    made = chains((folder / "slide.png").as_uri(), version)
    (folder / "job.json").write_text(json.dumps({"chains": made, "box": BOX}), encoding="utf-8")
    (folder / "read.groovy").write_text(READ, encoding="utf-8")
    installation.groovy(folder / "read.groovy", [folder])
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return made, answer, folder


def test_sizes(qupath):
    made, answer, _ = qupath
    ours = {
        name: list(coordinate_map(ServerBuilder(chain), file_size=SIZE, bounds=None).size)
        for name, chain in made.items()
    }
    assert ours == answer


def test_pixels(qupath):
    """Quarter turns are equal; others take the file's pixel at our coordinates."""
    made, _, folder = qupath
    slide = marker_image(*SIZE)
    inside = 0
    for name, chain in made.items():
        with Image.open(folder / f"{name}.png") as picture:
            theirs = np.asarray(picture)
        reader = MemoryReader(slide)
        coordinates = coordinate_map(ServerBuilder(chain), file_size=SIZE, bounds=None)
        ours, mask = read_patch(reader, coordinates, BOX, (BOX.w, BOX.h))
        valid = np.ones((BOX.h, BOX.w), np.bool_) if mask is None else mask
        if not coordinates.is_right_angle:
            v, u = np.mgrid[0 : BOX.h, 0 : BOX.w] + 0.5
            points = np.stack([u.ravel() + BOX.x, v.ravel() + BOX.y], 1)
            x, y = np.floor(coordinates.to_slide(points)).astype(int).T
            x, y = np.clip(x, 0, SIZE[0] - 1), np.clip(y, 0, SIZE[1] - 1)
            ours = slide[y, x].reshape(BOX.h, BOX.w, 3)
        np.testing.assert_array_equal(ours[valid], theirs[valid], err_msg=name)
        if not name.startswith("crop"):  # QuPath goes on around a crop, or leaves it black
            assert (theirs[~valid] == 0).all(), name
        inside += valid.sum()
    assert inside > 0.7 * BOX.w * BOX.h * len(made)
