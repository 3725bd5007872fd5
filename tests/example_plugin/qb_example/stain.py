"""A stain method: the brightest colour of each slide becomes the same white."""

import numpy as np

from qupath_bridge.errors import UsageError


class GainStain:
    """Scales each channel so that its brightest hundredth begins at a white (245).

    ``--stain gain:255`` takes another white.
    """

    version = "1"

    def __init__(self, argument=None):
        try:
            self.white = float(245 if argument is None else argument)
        except ValueError:
            raise UsageError(
                f"The stain 'gain' wants a number, not {argument!r}.", hint="As in gain:245."
            ) from None

    def fit(self, sample):
        """Return the brightest value of each channel: the profile of a slide, three numbers."""
        pixels = sample.pixels.reshape(-1, 3)
        if not len(pixels):
            return None
        return [max(float(value), 1.0) for value in np.percentile(pixels, 99, axis=0)]

    def standard(self, profile):
        """Return the profile that slides get where no reference is given."""
        return [self.white] * 3

    def apply(self, batch, profile, target, draws=None):
        """Return the patches (N, H, W, 3) with each channel scaled, uint8; it keeps none."""
        gain = np.divide(target, profile)
        if draws is not None:
            gain = gain * (1 + draws[:, None, None, :3])
        made = np.clip(np.rint(batch * gain), 0, 255).astype(np.uint8)
        return made, np.zeros(len(batch), np.bool_)
