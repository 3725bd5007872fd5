"""FastSlide, the reader below dlup: ``read_region`` of a level, without dlup's resampling."""

from fastslide import FastSlide
from measuring import SIZE, main, pillow


def patches(slide, places):
    opened = FastSlide.from_file_path(slide)

    def each():
        for place in places:
            yield pillow(opened.read_region(place, 0, (SIZE, SIZE)).numpy())

    return each()


main(patches)
