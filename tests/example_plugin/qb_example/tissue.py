"""A tissue method: what is darker than a threshold."""

import numpy as np

from qupath_bridge.errors import UsageError


class DarkTissue:
    """1 where the mean of red, green and blue is below a threshold, else 0.

    ``--tissue dark`` takes 220 as the threshold, ``--tissue dark:200`` takes 200.
    """

    def __init__(self, argument=None):
        try:
            self.threshold = float(220 if argument is None else argument)
        except ValueError:
            raise UsageError(
                f"The tissue 'dark' wants a number, not {argument!r}.", hint="As in dark:220."
            ) from None

    def __call__(self, thumbnail, mpp):
        """Return 0 or 1 per pixel of a thumbnail, shape (h, w), float64."""
        return (thumbnail.mean(axis=-1) < self.threshold).astype(np.float64)
