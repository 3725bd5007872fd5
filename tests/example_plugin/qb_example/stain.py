"""A stain method: the brightest colour of each slide becomes the same white."""

import numpy as np

from qupath_bridge.errors import UsageError


class GainStain:
    """Scales each channel so that its brightest hundredth begins at a white (245).

    ``--stain gain:255`` takes another white.
    """

    def __init__(self, argument=None):
        try:
            self.white = float(245 if argument is None else argument)
        except ValueError:
            raise UsageError(
                f"The stain 'gain' wants a number, not {argument!r}.", hint="As in gain:245."
            ) from None

    def fit(self, sample):
        """Return the factor of each channel: the profile of a slide, three numbers."""
        bright = np.percentile(sample.reshape(-1, 3), 99, axis=0)
        return tuple(self.white / max(float(value), 1.0) for value in bright)

    def apply(self, batch, profile):
        """Return the patches (N, H, W, 3) with each channel scaled, uint8."""
        return np.clip(np.rint(batch * np.array(profile)), 0, 255).astype(np.uint8)
