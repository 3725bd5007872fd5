"""Pixels, areas and shares against what QuPath 0.6.0 and 0.7.0 said of two real projects."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qupath_bridge.config import ExportConfig
from qupath_bridge.geometry.calibration import resolve_pixel_size
from qupath_bridge.geometry.coordinates import coordinate_map
from qupath_bridge.model import FIRST_PLANE, Box
from qupath_bridge.patches.grid import Grid
from qupath_bridge.patches.masks import class_layer
from qupath_bridge.patches.planning import plan_patches
from qupath_bridge.patches.regions import select_regions
from qupath_bridge.pipeline.pixels import read_patch, read_thumbnail
from qupath_bridge.readers import open_reader
from qupath_bridge.sources import open_project

TESTS = Path(__file__).parents[1]
TRUTH = TESTS / "data" / "qupath-truth"
SLIDES = [TESTS / "data" / "slides", TESTS.parent / "example_projects" / "skin"]
ENTRIES = sorted((path.parent.parent.name, path.parent.name) for path in TRUTH.rglob("facts.json"))

TILE = 256
SHARE_OF_ELLIPSE = 100 * np.sin(2 * np.pi / 100) / (2 * np.pi)


@cache
def project(version):
    return open_project(TESTS / "data" / "real" / f"qupath-{version}-project", search=SLIDES)


def facts_of(version, entry_id):
    return json.loads((TRUTH / version / entry_id / "facts.json").read_text(encoding="utf-8"))


@pytest.fixture(params=ENTRIES, ids="-".join)
def entry(request):
    """A slide, its open reader, its coordinate map and the folder of QuPath's own results."""
    version, entry_id = request.param
    slide = project(version)[entry_id]
    with open_reader(slide.path) as reader:
        coordinates = coordinate_map(slide.builder, file_size=reader.size, bounds=reader.bounds)
        yield slide, reader, coordinates, TRUTH / version / entry_id


def image(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def painted_as_qupath(facts):
    """Options under which regions lie over one another as in QuPath's mask.

    QuPath paints in the order of its labels, and the last one stays; a label to each name makes
    Ignore* an ordinary one, and Region* is not a label in the mask.
    """
    return {
        "overlap": "priority",
        "priority": list(reversed(facts["labels"])),
        "map": {name: name for name in facts["labels"]},
        "rule": "any",
        "min_share": 0,
        "background": "nothing",
    }


def test_every_entry_has_truth():
    assert [(version, str(n)) for version in ("0.6.0", "0.7.0") for n in range(1, 6)] == ENTRIES


def test_frame_has_the_size_of_qupath(entry):
    slide, reader, coordinates, folder = entry
    facts = facts_of(folder.parent.name, folder.name)
    assert coordinates.size == (facts["width"], facts["height"])
    coordinates.check_size((slide.width, slide.height))
    size, notes = resolve_pixel_size(
        None, slide.pixel_size, coordinates.pixel_size(reader.pixel_size)
    )
    assert (size.x, size.y) == (facts["pixel_width_um"], facts["pixel_height_um"])
    # The TCGA entries have a size that was set by hand, where the file says nearly the same.
    assert all("project" in note for note in notes)


def test_patches_equal_the_tiles_of_qupath(entry):
    _, reader, coordinates, folder = entry
    tiles = sorted(folder.glob("x*_y*_w256_h256.png"))
    assert len(tiles) == 4
    for tile in tiles:
        x, y = (int(part[1:]) for part in tile.stem.split("_")[:2])
        pixels, mask = read_patch(reader, coordinates, Box(x, y, TILE, TILE), (TILE, TILE))
        assert mask is None
        np.testing.assert_array_equal(pixels, image(tile)[..., :3], err_msg=tile.name)


def test_thumbnail_is_the_view_of_qupath(entry):
    """The thumbnail at a tile's place is that tile, scaled down."""
    _, reader, coordinates, folder = entry
    rgb, (sx, sy) = read_thumbnail(reader, coordinates, 256)
    assert max(rgb.shape[:2]) == 256
    for tile in folder.glob("x*_y*_w256_h256.png"):
        x, y = (int(part[1:]) for part in tile.stem.split("_")[:2])
        place = np.s_[
            round(y * sy) : round((y + TILE) * sy), round(x * sx) : round((x + TILE) * sx)
        ]
        np.testing.assert_allclose(
            rgb[place].mean(axis=(0, 1)), image(tile)[..., :3].mean(axis=(0, 1)), atol=6
        )


def test_shares_equal_the_painted_mask(entry):
    slide, _, coordinates, folder = entry
    facts, mask = facts_of(folder.parent.name, folder.name), image(folder / "mask.png")
    width, height = coordinates.size
    assert mask.shape == (height, width)
    rule = ExportConfig.parse(painted_as_qupath(facts)).label_rule()
    grid = Grid(TILE, TILE, TILE, TILE, width, height, 0, 0, edge="pad", size=TILE)
    table = plan_patches(slide.read().annotations, grid, rule).table
    assert len(table) == len(grid.boxes())

    worst = 0.0
    for row, (x, y, w, h) in enumerate(table.boxes.tolist()):
        names = [table.label_names[code] for code in table.shares.row(row)]
        ours = dict(zip(names, table.shares.row_values(row), strict=True))
        assert set(ours) <= set(facts["labels"])
        painted = mask[y : y + h, x : x + w]
        for name, value in facts["labels"].items():
            theirs = np.count_nonzero(painted == value) / (w * h)
            worst = max(worst, abs(ours.get(name, 0.0) - theirs))
    assert worst <= 0.005


def test_masks_are_those_of_qupath(entry):
    """At most 0.5 % of the labelled pixels differ from QuPath's own mask of the whole image."""
    slide, _, coordinates, folder = entry
    facts, mask = facts_of(folder.parent.name, folder.name), image(folder / "mask.png")
    width, height = coordinates.size
    rule = ExportConfig.parse(painted_as_qupath(facts)).label_rule()
    regions, _ = select_regions(slide.read().annotations, rule, [FIRST_PLANE], (width, height))
    layer = class_layer(regions, rule, facts["labels"], 256.0)
    ours = layer.pixels(Box(0, 0, width, height), (width, height))
    labelled = (ours > 0) | (mask > 0)
    assert labelled.sum() > 500_000
    assert (ours != mask).sum() <= 0.005 * labelled.sum()


def test_areas_are_those_of_qupath(entry):
    slide, _, _, folder = entry
    facts = facts_of(folder.parent.name, folder.name)["annotations"]
    read = {annotation.id: annotation for annotation in slide.read().annotations}
    assert read.keys() == {fact["id"] for fact in facts}
    for fact in facts:
        annotation = read[fact["id"]]
        assert (annotation.class_path, annotation.parent_id) == (
            fact.get("class"), fact.get("parent"),
        )  # fmt: skip
        if annotation.roi.has_area:
            # QuPath computes the true ellipse; ours is its polygon of 100 points.
            area = fact["area_px2"] * (SHARE_OF_ELLIPSE if fact["roi"] == "Ellipse" else 1)
            assert annotation.roi.geometry.area == pytest.approx(area, rel=1e-4)
