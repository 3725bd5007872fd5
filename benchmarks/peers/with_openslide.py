"""OpenSlide's Python package: ``read_region``, to RGB."""

import numpy as np
import openslide
from measuring import SIZE, main


def patches(slide, places):
    opened = openslide.OpenSlide(slide)

    def each():
        for place in places:
            patch = opened.read_region(place, 0, (SIZE, SIZE)).convert("RGB")
            yield (lambda p=patch: np.asarray(p)), patch.save

    return each()


main(patches)
