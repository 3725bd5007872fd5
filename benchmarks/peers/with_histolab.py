"""histolab: ``extract_tile`` and ``Tile.save``, as its own tilers do."""

import tempfile

import numpy as np
from histolab.slide import Slide
from histolab.types import CoordinatePair
from measuring import SIZE, main


def patches(slide, places):
    opened = Slide(slide, tempfile.mkdtemp())

    def each():
        for x, y in places:
            box = CoordinatePair(x, y, x + SIZE, y + SIZE)
            tile = opened.extract_tile(box, tile_size=(SIZE, SIZE), level=0)
            image = tile.image.convert("RGB")
            yield (lambda i=image: np.asarray(i)), image.save

    return each()


main(patches)
