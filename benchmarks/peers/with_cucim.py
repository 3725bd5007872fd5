"""cuCIM on the CPU: batches of places in one call, one worker, which is its fastest way."""

import numpy as np
from cucim import CuImage  # noqa: TID253  # this file runs where it is installed
from measuring import SIZE, main, pillow

BATCH = 32


def patches(slide, places):
    opened = CuImage(slide)

    def each():
        flat = [number for place in places for number in place]
        for batch in opened.read_region(
            flat, (SIZE, SIZE), 0, num_workers=1, batch_size=BATCH, prefetch_factor=2
        ):
            pixels = np.asarray(batch)
            for patch in pixels if pixels.ndim == 4 else pixels[None]:
                yield pillow(patch)

    return each()


main(patches)
