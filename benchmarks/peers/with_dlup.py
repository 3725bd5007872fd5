"""dlup: ``read_region`` at full resolution, with its own reader FastSlide (its default)."""

import warnings

import numpy as np
from measuring import SIZE, main, pillow

warnings.simplefilter("ignore")  # about optional parts that are not installed

from dlup import SlideImage  # noqa: E402


def patches(slide, places):
    opened = SlideImage.from_file_path(slide)

    def each():
        for place in places:
            yield pillow(np.asarray(opened.read_region(place, 1.0, (SIZE, SIZE))))

    return each()


main(patches)
