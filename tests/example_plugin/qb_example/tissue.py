"""A tissue method: what is darker than a threshold."""

import numpy as np

from qupath_bridge.errors import UsageError
from qupath_bridge.pixels.base import TissueMap


class DarkTissue:
    """1 where the mean of red, green and blue is below a brightness, else 0.

    ``--tissue dark`` takes 220 as the brightness, ``--tissue dark:200`` takes 200.
    """

    threshold = 0.5

    def __init__(self, argument=None):
        try:
            self.brightness = float(220 if argument is None else argument)
        except ValueError:
            raise UsageError(
                f"The tissue 'dark' wants a number, not {argument!r}.", hint="As in dark:220."
            ) from None

    def __call__(self, view):
        """Return 0 or 1 per pixel of the map of a slide."""
        dark = view.read_rgb("dark").mean(axis=-1) < self.brightness
        return TissueMap(dark.astype(np.float64))
