"""tiffslide: ``read_region`` to an array, which saves it a copy."""

from measuring import SIZE, main, pillow
from tiffslide import TiffSlide


def patches(slide, places):
    opened = TiffSlide(slide)

    def each():
        for place in places:
            yield pillow(opened.read_region(place, 0, (SIZE, SIZE), as_array=True))

    return each()


main(patches)
