"""Scenes of tissue, glass and what else is on a slide, with the mask of the tissue; from a seed.

A scene is as a slide looks at 10 µm per pixel. The textures of tissue are made up from two stains,
or cut from slides that are given.
"""

import numpy as np

H_AND_E = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
DAB = np.array([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]])
PENS = np.array([[20, 40, 160], [10, 120, 60], [25, 25, 30], [190, 30, 40], [60, 160, 200]])


def noise(rng, side, step):
    """Return smooth noise, mean 0 and variance 1, with features of about ``step`` pixels."""
    count = max(2, side // step + 3)
    coarse = rng.standard_normal((count, count))
    at = np.arange(side) / step + rng.random()
    low = np.minimum(at.astype(int), count - 2)
    part = at - low
    part = part * part * (3 - 2 * part)
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    field = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return (field - field.mean()) / (field.std() + 1e-6)


def blur(image, radius):
    """Return the mean over a square, twice: nearly a Gaussian."""
    for _ in range(2):
        for axis in (0, 1):
            padded = np.pad(
                image,
                [(radius + 1, radius) if k == axis else (0, 0) for k in range(image.ndim)],
                mode="edge",
            )
            sums = padded.cumsum(axis)
            image = (
                np.take(sums, range(2 * radius + 1, sums.shape[axis]), axis)
                - np.take(sums, range(sums.shape[axis] - 2 * radius - 1), axis)
            ) / (2 * radius + 1)
    return image


def glass(rng, side):
    """Return glass: nearly white, with a tint, a slope of brightness and noise."""
    color = rng.uniform(222, 252) + rng.normal(0, 3, 3)
    y, x = np.mgrid[:side, :side] / side - 0.5
    slope = (x * rng.normal() + y * rng.normal()) * rng.uniform(0, 8)
    grain = rng.normal(0, rng.uniform(0.3, 3), (side, side, 1))
    return color + slope[..., None] + grain + 1.5 * noise(rng, side, 24)[..., None]


def area(rng, side):
    """Return where tissue is: pieces with rough edges; sometimes all, sometimes nothing."""
    kind = rng.random()
    if kind < 0.08:
        return np.zeros((side, side), bool)
    if kind < 0.18:
        return np.ones((side, side), bool)
    field = noise(rng, side, rng.integers(20, 90)) + 0.35 * noise(rng, side, 9)
    field += 0.12 * noise(rng, side, 3)
    return field > np.quantile(field, rng.uniform(0.15, 0.92))


def stained(rng, side):
    """Return made-up tissue in optical density, shape (side, side, 3)."""
    vectors = np.abs((H_AND_E if rng.random() < 0.8 else DAB) + rng.normal(0, 0.07, (2, 3)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nuclei = np.exp(0.6 * noise(rng, side, 3) + 0.5 * noise(rng, side, 12))
    matrix = np.exp(0.3 * noise(rng, side, 2) + 0.4 * noise(rng, side, 15))
    amounts = np.stack([nuclei * rng.uniform(0.05, 0.5), matrix * rng.uniform(0.1, 0.5)], -1)
    density = amounts @ vectors
    if rng.random() < 0.25:
        density *= rng.uniform(0.15, 0.4)  # pale
    if rng.random() < 0.25:  # fat: cells that are empty but for their walls
        where = noise(rng, side, 30) > rng.uniform(-0.5, 1)
        walls = np.abs(noise(rng, side, rng.integers(4, 7))) < 0.35
        density = np.where((where & ~walls)[..., None], density * 0.06, density)
    return density


def cut(rng, side, textures):
    """Return real tissue in optical density, and where it is not glass.

    It is a part of a picture, mirrored beyond its edges, turned, recoloured.
    """
    texture = textures[rng.integers(len(textures))]
    rows, columns = texture.shape[:2]
    y = np.abs((np.arange(side) + rng.integers(2 * rows)) % (2 * rows) - rows + 0.5).astype(int)
    x = np.abs((np.arange(side) + rng.integers(2 * columns)) % (2 * columns) - columns + 0.5)
    part = texture[np.minimum(y, rows - 1)[:, None], np.minimum(x.astype(int), columns - 1)]
    if rng.random() < 0.5:
        part = part.transpose(1, 0, 2)
    density = -np.log(np.clip(part, 2, 254) / 255.0)
    dense = blur(np.ptp(density, axis=-1), 2) > 0.04
    mix = np.eye(3) + rng.normal(0, 0.08, (3, 3))
    return np.clip(density @ mix, 0, None) * rng.uniform(0.4, 1.2), dense


def add_pen(rng, image, mask):
    """Draw a stroke of a pen; what it hides is not tissue to be used."""
    side = len(image)
    color, width = PENS[rng.integers(len(PENS))], rng.uniform(3, 16)
    t = np.linspace(0, 1, 4 * side)[:, None]
    points = rng.uniform(-0.2, 1.2, (4, 2)) * side
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    line = (weights @ points)[:: max(1, int(width / 4))]
    y, x = np.mgrid[:side, :side]
    near = np.full((side, side), np.inf)
    for px, py in line:
        near = np.minimum(near, (x - px) ** 2 + (y - py) ** 2)
    stroke = near < width**2
    cover = rng.uniform(0.55, 0.97) + 0.1 * noise(rng, side, 6)
    opacity = np.where(stroke, np.clip(cover, 0.3, 1), 0)[..., None]
    ink = color + rng.normal(0, 10, 3)
    return image * (1 - opacity) + ink * opacity, mask & ~stroke


def add_dust(rng, image, mask):
    """Draw specks and threads, which are not tissue."""
    side = len(image)
    y, x = np.mgrid[:side, :side]
    for _ in range(rng.integers(1, 9)):
        cy, cx, radius = *rng.uniform(0, side, 2), rng.uniform(0.7, 3.5)
        angle, long = rng.uniform(0, np.pi), rng.uniform(1, 5)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        speck = (u / long) ** 2 + v**2 < radius**2
        image = np.where(speck[..., None], rng.uniform(40, 170) + rng.normal(0, 14, 3), image)
    return image, mask


def add_line(rng, image, mask):
    """Draw the edge of the cover slip: a thin grey line, darker or other glass beyond it."""
    side = len(image)
    y, x = np.mgrid[:side, :side]
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.05)
    place = (x - rng.uniform(0, side)) * np.cos(angle) + (y - rng.uniform(0, side)) * np.sin(angle)
    line = np.abs(place) < rng.uniform(0.6, 3)
    image = np.where((place > 0)[..., None], image - rng.uniform(0, 25), image)
    return np.where(line[..., None], rng.uniform(90, 190), image), mask


def add_border(rng, image, mask):
    """Blacken a side, as around a scanned area."""
    side, width = len(image), int(rng.uniform(0.05, 0.5) * len(image))
    black = np.zeros((side, side), bool)
    black[:width] = True
    black = np.rot90(black, rng.integers(4))
    dark = rng.uniform(0, 14, (side, side, 3)) * rng.uniform(0, 2)
    return np.where(black[..., None], dark, image), mask & ~black


def add_ring(rng, image, mask):
    """Draw the edge of an air bubble."""
    side = len(image)
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(x - rng.uniform(0, side), y - rng.uniform(0, side))
    ring = np.abs(distance - rng.uniform(5, side / 2)) < rng.uniform(0.6, 2)
    return np.where(ring[..., None], image * rng.uniform(0.4, 0.8), image), mask


def scene(rng, side=128, textures=()):
    """Return a scene and its mask.

    Returns
    -------
    image : array, shape (side, side, 3), uint8
    mask : array, shape (side, side), bool
    """
    background, mask = glass(rng, side), area(rng, side)
    real = len(textures) and rng.random() < 0.5
    if real:
        density, dense = cut(rng, side, textures)
        mask &= dense
    else:
        density = stained(rng, side)
    soft = mask.astype(float)
    if rng.random() < 0.5:
        soft = blur(soft, 1)
    image = background * np.exp(-density * soft[..., None])
    if rng.random() < 0.15:
        image, mask = add_border(rng, image, mask)
    for chance, add in ((0.25, add_pen), (0.3, add_dust), (0.15, add_line), (0.12, add_ring)):
        if rng.random() < chance:
            image, mask = add(rng, image, mask)
    if rng.random() < 0.2:
        image = blur(image, int(rng.integers(1, 3)))
    image = image + rng.normal(0, rng.uniform(0, 3), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask
