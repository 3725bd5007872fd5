"""How well each tissue method finds the tissue: IoU on real and on made-up slides.

    python -m benchmarks.tissue [--slides FOLDER] [--picture FILE.png]

The outlines of real slides are drawn by hand on a picture of the slide, about 30 µm exact. Made-up
slides are built by the generator of ``training/tissue_unet``, with other seeds and with the texture
of a slide that the network has not seen: they are near to what it was trained on, and flatter it.
FOLDER may hold the second real slide, which is not part of the repository.
"""

import argparse
from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from qupath_bridge import registry
from qupath_bridge.model import Box
from qupath_bridge.pixels.tissue import find_tissue
from qupath_bridge.readers import open_reader
from qupath_bridge.testing.contracts.tissue import view_of
from training.tissue_unet import scenes

METHODS = ("saturation", "otsu", "double-pass", "unet")
MPP = 10.0
SIDE = 192
COUNT = 12
SKIN = Path(__file__).parents[1] / "example_projects" / "skin" / "CMU-1-Small-Region.svs"
NODE = "multiframe_camelyon_challenge_image.dcm"

# x, y in half pixels of the map, from a picture of 111 x 148 pixels; then two holes.
SKIN_OUTLINE = (
    [(108, 9), (114, 13), (116, 18), (126, 18), (133, 22), (136, 32), (143, 38), (150, 45),
     (153, 52), (158, 58), (160, 66), (161, 76), (161, 90), (165, 95), (171, 95), (173, 104),
     (181, 104), (184, 118), (196, 126), (198, 133), (190, 138), (184, 140), (180, 134),
     (178, 142), (171, 150), (165, 158), (158, 166), (152, 178), (158, 183), (164, 195),
     (168, 192), (170, 182), (186, 186), (186, 192), (180, 196), (181, 206), (183, 218),
     (188, 224), (184, 232), (186, 244), (178, 246), (176, 258), (172, 270), (172, 280),
     (169, 296), (54, 296), (51, 285), (50, 270), (57, 257), (58, 250), (70, 240), (73, 225),
     (74, 210), (77, 190), (82, 174), (84, 160), (86, 140), (88, 120), (87, 110), (76, 110),
     (68, 106), (55, 106), (40, 110), (25, 114), (6, 114), (20, 110), (40, 104), (55, 100),
     (68, 104), (84, 106), (88, 95), (92, 80), (96, 65), (97, 52), (80, 51), (90, 46), (97, 44),
     (95, 38), (89, 33), (89, 25), (78, 26), (82, 16), (90, 18), (95, 20), (98, 14), (104, 14)],
    [(110, 33), (120, 36), (133, 40), (143, 45), (147, 48), (141, 55), (141, 70), (136, 80),
     (134, 66), (126, 61), (118, 59), (116, 48), (112, 40)],
    [(160, 108), (168, 118), (178, 130), (168, 138), (156, 142), (156, 135), (160, 125)],
)  # fmt: skip
# Two sections with the fat around them, x, y in pixels of the slide.
NODE_OUTLINE = [
    (104, 62), (165, 64), (200, 100), (205, 125), (240, 135), (262, 165), (262, 215), (275, 240),
    (280, 195), (310, 148), (330, 145), (350, 150), (372, 150), (415, 108), (428, 115), (436, 180),
    (452, 120), (470, 98), (485, 100), (522, 128), (516, 190), (498, 290), (488, 345), (470, 360),
    (475, 385), (440, 400), (440, 425), (412, 440), (412, 490), (395, 535), (350, 566), (308, 550),
    (285, 530), (272, 490), (245, 460), (262, 440), (262, 400), (250, 420), (245, 450), (215, 480),
    (200, 510), (210, 545), (222, 568), (200, 600), (165, 622), (140, 618), (130, 570), (118, 520),
    (80, 480), (78, 400), (58, 360), (55, 300), (60, 250), (50, 200), (55, 150), (55, 110),
    (75, 75),
]  # fmt: skip
NODE_SHIFT = (566, 13)


def read(path, mpp):
    """Return a slide on its map, shape (h, w, 3); ``mpp`` is its own."""
    with open_reader(path) as reader:
        width, height = reader.size
        factor = min(1.0, mpp / MPP)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        return reader.read(Box(0, 0, width, height), size)[0]


def inside(outline, shape, scale):
    """Return the pixels whose centre a polygon contains; ``scale`` is its pixels per map pixel."""
    y, x = (np.indices(shape) + 0.5) * scale
    return shapely.contains_xy(outline, x.ravel(), y.ravel()).reshape(shape)


def real_slides(folder):
    """Yield name, pixels, mask and µm per pixel of each real slide that is there."""
    pixels = read(SKIN, 0.499)
    outline = shapely.Polygon(SKIN_OUTLINE[0], SKIN_OUTLINE[1:])
    yield "skin, real", pixels, inside(outline, pixels.shape[:2], 2), MPP
    if folder is not None and (folder / NODE).is_file():
        pixels = read(folder / NODE, 28.97)
        one = shapely.Polygon(NODE_OUTLINE)
        both = shapely.union(one, shapely.affinity.translate(one, *NODE_SHIFT))
        yield "lymph node with fat, real", pixels, inside(both, pixels.shape[:2], 1), 28.97


def glass(rng):
    """Return glass as it is on a map: a mean of many pixels, so that there is little noise."""
    color = np.minimum(rng.uniform(225, 250) + rng.normal(0, 2.5, 3), 254)
    slope = np.linspace(-1, 1, SIDE)[:, None, None] * rng.uniform(0, 3)
    grain = rng.normal(0, 0.7, (SIDE, SIDE, 1)) + rng.normal(0, 0.25, (SIDE, SIDE, 3))
    return color + slope + grain


def made_up(kind, seed, texture):
    """Return pixels and mask of a made-up slide of a kind."""
    rng = np.random.default_rng([7, seed])
    mask = scenes.noise(rng, SIDE, 60) + 0.35 * scenes.noise(rng, SIDE, 9) > 0.3
    if kind == "no glass":
        mask[:] = True
    elif kind == "glass alone":
        mask[:] = False
    density, dense = scenes.cut(rng, SIDE, [texture])
    if kind == "fat":
        walls = np.abs(scenes.noise(rng, SIDE, 6)) < 0.35
        fat = (scenes.noise(rng, SIDE, 40) > 0) & ~walls
        density = np.where(fat[..., None], density * 0.05, density)
    elif kind == "no glass":
        density = np.maximum(density, 0.1)
    else:
        mask &= dense
    if kind == "pale":
        density = density * 0.2
    image = glass(rng) * np.exp(-density * mask[..., None])
    added = {"pen": scenes.add_pen, "dust": scenes.add_dust, "cover slip": scenes.add_line,
             "black border": scenes.add_border}  # fmt: skip
    if kind in added:
        image, mask = added[kind](rng, image, mask)
    if kind == "blur":
        image = scenes.blur(image, 2)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask


KINDS = ("plain", "pale", "fat", "pen", "dust", "blur", "cover slip", "black border", "no glass")


def found_by(method, pixels, mpp=MPP):
    """Return the mask of a method, at the resolution of the pixels."""
    mask = find_tissue(registry.create("tissue", method), view_of(pixels, mpp)).mask
    if mask.shape == pixels.shape[:2]:
        return mask
    return np.asarray(Image.fromarray(mask).resize(pixels.shape[1::-1]))


def iou(found, wanted):
    """Return the intersection over the union of two masks."""
    return (found & wanted).sum() / max((found | wanted).sum(), 1)


def rows(folder=None):
    """Yield the name of each material, and the result of each method on it."""
    for name, pixels, mask, mpp in real_slides(folder):
        yield name, [iou(found_by(method, pixels, mpp), mask) for method in METHODS]
    texture = read(SKIN, 0.499)[20:, 25:90]
    for kind in KINDS:
        made = [made_up(kind, seed, texture) for seed in range(COUNT)]
        yield (
            f"{kind}, made up",
            [
                np.mean([iou(found_by(method, pixels), mask) for pixels, mask in made])
                for method in METHODS
            ],
        )
    glass = [made_up("glass alone", seed, texture)[0] for seed in range(COUNT)]
    yield (
        "glass alone, made up: share that is found",
        [np.mean([found_by(method, pixels).mean() for pixels in glass]) for method in METHODS],
    )


def draw(path):
    """Draw the masks of all methods, and the outline by hand, on the skin slide."""
    _, pixels, wanted, _ = next(real_slides(None))
    pictures = [pixels]
    for mask in (wanted, *(found_by(method, pixels) for method in METHODS)):
        picture = pixels.astype(float)
        picture[~mask] = picture[~mask] * 0.25 + np.array([0, 60, 180]) * 0.75
        pictures.append(picture.astype(np.uint8))
    gap = np.full((pixels.shape[0], 4, 3), 255, np.uint8)
    strip = np.hstack([part for picture in pictures for part in (picture, gap)][:-1])
    size = strip.shape[1] * 2, strip.shape[0] * 2
    Image.fromarray(strip).resize(size, Image.Resampling.NEAREST).save(path, optimize=True)


def main():
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    print(f"| slide | {' | '.join(f'`{method}`' for method in METHODS)} |")
    print(f"|---|{'---|' * len(METHODS)}")
    for name, values in rows(given.slides):
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")
    if given.picture is not None:
        draw(given.picture)


if __name__ == "__main__":
    main()
